package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// A segment is one bbolt file with consecutive events. Its buckets:
//
//	about           format, epoch, first; when sealed also last, newest, keys, filter;
//	                salvaged, if it was made of what could be read of another
//	e<first seq>    one per commit: under "r" a uint32 LE count and that many records
//
// A bucket per commit looks wasteful and is the opposite: bbolt stores a small
// one inline in its parent's page, and gives a large one pages of its own that
// the next commit does not copy. As a plain value the same batch would be
// rewritten by each of the next commits that share its leaf. (Measured: 700
// instead of 1,900 bytes written per event at 64 callers.)
//
// A segment ends where the next one's name says that one begins. What it holds
// beyond that is void: events whose commit failed and whose senders were told.
const (
	segmentSuffix = ".seg"
	tempSuffix    = ".tmp"
	segmentFormat = 1

	batchPrefix = 'e' // sorts behind "about" and "archive"

	// commitPages is more than a commit of a lone event takes anew.
	commitPages = 8

	// rootBytes is how much of the root's page batches may take. The rest is
	// for the two other buckets and the page's own header.
	rootBytes = pageSize - 768

	// walkBatches is how many batches one read transaction visits: bbolt
	// remembers each bucket it opened until the transaction ends.
	walkBatches = 512
)

var (
	aboutBucket   = []byte("about")
	archiveBucket = []byte("archive")
	recordsKey    = []byte("r")
	formatKey     = []byte("format")
	epochKey      = []byte("epoch")
	firstKey      = []byte("first")
	lastKey       = []byte("last")
	newestKey     = []byte("newest")
	keysKey       = []byte("keys")
	filterKey     = []byte("filter")
	salvagedKey   = []byte("salvaged")
)

type segment struct {
	path  string
	first event.Seq
	pool  *pool

	// mu is held for reading while file is used, for writing to change it.
	mu    sync.RWMutex
	file  *boltFile // nil: not open
	about about     // zero until the file was opened once
	dead  error     // never touch the file again

	room int // bytes left for batches in the root; owned by the writer

	length int64 // of the file when noteGrowth last looked; owned by the writer

	writing  atomic.Bool // the writer appends to it
	suspect  atomic.Bool // damage was met in it: the writer should leave it
	hopeless atomic.Bool // salvage was tried: it cannot help, or not now

	// keysMu guards what lookups of keys use; see segment.candidates.
	keysMu sync.Mutex
	filter filter   // of a sealed segment; nil: not loaded
	keys   keyIndex // of one that was abandoned unsealed; nil: not loaded
}

// about is what a segment says of itself.
type about struct {
	epoch  event.Epoch
	first  event.Seq
	sealed bool
	last   event.Seq // when sealed
	newest time.Time // when sealed: the time of its last event

	// salvaged: it stands for a damaged one, which is in quarantine. Records
	// that are missing are gone.
	salvaged bool
}

func segmentPath(dir string, first event.Seq) string {
	return filepath.Join(dir, fmt.Sprintf("%020d%s", first, segmentSuffix))
}

// segmentName returns the first seq that a segment's file name carries.
func segmentName(name string) (event.Seq, bool) {
	digits, ok := strings.CutSuffix(name, segmentSuffix)
	n, err := strconv.ParseUint(digits, 10, 64)
	return event.Seq(n), ok && err == nil && len(digits) == 20 && n > 0
}

// listSegments returns the segments in dir, oldest first, none opened yet, and
// the files that were never finished.
func listSegments(dir string, p *pool) (segments []*segment, temps []string, err error) {
	entries, err := os.ReadDir(dir) // sorted by name, that is by first seq
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if first, ok := segmentName(e.Name()); ok {
			segments = append(segments, &segment{path: path, first: first, pool: p})
		} else if strings.HasSuffix(e.Name(), tempSuffix) {
			temps = append(temps, path)
		}
	}
	return segments, temps, err
}

// createSegment makes an empty segment, replacing what has its name.
//
//	write temp, fdatasync ×2     crash: a temp file, removed at the next start
//	fsync temp                   its size and metadata too
//	rename, fsync directory      crash before: as above; after: an empty segment
//
// bbolt's own creation is not safe against a power cut, so a name that counts
// never stands for a file that is not complete.
func createSegment(dir string, first event.Seq, epoch event.Epoch, mapped int64, p *pool, c *counters) (*segment, error) {
	path := segmentPath(dir, first)
	temp := path + tempSuffix
	s, err := newSegment(temp, about{epoch: epoch, first: first}, mapped, p, c)
	if err == nil {
		if err = publish(s.file, temp, path); err == nil {
			s.path = path
			return s, nil
		}
		err = errors.Join(err, s.release())
	}
	return nil, errors.Join(fmt.Errorf("create segment %d: %w", first, err), removeIfThere(temp))
}

// newSegment makes an empty segment under a temporary name.
func newSegment(temp string, a about, mapped int64, p *pool, c *counters) (*segment, error) {
	if err := removeIfThere(temp); err != nil {
		return nil, err
	}
	f, err := openBolt(temp, createFile, mapped, c)
	if err != nil {
		return nil, err
	}
	c.created()
	err = f.update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucket(aboutBucket)
		if err != nil {
			return err
		}
		err = errors.Join(
			putSum(b, formatKey, seqBytes(segmentFormat)),
			putSum(b, epochKey, []byte(a.epoch)),
			putSum(b, firstKey, seqBytes(a.first)))
		if a.salvaged {
			err = errors.Join(err, putSum(b, salvagedKey, []byte{1}))
		}
		return err
	})
	if err != nil {
		return nil, errors.Join(err, f.close())
	}
	return &segment{path: temp, first: a.first, pool: p, file: f, about: a}, nil
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// publish gives a complete file its name, durably.
func publish(f *boltFile, temp, path string) error {
	f.counters.syncs.Add(2)
	if err := f.raw.Sync(); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// openWritable opens an existing segment for appending.
func openWritable(path string, first event.Seq, mapped int64, p *pool, c *counters) (*segment, error) {
	f, err := openBolt(path, writeFile, mapped, c)
	if err != nil {
		return nil, fmt.Errorf("open segment %d: %w", first, err)
	}
	s := &segment{path: path, first: first, pool: p, file: f}
	if err := errors.Join(s.readAbout(f), f.checkMetas()); err != nil {
		return nil, errors.Join(fmt.Errorf("open segment %d: %w", first, err), f.close())
	}
	return s, nil
}

// readAbout fills s.about and checks that the file is as long as it says.
func (s *segment) readAbout(f *boltFile) error {
	return f.view(func(tx *bolt.Tx) error {
		b := tx.Bucket(aboutBucket)
		if b == nil {
			return fmt.Errorf("%w: no description", ErrDamaged)
		}
		format, err := getSum(b, formatKey)
		if err != nil {
			return err
		}
		if getSeq(format) > segmentFormat {
			return fmt.Errorf("format %d: %w", getSeq(format), ErrNewer)
		}
		epoch, err1 := getSum(b, epochKey)
		first, err2 := getSum(b, firstKey)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		a := about{epoch: event.Epoch(epoch), first: getSeq(first)}
		if a.first != s.first {
			return fmt.Errorf("%w: it says it begins at %d", ErrDamaged, a.first)
		}
		last, err1 := getSum(b, lastKey)
		newest, err2 := getSum(b, newestKey)
		if err1 == nil && err2 == nil && newest != nil { // else it is read as if never sealed
			a.sealed, a.last, a.newest = true, getSeq(last), getTime(newest)
		}
		if salvaged, err := getSum(b, salvagedKey); err == nil && salvaged != nil {
			a.salvaged = true
		}
		info, err := f.raw.Stat()
		if err != nil {
			return err
		}
		if info.Size() < tx.Size() {
			return fmt.Errorf("%w: %d bytes, %d expected", ErrDamaged, info.Size(), tx.Size())
		}
		s.about = a
		return nil
	})
}

// append commits one batch of records with consecutive seqs from first on, and
// returns the size the file had before, in bytes. On an error the file must
// not be written again. Called by the writer alone.
func (s *segment) append(first event.Seq, batch []byte) (size int64, err error) {
	err = s.file.update(func(tx *bolt.Tx) error {
		size = tx.Size()
		if inline(batch) { // a large one pays for its blocks by what is in it
			s.file.writeAhead(size)
		}
		if s.room -= rootShare(batch); s.room < 0 {
			if err := sweep(tx); err != nil {
				return err
			}
			s.room = rootBytes - rootShare(batch)
		}
		b, err := tx.CreateBucket(batchName(first))
		if err != nil {
			return err
		}
		return b.Put(recordsKey, batch)
	})
	return size, err
}

// rootShare returns how many bytes of the root's page a batch takes: all of it,
// if it is small enough for bbolt to store it inline, else a reference.
func rootShare(batch []byte) int {
	const reference = elemSize + 1 + 8 + 16 // element, name, bucket
	if inline(batch) {
		return reference + inlineHead + len(batch)
	}
	return reference
}

// inlineHead is what an inline bucket has besides its value.
const inlineHead = pageHeader + elemSize + 1

// inline reports whether bbolt stores a batch in its parent's page.
func inline(batch []byte) bool { return inlineHead+len(batch) <= pageSize/4 }

// sweep moves the batches in the root to the archive. Their content stays
// where it is unless it is inline.
func sweep(tx *bolt.Tx) error {
	archive, err := tx.CreateBucketIfNotExists(archiveBucket)
	if err != nil {
		return err
	}
	// Names only ever grow, so a page once full is never touched again.
	archive.FillPercent = 1
	var names [][]byte
	c := tx.Cursor()
	for k, _ := c.Seek(batchName(0)); k != nil; k, _ = c.Next() {
		names = append(names, k)
	}
	for _, name := range names {
		if err := tx.MoveBucket(name, nil, archive); err != nil {
			return err
		}
	}
	return nil
}

// seal writes what lookups need once the segment is only read. Called by the
// writer alone, as the last write to the file.
func (s *segment) seal(last event.Seq, newest time.Time, keys keyIndex) error {
	table := keys.table()
	bloom := newFilter(table)
	err := s.file.update(func(tx *bolt.Tx) error {
		b := tx.Bucket(aboutBucket)
		return errors.Join(
			putSum(b, lastKey, seqBytes(last)),
			putSum(b, newestKey, timeBytes(newest)),
			putSum(b, keysKey, table),
			putSum(b, filterKey, bloom))
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.about.sealed, s.about.last, s.about.newest = true, last, newest
	s.mu.Unlock()
	s.keysMu.Lock()
	s.filter = bloom
	s.keysMu.Unlock()
	return nil
}

// view runs fn in a short read transaction, opening the file if need be.
func (s *segment) view(fn func(tx *bolt.Tx) error) error {
	for {
		s.mu.RLock()
		f, dead := s.file, s.dead
		if f == nil || dead != nil {
			s.mu.RUnlock()
			if dead != nil {
				return dead
			}
			if err := s.open(); err != nil {
				return err
			}
			continue
		}
		err := f.view(fn)
		s.mu.RUnlock()
		if f.stuck.Load() {
			s.kill(err)
		}
		return err
	}
}

// open opens a segment that is not the active one, for reading.
func (s *segment) open() error {
	opened, err := s.openLocked()
	if err != nil {
		return fmt.Errorf("open segment %d: %w", s.first, err)
	}
	if opened {
		s.pool.opened(s)
	}
	return nil
}

func (s *segment) openLocked() (opened bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file != nil || s.dead != nil {
		return false, s.dead
	}
	f, err := openBolt(s.path, readFile, 0, nil)
	if err == nil {
		if err = s.readAbout(f); err != nil {
			err = errors.Join(err, f.close())
		}
	}
	if err != nil {
		if isDamage(err) {
			s.dead = err
		}
		return false, err
	}
	s.file = f
	return true, nil
}

// release closes the file; a later view opens it again.
func (s *segment) release() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return nil
	}
	f := s.file
	s.file = nil
	return f.close()
}

// kill closes the file for good: every later use returns why.
func (s *segment) kill(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead == nil {
		s.dead = why
	}
	if s.file != nil {
		_ = s.file.close() // only read from here on, or known to be broken
		s.file = nil
	}
}

// info returns what the segment says of itself, opening it if need be.
func (s *segment) info() (about, error) {
	s.mu.RLock()
	a := s.about
	s.mu.RUnlock()
	if a.first != 0 {
		return a, nil
	}
	err := s.view(func(*bolt.Tx) error { return nil })
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.about, err
}

func batchName(first event.Seq) []byte {
	return binary.BigEndian.AppendUint64([]byte{batchPrefix}, uint64(first))
}

func batchFirst(name []byte) (event.Seq, bool) {
	if len(name) != 9 || name[0] != batchPrefix {
		return 0, false
	}
	return event.Seq(binary.BigEndian.Uint64(name[1:])), true
}

func seqBytes(seq event.Seq) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(seq))
}

func getSeq(b []byte) event.Seq {
	if len(b) != 8 {
		return 0
	}
	return event.Seq(binary.BigEndian.Uint64(b))
}

func timeBytes(t time.Time) []byte {
	return binary.LittleEndian.AppendUint64(nil, uint64(t.UnixMilli()))
}
