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

// The buckets: effects in committed order (big-endian counter → Effect), for
// each source and epoch how far it is committed (→ event.Seq), which events
// beyond that have had their effect on the live lane (source, epoch and sequence
// → nothing), which were refused (the same → Effect with the reason), and what
// the back-end is called at a broker.
const (
	effects   = "effects"
	positions = "positions"
	early     = "early"
	refusals  = "refusals"
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
	Quality  string      `json:"timeQuality,omitempty"` // synced, corrected or unknown
	Error    int64       `json:"timeErrorMs,omitempty"` // how far Time may be off, if that is known
	Live     bool        `json:"live,omitempty"`        // it took effect ahead of the events before it
	Refused  string      `json:"refused,omitempty"`     // why it was refused; then it has no effect
	Data     []byte      `json:"-"`                     // the payload, byte for byte
}

// cloudEvent is an event as it is on the wire; unknown attributes are fine.
type cloudEvent struct {
	SpecVersion string          `json:"specversion"`
	ID          event.ID        `json:"id"`
	Source      string          `json:"source"`
	Type        string          `json:"type"`
	Subject     string          `json:"subject"`
	Time        string          `json:"time"`
	Quality     string          `json:"timequality"`
	Error       int64           `json:"timeerror"`
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
		ID: c.ID, Type: c.Type, Subject: c.Subject, Time: c.Time, Quality: c.Quality, Error: c.Error, Data: c.Data,
	}, nil
}

// committed is what became of a batch.
type committed struct {
	fresh      []Effect
	duplicates int
	refused    []Effect    // now or before
	early      int         // had their effect on the live lane
	hole       bool        // there was something that did not follow on
	epoch      event.Epoch // of the batch; empty if it was empty
	through    event.Seq   // how far its source is committed now
	news       bool        // something is to be written
}

// errNothingNew rolls a transaction back that would only cost an fsync.
var errNothingNew = errors.New("nothing new")

func (c *committed) worth() error {
	if !c.news {
		return errNothingNew
	}
	return nil
}

// commit writes the effects of a batch and its position in one transaction.
// Commit point: before it, none of the batch has happened and the box sends it
// again; after it, all of it has, and is skipped when it comes again.
func (b *Backend) commit(batch []Effect) (committed, error) {
	return b.update(batch, func(tx *bolt.Tx, c *committed) error {
		at := tx.Bucket([]byte(positions))
		for i := range batch {
			e := &batch[i]
			source := []byte(e.Source + "|" + string(e.Epoch))
			have, known := position(at, source)
			c.epoch = e.Epoch
			switch {
			case e.Seq <= have:
				c.duplicates++
				if err := c.recall(tx, e); err != nil {
					return err
				}
			case known && e.Previous > have && !b.cfg.AcceptHoles:
				c.hole, c.through = true, have
				return nil // keeps what came before the hole
			default:
				c.hole = c.hole || known && e.Previous > have
				if err := b.pass(tx, c, e); err != nil {
					return err
				}
				have = e.Seq
				if err := at.Put(source, binary.BigEndian.AppendUint64(nil, uint64(have))); err != nil {
					return fmt.Errorf("put position: %w", err)
				}
			}
			c.through = have
		}
		return nil
	})
}

// pass gives an event of the main lane its effect, unless it had it on the live
// lane or is refused. What had its effect early up to here need not be known any
// more: copies of it are behind the position.
func (b *Backend) pass(tx *bolt.Tx, c *committed, e *Effect) error {
	c.news = true
	was, err := forget(tx.Bucket([]byte(early)), e)
	switch {
	case err != nil:
		return err
	case was:
		c.early++
		return nil
	}
	if b.cfg.Refuse != nil {
		e.Refused = b.cfg.Refuse(*e)
	}
	if e.Refused != "" {
		c.refused = append(c.refused, *e)
		return putAt(tx.Bucket([]byte(refusals)), e.place(), e)
	}
	c.fresh = append(c.fresh, *e)
	return put(tx.Bucket([]byte(effects)), e)
}

// recall names a known event again if it was refused.
func (c *committed) recall(tx *bolt.Tx, e *Effect) error {
	raw := tx.Bucket([]byte(refusals)).Get(e.place())
	if raw == nil {
		return nil
	}
	kept, err := readEffect(raw)
	c.refused = append(c.refused, kept)
	return err
}

// commitLive gives events of the live lane their effect, and remembers in the
// same transaction that they had it. No position moves. What is refused waits
// for the main lane, where it can be named.
func (b *Backend) commitLive(batch []Effect) (committed, error) {
	return b.update(batch, func(tx *bolt.Tx, c *committed) error {
		at, ahead := tx.Bucket([]byte(positions)), tx.Bucket([]byte(early))
		for i := range batch {
			e := &batch[i]
			have, _ := position(at, []byte(e.Source+"|"+string(e.Epoch)))
			switch place := e.place(); {
			case e.Seq <= have, ahead.Get(place) != nil:
				c.duplicates++
			case b.cfg.Refuse != nil && b.cfg.Refuse(*e) != "":
			default:
				e.Live, e.Previous, c.news = true, 0, true
				if err := put(tx.Bucket([]byte(effects)), e); err != nil {
					return err
				}
				if err := ahead.Put(place, []byte{}); err != nil {
					return fmt.Errorf("put early position: %w", err)
				}
				c.fresh = append(c.fresh, *e)
			}
		}
		return nil
	})
}

// update is one transaction; it is dropped if there is nothing to write.
func (b *Backend) update(batch []Effect, work func(*bolt.Tx, *committed) error) (committed, error) {
	var c committed
	err := b.db.Update(func(tx *bolt.Tx) error {
		c = committed{}
		if err := work(tx, &c); err != nil {
			return err
		}
		return c.worth()
	})
	if err != nil && !errors.Is(err, errNothingNew) {
		return committed{}, fmt.Errorf("commit batch of %d: %w", len(batch), err)
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

// place is the key of an event; those of a source and epoch are in its order.
func (e *Effect) place() []byte {
	return binary.BigEndian.AppendUint64([]byte(e.Source+"|"+string(e.Epoch)+"|"), uint64(e.Seq))
}

// forget removes the early positions up to that of an event, and reports whether
// its own was among them.
func forget(ahead *bolt.Bucket, e *Effect) (was bool, err error) {
	last := e.place()
	from := last[:len(last)-8]
	c := ahead.Cursor()
	for k, _ := c.Seek(from); k != nil && len(k) == len(last) && bytes.HasPrefix(k, from) && bytes.Compare(k, last) <= 0; k, _ = c.Seek(from) {
		was = was || bytes.Equal(k, last)
		if err := c.Delete(); err != nil {
			return false, fmt.Errorf("forget early position: %w", err)
		}
	}
	return was, nil
}

// put stores an effect behind the last one.
func put(all *bolt.Bucket, e *Effect) error {
	all.FillPercent = 1 // keys only grow
	n, err := all.NextSequence()
	if err != nil {
		return fmt.Errorf("number effect: %w", err)
	}
	return putAt(all, binary.BigEndian.AppendUint64(nil, n), e)
}

// putAt stores an effect as a line of JSON with the payload behind it: inside
// the JSON its bytes would be changed.
func putAt(b *bolt.Bucket, key []byte, e *Effect) error {
	raw, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode effect: %w", err)
	}
	raw = append(append(raw, '\n'), e.Data...)
	if err := b.Put(key, raw); err != nil {
		return fmt.Errorf("put effect: %w", err)
	}
	return nil
}
