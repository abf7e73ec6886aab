package lan

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/lan/tasks"
)

// telemetryDone answers a terminal: in the ack alone, never as an error
// event (contract §3.1).
func (sess *session) telemetryDone(c *call, members ...event.Member) {
	body := object(append([]event.Member{{Key: "success", Value: []byte("true")}}, members...)...)
	sess.finish(c, func() { c.answer(body) })
}

func (sess *session) telemetryRefused(c *call, r *event.Refusal) {
	sess.server.counters.reject(r.Code)
	body := object(event.Member{Key: "success", Value: []byte("false")}, event.Text("error", r.Text))
	sess.finish(c, func() { c.answer(body) })
}

// volatile serves what a terminal says of itself and nobody keeps: the venue
// hears it at once. The socket must speak for its own venue and, where its
// terminal is known, for itself (contract §11 A11, A12).
func (sess *session) volatile(c *call, row *event.Row, payload json.RawMessage) {
	refuse := func(r *event.Refusal) { sess.telemetryRefused(c, r) }
	if sess.ended.Load() {
		refuse(unauthenticated("Authentication required"))
		return
	}
	o, err := event.ParseObject(payload)
	if err != nil { // what is no object lacks everything
		o, _ = event.ParseObject([]byte("{}"))
	}
	if refusal := row.CheckPayload(o, sess.grant.Venue); refusal != nil {
		refuse(refusal)
		return
	}
	id := o.Ident("terminalId")
	switch {
	case id == "" || len(id) > event.MaxKey:
		refuse(event.Refuse(http.StatusBadRequest, "bad_payload", row.Needs[0].Text))
		return
	case sess.terminal != "" && !sess.server.speaksFor(sess.terminal, id),
		sess.terminal == "" && sess.server.terminals.session(id) != nil:
		refuse(tasks.NotYours())
		return
	}
	switch row.Kind {
	case event.TPVLog:
		sess.logged(c, o)
	case event.TPVHeartbeat:
		sess.heartbeat(c, o)
	default:
		sess.server.tell(row.Kind, []event.Member{event.Text("userId", sess.grant.Subject)}, o)
		sess.telemetryDone(c, event.Text("message", row.Done))
	}
}

// logged serves tpv:log: the venue hears it as terminal:log.
func (sess *session) logged(c *call, o event.Object) {
	id := string(event.NewID())
	members := []event.Member{event.Text("id", id)}
	for _, key := range []string{"terminalId", "level", "tag", "message", "error", "metadata"} {
		if key == "level" {
			members = append(members, event.Text("level", strings.ToUpper(o.String("level"))))
		} else if raw := o.Raw(key); raw != nil {
			members = append(members, event.Member{Key: key, Value: raw})
		}
	}
	sess.server.tell(event.TerminalLog, append(members, stamp(o)), event.Object{})
	sess.telemetryDone(c, event.Text("id", id))
}

// heartbeat serves tpv:heartbeat: the venue hears one per terminal and half
// minute as terminal:heartbeat; the last one is in the registry.
func (sess *session) heartbeat(c *call, o event.Object) {
	if !sess.server.terminals.beat(o, time.Now()) {
		sess.server.counters.debounced.Add(1)
		sess.telemetryDone(c, event.Member{Key: "debounced", Value: []byte("true")})
		return
	}
	id := string(event.NewID())
	members := []event.Member{event.Text("id", id), {Key: "terminalId", Value: o.Raw("terminalId")}}
	if raw := o.Raw("healthScore"); raw != nil {
		members = append(members, event.Member{Key: "healthScore", Value: raw})
	}
	var health []event.Member
	if h, err := event.ParseObject(o.Raw("health")); err == nil {
		for _, key := range []string{"memory", "battery", "storage"} {
			if raw := h.Raw(key); raw != nil {
				health = append(health, event.Member{Key: key, Value: raw})
			}
		}
	}
	members = append(members, event.Member{Key: "health", Value: object(health...)}, stamp(o))
	sess.server.tell(event.TerminalHeartbeat, members, event.Object{})
	sess.telemetryDone(c, event.Text("id", id))
}

// stamp is the device's own time, in epoch milliseconds as it said, else ours.
func stamp(o event.Object) event.Member {
	raw := o.Raw("timestamp")
	if _, err := strconv.ParseInt(string(raw), 10, 64); err != nil {
		raw = strconv.AppendInt(nil, time.Now().UnixMilli(), 10)
	}
	return event.Member{Key: "timestamp", Value: raw}
}

// tell is the side road of volatile events: to the venue at once, the sender
// included, past journal and follower. The members are set in o, which may be
// the zero object.
func (s *Server) tell(kind event.Kind, members []event.Member, o event.Object) {
	if o.Bytes() == nil {
		o, _ = event.ParseObject([]byte("{}")) // always parses
	}
	members = append(members,
		event.Text("correlationId", event.NewCorrelationID()), event.Text("venueId", s.cfg.Venue))
	s.counters.volatile.Add(1)
	s.counters.skipped.Add(s.counters.behind.Load())
	_ = s.io.To(s.rooms.everyone()).Emit(string(kind), json.RawMessage(o.With(members...)))
}
