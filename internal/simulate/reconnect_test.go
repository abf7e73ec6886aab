package simulate

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/testpart"
)

var quick = Backoff{Delay: time.Millisecond, Max: 10 * time.Millisecond, Factor: 2, Jitter: 0.5}

// run runs the line and returns what stops it and what waits for its end.
func run(t *testing.T, r *Reconnecting) (stop func(), wait func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(soon(t))
	var running sync.WaitGroup
	var err error
	running.Go(func() { err = r.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return cancel, func() error { running.Wait(); return err }
}

func TestReconnectsAfterTransportClose(t *testing.T) {
	f := newFake(t, knobs{})
	joins := atomic.Int32{}
	r := NewReconnecting(ReconnectConfig{
		Client: ClientConfig{URL: f.URL}, Backoff: quick,
		OnConnect: func(ctx context.Context, c *Client) error {
			joins.Add(1)
			_, err := c.EmitAck(ctx, "join_room", nil)
			return err
		},
	})
	stop, wait := run(t, r)
	for round := range int32(3) {
		c, err := r.Await(soon(t))
		if err != nil {
			t.Fatal(err)
		}
		if joins.Load() != round+1 {
			t.Errorf("joined %d times in round %d", joins.Load(), round)
		}
		if round == 1 {
			c.Drop() // by this side; the others by the server
		} else {
			f.dropAll()
		}
		<-c.Done()
	}
	if _, err := r.Await(soon(t)); err != nil {
		t.Fatal(err)
	}
	if now, n := r.Connected(); !now || n != 4 {
		t.Errorf("connected = %t after %d connections, want the 4th", now, n)
	}
	if r.Away() == 0 {
		t.Error("never away over four connections")
	}
	stop()
	if err := wait(); err != nil {
		t.Errorf("Run = %v after cancel", err)
	}
	if _, err := r.Await(soon(t)); !errors.Is(err, ErrEnded) {
		t.Errorf("Await after the end = %v", err)
	}
}

func TestReconnectsOnlyWhenItMay(t *testing.T) {
	var asRefusal *ConnectError
	f := newFake(t, knobs{connect: `44{"message":"Rate limit exceeded"}`})
	_, wait := run(t, NewReconnecting(ReconnectConfig{Client: ClientConfig{URL: f.URL}, Backoff: quick}))
	if err := wait(); !errors.As(err, &asRefusal) {
		t.Errorf("after CONNECT_ERROR: %v", err)
	}

	f = newFake(t, knobs{after: func(s *fakeSocket) { s.send("41") }})
	_, wait = run(t, NewReconnecting(ReconnectConfig{Client: ClientConfig{URL: f.URL}, Backoff: quick}))
	if err := wait(); !errors.Is(err, ErrDisconnected) {
		t.Errorf("after a DISCONNECT packet: %v", err)
	}

	f = newFake(t, knobs{})
	r := NewReconnecting(ReconnectConfig{Client: ClientConfig{URL: f.URL}, Backoff: quick, Persist: true})
	_, wait = run(t, r)
	c, err := r.Await(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if err := wait(); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close by its owner: %v", err)
	}

	f = newFake(t, knobs{})
	_, wait = run(t, NewReconnecting(ReconnectConfig{
		Client: ClientConfig{URL: f.URL}, Backoff: quick,
		OnConnect: func(context.Context, *Client) error { return &RefusedError{What: "join", Text: "no"} },
	}))
	var denied *RefusedError
	if err := wait(); !errors.As(err, &denied) {
		t.Errorf("after a refused join: %v", err)
	}
}

func TestPersistComesBackAfterRefusal(t *testing.T) {
	f := newFake(t, knobs{connect: `44{"message":"not now"}`})
	r := NewReconnecting(ReconnectConfig{Client: ClientConfig{URL: f.URL}, Backoff: quick, Persist: true})
	stop, wait := run(t, r)
	testpart.Until(t, "third attempt", func() bool { return f.received("40{}") >= 3 })
	stop()
	if err := wait(); err != nil {
		t.Errorf("Run = %v", err)
	}
}

func TestBackoff(t *testing.T) {
	b := DefaultBackoff()
	b.Jitter = 0
	for n, want := range []time.Duration{1, 2, 4, 5, 5} {
		if got := b.after(n); got != want*time.Second {
			t.Errorf("after %d failures = %v, want %v", n, got, want*time.Second)
		}
	}
	if got := b.after(5000); got != b.Max {
		t.Errorf("after very many failures = %v, want %v", got, b.Max)
	}
	b.Jitter = 0.5
	for range 1000 {
		if got := b.after(0); got < 500*time.Millisecond || got > 1500*time.Millisecond {
			t.Fatalf("first wait = %v, want 1 s give or take a half", got)
		}
	}
}
