package journal

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"

	bolt "go.etcd.io/bbolt"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// Report is what Check found.
type Report struct {
	Dir      string
	Epoch    event.Epoch // of the newest segment
	First    event.Seq   // oldest event kept; zero: none
	Stored   event.Seq   // newest event
	Events   uint64      // readable and sound
	Segments []SegmentReport
	Problems []string    // of meta.db and between segments
	Known    []KnownLoss // losses that Repair has reported
}

// SegmentReport is what Check found in one segment.
type SegmentReport struct {
	Path   string
	Epoch  event.Epoch
	First  event.Seq // by its name
	Last   event.Seq // of the events that count; First-1: it has none
	Sealed bool
	Bytes  int64 // on disk
	Events uint64
	Lost   []LostError // ranges that are damaged or missing
	Err    error       // why it could not be opened or read to its end; nil: it could
}

// OK reports whether nothing is wrong. Losses that are known are not: they are
// as they were when Repair reported them.
func (r *Report) OK() bool {
	for _, s := range r.Segments {
		if s.Err != nil {
			return false
		}
	}
	return len(r.NewLosses()) == 0 && len(r.Problems) == 0
}

// Check reads through a whole journal that no process has open, and changes
// nothing: every segment, every record's checksum, every seq, every key table,
// and the journal's state. An error says that it could not be checked at all:
// ErrMissing, a *LockedError, an *AccessError.
func Check(dir string) (Report, error) { return CheckWithProgress(dir, nil) }

// CheckWithProgress is Check for someone who watches.
func CheckWithProgress(dir string, p Progress) (Report, error) {
	r, err := check(dir, p)
	if err != nil {
		return r, fmt.Errorf("check journal %s: %w", dir, explain(err, dir))
	}
	return r, nil
}

func check(dir string, p Progress) (Report, error) {
	r := Report{Dir: dir}
	if found, err := present(dir); err != nil {
		return r, err
	} else if !found {
		return r, ErrMissing
	}
	lock, err := shareLock(dir)
	if err != nil {
		return r, err
	}
	if lock != nil {
		defer lock.Close()
	}
	segments, _, err := listSegments(dir, &pool{})
	if err != nil {
		return r, err
	}
	for i, s := range segments {
		p.tell(uint64(s.first-segments[0].first), uint64(segments[len(segments)-1].first-segments[0].first))
		var limit event.Seq
		if i+1 < len(segments) {
			limit = segments[i+1].first - 1
		}
		sr := s.check(limit)
		r.Segments = append(r.Segments, sr)
		r.Events += sr.Events
		r.Epoch = sr.Epoch
		r.Stored = max(r.Stored, sr.Last)
		if i == 0 {
			r.First = s.first
		}
	}
	r.checkMeta(dir)
	return r, nil
}

// check reads the segment through. limit is the last seq it should hold; zero
// for the newest segment, whose end nobody else knows.
func (s *segment) check(limit event.Seq) SegmentReport {
	r := SegmentReport{Path: s.path, First: s.first, Last: s.first - 1, Bytes: diskBytes(s.path)}
	defer func() { _ = s.release() }() // only read
	scan, err := s.scan()
	if a, aboutErr := s.info(); aboutErr == nil {
		r.Epoch, r.Sealed = a.epoch, a.sealed
		if limit == 0 && a.sealed {
			limit = a.last
		}
		if err == nil && a.sealed {
			err = s.checkSeal(a, &scan)
		}
		if err == nil && !a.sealed {
			err = s.view(func(tx *bolt.Tx) error {
				if tx.Bucket(aboutBucket).Get(keysKey) != nil {
					return fmt.Errorf("%w: seal", ErrDamaged)
				}
				return nil
			})
		}
		if err == nil {
			err = errors.Join(s.file.checkMetas(), s.file.checkPages())
		}
	}
	r.Err = err
	r.Last = max(r.Last, scan.last)
	if limit > 0 {
		r.Last = min(r.Last, limit) // what is behind it is void
	}
	for _, lost := range scan.damaged {
		if lost.From <= r.Last {
			lost.To = min(lost.To, r.Last)
			r.Lost = append(r.Lost, lost)
		}
	}
	r.Events = uint64(r.Last + 1 - r.First)
	for _, lost := range r.Lost {
		r.Events -= uint64(lost.To - lost.From + 1)
	}
	if limit > r.Last {
		r.Lost = append(r.Lost, LostError{From: r.Last + 1, To: limit, Err: err})
		r.Last = limit
	}
	return r
}

// checkSeal compares what the segment was sealed with to what is in it.
func (s *segment) checkSeal(a about, scan *scanned) error {
	if end := max(scan.last, s.first-1); a.last < end || a.last > end && !a.salvaged {
		return fmt.Errorf("%w: it was sealed at %d and ends at %d", ErrDamaged, a.last, scan.last)
	}
	if len(scan.damaged) > 0 {
		return nil // its keys cannot all be known
	}
	return s.view(func(tx *bolt.Tx) error {
		b := tx.Bucket(aboutBucket)
		want := scan.keys.table()
		table, err1 := getSum(b, keysKey)
		bloom, err2 := getSum(b, filterKey)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		if !bytes.Equal(table, want) || !bytes.Equal(bloom, newFilter(want)) {
			return fmt.Errorf("%w: key table does not match the records", ErrDamaged)
		}
		return nil
	})
}

func (r *Report) checkMeta(dir string) {
	problem := func(format string, args ...any) { r.Problems = append(r.Problems, fmt.Sprintf(format, args...)) }
	f, err := openBolt(filepath.Join(dir, metaName), readFile, 0, nil)
	if err != nil {
		problem("%s: %v", metaName, err)
		return
	}
	defer f.close()
	if err := f.checkMetas(); err != nil {
		problem("%s: %v", metaName, err)
	}
	m := meta{}
	if err := f.view(func(tx *bolt.Tx) error {
		// Visit every page: spaces of other parts too.
		r.Known = readKnown(tx)
		return errors.Join(m.load(tx), tx.ForEach(func(_ []byte, b *bolt.Bucket) error {
			return b.ForEach(func(key, stored []byte) error {
				_, err := checkSum(key, stored)
				return err
			})
		}))
	}); err != nil {
		problem("%s: %v", metaName, err)
		return
	}
	for name, err := range m.damaged {
		problem("cursor %s: %v", name, err)
	}
	if err := f.checkPages(); err != nil {
		problem("%s: %v", metaName, err)
	}
	for name, seq := range m.cursors {
		if seq > r.Stored {
			problem("cursor %s is at %d, behind the last event %d", name, seq, r.Stored)
		}
	}
	switch n := len(r.Segments); {
	case n == 0 && m.newest > 0:
		problem("all segments are missing, the newest was %d", m.newest)
	case n > 0 && r.Segments[n-1].First < m.newest:
		problem("segment %d is missing", m.newest)
	case n == 0:
		r.Epoch = m.epoch
	}
}
