package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/journal"
)

// TestWatchFeedsWhatWorks: not ready before the first good look, fed with each
// further one, hungry while anything is not good.
func TestWatchFeedsWhatWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var mu sync.Mutex
		var said []string
		fault := errors.New("not yet")
		set := func(err error) { mu.Lock(); fault = err; mu.Unlock() }
		heard := func(word string) (n int) {
			mu.Lock()
			defer mu.Unlock()
			for _, s := range said {
				if strings.Contains(s, word) {
					n++
				}
			}
			said = nil
			return n
		}
		w := &watch{
			looks: []look{{"good", func(context.Context) error { return nil }}, {"part", func(context.Context) error {
				mu.Lock()
				defer mu.Unlock()
				return fault
			}}},
			status: func() string { return "fine" },
			notify: func(s string) { mu.Lock(); said = append(said, s); mu.Unlock() },
			every:  10 * time.Second, log: slog.New(slog.DiscardHandler),
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := w.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		at := func(wait time.Duration) { <-time.After(wait); synctest.Wait() }
		at(time.Second)
		if n := heard("WATCHDOG=1"); n != 0 {
			t.Errorf("a box that is not ready was fed %d times", n)
		}
		set(nil)
		at(time.Second)
		if n := heard("READY=1"); n != 1 {
			t.Errorf("ready was said %d times", n)
		}
		at(30 * time.Second)
		if n := heard("WATCHDOG=1\nSTATUS=fine"); n != 3 {
			t.Errorf("fed %d times in 30 s", n)
		}
		set(errors.New("stuck"))
		at(30 * time.Second)
		mu.Lock()
		last := said[len(said)-1]
		mu.Unlock()
		if n := heard("WATCHDOG"); n != 0 || last != "STATUS=part: stuck" {
			t.Errorf("a box that stands still was fed %d times, last said %q", n, last)
		}
		set(nil)
		at(time.Second)
		if n := heard("WATCHDOG=1"); n != 1 {
			t.Errorf("a box that works again was fed %d times in a second", n)
		}
		cancel()
		wg.Wait()
	})
}

// A disk that refuses for long is a reason to start again; one that is full, or
// that failed once, is none.
func TestWatchLooksAtTheDisk(t *testing.T) {
	now := time.Now()
	var err error
	d := disk{dir: t.TempDir(), stats: func() journal.Stats { return journal.Stats{Err: err} }, now: func() time.Time { return now }}
	for _, step := range []struct {
		err   error
		after time.Duration
		bad   bool
	}{
		{nil, 0, false},
		{errors.New("input/output error"), 0, false},
		{errors.New("input/output error"), faultGrace - time.Second, false},
		{errors.New("input/output error"), time.Second, true},
		{nil, time.Second, false},
		{errors.New("input/output error"), time.Second, false},
		{&journal.FullError{Class: event.Money}, time.Hour, false},
	} {
		err = step.err
		now = now.Add(step.after)
		if got := d.look(t.Context()); (got != nil) != step.bad {
			t.Errorf("%v after %s: %v", step.err, step.after, got)
		}
	}
}

// A port that takes connections and answers nothing is found, one that turns
// them away is not blamed.
func TestWatchAsksTheLAN(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := answers(ctx, l.Addr()); err == nil {
		t.Error("a port that says nothing was taken for one that answers")
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	})
	if err := answers(t.Context(), l.Addr()); err != nil {
		t.Errorf("a port that turns away: %v", err)
	}
	_ = l.Close()
	wg.Wait()
	if err := answers(t.Context(), l.Addr()); err == nil {
		t.Error("a closed port answers")
	}
}
