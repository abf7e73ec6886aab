package simulate

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// knobs change how a fake server behaves. The zero value is a good server that
// never needs to ping because the tests are shorter than its interval.
type knobs struct {
	open    string // open packet; empty: a sane one
	connect string // answer to CONNECT; empty: a sid
	status  int    // HTTP status instead of an upgrade
	before  []byte // a text frame before the answer to CONNECT
	silent  bool   // answers no CONNECT

	// after runs once a client is connected, on the connection's goroutine.
	after func(s *fakeSocket)
	// onEvent is called for every event; true means the fake does no more.
	onEvent func(s *fakeSocket, id, name string, payload json.RawMessage) bool
}

// fakeServer speaks just enough Engine.IO 4 and Socket.IO 5 in raw packets,
// and keeps what it acknowledged as a box would: once per idempotency key.
type fakeServer struct {
	*httptest.Server
	knobs

	mu       sync.Mutex
	auths    []string
	frames   []string // every text frame that came in
	ledger   []string // idempotency keys in the order of their seq
	position map[string]int
	sockets  map[*fakeSocket]bool
}

// fakeSocket is one connection of a fake server.
type fakeSocket struct {
	server *fakeServer
	ws     *websocket.Conn
	mu     sync.Mutex
}

func (s *fakeSocket) send(format string, args ...any) {
	s.sendFrame(websocket.TextMessage, []byte(fmt.Sprintf(format, args...)))
}

func (s *fakeSocket) sendFrame(kind int, b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.ws.WriteMessage(kind, b) // a client that is gone is what many tests want
}

func newFake(t *testing.T, k knobs) *fakeServer {
	t.Helper()
	f := &fakeServer{knobs: k, position: map[string]int{}, sockets: map[*fakeSocket]bool{}}
	var connections sync.WaitGroup
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		connections.Add(1)
		defer connections.Done()
		f.handle(w, r)
	}))
	t.Cleanup(func() {
		f.dropAll()
		f.Close()
		connections.Wait()
	})
	return f
}

func (f *fakeServer) handle(w http.ResponseWriter, r *http.Request) {
	if f.status != 0 {
		w.WriteHeader(f.status)
		return
	}
	if r.URL.Path != "/socket.io/" || r.URL.Query().Get("EIO") != "4" || r.URL.Query().Get("transport") != "websocket" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	upgrader := websocket.Upgrader{}
	ws, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer ws.Close()
	s := &fakeSocket{server: f, ws: ws}
	f.mu.Lock()
	f.sockets[s] = true
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.sockets, s)
		f.mu.Unlock()
	}()
	open := f.open
	if open == "" {
		open = `0{"sid":"e1","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}`
	}
	s.send("%s", open)
	for {
		_, b, err := ws.ReadMessage()
		if err != nil {
			return
		}
		f.mu.Lock()
		f.frames = append(f.frames, string(b))
		f.mu.Unlock()
		if !s.packet(string(b)) {
			return
		}
	}
}

// packet plays one frame; false hangs up.
func (s *fakeSocket) packet(frame string) bool {
	switch {
	case strings.HasPrefix(frame, "40"):
		s.server.mu.Lock()
		s.server.auths = append(s.server.auths, frame[2:])
		s.server.mu.Unlock()
		if s.server.silent {
			return true
		}
		if s.server.before != nil {
			s.send("%s", s.server.before)
		}
		answer := s.server.connect
		if answer == "" {
			answer = `40{"sid":"s1"}`
		}
		s.send("%s", answer)
		if s.server.after != nil {
			s.server.after(s)
		}
	case strings.HasPrefix(frame, "41"):
		return false
	case strings.HasPrefix(frame, "42"):
		s.event(frame[2:])
	}
	return true
}

func (s *fakeSocket) event(rest string) {
	id := rest[:strings.IndexByte(rest, '[')]
	var args []json.RawMessage
	var name string
	if json.Unmarshal([]byte(rest[len(id):]), &args) != nil || json.Unmarshal(args[0], &name) != nil {
		return
	}
	var payload json.RawMessage
	if len(args) > 1 {
		payload = args[1]
	}
	if s.server.onEvent != nil && s.server.onEvent(s, id, name, payload) {
		return
	}
	s.accept(id, name, payload)
}

// accept does what a box does with a good event: store once, answer, fan out.
func (s *fakeSocket) accept(id, name string, payload json.RawMessage) {
	if name == "join_room" || strings.HasPrefix(name, "tpv:") || len(payload) == 0 || payload[0] != '{' {
		s.answer(id, `{"success":true}`)
		return
	}
	key, seq, duplicate := s.server.store(payload)
	s.answer(id, fmt.Sprintf(`{"success":true,"eventId":%q,"seq":%d,"durability":"stored","duplicate":%t}`, key, seq, duplicate))
	if !duplicate {
		s.server.fanOut(s, fmt.Sprintf(`42[%q,%s]`, name, enrich(payload, key)))
	}
}

func (s *fakeSocket) answer(id, body string) {
	if id != "" {
		s.send("43%s[%s]", id, body)
	}
}

func (f *fakeServer) store(payload json.RawMessage) (key string, seq int, duplicate bool) {
	var body struct {
		Key string `json:"idempotencyKey"`
	}
	_ = json.Unmarshal(payload, &body)
	f.mu.Lock()
	defer f.mu.Unlock()
	if at, ok := f.position[body.Key]; ok {
		return body.Key, at, true
	}
	f.ledger = append(f.ledger, body.Key)
	f.position[body.Key] = len(f.ledger)
	return body.Key, len(f.ledger), false
}

// enrich adds a correlation id in front of a payload, as the box adds one.
func enrich(payload json.RawMessage, id string) string {
	return fmt.Sprintf(`{"correlationId":"c-%s",%s`, id, string(payload)[1:])
}

func (f *fakeServer) fanOut(sender *fakeSocket, frame string) {
	f.mu.Lock()
	var others []*fakeSocket
	for s := range f.sockets {
		if s != sender {
			others = append(others, s)
		}
	}
	f.mu.Unlock()
	for _, s := range others {
		s.send("%s", frame)
	}
}

// dropAll breaks every transport, as a restart of a box does.
func (f *fakeServer) dropAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for s := range f.sockets {
		_ = s.ws.Close()
	}
}

// auth returns the auth object of the first CONNECT.
func (f *fakeServer) auth() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.auths[0]
}

func (f *fakeServer) received(frame string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, have := range f.frames {
		if have == frame {
			n++
		}
	}
	return n
}

func (f *fakeServer) stored() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.ledger...)
}

// soon is a context that ends a test which waits for something that never comes.
func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// recorder keeps what a client was told.
type recorder struct {
	mu     sync.Mutex
	events []string
	states []string
}

func (r *recorder) event(name string, payload json.RawMessage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, name+" "+string(payload))
}

func (r *recorder) state(connected bool, reason error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if connected {
		r.states = append(r.states, "up")
	} else {
		r.states = append(r.states, fmt.Sprintf("down: %v", reason))
	}
}

func (r *recorder) heard() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.events...)
}

func (r *recorder) told() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.states...)
}
