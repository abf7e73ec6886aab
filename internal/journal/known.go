package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// KnownLoss is a range of events that is gone for good, and that Repair has
// reported: a fact from then on, no fault.
type KnownLoss struct {
	From, To event.Seq
	Since    time.Time // when Repair first reported it
}

// knownSpace is where known losses are noted: among the state, so that a backup
// takes them along. The key is from and to, big-endian; the value the time, in
// Unix milliseconds.
const knownSpace = "known_losses"

const knownKeySize = 16

func (k *KnownLoss) key() []byte { return append(seqBytes(k.From), seqBytes(k.To)...) }

// readKnown returns the losses that are noted. One that cannot be read is not
// known: it is reported as new, which is the safe side.
func readKnown(tx *bolt.Tx) []KnownLoss {
	b := tx.Bucket([]byte(statePrefix + knownSpace))
	if b == nil {
		return nil
	}
	var known []KnownLoss
	_ = b.ForEach(func(key, stored []byte) error { // no error comes from below
		value, err := checkSum(key, stored)
		if err == nil && len(key) == knownKeySize && len(value) == 8 {
			known = append(known, KnownLoss{
				From: getSeq(key[:8]), To: getSeq(key[8:]),
				Since: time.UnixMilli(int64(binary.BigEndian.Uint64(value))).UTC(), //nolint:gosec // written from an int64
			})
		}
		return nil
	})
	return known
}

// KnownSince returns when the loss was first reported by Repair, zero if it
// never was. A range that grew is new.
func (r *Report) KnownSince(l *LostError) time.Time {
	for _, k := range r.Known {
		if k.From <= l.From && l.To <= k.To {
			return k.Since
		}
	}
	return time.Time{}
}

// NewLosses returns the ranges of events that are gone and that no Repair has
// reported, in order.
func (r *Report) NewLosses() []LostError {
	var fresh []LostError
	for _, l := range r.Losses() {
		if r.KnownSince(&l).IsZero() {
			fresh = append(fresh, l)
		}
	}
	return fresh
}

// final reports whether nothing can bring the events back: salvage looked for
// them, or there is no file that could hold them. What cannot be read otherwise
// may yet be salvaged, and must not be called known.
func (e *LostError) final() bool { return e.Err == nil || errors.Is(e.Err, errSalvaged) }

// noteLosses makes the final losses in r known, and forgets those of events
// that are trimmed by now. On return that is durable.
func noteLosses(dir string, r *Report, now time.Time) error {
	entries := map[string][]byte{}
	var known []KnownLoss
	for _, k := range r.Known {
		if k.To < r.First {
			entries[string(k.key())] = nil
		} else {
			known = append(known, k)
		}
	}
	for _, l := range r.NewLosses() {
		if l.final() {
			k := KnownLoss{From: l.From, To: l.To, Since: now.UTC().Truncate(time.Millisecond)}
			entries[string(k.key())] = seqBytes(event.Seq(k.Since.UnixMilli())) //nolint:gosec // read back as an int64
			known = append(known, k)
		}
	}
	if len(entries) == 0 {
		return nil
	}
	lock, err := takeLock(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	m, err := openMeta(dir, &counters{})
	if err != nil {
		return err
	}
	if err := errors.Join(m.put(knownSpace, entries), m.close()); err != nil {
		return fmt.Errorf("note losses: %w", err)
	}
	r.Known = known
	return nil
}
