package journal

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"math"
	"os"
	"slices"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// Salvage believes nothing of bbolt's structure. A record lies in one piece in
// the file, whatever page it is in, and says by its checksum that it is whole
// and by its seq where it belongs. So every byte of the file is tried as the
// beginning of a record, and no damage costs more than the records it touches.
//
// A file also holds what bbolt has let go of: older copies of a page, which are
// the same records, and batches whose commit was interrupted, whose seqs were
// then given to others. The pages that the file's own tree leads to decide
// which of two is meant; so the tree is followed as far as it is sound.

// salvageWindow is how much of a file is in memory at a time; records reach
// into the next one.
const salvageWindow = 4 << 20

// wreck is what was found in a damaged segment.
type wreck struct {
	epoch   event.Epoch // empty: not found
	records []found     // by seq, one each
}

// found is a whole record in a damaged file.
type found struct {
	seq  event.Seq
	at   int64 // its offset
	size int
	use  pageUse // of the page it begins in
	time uint64  // when it was accepted, as stored
	sum  uint32
}

// salvageFile finds the records first..limit in what is left of a segment. It
// reads with system calls alone: a bad sector costs its page, and never the
// process. limit is zero where nobody knows how far the segment goes. An error
// says that the file cannot be had at all.
func salvageFile(f *os.File, first, limit event.Seq) (wreck, error) {
	info, err := f.Stat()
	if err != nil {
		return wreck{}, err
	}
	size := info.Size()
	if most := event.Seq(size) / (lengthSize + headSize); limit == 0 || limit-first > most {
		limit = first + most // more do not fit
	}
	var w wreck
	uses := usePages(f, size)
	window := make([]byte, salvageWindow+lengthSize+maxRecord)
	next := int64(0) // where to go on
	for base := int64(0); base < size; base += salvageWindow {
		b := window[:min(int64(len(window)), size-base)]
		readTolerant(f, b, base)
		if w.epoch == "" {
			w.epoch = findEpoch(b)
		}
		i := max(next-base, 0)
		for i < salvageWindow && i+lengthSize+headSize <= int64(len(b)) {
			record := wholeRecord(b[i:], first, limit)
			if record == nil {
				i++
				continue
			}
			body := record[lengthSize:]
			page := int((base + i) / pageSize)
			w.records = append(w.records, found{
				seq: event.Seq(binary.LittleEndian.Uint64(body[4:])), at: base + i, size: len(record),
				use: uses[page], time: getUint64(field(record, tagTime)), sum: binary.LittleEndian.Uint32(body),
			})
			i += int64(len(record))
		}
		next = base + i
	}
	w.choose()
	return w, nil
}

// wholeRecord returns the record at the beginning of b, nil if there is none
// with a seq from first to limit. Nearly all bytes fail the first test.
func wholeRecord(b []byte, first, limit event.Seq) []byte {
	seq := event.Seq(binary.LittleEndian.Uint64(b[lengthSize+4:]))
	if seq < first || seq > limit {
		return nil
	}
	record, _, err := cut(b)
	if err != nil || len(record) > maxRecord {
		return nil
	}
	body := record[lengthSize:]
	if crc32.Checksum(body[4:], castagnoli) != binary.LittleEndian.Uint32(body) {
		return nil
	}
	return record
}

// choose keeps one record for each seq: the one in a page that is in use, else
// the one accepted last. A page that is known to be free holds nothing that
// counts: where only there a seq is found, it is that of an interrupted commit.
func (w *wreck) choose() {
	slices.SortFunc(w.records, func(a, b found) int {
		return cmp.Or(cmp.Compare(a.seq, b.seq), -cmp.Compare(a.use, b.use), -cmp.Compare(a.time, b.time))
	})
	w.records = slices.CompactFunc(w.records, func(a, b found) bool { return a.seq == b.seq })
	w.records = slices.DeleteFunc(w.records, func(r found) bool { return r.use == pageFree })
}

// last returns the highest seq found, zero if there is none.
func (w *wreck) last() event.Seq {
	if len(w.records) == 0 {
		return 0
	}
	return w.records[len(w.records)-1].seq
}

// lost returns the ranges of first..last that were not found.
func (w *wreck) lost(first, last event.Seq) []LostError {
	var lost []LostError
	next := first
	for _, r := range w.records {
		if r.seq > next {
			lost = append(lost, LostError{From: next, To: r.seq - 1, Err: errSalvaged})
		}
		next = r.seq + 1
	}
	if next <= last {
		lost = append(lost, LostError{From: next, To: last, Err: errSalvaged})
	}
	return lost
}

// read returns the records themselves, which f must still hold. The memory of
// one is reused for the next.
func (w *wreck) read(f *os.File) iter.Seq2[event.Seq, []byte] {
	return func(yield func(event.Seq, []byte) bool) {
		var buf []byte
		for _, r := range w.records {
			buf = slices.Grow(buf[:0], r.size)[:r.size]
			if _, err := f.ReadAt(buf, r.at); err != nil || verify(buf, r.seq) != nil {
				continue // gone since; it is a gap then
			}
			if !yield(r.seq, buf) {
				return
			}
		}
	}
}

// readTolerant fills b from the file. What the disk cannot deliver is zero.
func readTolerant(f *os.File, b []byte, at int64) {
	if n, err := f.ReadAt(b, at); err == nil || errors.Is(err, io.EOF) {
		clear(b[n:])
		return
	}
	for i := 0; i < len(b); i += pageSize {
		page := b[i:min(i+pageSize, len(b))]
		if n, err := f.ReadAt(page, at+int64(i)); err != nil {
			clear(page[n:])
		}
	}
}

// findEpoch looks for a segment's epoch, which is stored behind its key and
// followed by the sum of both.
func findEpoch(b []byte) event.Epoch {
	const length = 36
	for {
		i := bytes.Index(b, epochKey)
		if i < 0 {
			return ""
		}
		b = b[i+len(epochKey):]
		if len(b) < length+sumSize {
			return ""
		}
		if value, err := checkSum(epochKey, b[:length+sumSize]); err == nil {
			return event.Epoch(value)
		}
	}
}

// pageUse is what a file's own structure says of a page.
type pageUse uint8

const (
	pageFree    pageUse = iota // in the list of free pages
	pageUnknown                // nothing leads to it; the structure may be damaged
	pageLive                   // the tree leads to it
)

// usePages follows the structure of a file as far as it is sound.
func usePages(f *os.File, size int64) []pageUse {
	uses := make([]pageUse, (size+pageSize-1)/pageSize)
	for i := range uses {
		uses[i] = pageUnknown
	}
	meta, err := newestMeta(f)
	if meta == nil {
		return uses
	}
	s := survey{f: f, uses: uses}
	s.tree(order.Uint64(meta[16:]), 0)
	if err == nil { // else a later commit may have used what this one calls free
		s.free(order.Uint64(meta[32:]))
	}
	return uses
}

// survey is a pageWalk that passes over what makes no sense.
type survey struct {
	f    *os.File
	uses []pageUse
}

// read returns at least n bytes of a page and those behind it, nil if there
// are not so many or it is not that page.
func (s *survey) read(id uint64, n int64) []byte {
	if id < 2 || id >= uint64(len(s.uses)) || n > int64(len(s.uses))*pageSize {
		return nil
	}
	b := make([]byte, max(n, pageHeader))
	if _, err := s.f.ReadAt(b, int64(id)*pageSize); err != nil || order.Uint64(b) != id {
		return nil
	}
	return b
}

func (s *survey) tree(id uint64, depth int) {
	head := s.read(id, pageHeader)
	if head == nil || depth > maxDepth || s.uses[id] == pageLive {
		return
	}
	flags, count, more := order.Uint16(head[8:]), int64(order.Uint16(head[10:])), uint64(order.Uint32(head[12:]))
	if flags != branchPage && flags != leafPage {
		return
	}
	for n := id; n <= id+more && n < uint64(len(s.uses)); n++ {
		s.uses[n] = pageLive
	}
	page := s.read(id, pageHeader+count*elemSize)
	for i := int64(0); page != nil && i < count; i++ {
		at := pageHeader + i*elemSize
		elem := page[at:]
		switch {
		case flags == branchPage:
			s.tree(order.Uint64(elem[8:]), depth+1)
		case order.Uint32(elem)&bucketElem != 0:
			var root [8]byte
			value := at + int64(order.Uint32(elem[4:])) + int64(order.Uint32(elem[8:]))
			if _, err := s.f.ReadAt(root[:], int64(id)*pageSize+value); err == nil {
				s.tree(order.Uint64(root[:]), depth+1) // zero, for inline, is refused
			}
		}
	}
}

func (s *survey) free(id uint64) {
	head := s.read(id, pageHeader+8)
	if head == nil || order.Uint16(head[8:]) != freelistPage {
		return
	}
	from, count := int64(pageHeader), uint64(order.Uint16(head[10:]))
	if count == math.MaxUint16 {
		from, count = from+8, order.Uint64(head[pageHeader:])
	}
	if count > uint64(len(s.uses)) {
		return
	}
	ids := s.read(id, from+int64(count)*8)
	if ids == nil {
		return
	}
	ids = ids[from:]
	for i := range count {
		if id := order.Uint64(ids[i*8:]); id < 2 || id >= uint64(len(s.uses)) || s.uses[id] == pageLive {
			return // damaged: not to be believed
		}
	}
	for i := range count {
		s.uses[order.Uint64(ids[i*8:])] = pageFree
	}
}

// writeSegment makes a segment of records in the order of their seqs, sealed,
// replacing what has its name; on return it is durable. a says what it is: the
// seqs first..last, of which some may be missing. Records are copied as they
// are. The names of pages are in no hurry, so bbolt need not sync each commit:
// the file has no name that counts before all of it is on disk.
func writeSegment(dir string, a about, records iter.Seq2[event.Seq, []byte], o Options, p *pool, c *counters) (*segment, error) {
	path := segmentPath(dir, a.first)
	temp := path + tempSuffix
	var unsynced counters
	s, err := newSegment(temp, a, o.mapped(), p, &unsynced)
	if err != nil {
		return nil, err
	}
	s.file.db.NoSync = true
	err = fill(s, a.last, records)
	if err == nil {
		c.bytes.Add(unsynced.bytes.Load())
		s.file.counters = c
		err = publish(s.file, temp, path)
	}
	if err == nil {
		s.path = path
		err = s.release()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("write segment %d: %w", a.first, err), s.release(), removeIfThere(temp))
	}
	return s, nil
}

func fill(s *segment, last event.Seq, records iter.Seq2[event.Seq, []byte]) error {
	b := newBulk(s, batchBytes)
	for seq, record := range records {
		if err := b.settle(seq); err != nil {
			return err
		}
		b.add(seq, record)
	}
	return b.seal(last)
}
