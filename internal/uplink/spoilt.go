package uplink

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// Reasons of parked events when the one that was noted is gone.
const (
	spoiltEntry  = "the disk spoilt what was noted of it: why it was parked is not known any more"
	spoiltHolder = "the event it waited for cannot be read any more"
)

// reclaim parks anew what the disk has spoilt the entry of: the journal has the
// event itself, and the cursor has passed it, so nothing else would send it. What
// waited behind one that the journal has not any more waits for nobody.
func (u *Uplink) reclaim() error {
	for _, key := range u.notes.Damaged(ParkedSpace) {
		if err := u.reclaimEvent(key); err != nil {
			return err
		}
	}
	p := u.parking
	orphans := map[string][]byte{}
	for _, seq := range slices.Sorted(maps.Keys(p.list)) {
		e := p.list[seq]
		if e.Behind == 0 || p.list[e.Behind] != nil {
			continue
		}
		if e.Behind = p.heldBy(&e.Event, seq); e.Behind == 0 {
			e.Reason = spoiltHolder
		}
		if err := encodeParked(orphans, e); err != nil {
			return err
		}
	}
	if len(orphans) == 0 {
		return nil
	}
	if err := u.notes.Put(ParkedSpace, orphans); err != nil {
		return fmt.Errorf("%w: park event: %w", errJournal, err)
	}
	p.hold()
	return nil
}

func (u *Uplink) reclaimEvent(key string) error {
	p := u.parking
	n, err := strconv.ParseUint(key, 10, 64)
	seq := event.Seq(n)
	if err != nil || seq == 0 || p.has(seq) {
		return nil //nolint:nilerr // no entry of ours, or settled
	}
	events, err := u.journal.Read(seq-1, 1, 1)
	if err != nil || len(events) == 0 || events[0].Seq != seq {
		u.log.Error("parked event is lost: neither its entry nor the journal can be read", "seq", seq, "err", err)
		return nil
	}
	if err := p.neverSent(seq); err != nil {
		return err
	}
	u.log.Warn("parked event is taken from the journal, its entry was damaged", "seq", seq, "kind", events[0].Kind)
	return p.park(&events[0], spoiltEntry, p.heldBy(&events[0], seq))
}
