package wire

import (
	"io"
	"sync/atomic"
	"time"

	"github.com/zishang520/socket.io/parsers/engine/v3/packet"
	"github.com/zishang520/socket.io/servers/engine/v3/transports"
	"github.com/zishang520/socket.io/v3/pkg/types"
)

// Transport is the WebSocket connection of a client that began with polling, as
// the library's engine uses it; one that began with a WebSocket is a [Conn]. It
// is always writable: nothing waits in the engine's queue.
type Transport struct {
	transports.Transport // the library's base: state, events, sid
	stream

	settled atomic.Bool // nothing waits in the engine's queue, see [adapter]
}

// newTransport takes the connection of a WebSocket request over from the
// library, which has answered the handshake. It does not read before begin.
func newTransport(h *Hub, ctx *types.HttpContext) *Transport {
	t := &Transport{Transport: transports.MakeTransport()}
	t.Prototype(t)
	t.Transport.Construct(ctx)
	t.SetWritable(true)
	// From gorilla's, whose buffers hold nothing: a client that sends before it
	// is answered is refused.
	conn := ctx.Websocket.NetConn()
	ctx.Websocket = nil
	up, ok := ctx.Request().Context().Value(upgradeKey{}).(*upgrade)
	if !ok {
		t.out.closed = true
		_ = conn.Close()
		return t
	}
	up.transport = t
	if t.init(h, conn, t) != nil {
		t.out.closed = true
	}
	return t
}

// Name implements [transports.Transport].
func (t *Transport) Name() string { return transports.WEBSOCKET }

// HandlesUpgrades implements [transports.Transport].
func (t *Transport) HandlesUpgrades() bool { return true }

// pong is the Engine.IO packet of an idle client.
const pong = "3"

func (t *Transport) message(op byte, data []byte) (idle bool) {
	idle = string(data) == pong
	if op == opBinary {
		t.OnData(types.NewBytesBuffer(data))
	} else {
		t.OnData(types.NewStringBuffer(data))
	}
	return idle
}

// ended tells the engine. Only reading ends in it, so that no lock of the
// engine's is held.
func (t *Transport) ended() { t.OnClose() }

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
		return messageFrame(text.Bytes()), nil
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
