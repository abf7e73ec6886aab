package testpart

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"
)

// Patience is how long a test waits for anything: long, since a machine may be
// busy with other tests, and never waited out when all is well.
const Patience = 3 * time.Minute

// Until ends the test unless ok becomes true within [Patience]. It asks at once,
// and then every 2 ms.
func Until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(Patience)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatalf("not within %s: %s", Patience, what)
		case <-tick.C:
		}
	}
}

// Run starts a part and returns what ends and joins it, which the end of the
// test does if nobody did. An error of run fails the test.
func Run(t testing.TB, name string, run func(ctx context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(Patience):
			t.Errorf("%s did not end within %s", name, Patience)
		}
	})
	t.Cleanup(stop)
	return stop
}

// Log shows what is logged with -v, and fails the test on an error.
func Log(t testing.TB) *slog.Logger {
	h := slog.DiscardHandler
	if testing.Verbose() {
		h = slog.NewTextHandler(t.Output(), nil)
	}
	return slog.New(strict{h, t})
}

type strict struct {
	slog.Handler
	t testing.TB
}

func (s strict) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelError || s.Handler.Enabled(ctx, l)
}

func (s strict) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelError {
		s.t.Errorf("logged: %s", r.Message)
	}
	return s.Handler.Handle(ctx, r)
}
