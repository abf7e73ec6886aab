package main

import (
	"errors"
	"runtime"
	"sync"
)

// group is the group commit that peers get which bring none: one writer, and
// whoever waits joins the next batch. It is what the journal does, with the
// same bound on a batch and the same giving way to callers just answered.
type group struct {
	commit func(batch [][]byte) error
	filled chan struct{}
	wg     sync.WaitGroup

	mu      sync.Mutex // guards below
	waiting []request
	closed  bool
}

type request struct {
	payload []byte
	answer  chan error
}

const (
	groupEvents = 1024
	groupTurns  = 2
)

func newGroup(commit func(batch [][]byte) error) *group {
	g := &group{commit: commit, filled: make(chan struct{}, 1)}
	g.wg.Go(g.run)
	return g
}

func (g *group) put(payload []byte) error {
	r := request{payload, make(chan error, 1)}
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return errors.New("closed")
	}
	g.waiting = append(g.waiting, r)
	g.mu.Unlock()
	g.wake()
	return <-r.answer
}

func (g *group) wake() {
	select {
	case g.filled <- struct{}{}:
	default:
	}
}

func (g *group) run() {
	var batch []request
	var payloads [][]byte
	for {
		g.settle()
		g.mu.Lock()
		n := min(len(g.waiting), groupEvents)
		batch = append(batch[:0], g.waiting[:n]...)
		g.waiting = append(g.waiting[:0], g.waiting[n:]...)
		closed := g.closed
		g.mu.Unlock()
		if n == 0 {
			if closed {
				return
			}
			<-g.filled
			continue
		}
		payloads = payloads[:0]
		for _, r := range batch {
			payloads = append(payloads, r.payload)
		}
		err := g.commit(payloads)
		for _, r := range batch {
			r.answer <- err
		}
	}
}

func (g *group) settle() {
	for before, idle := 0, 0; idle < groupTurns; idle++ {
		runtime.Gosched()
		g.mu.Lock()
		n := len(g.waiting)
		g.mu.Unlock()
		if n > before {
			idle = -1
		}
		before = n
	}
}

// close waits until everything put was answered.
func (g *group) close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.wake()
	g.wg.Wait()
}
