package cloud

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// Ledger is the file of a back-end: what took effect, what was refused, and how
// far each box is committed. All methods are safe concurrently.
type Ledger struct{ db *bolt.DB }

// ErrInUse says that a back-end holds the file.
var ErrInUse = errors.New("a back-end is using it")

// OpenLedger opens the file of a back-end that does not run, to read it.
func OpenLedger(path string) (*Ledger, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Second, ReadOnly: true})
	if errors.Is(err, bolterrors.ErrTimeout) {
		err = ErrInUse
	}
	if err != nil {
		return nil, fmt.Errorf("open ledger %s: %w", path, err)
	}
	return &Ledger{db}, nil
}

// Close closes the file.
func (l *Ledger) Close() error {
	if err := l.db.Close(); err != nil {
		return fmt.Errorf("close back-end store: %w", err)
	}
	return nil
}

// Count returns how many effects are committed.
func (l *Ledger) Count() (uint64, error) {
	var n uint64
	err := l.view(effects, func(b *bolt.Bucket) error {
		n = b.Sequence()
		return nil
	})
	return n, err
}

// Each calls visit for every effect in committed order until it returns an
// error, which Each returns.
func (l *Ledger) Each(visit func(Effect) error) error { return l.each(effects, visit) }

// Refusals calls visit for every event that was refused, by source and sequence.
func (l *Ledger) Refusals(visit func(Effect) error) error { return l.each(refusals, visit) }

// Position is how far a box is committed.
type Position struct {
	Source  string      `json:"source"`
	Epoch   event.Epoch `json:"epoch"`
	Through event.Seq   `json:"through"`
	Early   int         `json:"early"` // events beyond it that have had their effect on the live lane
}

// Positions returns how far each source is committed.
func (l *Ledger) Positions() ([]Position, error) {
	var list []Position
	err := l.view(positions, func(b *bolt.Bucket) error {
		return b.ForEach(func(k, v []byte) error {
			source, epoch, _ := strings.Cut(string(k), "|")
			if len(v) == 8 {
				list = append(list, Position{Source: source, Epoch: event.Epoch(epoch), Through: event.Seq(binary.BigEndian.Uint64(v))})
			}
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	for i := range list {
		p := &list[i]
		err = errors.Join(err, l.view(early, func(b *bolt.Bucket) error {
			prefix := []byte(p.Source + "|" + string(p.Epoch) + "|")
			c := b.Cursor()
			for k, _ := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, _ = c.Next() {
				p.Early++
			}
			return nil
		}))
	}
	return list, err
}

func (l *Ledger) each(bucket string, visit func(Effect) error) error {
	return l.view(bucket, func(b *bolt.Bucket) error {
		return b.ForEach(func(_, raw []byte) error {
			e, err := readEffect(raw)
			if err != nil {
				return err
			}
			return visit(e)
		})
	})
}

// view reads a bucket; files of earlier versions do not have them all.
func (l *Ledger) view(bucket string, read func(*bolt.Bucket) error) error {
	return l.db.View(func(tx *bolt.Tx) error {
		if b := tx.Bucket([]byte(bucket)); b != nil {
			return read(b)
		}
		return nil
	})
}

func readEffect(raw []byte) (Effect, error) {
	var e Effect
	head, data, _ := bytes.Cut(raw, []byte{'\n'})
	if err := json.Unmarshal(head, &e); err != nil {
		return e, fmt.Errorf("read effect: %w", err)
	}
	e.Data = bytes.Clone(data)
	return e, nil
}
