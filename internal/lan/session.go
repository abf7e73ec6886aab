package lan

import (
	"encoding/json"
	"maps"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zishang520/socket.io/servers/socket/v3"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/lan/packet"
	"github.com/avoqado/avoqado-edge/internal/lan/recovery"
)

// session is one connected Socket.IO socket. Its events come one at a time, on
// the socket's own queue; its answers leave in the order of its events.
//
//	event ─► begin ─► [ calls, oldest first ] ─► finish(in any order) ─► drain ─► ack
type session struct {
	server *Server
	io     *socket.Socket
	link   *link

	sid           string
	grant         auth.Grant
	token         string // kept to check it again; never logged
	verdict       int64  // of Server.verdicts, before the token was checked
	terminal      string // normalised serial, of the token or as the client says; may be empty
	address       string
	correlationID string // of the socket, in all its acks
	connectedAt   time.Time
	capabilities  map[string]int // as its terminal said

	self      string            // public name over all connections: of its first socket
	rec       *recovery.Session // what is kept of it
	relays    uint64            // fanout.relays when it came
	recovered bool              // it was given back what it had
	unwhole   json.RawMessage   // why not, if it asked for it
	release   func() bool       // gives up rec; set once connected

	started  chan struct{}            // closed when the library has entered it
	behind   atomic.Pointer[follower] // nil: the fan-out shows it everything
	settled  chan struct{}            // closed when its events may be served
	settling sync.Once
	joined   atomic.Int64 // when it last joined a room, Unix milliseconds

	active  atomic.Int64  // when the last event came, Unix milliseconds
	ended   atomic.Bool   // the grant is no longer good; the transport is closing
	evicted atomic.Bool   // its terminal has newer sockets; the transport is closing
	closed  chan struct{} // closed when the socket is gone
	leave   sync.Once

	// Owned by the socket's queue.
	events  spent
	limited time.Time // when an event was last one too many

	mu       sync.Mutex // guards below
	admitted bool       // is in its rooms
	gone     bool
	places   map[place]struct{}
	calls    []*call
	draining bool // a drain job is queued or runs
}

func newSession(s *Server, io *socket.Socket, l *link, g auth.Grant, token, terminal string) *session {
	return &session{
		server: s, io: io, link: l,
		sid: string(io.Id()), self: string(io.Id()), grant: g, token: token, terminal: terminal,
		address:       hostOf(io.Conn().RemoteAddress()),
		correlationID: event.NewCorrelationID(),
		connectedAt:   time.Now().UTC(),
		closed:        make(chan struct{}),
		started:       make(chan struct{}),
		settled:       make(chan struct{}),
		places:        make(map[place]struct{}),
	}
}

// recipient names who the session's reader is across connections: the
// terminal, else the member of staff.
func (sess *session) recipient() string {
	if sess.terminal != "" {
		return terminalKey(sess.terminal)
	}
	return "user/" + sess.grant.Subject
}

// connected takes a new socket in. It runs on the socket's queue, so the
// client's first event waits until the session is in its rooms.
func (s *Server) connected(io *socket.Socket) {
	sess, ok := io.Data().(*session)
	if !ok {
		s.linkOf(io.Conn()).drop()
		return
	}
	// First in, then listen: the socket may be closing at this moment, and who
	// is forgotten before being remembered stays for ever.
	s.mu.Lock()
	s.sessions[sess.sid] = sess
	s.mu.Unlock()
	if sess.verdict != s.verdicts.Load() && !s.allowed(sess) {
		s.end(sess) // it was not here yet when the others were verified again
	}
	s.terminals.connect(sess)
	release, took := sess.rec.Hold(func() { s.jobs.add(sess.link.drop) })
	sess.release = release
	sess.link.session.Store(sess)

	// The library may report a disconnect twice.
	_ = io.On("disconnect", func(args ...any) {
		s.guard("disconnect", func() { sess.leave.Do(func() { s.disconnected(sess, args) }) })
	})
	if sess.link.wired == nil {
		io.OnAny(func(args ...any) { s.guard("event", func() { sess.emitted(args) }) })
	}
	close(sess.started)
	s.counters.connections.Add(1)
	s.makeRoom(sess)
	s.log.Info("client connected", "sid", sess.sid, "user", sess.grant.Subject,
		"role", sess.grant.Role, "terminal", sess.terminal, "address", sess.address)

	sess.emit("authentication_success", object(append([]event.Member{
		event.Text("correlationId", sess.correlationID),
		{Key: "success", Value: []byte("true")},
		{Key: "authContext", Value: object(
			event.Text("userId", sess.grant.Subject),
			event.Text("venueId", sess.grant.Venue),
			event.Text("role", string(sess.grant.Role)),
			event.Text("orgId", sess.grant.Org),
		)},
		event.Text("connectedAt", event.FormatTime(sess.connectedAt)),
	}, leaseMember(sess.grant)...)...))
	s.syncer.came()
	if sess.unwhole != nil {
		sess.emit(syncRequired, sess.unwhole)
	}
	if io.Connected() && !s.follow(sess) {
		s.counters.refuse(reasonAdmission)
		sess.link.drop()
	}
	if sess.recovered && !took { // its rooms were told that it left
		for p := range sess.joinedPlaces() {
			s.announce(sess, p, "joined")
		}
	}
	s.desk.wake()        // something may wait for this terminal
	if !io.Connected() { // perhaps before anybody listened
		sess.leave.Do(func() { s.disconnected(sess, nil) })
	}
}

// disconnected forgets a socket and tells the tables and orders it was in.
func (s *Server) disconnected(sess *session, reason []any) {
	close(sess.closed)
	handedOver := !sess.release()

	s.mu.Lock()
	delete(s.sessions, sess.sid)
	s.mu.Unlock()
	s.terminals.disconnect(sess)

	sess.mu.Lock()
	sess.gone = true
	if sess.admitted {
		s.fan.absent(sess.grant.Role)
	}
	fol := sess.behind.Load()
	fell := fol != nil && fol.fell
	places := sess.places
	sess.places = make(map[place]struct{})
	sess.link.session.CompareAndSwap(sess, nil)
	sess.mu.Unlock()
	sess.link.vacate()
	if len(places) > 0 && !handedOver {
		s.jobs.add(func() {
			for p := range places {
				s.announce(sess, p, "left")
			}
		})
	}
	why := "closed before it was let in"
	if len(reason) > 0 {
		why, _ = reason[0].(string)
	}
	if fell {
		s.counters.behind.Add(-1)
	}
	if fol != nil && why == "ping timeout" { // the library was the first to notice
		s.counters.refuse(reasonStalled)
	}
	s.log.Info("client disconnected", "sid", sess.sid, "user", sess.grant.Subject, "reason", why)
}

// follow lets a session in and waits until its events may be served; false: it
// did not get in, which may take twice as long as it had for coming.
func (s *Server) follow(sess *session) bool {
	timeout := time.NewTimer(2 * s.cfg.ConnectTimeout)
	defer timeout.Stop()
	s.followers.add(sess.behind.Load())
	select {
	case <-sess.settled:
	case <-sess.closed:
	case <-timeout.C:
		return false
	}
	return true
}

// awaitSettled waits until the session's events may be served; false: it is gone
// or was not let in. It runs on the client's reader.
func (sess *session) awaitSettled() bool {
	select {
	case <-sess.settled:
		return true
	default:
	}
	select {
	case <-sess.settled:
		return true
	case <-sess.closed:
		return false
	}
}

// joinedPlaces returns a copy of the tables and orders it is in.
func (sess *session) joinedPlaces() map[place]struct{} {
	sess.mu.Lock()
	defer sess.mu.Unlock()
	return maps.Clone(sess.places)
}

// emit sends one event to this socket alone, with what else belongs to it behind
// its payload.
func (sess *session) emit(name string, args ...json.RawMessage) {
	if sess.link.wired == nil {
		list := make([]any, len(args))
		for i, arg := range args {
			list[i] = arg
		}
		_ = sess.io.Emit(name, list...)
		return
	}
	size := len(name) + 8
	for _, arg := range args {
		if !json.Valid(arg) { // on disk; JavaScript clients throw an uncaught error at it
			sess.server.counters.writeErrors.Add(1)
			return
		}
		size += len(arg) + 1
	}
	sess.link.wired.SendText(packet.AppendEvent(make([]byte, 0, size), name, args))
}

// call is one event of a client, from its arrival to its answer.
type call struct {
	sess  *session
	frame *packet.Event

	// Where the client waits for an answer, if it does: under an id, or as the
	// library says.
	id  []byte
	ack socket.Ack

	// Guarded by sess.mu.
	serving bool // the goroutine that took it will see to its answer
	done    bool
	emit    func()
}

// answer sends the acknowledgement, if one is wanted.
func (c *call) answer(body json.RawMessage) {
	switch {
	case c.ack != nil:
		c.ack([]any{body}, nil)
	case len(c.id) > 0:
		c.sess.link.wired.SendText(packet.AppendAck(make([]byte, 0, len(c.id)+len(body)+3), c.id, body))
	}
}

func (sess *session) begin(c *call) {
	sess.server.inflight.Add(1)
	sess.mu.Lock()
	defer sess.mu.Unlock()
	sess.calls = append(sess.calls, c)
}

// finish ends a call: emit runs once all earlier calls of the session have been
// answered, on the goroutine that serves the call if that is still with it, else
// on that of jobs. Only the first finish counts. It never blocks and may be
// called on any goroutine.
func (sess *session) finish(c *call, emit func()) {
	sess.mu.Lock()
	if c.done {
		sess.mu.Unlock()
		return
	}
	c.done, c.emit = true, emit
	start := !c.serving && sess.mayDrain()
	sess.mu.Unlock()
	if start {
		sess.server.jobs.add(sess.drain)
	}
}

// mayDrain reports whether there is an answer to give and nobody gives any;
// whoever asked then has to. sess.mu is held.
func (sess *session) mayDrain() bool {
	if sess.draining || len(sess.calls) == 0 || !sess.calls[0].done {
		return false
	}
	sess.draining = true
	return true
}

// served ends the time in which the goroutine that took a call is with it: what
// was decided in it is answered by that goroutine, without another one.
func (sess *session) served(c *call) {
	sess.mu.Lock()
	c.serving = false
	start := sess.mayDrain()
	sess.mu.Unlock()
	if start {
		sess.drain()
	}
}

func (sess *session) drain() {
	for {
		sess.mu.Lock()
		if len(sess.calls) == 0 || !sess.calls[0].done {
			sess.draining = false
			sess.mu.Unlock()
			return
		}
		c := sess.calls[0]
		sess.calls[0] = nil
		sess.calls = sess.calls[1:]
		sess.mu.Unlock()

		sess.server.guard("answer", c.emit)
		c.frame.Release()
		sess.server.inflight.Add(-1)
	}
}

// refuse answers a room or business request with a failure, in the ack and as
// an error event (contract §11 B11).
func (sess *session) refuse(c *call, r *event.Refusal) {
	sess.server.counters.reject(r.Code)
	body := failure(sess.correlationID, r)
	sess.finish(c, func() {
		c.answer(body)
		sess.emit("error", body)
	})
}

// emitted takes one event that came by the library.
func (sess *session) emitted(args []any) {
	if len(args) < 2 {
		return
	}
	name, _ := args[0].(string)
	f, ok := args[1].(*packet.Event)
	if !ok {
		return
	}
	var ack socket.Ack
	if len(args) > 2 {
		ack, _ = args[2].(socket.Ack)
	}
	sess.received(name, f, nil, ack)
}

// heard is when the client last gave a sign of life: it came, sent an event, or
// answered a ping.
func (sess *session) heard() time.Time {
	last := max(sess.connectedAt.UnixNano(), sess.link.ponged.Load(), sess.active.Load()*int64(time.Millisecond))
	return time.Unix(0, last).UTC()
}

// received takes one event of the client, with how to answer it. Names nobody
// serves are dropped without an answer, as the existing system drops them.
func (sess *session) received(name string, f *packet.Event, id []byte, ack socket.Ack) {
	s := sess.server
	serve := sess.handler(name)
	if serve == nil || s.closing.Load() || !sess.io.Connected() {
		if serve == nil {
			s.counters.unknown.Add(1)
		}
		f.Release()
		return
	}
	c := &call{sess: sess, frame: f, id: id, ack: ack, serving: true}
	sess.active.Store(time.Now().UnixMilli())
	sess.begin(c)
	defer sess.served(c)
	if refusal := sess.limit(name); refusal != nil {
		sess.refuse(c, refusal)
		return
	}
	if f.TooLong {
		sess.refuse(c, tooLarge())
		return
	}
	var payload json.RawMessage
	if len(f.Args) > 0 {
		payload = f.Args[0]
	}
	if !s.guard(name, func() { serve(c, payload) }) {
		sess.refuse(c, event.Refuse(http.StatusInternalServerError, "internal", "Internal error"))
	}
}

// handler returns what serves an event name, or nil: the catalogue says which
// names clients may send, and how each is served.
func (sess *session) handler(name string) func(*call, json.RawMessage) {
	row, ok := event.Lookup(event.Kind(name))
	if !ok || !row.FromClients() {
		return nil
	}
	if row.Alias != "" {
		fill, serve := row.Fill, sess.handler(string(row.Alias))
		return func(c *call, p json.RawMessage) {
			if o, err := event.ParseObject(p); err == nil {
				p = o.With(fill...)
			}
			serve(c, p)
		}
	}
	switch {
	case row.Kind == event.JoinRoom:
		return sess.joinRoom
	case row.Kind == event.LeaveRoom:
		return sess.leaveRoom
	case row.Kind == event.Authenticate:
		return sess.authenticated
	case row.Volatile:
		return func(c *call, p json.RawMessage) { sess.volatile(c, row, p) }
	}
	return func(c *call, p json.RawMessage) { sess.business(c, row, p) }
}

// authenticated answers the authenticate event: every session is, by its
// handshake (contract §1.12).
func (sess *session) authenticated(c *call, _ json.RawMessage) {
	body := object(append([]event.Member{
		event.Text("correlationId", sess.correlationID),
		{Key: "success", Value: []byte("true")},
		event.Text("message", "Already authenticated"),
		{Key: "authContext", Value: object(
			event.Text("userId", sess.grant.Subject),
			event.Text("orgId", sess.grant.Org),
			event.Text("venueId", sess.grant.Venue),
			event.Text("role", string(sess.grant.Role)),
			event.Text("socketId", sess.sid),
			event.Text("connectedAt", event.FormatTime(sess.connectedAt)),
			event.Text("lastActivity", event.FormatTime(time.UnixMilli(sess.active.Load()))),
		)},
	}, leaseMember(sess.grant)...)...)
	sess.finish(c, func() {
		c.answer(body)
		sess.emit("authentication_success", body)
	})
}
