package daemon

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
)

// part is something long-lived: run blocks until ctx ends and returns only
// when nothing of it is left running.
type part struct {
	name string
	run  func(context.Context) error
}

// runStages runs all parts at once and stops them stage by stage: the first
// stage when ctx ends, each later one when every part before it has returned.
// So the listeners stop before the journal they write to. A part that ends
// with an error, or ends unasked, takes the rest down in the same order; the
// error says which part it was. fault is told before that begins, since what keeps
// the log ends, too.
func runStages(ctx context.Context, fault func(error), stages ...[]part) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)

	var (
		mu   sync.Mutex
		errs []error
	)
	report := func(err error) {
		fault(err)
		mu.Lock()
		errs = append(errs, err)
		mu.Unlock()
		fail(err)
	}

	// Each stage has a context of its own, because only its predecessor's end
	// may end it.
	stop := make([]context.CancelFunc, len(stages))
	done := make([]*sync.WaitGroup, len(stages))
	for i, stage := range stages {
		stageCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		stop[i], done[i] = cancel, new(sync.WaitGroup)
		for _, p := range stage {
			done[i].Go(func() {
				switch err := runGuarded(stageCtx, p); {
				case err != nil:
					report(fmt.Errorf("%s: %w", p.name, err))
				case stageCtx.Err() == nil:
					report(fmt.Errorf("%s: %w", p.name, errEndedUnasked))
				}
			})
		}
	}

	<-ctx.Done()
	for i := range stages {
		stop[i]()
		done[i].Wait()
	}
	mu.Lock()
	defer mu.Unlock()
	return errors.Join(errs...)
}

var errEndedUnasked = errors.New("ended although nobody asked it to")

// runGuarded turns a panic in a part's own goroutine into its error, so that
// the others still close what they hold.
func runGuarded(ctx context.Context, p part) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	return p.run(ctx)
}
