package lan

import (
	"context"
	"sync"
)

// jobs runs short tasks in the order they came in, on one goroutine: answers
// to clients, goodbyes, closes. Adding never blocks, since the journal's writer
// and the library's listeners add to it and must not wait. It needs no bound of
// its own: a session has at most one answer task queued (its events are bounded
// by its gate), one close and one goodbye.
type jobs struct {
	wake chan struct{} // one entry while there is work

	mu    sync.Mutex // guards below
	queue []func()
}

func newJobs() *jobs { return &jobs{wake: make(chan struct{}, 1)} }

func (j *jobs) add(f func()) {
	j.mu.Lock()
	j.queue = append(j.queue, f)
	j.mu.Unlock()
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// run runs what is added until ctx ends.
func (j *jobs) run(ctx context.Context, guard func(string, func())) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-j.wake:
		}
		j.mu.Lock()
		queue := j.queue
		j.queue = nil
		j.mu.Unlock()
		for _, f := range queue {
			guard("job", f)
		}
	}
}
