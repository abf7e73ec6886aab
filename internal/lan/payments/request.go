package payments

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// Status is how far a request is, in the words of contract §3.7.
type Status string

// The statuses.
const (
	Pending         Status = "PENDING" // stored; the terminal has not confirmed that it has it
	Sent            Status = "SENT"
	CancelRequested Status = "CANCEL_REQUESTED"
	Unknown         Status = "UNKNOWN" // the card may have been charged
	Completed       Status = "COMPLETED"
	Failed          Status = "FAILED"
	Cancelled       Status = "CANCELLED"
	TimedOut        Status = "TIMED_OUT"
)

// Ended reports whether only proof of a charge can change it. What has not
// ended holds its terminal.
func (s Status) Ended() bool {
	switch s {
	case Completed, Failed, Cancelled, TimedOut:
		return true
	case Pending, Sent, CancelRequested, Unknown:
	}
	return false
}

// Settled reports whether there is something to tell whoever waits: it has
// ended, or nobody can say how it will.
func (s Status) Settled() bool { return s == Unknown || s.Ended() }

// Reason says why a request is in its state, beyond what its result says.
type Reason string

// The reasons.
const (
	AckTimeout      Reason = "ACK_TIMEOUT"      // the terminal did not confirm in time that it has it
	AckRejected     Reason = "ACK_REJECTED"     // the terminal would not take it
	NoEvidence      Reason = "NO_EVIDENCE"      // failed or cancelled, it says, and does not say how it knows
	TerminalTimeout Reason = "TERMINAL_TIMEOUT" // the terminal does not know either
	Overdue         Reason = "EXPIRED"          // no result in time
	NeverSent       Reason = "NEVER_SENT"       // ended before it was written to the terminal
	Stale           Reason = "STALE"            // was old when it reached the box; not sent
	CancelAccepted  Reason = "CANCEL_ACCEPTED"  // the terminal took the cancellation
	NotReceived     Reason = "NOT_RECEIVED"     // the terminal says that it never got it, and will not take it
	AutoReleased    Reason = "AUTO_RELEASED"    // nothing came of it long after the terminal was back
	TooOld          Reason = "TOO_OLD"          // a day has passed
	Busy            Reason = "TERMINAL_BUSY"    // another request held the terminal; not sent
	NotConnected    Reason = "TERMINAL_NOT_CONNECTED"
	Recorded        Reason = "PAYMENT_RECORDED"  // the payment itself was recorded
	FromTerminal    Reason = "TERMINAL_REPORTED" // as its result says
)

const (
	// Valid is for how long after it was stored a request may be written to its
	// terminal, and how long its result is waited for.
	Valid = 300 * time.Second

	// Longest is how long a book remembers a request, and the longest that one
	// holds its terminal.
	Longest = 24 * time.Hour

	cancelGrace  = 30 * time.Second // after the terminal took a cancellation
	releaseAfter = 20 * time.Minute // after the terminal came back
	probeEvery   = 30 * time.Second
	probeSlowly  = 15 * time.Minute // once it has not answered for releaseAfter

	maxResult = 16 << 10 // bytes kept of a result; of a larger one the ids only
)

// Request is one payment asked of one terminal. Its fields are a copy: changing
// them changes nothing.
type Request struct {
	ID          string
	Terminal    string // one of its ids, as it was when it was stored
	AmountCents int64  // centavos
	TipCents    int64  // centavos
	Order       string // may be empty
	Device      string // name of the POS; may be empty
	Status      Status
	Reason      Reason // empty while it is in flight
	Payment     string // id of the payment; may be empty
	Late        bool   // ended after something else had been concluded
	Blocking    string // id of the request that held the terminal, where the reason is Busy
	Stored      time.Time
	Changed     time.Time
	Result      event.Object // what its terminal said, without what identifies it; may be the zero object

	seq         event.Seq // the order of requests; a clock may stand still, or go back
	expires     time.Time
	payload     []byte
	local       bool            // of this box's own HTTP API
	marked      bool            // for a terminal that remembers ids; see InboxMark
	said        map[Status]bool // an outcome event tells of it
	matched     string          // a recorded payment that fits, while it is not needed
	cancel      []byte          // payload of the last cancellation
	cancelled   time.Time       // when it was stored
	disposition string          // the terminal's last word on the cancellation
	disposed    time.Time
	probed      time.Time // when the last probe was stored
	forgotten   bool      // its terminal does not know it, which says nothing; see answer

	// The rest is not in the journal. What was there at the start counts as
	// written, since the box may have died behind the write.
	inbox     bool   // every write of it went, or may only go, to a terminal that remembers ids
	missed    bool   // its terminal was not here, and it is not to wait
	written   bool   // was written to its terminal, or is about to be
	asked     bool   // the terminal was asked to confirm
	accepted  bool   // and did
	doubt     Reason // or did not
	through   string // the connection of the last write
	told      string // the connection the cancellation was written to
	probeTold string // the connection that was probed last
	back      time.Time
}

// InProgress reports whether a result is still waited for.
func (r *Request) InProgress() bool { return !r.Status.Ended() && r.Status != Unknown }

// CancelTold reports whether the last cancellation was written to the terminal,
// or need not be, since the request never was.
func (r *Request) CancelTold() bool { return r.told != "" || (r.cancel != nil && !r.written) }

// same reports whether two requests ask for the same amount and tip.
func (r *Request) same(o *Request) bool {
	return r.AmountCents == o.AmountCents && r.TipCents == o.TipCents
}

// view is the copy that leaves the book.
func (r *Request) view() Request {
	c := *r
	if c.Status == Pending && c.written && (c.accepted || !c.asked) {
		c.Status = Sent
	}
	return c
}

// newRequest reads a stored terminal:payment_request. fresh says that this box
// stored it in this run and has not written it to anybody.
func newRequest(e *event.Event, o event.Object, fresh bool) *Request {
	r := &Request{
		ID: e.Subject, Terminal: terminalOf(e, o),
		AmountCents: whole(o, "amountCents"), TipCents: whole(o, "tipCents"),
		Order: o.Ident("orderId"), Device: o.String("senderDeviceName"),
		Status: Pending, seq: e.Seq, Stored: e.Time, Changed: e.Time, payload: e.Payload, local: e.Origin == event.Local,
		said: make(map[Status]bool), written: !fresh, marked: whole(o, InboxMark) > 0,
	}
	r.inbox = r.marked
	r.expires = r.Stored.Add(Valid)
	if !e.Expires.IsZero() && e.Expires.Before(r.expires) {
		r.expires = e.Expires
	}
	return r
}

// InboxMark is a member of a request that the box stores for a terminal which
// remembers ids: only to such a one is it written, and so it may be written
// again.
const InboxMark = "terminalPaymentAckVersion"

// stale reports whether a request was made long before it reached the box: a
// broker may have kept it while the box was down, and nobody stands at the
// terminal any more.
func stale(e *event.Event, o event.Object) bool {
	at, err := time.Parse(time.RFC3339, o.String("timestamp"))
	return err == nil && e.Time.Sub(at) >= Valid
}

// body is what the terminal reads: of a request of this box, what the contract
// names; of any other, what came.
func (r *Request) body() []byte {
	o, err := event.ParseObject(r.payload)
	if err != nil || !r.local {
		return r.payload
	}
	return o.Pick("requestId", "terminalId", "amountCents", "tipCents", "rating", "skipReview", "orderId",
		"senderDeviceName", "processedByStaffId", "venueId", "timestamp").Bytes()
}

// end moves the request on, if it may move there: to COMPLETED from anywhere,
// else from what has not ended.
func (r *Request) end(to Status, why Reason, at time.Time) {
	if r.Status == Completed || (r.Status.Ended() && to != Completed) || r.Status == to {
		return
	}
	r.Late = r.Status.Settled() || !at.Before(r.expires)
	r.Status, r.Reason, r.Changed = to, why, at
	if to == Completed && why != FromTerminal {
		r.Result = event.Object{} // of a failure; that of the charge may come yet
	}
}

// doubtful moves the request to UNKNOWN, unless a payment that fits was
// recorded: then that is what came of it.
func (r *Request) doubtful(why Reason, at time.Time) {
	if r.Status.Settled() {
		return
	}
	if r.matched != "" {
		r.Payment = r.matched
		r.end(Completed, Recorded, at)
		return
	}
	r.Status, r.Reason, r.Changed = Unknown, why, at
}

// report takes in a result of the terminal. Only a success is believed without
// evidence: a terminal that says failed may have charged the card all the same.
func (r *Request) report(o event.Object, at time.Time) {
	evidence := o.String("outcomeEvidence")
	proven := evidence == "PRE_AUTHORIZATION" || evidence == "PROCESSOR_DECLINED"
	status := o.String("status")
	told := r.Status == Completed && r.Result.Bytes() != nil
	if told || (r.Status.Ended() && status != "success") {
		return
	}
	r.keep(o)
	switch {
	case status == "success":
		r.end(Completed, FromTerminal, at)
	case status == "failed" && proven:
		r.end(Failed, FromTerminal, at)
	case status == "cancelled" && proven:
		r.end(Cancelled, FromTerminal, at)
	case status == "timeout":
		r.disposition = "" // it may have charged the card though it took the cancellation
		r.doubtful(TerminalTimeout, at)
	case status == "failed":
		r.disposition = ""
		r.doubtful(NoEvidence, at)
	default:
		r.doubtful(NoEvidence, at)
	}
}

// keep notes what a result holds for the POS.
func (r *Request) keep(o event.Object) {
	r.Result = o.Pick("paymentId", "transactionId", "errorMessage", "cardDetails", "receipt", "completedAt")
	if len(r.Result.Bytes()) > maxResult {
		r.Result = o.Pick("paymentId", "transactionId", "completedAt")
	}
	if id := o.Ident("paymentId"); r.Status != Completed && o.String("status") == "success" && id != "" && len(id) <= event.MaxKey {
		r.Payment = id
	}
}

// fits reports whether a recorded payment, on the order of the request and
// stored behind it, can be what came of it: by card, where it says how, and not
// recorded by another terminal. Amounts are not compared: the tip is chosen at
// the terminal, and what does not fit would hold it for nothing.
func (r *Request) fits(e *event.Event, o event.Object, same func(a, b string) bool) bool {
	if r.Order == "" || r.Order != o.Ident("orderId") || (e.Terminal != "" && !same(e.Terminal, r.Terminal)) {
		return false
	}
	method := o.String("method")
	if meta, err := event.ParseObject(o.Raw("metadata")); method == "" && err == nil { // there in crypto
		method = meta.String("method")
	}
	switch strings.ToUpper(method) {
	case "", "CARD", "CREDIT_CARD", "DEBIT_CARD":
		return true
	}
	return false
}

// whole reads a member that is a whole number, 0 if it is none.
func whole(o event.Object, key string) int64 {
	var n int64
	if json.Unmarshal(o.Raw(key), &n) != nil {
		return 0
	}
	return n
}
