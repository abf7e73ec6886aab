package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/clock"
	"github.com/avoqado/avoqado-edge/internal/discovery"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/journal"
)

// TestFullJournalIsSaid fills a journal to its cap and looks at what senders
// read, and at what status, metrics and mDNS say.
func TestFullJournalIsSaid(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	o := journal.Options{MaxEvents: 8}
	if err := journal.Create(dir, o); err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := j.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	defer func() {
		cancel()
		wg.Wait()
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	}()
	d := &Daemon{journal: j, started: time.Now()}
	if state := d.announcedState(); state != discovery.StateOK {
		t.Errorf("an empty box is %s", state)
	}
	s := store{j, clock.Open(clock.Config{Path: filepath.Join(t.TempDir(), ClockFile), Log: slog.New(slog.DiscardHandler)})}
	offer := func(c event.Class) error {
		_, err := s.Append(t.Context(), &event.Event{ID: event.NewID(), Kind: "k", Class: c, Time: time.Now(), Payload: []byte(`{}`)})
		return err
	}
	for range 8 {
		if err := offer(event.Money); err != nil {
			t.Fatal(err)
		}
	}
	for c, name := range map[event.Class]string{event.Service: "service", event.Money: "money"} {
		var r *event.Refusal
		if err := offer(c); !errors.As(err, &r) || r.Code != "storage_full" || !r.Retryable || r.RetryAfter != fullRetry ||
			r.Status != http.StatusServiceUnavailable || r.Text != "The box has no room for "+name+" events, try again" {
			t.Errorf("refusal of %s: %#v", name, err)
		}
	}
	st := d.journalStatus(time.Now())
	if st.Level != "full" || st.LevelReason == "" || st.LevelSince.IsZero() || st.Fault == "" || st.MaxEvents != 8 {
		t.Errorf("status %+v", st)
	}
	if state := d.announcedState(); state != discovery.StateFull {
		t.Errorf("a full box is %s", state)
	}
	if d.Ready() == nil {
		t.Error("a full box is ready")
	}
	if j.Stats().Refused["money"] != 1 {
		t.Errorf("refused %v", j.Stats().Refused)
	}
}
