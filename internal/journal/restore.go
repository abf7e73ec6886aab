package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// Restored says what Restore made.
type Restored struct {
	BackupSummary
	NewEpoch event.Epoch // of events to come
	Aside    string      // where what stood in the journal's place was moved; may be empty
}

// Adopter minds whose journal is restored. One box's events under another
// box's name would come twice to the back-end, or never.
type Adopter interface {
	// Check is asked before anything is made; an error ends the restore.
	Check(of Source) error
	// Adopt is called when the whole backup has agreed with its checksums,
	// before the journal gets its place; what it notes is durable on return. A
	// crash in between leaves a box that knows who it is and lacks its journal,
	// which does not start, and can be restored again. An error ends the restore.
	Adopt(of Source) error
}

// restoreSuffix marks the folder a journal is restored in.
const restoreSuffix = ".restoring"

// Restore makes the journal in dir of a backup: the same events at their seqs
// in their epochs, with cursors and state. New events follow in a new, greater
// epoch, since some may have been stored after the backup was made. What no
// cursor had passed by then is sent again. On return all of it is durable.
//
// The journal is made under another name, and gets its own only when the whole
// backup has been read and agreed with its checksums; so after an error, a
// crash or a power cut, dir is as it was. ErrExists if there is a journal and
// o.Replace does not allow for it; ErrBackup if the backup is damaged, ErrNewer
// if it is of a newer version, and whatever a says; a may be nil.
func Restore(ctx context.Context, r io.Reader, dir string, o Options, a Adopter, p Progress) (Restored, error) {
	done, err := restoreTo(ctx, r, filepath.Clean(dir), o.withDefaults(), a, p)
	if err != nil {
		return done, fmt.Errorf("restore journal %s: %w", dir, err)
	}
	o.withDefaults().Log.Info("journal restored", "dir", dir, "events", done.Events, "epoch", done.NewEpoch)
	return done, nil
}

func restoreTo(ctx context.Context, r io.Reader, dir string, o Options, a Adopter, p Progress) (done Restored, err error) {
	if found, err := present(dir); err != nil || found && !o.Replace {
		return done, errors.Join(err, ErrExists)
	}
	if _, err := os.Stat(dir); err == nil {
		lock, err := takeLock(dir)
		if err != nil {
			return done, err
		}
		defer lock.Close()
	}
	if err := makeDir(filepath.Dir(dir)); err != nil {
		return done, err
	}
	temp := dir + restoreSuffix
	if err := os.MkdirAll(temp, 0o700); err != nil {
		return done, err
	}
	lock, err := takeLock(temp) // of another restore
	if err != nil {
		return done, err
	}
	defer lock.Close()
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(temp))
		}
	}()
	if err := clearDir(temp); err != nil { // what a crash has left
		return done, err
	}
	b := rebuild{ctx: ctx, dir: temp, o: o, adopter: a}
	done.BackupSummary, err = readBackup(r, p, visitor{event: b.add, lost: b.skip, trimmed: b.restart}, b.begin)
	if err != nil {
		return done, errors.Join(err, b.close())
	}
	if done.NewEpoch, err = b.finish(&done.BackupHead); err != nil {
		return done, errors.Join(err, b.close())
	}
	if a != nil {
		if err := a.Adopt(done.Source); err != nil {
			return done, err
		}
	}
	done.Aside, err = moveIn(temp, dir, o.Now())
	return done, err
}

// clearDir removes what is in a folder, except its lock.
func clearDir(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if e.Name() != lockName {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

// moveIn gives a complete journal its place. What is left there of another,
// such as a quarantine, is moved aside.
//
//	fsync temp
//	rename what is in the way    crash: no journal there, as before
//	rename, fsync parent         ◄── the journal is restored
func moveIn(temp, dir string, now time.Time) (aside string, err error) {
	if err := syncDir(temp); err != nil {
		return "", err
	}
	err = errors.Join(removeLock(dir), syscall.Rmdir(dir))
	if errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, syscall.EEXIST) {
		aside = dir + ".before-" + now.UTC().Format("20060102T150405.000")
		err = os.Rename(dir, aside)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	if err := os.Rename(temp, dir); err != nil {
		return aside, err
	}
	return aside, syncDir(filepath.Dir(dir))
}

func removeLock(dir string) error {
	if err := os.Remove(filepath.Join(dir, lockName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// rebuild writes the events of a backup into segments.
type rebuild struct {
	ctx   context.Context
	dir   string
	o     Options
	pool  pool
	disk  counters
	epoch event.Epoch // the greatest there was

	adopter Adopter // may be nil

	active *bulk // nil: the next event begins a segment
}

func (b *rebuild) begin(head *BackupHead) error {
	b.epoch = head.Epoch
	if b.adopter != nil {
		return b.adopter.Check(head.Source)
	}
	return nil
}

// add takes the next event.
func (b *rebuild) add(e *event.Event) error {
	if err := b.ctx.Err(); err != nil {
		return err
	}
	b.epoch = max(b.epoch, e.Epoch)
	if b.active != nil {
		if err := b.active.settle(e.Seq); err != nil {
			return err
		}
		s := b.active.segment
		if b.o.full(b.active.size, int64(e.Seq-s.first)) || s.about.epoch != e.Epoch {
			if err := b.seal(); err != nil {
				return err
			}
		}
	}
	if b.active == nil {
		s, err := createSegment(b.dir, e.Seq, e.Epoch, b.o.mapped(), &b.pool, &b.disk)
		if err != nil {
			return err
		}
		b.active = newBulk(s, min(batchBytes, b.o.SegmentBytes))
	}
	record, err := encode(e)
	if err != nil {
		return err
	}
	stamp(record, e.Seq)
	b.active.add(e.Seq, record)
	return nil
}

// skip leaves out what the backup lacks: the segment ends there, so that the
// range is known to be missing.
func (b *rebuild) skip(*LostError) error { return b.seal() }

// restart forgets what the box itself let go of while the backup was made.
func (b *rebuild) restart(event.Seq) error {
	if err := b.close(); err != nil {
		return err
	}
	return clearDir(b.dir)
}

// seal completes the segment.
func (b *rebuild) seal() error {
	if b.active == nil {
		return nil
	}
	return errors.Join(b.active.seal(b.active.last), b.close())
}

func (b *rebuild) close() error {
	if b.active == nil {
		return nil
	}
	s := b.active.segment
	b.active = nil
	return s.release()
}

// finish completes the journal: an empty segment says where and in which epoch
// it goes on, and meta.db makes it one.
func (b *rebuild) finish(head *BackupHead) (event.Epoch, error) {
	if err := b.seal(); err != nil {
		return "", err
	}
	next, epoch := head.Stored+1, event.NewEpoch(b.epoch)
	s, err := createSegment(b.dir, next, epoch, b.o.mapped(), &b.pool, &b.disk)
	if err != nil {
		return "", err
	}
	if err := s.release(); err != nil {
		return "", err
	}
	f, err := createMeta(filepath.Join(b.dir, metaName), &b.disk, func(tx *bolt.Tx) error {
		if err := fillMeta(tx, epoch, next, head.Cursors); err != nil {
			return err
		}
		return head.State.put(tx)
	})
	if err != nil {
		return "", err
	}
	return epoch, f.close()
}

func (s state) put(tx *bolt.Tx) error {
	for space, entries := range s {
		b, err := tx.CreateBucketIfNotExists([]byte(statePrefix + space))
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := putSum(b, e.Key, e.Value); err != nil {
				return err
			}
		}
	}
	return nil
}
