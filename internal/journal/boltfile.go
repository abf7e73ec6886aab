package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

const (
	pageSize = 4096

	// growBy is how far bbolt extends a file at a time. Each step costs a full
	// fsync, and at most this much disk is taken before it is needed.
	growBy = 4 << 20

	// aheadBytes is how much is written ahead for lone events; see writeAhead.
	aheadBytes = 64 << 10

	// flockTimeout bounds the wait for bbolt's own lock on a file, which only
	// a stray tool can hold: the LOCK file keeps other boxes out.
	flockTimeout = 2 * time.Second
)

type fileMode int

const (
	createFile fileMode = iota
	writeFile
	readFile
)

// boltFile is an open bbolt file whose panics are errors. view may be called
// concurrently, with update too; close must not be called while either runs.
type boltFile struct {
	db  *bolt.DB
	raw *os.File // the descriptor under db

	// stuck is set when bbolt panicked where it may have kept a lock: closing
	// would wait for ever, and unmapping could pull pages from under a reader.
	stuck atomic.Bool

	ahead int64 // up to here zeros were written; owned by the writer

	counters *counters
}

// counters count what the journal does to the disk, all files together.
type counters struct {
	bytes, syncs atomic.Int64
}

// openBolt opens a bbolt file. mapped is how much address space to reserve, so
// that a writer need not wait for readers to remap: at least what the file
// will grow to. A file must not exist to be created, and must to be opened.
func openBolt(path string, mode fileMode, mapped int64, c *counters) (*boltFile, error) {
	f := &boltFile{counters: c}
	err := guard(func() (err error) {
		f.db, err = bolt.Open(path, 0o600, &bolt.Options{
			Timeout:      flockTimeout,
			PageSize:     pageSize, // in the file; the OS page may be 16 KiB or 64 KiB
			FreelistType: bolt.FreelistMapType,
			// The freelist is synced: rebuilding it at open would walk all
			// pages in a goroutine of bbolt's, where a panic is final.
			NoFreelistSync:  false,
			NoStatistics:    true,
			ReadOnly:        mode == readFile,
			InitialMmapSize: int(mapped),
			OpenFile: func(name string, flag int, perm os.FileMode) (*os.File, error) {
				flag &^= os.O_CREATE
				if mode == createFile {
					flag |= os.O_CREATE | os.O_EXCL
				}
				var err error
				f.raw, err = openFile(name, flag, perm)
				return f.raw, err
			},
		})
		return err
	})
	if err != nil {
		if f.raw != nil {
			_ = f.drop() // after a panic it is still open
		}
		if isDamage(err) && !errors.Is(err, ErrDamaged) {
			err = fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		return nil, err
	}
	f.db.AllocSize = growBy
	return f, nil
}

// view runs fn in a read transaction. What fn sees is valid inside fn only.
func (f *boltFile) view(fn func(tx *bolt.Tx) error) error {
	began := false
	err := guard(func() error {
		return f.db.View(func(tx *bolt.Tx) error {
			began = true
			return fn(tx)
		})
	})
	if _, ok := errors.AsType[*panicked](err); ok && !began {
		f.stuck.Store(true)
	}
	return err
}

// update runs fn in a write transaction and commits it. On return of nil its
// effect is durable; on an error the outcome is unknown, and the file must not
// be written again.
func (f *boltFile) update(fn func(tx *bolt.Tx) error) error {
	err := guard(func() error {
		return f.db.Update(func(tx *bolt.Tx) error {
			tx.OnCommit(func() {
				stats := tx.Stats()
				f.counters.bytes.Add(stats.GetPageAlloc() + pageSize) // and the meta page
				f.counters.syncs.Add(2)                               // pages, then meta
			})
			return fn(tx)
		})
	})
	if _, ok := errors.AsType[*panicked](err); ok {
		f.stuck.Store(true)
	}
	return err
}

// writeAhead writes zeros behind the pages in use, whose size is given, unless
// there are enough. A new block costs a lone event more than its own page: the
// file system writes down in its journal where it is, some five blocks for
// each commit. This way it does so once in sixteen pages, with the commit's own
// fdatasync. Nothing refers to what is there, so it may be lost, and where it
// is refused the commit tells why. Called by the writer alone, in update.
func (f *boltFile) writeAhead(size int64) {
	if size+commitPages*pageSize <= f.ahead {
		return
	}
	from := max(f.ahead, size)
	if _, err := f.raw.WriteAt(make([]byte, aheadBytes), from); err != nil {
		return
	}
	f.counters.bytes.Add(aheadBytes)
	f.ahead = from + aheadBytes
}

// close releases the file. Nothing depends on it for durability.
func (f *boltFile) close() error {
	if f.stuck.Load() {
		return f.drop()
	}
	return guard(f.db.Close)
}

// drop closes the descriptor under bbolt. The mapping stays, and would keep
// the flock with it.
func (f *boltFile) drop() error {
	return errors.Join(unlockFile(f.raw), f.raw.Close())
}

// isDamage tells content that is wrong from a file that cannot be had just
// now, which a later try may cure.
func isDamage(err error) bool {
	for _, now := range []error{
		errTrimmed, ErrClosed, fs.ErrPermission, bolterrors.ErrTimeout, ErrNewer, os.ErrClosed,
		syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.ENOSPC, syscall.EROFS, syscall.EDQUOT,
	} {
		if errors.Is(err, now) {
			return false
		}
	}
	return err != nil
}
