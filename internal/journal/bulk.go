package journal

import (
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// bulk fills a segment that nobody reads yet with records that have their seqs.
// One goroutine owns it.
type bulk struct {
	segment *segment
	most    int64 // bytes of a batch, about

	keys   keyIndex
	newest time.Time
	last   event.Seq
	size   int64 // of the file, with the last batch; at least

	batch []byte
	first event.Seq // of batch
	count int
}

func newBulk(s *segment, most int64) *bulk { return &bulk{segment: s, most: most, keys: keyIndex{}} }

// settle commits the batch if next cannot be in it.
func (b *bulk) settle(next event.Seq) error {
	if b.count == batchEvents || int64(len(b.batch)) > b.most || b.count > 0 && next != b.last+1 {
		return b.flush()
	}
	return nil
}

// add takes a record, for which settle made room. It is copied as it is.
func (b *bulk) add(seq event.Seq, record []byte) {
	if b.count == 0 {
		b.batch, b.first = newBatch(b.batch), seq
	}
	b.batch = append(b.batch, record...)
	b.count++
	b.last = seq
	if key := field(record, tagDedupKey); key != nil {
		b.keys.add(hashKey(key), seq)
	}
	if at := field(record, tagTime); at != nil {
		b.newest = getTime(at)
	}
}

// flush commits the batch.
func (b *bulk) flush() error {
	if b.count == 0 {
		return nil
	}
	closeBatch(b.batch, b.count)
	size, err := b.segment.append(b.first, b.batch)
	b.size, b.count = size+int64(len(b.batch)), 0
	return err
}

// seal completes the segment, which ends with last.
func (b *bulk) seal(last event.Seq) error {
	if err := b.flush(); err != nil {
		return err
	}
	return b.segment.seal(last, b.newest, b.keys)
}
