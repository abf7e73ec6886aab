//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/simulate"
)

// scenario is one drain, of a box or of a bridge.
type scenario struct {
	name      string
	confirm   string // of a box
	compress  bool
	inflight  int // of a bridge; unset: its default
	bridge    bool
	roundTrip time.Duration
	events    int
	live      bool
}

// figures are what one drain gave, by name.
type figures map[string]float64

const unset = -1

// scenarios are all drains of a run.
func scenarios(s settings) []scenario {
	const far = 200 * time.Millisecond
	var list []scenario
	for _, rt := range []time.Duration{0, far} {
		at := fmt.Sprintf(", %d ms", rt.Milliseconds())
		for _, confirm := range []string{"broker", "backend"} {
			list = append(list,
				scenario{name: "box " + confirm + at, confirm: confirm, roundTrip: rt, events: s.events},
				scenario{name: "box " + confirm + " gzip" + at, confirm: confirm, compress: true, roundTrip: rt, events: s.events})
		}
		list = append(list,
			scenario{name: "bridge unlimited" + at, bridge: true, inflight: 0, roundTrip: rt, events: s.events},
			scenario{name: "live" + at, confirm: "backend", roundTrip: rt, events: s.events, live: true},
			scenario{name: "live gzip" + at, confirm: "backend", compress: true, roundTrip: rt, events: s.events, live: true})
	}
	return append(list,
		scenario{name: "bridge default, 0 ms", bridge: true, inflight: unset, events: s.events},
		scenario{name: "box small backlog", confirm: "broker", events: s.events / 10})
}

// drain runs a scenario.
func drain(ctx context.Context, s settings, c scenario) (f figures, err error) {
	dir, err := os.MkdirTemp(s.dir, "drain-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	cloud, addr, err := upstream(dir)
	if err != nil {
		return nil, err
	}
	defer cloud.stop()
	line, err := newRelay(addr, c.roundTrip)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, line.close()) }()
	ear, err := listen(addr, c.events, c.confirm == "backend")
	if err != nil {
		return nil, err
	}
	defer func() { _ = ear.close() }()

	var peer *child
	var url string
	if c.bridge {
		var local string
		if peer, local, err = bridge(dir, line.port(), c.inflight); err != nil {
			return nil, err
		}
		defer peer.stop()
		if err := fillBridge(local, c.events); err != nil {
			return nil, fmt.Errorf("fill the bridge: %w", err)
		}
	} else {
		state := filepath.Join(dir, "state")
		if err := os.CopyFS(state, os.DirFS(s.filled(c.events))); err != nil {
			return nil, err
		}
		line.set(holding) // it waits at the door instead of pausing
		if peer, url, err = box(s, state, line.port(), c.confirm, c.compress); err != nil {
			return nil, err
		}
		defer peer.stop()
	}
	return measure(ctx, s, c, line, ear, peer, url)
}

// measure lets the peer through, and sees how it goes.
func measure(ctx context.Context, s settings, c scenario, line *relay, ear *listener, peer *child, url string) (figures, error) {
	ctx, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer func() { stop(); all.Wait() }()
	var live *emitter
	if c.live {
		var err error
		if live, err = newEmitter(ctx, url); err != nil {
			return nil, err
		}
		defer func() { _ = live.client.Close() }()
	}
	idle, err := peer.memory("RssAnon")
	if err != nil {
		return nil, err
	}
	own := idle // the most of its own pages
	watching, watched := context.WithCancel(ctx)
	var watcher sync.WaitGroup
	watcher.Go(func() {
		for tick := time.NewTicker(20 * time.Millisecond); ; <-tick.C {
			if now, err := peer.memory("RssAnon"); err == nil {
				own = max(own, now)
			}
			if watching.Err() != nil {
				tick.Stop()
				return
			}
		}
	})
	cpu, err := peer.cpu()
	line.set(passing)
	if live != nil {
		all.Go(func() {
			select {
			case <-ctx.Done():
			case <-ear.drains: // while it connects there is no drain yet
				live.run(ctx)
			}
		})
	}
	end, failed := ear.await(s.longest)
	after, lost := peer.cpu()
	watched()
	watcher.Wait()
	peak, unknown := peer.memory("VmHWM")
	if err := errors.Join(err, failed, lost, unknown); err != nil {
		return nil, err
	}
	took := end.Sub(line.begin())
	n := float64(c.events)
	f := figures{
		"rate": n / took.Seconds(), "up": float64(line.up.Load()) / n, "down": float64(line.down.Load()) / n,
		"cpu": (after - cpu).Seconds() * 100_000 / n, "before": idle, "own": own, "peak": peak,
	}
	if live == nil {
		return f, nil
	}
	return f, live.latencies(ctx, f, ear, end, max(took, s.least))
}

const pace = 50 * time.Millisecond // of live events

// emitter sends live events.
type emitter struct {
	client *simulate.Client
	mu     sync.Mutex // guards below
	sent   []time.Time
	err    error
}

func newEmitter(ctx context.Context, url string) (*emitter, error) {
	v, err := auth.NewVerifier(auth.Config{Venue: venue, Secret: []byte(secret)}, time.Now)
	if err != nil {
		return nil, err
	}
	token, err := v.Mint(auth.Grant{Subject: "staff_live", Org: "org1", Venue: venue, Role: event.Cashier, Terminal: "9999999999"}, time.Hour)
	if err != nil {
		return nil, err
	}
	c, err := simulate.Dial(ctx, simulate.ClientConfig{URL: url, Auth: map[string]any{"token": token}})
	if err != nil {
		return nil, err
	}
	return &emitter{client: c}, nil
}

func (e *emitter) run(ctx context.Context) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for n := 0; ; n++ {
		payload := json.RawMessage(fmt.Sprintf(`{"paymentId":"live_%d","orderId":"live_order_%d","amount":"12.50","currency":"MXN","venueId":%q}`, n, n, venue))
		e.mu.Lock()
		e.sent = append(e.sent, time.Now())
		e.mu.Unlock()
		if err := e.client.Emit(ctx, string(event.PaymentCompleted), payload); err != nil {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.err = err
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// latencies waits for as long again, and puts the 99th percentiles of what was
// sent before the end of the drain, and a second after it, into f.
func (e *emitter) latencies(ctx context.Context, f figures, ear *listener, end time.Time, quiet time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(quiet + time.Second):
	}
	e.mu.Lock()
	sent, err := slices.Clone(e.sent), e.err
	e.mu.Unlock()
	if err != nil {
		return fmt.Errorf("send live event: %w", err)
	}
	if err := until("the live events are there", patience, func() bool { _, ok := ear.arrived(len(sent) - 2); return ok }); err != nil {
		return err
	}
	var during, without []float64
	for n, at := range sent[:len(sent)-1] {
		came, ok := ear.arrived(n)
		ms := came.Sub(at).Seconds() * 1000
		switch {
		case !ok:
			return fmt.Errorf("live event %d did not come", n)
		case at.Before(end):
			during = append(during, ms)
		case at.After(end.Add(time.Second)):
			without = append(without, ms)
		}
	}
	f["live"], f["live p50"] = percentile(during, 0.99), percentile(during, 0.5)
	f["idle"], f["idle p50"] = percentile(without, 0.99), percentile(without, 0.5)
	return nil
}

func percentile(list []float64, p float64) float64 {
	if len(list) == 0 {
		return 0
	}
	slices.Sort(list)
	return list[min(int(p*float64(len(list))), len(list)-1)]
}
