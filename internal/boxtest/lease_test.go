package boxtest

import (
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
)

// closing reads a socket until the box closes it; an error if it does not.
func closing(ws *websocket.Conn) error {
	_ = ws.SetReadDeadline(time.Now().Add(5 * time.Second))
	var err error
	for err == nil {
		_, _, err = ws.ReadMessage()
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return errors.New("stays open")
	}
	return nil // closed, as it should be
}

// TestOfflineLease: a real box loses its broker, lets in the terminal that it
// knows with a token that has ended, records that, and ends it when the broker
// is back; also over a restart, and not for one that is revoked.
func TestOfflineLease(t *testing.T) {
	t.Parallel()
	broker := StartMosquitto(t, MosquittoConfig{})
	box := StartBox(t, BoxConfig{Broker: broker.URL(), Extra: "auth: {offline_grace: 2h, offline_role: WAITER}"})
	uplink := func(state string) {
		t.Helper()
		Eventually(t, 60*time.Second, "uplink "+state, func() bool { return box.Status().Uplink.State == state })
	}
	// old is a token that ended a while ago.
	old := func(ago time.Duration, role event.Role, terminal string) string {
		t.Helper()
		past := func() time.Time { return time.Now().Add(-ago - time.Hour) }
		v, err := auth.NewVerifier(auth.Config{Venue: Venue, Secret: []byte(Secret)}, past)
		if err != nil {
			t.Fatal(err)
		}
		token, err := v.Mint(auth.Grant{Subject: "w1", Org: "org1", Venue: Venue, Role: role, Terminal: terminal}, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	var seen strings.Builder
	at := 0
	knock := func(token string) (*websocket.Conn, string) {
		t.Helper()
		at++
		ws, answer := box.attacker(at, &seen).connect(`{"token":"`+token+`"}`, "", nil)
		switch {
		case ws == nil:
		case strings.HasPrefix(answer, "40"):
			t.Cleanup(func() { _ = ws.Close() })
		default:
			_ = ws.Close() // else it holds a place for some seconds, and the others find none
		}
		return ws, answer
	}
	const over = `44{"message":"Token has expired"}`
	uplink("online")
	token := old(10*time.Minute, event.Manager, "AVQD-1")
	var open *websocket.Conn                                // of the second
	for _, terminal := range []string{"AVQD-1", "AVQD-2"} { // both are known from now on
		var answer string
		if open, answer = knock(box.Token(event.Waiter, "w1", terminal)); !strings.HasPrefix(answer, "40") {
			t.Fatalf("a good token: %s", answer)
		}
	}
	if _, answer := knock(token); answer != over {
		t.Errorf("while the cloud is there: %s", answer)
	}
	broker.Publish(venueTopics+"/config", `{"version":1,"venueStatus":"ACTIVE","revoked":[{"device":"AVQD-2"}]}`)
	Eventually(t, 10*time.Second, "the revocation is in force", func() bool {
		_, answer := knock(box.Token(event.Waiter, "w1", "AVQD-2"))
		return strings.HasPrefix(answer, "44")
	})
	if err := closing(open); err != nil {
		t.Errorf("the socket of a revoked terminal: %v", err)
	}

	broker.Kill()
	var ws *websocket.Conn
	Eventually(t, 60*time.Second, "the outage is proven", func() bool {
		var answer string
		ws, answer = knock(token)
		return strings.HasPrefix(answer, "40")
	})
	greeting := ""
	for !strings.Contains(greeting, "authentication_success") {
		_, raw, err := ws.ReadMessage()
		if err != nil {
			t.Fatal(err)
		}
		greeting = string(raw)
	}
	if !strings.Contains(greeting, `"lease":{"until":"`) || !strings.Contains(greeting, `"role":"WAITER"`) {
		t.Errorf("the client is told %s", greeting)
	}
	for name, refused := range map[string]string{
		"beyond the grace": old(3*time.Hour, event.Waiter, "AVQD-1"), "never seen": old(10*time.Minute, event.Waiter, "AVQD-9"),
		"revoked": old(10*time.Minute, event.Waiter, "AVQD-2"), "a person": old(10*time.Minute, event.Waiter, ""),
	} {
		if _, answer := knock(refused); answer != over {
			t.Errorf("%s: %s", name, answer)
		}
	}
	if status, body := box.Do("GET", "/api/v1/session", token, ""); status != 200 || !strings.Contains(body, `"lease":{"until":"`) {
		t.Errorf("over HTTP: %d %s", status, body)
	}
	records := func() int {
		out, _, _ := box.Command("events", "list", "--json", "--payload")
		return strings.Count(out, `"event":"auth:lease_used"`)
	}
	if n := records(); n != 2 {
		t.Errorf("%d records of a socket and a request", n)
	}

	// The operator gives less by a lease, then none, then what it was.
	given, err := os.ReadFile(box.Config())
	if err != nil {
		t.Fatal(err)
	}
	reload := func(lease string) {
		t.Helper()
		text := strings.Replace(string(given), "offline_grace: 2h, offline_role: WAITER", lease, 1)
		if err := os.WriteFile(box.Config(), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, errs, code := box.Command("reload"); code != 0 {
			t.Fatal(errs)
		}
	}
	reload("offline_grace: 2h, offline_role: VIEWER")
	if err := closing(ws); err != nil {
		t.Errorf("the socket that has more by its lease: %v", err)
	}
	ws, answer := knock(token)
	if !strings.HasPrefix(answer, "40") {
		t.Fatalf("with less by the lease: %s", answer)
	}
	reload("offline_grace: 0s")
	if err := closing(ws); err != nil {
		t.Errorf("the socket of a lease that is not given any more: %v", err)
	}
	if _, answer := knock(token); answer != over {
		t.Errorf("without leases: %s", answer)
	}
	reload("offline_grace: 2h, offline_role: WAITER")

	// The box starts anew in the outage: what it knows is on disk.
	box.Stop()
	box.Start()
	Eventually(t, 60*time.Second, "the outage is proven again", func() bool {
		var answer string
		ws, answer = knock(token)
		return strings.HasPrefix(answer, "40")
	})
	if _, answer := knock(old(10*time.Minute, event.Waiter, "AVQD-2")); answer != over {
		t.Errorf("revoked, after a restart: %s", answer)
	}
	broker.Start()
	uplink("online")
	if err := closing(ws); err != nil {
		t.Errorf("the leased socket: %v", err)
	}
	if _, answer := knock(token); answer != over {
		t.Errorf("once the cloud is back: %s", answer)
	}
	if n := records(); n != 4 {
		t.Errorf("%d records of four uses", n)
	}
}
