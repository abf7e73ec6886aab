package cli

import (
	"os"
	"path/filepath"
	"testing"

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
