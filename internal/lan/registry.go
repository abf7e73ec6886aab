package lan

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"log/slog"
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

	// maxTelemetry bounds what is kept of one heartbeat, in bytes. A larger one
	// counts, and what it says is not kept.
	maxTelemetry = 16 << 10

	terminalsSpace = "terminals" // in State: id of the back-end → serial
	maxAliases     = 4096
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
	LastSeen      time.Time  `json:"lastSeen,omitzero"`     // any proof of life: a heartbeat, another event, an answered ping; zero: none since the start
	Waiting       int        `json:"waiting"`               // events of its that the cloud does not have, as of a second ago
	HealthScore   *float64   `json:"healthScore,omitempty"` // 0 to 100, as it said; nil: it never did

	// Telemetry is its last heartbeat as it came, a JSON object; nil: there was
	// none, or it was larger than 16 KiB. Earlier ones are not kept.
	Telemetry json.RawMessage `json:"telemetry,omitempty"`

	// Capabilities are what it said it understands, by name; its three versions
	// are those of the handshake (contract §1.9).
	Capabilities map[string]int `json:"capabilities,omitempty"`
}

// capabilityNames are the members of the handshake in which a terminal says
// which version of what it understands (contract §1.9).
func capabilityNames() []string {
	return []string{"terminalPaymentAckVersion", "terminalPaymentCancelDispositionVersion", "terminalPaymentProbeVersion"}
}

// capabilities reads them; a version is a whole number from 1 on.
func capabilities(handshake map[string]any) map[string]int {
	var found map[string]int
	for _, name := range capabilityNames() {
		if n, ok := handshake[name].(float64); ok && n >= 1 && n == float64(int(n)) {
			if found == nil {
				found = make(map[string]int)
			}
			found[name] = int(n)
		}
	}
	return found
}

// terminals remembers terminals by serial, connected or not. A terminal has a
// second id, which the back-end gave it and which dashboards know (contract
// C7); the two are told apart by what is known of them, never by their looks
// alone.
type terminals struct {
	mu      sync.Mutex // guards below
	byID    map[string]*terminalEntry
	serials map[string]string // id of the back-end → serial
	cuids   map[string]string // serial → id of the back-end
}

// loadTerminals reads the ids that are known to be one terminal's.
func loadTerminals(state State, log *slog.Logger) (*terminals, error) {
	t := &terminals{
		byID: make(map[string]*terminalEntry), serials: make(map[string]string), cuids: make(map[string]string),
	}
	entries, err := state.All(terminalsSpace)
	switch {
	case err != nil && entries == nil:
		return nil, fmt.Errorf("read terminals: %w", err)
	case err != nil:
		log.Error("some ids of terminals cannot be read", "err", err)
	}
	for cuid, serial := range entries {
		t.serials[cuid], t.cuids[string(serial)] = string(serial), cuid
	}
	return t, nil
}

// serial returns the one name under which a terminal is kept, whichever of its
// ids is given.
func (t *terminals) serial(id string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.serialLocked(id)
}

func (t *terminals) serialLocked(id string) string {
	id = auth.NormaliseTerminal(id)
	if serial := t.serials[id]; serial != "" {
		return serial
	}
	return id
}

// same reports whether two ids are one terminal's.
func (t *terminals) same(a, b string) bool { return t.serial(a) == t.serial(b) }

// cuidOf returns the back-end's id of a terminal, or the id given.
func (t *terminals) cuidOf(id string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if cuid := t.cuids[t.serialLocked(id)]; cuid != "" {
		return cuid
	}
	return id
}

// online returns the sessions of the terminals that are here.
func (t *terminals) online() []*session {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []*session
	for _, e := range t.byID {
		if sess := e.latest(); sess != nil {
			list = append(list, sess)
		}
	}
	return list
}

// session returns the latest session of a terminal, nil if it is not here.
func (t *terminals) session(id string) *session {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.byID[t.serialLocked(id)]; e != nil {
		return e.latest()
	}
	return nil
}

// learn notes two ids of one terminal and returns what is to be kept of it, nil if
// it is not new. What a terminal says of itself does not change what is known;
// what the cloud says does.
func (t *terminals) learn(cuid, serial string, sure bool) map[string][]byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	known := t.serials[cuid]
	switch {
	case cuid == serial || known == serial || !isCUID(cuid):
		return nil
	case !sure && (known != "" || t.cuids[serial] != "" || t.byID[cuid] != nil || len(t.serials) >= maxAliases):
		return nil
	}
	keep := make(map[string][]byte)
	if before, ok := t.cuids[serial]; ok {
		keep[before] = nil
	}
	delete(t.serials, t.cuids[serial])
	delete(t.cuids, known)
	t.serials[cuid], t.cuids[serial] = serial, cuid
	keep[cuid] = []byte(serial)
	return keep
}

// isCUID reports whether an id has the form of the back-end's.
func isCUID(id string) bool {
	return len(id) >= 20 && len(id) <= event.MaxKey && id[0] == 'c' &&
		strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789") == ""
}

// learn keeps two ids of one terminal for good.
func (s *Server) learn(cuid, serial string, sure bool) bool {
	cuid, serial = auth.NormaliseTerminal(cuid), auth.NormaliseTerminal(serial)
	if serial == "" || len(serial) > event.MaxKey {
		return false
	}
	keep := s.terminals.learn(cuid, serial, sure)
	if keep == nil {
		return false
	}
	if err := s.desk.state.Put(terminalsSpace, keep); err != nil {
		s.counters.saveErrors.Add(1) // learnt again when it is said again
	}
	return true
}

// speaksFor reports whether a sender may speak for a terminal (contract §11
// A11): it is that terminal, under either id. One that says its other id for
// the first time is believed if nobody else is known by it.
func (s *Server) speaksFor(terminal, id string) bool {
	if terminal == "" || id == "" {
		return false
	}
	return s.terminals.same(terminal, id) || s.learn(id, terminal, false)
}

type terminalEntry struct {
	seen      time.Time
	shown     time.Time // when its heartbeat was last passed on
	heartbeat time.Time
	score     *float64
	telemetry json.RawMessage // the last heartbeat
	sessions  []*session      // one for each of its sockets, the latest last
}

// latest returns the session of the newest socket, nil if there is none. A
// terminal that comes again before its old socket has ended has two for a while.
func (e *terminalEntry) latest() *session {
	if len(e.sessions) == 0 {
		return nil
	}
	return e.sessions[len(e.sessions)-1]
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
		if len(e.sessions) == 0 && (oldest == "" || e.seen.Before(t.byID[oldest].seen)) {
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
	e := t.entry(sess.terminal, time.Now())
	e.sessions = append(e.sessions, sess)
}

// disconnect forgets the socket.
func (t *terminals) disconnect(sess *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.byID[sess.terminal]
	if e == nil {
		return
	}
	if i := slices.Index(e.sessions, sess); i >= 0 {
		e.sessions = slices.Delete(e.sessions, i, i+1)
		if heard := sess.heard(); heard.After(e.seen) { // an end by silence is no sign of life
			e.seen = heard
		}
	}
}

// beat notes a heartbeat and reports whether it is to be passed on.
func (t *terminals) beat(o event.Object, now time.Time) bool {
	id := o.Ident("terminalId")
	var score *float64
	if n, err := strconv.ParseFloat(o.Ident("healthScore"), 64); err == nil && n >= 0 && n <= 100 {
		score = &n
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entry(t.serialLocked(id), now)
	e.heartbeat, e.telemetry = now, nil
	if len(o.Bytes()) <= maxTelemetry {
		e.telemetry = bytes.Clone(o.Bytes())
	}
	if score != nil {
		e.score = score
	}
	if !e.shown.IsZero() && now.Sub(e.shown) < heartbeatEvery {
		return false
	}
	e.shown = now
	return true
}

// missedFor is how long a terminal that did not come since the start of the box
// is known from before.
const missedFor = 7 * 24 * time.Hour

// Terminals returns the known terminals by id. A terminal is online while it
// has a socket. Of one that has not come since the start, nothing else is known
// than what waits. Safe for concurrent use.
func (s *Server) Terminals() []Terminal {
	t, before := s.terminals, s.positions.terminals(time.Now().Add(-missedFor))
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]Terminal, 0, len(t.byID))
	for id, e := range t.byID {
		term := Terminal{
			ID: id, LastHeartbeat: e.heartbeat, HealthScore: e.score, Telemetry: e.telemetry,
			LastSeen: e.seen.UTC(), Waiting: s.syncer.of(id),
		}
		if sess := e.latest(); sess != nil {
			term.Online, term.HasSocket = true, true
			term.User, term.Role = sess.grant.Subject, sess.grant.Role
			term.Address, term.ConnectedAt = sess.address, sess.connectedAt
			term.Capabilities = sess.capabilities
			if heard := sess.heard(); heard.After(term.LastSeen) {
				term.LastSeen = heard
			}
		}
		list = append(list, term)
	}
	for _, id := range before {
		if t.byID[t.serialLocked(id)] == nil {
			list = append(list, Terminal{ID: t.serialLocked(id), Waiting: s.syncer.of(id)})
		}
	}
	slices.SortFunc(list, func(a, b Terminal) int { return cmp.Compare(a.ID, b.ID) })
	return slices.CompactFunc(list, func(a, b Terminal) bool { return a.ID == b.ID })
}
