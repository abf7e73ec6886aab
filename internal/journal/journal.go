package journal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// Journal is an open journal. All methods may be called concurrently, except
// that Run is called once and Close after it has returned.
type Journal struct {
	dir  string
	o    Options
	lock *os.File
	meta *meta
	pool pool
	disk counters

	queue   queue
	tail    tail
	room    room
	commits watch // Run storing a batch
	opened  time.Time
	stored  atomic.Uint64
	trims   chan struct{} // capacity 1: a segment was sealed
	done    chan struct{} // closed when nothing will be stored any more

	// mu guards the list of segments, oldest first, and what follows.
	mu       sync.RWMutex
	segments []*segment
	epoch    event.Epoch
	unwell   error              // why the last commit failed; nil: it did not
	lost     map[event.Seq]bool // ranges already reported, by their first seq
	counts   Counters
	refused  [event.Money + 1]uint64 // for want of room, by class

	trimming sync.Mutex // held by Trim

	writer writer // owned by Run
}

// Create makes a new, empty journal in dir, and dir itself if need be. On
// return it is durable. ErrExists if there is one.
func Create(dir string, o Options) error {
	if err := create(dir); err != nil {
		return fmt.Errorf("create journal %s: %w", dir, explain(err, dir))
	}
	o.withDefaults().Log.Info("journal created", "dir", dir)
	return nil
}

func create(dir string) error {
	if err := makeDir(dir); err != nil {
		return err
	}
	lock, err := takeLock(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	if found, err := present(dir); err != nil || found {
		return errors.Join(err, ErrExists)
	}
	// The journal exists from the moment meta.db has its name; its first
	// segment is made when there is an event to store.
	f, err := createMeta(filepath.Join(dir, metaName), &counters{}, func(tx *bolt.Tx) error {
		return fillMeta(tx, event.NewEpoch(""), 0, nil)
	})
	if err != nil {
		return err
	}
	return f.close()
}

// present reports whether dir holds any part of a journal.
func present(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return slices.ContainsFunc(entries, func(e fs.DirEntry) bool {
		_, ok := segmentName(e.Name())
		return ok || e.Name() == metaName
	}), err
}

// Open opens an existing journal, recovering it from whatever way the last
// process ended. It takes the same time however many events are kept: only
// meta.db and the newest segment are read. ErrMissing, ErrNewer or a
// *LockedError or *AccessError say why it cannot; damaged content does not keep it from
// opening, but is logged and counted in Stats.
func Open(dir string, o Options) (*Journal, error) {
	j, err := open(dir, o.withDefaults())
	if held := newBallast(dir, 0); isFull(err) && held.release() { // a repair needs room
		j, err = open(dir, o.withDefaults())
	}
	if err != nil {
		return nil, fmt.Errorf("open journal %s: %w", dir, explain(err, dir))
	}
	return j, nil
}

func open(dir string, o Options) (*Journal, error) {
	if found, err := present(dir); err != nil {
		return nil, err
	} else if !found {
		return nil, ErrMissing
	}
	lock, err := takeLock(dir)
	if err != nil {
		return nil, err
	}
	j := &Journal{
		dir: dir, o: o, lock: lock,
		trims:  make(chan struct{}, 1),
		done:   make(chan struct{}),
		lost:   map[event.Seq]bool{},
		opened: time.Now(),
		room:   room{ballast: newBallast(dir, o.BallastBytes)},
	}
	if err := j.restore(); err != nil {
		return nil, errors.Join(err, j.Close())
	}
	j.queue.init(o)
	j.tail.init(j.writer.next)
	j.stored.Store(uint64(j.writer.next - 1))
	j.meta.relieve = j.diskFull
	j.measure()
	return j, nil
}

// restore brings the journal back to where its last process left it.
func (j *Journal) restore() error {
	if err := j.list(); err != nil {
		return err
	}
	if err := j.openMeta(); err != nil {
		return err
	}
	return j.resume()
}

// list finds the segments and removes what a crash left half made.
func (j *Journal) list() error {
	segments, temps, err := listSegments(j.dir, &j.pool)
	if err != nil {
		return err
	}
	for _, path := range temps {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	j.segments = segments
	return nil
}

// openMeta opens meta.db. One that is lost is replaced: followers then begin
// at the oldest event again, which they must bear anyway.
func (j *Journal) openMeta() error {
	path := filepath.Join(j.dir, metaName)
	m, err := openMeta(j.dir, &j.disk)
	if err == nil {
		j.meta, j.epoch = m, m.epoch
		j.mendMeta()
		return nil
	}
	missing := errors.Is(err, fs.ErrNotExist)
	if !missing && !isDamage(err) {
		return fmt.Errorf("open %s: %w", metaName, err)
	}
	if !missing {
		aside, err := setAside(path, j.o.Now())
		if err != nil {
			return err
		}
		j.o.Log.Error("set damaged journal state aside", "path", aside)
	}
	j.o.Log.Error("journal state is lost, cursors begin anew", "err", err)
	j.counts.Damages++

	// Whatever the events' epoch was, state that went with it is gone: a new
	// one lets everyone know.
	var before event.Epoch
	for _, s := range slices.Backward(j.segments) {
		a, err := s.info()
		j.pool.forget(s)
		if err := s.release(); err != nil { // it may have to be opened for writing
			return err
		}
		if err == nil {
			before = a.epoch
			break
		}
	}
	f, err := createMeta(path, &j.disk, func(tx *bolt.Tx) error {
		return fillMeta(tx, event.NewEpoch(before), 0, nil)
	})
	if err != nil {
		return err
	}
	if err := f.close(); err != nil {
		return err
	}
	j.meta, err = openMeta(j.dir, &j.disk)
	if err != nil {
		return err
	}
	j.epoch = j.meta.epoch
	return nil
}

// resume finds where the history ends and prepares the writer to go on there.
//
// A commit that a crash or power cut interrupted is either wholly there or not
// at all. Beyond that there are three findings. The newest segment is sound:
// it is appended to. Some of its records are damaged, but it is known which:
// it is left alone and a new one begun behind it. Or events that were there
// are gone without a trace of how many: then a new epoch is begun too.
func (j *Journal) resume() error {
	w := &j.writer
	w.next = 1
	_, _, foremost, _ := j.meta.snapshot()
	known := foremost // events up to here existed
	if newest := j.meta.newest; newest > 0 {
		known = max(known, newest-1)
	}
	var cause error
	if n := len(j.segments); n > 0 {
		end, err := j.resumeSegment(n-1, known)
		if errors.Is(err, ErrNewer) || err != nil && !isDamage(err) {
			return err
		}
		cause = err
		w.next = end + 1
		if j.segments[n-1].first < j.meta.newest {
			cause = fmt.Errorf("segment %d is missing", j.meta.newest)
		}
	} else if j.meta.newest > 0 {
		cause = errors.New("all segments are missing")
	}
	if cause == nil && known >= w.next {
		cause = fmt.Errorf("events %d to %d are missing", w.next, known)
	}
	if cause == nil {
		return nil
	}
	w.leave()
	w.next = max(w.next, known+1)
	return j.beginEpoch(cause)
}

// beginEpoch records that history was lost.
func (j *Journal) beginEpoch(cause error) error {
	epoch := event.NewEpoch(j.epoch)
	if err := j.meta.setEpoch(epoch); err != nil {
		return err
	}
	j.o.Log.Error("history is lost, new epoch begun",
		"err", cause, "before", j.epoch, "epoch", epoch, "next", j.writer.next)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.counts.Damages++
	j.epoch = epoch
	return nil
}

// resumeSegment opens the newest segment, for writing if it is sound, and
// returns its last seq. An error of damage says that its end is not known; the
// seq is then that of the last event that can be read, or that is known to have
// existed.
func (j *Journal) resumeSegment(i int, known event.Seq) (end event.Seq, err error) {
	w := &j.writer
	before := j.segments[i]
	s, err := openWritable(before.path, before.first, j.o.mapped(), &j.pool, &j.disk)
	if err != nil {
		if !isDamage(err) || errors.Is(err, ErrNewer) {
			return 0, err
		}
		// Perhaps some of it can still be read.
		r, readErr := before.scan()
		if readErr != nil && !isDamage(readErr) {
			return 0, readErr
		}
		return j.resumeSalvaged(before, 0, max(r.last, before.first-1, known), err)
	}
	j.segments[i] = s
	r, err := s.scan()
	end = max(r.last, s.first-1)
	if s.about.sealed {
		end = max(end, s.about.last)
	}
	if err != nil {
		return j.resumeSalvaged(s, 0, end, err)
	}
	if r.rotten { // its end is known, whatever becomes of the rest
		_, _ = j.resumeSalvaged(s, end, end, ErrDamaged)
		return end, nil
	}
	if err := s.file.checkPages(); err != nil {
		j.o.Log.Error("segment is not written again", "first", s.first, "err", err)
		j.counts.Damages++
		return end, s.release()
	}
	if s.about.sealed || s.about.epoch != j.epoch {
		return end, s.release()
	}
	w.active, w.keys, w.newest, w.records = s, r.keys, r.newest, r.bytes
	w.full = j.o.full(r.bytes, int64(end+1-s.first))
	s.writing.Store(true)
	return end, nil
}

// resumeSalvaged salvages the newest segment, whose damage is cause; known and
// atLeast as in salvageSegment. It returns cause, and the last seq.
func (j *Journal) resumeSalvaged(s *segment, known, atLeast event.Seq, cause error) (end event.Seq, err error) {
	if err := s.release(); err != nil {
		j.o.Log.Warn("close damaged segment", "first", s.first, "err", err)
	}
	next, report, err := j.replaceSalvaged(s, known, atLeast)
	if err != nil { // logged; what can be read of it still can
		return max(known, atLeast), cause
	}
	return max(report.Last, next.first-1), cause
}

// Close releases all files and the lock. Whatever still waits to be stored, if
// Run was never called, is answered with ErrClosed. Durability does not depend
// on it.
func (j *Journal) Close() error {
	refuse(j.queue.drain(), ErrClosed)
	j.finish()
	j.mu.RLock()
	segments := j.segments
	j.mu.RUnlock()
	var errs []error
	for _, s := range segments {
		errs = append(errs, s.release())
		s.kill(ErrClosed)
	}
	if j.meta != nil {
		errs = append(errs, j.meta.close())
	}
	errs = append(errs, j.lock.Close())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close journal %s: %w", j.dir, err)
	}
	return nil
}

// finish tells everyone in Wait that nothing more will come.
func (j *Journal) finish() {
	select {
	case <-j.done:
	default:
		close(j.done)
	}
}

// Append stores an event and returns when it is on disk: no crash or power cut
// can take it away again. It sets e's Epoch and Seq; e must not be changed by
// anyone from the call on. When ctx ends first, the outcome is unknown and the
// event may still be stored; the other errors are those of [Journal.Enqueue].
func (j *Journal) Append(ctx context.Context, e *event.Event) (event.Receipt, error) {
	type result struct {
		receipt event.Receipt
		err     error
	}
	answer := make(chan result, 1)
	err := j.Enqueue(ctx, e, func(r event.Receipt, err error) { answer <- result{r, err} })
	if err != nil {
		return event.Receipt{}, err
	}
	select {
	case r := <-answer:
		return r.receipt, r.err
	case <-ctx.Done():
		return event.Receipt{}, ctx.Err()
	}
}

// Enqueue hands an event to the writer and returns when it is queued, waiting
// for room until ctx ends. If it returns nil, answer is called exactly once,
// by the writer, in seq order, when the event is on disk or is known not to be
// stored. answer must not block. On an error answer is never called.
//
// An event with the DedupKey of one that is still kept is not stored again:
// the answer is the first one's receipt with Duplicate set, or ErrKeyReuse if
// the digests differ. ErrTooLarge is final; ErrClosed and all other errors
// mean that the event was not stored and that a later try may succeed. Only
// where the disk fails for longer, and the box starts anew before any other
// event was stored, may a refused one be there: with a key it is known again.
//
// Times are kept to the millisecond: Enqueue rounds Time and Expires down.
func (j *Journal) Enqueue(ctx context.Context, e *event.Event, answer func(event.Receipt, error)) error {
	e.Time, e.Expires = toMillis(e.Time), toMillis(e.Expires)
	record, err := encode(e)
	if err != nil {
		return err
	}
	return j.queue.put(ctx, entry{event: e, record: record, answer: answer})
}

// Stored returns the seq of the last event on disk.
func (j *Journal) Stored() event.Seq { return event.Seq(j.stored.Load()) }

// First returns the seq of the oldest event kept, or Stored()+1 if there is none.
func (j *Journal) First() event.Seq {
	j.mu.RLock()
	defer j.mu.RUnlock()
	if len(j.segments) == 0 {
		return j.Stored() + 1
	}
	return j.segments[0].first
}

// Epoch returns the epoch that new events get. It changes only when history
// is found to be lost.
func (j *Journal) Epoch() event.Epoch {
	j.mu.RLock()
	defer j.mu.RUnlock()
	return j.epoch
}

// Cursor returns how far the named follower has come; zero if it never moved.
func (j *Journal) Cursor(name string) event.Seq { return j.meta.cursor(name) }

// MoveCursor moves the named cursor to a seq; on return that is durable. It
// never moves backwards: an earlier seq changes nothing. ErrBeyond if the seq
// was not stored yet. Events behind a cursor are kept for it, so a follower
// that must miss nothing moves its cursor to zero once before the first event.
func (j *Journal) MoveCursor(name string, to event.Seq) error {
	if to > j.Stored() {
		return fmt.Errorf("move cursor %s to %d: %w", name, to, ErrBeyond)
	}
	if !j.meta.hasCursor(name) { // a Trim under way would not know of it
		j.trimming.Lock()
		defer j.trimming.Unlock()
	}
	if err := j.meta.moveCursor(name, to); err != nil {
		return fmt.Errorf("move cursor %s to %d: %w", name, to, err)
	}
	return nil
}

// Put changes entries of a space of small durable state in one transaction; a
// nil value deletes. On return it is durable. Keys must not be empty.
func (j *Journal) Put(space string, entries map[string][]byte) error {
	if err := j.meta.put(space, entries); err != nil {
		return fmt.Errorf("put state %s: %w", space, err)
	}
	return nil
}

// All returns a copy of a space; an unknown one is empty. With ErrDamaged come
// the entries that are sound.
func (j *Journal) All(space string) (map[string][]byte, error) {
	entries, err := j.meta.all(space)
	if err != nil {
		return entries, fmt.Errorf("read state %s: %w", space, err)
	}
	return entries, nil
}

// Damaged returns the keys of a space whose entries could not be read when the
// journal was opened, and are gone from it: who has another source for them may
// put them anew. The next open does not know of them. Safe concurrently.
func (j *Journal) Damaged(space string) (keys []string) { return j.meta.unread[space] }
