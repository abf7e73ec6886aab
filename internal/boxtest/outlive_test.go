package boxtest

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// guest is somebody who has everything open that a token opens.
type guest struct {
	*attacker
	token  string
	reader string // a terminal that never answers
	pid    string // of a session that it left, to be given back
	open   map[string]func() error

	charged chan answer // to the payment
}

// begin sends a request that the box answers late, and returns where the answer
// comes.
func (g *guest) begin(method, path, body string) (answers chan answer) {
	g.t.Helper()
	answers = make(chan answer, 1)
	req, err := http.NewRequestWithContext(g.t.Context(), method, g.box.URL()+path, strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+g.token)
	go func() {
		res, err := g.client.Do(req)
		if err != nil {
			answers <- answer{0, err.Error()}
			return
		}
		defer func() { _ = res.Body.Close() }()
		raw, _ := io.ReadAll(res.Body)
		answers <- answer{res.StatusCode, string(raw)}
	}()
	return answers
}

type answer struct {
	status int
	body   string
}

// polls opens a polling session that waits for what comes.
func (g *guest) polls() func() error {
	g.t.Helper()
	path := "/socket.io/?EIO=4&transport=polling"
	_, body, _ := g.do("GET", path, nil, "")
	var packet struct{ Sid string }
	if len(body) == 0 || json.Unmarshal([]byte(body[1:]), &packet) != nil {
		g.t.Fatalf("open packet %q", body)
	}
	path += "&sid=" + packet.Sid
	g.do("POST", path, nil, `40{"token":"`+g.token+`"}`)
	for greeted := ""; !strings.Contains(greeted, "authentication_success"); {
		if _, greeted, _ = g.do("GET", path, nil, ""); strings.HasPrefix(greeted, "44") {
			g.t.Fatal(greeted)
		}
	}
	return func() error {
		for range 20 { // what was on its way, then the end
			if status, _, _ := g.do("GET", path, nil, ""); status != http.StatusOK {
				return nil
			}
		}
		return errors.New("goes on")
	}
}

func (g *guest) socket(n int) func() error {
	g.t.Helper()
	ws, answer := g.connect(`{"token":"`+g.token+`"}`, "", nil)
	if ws == nil || !strings.HasPrefix(answer, "40") {
		g.t.Fatalf("socket %d: %s", n, answer)
	}
	g.t.Cleanup(func() { _ = ws.Close() })
	return func() error { return closing(ws) }
}

// settle opens everything.
func (g *guest) settle(n int) {
	g.t.Helper()
	const venue = "/api/v1/mobile/venues/" + Venue
	tail := g.tail(http.Header{"Authorization": {"Bearer " + g.token}})
	g.charged = g.begin("POST", venue+"/terminal-payment", fmt.Sprintf(`{"requestId":"r%d","terminalId":%q,"amountCents":100}`, n, g.reader))
	printed := g.begin("POST", venue+"/terminals/"+g.reader+"/print-receipt", `{"receipt":{"a":1}}`)
	refused := func(answers <-chan answer) func() error {
		return func() error {
			if a := <-answers; a.status != http.StatusGatewayTimeout || !strings.Contains(a.body, `"success":false`) {
				return fmt.Errorf("%d %s", a.status, a.body)
			}
			return nil
		}
	}
	g.open = map[string]func() error{
		"a socket": g.socket(n), "a polling session": g.polls(), "a tail": tail, "a payment": refused(g.charged), "a print": refused(printed),
	}
	ws, answer := g.connect(`{"token":"`+g.token+`"}`, "", nil)
	if ws == nil {
		g.t.Fatal(answer)
	}
	var told struct{ Pid string }
	if err := json.Unmarshal([]byte(answer[2:]), &told); err != nil || told.Pid == "" {
		g.t.Fatalf("no pid: %s", answer)
	}
	g.pid = told.Pid
	_ = ws.Close()
}

// TestNothingOutlivesItsToken opens all that stays open, takes the token back in
// each way that there is, and has each end.
func TestNothingOutlivesItsToken(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a revocation to reach many things")
	}
	t.Parallel()
	broker := StartMosquitto(t, MosquittoConfig{})
	box := StartBox(t, BoxConfig{Broker: broker.URL()})
	Eventually(t, 60*time.Second, "uplink online", func() bool { return box.Status().Uplink.State == "online" })
	var seen strings.Builder
	readers := &audience{t: t}
	boss := box.Token(event.SuperAdmin, "root", "")
	bystander, answer := box.attacker(900, &seen).connect(`{"token":"`+boss+`"}`, "", nil)
	if !strings.HasPrefix(answer, "40") {
		t.Fatal(answer)
	}
	defer func() { _ = bystander.Close() }()
	version := 0
	say := func(status, revoked string) {
		version++
		broker.Publish(venueTopics+"/config", fmt.Sprintf(`{"version":%d,"venueStatus":%q,"revoked":[%s]}`, version, status, revoked))
	}
	for n, c := range []struct{ name, status, revoked string }{
		{"the token is revoked", "ACTIVE", `{"jti":"%s"}`},
		{"the person is revoked", "ACTIVE", `{"sub":"g1"}`},
		{"the terminal is revoked", "ACTIVE", `{"device":"AVQD-GUEST-2"}`},
		{"the venue is suspended", "SUSPENDED", ``},
	} {
		g := &guest{attacker: box.attacker(n, &seen), token: box.Token(event.Manager, fmt.Sprint("g", n), fmt.Sprint("AVQD-GUEST-", n)), reader: fmt.Sprint("AVQD-READER-", n)}
		terminal, answer := box.attacker(100+n, &seen).connect(`{"token":"`+box.Token(event.Waiter, "reader", g.reader)+`"}`, "", nil)
		if !strings.HasPrefix(answer, "40") {
			t.Fatal(answer)
		}
		readers.watch(terminal)
		here := regexp.MustCompile(`(?i)"terminalId":"` + strings.TrimPrefix(g.reader, "AVQD-") + `"[^{}]*"isOnline":true`)
		Eventually(t, 20*time.Second, "the terminal is here", func() bool {
			_, body, _ := box.attacker(900, &seen).do("GET", "/api/v1/terminals", http.Header{"Authorization": {"Bearer " + boss}}, "")
			return here.MatchString(body) // it is listed, not online, as soon as its token was good
		})
		g.settle(n)
		// The payment is on its way.
		Eventually(t, 20*time.Second, "the payment is asked for", func() bool {
			status, body, _ := g.do("GET", "/api/v1/mobile/venues/"+Venue+"/terminal-payment/"+fmt.Sprint("r", n), http.Header{"Authorization": {"Bearer " + g.token}}, "")
			if len(g.charged) > 0 {
				a := <-g.charged
				t.Fatalf("%s: the payment was answered %d %s, then %d %s", c.name, a.status, a.body, status, body)
			}
			return strings.Contains(body, `"status":"SENT"`)
		})
		if c.revoked == `{"jti":"%s"}` {
			c.revoked = fmt.Sprintf(c.revoked, tokenID(t, g.token))
		}
		said := time.Now()
		say(c.status, c.revoked)
		type end struct {
			what string
			err  error
			took time.Duration
		}
		ends := make(chan end, len(g.open))
		for what, wait := range g.open {
			go func() { err := wait(); ends <- end{what, err, time.Since(said)} }()
		}
		for range g.open {
			e := <-ends
			if t.Logf("%s: %s ended after %s", c.name, e.what, e.took.Round(time.Millisecond)); e.err != nil {
				t.Errorf("%s: %s: %v", c.name, e.what, e.err)
			}
		}
		if _, answer := g.connect(`{"token":"`+g.token+`","pid":"`+g.pid+`","offset":""}`, "", nil); !strings.HasPrefix(answer, "44") {
			t.Errorf("%s: a session is given back: %s", c.name, answer)
		}
		if status, body, cookies := g.attacker.do("POST", "/api/v1/login", nil, `{"token":"`+g.token+`"}`); status == http.StatusOK || len(cookies) > 0 {
			t.Errorf("%s: a cookie: %d %s", c.name, status, body)
		}
		say("ACTIVE", "")
		Eventually(t, 20*time.Second, "nobody is revoked", func() bool {
			status, _, _ := g.do("GET", "/api/v1/session", http.Header{"Authorization": {"Bearer " + g.token}}, "")
			return status == http.StatusOK
		})
	}
	if err := bystander.WriteMessage(websocket.TextMessage, []byte(`421["authenticate",{}]`)); err != nil || closing(bystander) == nil {
		t.Errorf("who may stay is closed, too: %v", err)
	}
}

// tokenID returns the jti of a token.
func tokenID(t *testing.T, token string) string {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	var claims struct{ JTI string }
	if err = errors.Join(err, json.Unmarshal(raw, &claims)); err != nil || claims.JTI == "" {
		t.Fatalf("%s: %v", raw, err)
	}
	return claims.JTI
}
