package main

import (
	"net/http"
	"strings"
	"time"

	enginepacket "github.com/zishang520/socket.io/parsers/engine/v3/packet"
	"github.com/zishang520/socket.io/servers/engine/v3"
	"github.com/zishang520/socket.io/servers/engine/v3/config"
	"github.com/zishang520/socket.io/servers/socket/v3"
	"github.com/zishang520/socket.io/v3/pkg/types"

	"github.com/avoqado/avoqado-edge/internal/lan/packet"
	"github.com/avoqado/avoqado-edge/internal/lan/wire"
)

// What the suites are written for.
const (
	pingInterval = 300 * time.Millisecond
	pingTimeout  = 200 * time.Millisecond
	maxPayload   = 1_000_000
)

// The suites send over several connections and expect the order of a single
// event loop: what was sent on a WebSocket before a poll, what was polled before
// a POST, what ends at a time before what is asked then. And they wait for one
// message at a time, so that they lose the second of two that come in one read.
const (
	pollDelay     = 20 * time.Millisecond
	postDelay     = 40 * time.Millisecond
	greetingDelay = 20 * time.Millisecond // behind the answer to CONNECT
)

// peer is the other end of both suites, on the transport, the adapter and the
// parser of the product.
type peer struct {
	hub    *wire.Hub
	engine engine.Server  // /engine.io/: sends back what it gets
	io     *socket.Server // /socket.io/: the namespaces / and /custom
	fronts [2]http.Handler
}

func newPeer() *peer {
	p := &peer{hub: wire.New(wire.Config{MaxPayload: maxPayload})}
	eo := config.DefaultServerOptions()
	eo.SetTransports(types.NewSet[engine.TransportCtor](&engine.PollingBuilder{}, p.hub.Transport()))
	eo.SetPingInterval(pingInterval)
	eo.SetPingTimeout(pingTimeout)
	eo.SetMaxHttpBufferSize(maxPayload)
	p.engine = engine.NewServer(eo)
	p.fronts[0] = p.hub.Front(p.engine, p.engine, true)
	_ = p.engine.On("connection", func(args ...any) {
		conn := args[0].(engine.Socket)
		_ = conn.On("data", func(args ...any) { echo(conn, args[0]) })
	})

	o := socket.DefaultServerOptions()
	o.SetTransports(types.NewSet(socket.Polling, p.hub.Transport()))
	o.SetAdapter(p.hub.Adapter())
	o.SetParser(packet.Parser{Binary: true, Malformed: func() {}, Waited: func() {}, Unwritable: func() {}})
	o.SetServeClient(false)
	o.SetPingInterval(pingInterval)
	o.SetPingTimeout(pingTimeout)
	o.SetMaxHttpBufferSize(maxPayload)
	p.io = socket.NewServer(nil, o)
	handler := p.io.ServeHandler(nil)
	p.fronts[1] = p.hub.Front(p.io.Engine(), handler, true)
	for _, name := range []string{"/", "/custom"} {
		_ = p.io.Of(name, nil).On("connection", func(args ...any) { greet(args[0].(*socket.Socket)) })
	}
	return p
}

// ServeHTTP implements [http.Handler].
func (p *peer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	front := p.fronts[0]
	if strings.HasPrefix(r.URL.Path, "/socket.io/") {
		front = p.fronts[1]
	}
	delay := time.Duration(0)
	if r.URL.Query().Has("sid") && r.Header.Get("Upgrade") == "" {
		delay = pollDelay
	}
	if r.Method == http.MethodPost {
		delay = postDelay
	}
	select {
	case <-time.After(delay):
	case <-r.Context().Done():
	}
	front.ServeHTTP(w, r)
}

func (p *peer) close() {
	p.io.Close(nil)
	p.engine.Close()
}

func echo(conn engine.Socket, data any) {
	if b, ok := data.(types.BufferInterface); ok {
		conn.Send(b.Clone(), &enginepacket.Options{}, nil)
	}
}

// greet serves one session: it is told its auth object and gets back what it
// sends.
func greet(s *socket.Socket) {
	auth := s.Handshake().Auth
	if auth == nil {
		auth = map[string]any{}
	}
	s.OnAny(func(args ...any) { answer(s, args) })
	time.AfterFunc(greetingDelay, func() { _ = s.Emit("auth", auth) })
}

func answer(s *socket.Socket, args []any) {
	e, ok := args[1].(*packet.Event)
	if !ok {
		return
	}
	defer e.Release()
	back := make([]any, 0, len(e.Args)+1)
	for _, arg := range e.Args {
		back = append(back, arg)
	}
	if e.Attachments != nil {
		back = append(back, e.Attachments)
	}
	switch args[0] {
	case "message":
		_ = s.Emit("message-back", back...)
	case "message-with-ack":
		if ack, ok := args[len(args)-1].(socket.Ack); ok {
			ack(back, nil)
		}
	}
}
