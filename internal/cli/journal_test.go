package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/avoqado/avoqado-edge/internal/api"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/journal"
)

// TestConfigurationRulesStoppedJournals: offline work keeps to the box's own
// sizes and caps, unless only a folder is named.
func TestConfigurationRulesStoppedJournals(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "config.yaml")
	text := "box:\n  venue: v1\nstate_dir: " + dir + "\njournal:\n  max_events: 5000\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("ACCESS_TOKEN_SECRET", testSecret)
	by, err := findFolder("", path)
	if err != nil || by.dir != filepath.Join(dir, "journal") || by.options(nil).MaxEvents != 5000 || by.options(nil).SegmentBytes == 0 {
		t.Errorf("by configuration: %s, %+v, %v", by.dir, by.options(nil), err)
	}
	both, err := findFolder("elsewhere", path)
	if err != nil || both.dir != "elsewhere" || both.options(nil).MaxEvents != 5000 {
		t.Errorf("by both: %s, %+v, %v", both.dir, both.options(nil), err)
	}
	alone, err := findFolder("elsewhere", "")
	if o := alone.options(nil); err != nil || o.MaxEvents != 0 || o.SegmentBytes != 0 {
		t.Errorf("by folder: %+v, %v", o, err)
	}
	for _, f := range []struct {
		dir  string
		none bool
	}{{"card/journal", false}, {"card/copy", true}} {
		var a journal.Adopter = folder{dir: f.dir}.adoption()
		if (a == nil) != f.none {
			t.Errorf("%s: adoption %v", f.dir, a)
		}
	}
}

// What the cloud will not take lies before the cursor, and nobody else has it.
func TestUnsentCountsWhatIsParked(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	if err := journal.Create(dir, journal.Options{}); err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(dir, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- j.Run(ctx) }()
	for i := range 3 {
		e := event.Event{ID: event.ID(fmt.Sprintf("e%d", i)), Kind: "payment_completed", Class: event.Money, Payload: []byte("{}")}
		if _, err := j.Append(ctx, &e); err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range []error{
		j.MoveCursor(api.UplinkCursor, 3),
		j.Put("parked", map[string][]byte{fmt.Sprintf("%020d", 2): []byte("{}")}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	stop()
	if err := errors.Join(<-done, j.Close()); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	code := Main(t.Context(), []string{"journal", "unsent", "--dir", dir}, Streams{Out: &out, Err: os.Stderr})
	if code != ExitDegraded || out.String() != "1\n" {
		t.Errorf("exit code %d, %q", code, out.String())
	}
}
