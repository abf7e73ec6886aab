package lan_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
)

const logLine = `{"level":"warn","tag":"Pay","message":"x","terminalId":"T1","venueId":"venue_1","timestamp":1790000000000}`

func TestEventLimit(t *testing.T) {
	b := start(t, func(c *lanConfig) { c.MaxEventsPerWindow, c.RateWindow = 3, 90*time.Second })
	waiter, other := b.as(event.Waiter), b.as(event.Waiter) // one event each, to log in
	waiter.ask("payment_initiated", payment)
	waiter.ask("payment_initiated", payment)
	ack := waiter.ask("payment_initiated", payment)
	checkFailure(t, ack, "Rate limit exceeded", "429")
	if field(t, ack, "code") != `"rate_limit_exceeded"` || field(t, ack, "retryable") != "true" {
		t.Errorf("not named: %s", ack)
	}
	wait, err := strconv.Atoi(field(t, ack, "retryAfterMs"))
	if err != nil || wait < 1 || wait > 30_001 { // one of three per 90 s is handed back every 30 s
		t.Errorf("wrong word on a retry: %s", ack)
	}
	if said := waiter.want("error"); said != ack {
		t.Errorf("error says %s, ack %s", said, ack)
	}
	waiter.emit("payment_initiated", payment) // nobody waits for an ack
	waiter.want("error")
	if got := waiter.want("rate_limit_exceeded"); field(t, got, "retryAfterMs") == "" {
		t.Errorf("announced as %s", got)
	}
	if more := waiter.pending("rate_limit_exceeded"); len(more) > 0 {
		t.Errorf("announced again: %v", more)
	}
	if ack := other.ask("payment_initiated", payment); field(t, ack, "success") != "true" {
		t.Errorf("the other client pays for it: %s", ack)
	}
	if n := b.Stats().Rejected["rate_limit_exceeded"]; n != 2 {
		t.Errorf("%d counted", n)
	}
}

// TestEventLimitPasses has a client that is refused go on as it is told.
func TestEventLimitPasses(t *testing.T) {
	b := start(t, func(c *lanConfig) { c.MaxEventsPerWindow, c.RateWindow = 2, 2*time.Second })
	c := b.as(event.Waiter)
	refused := 0
	for accepted := 0; accepted < 4; {
		ack := c.ask("payment_initiated", payment)
		if field(t, ack, "success") == "true" {
			accepted++
			continue
		}
		refused++
		wait, err := strconv.Atoi(field(t, ack, "retryAfterMs"))
		if err != nil || wait < 1 || wait > 1002 {
			t.Fatalf("told to wait in %s", ack)
		}
	}
	if refused == 0 {
		t.Error("never refused")
	}
}

// TestTelemetryLeavesRoom has a storm of logs use up its share alone.
func TestTelemetryLeavesRoom(t *testing.T) {
	b := start(t, func(c *lanConfig) { c.MaxEventsPerWindow, c.RateWindow = 40, time.Hour })
	c := b.connect(auth.Grant{Subject: "s", Role: event.Waiter, Terminal: "T1"}, "T1")
	refused := false
	for i := 0; i < 40 && !refused; i++ {
		refused = field(t, c.ask("tpv:log", logLine), "success") != "true"
		if refused && i != 29 {
			t.Errorf("refused after %d logs", i)
		}
	}
	if !refused {
		t.Error("the storm was never refused")
	}
	for range 10 {
		if ack := c.ask("payment_initiated", payment); field(t, ack, "success") != "true" {
			t.Fatalf("a payment has to wait for logs: %s", ack)
		}
	}
	checkFailure(t, c.ask("payment_initiated", payment), "Rate limit exceeded", "429")
}

// from is a dialer that comes from another address of this machine.
func from(ip string) *websocket.Dialer {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	return &websocket.Dialer{NetDialContext: d.DialContext}
}

func TestAddressLimit(t *testing.T) {
	b := start(t, func(c *lanConfig) {
		c.MaxEventsPerWindow, c.MaxEventsPerAddress, c.RateWindow = 5, 6, time.Hour
	})
	one, two := b.as(event.Waiter), b.as(event.Waiter) // one event each, to log in
	for range 2 {
		one.ask("payment_initiated", payment)
		two.ask("payment_initiated", payment)
	}
	for range 3 { // counted against the socket, the last would have to wait for a fifth of the hour
		ack := one.ask("payment_initiated", payment)
		checkFailure(t, ack, "Rate limit exceeded", "429")
		if wait, err := strconv.Atoi(field(t, ack, "retryAfterMs")); err != nil || wait > 600_001 {
			t.Errorf("refusals are counted: %s", ack)
		}
	}
	ws, resp, err := from("127.0.0.2").Dial("ws://"+b.Addr().String()+"/socket.io/?EIO=4&transport=websocket", nil)
	if err != nil {
		t.Skipf("no second address here: %v", err)
	}
	_ = resp.Body.Close()
	three := b.on(ws)
	b.login(three, auth.Grant{Subject: "s", Role: event.Waiter}, "")
	if ack := three.ask("payment_initiated", payment); field(t, ack, "success") != "true" {
		t.Errorf("another address pays for it: %s", ack)
	}
}

// TestFailedHandshakes knocks with bad tokens, many at once, and lets a good
// one in meanwhile.
func TestFailedHandshakes(t *testing.T) {
	b := start(t)
	const knocks = 90
	var knocking []*client
	for range knocks {
		c := b.dial("", nil)
		c.raw(`40{"token":"x"}`)
		knocking = append(knocking, c)
	}
	until(t, "answers are held back, and some not given", func() bool {
		s := b.Stats()
		return s.Delayed > 0 && s.Refused["failed_handshakes"] > 0 && s.Refused["authentication"] == knocks
	})
	b.as(event.Waiter)
	answered, closed := 0, 0
	for _, c := range knocking {
		until(t, "an answer or the end", func() bool { return c.closed() || len(c.framesNow()) > 0 })
		if got := c.framesNow(); len(got) == 0 {
			closed++
		} else if answered++; got[0] != `44{"message":"Invalid token format"}` {
			t.Errorf("answered with %s", got)
		}
	}
	if s := b.Stats(); int64(closed) != s.Refused["failed_handshakes"] || answered < 30 {
		t.Errorf("%d answered, %d closed: %v", answered, closed, s.Refused)
	}
}

// TestDeadlines opens connections that then do not go on.
func TestDeadlines(t *testing.T) {
	b := start(t, func(c *lanConfig) {
		c.HeaderTimeout, c.BodyTimeout, c.ConnectTimeout = 300*time.Millisecond, 300*time.Millisecond, 2*time.Second
	})
	witness := b.as(event.Viewer)

	gone := func(c *client) { t.Helper(); until(t, "the transport is closed", c.closed) }
	silent := b.dial("", nil)
	refused := b.dial("", nil)
	refused.raw(`40{"token":"x"}`)
	left := b.as(event.Waiter)
	left.raw("41")
	polling, err := http.Get("http://" + b.Addr().String() + "/socket.io/?EIO=4&transport=polling")
	if err != nil {
		t.Fatal(err)
	}
	_ = polling.Body.Close()
	gone(silent)
	gone(refused)
	gone(left)
	until(t, "four without a session are counted", func() bool { return b.Stats().Refused["no_session"] == 4 })

	for _, sent := range []string{"", "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "} {
		hangs(t, b.Addr().String(), sent)
	}
	until(t, "two headers are counted", func() bool { return b.Stats().Refused["header_timeout"] == 2 })

	p := b.poll(t)
	path := strings.TrimPrefix(p.url, "http://"+b.Addr().String())
	hangs(t, b.Addr().String(), "POST "+path+" HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n42[")
	until(t, "a body is counted", func() bool { return b.Stats().Refused["body_timeout"] == 1 })
	for _, path := range []string{"/socket.io/?EIO=4&transport=polling&sid=unknown", "/none"} { // answered without reading it
		hangs(t, b.Addr().String(), "POST "+path+" HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n42[")
	}
	b.quiet(witness)
}

// hangs sends the beginning of a request and waits until the box hangs up.
func hangs(t *testing.T, address, request string) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(request)); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(patience))
	answer := make([]byte, 1024)
	for err == nil {
		var n int
		if n, err = c.Read(answer); strings.HasPrefix(string(answer[:n]), "HTTP/1.1 200") {
			t.Errorf("%q is answered with %q", request, answer[:n])
		}
	}
	if late, ok := err.(net.Error); ok && late.Timeout() { //nolint:errorlint // as it comes from the socket
		t.Errorf("%q: the box still waits", request)
	}
}

func TestMessageTooLarge(t *testing.T) {
	b := start(t)
	for _, body := range []io.Reader{
		bytes.NewReader(make([]byte, 1_000_001)),
		struct{ io.Reader }{strings.NewReader("4" + strings.Repeat("x", 1_000_000))}, // in chunks
	} {
		resp, err := http.Post(b.poll(t).url, "text/plain", body)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("polling: HTTP %d", resp.StatusCode)
		}
	}
	c := b.as(event.Waiter)
	c.raw("42[\"tpv:log\",\"" + strings.Repeat("x", 1_000_000) + "\"]")
	until(t, "the transport is closed", c.closed)
	until(t, "all are counted", func() bool { return b.Stats().Refused["message_too_large"] == 3 })
}

// TestSocketsOfOneDevice has a terminal come back again and again while its old
// sockets seem to live.
func TestSocketsOfOneDevice(t *testing.T) {
	b := start(t)
	login := auth.Grant{Subject: "s", Role: event.Waiter, Terminal: "T1"}
	other := b.connect(auth.Grant{Subject: "s", Role: event.Waiter, Terminal: "T2"}, "T2")
	var sockets []*client
	for range 7 {
		sockets = append(sockets, b.connect(login, "T1"))
	}
	for i, c := range sockets[:3] {
		until(t, fmt.Sprintf("socket %d is closed", i), c.closed)
	}
	for i, c := range append(sockets[3:], other) {
		if ack := c.ask("payment_initiated", payment); field(t, ack, "success") != "true" {
			t.Errorf("socket %d: %s", i, ack)
		}
	}
	if n := b.Stats().Refused["device_sockets"]; n != 3 {
		t.Errorf("%d counted", n)
	}
}

// TestReconnectStorm has 200 terminals come back at the same moment, as after
// the restart of an access point. Each logs in, joins, and pays once.
func TestReconnectStorm(t *testing.T) {
	const devices = 200
	b := start(t, func(c *lanConfig) { c.ConnectTimeout = time.Minute }) // however slow the machine
	witness := b.as(event.Viewer)
	tokens := make([]string, devices)
	for i := range tokens {
		id := fmt.Sprintf("T%d", i)
		tokens[i] = b.mint(auth.Grant{Subject: "staff_" + id, Role: event.Waiter, Terminal: id})
	}
	storm := func() {
		began := time.Now()
		clients := make([]*client, devices)
		var group sync.WaitGroup
		for i := range devices {
			group.Go(func() { clients[i] = b.comeBack(tokens[i], i) })
		}
		group.Wait()
		t.Logf("%d devices served in %s", devices, time.Since(began).Round(time.Millisecond))
		for i, c := range clients {
			if c == nil {
				t.Fatalf("device %d was not served", i)
			}
		}
		if n := b.Connections().ConnectionStats.Total; n != devices+1 {
			t.Errorf("%d sessions", n)
		}
		seen := make(map[string]bool)
		for range devices {
			seen[field(t, witness.want("payment_initiated"), "paymentId")] = true
		}
		if len(seen) != devices {
			t.Errorf("%d payments seen", len(seen))
		}
		for _, c := range clients { // the access point goes: no close frame
			_ = c.ws.NetConn().Close()
		}
	}
	storm()
	until(t, "the box misses them", func() bool { return b.Connections().ConnectionStats.Total == 1 })
	storm()
	if r := b.Stats().Refused; len(r) > 0 {
		t.Errorf("refused: %v", r)
	}
}

// comeBack does what a terminal does after a reconnect; nil: it was not served.
func (b *box) comeBack(token string, i int) *client {
	ws, resp, err := websocket.DefaultDialer.Dial("ws://"+b.Addr().String()+"/socket.io/?EIO=4&transport=websocket", nil)
	if err != nil {
		b.t.Errorf("device %d: %v", i, err)
		return nil
	}
	_ = resp.Body.Close()
	for _, say := range []struct{ send, expect string }{
		{"", "0{"},
		{`40{"token":"` + token + `"}`, "40{"},
		{"", `42["authentication_success"`},
		{`421["join_room",{"roomType":"venue","venueId":"venue_1"}]`, `431[{`},
		{fmt.Sprintf(`422["payment_initiated",{"paymentId":"p%d","amount":1,"currency":"MXN","venueId":"venue_1"}]`, i), `432[{`},
	} {
		if say.send != "" {
			if err := ws.WriteMessage(websocket.TextMessage, []byte(say.send)); err != nil {
				b.t.Errorf("device %d: %v", i, err)
				return nil
			}
		}
		for { // each message is progress of an overloaded box
			_ = ws.SetReadDeadline(time.Now().Add(4 * patience))
			_, got, err := ws.ReadMessage()
			if err != nil {
				b.t.Errorf("device %d: waiting for %s: %v", i, say.expect, err)
				return nil
			}
			if strings.HasPrefix(string(got), say.expect) {
				if say.expect[:2] == "43" && !strings.Contains(string(got), `"success":true`) {
					b.t.Errorf("device %d: %s", i, got)
				}
				break
			}
		}
	}
	_ = ws.SetReadDeadline(time.Time{})
	return &client{t: b.t, ws: ws}
}
