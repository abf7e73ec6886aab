package boxtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/simulate"
)

const (
	tills = 8
	hands = 2 // sales at the same time per till
	ask   = 30 * time.Second
)

// till is a terminal that sells what it is told to, over a socket that comes
// back as those of real terminals do, only sooner.
type till struct {
	number   int
	book     *book
	line     *simulate.Reconnecting
	work     <-chan int // how much to pad the next sale by
	answered func()     // called with each answer
	made     func()     // called for each piece of work that is done
}

func newTill(l *life, number int) *till {
	t := &till{number: number, book: l.book, work: l.work, answered: l.answered, made: func() { l.pending.Add(-1) }}
	serial := fmt.Sprintf("AVQD-9%09d", number)
	t.line = simulate.NewReconnecting(simulate.ReconnectConfig{
		Client: simulate.ClientConfig{
			URL: l.box.URL(), Auth: map[string]any{
				"token": l.box.Token(event.Manager, fmt.Sprintf("staff-%d", number), serial), "terminalId": serial,
			},
		},
		Backoff: soon(),
	})
	return t
}

// soon is the backoff of clients whose box is killed every other moment.
func soon() simulate.Backoff {
	return simulate.Backoff{Delay: 10 * time.Millisecond, Max: 50 * time.Millisecond, Factor: 1.5, Jitter: 0.5}
}

// run sells until ctx ends. An error says that the box sent the till away.
func (t *till) run(ctx context.Context) error {
	var all sync.WaitGroup
	for range hands {
		all.Go(func() { t.sell(ctx) })
	}
	err := t.line.Run(ctx)
	all.Wait()
	return err
}

// sell is one hand. Tills without keys never send a sale again: whether an
// unanswered one was stored they do not know, only that it is there once at
// most. The others send until there is an answer; and, not trusting it, once
// more after the next reconnect.
func (t *till) sell(ctx context.Context) {
	keyed := t.number%4 != 0
	var last *sale
	var on *simulate.Client // which answered last
	for n := 0; ; n++ {
		var pad int
		select {
		case pad = <-t.work:
		case <-ctx.Done():
			return
		}
		c, err := t.line.Await(ctx)
		if err != nil {
			return
		}
		if keyed && last != nil && (c != on || n%16 == 0) && t.book.fresh(last) {
			t.settle(ctx, last, true)
		}
		last = t.book.begin(t.number, pad, keyed)
		on = t.settle(ctx, last, keyed)
		t.made()
	}
}

// settle sends a sale, again and again if it may, until it is answered. It
// returns the connection that brought the answer.
func (t *till) settle(ctx context.Context, s *sale, again bool) *simulate.Client {
	for {
		c, err := t.line.Await(ctx)
		if err != nil {
			return nil
		}
		r, err := t.send(ctx, c, s)
		switch {
		case err == nil && (r.Success || !r.Retryable):
			t.answered()
			return c
		case err == nil:
			pause(ctx, c.Done(), time.Duration(r.RetryAfterMs)*time.Millisecond)
		case ctx.Err() == nil:
			<-c.Done() // its end is why there was no answer
		}
		if !again || ctx.Err() != nil {
			return nil
		}
	}
}

// pause waits, but not when the connection or everything has ended.
func pause(ctx context.Context, gone <-chan struct{}, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-gone:
	case <-ctx.Done():
	}
}

func (t *till) send(ctx context.Context, c *simulate.Client, s *sale) (reply, error) {
	wait, cancel := context.WithTimeout(ctx, ask)
	defer cancel()
	known := t.book.sending(s)
	raw, err := c.EmitAck(wait, string(s.kind), s.payload)
	if err != nil {
		if wait.Err() != nil && ctx.Err() == nil {
			t.book.complain("%s was not answered within %s", s.name, ask)
			c.Drop()
		}
		return reply{}, err
	}
	var r reply
	if err := json.Unmarshal(raw, &r); err != nil {
		t.book.complain("answer to %s: %w", s.name, err)
	}
	t.book.answer(s, known, r)
	return r, nil
}

// listen is a dashboard that hears all that is sold. Every other time it is
// somebody new, who is shown what happens from then on; else it is the same
// again, and is first shown what it missed.
func (l *life) listen(ctx context.Context) error {
	for n := 0; ctx.Err() == nil; n++ {
		who := "boss"
		if n%2 == 0 {
			who = fmt.Sprintf("visitor-%d", n)
		}
		c, err := simulate.Dial(ctx, simulate.ClientConfig{
			URL: l.box.URL(), Auth: map[string]any{"token": l.box.Token(event.Manager, who, "")},
			OnEvent: l.hear,
			OnState: func(connected bool, _ error) {
				if !connected {
					l.book.hungUp()
				}
			},
		})
		if refused, ok := errors.AsType[*simulate.ConnectError](err); ok {
			return refused
		}
		if err != nil { // the box is down
			pause(ctx, nil, 20*time.Millisecond)
			continue
		}
		select {
		case <-c.Done():
		case <-ctx.Done():
		}
		_ = c.Close() // the box may be dead
	}
	return nil
}

// hear takes what is sold, and what the box says of the cloud.
func (l *life) hear(name string, payload json.RawMessage) {
	switch {
	case strings.HasPrefix(name, "payment_"), strings.HasPrefix(name, "order_"):
		l.book.hear(payload)
	case name == "sync_status":
		l.book.hearSynced(payload)
	}
}
