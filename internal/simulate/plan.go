package simulate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// Plan says what a simulated venue does.
type Plan struct {
	URL, Venue string
	Terminals  int
	Dashboards int
	Rate       float64 // events/s over all terminals; zero or less: as fast as they are acknowledged
	Events     int     // stop after so many over all terminals; zero: until ctx ends

	// Token makes the token of a client; terminal is empty for a dashboard.
	Token func(role event.Role, subject, terminal string) (string, error)

	// Seed makes the choices: who orders what. Run stands in every id and
	// idempotency key; empty: a fresh one, so that two runs are two days. The
	// same Seed and Run make the same events, which a box must know again.
	Seed uint64
	Run  string

	Hands   int     // sales at the same time per terminal; zero: 8
	Backoff Backoff // of all clients; zero: DefaultBackoff
	Log     *slog.Logger
}

// roleOf gives the i-th terminal its role, in turn: a manager takes orders and
// money, a cashier money alone, a waiter orders and what begins a payment.
func roleOf(i int) event.Role {
	switch i % 3 {
	case 0:
		return event.Manager
	case 1:
		return event.Cashier
	default:
		return event.Waiter
	}
}

const (
	progressEvery = time.Second
	keepUnlimited = 100_000          // acknowledgements listed per terminal of a run without end
	readyTimeout  = 10 * time.Second // for dashboards, before the first sale
	settleEvery   = 20 * time.Millisecond
	settleTimeout = 3 * time.Second        // for dashboards to hear the last events
	settleBriefly = 300 * time.Millisecond // the same, of a run that was called off
	maxRunName    = 24                     // keeps idempotency keys within 64 characters
)

// venue is a running plan.
type venue struct {
	plan       Plan
	start      time.Time
	terminals  []*terminal
	dashboards []*dashboard
}

// Run plays the plan until its events are answered or ctx ends, and returns
// what came of it; the summary is good also next to an error, which says which
// clients the box did not want. Dashboards come first and stay longest, so
// that what they heard can be compared with what was acknowledged. progress,
// if not nil, is called every second, by one goroutine.
func Run(ctx context.Context, plan Plan, progress func(Snapshot)) (Summary, error) {
	v, err := newVenue(plan)
	if err != nil {
		return Summary{}, err
	}
	listen, stopListening := context.WithCancel(context.WithoutCancel(ctx))
	defer stopListening()
	watch, stopWatching := context.WithCancel(ctx)
	defer stopWatching()

	var listening, selling, watching sync.WaitGroup
	faults := make([]error, len(v.dashboards)+len(v.terminals)) // each goroutine has its own place
	for i, d := range v.dashboards {
		listening.Go(func() { faults[i] = d.Run(listen) })
	}
	if progress != nil {
		watching.Go(func() { v.watch(watch, progress) })
	}
	v.awaitDashboards(ctx)
	for i, t := range v.terminals {
		selling.Go(func() { faults[len(v.dashboards)+i] = t.Run(ctx) })
	}
	selling.Wait()
	if len(v.terminals) == 0 {
		<-ctx.Done()
	}
	v.settle(ctx.Err() != nil)
	stopWatching()
	watching.Wait()
	summary := v.summary() // before the goodbyes, with connections as they were
	stopListening()
	listening.Wait()
	return summary, errors.Join(faults...)
}

func newVenue(plan Plan) (*venue, error) {
	if plan.Log == nil {
		plan.Log = slog.New(slog.DiscardHandler)
	}
	if plan.Run == "" {
		plan.Run = string(event.NewID())[:18] // its time and some of its chance
	}
	if len(plan.Run) > maxRunName {
		return nil, fmt.Errorf("run name %q is longer than %d bytes", plan.Run, maxRunName)
	}
	if plan.Token == nil || plan.Terminals < 0 || plan.Dashboards < 0 || plan.Terminals+plan.Dashboards == 0 {
		return nil, errors.New("plan needs tokens and at least one client")
	}
	v := &venue{plan: plan, start: time.Now()}
	for i := range plan.Dashboards {
		name := fmt.Sprintf("dashboard-%d", i+1)
		token, err := plan.Token(event.Manager, name, "")
		if err != nil {
			return nil, fmt.Errorf("make token of %s: %w", name, err)
		}
		v.dashboards = append(v.dashboards, newDashboard(dashboardConfig{
			URL: plan.URL, Venue: plan.Venue, Name: name, Token: token, Backoff: plan.Backoff,
			Log: plan.Log.With("client", name),
		}))
	}
	for i := range plan.Terminals {
		serial := fmt.Sprintf("AVQD-9%09d", i+1)
		role := roleOf(i)
		token, err := plan.Token(role, fmt.Sprintf("staff-%d", i+1), serial)
		if err != nil {
			return nil, fmt.Errorf("make token of %s: %w", serial, err)
		}
		share, keep := plan.share(i), keepUnlimited
		if plan.Events > 0 {
			if share == 0 {
				continue // fewer events than terminals
			}
			keep = share
		}
		v.terminals = append(v.terminals, newTerminal(terminalConfig{
			URL: plan.URL, Venue: plan.Venue, Serial: serial, Role: role, Token: token,
			Run: plan.Run, Seed: plan.Seed, Rate: plan.Rate / float64(plan.Terminals),
			Events: share, Keep: keep, Hands: plan.Hands, Backoff: plan.Backoff,
			Log: plan.Log.With("client", serial),
		}))
	}
	return v, nil
}

// share is how many of the events the i-th terminal makes.
func (p *Plan) share(i int) int {
	n := p.Events / p.Terminals
	if i < p.Events%p.Terminals {
		n++
	}
	return n
}

// awaitDashboards waits until all have joined. One that cannot is no reason
// to keep the restaurant shut: what it missed shows in the summary.
func (v *venue) awaitDashboards(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for _, d := range v.dashboards {
		if err := d.Ready(ctx); err != nil {
			v.plan.Log.Warn("dashboard is not there at the start", "client", d.cfg.Name, "error", err)
		}
	}
}

// settle lets the dashboards hear the last events: until each that is there
// heard as many sales as were acknowledged. A dashboard that missed some, or a
// box that swallows some, costs the timeout and shows in the summary.
func (v *venue) settle(called bool) {
	limit := settleTimeout
	if called {
		limit = settleBriefly
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var acknowledged uint64
	for _, t := range v.terminals {
		acknowledged += t.Figures().Acknowledged
	}
	behind := func(d *dashboard) bool {
		f := d.Figures()
		return f.Connected && f.Heard.Sales < acknowledged
	}
	for slices.ContainsFunc(v.dashboards, behind) && pause(ctx, settleEvery) {
	}
}

func (v *venue) heard() Heard {
	var sum Heard
	for _, d := range v.dashboards {
		sum.add(d.ear.figures())
	}
	return sum
}

func (v *venue) watch(ctx context.Context, progress func(Snapshot)) {
	for pause(ctx, progressEvery) {
		progress(v.snapshot())
	}
}

func (v *venue) snapshot() Snapshot {
	s := Snapshot{
		Elapsed: time.Since(v.start), Clients: len(v.terminals) + len(v.dashboards), Dashboards: v.heard(),
	}
	for _, t := range v.terminals {
		f := t.Figures()
		s.Total.add(&f)
		if f.Connected {
			s.Connected++
		}
	}
	for _, d := range v.dashboards {
		if d.Figures().Connected {
			s.Connected++
		}
	}
	return s
}

func (v *venue) summary() Summary {
	s := Summary{Run: v.plan.Run, Seed: v.plan.Seed, Elapsed: time.Since(v.start)}
	for _, t := range v.terminals {
		f := t.Figures()
		s.Total.add(&f)
		s.Terminals = append(s.Terminals, f)
		s.Acknowledged = append(s.Acknowledged, t.Accepted()...)
	}
	s.Lost = s.Total.Pending
	s.Doubled = s.Total.Heard.Doubled
	for _, d := range v.dashboards {
		f := d.Figures()
		s.Dashboards = append(s.Dashboards, f)
		s.Doubled += f.Heard.Doubled
	}
	slices.SortStableFunc(s.Acknowledged, func(a, b Acknowledged) int {
		return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Seq, b.Seq))
	})
	return s
}
