package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// writer is the state of the one goroutine that writes events.
type writer struct {
	next    event.Seq // of the next event to store
	active  *segment  // nil: begin a new one first
	full    bool      // active has reached its size
	keys    keyIndex  // of the active segment
	newest  time.Time // of the last event in it
	records int64     // bytes of records in it

	// rescue holds acknowledged events that a failed segment no longer
	// returns; they open the next one.
	rescue []event.Event

	unmeasured int64     // bytes stored since the room was measured
	measured   time.Time // when it was

	batch []byte // reused
}

// leave lets go of the active segment: the next event opens a new one.
func (w *writer) leave() {
	if w.active != nil {
		w.active.writing.Store(false)
	}
	w.active, w.full, w.keys, w.newest, w.records = nil, false, nil, time.Time{}, 0
}

// Run stores what Append and Enqueue bring, and trims. When ctx ends it stores
// and answers what was queued by then, refuses the rest with ErrClosed and
// returns nil. Disk errors do not end it: the waiting callers get them, and
// Stats tells, until a commit succeeds again.
func (j *Journal) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { j.trimLoop(ctx) })
	batch := make([]entry, 0, batchEvents)
	for {
		batch = j.queue.take(ctx, batch)
		if len(batch) == 0 && j.queue.ended() {
			break
		}
		if s := j.writer.active; s != nil && s.suspect.Load() {
			j.abandon(fmt.Errorf("%w: met while reading", ErrDamaged))
		}
		if len(batch) > 0 {
			j.commit(batch)
			clear(batch)
		}
	}
	wg.Wait()
	j.finish()
	return nil
}

// Alive returns nil once the writer has come back from its disk and looked for
// work after the call, and the error of ctx if it does not: it is stuck, or
// nobody runs it. Nothing is written for it. Safe for concurrent use.
func (j *Journal) Alive(ctx context.Context) error { return j.queue.seen(ctx) }

// outcome is what became of one entry of a batch.
type outcome struct {
	seq   event.Seq // stored here, if not zero
	same  int       // else: a repeat of this entry of the batch, if not negative
	first event.Receipt
	err   error
}

// commit stores one batch and answers it.
//
//	records, one bucket → pages, fdatasync → meta page, fdatasync
//	                                                       ◄── COMMIT POINT
//	→ tail, Stored, followers → answers
//
// A crash before the commit point: none of the batch is there, nobody was
// answered. After it: all of it is there, and whoever was not answered asks
// again and gets the same receipt, if the event carries a key.
func (j *Journal) commit(batch []entry) {
	w := &j.writer
	j.commits.start()
	defer j.commits.stop()
	level := j.look(0)
	// A segment that takes up a whole cap is let go of only as an older one.
	if level < LevelFull || w.full && j.capped() {
		if err := j.ready(); err != nil {
			j.refuse(batch, err)
			return
		}
	}
	room := j.allowance()
	outcomes := make([]outcome, len(batch))
	inBatch := map[string]int{}
	buf := newBatch(w.batch)
	seq := w.next
	for i, e := range batch {
		o := &outcomes[i]
		o.same = -1
		if key := e.event.DedupKey; key != "" {
			if at, ok := inBatch[key]; ok {
				o.same = at
				o.err = sameEvent(batch[at].event, e.event)
				continue
			}
			before, err := j.findKey(key)
			if before != nil {
				o.first, o.err = duplicate(before), sameEvent(before, e.event)
				continue
			}
			if err != nil {
				o.err = fmt.Errorf("look up idempotency key: %w", err)
				continue
			}
		}
		if class := e.event.Class; level.Refuses(class) || !room.take(len(e.record)) {
			o.err = j.deny(class)
			continue
		}
		if key := e.event.DedupKey; key != "" {
			inBatch[key] = i
		}
		stamp(e.record, seq)
		buf = append(buf, e.record...)
		o.seq = seq
		seq++
	}
	w.batch = buf
	if seq > w.next {
		closeBatch(buf, int(seq-w.next))
		size, err := w.active.append(w.next, buf)
		if err != nil {
			err = fmt.Errorf("store events: %w", err)
			j.setUnwell(err)
			j.abandon(err)
			// The next segment's name makes the batch void. Without one, after
			// a restart, what is refused here might be there all the same.
			_ = j.ready() // it tells Stats; the next batch tries again
			j.refuse(batch, err)
			return
		}
		w.full = j.o.full(size+int64(len(buf)), int64(seq-w.active.first))
		w.records += int64(len(buf))
		w.active.noteGrowth()
		j.publish(batch, outcomes)
		j.look(len(buf))
	}
	answer(batch, outcomes)
}

// publish makes a committed batch visible.
func (j *Journal) publish(batch []entry, outcomes []outcome) {
	w := &j.writer
	count := 0
	for i, o := range outcomes {
		if o.seq == 0 {
			continue
		}
		e := batch[i].event
		e.Seq, e.Epoch = o.seq, w.active.about.epoch
		if e.DedupKey != "" {
			w.keys.add(hashKey(e.DedupKey), e.Seq)
		}
		if !e.Time.IsZero() {
			w.newest = e.Time
		}
		j.tail.add(e)
		w.next = e.Seq + 1
		count++
	}
	j.mu.Lock()
	j.counts.Commits++
	j.counts.Events += uint64(count)
	if j.unwell != nil {
		j.o.Log.Info("journal stores events again")
		j.unwell = nil
	}
	j.mu.Unlock()
	j.stored.Store(uint64(w.next - 1))
	j.tail.announce()
}

func answer(batch []entry, outcomes []outcome) {
	for i, o := range outcomes {
		e := batch[i]
		switch {
		case o.err != nil:
			e.answer(event.Receipt{}, o.err)
		case o.seq != 0:
			e.answer(receipt(e.event), nil)
		case o.same >= 0:
			e.answer(duplicate(batch[o.same].event), nil)
		default:
			e.answer(o.first, nil)
		}
	}
}

func refuse(batch []entry, err error) {
	for _, e := range batch {
		e.answer(event.Receipt{}, err)
	}
}

func receipt(e *event.Event) event.Receipt {
	return event.Receipt{ID: e.ID, Epoch: e.Epoch, Seq: e.Seq, Time: e.Time}
}

func duplicate(first *event.Event) event.Receipt {
	r := receipt(first)
	r.Duplicate = true
	return r
}

func sameEvent(first, again *event.Event) error {
	if first.Digest != again.Digest {
		return fmt.Errorf("%w: %s", ErrKeyReuse, first.ID)
	}
	return nil
}

// findKey returns the kept event with the key, nil if there is none. An error
// says that it cannot be known now, and a retry may: storing the event would
// risk to have it twice. Damaged content cannot be known ever; then the event
// is taken to be new, because refusing all with a key for good is worse.
func (j *Journal) findKey(key string) (*event.Event, error) {
	hash := hashKey(key)
	among := func(seqs []event.Seq) (*event.Event, error) {
		for _, seq := range seqs {
			e, err := j.event(seq)
			if err == nil && e.DedupKey == key {
				return &e, nil
			}
			if err != nil && !errors.Is(err, ErrNotFound) && !isLost(err) {
				return nil, err
			}
		}
		return nil, nil
	}
	if e, err := among(j.writer.keys[hash]); e != nil || err != nil {
		return e, err
	}
	j.mu.RLock()
	segments := j.segments
	j.mu.RUnlock()
	for i, s := range segments {
		if s == j.writer.active {
			continue
		}
		seqs, err := s.candidates(hash)
		switch {
		case err == nil:
			if e, err := among(seqs); e != nil || err != nil {
				return e, err
			}
		case errors.Is(err, errTrimmed):
		case isDamage(err) && j.mend(s):
			return j.findKey(key)
		case isDamage(err):
			last := j.writer.next - 1
			if i+1 < len(segments) {
				last = segments[i+1].first - 1
			}
			j.reportLost(&LostError{From: s.first, To: last, Err: err})
		default:
			return nil, err
		}
	}
	return nil, nil
}

// ready makes sure that there is a segment to append to, beginning a new one
// when the active one is full or none is left.
func (j *Journal) ready() error {
	w := &j.writer
	if w.active != nil && !w.full {
		return nil
	}
	if w.active != nil {
		s := w.active
		if err := s.seal(w.next-1, w.newest, w.keys); err != nil {
			err = fmt.Errorf("seal segment %d: %w", s.first, err)
			j.setUnwell(err)
			j.abandon(err)
		} else {
			w.leave()
			if err := s.release(); err != nil {
				j.o.Log.Warn("close sealed segment", "first", s.first, "err", err)
			}
			select {
			case j.trims <- struct{}{}:
			default:
			}
		}
	}
	if err := j.beginSegment(); err != nil {
		j.setUnwell(err)
		return err
	}
	return nil
}

// beginSegment opens a new segment at the writer's position, or at the first
// of the events to rescue.
func (j *Journal) beginSegment() error {
	w := &j.writer
	first := w.next
	if len(w.rescue) > 0 {
		first = w.rescue[0].Seq
	}
	s, err := createSegment(j.dir, first, j.epoch, j.o.mapped(), &j.pool, &j.disk)
	if err != nil {
		return err
	}
	j.mu.Lock()
	if n := len(j.segments); n > 0 && j.segments[n-1].first == first {
		// The one before failed before it held anything that counts; its file
		// has just been replaced.
		old := j.segments[n-1]
		j.segments = append(slices.Clone(j.segments[:n-1]), s) // others may hold the list
		defer func() {
			j.pool.forget(old)
			old.kill(errTrimmed)
		}()
	} else {
		j.segments = append(j.segments, s)
	}
	j.mu.Unlock()
	w.leave()
	w.active, w.keys = s, keyIndex{}
	s.writing.Store(true)
	if err := j.meta.setNewest(first); err != nil {
		// Only a hint for the next start, which does without it.
		j.o.Log.Warn("note newest segment", "err", err)
	}
	return j.writeRescued()
}

// writeRescued stores once more what a failed segment lost, at the same seqs.
func (j *Journal) writeRescued() error {
	w := &j.writer
	for len(w.rescue) > 0 {
		n := min(len(w.rescue), batchEvents)
		buf := newBatch(w.batch)
		for i, e := range w.rescue[:n] {
			record, err := encode(&e)
			if err != nil {
				return err
			}
			stamp(record, e.Seq)
			buf = append(buf, record...)
			if len(buf) > batchBytes {
				n = i + 1
				break
			}
		}
		closeBatch(buf, n)
		w.batch = buf
		if _, err := w.active.append(w.rescue[0].Seq, buf); err != nil {
			s := w.active
			w.leave() // what of it is stored is read from here on, see abandon
			return fmt.Errorf("store rescued events: %w", errors.Join(err, s.release()))
		}
		for _, e := range w.rescue[:n] {
			if e.DedupKey != "" {
				w.keys.add(hashKey(e.DedupKey), e.Seq)
			}
			w.newest = e.Time
		}
		w.rescue = w.rescue[n:]
	}
	return nil
}

// abandon gives up the active segment after a failed write, or when damage was
// met in it. What the kernel says about such a file from then on is not to be
// trusted (a second fsync may succeed without the data being there), so it is
// never written again. It is opened anew for reading, and read through:
// acknowledged events that it does not return come from memory, or by salvage.
// The batch that failed is void, whether it reached the disk or not: the next
// segment's name says where history goes on.
func (j *Journal) abandon(cause error) {
	w := &j.writer
	s := w.active
	j.o.Log.Error("segment abandoned", "first", s.first, "err", cause)
	s.keysMu.Lock()
	s.keys = w.keys
	s.keysMu.Unlock()
	if err := s.release(); err != nil {
		j.o.Log.Warn("close failed segment", "first", s.first, "err", err)
	}
	r, err := s.scan()
	// Now others may salvage it, but not before it is settled here what is gone.
	j.trimming.Lock()
	w.leave()
	have := r.last
	if len(r.damaged) > 0 {
		have = r.damaged[0].From - 1
	}
	have = max(have, s.first-1)
	if have >= w.next-1 || j.rescueFrom(have) {
		j.trimming.Unlock()
		return
	}
	_, report, salvageErr := j.replaceSalvaged(s, w.next-1, 0)
	j.trimming.Unlock()
	if salvageErr == nil { // it is known what is gone, as with any other segment
		for _, lost := range report.Lost {
			from := lost.From
			if held := j.tail.oldest(); held <= lost.To { // memory may have the end of the range
				from = max(from, held)
			}
			if j.rescueFrom(from - 1) {
				break
			}
		}
		return
	}
	err = errors.Join(cause, err, &LostError{From: have + 1, To: w.next - 1})
	if err := j.beginEpoch(err); err != nil {
		j.o.Log.Error("begin epoch", "err", err)
	}
}

// rescueFrom takes the events behind have that were acknowledged from memory,
// to be stored once more; false if memory does not reach back that far.
func (j *Journal) rescueFrom(have event.Seq) bool {
	w := &j.writer
	events, ok := j.tail.read(have, w.next-1, tailEvents, tailBytes*2)
	if !ok || len(events) == 0 || events[len(events)-1].Seq != w.next-1 {
		return false
	}
	w.rescue = events
	j.o.Log.Warn("rescue events of a failed segment", "from", have+1, "to", w.next-1)
	return true
}

func (j *Journal) setUnwell(err error) {
	if isFull(err) { // no fault: it is a level, and passes
		j.diskFull()
		return
	}
	err = explain(err, j.dir)
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.unwell == nil {
		j.o.Log.Error("journal cannot store events", "err", err)
	}
	j.unwell = err
}
