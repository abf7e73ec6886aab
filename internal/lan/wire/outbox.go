package wire

import (
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	// writeSize is how much is written at once, in bytes: frames that wait are
	// put together up to it.
	writeSize = 64 << 10

	// highWater is how much may wait, in bytes, before whoever adds to it has
	// to write: a producer is never faster than the kernel for long.
	highWater = 32 << 10

	// keepSlots is how many slots of an empty queue are kept.
	keepSlots = 8
)

// outbox is what waits to be written to one connection. Writing never blocks
// the caller: what the kernel does not take waits here, and a goroutine, which
// lives as long as it waits, writes it when the kernel has room.
//
//	add ─► [ queue: frames, shared with other outboxes ] ─ flush ─► kernel
//	                                │ the kernel is full
//	                                └─ stalled ─ drain, waiting ──► kernel
//
// What is written by one at a time, in the order it was added. Safe for
// concurrent use.
type outbox struct {
	hub  *Hub
	conn net.Conn
	raw  syscall.RawConn
	seal *seal // nil: no TLS

	turn    sync.Mutex            // held by who writes what the kernel takes at once; taken before writing
	writing sync.Mutex            // held by who writes, drain for as long as it waits; guards the next group
	attempt func(fd uintptr) bool // try; made when something is written
	bytes   []byte                // what is to be written
	n       int                   // what of it was
	err     error
	patient bool // wait for the kernel

	mu        sync.Mutex // guards below; taken after writing
	queue     [][]byte   // frames, oldest first, which nobody changes
	rest      []byte     // of what was written in part, sealed if there is TLS; before the queue
	size      int        // bytes in queue and rest
	stalled   bool       // a goroutine waits for the kernel
	crowded   bool       // more than half of what may wait does, and the owner was told
	scheduled bool       // a flusher will come by
	closed    bool       // takes nothing more

	next *outbox // in a batch or the hub's list; of who scheduled it
}

// What is to be done about a frame that was added.
type todo int

const (
	nothing  todo = iota // somebody else writes it, or it was dropped
	schedule             // have a flusher come by
	flush                // write
)

// add queues a frame that is to be written later, or else by the caller.
func (o *outbox) add(frame []byte, later bool) todo {
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return nothing
	}
	o.queue = append(o.queue, frame)
	o.size += len(frame)
	if o.stalled {
		over := o.size > o.hub.cfg.MaxBacklog
		behind := o.size > o.hub.cfg.MaxBacklog/2 && !o.crowded
		o.crowded = o.crowded || behind
		if over {
			o.discard()
		}
		o.mu.Unlock()
		switch {
		case over:
			o.hub.drop(o.conn, Overflow)
			_ = o.conn.Close()
		case behind:
			o.hub.cfg.OnBacklog()
		}
		return nothing
	}
	defer o.mu.Unlock()
	switch {
	case !later || o.size >= highWater:
		return flush
	case o.scheduled:
		return nothing
	}
	o.scheduled = true
	return schedule
}

// send queues frames and writes them as far as the kernel takes them.
func (o *outbox) send(frames ...[]byte) {
	for _, frame := range frames {
		o.add(frame, false)
	}
	o.flush()
}

// flush writes what waits, as far as the kernel takes it. If somebody else is
// writing they go on with it, unless it is too much. It never waits for drain.
func (o *outbox) flush() {
	for waiting, full := o.pending(); waiting; waiting, full = o.pending() {
		if full {
			o.turn.Lock()
		} else if !o.turn.TryLock() {
			return // who writes looks again
		}
		if o.writing.TryLock() { // else it has stalled since
			o.write()
			o.writing.Unlock()
		}
		o.turn.Unlock()
	}
}

// pending reports whether there is something to write, and much of it.
func (o *outbox) pending() (waiting, full bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.size > 0 && !o.stalled, o.size >= highWater
}

// scheduledFlush is what a flusher does.
func (o *outbox) scheduledFlush() {
	o.mu.Lock()
	o.scheduled = false
	o.mu.Unlock()
	o.flush()
}

// write writes once; o.writing is held.
func (o *outbox) write() {
	scratch := o.hub.scratch.Get().(*[]byte)
	defer o.hub.scratch.Put(scratch)
	o.mu.Lock()
	if o.stalled || o.size == 0 {
		o.mu.Unlock()
		return
	}
	b, sealed := o.take((*scratch)[:0])
	o.mu.Unlock()
	b, err := o.cover(b, sealed)
	if err != nil {
		o.fail()
		return
	}
	if n, err := o.push(b, false); err != nil {
		o.fail()
	} else if n < len(b) {
		o.stall(b[n:])
	}
}

// take removes what is to be written next, at most about writeSize, and returns
// it, in scratch unless it is a single piece. What is sealed already comes alone.
// o.mu is held.
func (o *outbox) take(scratch []byte) (b []byte, sealed bool) {
	switch {
	case o.rest != nil && o.seal != nil:
		b, o.rest = o.rest, nil
		o.size -= len(b)
		return b, true
	case o.rest == nil && len(o.queue) == 1:
		b = o.queue[0]
		o.shift(1)
		o.size -= len(b)
		return b, false
	}
	scratch = append(scratch, o.rest...)
	o.rest = nil
	n := 0
	for _, frame := range o.queue {
		if len(scratch) > 0 && len(scratch)+len(frame) > writeSize {
			break
		}
		scratch = append(scratch, frame...)
		n++
	}
	o.shift(n)
	o.size -= len(scratch)
	return scratch, false
}

// cover returns what goes over the wire for b. o.writing is held.
func (o *outbox) cover(b []byte, sealed bool) ([]byte, error) {
	if o.seal == nil || sealed {
		return b, nil
	}
	return o.seal.records(b)
}

func (o *outbox) shift(n int) {
	left := copy(o.queue, o.queue[n:])
	clear(o.queue[left:])
	o.queue = o.queue[:left]
	if left == 0 && cap(o.queue) > keepSlots {
		o.queue = nil
	}
}

// push writes b as far as the kernel takes it; patient, it waits until the
// kernel takes something.
// o.writing is held.
func (o *outbox) push(b []byte, patient bool) (int, error) {
	if o.attempt == nil {
		o.attempt = o.try
	}
	o.bytes, o.n, o.err, o.patient = b, 0, nil, patient
	err := o.raw.Write(o.attempt)
	o.bytes = nil
	return o.n, errors.Join(err, o.err)
}

// try writes what the kernel takes; false: call again when it may take some.
func (o *outbox) try(fd uintptr) bool {
	for o.n < len(o.bytes) {
		n, err := writeNow(fd, o.bytes[o.n:])
		switch {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EAGAIN):
			return !o.patient || o.n > 0
		case err != nil:
			o.err = err
			return true
		default:
			o.n += n
			if !o.patient {
				return true
			}
		}
	}
	return true
}

// stall keeps what the kernel did not take and has it written when it may be.
func (o *outbox) stall(rest []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	o.rest = append([]byte(nil), rest...)
	o.size += len(rest)
	o.stalled = true
	o.hub.stalls.Add(1)
	if !o.hub.start(o.drain) {
		o.discard()
	}
}

// drain writes until nothing waits any more. Only when it has let go of writing
// others may write again.
func (o *outbox) drain() {
	for stalled := true; stalled; {
		o.drainAll()
		o.mu.Lock()
		o.stalled = o.size > 0 // what came since
		stalled = o.stalled
		o.mu.Unlock()
	}
}

func (o *outbox) drainAll() {
	o.writing.Lock()
	defer o.writing.Unlock()
	scratch := make([]byte, 0, writeSize)
	for {
		o.mu.Lock()
		if o.size == 0 {
			o.mu.Unlock()
			_ = o.conn.SetWriteDeadline(time.Time{})
			return
		}
		plain, sealed := o.take(scratch[:0])
		o.size += len(plain) // it waits until it is written
		o.mu.Unlock()
		b, err := o.cover(plain, sealed)
		if err != nil {
			o.giveUp(err)
			return
		}
		o.mu.Lock()
		o.size += len(b) - len(plain)
		o.mu.Unlock()
		for len(b) > 0 {
			_ = o.conn.SetWriteDeadline(time.Now().Add(o.hub.cfg.WriteTimeout))
			n, err := o.push(b, true)
			if err != nil {
				o.giveUp(err)
				return
			}
			b = b[n:]
			o.mu.Lock()
			o.size -= min(n, o.size)
			if o.size <= o.hub.cfg.MaxBacklog/2 {
				o.crowded = false
			}
			o.mu.Unlock()
		}
	}
}

// giveUp ends a connection that could not be written to.
func (o *outbox) giveUp(err error) {
	o.mu.Lock()
	over := o.closed // somebody else did
	o.discard()
	o.mu.Unlock()
	if !over && errors.Is(err, os.ErrDeadlineExceeded) {
		o.hub.drop(o.conn, Stalled)
	}
	_ = o.conn.Close()
}

// fail gives the connection up; its reader notices and ends it.
func (o *outbox) fail() {
	o.mu.Lock()
	o.discard()
	o.mu.Unlock()
	_ = o.conn.Close()
}

// discard takes nothing more and forgets what waits. o.mu is held.
func (o *outbox) discard() {
	o.closed = true
	o.queue, o.rest, o.size = nil, nil, 0
}

// close writes what the kernel takes at once and closes the connection.
func (o *outbox) close() {
	o.flush()
	o.fail()
}

// waiting returns how many bytes wait to be written.
func (o *outbox) waiting() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.size
}
