package uplink

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

const (
	settledSpace = "settled"
	leftSpace    = "left"     // positions that were parked and are not any more
	heldNote     = "lastHeld" // in noteSpace: the last event that was kept behind another
	parkedMax    = 1000       // events that wait for an operator
	settledKept  = 200        // of what operators decided
	leftMax      = 8192       // the newest are kept
	leftBefore   = "1"        // what was kept in leftSpace before it was the decision

	// againPrefix begins the DedupKey of an event that an operator has sent
	// again, so that one decision puts it into the journal once.
	againPrefix = "parked/"
)

// Parked is an event that the cloud will not take, or that waits because it is
// about the same order, payment, table or terminal as such a one.
type Parked struct {
	Event  event.Event `json:"event"`
	At     time.Time   `json:"at"`
	Reason string      `json:"reason,omitempty"` // the back-end's
	Behind event.Seq   `json:"behind,omitempty"` // the event it waits for; zero: it was refused itself
}

// Decision is what an operator does with a parked event.
type Decision string

// The decisions. All but Drop put an event into the journal anew, under its old
// id and a new position; the old position stays passed.
const (
	Retry Decision = "retry" // send it again as it is
	Edit  Decision = "edit"  // send it again with another payload
	Drop  Decision = "drop"  // do not send it
)

// Settled is what was decided about a parked event. The newest 200 are kept.
type Settled struct {
	Number   uint64      `json:"number"` // 1, 2, 3, … over all time
	Seq      event.Seq   `json:"seq"`
	Event    event.Event `json:"event"`
	Reason   string      `json:"reason"` // why it was parked
	Decision Decision    `json:"decision"`
	Note     string      `json:"note,omitempty"`  // the operator's
	Again    event.Seq   `json:"again,omitempty"` // where it is in the journal now
	At       time.Time   `json:"at"`
}

// Errors of [Uplink.Settle].
var (
	// ErrNotParked says that there is no such parked event.
	ErrNotParked = errors.New("no parked event at this position")

	// ErrWaits says that the event waits for another, which is to be settled.
	ErrWaits = errors.New("event waits behind another")

	// ErrInFlight says that the cloud has not confirmed what stands before the
	// event or one that waits behind it. It may be tried again once it has.
	ErrInFlight = errors.New("what stands before the event is not confirmed yet")

	// ErrPayload says that a new payload is not a JSON object of a size that an
	// event may have.
	ErrPayload = errors.New("payload is not a JSON object of at most 120 KiB")
)

// parking keeps the events that the cloud does not take out of the line, so
// that all others get on. Safe concurrently.
type parking struct {
	notes Notes

	mu      sync.Mutex // guards below
	list    map[event.Seq]*Parked
	held    map[string]event.Seq   // key → the refused event that holds it
	left    map[event.Seq]Decision // not to be sent from here: dropped, or in the journal anew
	settled uint64                 // the last number

	// lastHeld is the last event that ever waited behind another. Events up to
	// there may never have been sent from their place.
	lastHeld event.Seq
}

func loadParking(notes Notes) (*parking, error) {
	p := &parking{notes: notes, list: map[event.Seq]*Parked{}, left: map[event.Seq]Decision{}}
	all, err := notes.All(ParkedSpace)
	if err != nil {
		return nil, fmt.Errorf("read parked events: %w", err)
	}
	for key, raw := range all {
		var e Parked
		if err := json.Unmarshal(raw, &e); err != nil {
			return nil, fmt.Errorf("read parked event %s: %w", key, err)
		}
		p.list[e.Event.Seq] = &e
	}
	p.hold()
	if all, err = notes.All(noteSpace); err != nil {
		return nil, fmt.Errorf("read last event held: %w", err)
	}
	if raw, known := all[heldNote]; known {
		if err := json.Unmarshal(raw, &p.lastHeld); err != nil {
			return nil, fmt.Errorf("read last event held: %w", err)
		}
	}
	if all, err = notes.All(settledSpace); err != nil {
		return nil, fmt.Errorf("read settled events: %w", err)
	}
	decided := map[event.Seq]Decision{}
	for _, raw := range all {
		var s Settled
		if json.Unmarshal(raw, &s) == nil { // else its slot is used again
			p.settled = max(p.settled, s.Number)
			decided[s.Seq] = s.Decision
		}
	}
	if all, err = notes.All(leftSpace); err != nil {
		return nil, fmt.Errorf("read places that settled events left: %w", err)
	}
	for key, raw := range all {
		n, err := strconv.ParseUint(key, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("read places that settled events left: %w", err)
		}
		seq := event.Seq(n)
		p.left[seq] = Decision(raw)
		if string(raw) == leftBefore {
			p.left[seq] = cmp.Or(decided[seq], Retry)
		}
	}
	return p, nil
}

// hold works out which keys are held, by the oldest refused event of each.
func (p *parking) hold() {
	p.held = map[string]event.Seq{}
	for _, seq := range slices.Sorted(maps.Keys(p.list)) {
		e := p.list[seq]
		if e.Behind > 0 {
			continue
		}
		for _, key := range appendKeys(nil, &e.Event) {
			if _, taken := p.held[key]; !taken {
				p.held[key] = seq
			}
		}
	}
}

// park takes an event out of the line; it is on disk on return. Parking it
// again changes nothing.
func (p *parking) park(e *event.Event, reason string, behind event.Seq) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if was, known := p.list[e.Seq]; known && (was.Behind == 0 || behind > 0) || behind > 0 && p.list[behind] == nil {
		return nil // known, or what it would wait for has just been settled
	}
	if len(p.list) >= parkedMax {
		return fmt.Errorf("%w: %d events", errParkedFull, len(p.list))
	}
	entry := &Parked{Event: *e, At: now(), Reason: reason, Behind: behind}
	put := map[string][]byte{}
	if err := encodeParked(put, entry); err != nil {
		return err
	}
	if behind > 0 {
		if err := p.neverSent(e.Seq); err != nil {
			return err
		}
	}
	if err := p.notes.Put(ParkedSpace, put); err != nil {
		return fmt.Errorf("%w: park event: %w", errJournal, err)
	}
	p.list[e.Seq] = entry
	p.hold()
	return nil
}

// neverSent raises lastHeld. It is a bound: too high does no harm.
func (p *parking) neverSent(s event.Seq) error {
	if s <= p.lastHeld {
		return nil
	}
	if err := p.notes.Put(noteSpace, map[string][]byte{heldNote: fmt.Appendf(nil, "%d", s)}); err != nil {
		return fmt.Errorf("%w: park event: %w", errJournal, err)
	}
	p.lastHeld = s
	return nil
}

func encodeParked(put map[string][]byte, e *Parked) error {
	raw, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode parked event: %w", err)
	}
	put[parkedKey(e.Event.Seq)] = raw
	return nil
}

func parkedKey(s event.Seq) string { return fmt.Sprintf("%020d", s) }

// maySay returns the place as what was sent last before what comes next, or
// nowhere if it may be an event that was kept back: a back-end that is told of a
// predecessor which it never got would wait for it for ever.
func (p *parking) maySay(last place) place {
	p.mu.Lock()
	defer p.mu.Unlock()
	if last.seq <= p.lastHeld {
		return place{}
	}
	return last
}

// count returns how many events are parked.
func (p *parking) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.list)
}

// has reports whether the event at a position is parked, or was until an operator
// decided about it: then it is not sent from there again, in a replay either.
func (p *parking) has(s event.Seq) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, is := p.list[s]
	return is || p.left[s] != ""
}

// Stands says whether the event at a position is parked, or else what was
// decided when it was; empty: it never was, or too long ago. An event that
// waited behind another is sent again with it: that is [Retry]. It reads no
// disk. Safe concurrently.
func (u *Uplink) Stands(seq event.Seq) (parked bool, decided Decision) {
	p := u.parking
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, parked = p.list[seq]; parked {
		return true, "" // a decision that was cut short is to be made again
	}
	return false, p.left[seq]
}

// detain parks what waits behind a refused event, so that the rest of the line
// gets on.
func (p *parking) detain(events []event.Event) error {
	if p.count() == 0 {
		return nil
	}
	var keys []string
	for i := range events {
		e := &events[i]
		if !travels(e) || strings.HasPrefix(e.DedupKey, againPrefix) {
			continue // an operator has it sent again
		}
		keys = appendKeys(keys[:0], e)
		behind := event.Seq(0)
		p.mu.Lock()
		for _, key := range keys {
			if first, held := p.held[key]; held && first < e.Seq {
				behind = max(behind, first)
			}
		}
		p.mu.Unlock()
		if behind == 0 {
			continue
		}
		if err := p.park(e, "", behind); err != nil {
			return err
		}
	}
	return nil
}

// Parked returns the events that are kept out of the line, in the order in
// which they happened. Safe concurrently.
func (u *Uplink) Parked() []Parked {
	p := u.parking
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]Parked, 0, len(p.list))
	for _, seq := range slices.Sorted(maps.Keys(p.list)) {
		list = append(list, *p.list[seq])
	}
	return list
}

// Settled returns the newest decisions of operators, at most 200, oldest first.
// Safe concurrently.
func (u *Uplink) Settled() ([]Settled, error) {
	all, err := u.notes.All(settledSpace)
	if err != nil {
		return nil, fmt.Errorf("read settled events: %w", err)
	}
	list := make([]Settled, 0, len(all))
	for _, raw := range all {
		var s Settled
		if json.Unmarshal(raw, &s) == nil { // else its slot is used again
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b Settled) int { return cmp.Compare(a.Number, b.Number) })
	return list, nil
}

// refuse parks what the back-end will not take.
func (u *Uplink) refuse(epoch event.Epoch, list []refusal) error {
	for _, r := range list {
		if r.Seq < 1 || event.Seq(r.Seq) > u.marks.Stored() {
			continue // nothing of ours
		}
		seq := event.Seq(r.Seq)
		events, err := u.journal.Read(seq-1, 1, 1)
		if _, hole := errors.AsType[lost](err); hole {
			continue
		}
		if err != nil {
			return fmt.Errorf("%w: read refused event: %w", errJournal, err)
		}
		if len(events) == 0 || events[0].Seq != seq || events[0].Epoch != epoch || !travels(&events[0]) {
			continue
		}
		if u.parking.has(seq) {
			continue // said again, or what an operator has decided
		}
		reason := fmt.Sprintf("%.*s", maxReason, r.Reason)
		if err := u.parking.park(&events[0], reason, 0); err != nil {
			return err
		}
		u.log.Warn("event refused by the back-end is parked", "seq", seq, "kind", events[0].Kind, "reason", reason)
	}
	u.tell(func(st *Status) { st.Parked = u.parking.count() })
	return nil
}

// Settle carries out what an operator decided about a refused event. On return
// without an error it is on disk: the event, unless it is dropped, stands in the journal anew
// and is not shown in the venue again; what waited behind it follows, in order;
// the decision is recorded. A call that was cut short may be made again. Safe
// concurrently.
func (u *Uplink) Settle(ctx context.Context, seq event.Seq, d Decision, payload []byte, note string) (Settled, error) {
	u.settling.Lock()
	defer u.settling.Unlock()
	p := u.parking
	list, synced := u.Parked(), u.Status().Synced
	at := slices.IndexFunc(list, func(e Parked) bool { return e.Event.Seq == seq })
	switch {
	case at < 0:
		return Settled{}, fmt.Errorf("%w: %d", ErrNotParked, seq)
	case list[at].Behind > 0:
		return Settled{}, fmt.Errorf("%w: %d waits for %d", ErrWaits, seq, list[at].Behind)
	case slices.ContainsFunc(list, func(e Parked) bool { return synced < e.Event.Seq && (e.Event.Seq == seq || e.Behind == seq) }):
		return Settled{}, ErrInFlight
	}
	first := list[at]
	done := Settled{Seq: seq, Event: first.Event, Reason: first.Reason, Decision: d, Note: note, At: now()}
	if d == Edit {
		if _, err := event.ParseObject(payload); err != nil || len(payload) > event.MaxPayload {
			return Settled{}, ErrPayload
		}
		first.Event.Payload = payload
	}
	gone := map[string][]byte{parkedKey(seq): nil}
	if d != Drop {
		receipt, err := u.appendAgain(ctx, first.Event)
		if err != nil {
			return Settled{}, err
		}
		done.Again = receipt.Seq
	}
	for _, e := range list {
		if e.Behind != seq {
			continue
		}
		if other := p.heldBy(&e.Event, seq); other > 0 {
			e.Behind = other // it waits for another one too
			if err := encodeParked(gone, &e); err != nil {
				return Settled{}, err
			}
			continue
		}
		if _, err := u.appendAgain(ctx, e.Event); err != nil {
			return Settled{}, err
		}
		gone[parkedKey(e.Event.Seq)] = nil
	}
	if err := p.settle(&done, gone); err != nil {
		return Settled{}, err
	}
	u.tell(func(st *Status) { st.Parked = p.count() })
	u.log.Info("parked event settled", "seq", seq, "decision", d, "again", done.Again)
	return done, nil
}

// heldBy returns the refused event, other than one, that an event must wait for.
func (p *parking) heldBy(e *event.Event, but event.Seq) (other event.Seq) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, key := range appendKeys(nil, e) {
		for seq, r := range p.list {
			if seq != but && seq < e.Seq && r.Behind == 0 && slices.Contains(appendKeys(nil, &r.Event), key) {
				other = max(other, seq)
			}
		}
	}
	return other
}

// settle records a decision and takes events out of the list.
func (p *parking) settle(done *Settled, gone map[string][]byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for seq, e := range p.list {
		if _, taken := gone[parkedKey(seq)]; e.Behind == done.Seq && !taken {
			return ErrInFlight // it happened meanwhile
		}
	}
	done.Number = p.settled + 1
	raw, err := json.Marshal(done)
	if err != nil {
		return fmt.Errorf("encode decision: %w", err)
	}
	// The records first: a crash in between leaves the event parked, and what
	// was put into the journal is not put there twice.
	if err := p.leave(gone, done); err != nil {
		return err
	}
	key := fmt.Sprintf("%03d", done.Number%settledKept)
	if err := p.notes.Put(settledSpace, map[string][]byte{key: raw}); err != nil {
		return fmt.Errorf("%w: record decision: %w", errJournal, err)
	}
	if err := p.notes.Put(ParkedSpace, gone); err != nil {
		return fmt.Errorf("%w: settle parked event: %w", errJournal, err)
	}
	p.settled = done.Number
	for seq, e := range p.list {
		raw, changed := gone[parkedKey(seq)]
		switch {
		case changed && raw == nil:
			delete(p.list, seq)
		case changed:
			if err := json.Unmarshal(raw, e); err != nil {
				return fmt.Errorf("read parked event: %w", err)
			}
		}
	}
	p.hold()
	return nil
}

// leave notes which places are left and by what decision, the newest of them.
func (p *parking) leave(gone map[string][]byte, done *Settled) error {
	put := map[string][]byte{}
	for seq := range p.list {
		if raw, changed := gone[parkedKey(seq)]; changed && raw == nil {
			p.left[seq] = Retry // it waited, and goes with the other
			if seq == done.Seq {
				p.left[seq] = done.Decision
			}
			put[parkedKey(seq)] = []byte(p.left[seq])
		}
	}
	if old := len(p.left) - leftMax; old > 0 {
		for _, seq := range slices.Sorted(maps.Keys(p.left))[:old] {
			delete(p.left, seq)
			put[parkedKey(seq)] = nil
		}
	}
	if err := p.notes.Put(leftSpace, put); err != nil {
		return fmt.Errorf("%w: leave the place of a parked event: %w", errJournal, err)
	}
	return nil
}

// appendAgain puts a parked event into the journal anew, once. It has expired
// already, so nobody in the venue sees it a second time.
func (u *Uplink) appendAgain(ctx context.Context, e event.Event) (event.Receipt, error) {
	e.DedupKey = againPrefix + string(e.Epoch) + "/" + parkedKey(e.Seq)
	e.Digest = 0
	e.Expires = e.Time
	receipt, err := u.journal.Append(ctx, &e)
	if err != nil {
		return receipt, fmt.Errorf("%w: append parked event: %w", errJournal, err)
	}
	return receipt, nil
}
