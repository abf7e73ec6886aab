package lan

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	enginepacket "github.com/zishang520/socket.io/parsers/engine/v3/packet"
	"github.com/zishang520/socket.io/servers/engine/v3"
	"github.com/zishang520/socket.io/servers/engine/v3/transports"

	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/lan/packet"
	"github.com/avoqado/avoqado-edge/internal/lan/wire"
)

// maxBacklog is how much may wait for one client to read it, in bytes: in its
// [wire.Transport], or in the library's queues, which have no bound of their
// own. Beyond half of it a client falls behind (see [fanout.retire]); what may
// still come to it then are answers and its share of the journal. One that goes
// beyond all of it is dropped: it reconnects and is given what it missed.
const maxBacklog = 1 << 20

// link is one transport connection: what the library does not keep about it.
//
// Of a [wire.Conn] it hears each event past the library, and when it is pinged
// and answers. Of any other it knows by the engine's events:
//
//	packetCreate ─► [ queued: write buffer ] ─ flush ─► [ writing ] ─ drain ─► the wire
//	     │                                                               │
//	     └── a PING notes what was shown before it ── a PONG proves it ◄─┘
type link struct {
	server  *Server
	conn    engine.Socket
	wired   *wire.Conn           // conn, if it is one; else nil
	tcp     atomic.Pointer[conn] // below a WebSocket of the library's transport; else nil
	request requestTokens
	gate    packet.Gate  // of events that come past the library
	busy    atomic.Bool  // has a session, or one is being made
	ponged  atomic.Int64 // Unix nanoseconds of the last answered ping
	silent  atomic.Int64 // since when it has none, Unix milliseconds

	session atomic.Pointer[session] // once connected

	mu      sync.Mutex // guards below
	queued  int        // bytes created and not written
	writing int        // of them, bytes with the transport
	slow    bool       // was found beyond maxBacklog
	crowded bool       // was found beyond half of it
	suspect bool       // had a closed transport at the last sweep
	pinged  bool
	noted   event.Seq // what was shown when the last ping was made
	closed  bool
	counted bool // among the transports of its address without a session
}

// pongDelay is for how long a pong is kept back. The engine begins to wait for it
// only after it sent the ping: one that is faster than that ends nothing, and the
// client is taken for dead. (In [wire] it is the ping that leaves later.)
const pongDelay = 10 * time.Millisecond

// linkOf returns the link of a connection, made on first sight.
func (s *Server) linkOf(conn engine.Socket) *link {
	if l, ok := s.links.Load(conn.Id()); ok {
		return l.(*link)
	}
	l := &link{server: s, conn: conn}
	request := conn.Request().Request()
	if c, ok := conn.(*wire.Conn); ok {
		l.wired, request = c, c.Opening()
	} else if c, ok := connOf(request.Context()); ok && websocket.IsWebSocketUpgrade(request) {
		l.tcp.Store(c)
	}
	if request != nil { // else it is closed already
		l.request = tokensIn(request)
	}
	l.silent.Store(time.Now().UnixMilli())
	within := l.lonely(true) // before anybody else can give it a session
	if other, loaded := s.links.LoadOrStore(conn.Id(), l); loaded {
		l.lonely(false)
		return other.(*link)
	}
	l.watch()
	if !within {
		l.crowdOut()
	}
	return l
}

func (l *link) watch() {
	guard := func(f func(args []any)) func(...any) {
		return func(args ...any) { l.server.guard("transport", func() { f(args) }) }
	}
	if l.wired != nil {
		l.wired.Listen(l)
	} else {
		l.watchEngine(guard)
	}
	_ = l.conn.On("close", guard(func(args []any) {
		if err, ok := args[len(args)-1].(error); ok && errors.Is(err, websocket.ErrReadLimit) {
			l.server.counters.refuse(reasonTooLarge)
		}
		l.close()
	}))
	if l.conn.ReadyState() == "closed" { // before anybody listened
		l.close()
	}
}

func (l *link) watchEngine(guard func(f func(args []any)) func(...any)) {
	drained := guard(func([]any) { l.drained() })
	_ = l.conn.On("packetCreate", guard(l.created))
	_ = l.conn.On("flush", guard(l.flushed))
	_ = l.conn.Transport().On("drain", drained)
	_ = l.conn.On("upgrade", guard(func(args []any) {
		if t, ok := args[0].(transports.Transport); ok {
			_ = t.On("drain", drained)
		}
	}))
	_ = l.conn.On("heartbeat", guard(func([]any) { l.Ponged() }))
}

// Message implements [wire.Listener]: an event of a client that is in is served
// here, on the connection's own reader, instead of by the library, which would
// start a goroutine for it. Everything else is the library's.
func (l *link) Message(text []byte) (taken bool) {
	sess := l.session.Load()
	if sess == nil {
		return false
	}
	in, ok, err := l.server.parser.Read(text, &l.gate, sess.closed)
	switch {
	case !ok:
		return false
	case err != nil:
		l.drop()
	case sess.awaitSettled():
		sess.received(in.Name, in.Event, in.Ack, nil)
	default:
		in.Event.Release()
	}
	return true
}

// Pinging implements [wire.Listener]: all that the session was shown so far
// stands before this ping.
func (l *link) Pinging() {
	sess := l.session.Load()
	if sess == nil {
		return
	}
	shown := sess.shown()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.noted, l.pinged = shown, true
}

func size(p *enginepacket.Packet) int {
	if b, ok := p.Data.(interface{ Len() int }); ok {
		return b.Len()
	}
	return 0
}

// created runs for each packet before it enters the write buffer.
func (l *link) created(args []any) {
	p, ok := args[0].(*enginepacket.Packet)
	if !ok {
		return
	}
	if p.Type == enginepacket.PING {
		l.Pinging()
		if c := l.tcp.Load(); c != nil {
			time.AfterFunc(pongDelay, c.hold())
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.Type == enginepacket.MESSAGE {
		l.server.counters.sent.Add(1)
	}
	l.queued += size(p)
	switch {
	case l.queued > maxBacklog && !l.slow:
		l.slow = true
		l.server.tooSlow(reasonSlow, l.conn.RemoteAddress())
		l.server.jobs.add(l.drop)
	case l.queued > maxBacklog/2 && !l.crowded:
		l.crowded = true
		l.server.fan.crowded()
	}
}

// tooSlow counts and logs a client that is dropped for what waits for it.
func (s *Server) tooSlow(reason, address string) {
	s.counters.refuse(reason)
	s.jobs.add(func() {
		s.log.Warn("client reads too slowly, dropped", "reason", reason, "address", hostOf(address))
	})
}

func (l *link) flushed(args []any) {
	batch, ok := args[0].([]*enginepacket.Packet)
	if !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range batch {
		l.writing += size(p)
	}
}

// drained runs when the transport has written a batch; there is never more
// than one with it.
func (l *link) drained() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queued -= min(l.writing, l.queued)
	l.writing = 0
	l.crowded = l.queued > maxBacklog/2
}

// Ponged implements [wire.Listener]: the client has what stood before the ping.
func (l *link) Ponged() {
	l.ponged.Store(time.Now().UnixNano())
	l.mu.Lock()
	proven, through := l.pinged, l.noted
	l.pinged = false
	l.mu.Unlock()
	if sess := l.session.Load(); proven && sess != nil {
		l.server.positions.prove(sess.recipient(), through)
		sess.rec.Prove(through)
	}
}

// idle reports whether nothing waits to be written.
func (l *link) idle() bool { return l.waiting() == 0 }

// waiting returns how many bytes wait to be written: in the library's queues
// and, with the fast transport, behind what the kernel takes.
func (l *link) waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return 0
	}
	if l.wired != nil {
		return l.wired.Backlog()
	}
	n := l.queued
	if t, ok := l.conn.Transport().(*wire.Transport); ok {
		n += t.Backlog()
	}
	return n
}

func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.countLonely(false)
	l.server.links.Delete(l.conn.Id())
}

// dead reports whether the connection is over, though the library may not know:
// a peer that vanishes while its connection is made leaves one that is open on
// a closed transport. Twice in a row, since an upgrade shows the same for a
// moment.
func (l *link) dead() bool {
	if l.conn.ReadyState() == "closed" {
		return true
	}
	over := l.wired == nil && l.conn.Transport().ReadyState() == "closed"
	l.mu.Lock()
	defer l.mu.Unlock()
	twice := over && l.suspect
	l.suspect = over
	return twice
}

// drop closes the transport at once and without a DISCONNECT packet, so that
// the client reconnects by itself.
func (l *link) drop() { l.conn.Close(true) }
