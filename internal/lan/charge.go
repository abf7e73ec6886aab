package lan

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/lan/payments"
)

// Here are the calls by which a POS has a card charged at a terminal, with the
// paths, statuses and texts of the existing system (contract §3.7). Its apps
// read message; error and code are what all answers of the box have.

const (
	reused = "Este requestId ya se usó para otro monto, propina o terminal"

	maxCentavos  = 100_000_000 // of one payment, as the existing system has it
	seenAsOnline = 2 * time.Minute
)

// Charge takes {terminalId, amountCents, tipCents?, rating?, skipReview?,
// orderId?, requestId?, processedByStaffId?, customerId?}, has it charged and
// answers with what came of it. It waits as long as Waits.Charge for that;
// when the wait ends, or the caller goes, the request goes on. The same
// requestId again never charges again: it gets the result, or a 409 while there
// is none. device is the name of the POS; it may be empty.
//
//	crash before the request is on disk: it never was; the same id may be sent again
//	crash after it: known after the start; see [payments.Book.Letters]
//
// 504 means that the card may have been charged. Safe for concurrent use.
func (s *Server) Charge(ctx context.Context, g auth.Grant, device string, payload []byte) Ack {
	if refused := s.mayCharge(ctx, g); refused != nil {
		return *refused
	}
	r, e, refusal := s.readCharge(g, device, payload)
	if refusal != nil {
		return s.turnDown(refusal)
	}
	switch verdict, other := s.desk.bridge.book.Admit(r); verdict {
	case payments.Admitted:
	case payments.Known:
		if other.InProgress() {
			return s.occupied("Este cobro ya está en proceso en la terminal "+r.Terminal, &other)
		}
		return s.chargeResult(&other)
	case payments.Different:
		return s.turnDown(event.Refuse(http.StatusConflict, "REQUEST_ID_REUSED", reused))
	case payments.Paid:
		return s.turnDown(event.Refuse(http.StatusConflict, "ORDER_ALREADY_PAID", "La cuenta "+r.Order+" ya está pagada por completo"))
	case payments.Occupied:
		return s.occupied("La terminal "+r.Terminal+" está ocupada procesando otro cobro", &other)
	}
	if s.terminals.session(r.Terminal) == nil {
		s.desk.bridge.book.Release(r.ID)
		return s.turnDown(s.unreachable(r.Terminal))
	}
	receipt, refusal := s.storeCharge(e)
	switch {
	case refusal != nil:
		s.desk.bridge.book.Release(r.ID)
		return s.turnDown(refusal)
	case receipt.Duplicate: // longer ago than the book remembers: it may have been charged
		s.desk.bridge.book.Release(r.ID)
		r.Status, r.Reason = payments.Unknown, payments.TooOld
		return s.chargeResult(&r)
	}
	r = s.desk.bridge.await(ctx, r.ID, s.cfg.Waits.Charge)
	return s.chargeResult(&r)
}

// mayCharge says whether somebody may ask for anything here now.
func (s *Server) mayCharge(ctx context.Context, g auth.Grant) *Ack {
	var refusal *event.Refusal
	row, _ := event.Lookup(event.PaymentInitiated) // who may send payments
	switch no := row.MaySend(g.Role); {
	case g.Venue != s.cfg.Venue:
		refusal = event.Refuse(http.StatusForbidden, "venue_mismatch", "La terminal no pertenece a este establecimiento")
	case no != nil:
		refusal = event.Refuse(http.StatusForbidden, no.Code, no.Text)
	case s.closing.Load(), !s.desk.bridge.through(ctx, s.journal.Stored()):
		refusal = event.RefuseForNow("not_ready", "La caja local está iniciando o cerrando; intenta de nuevo", time.Second)
	default:
		return nil
	}
	ack := s.turnDown(refusal)
	return &ack
}

// turnDown is the answer to a request that changed nothing, and has charged
// nothing.
func (s *Server) turnDown(r *event.Refusal, more ...event.Member) Ack {
	s.counters.reject(r.Code)
	members := []event.Member{
		{Key: "success", Value: []byte("false")},
		event.Text("message", r.Text), event.Text("error", r.Text),
		event.Text("code", r.Code), integer("statusCode", int64(r.Status)),
	}
	if r.Status == http.StatusConflict {
		members = append(members, event.Text("status", "failed"), event.Text("errorMessage", r.Text))
	}
	if r.Retryable {
		members = append(members, event.Member{Key: "retryable", Value: []byte("true")})
	}
	return Ack{Status: r.Status, Body: object(append(members, more...)...)}
}

// occupied says who has the terminal.
func (s *Server) occupied(text string, by *payments.Request) Ack {
	members := []event.Member{event.Text("requestId", by.ID)}
	if by.AmountCents > 0 {
		members = append(members, integer("amountCents", by.AmountCents))
	}
	if by.Device != "" {
		members = append(members, event.Text("senderDevice", by.Device))
	}
	members = append(members, integer("ageSeconds", max(0, int64(s.cfg.Now().Sub(by.Stored)/time.Second))))
	return s.turnDown(event.Refuse(http.StatusConflict, string(payments.Busy), text),
		event.Member{Key: "blockingRequest", Value: object(members...)})
}

// unreachable says why a terminal without a socket cannot be reached.
func (s *Server) unreachable(terminal string) *event.Refusal {
	if s.cfg.Now().Sub(s.terminals.lastBeat(terminal)) < seenAsOnline {
		return event.Refuse(http.StatusUnprocessableEntity, "terminal_without_socket",
			"La terminal "+terminal+" está registrada pero no tiene conexión de socket. Reinicia la app de la terminal.")
	}
	return event.Refuse(http.StatusNotFound, "terminal_not_connected", "La terminal "+terminal+" no está conectada")
}

// readCharge checks a request and makes the event of it.
func (s *Server) readCharge(g auth.Grant, device string, payload []byte) (payments.Request, *event.Event, *event.Refusal) {
	o, err := event.ParseObject(payload)
	if err != nil {
		return payments.Request{}, nil, badCharge("terminalId y amountCents son requeridos")
	}
	if refusal := checkCharge(o); refusal != nil {
		return payments.Request{}, nil, refusal
	}
	now := s.cfg.Now().UTC().Truncate(time.Millisecond)
	amount, _ := strconv.ParseInt(string(o.Raw("amountCents")), 10, 64)
	tip, _ := strconv.ParseInt(string(o.Raw("tipCents")), 10, 64)
	r := payments.Request{
		ID: o.String("requestId"), Terminal: s.terminals.serial(o.String("terminalId")),
		AmountCents: amount, TipCents: tip, Order: o.Ident("orderId"), Device: clip(device), Stored: now,
	}
	if r.ID == "" {
		r.ID = event.NewCorrelationID()
	}
	row, _ := event.Lookup(event.BridgeRequest)
	contract, _ := event.ParseObject(object(event.Text("terminalId", r.Terminal), integer("amountCents", amount), integer("tipCents", tip)))
	return r, &event.Event{
		ID: event.NewID(), Kind: row.Kind, Origin: event.Local, Class: row.Class, Time: now,
		Subject: r.ID, Actor: g.Subject, Role: g.Role, Audience: event.Audience{Terminals: []string{r.Terminal}},
		DedupKey: event.DedupKey(string(row.Kind), r.ID), Digest: contract.Digest(row.Identity...),
		Payload: s.chargeBody(&r, g, o),
	}, nil
}

// chargeBody is the request as it is stored, without anything that is absent
// (contract C12).
func (s *Server) chargeBody(r *payments.Request, g auth.Grant, o event.Object) []byte {
	members := []event.Member{
		event.Text("requestId", r.ID), event.Text("terminalId", o.String("terminalId")),
		integer("amountCents", r.AmountCents), integer("tipCents", r.TipCents),
	}
	if raw := o.Raw("rating"); given(raw) {
		members = append(members, event.Member{Key: "rating", Value: raw})
	}
	skip := []byte("true")
	if raw := o.Raw("skipReview"); given(raw) {
		skip = raw
	}
	members = append(members, event.Member{Key: "skipReview", Value: skip})
	by := o.String("processedByStaffId") // whose it is the back-end checks
	if by == "" {
		by = g.Subject
	}
	for _, m := range []struct{ key, value string }{
		{"orderId", r.Order}, {"senderDeviceName", r.Device}, {"processedByStaffId", by}, {"customerId", o.String("customerId")},
	} {
		if m.value != "" && len(m.value) <= event.MaxKey {
			members = append(members, event.Text(m.key, m.value))
		}
	}
	members = append(members, event.Text("venueId", s.cfg.Venue), event.Text("timestamp", event.FormatTime(r.Stored)))
	if sess := s.terminals.session(r.Terminal); sess != nil && sess.reader().Inbox {
		members = append(members, integer(payments.InboxMark, int64(sess.capabilities[payments.InboxMark])))
	}
	return object(members...)
}

func given(raw []byte) bool { return raw != nil && string(raw) != "null" }

// checkCharge takes no number for another: no texts, no fractions.
func checkCharge(o event.Object) *event.Refusal {
	within := func(key string, low, high int64) bool {
		n, err := strconv.ParseInt(string(o.Raw(key)), 10, 64)
		return err == nil && n >= low && n <= high
	}
	skip := string(o.Raw("skipReview"))
	switch {
	case o.String("terminalId") == "", !given(o.Raw("amountCents")):
		return badCharge("terminalId y amountCents son requeridos")
	case !within("amountCents", 1, maxCentavos):
		return badCharge("El monto debe ser un entero entre 1 y 100000000 centavos")
	case given(o.Raw("tipCents")) && !within("tipCents", 0, maxCentavos):
		return badCharge("La propina debe ser un entero entre 0 y 100000000 centavos")
	case given(o.Raw("rating")) && !within("rating", 1, 5):
		return badCharge("La calificación debe ser un entero entre 1 y 5")
	case given(o.Raw("skipReview")) && skip != "true" && skip != "false":
		return badCharge("skipReview debe ser booleano")
	case given(o.Raw("requestId")) && o.String("requestId") == "":
		return badCharge("requestId debe ser un texto")
	}
	for _, key := range []string{"terminalId", "requestId", "orderId"} {
		if len(o.Raw(key)) > event.MaxKey {
			return badCharge(key + " es demasiado largo")
		}
	}
	return nil
}

func badCharge(text string) *event.Refusal {
	return event.Refuse(http.StatusBadRequest, "bad_payload", text)
}

// storeCharge waits until an event of a POS is on disk, whether the POS does or
// not: what it asked for is decided by what is stored.
func (s *Server) storeCharge(e *event.Event) (event.Receipt, *event.Refusal) {
	type answer struct {
		receipt event.Receipt
		refusal *event.Refusal
	}
	answers := make(chan answer, 1)
	row, _ := event.Lookup(e.Kind)
	s.inflight.Add(1)
	s.store(s.serving, &accepted{event: e, row: row}, func(r event.Receipt, refusal *event.Refusal) {
		answers <- answer{r, refusal}
		s.inflight.Add(-1)
	})
	select {
	case got := <-answers:
		if got.refusal != nil && got.refusal.Status == http.StatusConflict {
			return got.receipt, event.Refuse(http.StatusConflict, "REQUEST_ID_REUSED", reused)
		}
		return got.receipt, got.refusal
	case <-s.serving.Done():
		return event.Receipt{}, notStored(errors.New("server ended"))
	}
}

// chargeResult is the answer that tells of a request: what the terminal said, if
// it said something, in the words of a terminal:payment_result.
func (s *Server) chargeResult(r *payments.Request) Ack {
	status, word, text := http.StatusGatewayTimeout, "timeout", "Resultado desconocido: verifica el estado en la terminal antes de cobrar de nuevo"
	switch r.Status {
	case payments.Completed:
		status, word, text = http.StatusOK, "success", ""
	case payments.Failed:
		if r.Reason == payments.Busy {
			by, _ := s.desk.bridge.book.Get(r.Blocking)
			by.ID = r.Blocking
			return s.occupied("La terminal "+r.Terminal+" está ocupada procesando otro cobro", &by)
		}
		status, word, text = http.StatusUnprocessableEntity, "failed", "El cobro falló"
	case payments.Cancelled:
		status, word, text = http.StatusConflict, "cancelled", "Cancelado"
	case payments.TimedOut:
		text = "La terminal no respondió a tiempo"
	case payments.Unknown:
	case payments.Pending, payments.Sent, payments.CancelRequested:
		text = "El cobro sigue en proceso en la terminal"
	}
	var said []event.Member
	for _, key := range []string{"paymentId", "transactionId", "errorMessage", "cardDetails", "receipt", "completedAt"} {
		switch raw := r.Result.Raw(key); {
		case given(raw):
			said = append(said, event.Member{Key: key, Value: raw})
		case key == "paymentId" && r.Payment != "":
			said = append(said, event.Text(key, r.Payment))
		case key == "errorMessage" && text != "":
			said = append(said, event.Text(key, text))
		}
	}
	members := append([]event.Member{
		{Key: "success", Value: boolean(status == http.StatusOK)},
		event.Text("requestId", r.ID), event.Text("status", word),
	}, said...)
	if r.Reason != "" && status != http.StatusOK {
		members = append(members, event.Text("code", string(r.Reason)))
	}
	return Ack{Status: status, Body: object(members...)}
}

// ChargeStatus answers what became of a request: 404 if it never was on disk, or
// more than a day ago. Either way the same id may be sent again: one that was
// used is not charged, see [Server.Charge]. It never says that before the journal
// has been read. Safe for concurrent use.
func (s *Server) ChargeStatus(ctx context.Context, g auth.Grant, id string) Ack {
	if refused := s.mayCharge(ctx, g); refused != nil {
		return *refused
	}
	r, ok := s.desk.bridge.book.Get(id)
	if !ok {
		return Ack{Status: http.StatusNotFound, Body: object(
			event.Member{Key: "success", Value: []byte("false")}, event.Text("status", "NOT_FOUND"),
			event.Text("message", "No existe una solicitud de cobro con ese identificador"),
		)}
	}
	orNull := func(key, value string) event.Member {
		if value == "" {
			return event.Member{Key: key, Value: []byte("null")}
		}
		return event.Text(key, value)
	}
	if r.Changed.IsZero() { // being stored
		r.Changed = r.Stored
	}
	return Ack{Status: http.StatusOK, Body: object(
		event.Member{Key: "success", Value: []byte("true")},
		event.Member{Key: "inProgress", Value: boolean(r.InProgress())},
		event.Text("requestId", r.ID), event.Text("venueId", s.cfg.Venue),
		event.Text("terminalId", s.terminals.serial(r.Terminal)), event.Text("status", string(r.Status)),
		event.Member{Key: "amount", Value: pesos(r.AmountCents)}, event.Member{Key: "tip", Value: pesos(r.TipCents)},
		orNull("orderId", r.Order), orNull("paymentId", r.Payment), orNull("senderDevice", r.Device),
		event.Member{Key: "lateResult", Value: boolean(r.Late)},
		event.Text("createdAt", event.FormatTime(r.Stored)), event.Text("updatedAt", event.FormatTime(r.Changed)),
		orNull("reason", string(r.Reason)),
	)}
}

// pesos writes centavos as JavaScript would write them divided by a hundred.
func pesos(centavos int64) json.RawMessage {
	return strconv.AppendFloat(nil, float64(centavos)/100, 'f', -1, 64)
}
