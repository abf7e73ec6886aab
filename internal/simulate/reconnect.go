package simulate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"sync"
	"time"
)

// Backoff says how long to wait between two attempts to connect: Delay at
// first, times Factor after each failure, at most Max, each moved by up to the
// share Jitter (0..1) either way so that terminals do not return in step.
type Backoff struct {
	Delay, Max time.Duration
	Factor     float64
	Jitter     float64
}

// DefaultBackoff is what socket.io-client does when it is not told otherwise.
func DefaultBackoff() Backoff {
	return Backoff{Delay: time.Second, Max: 5 * time.Second, Factor: 2, Jitter: 0.5}
}

// after returns the wait before the attempt that follows n failures in a row.
func (b Backoff) after(n int) time.Duration {
	// Bounded before the jitter too: after days of failures the power is
	// infinite, and infinity times no jitter is not a number.
	d := min(float64(b.Delay)*math.Pow(b.Factor, float64(n)), math.MaxInt64/4)
	d += d * b.Jitter * (2*rand.Float64() - 1)
	return max(0, time.Duration(min(d, float64(b.Max))))
}

// ReconnectConfig says how to keep one client up.
type ReconnectConfig struct {
	Client  ClientConfig
	Backoff Backoff // zero: DefaultBackoff

	// OnConnect runs after each connection, before Await hands it out: the
	// place to join rooms. A [*RefusedError] from it is final, any other
	// error closes the connection and leads to the next attempt. May be nil.
	OnConnect func(ctx context.Context, c *Client) error

	// Persist connects again also after a CONNECT_ERROR or a DISCONNECT
	// packet, which Socket.IO clients do not do.
	Persist bool
}

// RefusedError is an answer that says no for good to what a client cannot do without.
type RefusedError struct {
	What string // what was asked
	Text string // the server's words
}

// Error returns what was refused and in which words.
func (e *RefusedError) Error() string { return e.What + " refused: " + e.Text }

// ErrEnded is what [Reconnecting.Await] returns once Run is over.
var ErrEnded = errors.New("no longer connecting")

// Reconnecting keeps one connection up, as socket.io-client does: again after
// the transport broke, never after a refusal. Its methods may be called by
// several goroutines at once, Run once.
type Reconnecting struct {
	cfg ReconnectConfig
	log *slog.Logger

	mu      sync.Mutex    // guards below
	current *Client       // nil while there is none
	ended   bool          // Run has returned
	changed chan struct{} // closed and replaced when one of the two changes
	count   uint64        // connections made
	lost    time.Time     // when the last one broke; zero: there was none
	away    time.Duration // the longest time between two of them
}

// NewReconnecting returns a line that is down until Run.
func NewReconnecting(cfg ReconnectConfig) *Reconnecting {
	if cfg.Backoff == (Backoff{}) {
		cfg.Backoff = DefaultBackoff()
	}
	if cfg.Client.Log == nil {
		cfg.Client.Log = slog.New(slog.DiscardHandler)
	}
	return &Reconnecting{cfg: cfg, log: cfg.Client.Log, changed: make(chan struct{})}
}

// Run connects and connects again until ctx ends, then says goodbye and
// returns nil. It returns earlier, with the reason, when the server refused
// ([*ConnectError], [ErrDisconnected], [*RefusedError]) or somebody called
// Close on the client; a Drop is a broken transport like any other.
func (r *Reconnecting) Run(ctx context.Context) error {
	defer r.set(nil, true)
	failures := 0
	for {
		c, err := r.connect(ctx)
		if err == nil {
			r.log.Info("connected", "sid", c.SID(), "failures", failures)
			failures = 0
			r.set(c, false)
			select {
			case <-ctx.Done():
			case <-c.Done():
			}
			r.set(nil, false)
			_ = c.Close() // what cannot be said to a dead peer is no loss
			err = c.Err()
		}
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, ErrClosed) || !r.cfg.Persist && final(err) {
			r.log.Warn("connection refused for good", "error", err)
			return err
		}
		wait := r.cfg.Backoff.after(failures)
		if failures == 0 { // the first failure is news, its repeats are not
			r.log.Warn("connection lost", "error", err, "retry_in", wait)
		}
		failures++
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
}

func (r *Reconnecting) connect(ctx context.Context) (*Client, error) {
	c, err := Dial(ctx, r.cfg.Client)
	if err != nil {
		return nil, err
	}
	if r.cfg.OnConnect != nil {
		if err := r.cfg.OnConnect(ctx, c); err != nil {
			_ = c.Close()
			if reason := c.Err(); final(reason) && !errors.Is(reason, ErrClosed) {
				err = reason
			}
			return nil, err
		}
	}
	return c, nil
}

// final reports whether a Socket.IO client gives up after this end.
func final(err error) bool {
	var refused *ConnectError
	var denied *RefusedError
	return errors.As(err, &refused) || errors.As(err, &denied) ||
		errors.Is(err, ErrDisconnected) || errors.Is(err, ErrClosed)
}

func (r *Reconnecting) set(c *Client, ended bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case c != nil:
		r.count++
		if !r.lost.IsZero() {
			r.away = max(r.away, time.Since(r.lost))
		}
	case r.current != nil:
		r.lost = time.Now()
	}
	r.current, r.ended = c, ended
	close(r.changed)
	r.changed = make(chan struct{})
}

// Await returns the client once there is one that is connected. The error is
// ctx's, or [ErrEnded].
func (r *Reconnecting) Await(ctx context.Context) (*Client, error) {
	for {
		r.mu.Lock()
		c, ended, changed := r.current, r.ended, r.changed
		r.mu.Unlock()
		switch {
		case ended:
			return nil, ErrEnded
		case c != nil && c.Err() == nil:
			return c, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for a connection: %w", ctx.Err())
		}
	}
}

// Connected reports whether there is a connection now, and how many there were.
func (r *Reconnecting) Connected() (now bool, connections uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.current != nil && r.current.Err() == nil, r.count
}

// Away returns the longest time between a connection that broke and the next
// one: zero if none broke, or none came after it.
func (r *Reconnecting) Away() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.away
}
