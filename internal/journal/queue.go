package journal

import (
	"context"
	"runtime"
	"sync"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// A batch is bounded so that one commit stays short, and with it the wait of
// whoever comes next.
const (
	batchEvents = 1024
	batchBytes  = 1 << 20
)

// entry is one event on its way to disk.
type entry struct {
	event  *event.Event
	record []byte
	answer func(event.Receipt, error)
}

// queue is where callers meet the writer: many put, one takes.
//
//	Append ─┐
//	Append ─┼─► waiting ≤ QueueEvents, QueueBytes ─► take ─► ≤ 1 batch ─► commit
//	Enqueue ┘   (full: they wait for room)
type queue struct {
	maxEvents int
	maxBytes  int64
	maxBatch  int // bytes

	filled chan struct{} // capacity 1: something waits

	mu      sync.Mutex // guards below
	waiting []entry
	bytes   int64
	room    chan struct{} // closed when room was made; nil: nobody waits for it
	closed  bool
	woken   bool          // take returns, with nothing if need be
	asked   chan struct{} // closed by the next take; nil: nobody asks
	full    uint64        // how often a caller had to wait for room
}

func (q *queue) init(o Options) {
	q.maxEvents, q.maxBytes = o.QueueEvents, o.QueueBytes
	q.maxBatch = int(min(batchBytes, o.SegmentBytes))
	q.filled = make(chan struct{}, 1)
}

// put adds an entry, waiting for room until ctx ends.
func (q *queue) put(ctx context.Context, e entry) error {
	waited := false
	for {
		q.mu.Lock()
		if q.closed {
			q.mu.Unlock()
			return ErrClosed
		}
		// A single event larger than QueueBytes still gets its turn.
		if len(q.waiting) == 0 ||
			len(q.waiting) < q.maxEvents && q.bytes+int64(len(e.record)) <= q.maxBytes {
			q.waiting = append(q.waiting, e)
			q.bytes += int64(len(e.record))
			q.mu.Unlock()
			select {
			case q.filled <- struct{}{}:
			default:
			}
			return nil
		}
		if q.room == nil {
			q.room = make(chan struct{})
		}
		if !waited {
			q.full++
			waited = true
		}
		room := q.room
		q.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// take returns the next batch, waiting for one; an empty one after wake. When
// ctx ends it closes the queue, hands out what still waits, and then returns
// nothing.
func (q *queue) take(ctx context.Context, into []entry) []entry {
	for {
		if ctx.Err() != nil {
			q.close()
		}
		q.settle()
		q.mu.Lock()
		if q.asked != nil {
			close(q.asked)
			q.asked = nil
		}
		batch := into[:0]
		size := 0
		for _, e := range q.waiting {
			if len(batch) == batchEvents || len(batch) > 0 && size+len(e.record) > q.maxBatch {
				break
			}
			batch = append(batch, e)
			size += len(e.record)
		}
		n := copy(q.waiting, q.waiting[len(batch):])
		clear(q.waiting[n:])
		q.waiting = q.waiting[:n]
		q.bytes -= int64(size)
		if q.room != nil && len(batch) > 0 {
			close(q.room)
			q.room = nil
		}
		closed, woken := q.closed, q.woken
		q.woken = false
		q.mu.Unlock()
		if len(batch) > 0 || closed || woken {
			return batch
		}
		select {
		case <-q.filled:
		case <-ctx.Done():
		}
	}
}

// wake has the writer look up from waiting.
func (q *queue) wake() {
	q.mu.Lock()
	q.woken = true
	q.mu.Unlock()
	select {
	case q.filled <- struct{}{}:
	default:
	}
}

// settle lets callers that the last commit has just answered come back before
// the next batch is closed: it gives way as long as that brings more. Without
// it a batch of one is committed while the others are still waking up, and
// they share only every other commit.
func (q *queue) settle() {
	for before, idle := 0, 0; idle < settleTurns; {
		runtime.Gosched()
		n, _ := q.depth()
		if n > before {
			idle = 0
		} else {
			idle++
		}
		before = n
	}
}

const settleTurns = 2

// close refuses everything from now on; what waits stays to be taken.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	if q.room != nil {
		close(q.room)
		q.room = nil
	}
}

// ended reports whether the queue is closed and empty.
func (q *queue) ended() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed && len(q.waiting) == 0
}

// drain closes the queue and returns what waits.
func (q *queue) drain() []entry {
	q.close()
	q.mu.Lock()
	defer q.mu.Unlock()
	waiting := q.waiting
	q.waiting, q.bytes = nil, 0
	return waiting
}

func (q *queue) depth() (events int, bytes int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting), q.bytes
}

// seen returns once the writer has looked at the queue after the call.
func (q *queue) seen(ctx context.Context) error {
	q.mu.Lock()
	if q.asked == nil {
		q.asked = make(chan struct{})
	}
	asked := q.asked
	q.mu.Unlock()
	q.wake()
	select {
	case <-asked:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
