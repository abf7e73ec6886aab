package lan

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
)

// CancelCharge takes {terminalId, requestId?, reason?} and tells the terminal.
// success says that the cancellation was written to it, not that nothing is
// charged: that the request's own answer tells. A terminal that is away is told
// when it comes back. Safe for concurrent use.
//
//	crash before it is on disk: nothing was cancelled, and nobody was told so
//	crash after it: the terminal is told when it comes back
func (s *Server) CancelCharge(ctx context.Context, g auth.Grant, payload []byte) Ack {
	if refused := s.mayCharge(ctx, g); refused != nil {
		return *refused
	}
	o, err := event.ParseObject(payload)
	if err != nil || o.String("terminalId") == "" || len(o.Raw("terminalId"))+len(o.Raw("requestId")) > event.MaxKey {
		return s.turnDown(badCharge("terminalId is required"))
	}
	terminal, id := s.terminals.serial(o.String("terminalId")), o.String("requestId")
	book := s.desk.bridge.book
	r, known := book.Get(id)
	if id == "" {
		r, known = book.Holder(terminal)
		id = r.ID
	}
	done := func(ok bool, text string) Ack {
		return Ack{Status: http.StatusOK, Body: object(event.Member{Key: "success", Value: boolean(ok)}, event.Text("message", text))}
	}
	switch {
	case known && !s.terminals.same(r.Terminal, terminal):
		return s.turnDown(event.Refuse(http.StatusForbidden, "terminal_mismatch", "El cobro no es de esa terminal"))
	case known && r.Status.Ended():
		return done(false, "El cobro ya terminó")
	}
	here := s.terminals.session(terminal) != nil
	if !known && !here {
		return done(false, "Terminal no conectada")
	}
	receipt, refusal := s.storeCharge(s.cancelEvent(g, o, terminal, id))
	if refusal != nil {
		return s.turnDown(refusal)
	}
	s.desk.bridge.through(ctx, receipt.Seq)
	if known {
		r, _ = book.Get(id)
		here = r.CancelTold()
	}
	if !here {
		return done(false, "Terminal no conectada; se le avisará cuando regrese")
	}
	return done(true, "Cancelación enviada a la terminal")
}

func (s *Server) cancelEvent(g auth.Grant, o event.Object, terminal, id string) *event.Event {
	now := s.cfg.Now().UTC().Truncate(time.Millisecond)
	reason := clip(o.String("reason"))
	if reason == "" {
		reason = "Cancelado por el usuario"
	}
	members := []event.Member{event.Text("terminalId", o.String("terminalId"))}
	if id != "" {
		members = append(members, event.Text("requestId", id))
	}
	members = append(members, event.Text("reason", reason), event.Text("timestamp", event.FormatTime(now)))
	return &event.Event{
		ID: event.NewID(), Kind: event.BridgeCancel, Origin: event.Local, Class: event.Money, Time: now,
		Subject: id, Actor: g.Subject, Role: g.Role, Audience: event.Audience{Terminals: []string{terminal}},
		Payload: object(members...),
	}
}

// OnlineTerminals lists the terminals that can be asked for a payment. Safe for
// concurrent use.
func (s *Server) OnlineTerminals(ctx context.Context, g auth.Grant) Ack {
	if refused := s.mayCharge(ctx, g); refused != nil {
		return *refused
	}
	list := []json.RawMessage{}
	for _, t := range s.Terminals() {
		if !t.HasSocket {
			continue
		}
		name := t.Name
		if name == "" {
			name = "Terminal " + t.ID
		}
		_, busy := s.desk.bridge.book.Holder(t.ID)
		beat := t.LastHeartbeat
		if beat.Before(t.ConnectedAt) {
			beat = t.ConnectedAt
		}
		list = append(list, object(
			event.Text("terminalId", t.ID), event.Text("name", name),
			event.Member{Key: "isOnline", Value: []byte("true")}, event.Member{Key: "hasSocket", Value: []byte("true")},
			event.Member{Key: "busy", Value: boolean(busy)},
			event.Text("lastHeartbeat", event.FormatTime(beat)), event.Text("registeredAt", event.FormatTime(t.ConnectedAt)),
		))
	}
	terminals, _ := json.Marshal(list) // of what is JSON already
	return Ack{Status: http.StatusOK, Body: object(
		event.Member{Key: "success", Value: []byte("true")}, event.Member{Key: "terminals", Value: terminals},
	)}
}

func boolean(b bool) []byte {
	if b {
		return []byte("true")
	}
	return []byte("false")
}

// PrintReceipt takes {requestId?, receipt}, has it printed and waits for that, as
// long as Waits.Print. Nothing of it is kept: a receipt that nobody waits
// for is not printed later, and one printed twice costs paper. Safe for
// concurrent use.
func (s *Server) PrintReceipt(ctx context.Context, g auth.Grant, terminal string, payload []byte) Ack {
	if refused := s.mayCharge(ctx, g); refused != nil {
		return *refused
	}
	o, err := event.ParseObject(payload)
	if err != nil || !o.Truthy("receipt") || o.Raw("receipt")[0] != '{' {
		return s.turnDown(badCharge("terminalId y receipt son requeridos"))
	}
	id := o.String("requestId")
	if id == "" {
		id = event.NewCorrelationID()
	}
	if len(id) > event.MaxKey || len(terminal) > event.MaxKey || len(payload) > event.MaxPayload {
		return s.turnDown(badCharge("requestId o receipt es demasiado largo"))
	}
	b := s.desk.bridge
	result, ok := b.printing(id)
	if !ok {
		return s.turnDown(event.Refuse(http.StatusConflict, "REQUEST_ID_REUSED", "Ese recibo ya se está imprimiendo"))
	}
	defer b.printEnds(id)
	sess := s.terminals.session(terminal)
	if sess == nil {
		return s.turnDown(s.unreachable(s.terminals.serial(terminal)))
	}
	sess.emit(string(event.PrintRequest), object(
		event.Text("requestId", id), event.Text("terminalId", terminal), event.Text("venueId", s.cfg.Venue),
		event.Member{Key: "receipt", Value: o.Raw("receipt")}, event.Text("timestamp", event.FormatTime(s.cfg.Now())),
	))
	timer := time.NewTimer(s.cfg.Waits.Print)
	defer timer.Stop()
	status, word, text := http.StatusGatewayTimeout, "timeout", "La terminal no respondió a la impresión"
	select {
	case said := <-result:
		status, word, text = http.StatusOK, "success", ""
		if said.String("status") != "success" {
			status, word, text = http.StatusUnprocessableEntity, "failed", said.String("errorMessage")
		}
	case <-timer.C:
	case <-ctx.Done():
	case <-b.ending:
	}
	members := []event.Member{
		{Key: "success", Value: boolean(status == http.StatusOK)}, event.Text("requestId", id), event.Text("status", word),
	}
	if text != "" {
		members = append(members, event.Text("errorMessage", text))
	}
	return Ack{Status: status, Body: object(members...)}
}

// printing waits for a receipt under an id; false: somebody does already.
func (b *bridge) printing(id string) (<-chan event.Object, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.prints[id] != nil {
		return nil, false
	}
	b.prints[id] = make(chan event.Object, 1)
	return b.prints[id], true
}

func (b *bridge) printEnds(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.prints, id)
}

// printed hands a result to whoever waits for it.
func (b *bridge) printed(e *event.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o, err := event.ParseObject(e.Payload)
	if err != nil {
		return
	}
	select {
	case b.prints[e.Subject] <- o: // of nobody: never ready
	default:
	}
}

// lastBeat returns when a terminal last said that it is there.
func (t *terminals) lastBeat(id string) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.byID[t.serialLocked(id)]; e != nil {
		return e.heartbeat
	}
	return time.Time{}
}
