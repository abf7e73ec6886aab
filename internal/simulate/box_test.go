package simulate_test

import (
	"context"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/journal"
	"github.com/avoqado/avoqado-edge/internal/lan"
	"github.com/avoqado/avoqado-edge/internal/simulate"
)

const venue = "venue_1"

// openJournal returns a new, running journal.
func openJournal(t *testing.T) *journal.Journal {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "journal")
	if err := journal.Create(dir, journal.Options{}); err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(dir, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := j.Run(ctx); err != nil {
			t.Errorf("journal: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
		_ = j.Close()
	})
	return j
}

// serve serves the LAN on an address and returns the one it got and what ends it.
func serve(t *testing.T, address string, v *auth.Verifier, j *journal.Journal) (got string, stop func()) {
	t.Helper()
	// Limits are not under test: one machine plays a venue full of them.
	cfg := lan.Config{Listen: address, Venue: venue, Box: "box_1", Version: "test"}
	s, err := lan.Listen(cfg, v, j, j, http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Errorf("lan: %v", err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(stop)
	return s.Addr().String(), stop
}

// checkKept compares what the box promised with what its journal holds.
func checkKept(t *testing.T, s simulate.Summary, j *journal.Journal) {
	t.Helper()
	var after event.Seq
	for _, a := range s.Acknowledged {
		batch, err := j.Read(after, 1, 1)
		if err != nil || len(batch) == 0 {
			t.Fatalf("read behind %d: %d events, %v", after, len(batch), err)
		}
		e := batch[0]
		if e.Seq != a.Seq || e.ID != a.ID || e.Kind != a.Kind || string(e.ID) != a.Key {
			t.Fatalf("promised %+v, kept %s %s at %d", a, e.Kind, e.ID, e.Seq)
		}
		after = e.Seq
	}
	if after != j.Stored() {
		t.Errorf("the journal holds %d events, %d were promised", j.Stored(), after)
	}
}

// A simulated venue against the real LAN server and the real journal, calm and
// with the server taken away and brought back in the middle of it.
func TestBox(t *testing.T) {
	v, err := auth.NewVerifier(auth.Config{Venue: venue, Secret: []byte("a-secret-of-thirty-two-characters")}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	plan := simulate.Plan{
		Venue: venue, Terminals: 3, Dashboards: 2, Events: 150, Seed: 1,
		Backoff: simulate.Backoff{Delay: 20 * time.Millisecond, Max: 100 * time.Millisecond, Factor: 2, Jitter: 0.5},
		Token: func(role event.Role, subject, terminal string) (string, error) {
			return v.Mint(auth.Grant{Subject: subject, Org: "org_1", Venue: venue, Role: role, Terminal: terminal}, time.Hour)
		},
	}
	t.Run("calm", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		j := openJournal(t)
		address, _ := serve(t, "127.0.0.1:0", v, j)
		plan.URL = "http://" + address
		s, err := simulate.Run(ctx, plan, nil)
		if err != nil {
			t.Fatal(err)
		}
		checkKept(t, s, j)
		if s.Total.Acknowledged != 150 || s.Lost+s.Doubled+s.Total.Refused+s.Total.Duplicates+s.Total.Heard.Echoed+s.Total.Heard.Foreign != 0 {
			t.Errorf("summary:\n%s", s)
		}
		for _, d := range s.Dashboards {
			if d.Heard.Sales != 150 {
				t.Errorf("%s heard %d of 150 sales", d.Name, d.Heard.Sales)
			}
		}
	})
	t.Run("restarts", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		j := openJournal(t)
		address, stop := serve(t, "127.0.0.1:0", v, j)
		plan.URL = "http://" + address
		var s simulate.Summary
		var err error
		var playing sync.WaitGroup
		playing.Go(func() { s, err = simulate.Run(ctx, plan, nil) })
		defer playing.Wait()
		for _, seq := range []event.Seq{29, 89} {
			if err := j.Wait(ctx, seq); err != nil {
				t.Fatalf("wait for event %d: %v", seq+1, err)
			}
			stop()
			_, stop = serve(t, address, v, j)
		}
		playing.Wait()
		if err != nil {
			t.Fatal(err)
		}
		checkKept(t, s, j)
		if s.Total.Acknowledged != 150 || s.Lost+s.Doubled+s.Total.Refused+s.Total.Heard.Echoed+s.Total.Heard.Foreign != 0 {
			t.Errorf("summary:\n%s", s)
		}
		if s.Total.Connections < 6 {
			t.Errorf("%d connections of 3 terminals: nothing was disturbed", s.Total.Connections)
		}
	})
}
