package lan

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
)

const (
	heartbeatEvery = 30 * time.Second // at most one broadcast per terminal
	maxTerminals   = 1024             // remembered; the longest unseen goes first
)

// Terminal is what the box knows of a payment terminal.
type Terminal struct {
	ID            string     `json:"terminalId"` // normalised serial
	Name          string     `json:"name,omitempty"`
	Online        bool       `json:"isOnline"`
	HasSocket     bool       `json:"hasSocket"`
	User          string     `json:"userId,omitempty"`
	Role          event.Role `json:"role,omitempty"`
	Address       string     `json:"address,omitempty"`
	ConnectedAt   time.Time  `json:"registeredAt,omitzero"`
	LastHeartbeat time.Time  `json:"lastHeartbeat,omitzero"`
	HealthScore   *float64   `json:"healthScore,omitempty"` // 0 to 100, as it said; nil: it never did
}

// terminals remembers terminals by serial, connected or not.
type terminals struct {
	mu   sync.Mutex // guards below
	byID map[string]*terminalEntry
}

type terminalEntry struct {
	seen      time.Time
	shown     time.Time // when its heartbeat was last passed on
	heartbeat time.Time
	score     *float64
	session   *session // the latest; nil when gone
}

// entry returns the terminal's entry, made if need be. The lock is held.
func (t *terminals) entry(id string, now time.Time) *terminalEntry {
	e := t.byID[id]
	if e == nil {
		if len(t.byID) >= maxTerminals {
			t.evict()
		}
		e = &terminalEntry{}
		t.byID[id] = e
	}
	e.seen = now
	return e
}

func (t *terminals) evict() {
	oldest := ""
	for id, e := range t.byID {
		if e.session == nil && (oldest == "" || e.seen.Before(t.byID[oldest].seen)) {
			oldest = id
		}
	}
	delete(t.byID, oldest)
}

func (t *terminals) connect(sess *session) {
	if sess.terminal == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.entry(sess.terminal, time.Now()).session = sess
}

// disconnect forgets the socket, unless the terminal has a newer one already.
func (t *terminals) disconnect(sess *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.byID[sess.terminal]; e != nil && e.session == sess {
		e.session, e.seen = nil, time.Now()
	}
}

// beat notes a heartbeat and reports whether it is to be passed on.
func (t *terminals) beat(id string, score *float64, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entry(id, now)
	e.heartbeat = now
	if score != nil {
		e.score = score
	}
	if !e.shown.IsZero() && now.Sub(e.shown) < heartbeatEvery {
		return false
	}
	e.shown = now
	return true
}

// Terminals returns the known terminals by id. A terminal is online while it
// has a socket. Safe for concurrent use.
func (s *Server) Terminals() []Terminal {
	t := s.terminals
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]Terminal, 0, len(t.byID))
	for id, e := range t.byID {
		term := Terminal{ID: id, LastHeartbeat: e.heartbeat, HealthScore: e.score}
		if sess := e.session; sess != nil {
			term.Online, term.HasSocket = true, true
			term.User, term.Role = sess.grant.Subject, sess.grant.Role
			term.Address, term.ConnectedAt = sess.address, sess.connectedAt
		}
		list = append(list, term)
	}
	slices.SortFunc(list, func(a, b Terminal) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// telemetryDone answers a log or heartbeat: in the ack alone, never as an error
// event (contract §3.1).
func (sess *session) telemetryDone(c *call, members ...event.Member) {
	body := object(append([]event.Member{{Key: "success", Value: []byte("true")}}, members...)...)
	sess.finish(c, func() { c.answer(body) })
}

func (sess *session) telemetryRefused(c *call, code, text string) {
	sess.server.counters.reject(code)
	body := object(event.Member{Key: "success", Value: []byte("false")}, event.Text("error", text))
	sess.finish(c, func() { c.answer(body) })
}

// telemetry checks what logs and heartbeats share: the fields, and that the
// socket speaks for its own venue and, where its terminal is known, for itself
// (contract §11 A11, A12).
func (sess *session) telemetry(c *call, payload json.RawMessage, missing string, fields ...string) (event.Object, bool) {
	o, err := event.ParseObject(payload)
	if err != nil {
		sess.telemetryRefused(c, "bad_payload", missing)
		return o, false
	}
	for _, field := range fields {
		if !o.Truthy(field) {
			sess.telemetryRefused(c, "bad_payload", missing)
			return o, false
		}
	}
	id := auth.NormaliseTerminal(o.Ident("terminalId"))
	switch {
	case id == "" || len(id) > event.MaxKey:
		sess.telemetryRefused(c, "bad_payload", missing)
	case sess.ended.Load():
		sess.telemetryRefused(c, "authentication_required", "Authentication required")
	case o.String("venueId") != sess.grant.Venue:
		sess.telemetryRefused(c, "venue_mismatch", event.WrongVenue().Text)
	case sess.terminal != "" && sess.terminal != id:
		sess.telemetryRefused(c, "terminal_mismatch", "Terminal socket not registered for venue")
	default:
		return o, true
	}
	return o, false
}

// logged serves tpv:log: the venue hears it as terminal:log, nothing is stored.
func (sess *session) logged(c *call, payload json.RawMessage) {
	o, ok := sess.telemetry(c, payload, "Missing required fields in log payload",
		"level", "tag", "message", "terminalId", "venueId")
	if !ok {
		return
	}
	level := strings.ToUpper(o.String("level"))
	switch level {
	case "INFO", "WARN", "ERROR":
	default:
		sess.telemetryRefused(c, "bad_payload", "Invalid log level: "+clip(o.Ident("level")))
		return
	}
	id := string(event.NewID())
	members := []event.Member{event.Text("id", id)}
	for _, key := range []string{"terminalId", "level", "tag", "message", "error", "metadata"} {
		if key == "level" {
			members = append(members, event.Text("level", level))
		} else if raw := o.Raw(key); raw != nil {
			members = append(members, event.Member{Key: key, Value: raw})
		}
	}
	sess.tell(event.TerminalLog, append(members, stamp(o)))
	sess.telemetryDone(c, event.Text("id", id))
}

// heartbeat serves tpv:heartbeat: the venue hears one per terminal and half
// minute as terminal:heartbeat, nothing is stored.
func (sess *session) heartbeat(c *call, payload json.RawMessage) {
	o, ok := sess.telemetry(c, payload, "Missing required fields in heartbeat payload",
		"terminalId", "venueId", "health")
	if !ok {
		return
	}
	var score *float64
	if n, err := strconv.ParseFloat(o.Ident("healthScore"), 64); err == nil && n >= 0 && n <= 100 {
		score = &n
	}
	if !sess.server.terminals.beat(auth.NormaliseTerminal(o.Ident("terminalId")), score, time.Now()) {
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
	sess.tell(event.TerminalHeartbeat, members)
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
// included, past journal and follower.
func (sess *session) tell(kind event.Kind, members []event.Member) {
	s := sess.server
	members = append(members,
		event.Text("correlationId", event.NewCorrelationID()), event.Text("venueId", sess.grant.Venue))
	s.counters.volatile.Add(1)
	_ = s.io.To(s.rooms.everyone()).Emit(string(kind), object(members...))
}
