package uplink

import (
	"errors"
	"fmt"
	"sort"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// sender decides what is sent next, what is confirmed, and when to send again.
// It touches neither network nor clock, so its rules can be tested alone.
//
//	journal:  … ─────────┬──────────────────────┬──────────────┬─────── … stored
//	                   cursor                  sent           read
//	          confirmed, │ in flight: batches   │ pending: read │ to be read
//	          passed     │ sent, unconfirmed    │ from disk     │
//
// Invariants: cursor only grows, and only over events that were confirmed or
// do not travel. Batches are sent, and leave the flight, in order. Whatever
// goes wrong, the answer is the same: forget the flight and read on from the
// cursor.
//
// A new epoch begins where history was lost; positions go on counting. The
// back-end keeps a position per epoch and cannot see a hole between two, so
// nothing of a later epoch is sent before the earlier one is confirmed: all
// that is in flight is of one epoch.
//
// One goroutine owns it.
type sender struct {
	journal Journal
	enc     encoder
	mode    Confirmation
	wait    time.Duration // the first confirmWait, Backend only

	cursor event.Seq // everything up to here needs no sending any more
	anchor place     // the last event up to cursor that travelled, if known
	sent   place     // the furthest event sent by this process

	read     event.Seq     // position of the last event in pending, or used up
	previous place         // the event sent before the next one, if known
	pending  []event.Event // read, not yet sent; its memory is used again
	space    []event.Event // that memory
	more     bool          // the last read may not have reached the end
	limit    event.Seq     // nothing behind it is read; zero: no limit
	since    time.Time     // when pending began
	gathers  bool          // pending waits for more

	// detain parks what waits behind a refused event; nil: nothing does.
	detain func([]event.Event) error

	flight  []*batch          // sent and unconfirmed, oldest first
	open    map[uint64]*batch // publishes without PUBACK; nil for other messages
	unacked int               // how many of open are batches
	heavy   int               // their bytes

	toBroker  window // by PUBACKs
	toBackend window // by the back-end's word

	probing  bool          // one batch only, until a confirmation arrives
	patience time.Duration // how long to wait for progress before sending again
	progress time.Time     // when it was last made, or became due
	pubacked time.Time     // when a PUBACK last came, or became due
	rewound  time.Time     // when a hint was last followed

	sizes

	count Counts
}

// lost is an error of the journal about events that cannot be read. Reading
// goes on behind them: the journal has reported them, and what comes after
// must not wait for ever for what cannot come.
type lost interface {
	error
	Lost() (from, to event.Seq) // both inclusive
}

func newSender(j Journal, mode Confirmation, wait time.Duration, enc encoder) *sender {
	s := &sender{journal: j, enc: enc, mode: mode, wait: wait, cursor: j.Cursor(cursorName), sizes: sizes{ceiling: maxBatchBytes}}
	s.anchor = enc.before(lastTravelled(j, s.cursor))
	s.sent = place{s.anchor.epoch, s.cursor}
	s.connected()
	return s
}

// lastTravelled returns the last event up to the given position that went to
// the cloud. It is nowhere if the events there cannot be read, or if none of
// the last 64 × 256 travelled: then the back-end is told of no predecessor,
// which only means that it cannot check for a hole there.
func lastTravelled(j Journal, upTo event.Seq) place {
	const chunk = 256
	for range 64 {
		after := event.Seq(0)
		if upTo > chunk {
			after = upTo - chunk
		}
		var found place
		for at := after; at < upTo; {
			events, err := j.Read(at, chunk, maxBatchBytes)
			if err != nil {
				return place{}
			}
			if len(events) == 0 {
				break
			}
			for i := range events {
				if at = events[i].Seq; at <= upTo && travels(&events[i]) {
					found = place{events[i].Epoch, at}
				}
			}
		}
		if found.seq > 0 || after == 0 {
			return found
		}
		upTo = after
	}
	return place{}
}

// connected starts over from the cursor on a fresh link.
func (s *sender) connected() {
	s.open, s.unacked, s.heavy = make(map[uint64]*batch), 0, 0
	s.toBroker, s.toBackend = newWindow(windowMin, windowMax), newWindow(confirmMin, confirmWindow)
	s.patience = s.wait
	s.fresh()
	s.rewind()
}

// rewind forgets what is in flight and reads on from the cursor. In Backend
// mode only one batch is then sent until a confirmation arrives: a back-end
// that does not check for holes must not be led past a batch it missed.
func (s *sender) rewind() {
	s.flight, s.pending, s.built = nil, nil, nil
	s.read, s.previous = s.cursor, s.anchor
	s.more = true
	s.probing = s.mode == Backend
}

// reached returns how far what is sent reaches now.
func (s *sender) reached() event.Seq {
	if len(s.flight) == 0 {
		return s.cursor
	}
	return s.flight[len(s.flight)-1].pass
}

// maySend reports whether the windows have room for a batch.
func (s *sender) maySend() bool {
	switch {
	case s.unacked >= s.toBroker.size, s.unacked > 0 && s.heavy >= maxHeavy, len(s.flight) >= confirmWindow:
		return false
	case s.mode == Backend && len(s.flight) >= s.toBackend.size:
		return false
	case s.probing, s.doubts():
		return len(s.flight) == 0
	}
	return true
}

// next returns the batch to send, or nil if there is nothing to send now. The
// caller must send it and tell by published, or end the link.
func (s *sender) next() (*batch, error) {
	if b := s.built; b != nil && (s.steady || !s.doubts()) {
		s.built = nil
		return b, nil
	}
	for s.built == nil {
		if err := s.load(); err != nil {
			return nil, err
		}
		if len(s.pending) == 0 {
			return nil, nil
		}
		b, used := s.enc.take(s.pending, s.previous, s.most(s.toBroker.bytes))
		if len(s.flight) > 0 && b.epoch != "" && b.epoch != s.sent.epoch {
			return nil, nil // not before the earlier epoch is confirmed
		}
		s.pending = s.pending[used:]
		switch {
		case len(b.seqs) == 0:
			s.pass(b.pass)
		case s.doubts() && !s.steady && b.raw > small:
			s.built = b
		default:
			return b, nil
		}
	}
	return nil, nil
}

// load reads on from the journal until there is enough for a message.
func (s *sender) load() error {
	for s.more && len(s.pending) < maxBatchEvents {
		if s.limit > 0 && s.read >= s.limit {
			s.more = false
			return nil
		}
		events, err := s.journal.Read(s.read, maxBatchEvents, maxBatchBytes)
		if hole, ok := errors.AsType[lost](err); ok {
			from, to := hole.Lost()
			if len(s.pending) > 0 {
				return nil // that first
			}
			if to > s.read {
				s.count.Lost += uint64(to - max(from, s.read+1) + 1)
				s.read = to
				s.pass(to)
				continue
			}
		}
		if err != nil {
			return fmt.Errorf("%w: read after %d: %w", errJournal, s.read, err)
		}
		for s.limit > 0 && len(events) > 0 && events[len(events)-1].Seq > s.limit {
			events = events[:len(events)-1]
		}
		if len(events) == 0 {
			s.more = false
			return nil
		}
		if s.detain != nil {
			if err := s.detain(events); err != nil {
				return err
			}
		}
		s.read = events[len(events)-1].Seq
		s.space = append(append(s.space[:0], s.pending...), events...)
		s.pending = s.space
	}
	return nil
}

// pass moves over events that do not travel: at once if nothing is open before
// them, else together with the batch before them.
func (s *sender) pass(to event.Seq) {
	if len(s.flight) == 0 {
		s.cursor = to
		return
	}
	s.flight[len(s.flight)-1].pass = to
}

// published enters a batch that was handed to the link under the number.
func (s *sender) published(n uint64, b *batch, now time.Time) {
	if s.unacked == 0 {
		s.pubacked = now
	}
	if len(s.flight) == 0 {
		s.progress = now
	}
	s.open[n] = b
	s.unacked++
	s.heavy += b.size
	b.sent = now
	s.flight = append(s.flight, b)
	s.previous = b.last()
	for _, seq := range b.seqs {
		if seq > s.sent.seq {
			s.count.Sent++
		} else {
			s.count.Resent++
		}
	}
	if b.last().seq > s.sent.seq {
		s.sent = b.last()
	}
}

// note enters a publish that is not a batch.
func (s *sender) note(n uint64) { s.open[n] = nil }

// puback takes the broker's confirmation of a publish.
func (s *sender) puback(n uint64, now time.Time) {
	b := s.open[n]
	delete(s.open, n)
	if b == nil {
		return
	}
	s.toBroker.answered(now.Sub(b.sent), s.unacked >= s.toBroker.size)
	s.unacked--
	s.heavy -= b.size
	s.pubacked = now
	b.acked = now
	if s.mode == Backend {
		return
	}
	// PUBACKs may overtake each other; the cursor may not.
	for len(s.flight) > 0 && !s.flight[0].acked.IsZero() {
		s.confirmed(s.flight[0])
	}
}

// through takes the back-end's word that it has committed every event of the
// epoch up to the given one.
func (s *sender) through(word place, now time.Time) {
	if s.mode != Backend {
		return
	}
	if word.epoch != s.sent.epoch {
		s.count.Stale++
		return
	}
	to := word.seq
	if to > s.sent.seq {
		// Before a restart more was sent than this process knows of. What it
		// has sent itself is confirmed by such a word; what it has not, is not.
		s.count.Beyond++
		to = s.sent.seq
	}
	if to <= s.cursor {
		if to < s.anchor.seq {
			s.count.Stale++
			return
		}
		if s.provesHole(to) {
			return
		}
		// It says again what we know although it was sent more: it sees a
		// hole, or this is an echo. Sending again is safe, but not too often.
		if len(s.flight) > 0 && !s.flight[0].acked.IsZero() && now.Sub(s.rewound) >= rewindEvery {
			s.rewound = now
			s.count.Rewinds++
			s.rewind()
		}
		return
	}
	before := s.cursor
	for len(s.flight) > 0 && s.flight[0].last().seq <= to {
		s.toBackend.answered(now.Sub(s.flight[0].sent), len(s.flight) >= s.toBackend.size)
		s.confirmed(s.flight[0])
	}
	if len(s.flight) > 0 {
		// Part of a batch: a back-end may commit in pieces of its own.
		b := s.flight[0]
		if i := sort.Search(len(b.seqs), func(i int) bool { return b.seqs[i] > to }); i > 0 {
			s.cursor, s.anchor = b.seqs[i-1], place{b.epoch, b.seqs[i-1]}
			s.count.Confirmed += uint64(i)
			b.seqs = b.seqs[i:]
		}
	} else if to > s.cursor {
		s.skipTo(to)
	}
	if s.cursor > before {
		s.patience, s.progress = s.wait, now
		s.heard()
		s.probing = false
	}
}

// skipTo moves the cursor to an event that was sent before a rewind and not
// again since: it is confirmed all the same, and need not be sent again.
func (s *sender) skipTo(to event.Seq) {
	s.count.Confirmed += uint64(to - s.cursor) // those that do not travel too
	s.cursor, s.anchor = to, place{s.sent.epoch, to}
	s.flight, s.pending, s.built = nil, nil, nil
	s.read, s.previous, s.more = to, s.anchor, true
}

// confirmed moves the cursor over the oldest batch in flight.
func (s *sender) confirmed(b *batch) {
	s.cursor, s.anchor = b.pass, b.last()
	s.count.Confirmed += uint64(len(b.seqs))
	s.flight = s.flight[1:]
}

// due returns when tick has something to do; zero: nothing to wait for.
func (s *sender) due() time.Time {
	var at time.Time
	if s.unacked > 0 {
		at = s.pubacked.Add(pubackTimeout)
	}
	if again := s.sendAgainAt(); !again.IsZero() && (at.IsZero() || again.Before(at)) {
		at = again
	}
	return at
}

// sendAgainAt is when the back-end has been silent for too long. What the
// broker has not confirmed yet is not the back-end's fault.
func (s *sender) sendAgainAt() time.Time {
	if s.mode != Backend || len(s.flight) == 0 || s.flight[0].acked.IsZero() {
		return time.Time{}
	}
	from := s.progress
	if s.flight[0].acked.After(from) {
		from = s.flight[0].acked
	}
	return from.Add(s.patience)
}

// tick does what is due. An error ends the link.
func (s *sender) tick(now time.Time) error {
	if s.unacked > 0 && !now.Before(s.pubacked.Add(pubackTimeout)) {
		return errNoPuback
	}
	if at := s.sendAgainAt(); !at.IsZero() && !now.Before(at) {
		s.goesUnheard()
		s.patience = min(2*s.patience, confirmMax)
		s.count.Rewinds++
		s.rewind()
	}
	return nil
}
