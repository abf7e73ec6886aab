package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// walk visits the batches of the segment in order, beginning with the one that
// holds from, in read transactions of bounded length. fn returns false to end.
// The batch lies in mapped memory and is valid inside fn only.
func (s *segment) walk(from event.Seq, fn func(first event.Seq, batch []byte) bool) error {
	before := event.Seq(0) // names only grow
	for more := true; more; {
		err := s.view(func(tx *bolt.Tx) error {
			var c batchCursor
			first, ok := c.seek(tx, from)
			for range walkBatches {
				if !ok {
					more = false
					return nil
				}
				if first <= before {
					return fmt.Errorf("%w: batch %d behind batch %d", ErrDamaged, first, before)
				}
				before = first
				if more = fn(first, c.batch()); !more {
					return nil
				}
				first, ok = c.next()
			}
			from, more = first, ok
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// batchCursor goes through the batches of a segment: those in the archive,
// then those in the root. It is valid inside one transaction.
type batchCursor struct {
	lists []*bolt.Bucket // still to come, the one c is in first
	c     *bolt.Cursor
	name  []byte
}

// seek goes to the batch that holds a seq: the last that begins at it or
// before, or else the first of all.
func (b *batchCursor) seek(tx *bolt.Tx, seq event.Seq) (first event.Seq, ok bool) {
	root := tx.Cursor().Bucket()
	all := []*bolt.Bucket{root}
	if archive := tx.Bucket(archiveBucket); archive != nil {
		all = []*bolt.Bucket{archive, root}
	}
	for i, list := range slices.Backward(all) {
		b.lists, b.c = all[i:], list.Cursor()
		k, _ := b.c.Seek(batchName(seq))
		if first, ok := batchFirst(k); ok && first == seq {
			return b.at(k)
		}
		if k == nil {
			k, _ = b.c.Last()
		} else {
			k, _ = b.c.Prev()
		}
		if _, ok := batchFirst(k); ok {
			return b.at(k)
		}
	}
	return b.begin()
}

// begin goes to the first batch of the first list that has any.
func (b *batchCursor) begin() (first event.Seq, ok bool) {
	for ; len(b.lists) > 0; b.lists = b.lists[1:] {
		b.c = b.lists[0].Cursor()
		k, _ := b.c.Seek(batchName(0))
		if first, ok := b.at(k); ok {
			return first, true
		}
	}
	return 0, false
}

func (b *batchCursor) next() (first event.Seq, ok bool) {
	k, _ := b.c.Next()
	if first, ok := b.at(k); ok {
		return first, true
	}
	b.lists = b.lists[1:]
	return b.begin()
}

func (b *batchCursor) at(name []byte) (first event.Seq, ok bool) {
	b.name = name
	return batchFirst(name)
}

// batch returns the records of the batch it is at; nil if they are gone.
func (b *batchCursor) batch() []byte {
	if bucket := b.lists[0].Bucket(b.name); bucket != nil {
		return bucket.Get(recordsKey)
	}
	return nil
}

const countSize = 4 // the number of records, in front of a batch

// newBatch returns an empty batch in buf's memory; closeBatch completes it.
func newBatch(buf []byte) []byte { return append(buf[:0], 0, 0, 0, 0) }

func closeBatch(batch []byte, count int) {
	binary.LittleEndian.PutUint32(batch, uint32(count))
}

// batchRecords visits the records of a batch in order. A damaged one is passed
// with its error; where its length is wrong too, so are all behind it. It
// returns the last seq of the batch.
func batchRecords(first event.Seq, batch []byte, fn func(seq event.Seq, record []byte, err error) bool) event.Seq {
	if len(batch) < countSize {
		fn(first, nil, errRecord)
		return first
	}
	count := binary.LittleEndian.Uint32(batch)
	if least := uint32(lengthSize + headSize); count == 0 || count > uint32(len(batch))/least {
		count = 1 // nonsense; the event the batch is named after was there
	}
	// The number has no checksum, the records have: where it and they differ, they
	// are right.
	last := first + event.Seq(count) - 1
	rest, whole := batch[countSize:], true
	for seq := first; seq <= last || len(rest) > 0; seq++ {
		if len(rest) == 0 && whole && seq > first {
			return seq - 1 // all of it was read
		}
		var record []byte
		var err error
		if record, rest, err = cut(rest); err == nil {
			err = verify(record, seq)
		}
		if whole = whole && err == nil; seq > last {
			if err != nil {
				break // no record
			}
			last = seq
		}
		if !fn(seq, record, err) {
			break
		}
	}
	return last
}

// read returns events of the segment from the seq from on, up to limit and
// within the bounds; at least one, or an error. A range at the front that
// cannot be read is a *LostError; one behind readable events ends the result.
func (s *segment) read(from, limit event.Seq, maxEvents, maxBytes int) ([]event.Event, error) {
	const usual = 256                                                                              // bytes of an event
	room := min(uint64(limit-from)+1, uint64(max(maxEvents, 0)), uint64(max(maxBytes, 0))/usual+1) //nolint:gosec // none is negative
	events := make([]event.Event, 0, room)
	var lost *LostError
	next := from
	full := func() bool { return len(events) >= maxEvents || maxBytes <= 0 }
	var epoch event.Epoch
	info, err := s.info()
	if err == nil {
		epoch = info.epoch
		err = s.walk(from, func(first event.Seq, batch []byte) bool {
			if first > limit {
				return false
			}
			if first > next { // a hole in the file
				if len(events) == 0 && lost == nil {
					lost = &LostError{From: next, To: min(first-1, limit), Err: info.hole()}
				}
				return false
			}
			batchRecords(first, batch, func(seq event.Seq, record []byte, err error) bool {
				if seq < next {
					return true
				}
				if seq > limit || full() {
					return false
				}
				var e event.Event
				if err == nil {
					e, err = decode(record, seq, epoch)
				}
				if err != nil {
					if len(events) > 0 {
						return false
					}
					if lost == nil {
						lost = &LostError{From: seq, Err: fmt.Errorf("%w: %w", ErrDamaged, err)}
					}
					lost.To = seq
					next = seq + 1
					return true
				}
				if lost != nil {
					return false
				}
				events = append(events, e)
				maxBytes -= weigh(&e)
				next = seq + 1
				return true
			})
			return lost == nil && !full() && next <= limit
		})
	}
	switch {
	case len(events) > 0:
		return events, nil // what is behind them is met by the next read
	case lost != nil:
		return nil, lost
	case err != nil && !isDamage(err):
		return nil, err
	}
	if err == nil { // the file ends early
		err = info.hole()
	}
	return nil, &LostError{From: from, To: limit, Err: err}
}

// scanned is what reading a whole segment tells.
type scanned struct {
	last    event.Seq // zero: no events
	newest  time.Time // of the last readable event
	bytes   int64     // of all records
	keys    keyIndex
	damaged []LostError
	rotten  bool // not all of damaged is what an earlier salvage did not find
}

// hole says why records are not in a file whose structure is sound.
func (a about) hole() error {
	if a.salvaged {
		return errSalvaged
	}
	return ErrDamaged
}

// scan reads the whole segment, verifying every record. An error says that it
// could not be read to its end; what was read until then is returned too.
func (s *segment) scan() (scanned, error) {
	r := scanned{keys: keyIndex{}}
	next := s.first
	info, err := s.info()
	if err != nil {
		return r, err
	}
	lose := func(from, to event.Seq, err error) {
		r.rotten = r.rotten || !errors.Is(err, errSalvaged)
		if n := len(r.damaged); n > 0 && r.damaged[n-1].To+1 == from {
			r.damaged[n-1].To = to
			return
		}
		r.damaged = append(r.damaged, LostError{From: from, To: to, Err: err})
	}
	err = s.walk(s.first, func(first event.Seq, batch []byte) bool {
		if first > next {
			lose(next, first-1, info.hole())
		}
		r.bytes += int64(len(batch))
		r.last = batchRecords(first, batch, func(seq event.Seq, record []byte, err error) bool {
			if err != nil {
				lose(seq, seq, err)
				return true
			}
			if key := field(record, tagDedupKey); key != nil {
				r.keys.add(hashKey(key), seq)
			}
			if at := field(record, tagTime); at != nil {
				r.newest = getTime(at)
			}
			return true
		})
		next = r.last + 1
		return true
	})
	return r, err
}
