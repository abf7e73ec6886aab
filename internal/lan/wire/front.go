package wire

import (
	"net/http"

	"github.com/gorilla/websocket"
	"github.com/zishang520/socket.io/servers/engine/v3"
	"github.com/zishang520/socket.io/servers/engine/v3/transports"
	"github.com/zishang520/socket.io/v3/pkg/types"
)

// Front stands before an engine of the library. A client that begins with a
// WebSocket gets a [Conn]; polling, and the WebSocket a polling client goes on
// with, are the library's. Safe for concurrent use.
type Front struct {
	hub     *Hub
	engine  engine.BaseServer
	handler http.Handler // the engine's own
	direct  bool

	// What every Conn answers the library, see there.
	nothing   *types.HttpContext
	transport transports.Transport
}

// Front returns what serves the requests to an engine, whose own handler is
// given. Make one per engine, before it serves. direct says that WebSockets are
// carried here; else they are the library's.
func (h *Hub) Front(e engine.BaseServer, handler http.Handler, direct bool) *Front {
	r, _ := http.NewRequestWithContext(&upgrade{answered: make(chan struct{})}, http.MethodGet, "/", http.NoBody)
	f := &Front{hub: h, engine: e, handler: handler, direct: direct, nothing: types.NewHttpContext(gone{}, r)}
	t := &webSocket{transports.MakeTransport()}
	t.Prototype(t)
	t.SetWritable(true)
	f.transport = t
	h.watch(e)
	return f
}

// webSocket is the transport of every [Conn].
type webSocket struct{ transports.Transport }

// Name implements [transports.Transport].
func (*webSocket) Name() string { return transports.WEBSOCKET }

// HandlesUpgrades implements [transports.Transport].
func (*webSocket) HandlesUpgrades() bool { return true }

// ServeHTTP implements [http.Handler]. Who may talk to the engine at all is the
// caller's business, origins too.
func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	sid := query.Get("sid")
	switch {
	case !websocket.IsWebSocketUpgrade(r) && r.Method == http.MethodGet:
		f.hub.servePoll(f.handler, w, r, sid)
	case !websocket.IsWebSocketUpgrade(r):
		f.hub.servePost(f.handler, w, r, sid)
	case !f.direct:
		f.handler.ServeHTTP(w, r)
	case sid == "" && query.Get("transport") == transports.WEBSOCKET && query.Get("EIO") == "4":
		f.connect(w, r)
	default: // the library says what is wrong with it, or upgrades
		f.hub.serveUpgrade(f.handler, w, r)
	}
}

// connect makes a [Conn] of a request.
func (f *Front) connect(w http.ResponseWriter, r *http.Request) {
	upgrader := websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
	ws, err := upgrader.Upgrade(&answer{ResponseWriter: w}, r, nil)
	if err != nil {
		return // it was answered
	}
	// gorilla's buffers hold nothing: a client that sends before it is answered
	// is refused.
	conn := ws.NetConn()
	c := &Conn{
		front: f, id: f.engine.GenerateId(nil), remote: conn.RemoteAddr().String(),
		request: r, listener: deaf{},
	}
	if c.init(f.hub, conn, c) == nil {
		c.open()
	}
}
