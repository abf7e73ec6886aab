package lan_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/testpart"
)

// client is a Socket.IO client that sees every byte.
type client struct {
	t   testing.TB
	ws  *websocket.Conn
	sid string

	mu     sync.Mutex // guards below
	frames []string   // not yet taken, without pings
	pings  int
	mute   bool // does not answer pings
	ended  error
	lastID int
}

// dial opens the transport and reads the Engine.IO handshake.
func (b *box) dial(query string, header http.Header) *client {
	b.t.Helper()
	ws, resp, err := b.dialer().Dial(b.socketURL()+query, header)
	if err != nil {
		if resp != nil {
			err = fmt.Errorf("%w: HTTP %d", err, resp.StatusCode)
		}
		b.t.Fatal(err)
	}
	return b.on(ws)
}

// on reads the Engine.IO handshake from a transport.
func (b *box) on(ws *websocket.Conn) *client {
	b.t.Helper()
	c := &client{t: b.t, ws: ws}
	b.t.Cleanup(func() { _ = ws.Close() })
	go c.read()
	if open := c.frame(); open[0] != '0' {
		b.t.Fatalf("open packet is %q", open)
	}
	return c
}

func (c *client) read() {
	for {
		_, b, err := c.ws.ReadMessage()
		c.mu.Lock()
		switch {
		case err != nil:
			c.ended = err
			c.mu.Unlock()
			return
		case string(b) == "2":
			c.pings++
			if !c.mute {
				_ = c.ws.WriteMessage(websocket.TextMessage, []byte("3"))
			}
		default:
			c.frames = append(c.frames, string(b))
		}
		c.mu.Unlock()
	}
}

// raw sends one frame as it is.
func (c *client) raw(frame string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.ws.WriteMessage(websocket.TextMessage, []byte(frame)) // a closed one shows when read
}

// until waits for a condition.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	testpart.Until(t, what, ok)
}

// take removes and returns the first frame that matches.
func (c *client) take(what string, match func(string) bool) string {
	c.t.Helper()
	found, gone := "", error(nil)
	until(c.t, what, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		for i, f := range c.frames {
			if match(f) {
				found = f
				c.frames = append(c.frames[:i:i], c.frames[i+1:]...)
				return true
			}
		}
		gone = c.ended
		return gone != nil
	})
	if found == "" {
		c.t.Fatalf("waiting for %s: transport closed: %v", what, gone)
	}
	return found
}

func (c *client) frame() string {
	c.t.Helper()
	return c.take("a frame", func(string) bool { return true })
}

// want returns the payload of the next event of that name.
func (c *client) want(name string) string {
	c.t.Helper()
	prefix := fmt.Sprintf("42[%q", name)
	f := c.take("event "+name, func(f string) bool { return strings.HasPrefix(f, prefix) })
	f, _ = withoutOffset(f)
	return strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(f, prefix), ","), "]")
}

// withoutOffset takes off an event the argument by which its client could be
// recovered.
func withoutOffset(frame string) (rest, offset string) {
	i := strings.LastIndex(frame, `},"`)
	if i < 0 || !strings.HasSuffix(frame, `"]`) {
		return frame, ""
	}
	return frame[:i+1] + "]", frame[i+3 : len(frame)-2]
}

// pending lists the events that came and were not taken.
func (c *client) pending(name string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []string
	for _, f := range c.frames {
		if strings.HasPrefix(f, fmt.Sprintf("42[%q", name)) {
			rest, _ := withoutOffset(f)
			found = append(found, rest)
		}
	}
	return found
}

func (c *client) emit(name, payload string) {
	if payload != "" {
		payload = "," + payload
	}
	c.raw(fmt.Sprintf("42[%q%s]", name, payload))
}

// post emits and returns at once; the answer is read by answer.
func (c *client) post(name, payload string) int {
	c.mu.Lock()
	c.lastID++
	id := c.lastID
	c.mu.Unlock()
	if payload != "" {
		payload = "," + payload
	}
	c.raw(fmt.Sprintf("42%d[%q%s]", id, name, payload))
	return id
}

func (c *client) answer(id int) string {
	c.t.Helper()
	prefix := fmt.Sprintf("43%d[", id)
	f := c.take(fmt.Sprintf("ack %d", id), func(f string) bool { return strings.HasPrefix(f, prefix) })
	return strings.TrimSuffix(strings.TrimPrefix(f, prefix), "]")
}

// ask emits and returns the acknowledgement.
func (c *client) ask(name, payload string) string {
	c.t.Helper()
	return c.answer(c.post(name, payload))
}

func (c *client) closed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended != nil
}

// connect opens a session and takes the greeting.
func (b *box) connect(g auth.Grant, terminal string) *client {
	b.t.Helper()
	c := b.dial("", nil)
	b.login(c, g, terminal)
	return c
}

// login opens a session on a transport and takes the greeting.
func (b *box) login(c *client, g auth.Grant, terminal string) {
	b.t.Helper()
	login := map[string]string{"token": b.mint(g)}
	if terminal != "" {
		login["terminalId"] = terminal
	}
	text, _ := json.Marshal(login)
	c.raw("40" + string(text))
	f := c.frame()
	var reply struct{ Sid string }
	if !strings.HasPrefix(f, "40{") || json.Unmarshal([]byte(f[2:]), &reply) != nil || reply.Sid == "" {
		b.t.Fatalf("CONNECT was answered with %q", f)
	}
	c.sid = reply.Sid
	c.want("authentication_success")
	// The first answer comes after the session is in its rooms.
	if got := c.ask("authenticate", "{}"); !strings.Contains(got, "Already authenticated") {
		b.t.Fatalf("authenticate was answered with %q", got)
	}
	c.want("authentication_success")
}

func (b *box) as(role event.Role) *client {
	b.t.Helper()
	return b.connect(auth.Grant{Subject: "staff_" + strings.ToLower(string(role)), Role: role}, "")
}

// quiet checks that nothing more came: a marker to the whole venue is behind
// all that was shown before it.
func (b *box) quiet(c *client, names ...string) {
	b.t.Helper()
	b.journal.append(event.Event{Kind: "venue_update", Payload: []byte(`{"marker":true}`)})
	c.want("venue_update")
	for _, name := range names {
		if got := c.pending(name); len(got) > 0 {
			b.t.Errorf("unexpected: %v", got)
		}
	}
}

func field(t testing.TB, object, key string) string {
	t.Helper()
	o, err := event.ParseObject([]byte(object))
	if err != nil {
		t.Fatalf("%q: %v", object, err)
	}
	return string(o.Raw(key))
}
