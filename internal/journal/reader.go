package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"sort"

	bolt "go.etcd.io/bbolt"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// Reader reads the journal of a stopped box and changes nothing: not even what
// the next start would repair. Its methods may be called concurrently, except
// Close.
type Reader struct {
	dir      string
	lock     *os.File // nil: there is no file to lock
	pool     pool
	segments []*segment
	stored   event.Seq
	epoch    event.Epoch
	cursors  map[string]event.Seq
	state    state
}

// OpenReader opens the journal in dir, and keeps boxes from starting on it
// until Close. ErrMissing, ErrNewer or a *LockedError say why it cannot.
// Cursors and state that are damaged are left out, as the next start would.
func OpenReader(dir string) (*Reader, error) {
	r, err := openReader(dir)
	if err != nil {
		return nil, fmt.Errorf("open journal %s: %w", dir, err)
	}
	return r, nil
}

func openReader(dir string) (*Reader, error) {
	if found, err := present(dir); err != nil {
		return nil, err
	} else if !found {
		return nil, ErrMissing
	}
	lock, err := shareLock(dir)
	if err != nil {
		return nil, err
	}
	r := &Reader{dir: dir, lock: lock, cursors: map[string]event.Seq{}, state: state{}}
	if err := r.load(); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *Reader) load() error {
	if err := r.loadMeta(); err != nil {
		return err
	}
	var err error
	if r.segments, _, err = listSegments(r.dir, &r.pool); err != nil || len(r.segments) == 0 {
		return err
	}
	newest := r.segments[len(r.segments)-1]
	scan, err := newest.scan()
	if err != nil && (errors.Is(err, ErrNewer) || !isDamage(err)) {
		return err
	}
	r.stored = max(scan.last, newest.first-1)
	return nil
}

func (r *Reader) loadMeta() error {
	f, err := openBolt(filepath.Join(r.dir, metaName), readFile, 0, nil)
	if err == nil {
		m := meta{}
		err = f.view(func(tx *bolt.Tx) error {
			if err := m.load(tx); err != nil {
				return err
			}
			for name := range m.damaged {
				delete(m.cursors, name)
			}
			r.epoch, r.cursors = m.epoch, m.cursors
			r.state = readState(tx)
			return nil
		})
		err = errors.Join(err, f.close())
	}
	if err != nil && (errors.Is(err, ErrNewer) || !isDamage(err)) {
		return fmt.Errorf("open %s: %w", metaName, err)
	}
	return nil
}

// Close releases files and lock.
func (r *Reader) Close() error {
	var errs []error
	for _, s := range r.segments {
		errs = append(errs, s.release())
	}
	if r.lock != nil {
		errs = append(errs, r.lock.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close journal %s: %w", r.dir, err)
	}
	return nil
}

// First returns the seq of the oldest event kept, or Stored()+1 if there is none.
func (r *Reader) First() event.Seq {
	if len(r.segments) == 0 {
		return r.stored + 1
	}
	return r.segments[0].first
}

// Stored returns the seq of the last event that can be read.
func (r *Reader) Stored() event.Seq { return r.stored }

// Entries returns how many entries of a space of the state can be read.
func (r *Reader) Entries(space string) int { return len(r.state[space]) }

// Read does what [Journal.Read] does.
func (r *Reader) Read(after event.Seq, maxEvents, maxBytes int) ([]event.Event, error) {
	seq := max(after+1, r.First())
	if seq > r.stored {
		return nil, nil
	}
	n := len(r.segments)
	i := sort.Search(n, func(i int) bool { return r.segments[i].first > seq }) - 1
	limit := r.stored
	if i+1 < n {
		limit = min(limit, r.segments[i+1].first-1)
	}
	return r.segments[i].read(seq, limit, max(maxEvents, 1), max(maxBytes, 1))
}

// Stats returns what is known without a running box; what is counted since its
// start is zero.
func (r *Reader) Stats() Stats {
	s := Stats{
		Epoch: r.epoch, First: r.First(), Stored: r.stored, Segments: len(r.segments),
		Bytes: diskBytes(filepath.Join(r.dir, metaName)), Cursors: maps.Clone(r.cursors),
		Refused: map[string]uint64{},
	}
	s.Quarantine, _ = listQuarantine(r.dir) // unreadable: nothing can be told
	for _, segment := range r.segments {
		s.Bytes += diskBytes(segment.path)
	}
	return s
}

// Export does what [Journal.Export] does.
func (r *Reader) Export(ctx context.Context, w io.Writer, sel Selection, p Progress) error {
	if err := export(ctx, r, w, sel, p); err != nil {
		return fmt.Errorf("export journal %s: %w", r.dir, err)
	}
	return nil
}

// Backup does what [Journal.Backup] does.
func (r *Reader) Backup(ctx context.Context, w io.Writer, of Source, p Progress) error {
	head := newBackupHead(of, r.epoch, r.cursors, r.state)
	if err := backup(ctx, r, w, head, p); err != nil {
		return fmt.Errorf("back up journal %s: %w", r.dir, err)
	}
	return nil
}
