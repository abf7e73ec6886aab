package journal

import (
	"context"
	"sync"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// The tail keeps the last committed events in memory, so that followers that
// keep up never touch the disk.
const (
	tailEvents = 4096
	tailBytes  = 4 << 20
)

type tail struct {
	mu    sync.RWMutex // guards below
	ring  []event.Event
	first event.Seq // of the oldest event held
	next  event.Seq // one behind the newest
	bytes int

	news chan struct{} // closed when events were added; nil: nobody waits
}

func (t *tail) init(next event.Seq) {
	t.ring = make([]event.Event, tailEvents)
	t.first, t.next = next, next
}

func (t *tail) slot(seq event.Seq) *event.Event { return &t.ring[seq%tailEvents] }

// add appends one event and lets go of the oldest beyond the bounds. It wakes
// nobody: see announce.
func (t *tail) add(e *event.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.Seq != t.next { // history was lost in between
		clear(t.ring)
		t.first, t.next, t.bytes = e.Seq, e.Seq, 0
	}
	for t.first < t.next && (t.next-t.first == tailEvents || t.bytes > tailBytes) {
		old := t.slot(t.first)
		t.bytes -= weigh(old)
		*old = event.Event{}
		t.first++
	}
	*t.slot(e.Seq) = *e
	t.bytes += weigh(e)
	t.next++
}

// announce wakes everyone in wait.
func (t *tail) announce() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.news != nil {
		close(t.news)
		t.news = nil
	}
}

// read returns the events behind after; false if the tail does not reach back
// that far.
func (t *tail) read(after, stored event.Seq, maxEvents, maxBytes int) ([]event.Event, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if after+1 < t.first || after+1 >= t.next {
		return nil, false
	}
	n := min(int(min(stored, t.next-1)-after), maxEvents)
	events := make([]event.Event, 0, n)
	for seq := after + 1; len(events) < n && (maxBytes > 0 || len(events) == 0); seq++ {
		e := t.slot(seq)
		events = append(events, *e)
		maxBytes -= weigh(e)
	}
	return events, true
}

// oldest returns the seq of the oldest event held.
func (t *tail) oldest() event.Seq {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.first
}

// wait returns when news come or ready is true already.
func (t *tail) wait(ctx context.Context, closed <-chan struct{}, ready func() bool) error {
	for {
		t.mu.Lock()
		if ready() {
			t.mu.Unlock()
			return nil
		}
		if t.news == nil {
			t.news = make(chan struct{})
		}
		news := t.news
		t.mu.Unlock()
		select {
		case <-news:
		case <-closed:
			if ready() {
				return nil
			}
			return ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
