package payments

import (
	"bytes"
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

const (
	maxRequests = 1024 // remembered; the oldest that has ended goes first, then the oldest
	maxPaid     = 4096 // orders known to be paid; beyond it the oldest is forgotten
)

// Book is what is known of all requests. Safe for concurrent use.
type Book struct {
	same func(a, b string) bool // two ids of one terminal

	mu       sync.Mutex // guards below
	requests map[string]*Request
	open     map[string]*Request  // of them, those that have not ended, or of whose end nobody was told
	swept    time.Time            // when what is old was last forgotten
	claims   map[string]Request   // being stored, by id
	paid     map[string]time.Time // order → when it was said to be paid
}

// New returns an empty book. same says whether two ids are of one terminal.
func New(same func(a, b string) bool) *Book {
	return &Book{
		same: same, requests: make(map[string]*Request), open: make(map[string]*Request),
		claims: make(map[string]Request), paid: make(map[string]time.Time),
	}
}

// Verdict is the answer to a request before it is stored.
type Verdict int

// The verdicts.
const (
	Admitted  Verdict = iota // it has the terminal until it is stored, or [Book.Release]
	Known                    // the same request was made before: here is what became of it
	Different                // its id was used for another amount, tip or terminal
	Paid                     // its order is paid
	Occupied                 // another request has the terminal: here it is
)

// Admit asks for a terminal. Of two that ask at once, one is admitted.
func (b *Book) Admit(r Request) (Verdict, Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if known, ok := b.getLocked(r.ID); ok {
		if !known.same(&r) || !b.same(known.Terminal, r.Terminal) {
			return Different, known
		}
		return Known, known
	}
	if _, paid := b.paid[r.Order]; paid && r.Order != "" {
		return Paid, Request{}
	}
	if holder := b.holder(r.Terminal); holder != nil {
		return Occupied, holder.view()
	}
	for _, claim := range b.claims {
		if b.same(claim.Terminal, r.Terminal) {
			return Occupied, claim
		}
	}
	r.Status = Pending
	b.claims[r.ID] = r
	return Admitted, r
}

// Release gives back the terminal of an admitted request that was not stored.
func (b *Book) Release(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.claims, id)
}

// Get returns what is known of a request, also while it is being stored.
func (b *Book) Get(id string) (Request, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.getLocked(id)
}

func (b *Book) getLocked(id string) (Request, bool) {
	if r := b.requests[id]; r != nil {
		return r.view(), true
	}
	claim, ok := b.claims[id]
	return claim, ok
}

// Holder returns the request that has a terminal.
func (b *Book) Holder(terminal string) (Request, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r := b.holder(terminal); r != nil {
		return r.view(), true
	}
	return Request{}, false
}

// holder returns the oldest request that has a terminal. The lock is held.
func (b *Book) holder(terminal string) *Request {
	var oldest *Request
	for _, r := range b.open {
		if !r.Status.Ended() && b.same(r.Terminal, terminal) && (oldest == nil || r.seq < oldest.seq) {
			oldest = r
		}
	}
	return oldest
}

// Owns reports whether a terminal may speak of a request. Of what the book does
// not know it may: the cloud reaches terminals by ways of its own.
func (b *Book) Owns(id, terminal string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	r, known := b.getLocked(id)
	return !known || b.same(r.Terminal, terminal)
}

// Apply takes in a stored event; others than those of payments and orders change
// nothing. Events must come in the order they were stored. live says that it
// was stored after this run began. Applied again, in order, to an empty book,
// events give the same states.
func (b *Book) Apply(e *event.Event, live bool) {
	row, ok := event.Lookup(e.Kind)
	if !ok || (row.Family != event.Bridge && !b.concerns(row, e)) {
		return
	}
	o, err := event.ParseObject(e.Payload)
	if err != nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case row.Family == event.Order:
		b.order(e, o)
	case e.Kind == event.PaymentCompleted:
		b.recorded(e, o)
	case e.Kind == event.BridgeRequest:
		b.request(e, o, live)
	case e.Kind == event.BridgeCancel:
		b.withdraw(e, o)
	default:
		if r := b.requests[e.Subject]; r != nil {
			b.word(r, e, o)
			b.open[r.ID] = r
			b.claimed(r)
		}
	}
}

// concerns reports whether an order or a payment can say anything, without
// parsing it: most of a venue's events are of these, and say nothing here.
func (b *Book) concerns(row *event.Row, e *event.Event) bool {
	switch {
	case row.Family == event.Order:
		return bytes.Contains(e.Payload, []byte(`"paymentStatus"`))
	case e.Kind == event.PaymentCompleted:
		return !b.Idle() || bytes.Contains(e.Payload, []byte(`"terminalPaymentRequestId"`))
	}
	return false
}

// Idle reports whether no request is open, so that no terminal is to be told
// anything.
func (b *Book) Idle() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.open) == 0
}

// request takes in a new request. Who comes second, in the order of the journal,
// is refused and never written to the terminal, whoever sent it.
func (b *Book) request(e *event.Event, o event.Object, live bool) {
	delete(b.claims, e.Subject)
	r := newRequest(e, o, live)
	if r.ID == "" || r.Terminal == "" || b.requests[r.ID] != nil {
		return
	}
	switch holder := b.holder(r.Terminal); {
	case stale(e, o):
		r.end(TimedOut, Stale, e.Time)
	case holder != nil:
		r.Blocking = holder.ID
		r.end(Failed, Busy, e.Time)
	}
	r.Late = false
	b.makeRoom()
	b.requests[r.ID], b.open[r.ID] = r, r
}

// withdraw takes in a cancellation: of the request it names, else of the one
// that has the terminal. A cancellation is a wish; the terminal's word counts.
func (b *Book) withdraw(e *event.Event, o event.Object) {
	r := b.requests[e.Subject]
	if e.Subject == "" {
		r = b.holder(terminalOf(e, o))
	}
	if r == nil || r.Status.Ended() {
		return
	}
	r.cancel, r.cancelled, r.told = e.Payload, e.Time, ""
	if r.Status == Pending {
		r.Status, r.Changed = CancelRequested, e.Time
	}
}

// TerminalOf returns whom a stored request, cancellation or probe is for.
func TerminalOf(e *event.Event) string {
	o, _ := event.ParseObject(e.Payload) // of none, the audience says
	return terminalOf(e, o)
}

func terminalOf(e *event.Event, o event.Object) string {
	if len(e.Audience.Terminals) == 1 {
		return e.Audience.Terminals[0]
	}
	return o.Ident("terminalId")
}

// word takes in what was said about a request. The lock is held.
func (b *Book) word(r *Request, e *event.Event, o event.Object) {
	switch e.Kind {
	case event.BridgeResult:
		r.report(o, e.Time)
	case event.BridgeDisposition:
		r.disposition, r.disposed = o.String("disposition"), e.Time
	case event.BridgeProbe:
		r.probed = e.Time
	case event.BridgeProbeResult:
		r.answer(o, e.Time)
	case event.BridgeOutcome:
		r.conclude(o, e.Time)
	default: // says nothing of a payment's way
	}
}

// answer takes in what the terminal says when it is asked.
func (r *Request) answer(o event.Object, at time.Time) {
	switch o.String("disposition") {
	case "RESOLVED":
		if result, err := event.ParseObject(o.Raw("finalResult")); err == nil {
			r.report(result, at)
		}
	case "RECEIVED_CANCELLED":
		r.end(Cancelled, CancelAccepted, at)
	case "NOT_FOUND":
		// An app that was updated since does not know what the one before it was
		// asked, if that remembered no ids.
		if r.forgotten = r.local && !r.marked; !r.forgotten {
			r.end(Failed, NotReceived, at)
		}
	case "ACTIVE": // it will say
	}
}

// conclude takes in an outcome: of the box itself, of the cloud, or of somebody
// who looked at what happened. Only here a request ends without its terminal.
func (r *Request) conclude(o event.Object, at time.Time) {
	status, why := Status(o.String("status")), Reason(o.String("reason"))
	r.said[status] = true
	switch status {
	case Completed:
		if id := o.Ident("paymentId"); id != "" && r.Payment == "" {
			r.Payment = id
		}
		r.end(Completed, why, at)
	case TimedOut:
		if r.Status == Unknown && r.matched != "" { // which no other request has claimed
			r.Payment = r.matched
			status, why = Completed, Recorded
		}
		r.end(status, why, at)
	case Failed, Cancelled:
		r.end(status, why, at)
	case Unknown:
		r.doubtful(why, at)
	case Pending, Sent, CancelRequested:
	}
}

// recorded takes in a payment that was recorded. What names its request is what
// came of it, whatever was concluded before. Else it is matched with a request
// in doubt on the same order, if it fits no other, or noted for one that may
// come to be in doubt.
func (b *Book) recorded(e *event.Event, o event.Object) {
	payment := o.Ident("paymentId")
	if r := b.requests[o.Ident("terminalPaymentRequestId")]; r != nil {
		if r.Payment == "" {
			r.Payment = payment
		}
		r.end(Completed, Recorded, e.Time)
		b.open[r.ID] = r
		b.claimed(r)
		return
	}
	var oldest *Request
	fitting := 0
	for _, r := range b.requests {
		if payment == r.Payment || payment == r.matched {
			return // claimed
		}
		if !r.Status.Ended() && r.matched == "" && r.fits(e, o, b.same) {
			fitting++
			if oldest == nil || r.seq < oldest.seq {
				oldest = r
			}
		}
	}
	switch {
	case oldest == nil || payment == "":
	case fitting == 1 && (oldest.Status == Unknown || oldest.Status == CancelRequested):
		oldest.Payment = payment
		oldest.end(Completed, Recorded, e.Time)
	default:
		oldest.matched = payment
	}
}

// claimed takes a request's payment from any other that was matched with it: two
// terminals may have a part of one bill each.
func (b *Book) claimed(by *Request) {
	for _, r := range b.requests {
		if by.Payment != "" && r != by && r.matched == by.Payment {
			r.matched = ""
		}
	}
}

// order notes whether an order is paid, if the event says so.
func (b *Book) order(e *event.Event, o event.Object) {
	id, status := o.Ident("orderId"), o.String("paymentStatus")
	switch {
	case id == "" || status == "" || len(id) > event.MaxKey:
	case status == "PAID":
		if len(b.paid) >= maxPaid {
			oldest, since := "", e.Time
			for id, at := range b.paid {
				if oldest == "" || at.Before(since) {
					oldest, since = id, at
				}
			}
			delete(b.paid, oldest)
		}
		b.paid[id] = e.Time
	default:
		delete(b.paid, id)
	}
}

// makeRoom takes one request out of a full book: the oldest that has ended,
// else the oldest.
func (b *Book) makeRoom() {
	if len(b.requests) < maxRequests {
		return
	}
	var out *Request
	for _, r := range b.requests {
		ended := r.Status.Ended()
		if out == nil || (ended && !out.Status.Ended()) || (ended == out.Status.Ended() && r.seq < out.seq) {
			out = r
		}
	}
	delete(b.requests, out.ID)
	delete(b.open, out.ID)
}

// forget drops, once a minute, what is older than [Longest]. The lock is held.
func (b *Book) forget(now time.Time) {
	if since := now.Sub(b.swept); since >= 0 && since < time.Minute {
		return
	}
	b.swept = now
	for id, r := range b.requests {
		if r.Status.Ended() && now.Sub(r.Stored) > 2*Longest {
			delete(b.requests, id)
			delete(b.open, id)
		}
	}
	for id, claim := range b.claims {
		if now.Sub(claim.Stored) > Valid { // stored, and lost on disk before it was read
			delete(b.claims, id)
		}
	}
	for id, at := range b.paid {
		if now.Sub(at) > Longest {
			delete(b.paid, id)
		}
	}
}

// ordered returns the open requests, oldest first, and drops those that are no
// longer. The lock is held.
func (b *Book) ordered() []*Request {
	list := make([]*Request, 0, len(b.open))
	for id, r := range b.open {
		if r.Status.Ended() && r.said[r.Status] {
			delete(b.open, id)
			continue
		}
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, c *Request) int { return cmp.Compare(a.seq, c.seq) })
	return list
}
