package logbook

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	calmLines = 30 // of one message in a minute
	calmFor   = time.Minute
	calmKinds = 512 // messages that are counted; others pass
)

// Calm returns a handler that lets each message through 30 times a minute, and
// then says how often it came besides: a client that hammers at the door, or a
// link that flaps, does not fill the card. It goes by level and message, which
// are constant texts. What is said at [slog.LevelDebug] was asked for, and all
// of it passes.
func Calm(next slog.Handler) slog.Handler {
	return calm{next, next, &counts{of: map[kind]*count{}}}
}

type calm struct {
	slog.Handler              // with the attributes of its logger
	bare         slog.Handler // without, for what it says itself
	counts       *counts
}

// kind is what makes two lines the same.
type kind struct {
	level   slog.Level
	message string
}

type count struct {
	from   time.Time // when its minute began
	passed int
	held   int
}

type counts struct {
	mu    sync.Mutex // guards below
	of    map[kind]*count
	swept time.Time
}

func (c calm) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelInfo {
		return c.Handler.Handle(ctx, r)
	}
	passes, due := c.counts.note(kind{r.Level, r.Message}, r.Time)
	for _, d := range due {
		if err := c.bare.Handle(ctx, d); err != nil {
			return err
		}
	}
	if !passes {
		return nil
	}
	return c.Handler.Handle(ctx, r)
}

// note counts a line, and says whether it passes and what else is to be said
// first.
func (c *counts) note(k kind, now time.Time) (passes bool, due []slog.Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.swept) >= calmFor/10 {
		c.swept = now
		for k, n := range c.of {
			if now.Sub(n.from) < calmFor {
				continue
			}
			if n.held > 0 {
				said := slog.NewRecord(now, k.level, "message repeated", 0)
				said.AddAttrs(slog.String("message", k.message), slog.Int("times", n.held), slog.Time("since", n.from))
				due = append(due, said)
			}
			delete(c.of, k)
		}
	}
	n := c.of[k]
	if n == nil {
		if len(c.of) >= calmKinds {
			return true, due
		}
		n = &count{from: now}
		c.of[k] = n
	}
	if n.passed == calmLines {
		n.held++
		return false, due
	}
	n.passed++
	return true, due
}

func (c calm) WithAttrs(attrs []slog.Attr) slog.Handler {
	return calm{c.Handler.WithAttrs(attrs), c.bare, c.counts}
}

func (c calm) WithGroup(name string) slog.Handler {
	return calm{c.Handler.WithGroup(name), c.bare, c.counts}
}
