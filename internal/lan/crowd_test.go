package lan_test

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
)

func (b *box) socketURL() string {
	return "ws" + strings.TrimPrefix(b.base(), "http") + "/socket.io/?EIO=4&transport=websocket"
}

// dialStatus opens a transport and returns it, or the status it was answered.
func (b *box) dialStatus(d *websocket.Dialer) (*websocket.Conn, int) {
	b.t.Helper()
	ws, resp, err := d.Dial(b.socketURL(), nil)
	if err == nil {
		_ = resp.Body.Close()
		b.t.Cleanup(func() { _ = ws.Close() })
		return ws, http.StatusSwitchingProtocols
	}
	if resp == nil {
		b.t.Fatal(err)
	}
	return nil, resp.StatusCode
}

// pollStatus begins a polling transport and returns what it is answered.
func (b *box) pollStatus() int {
	b.t.Helper()
	resp, err := http.Get("http://" + b.Addr().String() + "/socket.io/?EIO=4&transport=polling")
	if err != nil {
		b.t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") == "" {
		b.t.Error("no word on when to come back")
	}
	return resp.StatusCode
}

// TestTransportsOfOneAddress opens transports and says nothing on them: an
// address has half of the places for those, and the rest stays for the others.
func TestTransportsOfOneAddress(t *testing.T) {
	b := start(t, func(c *lanConfig) { c.MaxConnections, c.ConnectTimeout = 20, time.Minute })
	away := func(n int64) {
		t.Helper()
		if got := b.pollStatus(); got != http.StatusServiceUnavailable {
			t.Errorf("a polling one beyond the limit: HTTP %d", got)
		}
		if _, got := b.dialStatus(websocket.DefaultDialer); got != http.StatusServiceUnavailable {
			t.Errorf("a WebSocket beyond the limit: HTTP %d", got)
		}
		if got := b.Stats().Refused["address_transports"]; got != n {
			t.Errorf("%d counted, want %d", got, n)
		}
	}
	silent := []*client{b.dial("", nil), b.dial("", nil), b.dial("", nil)}
	for range 7 {
		if got := b.pollStatus(); got != http.StatusOK {
			t.Fatalf("a silent one within the limit: HTTP %d", got)
		}
	}
	away(2)

	ws, got := b.dialStatus(from("127.0.0.2"))
	if got != http.StatusSwitchingProtocols {
		t.Fatalf("another address pays for it: HTTP %d", got)
	}
	b.login(b.on(ws), auth.Grant{Subject: "s", Role: event.Waiter}, "")

	b.login(silent[0], auth.Grant{Subject: "s", Role: event.Waiter}, "") // has a session now
	silent = append(silent, b.dial("", nil))
	away(4)
	silent[0].raw("41") // has none any more
	until(t, "its session is gone", func() bool { return b.Connections().ConnectionStats.Total == 1 })
	_ = silent[1].ws.Close()
	until(t, "it is missed", func() bool { return b.Left()[3] == 11 })
	away(6)
	for _, c := range silent {
		_ = c.ws.Close()
	}
	until(t, "all that can end is missed", func() bool { return b.Left()[3] == 8 })
	for range 3 {
		b.dial("", nil)
	}
	away(8)
}

// TestTransportsAtOnce opens more than an address may have at the same moment,
// then closes them: none is left over, and no count either.
func TestTransportsAtOnce(t *testing.T) {
	b := start(t, func(c *lanConfig) { c.MaxConnections, c.ConnectTimeout = 20, time.Minute })
	for range 5 {
		var group sync.WaitGroup
		var open atomic.Int64
		gate := make(chan struct{})
		conns := make([]*websocket.Conn, 40)
		for i := range conns {
			group.Go(func() {
				<-gate
				ws, resp, err := websocket.DefaultDialer.Dial(b.socketURL(), nil)
				if err == nil {
					_ = resp.Body.Close()
					conns[i] = ws
					open.Add(1)
				}
			})
		}
		close(gate)
		group.Wait()
		if open.Load() < 10 {
			t.Errorf("only %d let in", open.Load())
		}
		until(t, "those too many are closed", func() bool { return b.Left()[3] <= 10 })
		for _, ws := range conns {
			if ws != nil {
				_ = ws.Close()
			}
		}
		until(t, "all are missed", func() bool { b.Sweep(); return b.Left() == [4]int{} })
	}
	for range 10 {
		b.dial("", nil)
	}
	if got := b.pollStatus(); got != http.StatusServiceUnavailable {
		t.Errorf("one beyond the limit: HTTP %d", got)
	}
}

// TestVenueBehindRouter has all devices of a venue at one address open their
// transports before any of them goes on, while each has an HTTP connection open
// besides.
func TestVenueBehindRouter(t *testing.T) {
	const devices = 200
	b := start(t)
	var transports []*client
	for range devices {
		_ = b.tcp("127.0.0.1")
		transports = append(transports, b.dial("", nil))
	}
	for _, c := range transports {
		b.login(c, auth.Grant{Subject: "s", Role: event.Waiter}, "")
	}
	if r := b.Stats().Refused; len(r) > 0 {
		t.Errorf("refused: %v", r)
	}
}

// tcp opens a connection from an address of this machine.
func (b *box) tcp(ip string) net.Conn {
	b.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	c, err := d.Dial("tcp", b.Addr().String())
	if err != nil {
		b.t.Skipf("no connection from %s here: %v", ip, err)
	}
	b.t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestConnectionsOfOneAddress opens TCP connections and says nothing on them:
// an address has a third of the places, and WebSockets take none of those.
func TestConnectionsOfOneAddress(t *testing.T) {
	b := start(t, func(c *lanConfig) { c.MaxConnections, c.HeaderTimeout = 10, time.Minute }) // 94 places
	const most = 31
	var sessions []*client
	for range 5 {
		sessions = append(sessions, b.as(event.Waiter))
	}
	var open []net.Conn
	for range 90 {
		open = append(open, b.tcp("127.0.0.1"))
	}
	until(t, "those too many are counted", func() bool { return b.Stats().Refused["address_connections"] == 90-most })
	living := 0
	for _, c := range open {
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); err != nil && isTimeout(err) {
			living++
		}
	}
	if living != most {
		t.Errorf("%d connections live", living)
	}
	ws, got := b.dialStatus(from("127.0.0.2"))
	if got != http.StatusSwitchingProtocols {
		t.Fatalf("another address: HTTP %d", got)
	}
	b.login(b.on(ws), auth.Grant{Subject: "s", Role: event.Waiter}, "")
	for _, c := range sessions {
		if ack := c.ask("payment_initiated", payment); field(t, ack, "success") != "true" {
			t.Errorf("who was in: %s", ack)
		}
	}
	for _, c := range open {
		_ = c.Close()
	}
	until(t, "the places are given back", func() bool {
		c := b.tcp("127.0.0.1")
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
		_ = c.SetReadDeadline(time.Now().Add(patience))
		answer, _ := io.ReadAll(c)
		return len(answer) > 0
	})
	b.as(event.Waiter)
	if r := b.Stats().Refused; len(r) != 1 {
		t.Errorf("refused: %v", r)
	}
}

func isTimeout(err error) bool {
	late, ok := err.(net.Error) //nolint:errorlint // as it comes from the socket
	return ok && late.Timeout()
}
