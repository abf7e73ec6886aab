package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// promises are what a hand said it was promised, as heard from outside.
type promises struct {
	said    []byte // all of it, for people
	sent    int
	stored  map[event.Seq]string
	refused map[string]bool
	epochs  map[event.Epoch]bool
	tried   map[string]event.Seq // cursors: as far as they may be
	moved   map[string]event.Seq // cursors: as far as they must be
	state   map[string][]string  // what may be there; the last is the newest

	// lenient allows what was refused before a restart to be there, if nothing
	// was stored in between: no segment could be begun behind it.
	lenient bool
	pending map[string]bool // refused since an event was last stored
	unsure  map[string]bool // of those: a restart followed

	began, done bool
	wentOn      bool // stored an event in the end
	pid         int
	errors      int
	beside      int // reads while events were stored
}

func newPromises() *promises {
	return &promises{
		stored: map[event.Seq]string{}, refused: map[string]bool{}, pending: map[string]bool{}, unsure: map[string]bool{},
		epochs: map[event.Epoch]bool{}, tried: map[string]event.Seq{}, moved: map[string]event.Seq{}, state: map[string][]string{},
	}
}

// hear takes in what was said. A last line that was cut off does not count.
func (p *promises) hear(said []byte) error {
	p.said = append(p.said, said...)
	for len(said) > 0 {
		line, rest, whole := bytes.Cut(said, []byte("\n"))
		if !whole {
			return nil
		}
		said = rest
		if err := p.line(strings.SplitN(string(line), " ", 4)); err != nil {
			return fmt.Errorf("%q: %w", line, err)
		}
	}
	return nil
}

// story returns what the process said, for people.
func (p *promises) story() []byte { return p.said[max(bytes.Index(p.said, []byte("begin")), 0):] }

func (p *promises) line(words []string) error {
	number := func(i int) event.Seq {
		n, _ := strconv.ParseUint(words[i], 10, 64) // zero breaks a promise below
		return event.Seq(n)
	}
	switch words[0] {
	case "begin":
		p.began, p.pid = true, int(number(1))
	case "done":
		p.done = true
	case "went":
		p.wentOn = true
	case "beside":
		p.beside = int(number(1))
	case "error":
		p.errors++
	case "epoch":
		maps.Copy(p.unsure, p.pending)
		p.epochs[event.Epoch(words[1])] = true
	case "sent":
		p.sent = int(number(1))
	case "refused":
		p.refused[words[1]], p.pending[words[1]] = true, true
		p.errors++
	case "stored":
		seq := number(1)
		if before, again := p.stored[seq]; again {
			return fmt.Errorf("stored before: %s", before)
		}
		p.stored[seq] = words[2]
		clear(p.pending)
		p.epochs[event.Epoch(words[3])] = true
	case "moving":
		p.tried[words[1]] = max(p.tried[words[1]], number(2))
	case "moved":
		p.moved[words[1]] = max(p.moved[words[1]], number(2))
	case "putting":
		if len(p.state[words[1]]) == 0 {
			p.state[words[1]] = []string{""} // not there
		}
		p.state[words[1]] = append(p.state[words[1]], words[2])
	case "put":
		p.state[words[1]] = []string{words[2]}
	default:
		return errors.New("no such line")
	}
	return nil
}

// kept looks at a journal that its process has left, from outside and then
// from inside, and says which promise was broken:
//
//	I1 what was acknowledged is there; I2 what is there was sent, byte for
//	byte, and not refused; I5 no gap, and the epoch stays
func (p *promises) kept(dir string, o Options) error {
	report, err := Check(dir)
	if errors.Is(err, ErrMissing) {
		if len(p.epochs) > 0 {
			return errors.New("the journal is gone")
		}
		if err := Create(dir, o); err != nil {
			return err
		}
		report, err = Check(dir)
	}
	if err != nil || !report.OK() {
		return fmt.Errorf("check: %w, %+v", err, report)
	}
	j, err := Open(dir, o)
	if err != nil {
		return err
	}
	events, err := everything(j)
	err = errors.Join(err, p.compare(j, events))
	// The journal goes on, and what it takes now stays too.
	next := workEvent(p.sent+1, 50)
	r, appendErr := appendOnce(j, next)
	if appendErr == nil && r.Seq != events.next() {
		appendErr = fmt.Errorf("stored at %d behind %d", r.Seq, events.next()-1)
	}
	err = errors.Join(err, appendErr, j.Close())
	if err != nil {
		return err
	}
	if j, err = Open(dir, o); err != nil {
		return fmt.Errorf("again: %w", err)
	}
	again, err := everything(j)
	err = errors.Join(err, j.Close())
	if err == nil && (len(again.list) != len(events.list)+1 || again.list[len(again.list)-1].ID != next.ID) {
		err = fmt.Errorf("%d events, one more, then %d", len(events.list), len(again.list))
	}
	return err
}

func (p *promises) compare(j *Journal, events kept) error {
	var errs []error
	broken := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(p.epochs) > 1 || len(p.epochs) == 1 && !p.epochs[j.Epoch()] {
		broken("I5: epoch %s, before: %v", j.Epoch(), p.epochs)
	}
	if d := j.Stats().Damages; d > 0 {
		broken("I5: %d damages", d)
	}
	var passed event.Seq // what every cursor may have passed, may be trimmed
	for _, to := range p.tried {
		passed = max(passed, to)
	}
	for seq, id := range p.stored {
		if e := events.at(seq); e == nil && (seq >= events.first || seq > passed) || e != nil && string(e.ID) != id {
			broken("I1: %s was acknowledged at %d, there is %+v", id, seq, e)
		}
	}
	seen := map[event.ID]bool{}
	for _, e := range events.list {
		var n, size int
		if _, err := fmt.Sscanf(string(e.ID), "w-%d-%d", &n, &size); err != nil || n < 1 || n > p.sent ||
			!bytes.Equal(e.Payload, workPayload(string(e.ID), size)) {
			broken("I2: %s at %d was never sent so (%d were)", e.ID, e.Seq, p.sent)
		}
		if seen[e.ID] {
			broken("I2: %s is there twice", e.ID)
		}
		if id := string(e.ID); p.refused[id] && !(p.lenient && (p.pending[id] || p.unsure[id])) {
			broken("I2: %s was refused and is there at %d", id, e.Seq)
		}
		seen[e.ID] = true
		if len(p.epochs) > 0 && !p.epochs[e.Epoch] {
			broken("I5: event %d is of epoch %s", e.Seq, e.Epoch)
		}
	}
	for name, tried := range p.tried {
		if at := j.Cursor(name); at < p.moved[name] || at > tried {
			broken("I1: cursor %s is at %d, was moved to %d, tried %d", name, at, p.moved[name], tried)
		}
	}
	entries, err := j.All("work")
	if err != nil {
		broken("I1: state: %w", err)
	}
	for key, values := range p.state {
		found := false
		for _, v := range values {
			found = found || v == string(entries[key])
		}
		if !found {
			broken("I1: state %s is %.20q, none of %d values put", key, entries[key], len(values))
		}
	}
	return errors.Join(errs...)
}

// kept is all that a journal holds.
type kept struct {
	first event.Seq
	list  []event.Event
}

func (k *kept) next() event.Seq { return k.first + event.Seq(len(k.list)) }

func (k *kept) at(seq event.Seq) *event.Event {
	if seq < k.first || seq >= k.next() {
		return nil
	}
	return &k.list[seq-k.first]
}

// everything reads all that is kept; a gap is an error.
func everything(j *Journal) (kept, error) {
	k := kept{first: j.First()}
	for k.next() <= j.Stored() {
		events, err := j.Read(k.next()-1, 100, 1<<20)
		if err != nil || len(events) == 0 {
			return k, fmt.Errorf("I5: read from %d of %d: %d events, %w", k.next(), j.Stored(), len(events), err)
		}
		for _, e := range events {
			if e.Seq != k.next() {
				return k, fmt.Errorf("I5: %d instead of %d", e.Seq, k.next())
			}
			k.list = append(k.list, e)
		}
	}
	return k, nil
}

// appendOnce stores an event in a journal that has no Run.
func appendOnce(j *Journal, e *event.Event) (event.Receipt, error) {
	var receipt event.Receipt
	var failed error
	err := j.Enqueue(context.Background(), e, func(r event.Receipt, err error) { receipt, failed = r, err })
	if err != nil {
		return receipt, err
	}
	j.commit(j.queue.take(context.Background(), nil))
	return receipt, failed
}
