package uplink

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/journal"
)

// openJournal makes a real journal and runs it.
func openJournal(t *testing.T) *journal.Journal {
	t.Helper()
	j, _ := runJournal(t, filepath.Join(t.TempDir(), "journal"))
	return j
}

// runJournal runs the journal in a folder, made if there is none, until end is
// called, or the test ends.
func runJournal(t *testing.T, dir string) (j *journal.Journal, end func()) {
	t.Helper()
	o := journal.Options{Log: quietLog()}
	if err := journal.Create(dir, o); err != nil && !errors.Is(err, journal.ErrExists) {
		t.Fatal(err)
	}
	j, err := journal.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	still := running(t, "journal", j.Run)
	return j, func() {
		still()
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	}
}

// fillJournal appends n events with payloads of the given size, many at once,
// as many terminals do.
func fillJournal(t *testing.T, j appender, n, size int) {
	t.Helper()
	payload := `{"pad":"` + strings.Repeat("x", size-len(`{"pad":""}`)) + `"}`
	const writers = 256
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := w; i < n; i += writers {
				e := payment(i)
				e.Payload = []byte(payload)
				if _, err := j.Append(context.Background(), e); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

// The backlog of a long outage drains in seconds, whole and in order, from a
// real journal. The figures it prints stand in DESIGN.md.
func TestBacklogDrains(t *testing.T) {
	n := 100_000
	if testing.Short() {
		n = 10_000
	}
	for _, c := range []struct {
		broker   string
		mode     Confirmation
		compress bool
	}{
		{"mosquitto", Broker, false},
		{"mosquitto", Backend, false},
		{"mosquitto", Backend, true},
		{"embedded", Backend, false},
	} {
		t.Run(fmt.Sprintf("%s, %s, compress %t", c.broker, c.mode, c.compress), func(t *testing.T) {
			j := openJournal(t)
			began := time.Now()
			fillJournal(t, j, n, 300)
			t.Logf("stored %d events in %s", n, time.Since(began).Round(time.Millisecond))
			var url string
			if c.broker == "mosquitto" {
				url = newMosquitto(t).url()
			} else {
				url = startBroker(t, "127.0.0.1:0").URL()
			}
			backend := startBackend(t, url, false)
			u := newUplink(t, j, url, func(cfg *Config) { cfg.Confirm, cfg.Compress = c.mode, c.compress })
			began = time.Now()
			running(t, "uplink", u.Run)
			until(t, "all is confirmed", func() bool { return u.Status().Synced == event.Seq(n) })
			confirmed := time.Since(began)
			until(t, "all is committed", func() bool { return count(t, backend) == n })
			committed := time.Since(began)
			t.Logf("confirmed %.0f events/s, committed by the back-end %.0f events/s",
				float64(n)/confirmed.Seconds(), float64(n)/committed.Seconds())
			until(t, "cursor follows", func() bool { return j.Cursor(cursorName) == event.Seq(n) })
			checkEffects(t, backend, j)
			s := u.Status()
			// How often it had to send again depends on how fast the disk of the
			// back-end is; a PUBACK does not wait for that.
			if s.Sent != uint64(n) || c.broker == "mosquitto" && c.mode == Broker && s.Resent > 0 {
				t.Errorf("status %+v, back-end %+v", s, backend.Counts())
			}
		})
	}
}
