package journal

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// meta.db holds what is small and changes in place:
//
//	journal         format, epoch, newest (the first seq of the newest segment)
//	cursors         name → seq
//	state/<space>   key → value, of other parts
//
// It is apart from the events so that a cursor never waits for them.
const (
	metaName   = "meta.db"
	metaFormat = 1
	metaMapped = 1 << 20
)

var (
	journalBucket = []byte("journal")
	cursorsBucket = []byte("cursors")
	newestSegment = []byte("newest")
)

const statePrefix = "state/"

type meta struct {
	path     string
	counters *counters
	commits  watch
	relieve  func() bool // makes room on a full disk, if it can; nil before Open is done

	// write is held by whoever changes the file, through its fsync.
	write sync.Mutex

	// mu guards what follows. Those who only read never wait for an fsync.
	mu      sync.RWMutex
	file    *boltFile
	broken  bool // a commit failed: make a new file before the next one
	epoch   event.Epoch
	newest  event.Seq
	cursors map[string]event.Seq

	// What could not be read at open. Nothing changes it after that.
	damaged map[string]error    // cursors
	unread  map[string][]string // keys of entries, by space
}

// createMeta makes the file of a new journal; see createSegment for the order.
func createMeta(path string, c *counters, fill func(tx *bolt.Tx) error) (*boltFile, error) {
	temp := path + tempSuffix
	if err := os.Remove(temp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	f, err := openBolt(temp, createFile, metaMapped, c)
	if err != nil {
		return nil, err
	}
	c.created()
	if err = f.update(fill); err == nil {
		err = publish(f, temp, path)
	}
	if err != nil {
		return nil, errors.Join(err, f.close(), os.Remove(temp))
	}
	return f, nil
}

// fillMeta writes the journal's own part of the file.
func fillMeta(tx *bolt.Tx, epoch event.Epoch, newest event.Seq, cursors map[string]event.Seq) error {
	j, err := tx.CreateBucketIfNotExists(journalBucket)
	if err != nil {
		return err
	}
	c, err := tx.CreateBucketIfNotExists(cursorsBucket)
	if err != nil {
		return err
	}
	for name, seq := range cursors {
		if err := putSum(c, []byte(name), seqBytes(seq)); err != nil {
			return err
		}
	}
	return errors.Join(
		putSum(j, formatKey, seqBytes(metaFormat)),
		putSum(j, epochKey, []byte(epoch)),
		putSum(j, newestSegment, seqBytes(newest)))
}

// openMeta opens meta.db. ErrDamaged says that its content is lost.
func openMeta(dir string, c *counters) (*meta, error) {
	m := &meta{path: filepath.Join(dir, metaName), counters: c}
	f, err := openBolt(m.path, writeFile, metaMapped, c)
	if err != nil {
		return nil, err
	}
	m.file = f
	if err := f.view(m.load); err != nil {
		return nil, errors.Join(err, f.close())
	}
	return m, nil
}

func (m *meta) load(tx *bolt.Tx) error {
	j, c := tx.Bucket(journalBucket), tx.Bucket(cursorsBucket)
	if j == nil || c == nil {
		return fmt.Errorf("%w: no description", ErrDamaged)
	}
	format, err := getSum(j, formatKey)
	if err != nil {
		return err
	}
	if getSeq(format) > metaFormat {
		return fmt.Errorf("format %d: %w", getSeq(format), ErrNewer)
	}
	epoch, err1 := getSum(j, epochKey)
	newest, err2 := getSum(j, newestSegment)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	m.epoch, m.newest = event.Epoch(epoch), getSeq(newest)
	m.cursors, m.damaged = map[string]event.Seq{}, map[string]error{}
	return c.ForEach(func(name, stored []byte) error {
		seq, err := checkSum(name, stored)
		if err != nil {
			m.damaged[string(name)] = err
		}
		m.cursors[string(name)] = getSeq(seq) // damaged: zero, so that nothing is missed
		return nil
	})
}

// update commits fn to meta.db and, on success, runs then under the lock that
// readers take.
func (m *meta) update(fn func(tx *bolt.Tx) error, then func()) error {
	m.write.Lock()
	defer m.write.Unlock()
	return m.updateLocked(fn, then)
}

func (m *meta) updateLocked(fn func(tx *bolt.Tx) error, then func()) error {
	m.commits.start()
	defer m.commits.stop()
	err := m.tryLocked(fn, then)
	if isFull(err) && m.relieve != nil && m.relieve() {
		err = m.tryLocked(fn, then)
	}
	return err
}

func (m *meta) tryLocked(fn func(tx *bolt.Tx) error, then func()) error {
	if m.file == nil {
		return ErrClosed
	}
	if m.broken {
		if err := m.replace(); err != nil {
			return fmt.Errorf("replace %s: %w", metaName, err)
		}
	}
	if err := m.file.update(fn); err != nil {
		m.broken = true
		return fmt.Errorf("commit %s: %w", metaName, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	then()
	return nil
}

// replace puts a new file in the place of one whose commit failed, with all
// that can be read from it. Called with write held.
func (m *meta) replace() error {
	if m.file.stuck.Load() {
		return ErrDamaged
	}
	var next *boltFile
	err := m.file.view(func(old *bolt.Tx) (err error) {
		next, err = createMeta(m.path, m.counters, func(tx *bolt.Tx) error {
			return errors.Join(copyState(tx, old), fillMeta(tx, m.epoch, m.newest, m.cursors))
		})
		return err
	})
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.file
	m.file, m.broken = next, false
	return old.close()
}

// copyState copies what of the state can be read.
func copyState(to, from *bolt.Tx) error {
	return eachSpace(from, func(name []byte, b *bolt.Bucket) error {
		space, err := to.CreateBucket(name)
		if err != nil {
			return err
		}
		return b.ForEach(func(key, stored []byte) error {
			if _, err := checkSum(key, stored); err != nil {
				return nil //nolint:nilerr // lostState has named it
			}
			return space.Put(key, stored)
		})
	}, func([]byte, error) {})
}

// eachSpace visits the spaces of the state. In one that is damaged fn may end
// early; lost is told why.
func eachSpace(tx *bolt.Tx, fn func(name []byte, b *bolt.Bucket) error, lost func(name []byte, err error)) error {
	return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
		if !bytes.HasPrefix(name, []byte(statePrefix)) {
			return nil
		}
		err := guard(func() error { return fn(name, b) })
		if errors.Is(err, ErrDamaged) {
			lost(name, err)
			return nil
		}
		return err
	})
}

// lostState says what of the state cannot be read, and remembers the keys of it.
func (m *meta) lostState() (lost []error) {
	note := func(name []byte, err error) { lost = append(lost, fmt.Errorf("%s: %w", name, err)) }
	m.unread = map[string][]string{}
	err := m.file.view(func(tx *bolt.Tx) error {
		return eachSpace(tx, func(name []byte, b *bolt.Bucket) error {
			return b.ForEach(func(key, stored []byte) error {
				if _, err := checkSum(key, stored); err != nil {
					note(name, err)
					space := string(bytes.TrimPrefix(name, []byte(statePrefix)))
					m.unread[space] = append(m.unread[space], string(key))
				}
				return nil
			})
		}, note)
	})
	if err != nil {
		lost = append(lost, err)
	}
	return lost
}

// moveCursor moves a cursor forward, durably, and makes it if there is none.
func (m *meta) moveCursor(name string, to event.Seq) error {
	m.write.Lock()
	defer m.write.Unlock()
	m.mu.RLock()
	at, have := m.cursors[name]
	m.mu.RUnlock()
	if have && to <= at {
		return nil // a late confirmation
	}
	return m.updateLocked(
		func(tx *bolt.Tx) error { return putSum(tx.Bucket(cursorsBucket), []byte(name), seqBytes(to)) },
		func() { m.cursors[name] = to })
}

func (m *meta) setNewest(first event.Seq) error {
	return m.update(
		func(tx *bolt.Tx) error { return putSum(tx.Bucket(journalBucket), newestSegment, seqBytes(first)) },
		func() { m.newest = first })
}

func (m *meta) setEpoch(epoch event.Epoch) error {
	return m.update(
		func(tx *bolt.Tx) error { return putSum(tx.Bucket(journalBucket), epochKey, []byte(epoch)) },
		func() { m.epoch = epoch })
}

func (m *meta) put(space string, entries map[string][]byte) error {
	return m.update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte(statePrefix + space))
		if err != nil {
			return err
		}
		for key, value := range entries {
			if value == nil {
				err = b.Delete([]byte(key))
			} else {
				err = putSum(b, []byte(key), value)
			}
			if err != nil {
				return fmt.Errorf("key %q: %w", key, err)
			}
		}
		return nil
	}, func() {})
}

func (m *meta) all(space string) (map[string][]byte, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.file == nil {
		return nil, ErrClosed
	}
	entries := map[string][]byte{}
	err := m.file.view(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte(statePrefix + space))
		if b == nil {
			return nil
		}
		var errs []error
		if err := b.ForEach(func(key, stored []byte) error {
			value, err := checkSum(key, stored)
			if err != nil {
				errs = append(errs, err)
				return nil
			}
			entries[string(key)] = append([]byte{}, value...)
			return nil
		}); err != nil {
			return err
		}
		return errors.Join(errs...)
	})
	return entries, err
}

func (m *meta) cursor(name string) event.Seq {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.cursors[name]
}

func (m *meta) hasCursor(name string) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	_, have := m.cursors[name]
	return have
}

// snapshot returns a copy of the cursors, and the seqs of the hindmost and the
// foremost; ok is false if there are none.
func (m *meta) snapshot() (cursors map[string]event.Seq, hindmost, foremost event.Seq, ok bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, seq := range m.cursors {
		if !ok || seq < hindmost {
			hindmost = seq
		}
		foremost = max(foremost, seq)
		ok = true
	}
	return maps.Clone(m.cursors), hindmost, foremost, ok
}

func (m *meta) close() error {
	m.write.Lock()
	defer m.write.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.file == nil {
		return nil
	}
	f := m.file
	m.file = nil
	return f.close()
}

func damagedName(path string, now time.Time) string {
	return fmt.Sprintf("%s.damaged-%s", path, now.UTC().Format("20060102T150405.000"))
}

// setAside moves a damaged meta.db out of the way, keeping it for a human.
func setAside(path string, now time.Time) (string, error) {
	aside := damagedName(path, now)
	if err := os.Rename(path, aside); err != nil {
		return "", err
	}
	return aside, syncDir(filepath.Dir(path))
}
