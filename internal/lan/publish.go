package lan

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/lan/tasks"
)

// enqueueTimeout is how long a sender waits for room in the journal's queue.
const enqueueTimeout = 10 * time.Second

// Ack is the answer to one event: the object an ack carries, and its status.
type Ack struct {
	Status int    // 200, or the statusCode in Body
	Body   []byte // a JSON object
}

// sender is who sends an event.
type sender struct {
	grant         auth.Grant
	terminal      string // normalised serial; may be empty
	sid           string // socket that must not hear its own event; may be empty
	correlationID string // of the sender, in its ack
	origin        event.Origin
	publisher     bool // by the HTTP API
	ended         bool // the grant is no longer good
}

// accepted is an event that passed all checks, before it is stored.
type accepted struct {
	event  *event.Event
	row    *event.Row
	object event.Object // as it came
}

// accept applies the rules in the order of the existing system (authenticated,
// role, payload, venue), then whose task it is, and makes the event.
func (s *Server) accept(from sender, row *event.Row, payload []byte, target *event.Audience, now time.Time) (*accepted, *event.Refusal) {
	if from.ended {
		return nil, unauthenticated(authenticationText(row))
	}
	if refusal := row.MaySend(from.grant.Role); refusal != nil {
		if !from.publisher || !row.Broadcast || !event.MayPublish(from.grant.Role) {
			return nil, refusal
		}
	}
	if target != nil && !event.MayPublish(from.grant.Role) {
		return nil, event.Refuse(http.StatusUnauthorized, "role_not_allowed",
			fmt.Sprintf("Role %s not authorized to choose receivers", from.grant.Role))
	}
	if len(payload) > event.MaxPayload {
		return nil, tooLarge()
	}
	o, err := event.ParseObject(payload)
	if err != nil {
		return nil, event.Refuse(http.StatusBadRequest, "bad_payload", payloadText(err))
	}
	if refusal := row.CheckPayload(o, from.grant.Venue); refusal != nil {
		return nil, refusal
	}
	if row.Terminal {
		if refusal := s.checkTerminal(from, row, o, now); refusal != nil {
			return nil, refusal
		}
	}
	key := o.String("idempotencyKey")
	id := event.ID(key)
	if key == "" {
		id = event.NewID()
	}
	subject, dedup := row.SubjectOf(o), event.DedupKey(string(row.Kind), key)
	if row.Once && key == "" && subject != "" {
		dedup = event.DedupKey(string(row.Kind), from.terminal+"/"+subject)
	}
	if row.Once && subject == "" {
		subject = string(id)
	}
	e := &event.Event{
		ID: id, Kind: row.Kind, Origin: from.origin, Class: row.Class,
		Time:    now.UTC().Truncate(time.Millisecond),
		Subject: subject, Actor: from.grant.Subject, Role: from.grant.Role,
		Terminal: from.terminal, Audience: row.AudienceOf(o, target), Sender: from.sid,
		Expires: event.Expiry(o), DedupKey: dedup,
	}
	if dedup != "" {
		e.Digest = o.Digest(row.Identity...)
	}
	e.Payload, e.CorrelationID = row.Enrich(o, event.Stamp{
		CorrelationID: event.NewCorrelationID(), Time: e.Time,
		User: from.grant.Subject, Venue: from.grant.Venue, ID: subject,
	})
	if len(e.Payload) > event.MaxPayload {
		return nil, tooLarge()
	}
	return &accepted{event: e, row: row, object: o}, nil
}

// checkTerminal says whether a sender may say this as a terminal: it is one, it
// is the one it names, and the task it names is its own.
func (s *Server) checkTerminal(from sender, row *event.Row, o event.Object, now time.Time) *event.Refusal {
	if id := o.Ident("terminalId"); from.terminal == "" || (id != "" && !s.speaksFor(from.terminal, id)) {
		return tasks.NotYours()
	}
	if row.Family == event.Bridge && !s.desk.bridge.book.Owns(o.Ident(row.Subject), from.terminal) {
		return tasks.NotYours()
	}
	if row.Family != event.Task {
		return nil
	}
	return s.desk.book.Allow(row.Kind, o.Ident(row.Subject), from.terminal, now)
}

func authenticationText(row *event.Row) string {
	switch row.Family {
	case event.Payment:
		return "Authentication required for payment events"
	case event.Order:
		return "Authentication required for order events"
	case event.Alert:
		return "Authentication required for system alerts"
	case event.Plain, event.Task, event.Bridge, event.Session:
	}
	return "Authentication required"
}

func payloadText(err error) string {
	if errors.Is(err, event.ErrNotObject) {
		return "Payload must be a JSON object"
	}
	return "Invalid payload: " + err.Error()
}

func unauthenticated(text string) *event.Refusal {
	return event.Refuse(http.StatusUnauthorized, "authentication_required", text)
}

func tooLarge() *event.Refusal {
	return event.Refuse(http.StatusRequestEntityTooLarge, "payload_too_large",
		fmt.Sprintf("Payload is larger than %d bytes", event.MaxPayload))
}

// notStored names why the journal did not take an event.
func notStored(err error) *event.Refusal {
	if refusal, ok := errors.AsType[*event.Refusal](err); ok {
		return refusal
	}
	return event.RefuseForNow("not_stored", "Event could not be stored, try again", time.Second)
}

// object encodes members, in their order, as one JSON object.
func object(members ...event.Member) json.RawMessage {
	o, _ := event.ParseObject([]byte("{}")) // always parses
	return o.With(members...)
}

// failure is the answer to a refused request (contract §3.1), with what a
// program needs to decide about a retry.
func failure(correlationID string, r *event.Refusal) json.RawMessage {
	members := []event.Member{
		event.Text("correlationId", correlationID),
		{Key: "success", Value: []byte("false")},
		event.Text("error", r.Text),
		{Key: "statusCode", Value: strconv.AppendInt(nil, int64(r.Status), 10)},
		event.Text("code", r.Code),
	}
	if r.Retryable {
		members = append(members, event.Member{Key: "retryable", Value: []byte("true")})
	}
	if r.RetryAfter > 0 {
		members = append(members, event.Member{
			Key: "retryAfterMs", Value: strconv.AppendInt(nil, max(1, r.RetryAfter.Milliseconds()), 10),
		})
	}
	return object(members...)
}

// success is the answer to a stored event, in the words of its row (contract
// §3.2–3.4) with the proof that it is stored; a terminal gets the words alone
// (§3.7–3.9).
func (a *accepted) success(correlationID string, r event.Receipt) json.RawMessage {
	row := a.row
	members := []event.Member{{Key: "success", Value: []byte("true")}}
	if row.Terminal {
		if row.Done != "" {
			members = append(members, event.Text("message", row.Done))
		}
		return object(members...)
	}
	text, kind := row.Done, row.Type
	if text == "" {
		text = string(row.Kind) + " event broadcasted"
	}
	if row.Family == event.Plain || row.Family == event.Task {
		kind = string(row.Kind)
	}
	members = append([]event.Member{event.Text("correlationId", correlationID)}, members...)
	members = append(members, event.Text("message", text))
	if row.Family != event.Alert {
		members = append(members, event.Text("eventType", kind))
	}
	if row.Once {
		members = append(members, event.Text(row.Subject, a.event.Subject))
	}
	for _, key := range row.Echo {
		if raw := a.object.Raw(key); raw != nil {
			members = append(members, event.Member{Key: key, Value: raw})
		}
	}
	members = append(members,
		event.Text("eventId", string(r.ID)),
		event.Member{Key: "seq", Value: strconv.AppendUint(nil, uint64(r.Seq), 10)},
		event.Text("durability", "stored"),
	)
	if r.Duplicate {
		members = append(members, event.Member{Key: "duplicate", Value: []byte("true")})
	}
	return object(members...)
}

// store hands an event to the journal; done is called exactly once, on any
// goroutine, and must not block.
func (s *Server) store(ctx context.Context, a *accepted, done func(event.Receipt, *event.Refusal)) {
	ctx, cancel := context.WithTimeout(ctx, enqueueTimeout)
	defer cancel()
	err := s.journal.Enqueue(ctx, a.event, func(r event.Receipt, err error) {
		switch {
		case err != nil:
			done(event.Receipt{}, notStored(err))
		default:
			s.counters.accepted.Add(1)
			if r.Duplicate {
				s.counters.duplicates.Add(1)
			}
			done(r, nil)
		}
	})
	if err != nil { // then the function above is never called
		done(event.Receipt{}, notStored(err))
	}
}

// business serves a payment, order or alert of a client. The ack leaves once
// the event is on disk:
//
//	crash before the journal's fsync: no ack was sent, the client retries
//	crash after it: the client retries too, and its idempotency key finds the
//	first event
func (sess *session) business(c *call, row *event.Row, payload json.RawMessage) {
	s := sess.server
	refuse := sess.refuse
	if row.Terminal {
		refuse = sess.telemetryRefused
	}
	a, refusal := s.accept(sender{
		grant: sess.grant, terminal: sess.terminal, sid: sess.self,
		correlationID: sess.correlationID, origin: event.Terminal, ended: sess.ended.Load(),
	}, row, payload, nil, s.cfg.Now())
	if refusal != nil {
		refuse(c, refusal)
		return
	}
	s.store(s.serving, a, func(r event.Receipt, refusal *event.Refusal) {
		if refusal != nil {
			refuse(c, refusal)
			return
		}
		sess.finish(c, func() { c.answer(a.success(sess.correlationID, r)) })
	})
}

// Publish is the door of the HTTP API: the rules, the journal, the fan-out and
// the answer are those of an event from a socket. Besides what g's role may
// send from a socket, roles that [event.MayPublish] may publish every
// server-to-client kind, and may choose its receivers by target (nil: the
// kind's own audience).
//
// With status 200 the event is on disk. If ctx ends first the answer is a
// retryable 503; the event may then have been stored all the same, so a retry
// should carry the same idempotencyKey. Safe for concurrent use.
func (s *Server) Publish(ctx context.Context, g auth.Grant, kind event.Kind, payload []byte, target *event.Audience, origin event.Origin) Ack {
	correlationID := event.NewCorrelationID()
	refuse := func(r *event.Refusal) Ack {
		s.counters.reject(r.Code)
		return Ack{Status: r.Status, Body: failure(correlationID, r)}
	}
	row, ok := event.Resolve(kind)
	switch {
	case !ok || row.Volatile || (len(row.Senders) == 0 && !row.Broadcast):
		return refuse(event.Refuse(http.StatusBadRequest, "unknown_event", "Unknown event: "+clip(string(kind))))
	case g.Venue != s.cfg.Venue:
		return refuse(event.WrongVenue())
	case s.closing.Load():
		return refuse(event.RefuseForNow("closing", "Server is closing, try again", time.Second))
	}
	a, refusal := s.accept(sender{
		grant: g, terminal: g.Terminal, correlationID: correlationID, origin: origin, publisher: true,
	}, row, payload, target, s.cfg.Now())
	if refusal != nil {
		return refuse(refusal)
	}
	type answer struct {
		receipt event.Receipt
		refusal *event.Refusal
	}
	answers := make(chan answer, 1)
	s.inflight.Add(1)
	s.store(ctx, a, func(r event.Receipt, refusal *event.Refusal) {
		answers <- answer{r, refusal}
		s.inflight.Add(-1)
	})
	select {
	case got := <-answers:
		if got.refusal != nil {
			return refuse(got.refusal)
		}
		return Ack{Status: http.StatusOK, Body: a.success(correlationID, got.receipt)}
	case <-ctx.Done():
		return refuse(notStored(ctx.Err()))
	}
}
