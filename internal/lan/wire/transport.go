package wire

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/zishang520/socket.io/parsers/engine/v3/packet"
	"github.com/zishang520/socket.io/servers/engine/v3/transports"
	"github.com/zishang520/socket.io/v3/pkg/types"
)

// Transport is one WebSocket connection, as the library's engine uses it. It is
// always writable: what is sent leaves for the kernel at once or waits in its
// own bounded queue, never in the engine's.
type Transport struct {
	transports.Transport // the library's base: state, events, sid

	hub    *Hub
	conn   net.Conn // nil: it could not be taken over
	decode decoder  // owned by read
	out    outbox

	settled atomic.Bool // nothing waits in the engine's queue: see [Adapter]
	end     sync.Once
}

// newTransport takes the connection of a WebSocket request over from the
// library, which has answered the handshake. It does not read before begin.
func newTransport(h *Hub, ctx *types.HttpContext) *Transport {
	t := &Transport{Transport: transports.MakeTransport(), hub: h}
	t.Prototype(t)
	t.Transport.Construct(ctx)
	t.SetWritable(true)
	t.out = outbox{hub: h, behind: func() { h.cfg.OnBacklog(t) }, drop: t.drop}
	t.out.attempt = t.out.try
	if up, ok := ctx.Request().Context().Value(upgradeKey{}).(*upgrade); ok {
		t.take(ctx)
		up.transport = t
	}
	if t.conn == nil {
		t.out.closed = true
	}
	return t
}

// take takes the connection from gorilla's, whose buffers hold nothing: a client
// that sends before it is answered is refused.
func (t *Transport) take(ctx *types.HttpContext) {
	conn := ctx.Websocket.NetConn()
	ctx.Websocket = nil
	sys, ok := conn.(syscall.Conn)
	if !ok {
		_ = conn.Close()
		return
	}
	raw, err := sys.SyscallConn()
	if err != nil {
		_ = conn.Close()
		return
	}
	_ = conn.SetDeadline(time.Time{}) // one of the handshake's; an error shows when reading
	t.conn = conn
	t.out.conn, t.out.raw = conn, raw
	t.decode = decoder{source: newSource(raw, &t.hub.readBuffers), max: t.hub.cfg.MaxPayload}
}

// Name implements [transports.Transport].
func (t *Transport) Name() string { return transports.WEBSOCKET }

// HandlesUpgrades implements [transports.Transport].
func (t *Transport) HandlesUpgrades() bool { return true }

// Backlog returns how many bytes wait because the client does not read.
func (t *Transport) Backlog() int { return t.out.waiting() }

// RemoteAddr returns the address of the client, or nil.
func (t *Transport) RemoteAddr() net.Addr {
	if t.conn == nil {
		return nil
	}
	return t.conn.RemoteAddr()
}

// begin starts to read.
func (t *Transport) begin() {
	if t.conn != nil && t.hub.start(t.read) {
		return
	}
	t.finish()
}

// read serves the client and ends the connection after it, also if what was
// called for it panicked.
func (t *Transport) read() {
	over := true
	t.hub.cfg.Guard(func() { over = t.serve() })
	if over {
		t.hub.cfg.Guard(t.finish)
	}
}

// serve hands over what the client sends until the connection is over; false: a
// new reader goes on.
//
// A client that has nothing to say but its pong is idle, and its reader gives
// way to a new one: what it read has made its stack grow, and none shrinks below
// 4 KiB again.
func (t *Transport) serve() (over bool) {
	control := func(op byte, payload []byte) {
		if op == opPing {
			t.out.send(appendFrame(nil, opPong, payload))
		}
	}
	for {
		op, message, err := t.decode.next(control)
		if err != nil {
			t.farewell(err)
			return true
		}
		idle := string(message) == pong && len(t.decode.source.bytes()) == 0
		if op == opBinary {
			t.OnData(types.NewBytesBuffer(message))
		} else {
			t.OnData(types.NewStringBuffer(message))
		}
		if idle && t.hub.start(t.read) {
			return false
		}
	}
}

// pong is the Engine.IO packet of an idle client.
const pong = "3"

// farewell tells the client why its connection ends, if that is a question of
// the protocol.
func (t *Transport) farewell(err error) {
	var status closeError
	switch {
	case errors.As(err, &status):
		if status == statusTooLarge {
			t.hub.large.Add(1)
		}
		t.out.send(closeFrame(uint16(status)))
	case errors.Is(err, errClosing):
		t.out.send(closeFrame(statusNormal))
	}
}

// finish ends the connection and tells the engine. Only reading ends in it, so
// that no lock of the engine's is held.
func (t *Transport) finish() {
	t.end.Do(func() {
		if t.conn != nil {
			t.out.close()
		}
		t.OnClose()
	})
}

func (t *Transport) drop(why Reason) {
	t.hub.dropped.Add(1)
	t.hub.cfg.OnDrop(t, why)
}

// pingDelay is by how much a ping leaves later than it was made. The engine
// begins to wait for the pong only after it sent the ping: a pong that is faster
// than that ends nothing, and the client is taken for dead.
const pingDelay = 10 * time.Millisecond

// Send implements [transports.Transport]. The engine calls it with the packets
// in order, one call at a time.
func (t *Transport) Send(packets []*packet.Packet) {
	frames := make([][]byte, 0, len(packets))
	for _, p := range packets {
		frame, err := t.encode(p)
		if err != nil {
			continue // the library makes no such packet
		}
		if p.Type == packet.PING {
			time.AfterFunc(pingDelay, func() { t.out.send(frame) })
			continue
		}
		frames = append(frames, frame)
	}
	t.out.send(frames...)
	t.Emit("drain") // the engine keeps something until it hears this
}

// encode returns the frame of a packet.
func (t *Transport) encode(p *packet.Packet) ([]byte, error) {
	if text, ok := p.Data.(*types.StringBuffer); ok && p.Type == packet.MESSAGE {
		return appendFrame(make([]byte, 0, text.Len()+8), opText, messageType, text.Bytes()), nil
	}
	data, err := t.Parser().EncodePacket(p, true)
	if err != nil {
		return nil, err
	}
	op := byte(opText)
	if _, ok := data.(*types.BytesBuffer); ok {
		op = opBinary
	}
	b, err := io.ReadAll(data)
	if err != nil {
		return nil, err
	}
	return appendFrame(nil, op, b), nil
}

// messageType is the Engine.IO type of a message.
var messageType = []byte("4")

// DoClose implements [transports.Transport]: what waits is written as far as the
// kernel takes it and the connection is closed, without a close frame: the
// client shall not take it for anything but a lost connection (contract §7.2).
func (t *Transport) DoClose(done types.Callable) {
	if t.conn != nil {
		t.out.close()
	}
	if done != nil {
		done()
	}
}
