package wire

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/zishang520/socket.io/servers/engine/v3"
	"github.com/zishang520/socket.io/servers/engine/v3/config"
	"github.com/zishang520/socket.io/v3/pkg/types"

	"github.com/avoqado/avoqado-edge/internal/testpart"
)

// ear is a listener that notes what it hears.
type ear struct {
	conn  *Conn
	takes func(text string) bool

	mu   sync.Mutex // guards below
	said []string
}

func (e *ear) note(what string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.said = append(e.said, what)
}

func (e *ear) heard() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return strings.Join(e.said, " ")
}

func (e *ear) Message(text []byte) bool {
	if !e.takes(string(text)) {
		return false
	}
	e.note("message:" + string(text))
	return true
}

func (e *ear) Pinging() { e.note("ping") }
func (e *ear) Ponged()  { e.note("pong") }

// front serves an engine on a loopback port.
type front struct {
	engine engine.Server
	url    string
	dialer websocket.Dialer
	ears   chan *ear
}

func newFront(t *testing.T, secure bool, cfg Config, interval, timeout time.Duration, takes func(string) bool) *front {
	t.Helper()
	h := New(cfg)
	o := config.DefaultServerOptions()
	o.SetTransports(types.NewSet[engine.TransportCtor](&engine.PollingBuilder{}, h.Transport()))
	o.SetPingInterval(interval)
	o.SetPingTimeout(timeout)
	f := &front{engine: engine.NewServer(o), ears: make(chan *ear, 8)}
	_ = f.engine.On("connection", func(args ...any) {
		c, ok := args[0].(*Conn)
		if !ok {
			return
		}
		e := &ear{conn: c, takes: takes}
		c.Listen(e)
		_ = c.On("data", func(args ...any) { e.note("data:" + args[0].(types.BufferInterface).String()) })
		_ = c.Once("close", func(args ...any) { e.note("close:" + args[0].(string)) })
		f.ears <- e
	})
	s := httptest.NewUnstartedServer(h.Front(f.engine, f.engine, true))
	s.Listener = divertingListener{s.Listener}
	if f.dialer = *websocket.DefaultDialer; secure {
		s.StartTLS()
		f.dialer.TLSClientConfig = s.Client().Transport.(*http.Transport).TLSClientConfig
	} else {
		s.Start()
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { h.Run(ctx) })
	t.Cleanup(func() {
		f.engine.Close()
		s.Close()
		stop()
		running.Wait()
	})
	f.url = "ws" + strings.TrimPrefix(s.URL, "http") + "/?EIO=4&transport=websocket"
	return f
}

// dial connects a client and returns it, behind the handshake, with its ear.
func (f *front) dial(t *testing.T) (*websocket.Conn, *ear) {
	t.Helper()
	client, resp, err := f.dialer.Dial(f.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	t.Cleanup(func() { _ = client.Close() })
	var open struct {
		Sid                                   string
		Upgrades                              []string
		PingInterval, PingTimeout, MaxPayload int
	}
	text := read(t, client)
	if err := json.Unmarshal([]byte(strings.TrimPrefix(text, "0")), &open); err != nil || text[0] != '0' ||
		open.Sid == "" || open.Upgrades == nil || len(open.Upgrades) > 0 || open.PingInterval == 0 || open.PingTimeout == 0 || open.MaxPayload == 0 {
		t.Fatalf("handshake is %s, %v", text, err)
	}
	e := <-f.ears
	if _, known := f.engine.Clients().Load(open.Sid); !known || e.conn.Id() != open.Sid || e.conn.ReadyState() != "open" {
		t.Fatalf("the engine does not know %q", open.Sid)
	}
	return client, e
}

func read(t *testing.T, client *websocket.Conn) string {
	t.Helper()
	_ = client.SetReadDeadline(time.Now().Add(testpart.Patience))
	_, b, err := client.ReadMessage()
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	return string(b)
}

func write(t *testing.T, client *websocket.Conn, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if err := client.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
}

func all(string) bool { return true }

// TestConn follows a connection from its handshake to its end.
func TestConn(t *testing.T) { eachWay(t, testConn) }

func testConn(t *testing.T, secure bool) {
	f := newFront(t, secure, Config{}, time.Hour, time.Hour, func(text string) bool { return text != "theirs" })
	client, e := f.dial(t)

	write(t, client, "4mine", "4theirs", "0", "1", "5", "6", "3") // a pong nobody asked for means nothing
	if err := client.WriteMessage(websocket.BinaryMessage, []byte("bytes")); err != nil {
		t.Fatal(err)
	}
	testpart.Until(t, "what was said is heard", func() bool { return e.heard() == "message:mine data:theirs data:bytes" })

	e.conn.SendText([]byte("one"), []byte("two"))
	e.conn.Write(types.NewStringBufferString("three"), nil, nil)
	e.conn.Write(types.NewBytesBufferString("four"), nil, nil)
	for _, want := range []string{"4onetwo", "4three", "four"} {
		if got := read(t, client); got != want {
			t.Errorf("read %q, want %q", got, want)
		}
	}
	if e.conn.Opening() == nil || e.conn.Transport().Name() != "websocket" || e.conn.Protocol() != 4 {
		t.Error("does not say what it is")
	}
	e.conn.LetGo()
	if e.conn.Opening() != nil {
		t.Error("keeps its request")
	}

	e.conn.Close(false)
	e.conn.Close(true)
	if _, _, err := client.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseAbnormalClosure) {
		t.Errorf("ends with %v, want no close frame", err)
	}
	testpart.Until(t, "the end is told once", func() bool { return strings.HasSuffix(e.heard(), "data:bytes close:forced close") })
	if e.conn.ReadyState() != "closed" || f.engine.Clients().Len() != 0 {
		t.Error("the engine still knows it")
	}
}

// TestConnHeartbeat has a client answer some pings, then none.
func TestConnHeartbeat(t *testing.T) { eachWay(t, testConnHeartbeat) }

func testConnHeartbeat(t *testing.T, secure bool) {
	f := newFront(t, secure, Config{}, 20*time.Millisecond, 2*time.Second, all)
	client, e := f.dial(t)
	for range 3 {
		if got := read(t, client); got != "2" {
			t.Fatalf("read %q, want a ping", got)
		}
		write(t, client, "3")
	}
	testpart.Until(t, "the silent end", func() bool { return e.heard() == "ping pong ping pong ping pong ping close:ping timeout" })
}

// TestConnEnds has clients say what ends a connection.
func TestConnEnds(t *testing.T) { eachWay(t, testConnEnds) }

func testConnEnds(t *testing.T, secure bool) {
	f := newFront(t, secure, Config{MaxPayload: 1000}, time.Hour, time.Hour, all)
	for _, end := range []struct{ says, why string }{
		{"2", "transport error"},
		{"7", "parse error"},
		{"", "parse error"},
		{strings.Repeat("4", 1001), "transport close"},
	} {
		client, e := f.dial(t)
		write(t, client, "4x", end.says, "4y")
		testpart.Until(t, "the end", func() bool { return e.heard() == "message:x close:"+end.why })
	}
	client, e := f.dial(t)
	_ = client.NetConn().Close()
	testpart.Until(t, "the end", func() bool { return e.heard() == "close:transport close" })
}

// TestConnPanics has a listener panic: its connection ends, no other does.
func TestConnPanics(t *testing.T) { eachWay(t, testConnPanics) }

func testConnPanics(t *testing.T, secure bool) {
	f := newFront(t, secure, Config{Guard: func(f func()) (ok bool) {
		defer func() { _ = recover() }()
		f()
		return true
	}}, time.Hour, time.Hour, func(text string) bool {
		if text == "boom" {
			panic(text)
		}
		return true
	})
	bystander, other := f.dial(t)
	client, e := f.dial(t)
	write(t, client, "4boom", "4x")
	testpart.Until(t, "the end", func() bool { return e.heard() == "close:transport close" })
	write(t, bystander, "4here")
	testpart.Until(t, "the others do not notice", func() bool { return other.heard() == "message:here" })
}

// TestConnIsNotShared has somebody else ask for a connection by its sid.
func TestConnIsNotShared(t *testing.T) {
	f := newFront(t, false, Config{}, time.Hour, time.Hour, all)
	client, e := f.dial(t)
	_, resp, err := f.dialer.Dial(f.url+"&sid="+e.conn.Id(), nil)
	if resp != nil {
		_ = resp.Body.Close()
	}
	if err == nil && resp.StatusCode != 101 {
		t.Errorf("upgrade is answered with %v", resp.Status)
	}
	write(t, client, "4still here")
	testpart.Until(t, "it goes on", func() bool { return e.heard() == "message:still here" })
}

// TestEmitter has listeners come and go.
func TestEmitter(t *testing.T) {
	var e emitter
	heard := ""
	first := func(args ...any) { heard += "first" + args[0].(string) }
	second := func(args ...any) { heard += "second" + args[0].(string) }
	_ = e.On("a", first)
	_ = e.Once("a", second)
	_ = e.On("b", second)
	e.Emit("a", "1 ")
	e.Emit("a", "2 ")
	e.Emit("c", "3 ")
	if heard != "first1 second1 first2 " {
		t.Errorf("heard %q", heard)
	}
	if e.Len() != 2 || e.ListenerCount("a") != 1 || len(e.EventNames()) != 2 {
		t.Errorf("%d events, %d listeners to a", e.Len(), e.ListenerCount("a"))
	}
	if e.RemoveListener("a", second) || !e.RemoveListener("a", first) || !e.RemoveAllListeners("b") || e.Len() != 0 {
		t.Error("listeners are not removed as asked")
	}
}
