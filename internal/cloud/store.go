package cloud

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	bolt "go.etcd.io/bbolt"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// The buckets: effects in committed order (big-endian counter → Effect), and
// for each source and epoch how far it is committed (→ event.Seq), and what the
// back-end is called at a broker.
const (
	effects   = "effects"
	positions = "positions"
	self      = "self"
)

// clientID returns the name that the file keeps, making it up the first time.
func clientID(b *bolt.Bucket) (string, error) {
	key := []byte("clientId")
	if name := b.Get(key); name != nil {
		return string(name), nil
	}
	name := "avoqado-" + strings.ToLower(rand.Text())[:15] // 23 characters every broker takes
	if err := b.Put(key, []byte(name)); err != nil {
		return "", fmt.Errorf("keep the name at the broker: %w", err)
	}
	return name, nil
}

// Effect is what the back-end keeps of an event. In place of a table of
// payments and orders it simply has them all, in committed order.
type Effect struct {
	Source   string      `json:"source"` // /venues/<venue>/boxes/<box>
	Epoch    event.Epoch `json:"epoch"`
	Seq      event.Seq   `json:"seq"`
	Previous event.Seq   `json:"previous,omitempty"` // the event before it; 0: not told
	ID       event.ID    `json:"id"`
	Type     string      `json:"type"` // io.avoqado.<kind>
	Subject  string      `json:"subject,omitempty"`
	Time     string      `json:"time"`
	Data     []byte      `json:"-"` // the payload, byte for byte
}

// cloudEvent is an event as it is on the wire; unknown attributes are fine.
type cloudEvent struct {
	SpecVersion string          `json:"specversion"`
	ID          event.ID        `json:"id"`
	Source      string          `json:"source"`
	Type        string          `json:"type"`
	Subject     string          `json:"subject"`
	Time        string          `json:"time"`
	Epoch       event.Epoch     `json:"epoch"`
	Sequence    string          `json:"sequence"`
	Previous    string          `json:"previous"`
	Data        json.RawMessage `json:"data"`
}

func (c *cloudEvent) effect() (Effect, error) {
	if c.SpecVersion != "1.0" || c.ID == "" || c.Source == "" || c.Type == "" || c.Epoch == "" {
		return Effect{}, errors.New("not an event of the contract")
	}
	seq, err := strconv.ParseUint(c.Sequence, 10, 64)
	if err != nil || seq == 0 {
		return Effect{}, fmt.Errorf("sequence %.32q is not a position", c.Sequence)
	}
	var previous uint64
	if c.Previous != "" {
		if previous, err = strconv.ParseUint(c.Previous, 10, 64); err != nil || previous >= seq {
			return Effect{}, fmt.Errorf("previous %.32q is not a position before %d", c.Previous, seq)
		}
	}
	return Effect{
		Source: c.Source, Epoch: c.Epoch, Seq: event.Seq(seq), Previous: event.Seq(previous),
		ID: c.ID, Type: c.Type, Subject: c.Subject, Time: c.Time, Data: c.Data,
	}, nil
}

// committed is what became of a batch.
type committed struct {
	fresh      []Effect
	duplicates int
	hole       bool        // there was something that did not follow on
	epoch      event.Epoch // of the batch; empty if it was empty
	through    event.Seq   // how far its source is committed now
}

// errNothingNew rolls a transaction back that would only cost an fsync.
var errNothingNew = errors.New("nothing new")

func (c *committed) worth() error {
	if len(c.fresh) == 0 {
		return errNothingNew
	}
	return nil
}

// commit writes the effects of a batch and its position in one transaction.
// Commit point: before it, none of the batch has happened and the box sends it
// again; after it, all of it has, and is skipped when it comes again.
func (b *Backend) commit(batch []Effect) (committed, error) {
	var c committed
	err := b.db.Update(func(tx *bolt.Tx) error {
		c = committed{}
		all, at := tx.Bucket([]byte(effects)), tx.Bucket([]byte(positions))
		all.FillPercent = 1 // keys only grow
		for i := range batch {
			e := &batch[i]
			key := []byte(e.Source + "|" + string(e.Epoch))
			have, known := position(at, key)
			c.epoch = e.Epoch
			switch {
			case e.Seq <= have:
				c.duplicates++
			case known && e.Previous > have && !b.cfg.AcceptHoles:
				c.hole, c.through = true, have
				return c.worth() // keeps what came before the hole
			default:
				c.hole = c.hole || known && e.Previous > have
				if err := put(all, e); err != nil {
					return err
				}
				have = e.Seq
				if err := at.Put(key, binary.BigEndian.AppendUint64(nil, uint64(have))); err != nil {
					return fmt.Errorf("put position: %w", err)
				}
				c.fresh = append(c.fresh, *e)
			}
			c.through = have
		}
		return c.worth()
	})
	if err != nil && !errors.Is(err, errNothingNew) {
		return committed{}, fmt.Errorf("commit batch: %w", err)
	}
	return c, nil
}

// position returns how far a source is committed. An unknown source may begin
// anywhere: its box may have been served by another back-end before.
func position(at *bolt.Bucket, key []byte) (event.Seq, bool) {
	v := at.Get(key)
	if len(v) != 8 {
		return 0, false
	}
	return event.Seq(binary.BigEndian.Uint64(v)), true
}

// put stores an effect as a line of JSON with the payload behind it: inside the
// JSON its bytes would be changed.
func put(all *bolt.Bucket, e *Effect) error {
	n, err := all.NextSequence()
	if err != nil {
		return fmt.Errorf("number effect: %w", err)
	}
	raw, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode effect: %w", err)
	}
	raw = append(append(raw, '\n'), e.Data...)
	if err := all.Put(binary.BigEndian.AppendUint64(nil, n), raw); err != nil {
		return fmt.Errorf("put effect: %w", err)
	}
	return nil
}

// Count returns how many effects are committed. Safe concurrently.
func (b *Backend) Count() (uint64, error) {
	var n uint64
	err := b.db.View(func(tx *bolt.Tx) error {
		n = tx.Bucket([]byte(effects)).Sequence()
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("count effects: %w", err)
	}
	return n, nil
}

// Each calls visit for every effect in committed order until it returns an
// error, which Each returns. Safe concurrently.
func (b *Backend) Each(visit func(Effect) error) error {
	return b.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte(effects)).ForEach(func(_, raw []byte) error {
			var e Effect
			head, data, _ := bytes.Cut(raw, []byte{'\n'})
			if err := json.Unmarshal(head, &e); err != nil {
				return fmt.Errorf("read effect: %w", err)
			}
			e.Data = bytes.Clone(data)
			return visit(e)
		})
	})
}
