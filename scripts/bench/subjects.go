package main

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble"
	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
	_ "modernc.org/sqlite" // the driver

	"github.com/avoqado/avoqado-edge/internal/journal"
)

// store is one of those measured. put returns when the event is durable, and
// is called concurrently.
type store interface {
	put(payload []byte) error
	close() error
}

type subject struct {
	name string
	open func(dir string) (store, error)
}

const (
	journalName = "journal"
	bareName    = "bare file"
	sqliteName  = "sqlite full"
	boltName    = "bbolt"
)

func subjects() []subject {
	return []subject{
		{journalName, func(dir string) (store, error) { return openJournal(dir, journal.Options{}) }},
		{bareName, openBare},
		{sqliteName, openSQLite},
		{boltName, openBolt},
		{"bbolt grouped", openBoltGrouped},
		{"pebble sync", openPebble},
	}
}

// box is a journal that runs. The event around a payload (identity, kind,
// time, subject …) is part of what it stores; peers store the payload alone.
type box struct {
	*journal.Journal
	stop func()
	wg   sync.WaitGroup
	n    atomic.Int64
	err  error // of Run
}

func openJournal(dir string, o journal.Options) (*box, error) {
	if err := journal.Create(dir, o); err != nil && !errors.Is(err, journal.ErrExists) {
		return nil, err
	}
	j, err := journal.Open(dir, o)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	b := &box{Journal: j, stop: stop}
	b.n.Store(int64(j.Stored()))
	b.wg.Go(func() { b.err = j.Run(ctx) })
	return b, nil
}

func (b *box) put(payload []byte) error {
	_, err := b.Append(context.Background(), newEvent(b.n.Add(1), payload))
	return err
}

func (b *box) close() error {
	b.stop()
	b.wg.Wait()
	return errors.Join(b.err, b.Close())
}

// bare is the limit: a file whose blocks are all there before, written from
// front to back and again, one write and one fdatasync per batch.
type bare struct {
	*group
	file *os.File
	at   int64
	buf  []byte
}

const bareBytes = 64 << 20

func openBare(dir string) (store, error) {
	f, err := os.Create(filepath.Join(dir, "bare"))
	if err != nil {
		return nil, err
	}
	zeros := make([]byte, 1<<20)
	for range bareBytes / len(zeros) {
		if _, err := f.Write(zeros); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	if err := f.Sync(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	b := &bare{file: f}
	b.group = newGroup(b.commit)
	return b, nil
}

func (b *bare) commit(batch [][]byte) error {
	b.buf = b.buf[:0]
	for _, payload := range batch {
		b.buf = append(b.buf, payload...)
	}
	if b.at+int64(len(b.buf)) > bareBytes {
		b.at = 0
	}
	if _, err := b.file.WriteAt(b.buf, b.at); err != nil {
		return err
	}
	b.at += int64(len(b.buf))
	return unix.Fdatasync(int(b.file.Fd()))
}

func (b *bare) close() error {
	b.group.close()
	return b.file.Close()
}

type sqlite struct {
	*group
	db     *sql.DB
	insert *sql.Stmt
}

func openSQLite(dir string) (store, error) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "sqlite.db")+
		"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	s := &sqlite{db: db}
	if _, err := db.Exec(`CREATE TABLE events (seq INTEGER PRIMARY KEY, payload BLOB NOT NULL)`); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	var mode string
	var level int
	err = errors.Join(db.QueryRow(`PRAGMA journal_mode`).Scan(&mode), db.QueryRow(`PRAGMA synchronous`).Scan(&level))
	if err == nil && (mode != "wal" || level != 2) {
		err = fmt.Errorf("journal mode %s, synchronous %d", mode, level)
	}
	if err == nil {
		s.insert, err = db.Prepare(`INSERT INTO events (payload) VALUES (?)`)
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	s.group = newGroup(s.commit)
	return s, nil
}

func (s *sqlite) commit(batch [][]byte) error {
	tx, err := s.db.Begin()
	if err != nil {
		return err
	}
	insert := tx.Stmt(s.insert)
	for _, payload := range batch {
		if _, err := insert.Exec(payload); err != nil {
			return errors.Join(err, tx.Rollback())
		}
	}
	return tx.Commit()
}

func (s *sqlite) close() error {
	s.group.close()
	return errors.Join(s.insert.Close(), s.db.Close())
}

// plainBolt is bbolt as it comes: one transaction per event.
type plainBolt struct{ db *bolt.DB }

var events = []byte("events")

func openBolt(dir string) (store, error) {
	db, err := bolt.Open(filepath.Join(dir, "bolt.db"), 0o600, nil)
	if err != nil {
		return nil, err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		_, err := tx.CreateBucket(events)
		return err
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &plainBolt{db}, nil
}

func (b *plainBolt) put(payload []byte) error { return b.commit([][]byte{payload}) }

func (b *plainBolt) commit(batch [][]byte) error {
	return b.db.Update(func(tx *bolt.Tx) error {
		bucket := tx.Bucket(events)
		for _, payload := range batch {
			seq, err := bucket.NextSequence()
			if err != nil {
				return err
			}
			if err := bucket.Put(binary.BigEndian.AppendUint64(nil, seq), payload); err != nil {
				return err
			}
		}
		return nil
	})
}

func (b *plainBolt) close() error { return b.db.Close() }

type groupedBolt struct {
	*group
	bolt store
}

func openBoltGrouped(dir string) (store, error) {
	s, err := openBolt(dir)
	if err != nil {
		return nil, err
	}
	return &groupedBolt{newGroup(s.(*plainBolt).commit), s}, nil
}

func (b *groupedBolt) close() error {
	b.group.close()
	return b.bolt.close()
}

// pebbleDB groups commits by itself.
type pebbleDB struct {
	db *pebble.DB
	n  atomic.Uint64
}

type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}

func openPebble(dir string) (store, error) {
	db, err := pebble.Open(dir, &pebble.Options{Logger: quiet{}})
	if err != nil {
		return nil, err
	}
	return &pebbleDB{db: db}, nil
}

func (p *pebbleDB) put(payload []byte) error {
	return p.db.Set(binary.BigEndian.AppendUint64(nil, p.n.Add(1)), payload, pebble.Sync)
}

func (p *pebbleDB) close() error { return p.db.Close() }
