package wire

import (
	"encoding/json"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/zishang520/socket.io/parsers/engine/v3/packet"
	"github.com/zishang520/socket.io/servers/engine/v3"
	"github.com/zishang520/socket.io/servers/engine/v3/transports"
	"github.com/zishang520/socket.io/v3/pkg/types"
)

// Conn is the Engine.IO session of a client that began with a WebSocket, in
// place of the library's engine.Socket, with which it has nothing in common but
// the interface: no buffer in front of its outbox, no goroutine and no tables of
// its own, one timer. Its own methods may be called concurrently.
//
//	client ─► 3 pong ──────────────────────────► Listener.Ponged
//	          4 message ─► Listener.Message ──no─► "data", the library's
//	          0 open, 1 close, 5 upgrade, 6 noop ► nothing, as ever
//	          2 ping, anything else ───────────► the end
type Conn struct {
	emitter // "data" and "close", with the arguments of the library
	stream

	front  *Front
	id     string
	remote string

	mu       sync.Mutex // guards below
	request  *http.Request
	listener Listener // never nil
	timer    *time.Timer
	waiting  bool // for a pong
	closed   bool
}

var _ engine.Socket = (*Conn)(nil)

// Listener hears of one connection what the library is not asked. Its methods
// are called on the connection's reader, but for Pinging, and must not block for
// long.
type Listener interface {
	// Message takes an Engine.IO message of text, which it may keep; false: it is
	// the library's.
	Message(text []byte) (taken bool)
	// Pinging is called before a ping is made: all that was sent until now
	// stands before it. Ponged is called when it was answered.
	Pinging()
	Ponged()
}

// deaf is the listener of a connection that nobody listens to.
type deaf struct{}

// Message implements [Listener].
func (deaf) Message([]byte) bool { return false }

// Pinging implements [Listener].
func (deaf) Pinging() {}

// Ponged implements [Listener].
func (deaf) Ponged() {}

// Why a connection ended, in the words of the library.
const (
	endTransport   = "transport close"
	endForced      = "forced close"
	endPingTimeout = "ping timeout"
	endMalformed   = "parse error"
	endHeartbeat   = "transport error" // a ping, which clients do not send
)

// open answers the handshake, has the library take the connection in, and reads.
func (c *Conn) open() {
	opts := c.front.engine.Opts()
	handshake, _ := json.Marshal(struct { // always encodes
		Sid          string   `json:"sid"`
		Upgrades     []string `json:"upgrades"`
		PingInterval int64    `json:"pingInterval"`
		PingTimeout  int64    `json:"pingTimeout"`
		MaxPayload   int64    `json:"maxPayload"`
	}{c.id, []string{}, opts.PingInterval().Milliseconds(), opts.PingTimeout().Milliseconds(), opts.MaxHttpBufferSize()})
	c.out.send(appendFrame(nil, opText, []byte("0"), handshake))
	c.mu.Lock()
	c.timer = time.AfterFunc(opts.PingInterval(), c.beat)
	c.mu.Unlock()
	c.front.engine.Clients().Store(c.id, c)
	c.front.engine.Emit("connection", c)
	c.begin()
}

// Listen has l hear of the connection, from the next message on.
func (c *Conn) Listen(l Listener) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.listener = l
}

// hears returns who hears of the connection, and whether it is still open.
func (c *Conn) hears() (l Listener, open bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.listener, !c.closed
}

// Opening returns the request that began the connection, nil after
// [Conn.LetGo].
func (c *Conn) Opening() *http.Request {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.request
}

// LetGo forgets the request that began the connection.
func (c *Conn) LetGo() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.request = nil
}

// SendText sends an Engine.IO message of text, given in parts: it leaves now or
// waits in the connection's queue, behind what was sent before it.
func (c *Conn) SendText(parts ...[]byte) {
	c.hub.frames.Add(1)
	c.out.send(messageFrame(parts...))
}

// beat sends a ping, or ends the connection if the last one was not answered.
func (c *Conn) beat() {
	opts := c.front.engine.Opts()
	c.mu.Lock()
	dead := c.waiting
	if c.closed {
		c.mu.Unlock()
		return
	}
	if !dead {
		c.waiting = true
		c.timer.Reset(opts.PingTimeout())
	}
	c.mu.Unlock()
	if dead {
		c.over(endPingTimeout)
		return
	}
	l, _ := c.hears()
	c.hub.cfg.Guard(l.Pinging)
	c.out.send(appendFrame(nil, opText, []byte("2")))
}

// ponged takes the answer to a ping; one that nobody asked for means nothing.
func (c *Conn) ponged() {
	c.mu.Lock()
	asked := c.waiting && !c.closed
	c.waiting = false
	if asked {
		c.timer.Reset(c.front.engine.Opts().PingInterval())
	}
	l := c.listener
	c.mu.Unlock()
	if asked {
		l.Ponged()
	}
}

// message takes one Engine.IO packet.
func (c *Conn) message(op byte, data []byte) (idle bool) {
	l, open := c.hears()
	switch {
	case !open: // the rest of what was read with what ended it
	case op == opBinary:
		c.Emit("data", types.NewBytesBuffer(data))
	case string(data) == pong:
		c.ponged()
		return true
	case len(data) > 0 && data[0] == messageType[0]:
		if !l.Message(data[1:]) {
			c.Emit("data", types.NewStringBuffer(data[1:]))
		}
	case len(data) == 0 || data[0] < '0' || data[0] > '6':
		c.over(endMalformed)
	case data[0] == '2':
		c.over(endHeartbeat)
	}
	return false
}

// ended runs when nothing more comes.
func (c *Conn) ended() { c.over(endTransport) }

// over ends the connection once, without a close frame: what waits is written as
// far as the kernel takes it, and the library is told why.
func (c *Conn) over(why string) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.closed, c.request, c.listener = true, nil, deaf{}
	c.timer.Stop()
	c.mu.Unlock()
	c.front.engine.Clients().Delete(c.id)
	c.out.close()
	c.hub.cfg.Guard(func() { c.Emit("close", why, nil) })
}

// The rest is what the library asks of an engine's socket.

// Id implements [engine.Socket].
func (c *Conn) Id() string { return c.id } //nolint:revive,staticcheck // the name is the library's

// Protocol implements [engine.Socket].
func (c *Conn) Protocol() int { return 4 }

// RemoteAddress implements [engine.Socket].
func (c *Conn) RemoteAddress() string { return c.remote }

// Request implements [engine.Socket]. It is empty and shared: the library keeps
// copies of what it finds in it.
func (c *Conn) Request() *types.HttpContext { return c.front.nothing }

// Transport implements [engine.Socket]. It is shared, and says no more than that
// it is a WebSocket.
func (c *Conn) Transport() transports.Transport { return c.front.transport }

// ReadyState implements [engine.Socket].
func (c *Conn) ReadyState() string {
	if _, open := c.hears(); !open {
		return "closed"
	}
	return "open"
}

// Send implements [engine.Socket]: it sends a message.
func (c *Conn) Send(data io.Reader, _ *packet.Options, done engine.SendCallback) engine.Socket {
	switch data := data.(type) {
	case *types.StringBuffer:
		c.SendText(data.Bytes())
	case *types.BytesBuffer:
		c.hub.frames.Add(1)
		c.out.send(appendFrame(nil, opBinary, data.Bytes()))
	}
	if done != nil {
		done(c.Transport())
	}
	return c
}

// Write implements [engine.Socket], as Send does.
func (c *Conn) Write(data io.Reader, options *packet.Options, done engine.SendCallback) engine.Socket {
	return c.Send(data, options, done)
}

// Close implements [engine.Socket].
func (c *Conn) Close(bool) { c.over(endForced) }

// Upgraded implements [engine.Socket]: there is nothing to upgrade to.
func (c *Conn) Upgraded() bool { return true }

// Upgrading implements [engine.Socket].
func (c *Conn) Upgrading() bool { return false }

// MaybeUpgrade implements [engine.Socket]: it does not.
func (c *Conn) MaybeUpgrade(t transports.Transport) { t.Close() }

// SetReadyState implements [engine.Socket]: nobody sets it.
func (c *Conn) SetReadyState(string) {}

// Construct implements [engine.Socket]: it is made by its [Front].
func (c *Conn) Construct(string, engine.BaseServer, transports.Transport, *types.HttpContext, int) {}
