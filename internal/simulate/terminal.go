package simulate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// terminalConfig says who sells at a terminal, and how fast.
type terminalConfig struct {
	URL, Venue string
	Serial     string // terminalId of the handshake
	Role       event.Role
	Token      string
	Run        string  // stands in every id and key, see Plan.Run
	Seed       uint64  // of the choices
	Rate       float64 // events/s; zero or less: as fast as they are acknowledged
	Events     int     // stop after so many; zero: until ctx ends
	Keep       int     // acknowledgements to list; more are only counted

	Hands      int           // sales at the same time; zero: 8
	AckTimeout time.Duration // then the event is sent again; zero: 5 s
	Heartbeat  time.Duration // between two of them; zero: 30 s
	Grace      time.Duration // for what is under way when ctx ends; zero: 1 s
	Backoff    Backoff       // zero: DefaultBackoff
	Log        *slog.Logger
}

// Acknowledged is one event the box promised to keep.
type Acknowledged struct {
	Terminal  string     `json:"terminal"`
	Kind      event.Kind `json:"kind"`
	Key       string     `json:"key"` // the idempotency key it was sent under
	ID        event.ID   `json:"id"`  // the box's, which is the key where the box honours it
	Epoch     string     `json:"epoch,omitempty"`
	Seq       event.Seq  `json:"seq"`
	Duplicate bool       `json:"duplicate,omitempty"` // an earlier try had been stored
}

// terminal sells: a few people at it, each with one sale at a time. An event
// belongs to its person until the box has answered, over any number of
// connections and always under the same idempotency key; so nothing is lost,
// nothing is doubled, and what waits is bounded by the hands. Run is called
// once; the rest at any time.
type terminal struct {
	cfg    terminalConfig
	seller seller
	line   *Reconnecting
	ear    *ear

	mu       sync.Mutex // guards below
	sales    uint64     // begun
	begun    int        // events begun
	slot     time.Time  // when the next event may go
	figures  TerminalFigures
	accepted []Acknowledged
}

// newTerminal returns a terminal that is not connected yet.
func newTerminal(cfg terminalConfig) *terminal {
	if cfg.Hands <= 0 {
		cfg.Hands = 8
	}
	setDefault(&cfg.AckTimeout, 5*time.Second)
	setDefault(&cfg.Heartbeat, 30*time.Second)
	setDefault(&cfg.Grace, time.Second)
	t := &terminal{
		cfg:     cfg,
		seller:  seller{venue: cfg.Venue, terminal: cfg.Serial, run: cfg.Run, role: cfg.Role, seed: cfg.Seed},
		ear:     newEar(cfg.Venue, cfg.Run+"-"+cfg.Serial+"-"),
		figures: TerminalFigures{Name: cfg.Serial, Role: cfg.Role},
	}
	t.line = NewReconnecting(ReconnectConfig{
		Client: ClientConfig{
			URL: cfg.URL, Log: cfg.Log, OnEvent: t.ear.hear,
			Auth: map[string]any{"token": cfg.Token, "terminalId": cfg.Serial},
		},
		Backoff: cfg.Backoff, OnConnect: joinVenue(cfg.Venue),
	})
	return t
}

func setDefault(d *time.Duration, to time.Duration) {
	if *d <= 0 {
		*d = to
	}
}

// Run sells until ctx ends or all events are answered. After ctx nothing new
// is begun, and what is under way has the grace to be acknowledged. An error
// says that the box does not want this terminal.
func (t *terminal) Run(ctx context.Context) error {
	// live outlasts ctx by the grace.
	live, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	defer hangUp()

	var line, people sync.WaitGroup
	var lineErr error
	line.Go(func() { lineErr = t.line.Run(live) })
	line.Go(func() { t.beat(live) })
	line.Go(func() {
		select {
		case <-ctx.Done():
			pause(live, t.cfg.Grace)
			hangUp()
		case <-live.Done():
		}
	})
	for range t.cfg.Hands {
		people.Go(func() { t.sell(ctx, live) })
	}
	people.Wait()
	hangUp()
	line.Wait()
	if lineErr != nil {
		return fmt.Errorf("terminal %s: %w", t.cfg.Serial, lineErr)
	}
	return nil
}

// sell is one person's day.
func (t *terminal) sell(ctx, live context.Context) {
	if _, err := t.line.Await(ctx); err != nil {
		return // never connected: nothing was begun
	}
	for {
		t.mu.Lock()
		t.sales++
		n := t.sales
		t.mu.Unlock()
		steps := t.seller.sale(n)
		if len(steps) == 0 {
			return // a role that sells nothing
		}
		for _, s := range steps {
			if !t.begin(ctx) {
				return
			}
			accepted, ended := t.settle(live, s)
			if ended {
				return
			}
			if !accepted {
				break // a refused order is not paid
			}
		}
	}
}

// catchUp is how far a terminal that was held up may run ahead of its rate.
const catchUp = 100 * time.Millisecond

// begin takes one event off the plan and waits for its time. False: no more.
func (t *terminal) begin(ctx context.Context) bool {
	if ctx.Err() != nil {
		return false
	}
	t.mu.Lock()
	if t.cfg.Events > 0 && t.begun >= t.cfg.Events {
		t.mu.Unlock()
		return false
	}
	t.begun++
	var wait time.Duration
	if t.cfg.Rate > 0 {
		now := time.Now()
		if earliest := now.Add(-catchUp); t.slot.Before(earliest) {
			t.slot = earliest
		}
		t.slot = t.slot.Add(time.Duration(float64(time.Second) / t.cfg.Rate))
		wait = t.slot.Sub(now)
	}
	t.mu.Unlock()
	if wait > 0 {
		return pause(ctx, wait)
	}
	return true
}

// pause waits; false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// settle sends an event until the box has answered it. ended means that there
// is no connection any more and never will be; the event then counts as lost.
func (t *terminal) settle(live context.Context, s step) (accepted, ended bool) {
	t.count(func(f *TerminalFigures) { f.Sent++ })
	for attempt := 0; ; attempt++ {
		c, err := t.line.Await(live)
		if err != nil {
			return false, true
		}
		if attempt > 0 {
			t.count(func(f *TerminalFigures) { f.Retried++ })
		}
		start := time.Now()
		a, err := t.emit(live, c, s)
		switch {
		case err == nil && a.Success:
			t.accept(s, a, time.Since(start))
			return true, false
		case err == nil && !a.worthRetrying():
			t.count(func(f *TerminalFigures) { f.Refused++; f.LastRefusal = a.Error })
			return false, false
		case err == nil:
			t.count(func(f *TerminalFigures) { f.Deferred++ })
			pause(live, a.retryAfter())
		case c.reason() != nil:
			// The connection is at its end; only its reader has not got there.
			select {
			case <-c.Done():
			case <-live.Done():
			}
		}
		// No answer: the box may have it or not. The key makes asking safe.
	}
}

// emit sends an event once. An answer that cannot be read is a refusal.
func (t *terminal) emit(live context.Context, c *Client, s step) (answer, error) {
	ctx, cancel := context.WithTimeout(live, t.cfg.AckTimeout)
	defer cancel()
	raw, err := c.EmitAck(ctx, string(s.kind), s.payload)
	if err != nil {
		return answer{}, err
	}
	a, err := readAnswer(raw)
	if err != nil {
		return answer{Error: err.Error()}, nil // the answer came, and says so
	}
	return a, nil
}

func (t *terminal) accept(s step, a answer, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.figures.Acknowledged++
	t.figures.Latency.Add(took)
	if a.Duplicate {
		t.figures.Duplicates++
	}
	if len(t.accepted) >= t.cfg.Keep {
		t.figures.Unlisted++
		return
	}
	t.accepted = append(t.accepted, Acknowledged{
		Terminal: t.cfg.Serial, Kind: s.kind, Key: s.key,
		ID: event.ID(a.EventID), Epoch: a.Epoch, Seq: event.Seq(a.Seq), Duplicate: a.Duplicate,
	})
}

// beat sends heartbeats while there is a connection. A missed one is gone:
// there is no use in the health of an hour ago.
func (t *terminal) beat(live context.Context) {
	for n := uint64(0); ; n++ {
		c, err := t.line.Await(live)
		if err != nil {
			return
		}
		ctx, cancel := context.WithTimeout(live, t.cfg.AckTimeout)
		raw, err := c.EmitAck(ctx, string(event.TPVHeartbeat), t.seller.heartbeat(n, time.Now().UnixMilli()))
		cancel()
		if err == nil {
			a, err := readAnswer(raw)
			t.count(func(f *TerminalFigures) {
				f.Heartbeats++
				if err = errors.Join(err, a.refusal()); err != nil {
					f.HeartbeatsRefused++
					f.LastRefusal = err.Error()
				}
			})
		}
		if !pause(live, t.cfg.Heartbeat) {
			return
		}
	}
}

// refusal returns what the box said when it said no.
func (a answer) refusal() error {
	if a.Success {
		return nil
	}
	return errors.New(a.Error)
}

func (t *terminal) count(change func(f *TerminalFigures)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change(&t.figures)
}

// Figures returns the counts so far.
func (t *terminal) Figures() TerminalFigures {
	heard := t.ear.figures()
	connected, connections := t.line.Connected()
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.figures
	f.Heard, f.Connected, f.Connections, f.AwayMs = heard, connected, connections, t.line.Away().Milliseconds()
	f.Pending = f.Sent - f.Acknowledged - f.Refused
	return f
}

// Accepted returns what was acknowledged, in the order of the answers: the
// first Keep of them.
func (t *terminal) Accepted() []Acknowledged {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]Acknowledged(nil), t.accepted...)
}
