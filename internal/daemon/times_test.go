package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/clock"
	"github.com/avoqado/avoqado-edge/internal/cloud"
	"github.com/avoqado/avoqado-edge/internal/event"
)

// hours is a machine whose clock is wrong in a way of its own. Its truth may lie
// in another year than this machine's.
type hours struct {
	mu     sync.Mutex    // guards below
	later  time.Duration // truth, from this machine's clock on
	by     time.Duration // the wall clock, from truth on
	frozen time.Time     // what the wall clock says for ever, if not zero
	synced bool
	booted time.Time
}

func (h *hours) truth() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Now().Round(0).Add(h.later)
}

func (h *hours) set(change func(h *hours)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change(h)
}

func (h *hours) reading() clock.Reading {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := clock.Reading{Wall: time.Now().Round(0).Add(h.later + h.by), Up: time.Since(h.booted), Sync: clock.Unsynced}
	if !h.frozen.IsZero() {
		r.Wall = h.frozen
	}
	if h.synced {
		r.Sync, r.Error = clock.Synced, 20*time.Millisecond
	}
	return r
}

// right has a time source put the clock right.
func right(h *hours) { h.by, h.frozen, h.synced = 0, time.Time{}, true }

// drain starts a broker and a back-end that hears everything, calls before as it
// is about to take the first batch, and returns what it has taken so far.
func drain(t *testing.T, dir, address string, before func()) (effects func() []cloud.Effect, stop func()) {
	t.Helper()
	broker, err := cloud.ListenBroker(address, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Skipf("the port was taken meanwhile: %v", err)
	}
	first := sync.OnceFunc(before)
	backend, err := cloud.OpenBackend(cloud.BackendConfig{
		Access: cloud.Access{Broker: broker.URL()}, Path: filepath.Join(dir, "ledger.db"), Prefix: "avoqado/v1/venues/v1",
		Refuse: func(cloud.Effect) string { first(); return "" },
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var list []cloud.Effect
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = broker.Run(ctx) })
	running.Go(func() {
		_ = backend.Run(ctx, func(e cloud.Effect) {
			mu.Lock()
			defer mu.Unlock()
			list = append(list, e)
		})
	})
	effects = func() []cloud.Effect {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(list)
	}
	return effects, func() {
		cancel()
		running.Wait()
		_ = backend.Close()
	}
}

// TestTimesAtTheCloud disturbs a box's clock before, during and after an outage,
// and the drain behind it, in every way that clocks go wrong: each event reaches
// the back-end once, in the order of seq, and says how good its time is, and the
// truth lies within that.
func TestTimesAtTheCloud(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("a minute of outages; TestTimeComesLate is the short one")
	}
	same := func(*hours) {}
	jump := func(by time.Duration) func(*hours) { return func(h *hours) { h.by = by } }
	of1970 := func(h *hours) { h.by = -time.Now().Add(h.later).Sub(time.Unix(0, 0)) }
	end2038 := time.Until(time.Unix(1<<31-2, 0)) // the last second but one of 32 bits
	for name, c := range map[string]struct {
		begins, outage, draining func(*hours)
		restart                  bool   // of the box, in the outage
		want                     string // quality of what came before the drain, in it, behind it; ?: known or not
	}{
		"boot in 1970, the time never comes":  {begins: of1970, outage: same, draining: same, want: "unknown unknown unknown"},
		"boot in 1970, the time comes first":  {begins: of1970, outage: right, draining: same, want: "corrected synced synced"},
		"boot in 1970, NTP step in the drain": {begins: of1970, outage: same, draining: right, want: "? ? synced"},
		"1970, a restart before the time":     {begins: of1970, outage: right, draining: same, restart: true, want: "corrected synced synced"},
		"ten years ahead":                     {begins: jump(10 * year), outage: right, draining: same, want: "corrected synced synced"},
		"ten years behind":                    {begins: jump(-10 * year), outage: right, draining: same, want: "corrected synced synced"},
		"set ahead ten years in the outage":   {begins: same, outage: jump(10 * year), draining: right, want: "? ? synced"},
		"set back ten years in the outage":    {begins: right, outage: func(h *hours) { h.by, h.synced = -10*year, false }, draining: same, want: "synced synced synced"},
		"set ahead when the source is gone":   {begins: right, outage: func(h *hours) { h.by, h.synced = 10*year, false }, draining: right, want: "synced synced synced"},
		"freeze":                              {begins: same, outage: func(h *hours) { h.frozen = time.Now().Add(h.later) }, draining: right, want: "? ? synced"},
		"freeze for good":                     {begins: right, outage: func(h *hours) { h.frozen, h.synced = time.Now().Add(h.later), false }, draining: same, want: "synced synced synced"},
		"NTP step back by three hours":        {begins: jump(3 * time.Hour), outage: same, draining: right, want: "? ? synced"},
		"NTP step on by three hours":          {begins: jump(-3 * time.Hour), outage: same, draining: right, want: "? ? synced"},
		"leap second":                         {begins: right, outage: same, draining: func(h *hours) { h.later -= time.Second }, want: "synced synced synced"},
		"2038":                                {begins: func(h *hours) { h.later = end2038; right(h) }, outage: same, draining: same, want: "synced synced synced"},
		"2038, told late":                     {begins: func(h *hours) { h.later, h.by = end2038, -12*year }, outage: right, draining: same, want: "corrected synced synced"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each waits for the uplink to try again
			free, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			address := free.Addr().String()
			_ = free.Close()
			h := &hours{booted: time.Now()}
			h.set(c.begins)
			dir := t.TempDir()
			d, stop := runBox(t, dir, "tcp://"+address, h.reading)
			say(t, d, h, "before")
			h.set(c.outage)
			if c.restart {
				stop()
				d, stop = runBox(t, dir, "tcp://"+address, h.reading)
			}
			say(t, d, h, "outage")
			taken, end := drain(t, dir, address, func() { h.set(c.draining) })
			until(t, "the drain begins", func() bool { return len(taken()) > 0 })
			say(t, d, h, "draining")
			until(t, "the drain ends", func() bool { return len(taken()) == 3*spoken })
			until(t, "the box knows", func() bool { return d.journal.Cursor("uplink") == 3*spoken })
			stop() // before the broker, which waits for its clients
			end()
			heard(t, taken(), c.want)
		})
	}
}

// spoken is how many events say takes in.
const spoken = 30

// say takes events in and notes in their payloads when that truly was.
func say(t *testing.T, d *Daemon, h *hours, phase string) {
	t.Helper()
	manager := auth.Grant{Subject: "staff_1", Venue: "v1", Role: event.Manager}
	for range spoken {
		payload := fmt.Appendf(nil, `{"truth":%q,"phase":%q}`, h.truth().UTC().Format(time.RFC3339Nano), phase)
		if ack, status := (door{d.lan}).Publish(t.Context(), manager, "menu_updated", payload, nil); status != http.StatusOK {
			t.Fatalf("%d %s", status, ack)
		}
	}
}

// heard holds what the back-end was told against the truth. want are the qualities
// of the three phases.
func heard(t *testing.T, effects []cloud.Effect, want string) {
	t.Helper()
	var quality [3]string
	if n, err := fmt.Sscan(want, &quality[0], &quality[1], &quality[2]); n != 3 || err != nil {
		t.Fatal(want)
	}
	phases := map[string]string{"before": quality[0], "outage": quality[1], "draining": quality[2]}
	for i, e := range effects {
		if e.Seq != event.Seq(i+1) {
			t.Fatalf("event %d came in place %d", e.Seq, i+1)
		}
		var payload struct {
			Truth time.Time
			Phase string
		}
		told, err := time.Parse(time.RFC3339Nano, e.Time)
		if err != nil || json.Unmarshal(e.Data, &payload) != nil {
			t.Fatalf("%+v", e)
		}
		if must := phases[payload.Phase]; e.Quality != must && (must != "?" || e.Quality != "unknown" && e.Quality != "corrected" && e.Quality != "synced") {
			t.Errorf("event %d, %s: %s, want %s", e.Seq, payload.Phase, e.Quality, must)
		}
		// What passed between the two lines that took the time is no error of it.
		off, known := told.Sub(payload.Truth), e.Quality != "unknown"
		if known != (e.Error > 0) || known && off.Abs() > time.Duration(e.Error)*time.Millisecond+time.Second {
			t.Errorf("event %d, %s, %s: off by %s, said to be %d ms at most", e.Seq, payload.Phase, e.Quality, off, e.Error)
		}
	}
}
