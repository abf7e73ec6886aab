package journal

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"maps"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// A backup is gzip over lines of JSON: see DESIGN.md, "Tools".
//
//	{"backup":{"format":1,…},"crc":"xxxxxxxx"}
//	{"event":{…},"crc":"xxxxxxxx"}                      or instead of an event
//	{"lost":{"from":7,"to":9,"reason":"…"},"crc":"…"}    what could not be read
//	{"trimmed":{"through":4711},"crc":"…"}               what was let go meanwhile
//	{"end":{"events":N,…,"sha256":"…"},"crc":"xxxxxxxx"}
//
// crc is the CRC32C of all the lines before it and this one's own bytes up to
// the comma in front of it, so that it also notices lines that were swapped,
// doubled or removed. sha256 is that of all lines before the last.
const (
	backupFormat = 1
	crcSize      = len(`,"crc":"00000000"}`)
)

// Source says whose journal a backup holds.
type Source struct {
	Box     string `json:"box"`
	Venue   string `json:"venue"`
	Version string `json:"version"` // of the program that made it
}

// BackupHead is what a backup says of itself at its beginning.
type BackupHead struct {
	Format int `json:"format"`
	Source
	Made    time.Time            `json:"made"`
	Epoch   event.Epoch          `json:"epoch"`  // of new events, when it was made
	First   event.Seq            `json:"first"`  // oldest event
	Stored  event.Seq            `json:"stored"` // newest event
	Cursors map[string]event.Seq `json:"cursors"`
	State   state                `json:"state"`
}

// backupEnd closes a backup.
type backupEnd struct {
	Events     uint64 `json:"events"`
	LostEvents uint64 `json:"lostEvents"`
	SHA256     string `json:"sha256"`
}

// state is the small durable state of other parts, by space. Keys and values
// are bytes; JSON holds them as base64.
type state map[string][]stateEntry

type stateEntry struct {
	Key   []byte `json:"key"`
	Value []byte `json:"value"`
}

// readState copies the state. Entries that are damaged are left out.
func readState(tx *bolt.Tx) state {
	all := state{}
	_ = tx.ForEach(func(name []byte, b *bolt.Bucket) error { // no error comes from below
		space, ok := bytes.CutPrefix(name, []byte(statePrefix))
		if !ok {
			return nil
		}
		entries := []stateEntry{}
		_ = b.ForEach(func(key, stored []byte) error {
			if value, err := checkSum(key, stored); err == nil {
				entries = append(entries, stateEntry{bytes.Clone(key), append([]byte{}, value...)})
			}
			return nil
		})
		all[string(space)] = entries
		return nil
	})
	return all
}

// state copies the state with the cursors of the same moment: what a cursor has
// passed because it is noted in the state is in it.
func (m *meta) state() (all state, cursors map[string]event.Seq, err error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.file == nil {
		return nil, nil, ErrClosed
	}
	err = m.file.view(func(tx *bolt.Tx) error {
		all = readState(tx)
		return nil
	})
	return all, maps.Clone(m.cursors), err
}

// Backup writes a backup of all that is stored by now, with cursors and state.
// [Restore] makes a journal of it on any machine. Events that cannot be read
// are named in it. It may be called concurrently with everything else; until
// it has returned nil, what was written is no backup.
func (j *Journal) Backup(ctx context.Context, w io.Writer, of Source) error {
	// Cursors and state first: they must not be ahead of the events.
	entries, cursors, err := j.meta.state()
	if err == nil {
		err = backup(ctx, j, w, newBackupHead(of, j.Epoch(), cursors, entries), nil)
	}
	if err != nil {
		return fmt.Errorf("back up journal %s: %w", j.dir, err)
	}
	return nil
}

func newBackupHead(of Source, epoch event.Epoch, cursors map[string]event.Seq, entries state) *BackupHead {
	return &BackupHead{
		Format: backupFormat, Source: of, Made: time.Now().UTC().Truncate(time.Millisecond),
		Epoch: epoch, Cursors: cursors, State: entries,
	}
}

func backup(ctx context.Context, h history, w io.Writer, head *BackupHead, p Progress) error {
	head.First, head.Stored = h.First(), h.Stored()
	zip := gzip.NewWriter(w)
	b := backupWriter{w: zip, sha: sha256.New()}
	if err := b.object("backup", head); err != nil {
		return err
	}
	var end backupEnd
	total := uint64(head.Stored + 1 - head.First)
	err := visit(ctx, h, head.First-1, head.Stored, visitor{
		event: func(e *event.Event) error {
			end.Events++
			p.tell(uint64(e.Seq+1-head.First), total)
			return b.event(e)
		},
		lost: func(l *LostError) error {
			end.LostEvents += uint64(l.To + 1 - l.From)
			line := appendLost(b.line[:0], l)
			return b.write(line[:len(line)-1])
		},
		trimmed: func(through event.Seq) error {
			return b.write(fmt.Appendf(b.line[:0], `{"trimmed":{"through":%d}`, through))
		},
	})
	if err != nil {
		return err
	}
	end.SHA256 = hex.EncodeToString(b.sha.Sum(nil))
	if err := b.object("end", end); err != nil {
		return err
	}
	return zip.Close()
}

// backupWriter writes the lines of a backup.
type backupWriter struct {
	w    io.Writer
	crc  uint32
	sha  hash.Hash
	line []byte // reused
}

// write completes a line, which lacks its closing brace, and writes it.
func (b *backupWriter) write(line []byte) error {
	b.crc = crc32.Update(b.crc, castagnoli, line)
	b.line = fmt.Appendf(line, ",\"crc\":\"%08x\"}\n", b.crc)
	if len(b.line) > maxBackupLine { // nobody could read it again
		return fmt.Errorf("%w: %d bytes in a line of a backup", ErrTooLarge, len(b.line))
	}
	_, _ = b.sha.Write(b.line) // never fails
	_, err := b.w.Write(b.line)
	return err
}

func (b *backupWriter) object(name string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	return b.write(fmt.Appendf(b.line[:0], `{"%s":%s`, name, text))
}

func (b *backupWriter) event(e *event.Event) error {
	line := append(b.line[:0], `{"event":`...)
	if faithful(e) {
		text, err := appendEvent(line, e)
		if err != nil {
			return err
		}
		return b.write(text)
	}
	record, err := encode(e)
	if err != nil {
		return err
	}
	stamp(record, e.Seq)
	text, err := json.Marshal(recorded{e.Seq, e.Epoch, record})
	if err != nil {
		return err
	}
	return b.write(append(line, text...))
}

// recorded is an event that JSON cannot hold as it is.
type recorded struct {
	Seq    event.Seq   `json:"seq"`
	Epoch  event.Epoch `json:"epoch"`
	Record []byte      `json:"record"` // as in a segment
}
