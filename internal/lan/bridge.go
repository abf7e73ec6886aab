package lan

import (
	"context"
	"encoding/json"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/lan/payments"
)

// Waits says how long a terminal has. Zero means the default.
type Waits struct {
	Charge time.Duration // 300 s, for the result of a payment
	Ack    time.Duration // 5 s, to confirm that it has the request
	Print  time.Duration // 30 s, for a receipt
}

func (w Waits) withDefaults() Waits {
	if w.Charge == 0 {
		w.Charge = payments.Valid
	}
	if w.Ack == 0 {
		w.Ack = 5 * time.Second
	}
	if w.Print == 0 {
		w.Print = 30 * time.Second
	}
	return w
}

// bridge brings a payment that a POS asks for to the terminal's card reader, and
// its result back. It is a part of the desk: it is shown the journal by it and
// works on its goroutine.
//
//	POS ─ HTTP ─► Admit ─► journal ─► take ─► payments.Book ─► Letters ─► one socket
//	 ▲                        ▲                  │    └─► Due ─► journal (outcome, probe)
//	 └────────── await ◄──────┼──────────────────┘
//	                          └── result, disposition, probe result ◄──── terminal
//
// Nothing is written to a terminal that is not on disk, and nothing ends but by
// an event: a box that dies anywhere in this knows afterwards what it knew.
type bridge struct {
	server *Server
	book   *payments.Book
	asks   atomic.Uint64 // ids of what sockets were asked
	ending chan struct{} // closed when nobody is to wait any more
	once   sync.Once

	mu     sync.Mutex // guards below
	taken  event.Seq  // the book was shown all up to here
	moved  chan struct{}
	prints map[string]chan event.Object // receipts being printed, by request id
}

func newBridge(s *Server) *bridge {
	return &bridge{
		server: s, book: payments.New(s.terminals.same), ending: make(chan struct{}),
		moved: make(chan struct{}), prints: make(map[string]chan event.Object),
	}
}

// close sends everybody home who waits for a result.
func (b *bridge) close() { b.once.Do(func() { close(b.ending) }) }

// reached notes up to where the journal was followed. It wakes whoever waits.
func (b *bridge) reached(seq event.Seq) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if seq > b.taken {
		b.taken = seq
		close(b.moved)
		b.moved = make(chan struct{})
	}
}

// progress returns up to where the journal was followed, and a channel that is
// closed when that changes.
func (b *bridge) progress() (event.Seq, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.taken, b.moved
}

// through waits until the book knows what is stored up to seq; false: it does
// not in time.
func (b *bridge) through(ctx context.Context, seq event.Seq) bool {
	ctx, cancel := context.WithTimeout(ctx, enqueueTimeout)
	defer cancel()
	for {
		taken, moved := b.progress()
		if taken >= seq {
			return true
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return false
		case <-b.ending:
			return false
		}
	}
}

// await returns a request when there is something to tell of it, or as it is
// after that time, or when the box closes or ctx ends.
func (b *bridge) await(ctx context.Context, id string, timeout time.Duration) payments.Request {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		_, moved := b.progress()
		r, _ := b.book.Get(id)
		if r.Status.Settled() {
			return r
		}
		select {
		case <-moved:
		case <-timer.C:
			return r
		case <-ctx.Done():
			return r
		case <-b.ending:
			return r
		}
	}
}

// take shows the book an event, and writes at once what it means for a terminal.
func (b *bridge) take(e *event.Event, live bool) {
	b.book.Apply(e, live)
	if !live {
		return // was written before the start, or is not to be any more
	}
	switch e.Kind {
	case event.BridgeRequest, event.BridgeCancel, event.BridgeProbe:
		terminal := payments.TerminalOf(e)
		sess := b.server.terminals.session(terminal)
		if sess == nil { // told when it comes, if that is worth it by then
			if e.Kind == event.BridgeRequest && e.Origin == event.Cloud {
				b.book.Missed(e.Subject)
			}
			return
		}
		b.deliver(sess, b.server.cfg.Now())
		// Of what the book does not know, the cloud told the terminal itself.
		if e.Kind == event.BridgeProbe || (e.Kind == event.BridgeCancel && !b.knows(e.Subject, terminal)) {
			sess.emit(string(e.Kind), e.Payload)
		}
	case event.PrintResult:
		b.printed(e)
	default: // for the book alone
	}
}

// knows reports whether the book has a request of that id, or without an id
// whether one has the terminal.
func (b *bridge) knows(id, terminal string) bool {
	if id != "" {
		_, known := b.book.Get(id)
		return known
	}
	_, known := b.book.Holder(terminal)
	return known
}

// work does what time, and who is here now, ask for.
func (b *bridge) work(ctx context.Context, now time.Time) {
	if !b.book.Idle() {
		for _, sess := range b.server.terminals.online() {
			b.deliver(sess, now)
		}
	}
	for _, due := range b.book.Due(now, b.here) {
		if !b.store(ctx, &due) {
			return // when it can be
		}
	}
}

// here returns the connection of a terminal.
func (b *bridge) here(terminal string) (payments.Terminal, bool) {
	sess := b.server.terminals.session(terminal)
	if sess == nil {
		return payments.Terminal{}, false
	}
	return sess.reader(), true
}

// reader is the session as a card reader.
func (sess *session) reader() payments.Terminal {
	return payments.Terminal{
		ID: sess.terminal, Connection: sess.link.conn.Id(), // of a recovered session, the sid stays
		Inbox: sess.capabilities[payments.InboxMark] > 0, Probe: sess.capabilities["terminalPaymentProbeVersion"] > 0,
	}
}

// deliver writes to a terminal what it is to know of the payment it is asked for.
func (b *bridge) deliver(sess *session, now time.Time) {
	for _, letter := range b.book.Letters(sess.reader(), now) {
		b.server.log.Info("payment told to terminal", "request", letter.Request, "kind", letter.Kind, "terminal", sess.terminal)
		if !letter.Ask {
			sess.emit(string(letter.Kind), letter.Body)
			continue
		}
		sess.ask(string(letter.Kind), letter.Body, b.server.cfg.Waits.Ack, func(answer json.RawMessage) {
			b.confirmed(letter.Request, answer)
		})
	}
}

// confirmed takes in a terminal's answer to a request; nil: there was none.
func (b *bridge) confirmed(id string, answer json.RawMessage) {
	o, err := event.ParseObject(answer)
	switch {
	case answer == nil:
		b.book.Doubted(id, payments.AckTimeout)
	case err == nil && string(o.Raw("accepted")) == "true" && o.Ident("requestId") == id:
		b.book.Confirmed(id)
	default:
		b.book.Doubted(id, payments.AckRejected)
	}
	b.server.desk.wake()
}

// store appends an outcome, for the venue and the cloud, or a probe, for the
// terminal; false: it could not.
func (b *bridge) store(ctx context.Context, due *payments.Due) bool {
	s := b.server
	members := []event.Member{event.Text("requestId", due.ID), event.Text("terminalId", s.terminals.serial(due.Terminal))}
	amounts := []event.Member{integer("amountCents", due.AmountCents), integer("tipCents", due.TipCents)}
	if due.Kind == event.BridgeProbe {
		members = append(members, event.Text("venueId", s.cfg.Venue))
		members = append(append(members, amounts...), event.Text("timestamp", event.FormatTime(s.cfg.Now())))
		return s.storeOwn(ctx, due.Kind, "", event.Audience{Terminals: []string{due.Terminal}}, members)
	}
	members = append(append(members, event.Text("status", string(due.To)), event.Text("reason", string(due.Why))), amounts...)
	if due.Order != "" {
		members = append(members, event.Text("orderId", due.Order))
	}
	if due.To == payments.Completed && due.Payment != "" {
		members = append(members, event.Text("paymentId", due.Payment))
	}
	key := string(due.Kind) + "/" + due.ID + "/" + string(due.To) + "/" + strconv.FormatInt(due.Stored.UnixMilli(), 10)
	if !s.storeOwn(ctx, due.Kind, key, event.Audience{Venue: true}, members) {
		return false
	}
	b.book.Told(due.ID, due.To)
	s.log.Info("payment request moved on", "request", due.ID, "terminal", due.Terminal,
		"from", due.Status, "to", due.To, "reason", due.Why)
	return true
}

func integer(key string, n int64) event.Member {
	return event.Member{Key: key, Value: strconv.AppendInt(nil, n, 10)}
}
