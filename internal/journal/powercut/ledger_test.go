//go:build linux && (amd64 || arm64)

package powercut

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/journal"
)

// ledger is what the users of a journal know: what they sent, what they were
// promised, and what was found after each cut. It lives through all of them.
type ledger struct {
	mu    sync.Mutex // guards below
	next  int
	sent  map[event.ID]*event.Event
	open  map[event.ID]bool // sent with a key, without an answer
	at    map[event.Seq]event.ID
	top   event.Seq // of all that was promised or found
	epoch event.Epoch
	moved map[string]*span // cursors
	state span             // a value that is put under two keys at once
}

// span is a position that only grows: at least kept, at most tried.
type span struct{ kept, tried uint64 }

func newLedger() *ledger {
	return &ledger{
		sent: map[event.ID]*event.Event{}, open: map[event.ID]bool{}, at: map[event.Seq]event.ID{},
		moved: map[string]*span{"lan": {}, "uplink": {}},
	}
}

// event makes a new event, with a key or without.
func (l *ledger) event(size int, keyed bool) *event.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next++
	id := event.ID(fmt.Sprintf("event-%d", l.next))
	e := &event.Event{
		ID: id, Kind: event.PaymentCompleted, Origin: event.Terminal, Class: event.Money,
		Payload: fmt.Appendf(nil, `{"id":%q,"pad":%q}`, id, strings.Repeat(string('a'+rune(l.next%26)), size)),
	}
	if keyed {
		e.DedupKey, e.Digest = "key/"+string(id), uint64(l.next)
		l.open[id] = true
	}
	l.sent[id] = e
	return e
}

// promised notes a receipt, and returns what is wrong with it.
func (l *ledger) promised(e *event.Event, r event.Receipt) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, e.ID)
	if r.ID != e.ID || r.Epoch != l.epoch {
		return fmt.Errorf("receipt for %s in epoch %s is %+v", e.ID, l.epoch, r)
	}
	if id, ok := l.at[r.Seq]; ok && id != e.ID {
		return fmt.Errorf("seq %d promised to %s and to %s", r.Seq, id, e.ID)
	}
	l.at[r.Seq] = e.ID
	l.top = max(l.top, r.Seq)
	return nil
}

// audit compares what is found after a cut to what was promised.
func (l *ledger) audit(j *journal.Journal) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.epoch == "" {
		l.epoch = j.Epoch()
	}
	if j.Epoch() != l.epoch {
		return fmt.Errorf("I5: epoch %s became %s on an honest disk", l.epoch, j.Epoch())
	}
	if n := j.Stats().Damages; n > 0 {
		return fmt.Errorf("a power cut is no damage, %d were found", n)
	}
	if j.Stored() < l.top {
		return fmt.Errorf("I1: %d was promised, the last event is %d", l.top, j.Stored())
	}
	for name, s := range l.moved {
		at := j.Cursor(name)
		if uint64(at) < s.kept || uint64(at) > s.tried {
			return fmt.Errorf("cursor %s is at %d, promised %d, asked for %d", name, at, s.kept, s.tried)
		}
		if l.top > 0 && j.First() > at+1 {
			return fmt.Errorf("trimmed to %d, cursor %s is at %d", j.First(), name, at)
		}
		s.kept = uint64(at)
	}
	if err := l.auditEvents(j); err != nil {
		return err
	}
	return l.auditState(j)
}

func (l *ledger) auditEvents(j *journal.Journal) error {
	where := map[event.ID]event.Seq{}
	for after := j.First() - 1; after < j.Stored(); {
		events, err := j.Read(after, 200, 1<<20)
		if err != nil || len(events) == 0 {
			return fmt.Errorf("I1: read behind %d of %d: %d events, %w", after, j.Stored(), len(events), err)
		}
		for _, e := range events {
			sent := l.sent[e.ID]
			switch {
			case e.Seq != after+1:
				return fmt.Errorf("I5: %d behind %d", e.Seq, after)
			case sent == nil || !bytes.Equal(e.Payload, sent.Payload) || e.DedupKey != sent.DedupKey:
				return fmt.Errorf("I2: event %d was never sent: %s %q", e.Seq, e.ID, e.Payload)
			case where[e.ID] != 0:
				return fmt.Errorf("event %s is at %d and at %d", e.ID, where[e.ID], e.Seq)
			case l.at[e.Seq] != "" && l.at[e.Seq] != e.ID:
				return fmt.Errorf("I1: event %d is %s, promised was %s", e.Seq, e.ID, l.at[e.Seq])
			case e.Epoch != l.epoch:
				return fmt.Errorf("I5: event %d is of epoch %s, not %s", e.Seq, e.Epoch, l.epoch)
			}
			after = e.Seq
			where[e.ID] = e.Seq
			l.at[e.Seq] = e.ID // from here on it is as good as promised
		}
	}
	l.top = max(l.top, j.Stored())
	return nil
}

func (l *ledger) auditState(j *journal.Journal) error {
	state, err := j.All("test")
	if err != nil {
		return err
	}
	if string(state["one"]) != string(state["two"]) {
		return fmt.Errorf("half a change of state: %q", state)
	}
	var n uint64
	if one, ok := state["one"]; ok {
		if n, err = strconv.ParseUint(string(one), 10, 64); err != nil {
			return err
		}
	}
	if n < l.state.kept || n > l.state.tried {
		return fmt.Errorf("state is %d, promised %d, asked for %d", n, l.state.kept, l.state.tried)
	}
	l.state.kept = n
	return nil
}

// unanswered returns the events that have a key and no answer: their senders
// send them again.
func (l *ledger) unanswered() []*event.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	var events []*event.Event
	for id := range l.open {
		events = append(events, l.copy(id))
	}
	return events
}

// copy returns an event as it was sent; the journal keeps what it is given.
func (l *ledger) copy(id event.ID) *event.Event {
	e := *l.sent[id]
	e.Seq, e.Epoch = 0, ""
	return &e
}

// some returns an event that was stored with a key and is kept, or nil.
func (l *ledger) some(from event.Seq, pick func(n int) int) (*event.Event, event.Seq) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.top < from {
		return nil, 0
	}
	seq := from + event.Seq(pick(int(l.top-from)+1))
	if id, ok := l.at[seq]; ok && l.sent[id].DedupKey != "" && !l.open[id] {
		return l.copy(id), seq
	}
	return nil, 0
}

// try notes that a span is asked to grow, and returns what to call when it has.
func (l *ledger) try(s *span, to uint64) (done func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.tried = max(s.tried, to)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		s.kept = max(s.kept, to)
	}
}
