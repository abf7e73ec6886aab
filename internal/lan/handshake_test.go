package lan_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
)

func TestOpenPacket(t *testing.T) {
	b := start(t)
	ws, resp, err := websocket.DefaultDialer.Dial("ws://"+b.Addr().String()+"/socket.io/?EIO=4&transport=websocket", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	defer resp.Body.Close()
	_, open, err := ws.ReadMessage()
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"upgrades": "[]", "pingInterval": "25000", "pingTimeout": "20000", "maxPayload": "1000000",
	} {
		if got := field(t, string(open[1:]), key); got != want {
			t.Errorf("%s is %s, want %s", key, got, want)
		}
	}
}

func TestGreeting(t *testing.T) {
	b := start(t)
	c := b.dial("", nil)
	token := b.mint(auth.Grant{Subject: "staff_1", Role: event.Waiter})
	c.raw(`40{"token":"` + token + `"}`)
	c.frame()
	got := c.want("authentication_success")
	if ctx := field(t, got, "authContext"); ctx != `{"userId":"staff_1","venueId":"venue_1","role":"WAITER","orgId":"org_1"}` {
		t.Errorf("authContext is %s", ctx)
	}
	if len(field(t, got, "connectedAt")) != 26 || len(field(t, got, "correlationId")) != 38 {
		t.Errorf("greeting is %s", got)
	}
	b.quiet(c, "authentication_success")

	ack := c.ask("authenticate", `{"token":"x"}`)
	if ev := c.want("authentication_success"); ev != ack {
		t.Errorf("event %s differs from ack %s", ev, ack)
	}
	for key, want := range map[string]string{"success": "true", "message": `"Already authenticated"`} {
		if field(t, ack, key) != want {
			t.Errorf("%s in %s", key, ack)
		}
	}
	for _, key := range []string{"userId", "orgId", "venueId", "role", "socketId", "connectedAt", "lastActivity"} {
		if field(t, field(t, ack, "authContext"), key) == "" {
			t.Errorf("no %s in %s", key, ack)
		}
	}
}

// TestTokenSources holds every source and mixture of sources against what the
// client is told.
func TestTokenSources(t *testing.T) {
	b := start(t)
	good := b.mint(auth.Grant{Subject: "staff_1", Role: event.Waiter})
	serial := b.mint(auth.Grant{Subject: "staff_1", Role: event.Waiter, Terminal: "2841548417"})
	old := oldToken(t)
	const (
		none    = "No authentication token provided"
		format  = "Invalid token format"
		over    = "Token has expired"
		mixed   = "Terminal ID does not match the registered terminal"
		wrongly = "Venue is not operational. Contact support for assistance."
	)
	for _, c := range []struct {
		name   string
		login  string // behind 40
		query  string
		header http.Header
		want   string // empty: connected
	}{
		{name: "nothing", want: none},
		{name: "empty login", login: `{}`, want: none},
		{name: "empty token", login: `{"token":""}`, want: none},
		{name: "null token", login: `{"token":null}`, want: none},
		{name: "garbage", login: `{"token":"garbage"}`, want: format},
		{name: "number", login: `{"token":7}`, want: format},
		{name: "object", login: `{"token":{"a":1}}`, want: format},
		{name: "true", login: `{"token":true}`, want: format},
		{name: "expired", login: `{"token":"` + old + `"}`, want: over},
		{name: "login", login: `{"token":"` + good + `"}`},
		{name: "query", query: "&token=" + good},
		{name: "bearer", header: http.Header{"Authorization": {"Bearer " + good}}},
		{name: "other scheme", header: http.Header{"Authorization": {"Basic " + good}}, want: none},
		{name: "bearer in lower case", header: http.Header{"Authorization": {"bearer " + good}}, want: none},
		{name: "cookie", header: http.Header{"Cookie": {"a=b; accessToken=" + good + "; c=d"}}},
		{name: "stale cookie, good login", login: `{"token":"` + good + `"}`, header: http.Header{"Cookie": {"accessToken=" + old}}},
		{name: "bad login, good query", login: `{"token":"garbage"}`, query: "&token=" + good},
		{name: "bad login, good bearer", login: `{"token":7}`, header: http.Header{"Authorization": {"Bearer " + good}}},
		{name: "garbage cookie, expired login", login: `{"token":"` + old + `"}`, header: http.Header{"Cookie": {"accessToken=x"}}, want: over},
		{name: "expired cookie, garbage login", login: `{"token":"x"}`, header: http.Header{"Cookie": {"accessToken=" + old}}, want: over},
		{name: "other venue", login: `{"token":"` + b.mint(auth.Grant{Subject: "s", Role: event.Waiter, Venue: "venue_2"}) + `"}`, want: wrongly},
		{name: "terminal as in token", login: `{"token":"` + serial + `","terminalId":"AVQD-2841548417"}`},
		{name: "terminal in other case", login: `{"token":"` + serial + `","terminalId":"avqd-2841548417"}`},
		{name: "another terminal", login: `{"token":"` + serial + `","terminalId":"AVQD-1"}`, want: mixed},
		{name: "terminal, token without", login: `{"token":"` + good + `","terminalId":"AVQD-1"}`},
		{name: "terminal not a text", login: `{"token":"` + good + `","terminalId":7}`},
		{name: "terminal too long", login: `{"token":"` + good + `","terminalId":"` + strings.Repeat("x", 200) + `"}`, want: mixed},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := b.dial(c.query, c.header)
			client.raw("40" + c.login)
			got := client.frame()
			if c.want == "" {
				if !strings.HasPrefix(got, `40{"sid":"`) {
					t.Errorf("got %s", got)
				}
				return
			}
			if got != fmt.Sprintf(`44{"message":%q}`, c.want) {
				t.Errorf("got %s, want %q", got, c.want)
			}
			if c.name == "nothing" { // once: it takes the connect timeout
				until(t, "the transport is closed", client.closed)
			}
		})
	}
	if text := b.logs.String(); strings.Contains(text, good) || strings.Contains(text, old) {
		t.Error("a token was logged")
	}
}

func TestSecondTryOnOneTransport(t *testing.T) {
	b := start(t)
	c := b.dial("", nil)
	c.raw(`40{"token":"x"}`)
	c.frame()
	c.raw(`40{"token":"` + b.mint(auth.Grant{Subject: "s", Role: event.Waiter}) + `"}`)
	if got := c.frame(); !strings.HasPrefix(got, "40{") {
		t.Errorf("got %s", got)
	}
}

// TestAnotherSessionOnOneTransport logs out and in again by the token of the
// request, of which nothing else is kept.
func TestAnotherSessionOnOneTransport(t *testing.T) {
	b := start(t)
	good := b.mint(auth.Grant{Subject: "s", Role: event.Waiter})
	for name, header := range map[string]http.Header{
		"query": {}, "bearer": {"Authorization": {"Bearer " + good}}, "cookie": {"Cookie": {"accessToken=" + good}},
	} {
		query := ""
		if name == "query" {
			query = "&token=" + good
		}
		c := b.dial(query, header)
		for try := range 2 {
			c.raw("40")
			c.want("authentication_success")
			if b.Connections().ConnectionStats.Total != 1 {
				t.Errorf("%s, try %d: no session", name, try)
			}
			c.raw("41")
			until(t, "the session is gone", func() bool { return b.Connections().ConnectionStats.Total == 0 })
		}
	}
}

func TestTwoConnectsAtOnce(t *testing.T) {
	b := start(t)
	c := b.dial("", nil)
	login := `40{"token":"` + b.mint(auth.Grant{Subject: "s", Role: event.Waiter}) + `"}`
	for range 5 {
		c.raw(login)
	}
	until(t, "the transport is closed", c.closed)
	until(t, "no session is left", func() bool { return b.Connections().ConnectionStats.Total == 0 })
}

// TestFastConnect sends CONNECT without waiting for the open packet, many times
// over: the library alone loses some of these.
func TestFastConnect(t *testing.T) {
	b := start(t)
	login := []byte(`40{"token":"` + b.mint(auth.Grant{Subject: "s", Role: event.Waiter}) + `"}`)
	for range 200 {
		ws, resp, err := websocket.DefaultDialer.Dial("ws://"+b.Addr().String()+"/socket.io/?EIO=4&transport=websocket", nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if err := ws.WriteMessage(websocket.TextMessage, login); err != nil {
			t.Fatal(err)
		}
		_ = ws.SetReadDeadline(time.Now().Add(3 * time.Second)) // below the connect timeout
		for {
			_, got, err := ws.ReadMessage()
			if err != nil {
				t.Fatalf("lost: %v", err)
			}
			if strings.HasPrefix(string(got), "40") {
				break
			}
		}
		_ = ws.Close()
	}
}

func TestVerifierPanics(t *testing.T) {
	b := start(t)
	token := b.mint(auth.Grant{Subject: "s", Role: event.Waiter})
	b.door.panics.Store(true)
	c := b.dial("", nil)
	c.raw(`40{"token":"` + token + `"}`)
	until(t, "the transport is closed", c.closed)
	b.door.panics.Store(false)
	b.as(event.Waiter)
	if strings.Contains(b.logs.String(), "verifier is broken") {
		t.Error("the value of a panic was logged")
	}
}

func (c *client) framesNow() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.frames
}

func TestOrigins(t *testing.T) {
	b := start(t)
	base := "http://" + b.Addr().String()
	for origin, allowed := range map[string]bool{
		"":                                true,
		"https://dashboard.avoqado.io":    true,
		"https://DASHBOARD.avoqado.io":    true,
		"https://pos.example":             true,
		base:                              true,
		"https://evil.example":            false,
		"null":                            false,
		"https://dashboard.avoqado.io.ev": false,
		"http://localhost:5173":           false,
	} {
		header := http.Header{}
		if origin != "" {
			header.Set("Origin", origin)
		}
		ws, resp, err := websocket.DefaultDialer.Dial("ws"+base[4:]+"/socket.io/?EIO=4&transport=websocket", header)
		if (err == nil) != allowed {
			t.Errorf("websocket from %q: %v", origin, err)
		}
		if err == nil {
			_ = ws.Close()
		}
		if resp != nil {
			_ = resp.Body.Close()
		}
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/socket.io/?EIO=4&transport=polling", nil)
		req.Header = header
		poll, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = poll.Body.Close()
		if (poll.StatusCode == http.StatusOK) != allowed {
			t.Errorf("polling from %q: %d", origin, poll.StatusCode)
		}
		if allowed && origin != "" &&
			(poll.Header.Get("Access-Control-Allow-Origin") != origin || poll.Header.Get("Access-Control-Allow-Credentials") != "true") {
			t.Errorf("headers for %q: %v", origin, poll.Header)
		}
	}
}

func TestOtherPaths(t *testing.T) {
	b := start(t)
	base := "http://" + b.Addr().String()
	for path, want := range map[string]int{
		"/":                                   http.StatusTeapot,
		"/api/v1/x":                           http.StatusTeapot,
		"/socket.io/x":                        http.StatusTeapot,
		"/socket.io/?EIO=3&transport=polling": http.StatusBadRequest,
		"/socket.io/?EIO=4&transport=smoke":   http.StatusBadRequest,
		"/socket.io/?EIO=4&transport=polling&j=1":                            http.StatusBadRequest,
		"/socket.io/?EIO=4&transport=polling&sid=" + strings.Repeat("a", 20): http.StatusBadRequest,
	} {
		resp, err := http.Get(base + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, resp.StatusCode, want)
		}
	}
}

func TestMaxConnections(t *testing.T) {
	b := start(t, func(c *lanConfig) { c.MaxConnections = 2 })
	one, _ := b.as(event.Waiter), b.as(event.Waiter)
	_, resp, err := websocket.DefaultDialer.Dial("ws://"+b.Addr().String()+"/socket.io/?EIO=4&transport=websocket", nil)
	if err == nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Fatalf("third connection: %v", err)
	}
	_ = resp.Body.Close()
	_ = one.ws.Close()
	until(t, "there is room again", func() bool { return b.Connections().ConnectionStats.Total == 1 })
	b.as(event.Waiter)
}

// poller is a client that only polls.
type poller struct {
	t      *testing.T
	url    string
	client *http.Client
	logs   *logs
}

func (p *poller) post(packets string) {
	p.t.Helper()
	resp, err := p.client.Post(p.url, "text/plain;charset=UTF-8", strings.NewReader(packets))
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); string(body) != "ok" {
		p.t.Fatalf("post was answered with %d %q", resp.StatusCode, body)
	}
}

func (p *poller) get() (int, string) {
	p.t.Helper()
	resp, err := p.client.Get(p.url)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// until polls until the text came.
func (p *poller) until(want string) string {
	p.t.Helper()
	var all string
	for !strings.Contains(all, want) {
		status, body := p.get()
		if status != http.StatusOK {
			p.t.Fatalf("poll was answered with %d %q, have %q\n%s", status, body, all, p.logs)
		}
		all += body
	}
	return all
}

func (b *box) poll(t *testing.T) *poller {
	p := &poller{t: t, logs: b.logs, client: b.client(), url: b.base() + "/socket.io/?EIO=4&transport=polling"}
	_, open := p.get()
	var packet struct{ Sid string }
	if err := json.Unmarshal([]byte(open[1:]), &packet); err != nil {
		t.Fatalf("open packet %q: %v", open, err)
	}
	if field(t, open[1:], "upgrades") != `["websocket"]` {
		t.Errorf("open packet is %s", open)
	}
	p.url += "&sid=" + packet.Sid
	p.post(`40{"token":"` + b.mint(auth.Grant{Subject: "s", Role: event.Waiter}) + `"}`)
	p.until("authentication_success")
	return p
}

func TestPolling(t *testing.T) {
	b := start(t)
	p := b.poll(t)
	viewer := b.as(event.Viewer)
	p.post("421[\"payment_initiated\"," + payment + "]\x1e422[\"payment_initiated\",{}]")
	got := p.until("432[")
	if !strings.Contains(got, `431[{"correlationId":`) || !strings.Contains(got, `"durability":"stored"`) {
		t.Errorf("polled %s", got)
	}
	viewer.want("payment_initiated")
	b.journal.append(event.Event{Kind: "menu_updated", Payload: []byte(`{"amount":"1.50"}`)})
	p.until(`42["menu_updated",{"amount":"1.50"},`)
	for n := range 300 { // a poll behind the other, as fast as can be
		b.journal.append(event.Event{Kind: "menu_updated", Payload: fmt.Appendf(nil, `{"n":%d}`, n)})
		p.until(fmt.Sprintf(`42["menu_updated",{"n":%d},`, n))
	}

	// A poll that waits is ended when the box closes the session.
	done := make(chan int, 1)
	go func() { status, _ := p.get(); done <- status }()
	until(t, "the poll waits", func() bool { return b.Polls() == 1 })
	if n := b.CloseSockets(func(g auth.Grant) bool { return g.Subject == "s" }); n != 1 {
		t.Errorf("%d sessions closed", n)
	}
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("the poll hangs")
	}
}

// oldToken is a token that ran out an hour ago.
func oldToken(t *testing.T) string {
	t.Helper()
	past := func() time.Time { return time.Now().Add(-2 * time.Hour) }
	v, err := auth.NewVerifier(auth.Config{Venue: venue, Secret: []byte(secret)}, past)
	if err != nil {
		t.Fatal(err)
	}
	token, err := v.Mint(auth.Grant{Subject: "staff_1", Org: "org_1", Venue: venue, Role: event.Waiter}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return token
}
