package payments

import (
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// Terminal is one that is here: the connection it came by, and what it
// understands (contract §1.9).
type Terminal struct {
	ID         string
	Connection string
	Inbox      bool // it confirms requests and remembers their ids
	Probe      bool // it can be asked what became of one
}

// Letter is one event to be written to a terminal.
type Letter struct {
	Request string // its id
	Kind    event.Kind
	Body    []byte
	Ask     bool // it is to confirm that it has it
}

// Letters returns what is to be written to a terminal on its connection now,
// and takes it as written. The request is on disk by then, so:
//
//	crash before the write: the terminal has nothing; written again to one that
//	remembers ids, else in doubt until the watch of [Book.Due] is over
//	crash after it: the same; the terminal knows the id, or charges once
//
// To a terminal that remembers no ids a request is written once, ever.
func (b *Book) Letters(t Terminal, now time.Time) []Letter {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.holder(t.ID)
	if r == nil {
		return nil
	}
	if r.Status == Unknown && r.back.IsZero() {
		r.back = now
	}
	if r.cancel != nil {
		if !r.written || r.told == t.Connection {
			return nil // it never heard of it, or has been told
		}
		r.told = t.Connection
		return []Letter{{Request: r.ID, Kind: event.BridgeCancel, Body: r.cancel}}
	}
	if !r.writable(t, now) {
		return nil
	}
	r.inbox = t.Inbox
	r.written, r.asked, r.through = true, t.Inbox, t.Connection
	return []Letter{{Request: r.ID, Kind: event.BridgeRequest, Body: r.body(), Ask: t.Inbox}}
}

// writable is the money rule: once, or again under the same id to a terminal
// that remembers ids, if no other kind was ever written to.
func (r *Request) writable(t Terminal, now time.Time) bool {
	waits := r.Status == Pending || (r.Status == Unknown && r.Reason == AckTimeout)
	switch {
	case !waits || r.missed || !now.Before(r.expires):
		return false
	case !r.written:
		return t.Inbox || !r.inbox
	}
	return r.inbox && t.Inbox && r.through != t.Connection
}

// Missed notes that the terminal of a request was not here when it came, and that
// the request is not to wait for it. That holds for those of the cloud: it tells
// them to each box of the venue, and another may have the terminal.
func (b *Book) Missed(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r := b.requests[id]; r != nil && !r.written {
		r.missed = true
	}
}

// Confirmed notes that the terminal has a request.
func (b *Book) Confirmed(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r := b.requests[id]; r != nil {
		r.accepted = true
	}
}

// Doubted notes that the terminal did not confirm a request in time, or would
// not take it. What it has confirmed once it has.
func (b *Book) Doubted(id string, why Reason) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r := b.requests[id]; r != nil && !r.accepted {
		r.doubt = why
	}
}

// Due is an event that is to be stored: an outcome, or a probe.
type Due struct {
	Request
	Kind event.Kind
	To   Status // of an outcome
	Why  Reason
}

// Due returns what is to be stored now: what follows from the time that has
// passed, what nobody was told yet, and whom to ask. here returns a terminal
// that is connected. Nothing counts before it is stored and applied: what would
// free a terminal is on disk before the next request may have it.
//
//	crash before it is stored: concluded again after the start
//	crash after it: applied at the start
func (b *Book) Due(now time.Time, here func(terminal string) (Terminal, bool)) []Due {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forget(now)
	var list []Due
	for _, r := range b.ordered() {
		t, online := here(r.Terminal)
		if online && r.Status == Unknown && r.back.IsZero() {
			r.back = now
		}
		if to, why := r.next(now, online, t.Probe); to != "" {
			list = append(list, Due{Request: r.view(), Kind: event.BridgeOutcome, To: to, Why: why})
			continue
		}
		if r.Status.Settled() && !r.said[r.Status] {
			list = append(list, Due{Request: r.view(), Kind: event.BridgeOutcome, To: r.Status, Why: r.Reason})
		}
		if r.Status == Unknown && online && t.Probe && r.probeDue(t.Connection, now) {
			r.probeTold = t.Connection
			list = append(list, Due{Request: r.view(), Kind: event.BridgeProbe})
		}
	}
	return list
}

// Told notes that an outcome is stored.
func (b *Book) Told(id string, status Status) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r := b.requests[id]; r != nil {
		r.said[status] = true
	}
}

// next is what time makes of a request (contract §3.7, the watchdog); "": nothing.
func (r *Request) next(now time.Time, online, probe bool) (Status, Reason) {
	overdue := !now.Before(r.expires)
	graced := r.disposition != "" && now.Sub(later(r.cancelled, r.disposed)) >= cancelGrace
	switch {
	case r.Status.Ended():
	case now.Sub(r.Stored) >= Longest:
		return TimedOut, TooOld
	case r.missed && !r.written:
		return Failed, NotConnected
	case r.cancel != nil && !r.written:
		return Cancelled, NeverSent
	case r.cancel != nil && r.disposition == "ACCEPTED" && graced:
		return Cancelled, CancelAccepted
	case r.Status == Unknown:
		// One that can be asked is believed alone; of any other, silence is all
		// the proof that there will be.
		if online && (!probe || r.forgotten) && !r.back.IsZero() && now.Sub(r.back) >= releaseAfter {
			return TimedOut, AutoReleased
		}
	case overdue && !r.written:
		return TimedOut, NeverSent
	case r.doubt != "" && !r.accepted && r.Status == Pending:
		return Unknown, r.doubt
	case overdue, r.disposition == "ALREADY_RESOLVED" && graced: // its result was lost: ask
		return Unknown, Overdue
	}
	return "", ""
}

// probeDue reports whether to ask the terminal: as soon as it is back, every
// half minute, and less often when it does not answer.
func (r *Request) probeDue(connection string, now time.Time) bool {
	every := probeEvery
	if now.Sub(r.Changed) >= releaseAfter {
		every = probeSlowly
	}
	return r.probeTold != connection || now.Sub(r.probed) >= every
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
