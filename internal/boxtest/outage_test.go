package boxtest

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/cloud"
	"github.com/avoqado/avoqado-edge/internal/outages"
	"github.com/avoqado/avoqado-edge/internal/simulate"
)

// The Friday night: the internet dies with the terminals at work, the power
// goes in the middle of it, both come back. The back-end, which commits effect
// and (source, epoch, sequence) together, must end with exactly what the
// terminals were told is safe: once each, in the order of the box.
func TestOutageAndPowerCut(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, confirm string
		wipe          bool
	}{
		{"confirmed by the back-end", "backend", false},
		{"confirmed by the broker", "broker", false},
		{"broker lost its store", "backend", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			events := 10_000
			if testing.Short() {
				events = 1_000
			}
			broker := StartMosquitto(t, MosquittoConfig{Extra: []string{
				"autosave_interval 1", "autosave_on_changes true", "max_queued_messages 100000",
			}})
			backend := StartBackend(t, broker, tt.confirm == "broker", nil)
			box := StartBox(t, BoxConfig{Broker: broker.URL(), Confirm: tt.confirm})

			before := sell(t, box, "before", events/10, nil)
			backend.Await(len(before))
			broker.Kill()
			if tt.wipe {
				broker.WipeStore()
			}

			// Half way through, the box loses its power and comes back.
			from := box.Stored()
			during := sell(t, box, "during", events, func() {
				Eventually(t, 2*time.Minute, "half of the events are stored", func() bool {
					return box.Stored() >= from+uint64(events/2)
				})
				box.Kill()
				box.Start()
			})
			if st := box.Status(); st.Uplink.State == "online" || st.Journal.Backlog.Events < uint64(events) {
				t.Errorf("during the outage: uplink %s, backlog %d of %d", st.Uplink.State, st.Journal.Backlog.Events, events)
			}
			broker.Start()
			after := sell(t, box, "after", events/10, nil)

			acknowledged := slices.Concat(before, during, after)
			backend.Await(len(acknowledged))
			backend.MustHold(acknowledged)
			Eventually(t, 30*time.Second, "the box knows that the cloud has everything", func() bool {
				st := box.Status()
				return st.Journal.Backlog.Events == 0 && st.Journal.SyncedThrough == st.Journal.StoredThrough
			})
			box.MustRemember("broker_down", uint64(len(during)))
		})
	}
}

// sell has three terminals send events as fast as they are acknowledged, and
// returns what was, in the box's order. meanwhile, if not nil, runs beside it.
func sell(t *testing.T, box *Box, run string, events int, meanwhile func()) []simulate.Acknowledged {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var (
		wg      sync.WaitGroup
		summary simulate.Summary
		err     error
	)
	wg.Go(func() {
		summary, err = simulate.Run(ctx, simulate.Plan{
			URL: box.URL(), Venue: Venue, Terminals: 3, Dashboards: 1, Events: events, Run: run,
			Token: box.Mint, Seed: 7, Log: slog.New(slog.DiscardHandler),
		}, nil)
	})
	if meanwhile != nil {
		meanwhile()
	}
	wg.Wait()
	if err != nil {
		t.Fatalf("%s: %v\n%s", run, err, summary)
	}
	if summary.Lost > 0 || summary.Total.Refused > 0 || len(summary.Acknowledged) != events {
		t.Fatalf("%s: not every event was acknowledged:\n%s", run, summary)
	}
	t.Logf("%s: %s", run, summary)
	return summary.Acknowledged
}

// MustRemember fails unless the last outage has this cause, held at least so
// many events, and was one although the box was killed in it.
func (b *Box) MustRemember(cause string, events uint64) {
	b.t.Helper()
	var list []outages.Outage
	if !poll(30*time.Second, func() bool {
		var err error
		list, err = b.client.Outages(b.t.Context())
		return err == nil && len(list) == 1 && !list[0].End.IsZero() && list[0].Held.Events >= events
	}) {
		b.t.Fatalf("it remembers %+v", list)
	}
	o := list[0]
	crashed := slices.ContainsFunc(o.Causes, func(s outages.Stretch) bool { return s.Cause == outages.Crash })
	// Where the broker came back before the box had found out that it was down, the
	// crash is all that is known.
	if o.Cause != cause && o.Cause != outages.Crash || !crashed || len(o.Terminals) == 0 {
		b.t.Errorf("it remembers %+v, want %s with %d events", o, cause, events)
	}
}

// Backend is the reference back-end, running beside the test.
type Backend struct {
	t *testing.T
	*cloud.Backend
}

// StartBackend starts a back-end on the broker and returns when it listens.
// onEvent, if not nil, is told of each event that it commits.
func StartBackend(t *testing.T, broker *Mosquitto, acceptHoles bool, onEvent func(cloud.Effect)) *Backend {
	t.Helper()
	b, err := cloud.OpenBackend(cloud.BackendConfig{
		Access: cloud.Access{Broker: broker.URL()}, Path: filepath.Join(t.TempDir(), "backend.db"),
		Prefix: cloud.Prefix(Venue), AcceptHoles: acceptHoles, IgnoreLive: true, // the total order is looked at
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := b.Run(ctx, onEvent); err != nil {
			t.Errorf("back-end: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		if err := b.Close(); err != nil {
			t.Errorf("close back-end: %v", err)
		}
	})
	Eventually(t, 20*time.Second, "the back-end listens", b.Online)
	return &Backend{t, b}
}

// Await returns when the back-end has committed n events.
func (b *Backend) Await(n int) {
	b.t.Helper()
	var have uint64
	if !poll(3*time.Minute, func() bool {
		var err error
		if have, err = b.Count(); err != nil {
			b.t.Fatal(err)
		}
		return have >= uint64(n)
	}) {
		b.t.Fatalf("the back-end has %d of %d events; %+v", have, n, b.Counts())
	}
}

// MustHold fails unless the back-end has exactly these events, once each and in
// this order.
func (b *Backend) MustHold(want []simulate.Acknowledged) {
	b.t.Helper()
	n := 0
	err := b.Each(func(e cloud.Effect) error {
		if n < len(want) && (e.ID != want[n].ID || e.Seq != want[n].Seq) {
			b.t.Errorf("effect %d is %s (seq %d), want %s (seq %d)", n, e.ID, e.Seq, want[n].ID, want[n].Seq)
		}
		n++
		return nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
	if n != len(want) {
		b.t.Errorf("the back-end has %d effects, %d events were acknowledged", n, len(want))
	}
}
