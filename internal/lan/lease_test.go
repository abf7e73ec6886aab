package lan_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
)

func leased() *auth.Grant {
	end := time.Now().Add(23 * time.Hour).UTC().Truncate(time.Second)
	return &auth.Grant{
		Subject: "staff_1", Org: "org_1", Venue: venue, Role: event.Waiter, Held: event.Manager, Terminal: "abc", TokenID: "t1",
		Lease: end, Expires: end,
	}
}

// knock connects the transport, sends CONNECT and returns the first answer, empty
// if the transport was closed instead.
func (b *box) knock(login string) (*client, string) {
	c := b.dial("", nil)
	c.raw("40" + login)
	answer := ""
	until(b.t, "an answer to CONNECT", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.frames) > 0 {
			answer = c.frames[0]
			c.frames = c.frames[1:]
		}
		return answer != "" || c.ended != nil
	})
	return c, answer
}

func TestALeaseIsRecordedAndTold(t *testing.T) {
	b := start(t)
	other := b.as(event.Viewer)
	g := leased()
	b.door.grants.Store(g)
	c, answer := b.knock(`{"token":"old"}`)
	if !strings.HasPrefix(answer, "40{") {
		t.Fatalf("answer %q", answer)
	}
	end := `"` + event.FormatTime(g.Lease) + `"`
	for _, name := range []string{"authentication_success", "authenticate"} {
		said := c.want
		if name == "authenticate" {
			said = func(name string) string { return c.ask(name, `{}`) }
		}
		told := said(name)
		if lease := field(t, told, "lease"); lease != `{"until":`+end+`}` {
			t.Errorf("%s tells %s", name, told)
		}
	}
	b.quiet(other, "auth:lease_used")
	b.journal.mu.Lock()
	events := b.journal.events
	b.journal.mu.Unlock()
	if len(events) == 0 || events[0].Kind != event.LeaseUsed || events[0].Class != event.Money || events[0].Origin != event.Local || events[0].Terminal != "abc" {
		t.Fatalf("stored: %+v", events)
	}
	for key, want := range map[string]string{
		"userId": `"staff_1"`, "role": `"WAITER"`, "tokenRole": `"MANAGER"`, "terminalId": `"abc"`, "tokenId": `"t1"`,
		"via": `"socket"`, "address": `"127.0.0.1"`, "until": end, "venueId": `"venue_1"`,
	} {
		if got := field(t, string(events[0].Payload), key); got != want {
			t.Errorf("%s is %s, want %s", key, got, want)
		}
	}
	if n := b.Stats().Leases; n != 1 {
		t.Errorf("%d leases are counted", n)
	}

	// The cloud can be reached again: the verifier knows no lease any more.
	b.door.grants.Store(nil)
	b.door.fails.Store(true)
	wait(t, c)
	if _, answer := b.knock(`{"token":"old"}`); answer != `44{"message":"Token has expired"}` {
		t.Errorf("answer %q", answer)
	}
	if other.closed() {
		t.Error("a session without a lease is ended, too")
	}
}

// TestALeaseThatGivesLess ends the session that has more by it.
func TestALeaseThatGivesLess(t *testing.T) {
	b := start(t)
	g := leased()
	g.Role, g.Held = event.Manager, ""
	b.door.grants.Store(g)
	c, answer := b.knock(`{"token":"old"}`)
	if !strings.HasPrefix(answer, "40{") {
		t.Fatalf("answer %q", answer)
	}
	until(t, "it is in", func() bool { return b.Connections().ConnectionStats.Total == 1 })
	if n := b.VerifyAgain(); n != 0 {
		t.Fatalf("%d sessions end, and nothing has changed", n)
	}
	less := *g
	less.Role, less.Held = event.Waiter, event.Manager
	b.door.grants.Store(&less)
	wait(t, c)
}

// TestALeaseInALoop: a client that comes back for ever, from all over its network
// and under ever new names, leaves a record a minute, and is let in each time.
func TestALeaseInALoop(t *testing.T) {
	b := start(t)
	g := leased()
	g.Terminal = ""
	b.door.grants.Store(g)
	for n := range 8 {
		if _, answer := b.knock(fmt.Sprintf(`{"token":"old","terminalId":"AVQD-%d"}`, n)); !strings.HasPrefix(answer, "40{") {
			t.Fatalf("answer %q", answer)
		}
	}
	records := func() int {
		b.journal.mu.Lock()
		defer b.journal.mu.Unlock()
		n := 0
		for i := range b.journal.events {
			if b.journal.events[i].Kind == event.LeaseUsed {
				n++
			}
		}
		return n
	}
	if n := records(); n != 1 {
		t.Errorf("%d records of a client in a loop", n)
	}
	for n := range 8 {
		if r := b.Leased(t.Context(), *g, fmt.Sprintf("fd00:0:0:1::%x", n)); r != nil {
			t.Fatal(r)
		}
	}
	if n := records(); n != 2 {
		t.Errorf("%d records with a program in a loop, whose machine has many addresses", n)
	}
}

// wait waits until the box has closed the transport, sooner than the heartbeat or
// the sweep of each minute would.
func wait(t *testing.T, c *client) {
	t.Helper()
	soon := time.Now().Add(20 * time.Second)
	until(t, "the transport is closed", func() bool { return c.closed() || time.Now().After(soon) })
	if !c.closed() {
		t.Fatal("the transport stays open")
	}
}

func TestNoLeaseWithoutARecord(t *testing.T) {
	b := start(t)
	b.door.grants.Store(leased())
	b.journal.set(func() { b.journal.refuse = errors.New("disk is full") })
	if _, answer := b.knock(`{"token":"old"}`); answer != "" { // no CONNECT_ERROR: the client tries again
		t.Errorf("answer %q", answer)
	}
	g := *leased()
	if r := b.Leased(t.Context(), g, "10.0.0.1"); r == nil || !r.Retryable || r.Status != http.StatusServiceUnavailable {
		t.Errorf("over HTTP: %+v", r)
	}
	b.journal.set(func() { b.journal.refuse, b.journal.hold = nil, true })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if r := b.Leased(ctx, g, "10.0.0.1"); r == nil {
		t.Error("over HTTP, before it is on disk: allowed")
	}
	b.journal.release()
	before := b.journal.Stored()
	for _, address := range []string{"10.0.0.1", "10.0.0.1", "10.0.0.2"} {
		if r := b.Leased(t.Context(), g, address); r != nil {
			t.Errorf("from %s: %v", address, r)
		}
	}
	g.TokenID = "t2"
	if r := b.Leased(t.Context(), g, "10.0.0.1"); r != nil {
		t.Errorf("another token: %v", r)
	}
	if n := b.journal.Stored() - before; n != 3 {
		t.Errorf("%d records of three uses", n)
	}
	g.Lease = time.Time{}
	if r := b.Leased(t.Context(), g, "10.0.0.3"); r != nil || b.journal.Stored() != before+3 {
		t.Errorf("a good token is recorded, %v", r)
	}
}

func TestASessionEndsWithItsToken(t *testing.T) {
	b := start(t)
	c := b.as(event.Waiter)
	b.door.lapsed.Store(true)
	wait(t, c)
}

func TestRevokedDevices(t *testing.T) {
	b := start(t)
	anonymous := b.mint(auth.Grant{Subject: "staff_1", Role: event.Waiter})
	own := b.mint(auth.Grant{Subject: "staff_1", Role: event.Waiter, Terminal: "abc"})
	login := `{"token":"` + anonymous + `","terminalId":"AVQD-ABC"}`
	one, _ := b.knock(login)
	two, _ := b.knock(`{"token":"` + own + `"}`)
	person, _ := b.knock(`{"token":"` + anonymous + `"}`)
	b.door.Enforce(auth.Policy{Revoked: []auth.Revocation{{Device: "AVQD-abc"}}})
	if n := b.VerifyAgain(); n != 2 {
		t.Errorf("%d sessions ended", n)
	}
	wait(t, one)
	wait(t, two)
	const gone = `44{"message":"Sesión cerrada. Inicia sesión de nuevo."}`
	for _, again := range []string{login, `{"token":"` + own + `"}`} {
		if _, answer := b.knock(again); answer != gone {
			t.Errorf("answer %q", answer)
		}
	}
	if person.closed() {
		t.Error("who was no terminal is ended, too")
	}
}

// TestRevokedByTheBackEndsID: a back-end knows terminals by ids of its own. Here
// the terminal says which is its own before it is taken back, and one after.
func TestRevokedByTheBackEndsID(t *testing.T) {
	b := start(t)
	one, two := b.terminal(serial), b.terminal("77")
	const other = "cm4terminal0000000000002"
	say := func(c *client, id string) {
		c.ask("tpv:heartbeat", `{"terminalId":"`+id+`","venueId":"venue_1","health":{}}`)
	}
	say(one, cuid)
	b.door.Enforce(auth.Policy{Revoked: []auth.Revocation{{Device: cuid}, {Device: other}}})
	if n := b.VerifyAgain(); n != 1 {
		t.Errorf("%d sessions ended", n)
	}
	wait(t, one)
	if _, err := b.door.Verify(b.mint(auth.Grant{Subject: "staff_1", Role: event.Waiter, Terminal: serial})); !errors.Is(err, auth.ErrRevoked) {
		t.Errorf("over HTTP: %v", err)
	}
	say(two, other)
	if n := b.VerifyAgain(); n != 1 {
		t.Errorf("%d sessions ended once the other id is known", n)
	}
	wait(t, two)
}

// TestATerminalSpeaksForItself: once a terminal shows tokens of its own, nobody
// is it without one.
func TestATerminalSpeaksForItself(t *testing.T) {
	b := start(t)
	anonymous := b.mint(auth.Grant{Subject: "staff_1", Role: event.Waiter})
	login := `{"token":"` + anonymous + `","terminalId":"AVQD-ABC"}`
	b.knock(login)
	if n := len(b.Terminals()); n != 1 {
		t.Fatalf("%d terminals before it is proven", n)
	}
	serial := "def"
	b.door.proven.Store(&serial)
	if _, answer := b.knock(`{"token":"` + anonymous + `","terminalId":"AVQD-DEF"}`); !strings.HasPrefix(answer, "40{") {
		t.Errorf("answer %q", answer)
	}
	until(t, "it is in", func() bool { return b.Connections().ConnectionStats.Total == 2 })
	for _, terminal := range b.Terminals() {
		if terminal.ID == serial {
			t.Errorf("it passes for %+v", terminal)
		}
	}
	if n := b.Stats().Refused["terminal_mismatch"]; n != 1 {
		t.Errorf("%d are counted", n)
	}
}

func TestHosts(t *testing.T) {
	b := start(t, func(c *lanConfig) { c.Hosts = []string{"avq-box1", "avq-box1.local", "box.Example.com."} })
	for host, good := range map[string]bool{
		"": true, "127.0.0.1": true, "127.0.0.1:8080": true, "[::1]:8080": true, "[fe80::1]": true, "192.168.1.77": true,
		"localhost": true, "LOCALHOST:80": true, "avq-box1": true, "avq-box1.local": true, "avq-box1.local.:8080": true,
		"avq-box1-2.local": true, "avq-box1-17.local:8080": true, "box.example.com": true,
		"evil.example": false, "evil.example:8080": false, "localhost.evil.example": false, "avq-box1.evil.example": false,
		"avq-box1.local.evil.example": false, "evil.local": false, "evil-2.local": false, "avq-box1-2": false, "avq-box1-x.local": false, "avq-box1-1234.local": false,
		"box.example.com.evil.example": false, "127.0.0.1.evil.example": false, "127.0.0.1.nip.io": false, "0x7f000001": false, "2130706433": false, "127.1": false,
		"[::1].evil.example": false, "[::1": false, "127.0.0.1:80:80": false, "127.0.0.1:evil.example": false, "evil.example#localhost": false,
		"localhost:8080evil": false, "user@localhost": false, "box.example.com,evil.example": false, "ｌocalhost": false,
	} {
		for _, path := range []string{"/none", "/socket.io/?EIO=4&transport=polling"} {
			c, err := net.Dial("tcp", b.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n")
			answer, _ := io.ReadAll(c)
			_ = c.Close()
			status, _, _ := strings.Cut(strings.TrimPrefix(string(answer), "HTTP/1.1 "), " ")
			if served := status == "200" || status == "418"; served != good || !good && status != "421" && status != "400" {
				t.Errorf("%s of host %q: %.40q", path, host, answer)
			}
		}
	}
}

// TestASessionStaysAtItsAddress: who learns the id of a session cannot go on with
// it from elsewhere.
func TestASessionStaysAtItsAddress(t *testing.T) {
	b := start(t)
	p := b.poll(t)
	thief := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).DialContext,
	}}
	upgrade := strings.Replace(p.url, "polling", "websocket", 1)
	for _, c := range []struct{ method, url, body string }{
		{"GET", p.url, ""}, {"POST", p.url, `42["payment_initiated",{}]`}, {"GET", upgrade, ""}, {"POST", p.url, "41"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, c.url, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		if c.url == upgrade {
			req.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}}
		}
		res, err := thief.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		answer, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if res.StatusCode != http.StatusBadRequest || string(answer) != `{"code":1,"message":"Session ID unknown"}` {
			t.Errorf("%s %s: %d %s", c.method, c.url, res.StatusCode, answer)
		}
	}
	if n := b.Stats().Refused["session_of_another"]; n != 4 {
		t.Errorf("%d are counted", n)
	}
}

// TestGuessesForOneTerminal come from ever new addresses and wait all the same.
func TestGuessesForOneTerminal(t *testing.T) {
	b := start(t)
	for n := range 32 {
		ws, resp, err := from(fmt.Sprintf("127.0.0.%d", 10+n)).Dial("ws://"+b.Addr().String()+"/socket.io/?EIO=4&transport=websocket", nil)
		if err != nil {
			t.Skipf("no second address here: %v", err)
		}
		_ = resp.Body.Close()
		c := b.on(ws)
		c.raw(`40{"token":"guess","terminalId":"AVQD-ABC"}`)
		c.frame()
	}
	if n := b.Stats().Delayed; n != 2 {
		t.Errorf("%d answers were held back", n)
	}
}
