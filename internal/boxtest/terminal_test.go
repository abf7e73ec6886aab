package boxtest

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/lan/span/redistest"
	"github.com/avoqado/avoqado-edge/internal/needs"
)

// exampleTerminal is a terminal of TERMINALS.md: its code, on a command line.
type exampleTerminal struct {
	t       *testing.T
	command []string
	dir     string // its disk
	serial  string
	env     []string
}

// inBothLanguages runs a test with the terminal in JavaScript and in Kotlin.
func inBothLanguages(t *testing.T, test func(t *testing.T, e exampleTerminal)) {
	t.Helper()
	examples := filepath.Join(RepositoryRoot(), "internal", "spec", "examples")
	jar := filepath.Join(examples, "kotlin", "target", "terminal.jar")
	for language, command := range map[string][]string{
		"JavaScript": {"node", filepath.Join(examples, "terminal.mjs")},
		"Kotlin":     {"java", "-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-jar", jar},
	} {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			command[0] = needs.Program(t, command[0])
			for _, built := range []string{jar, filepath.Join(examples, "node_modules", "bonjour-service")} {
				if _, err := os.Stat(built); err != nil {
					needs.Missing(t, "the examples of a terminal are not built: run scripts/setup")
				}
			}
			test(t, exampleTerminal{t: t, command: command, dir: t.TempDir(), serial: "AVQD-1"})
		})
	}
}

// start runs it against a URL or the text of a QR code.
func (e exampleTerminal) start(where string) *Client {
	e.t.Helper()
	args := append(e.command[1:len(e.command):len(e.command)], where, filepath.Join(e.dir, "token"), e.serial, filepath.Join(e.dir, "outbox"))
	cmd := exec.Command(e.command[0], args...)
	cmd.Env = append(os.Environ(), e.env...)
	return startClient(e.t, "terminal", cmd)
}

// login is what the back-end gave it last.
func (e exampleTerminal) login(token string) {
	e.t.Helper()
	if err := os.WriteFile(filepath.Join(e.dir, "token"), []byte(token), 0o600); err != nil {
		e.t.Fatal(err)
	}
}

func payment(id string) map[string]any {
	return map[string]any{"event": "payment_completed", "payload": map[string]any{
		"paymentId": id, "amount": "120.50", "currency": "MXN", "venueId": Venue,
	}}
}

// receipt is the ack of a sale that is stored.
type receipt struct {
	Durability string
	Duplicate  bool
}

func stored(t *testing.T, c *Client) (ack receipt) {
	t.Helper()
	if err := json.Unmarshal(c.Expect("stored", 60*time.Second).Payload(), &ack); err != nil || ack.Durability != "stored" {
		t.Fatalf("%+v, %v", ack, err)
	}
	return ack
}

// status waits until a waiter reads this.
func status(t *testing.T, c *Client, text string, within time.Duration) {
	t.Helper()
	c.expect(text, within, func(l Line) bool { return l.Kind == "status" && strings.Contains(l.Message, text) })
}

// TestTerminalOutbox cuts the terminal and the box off between everything: each
// sale is in the journal once, in order.
func TestTerminalOutbox(t *testing.T) {
	t.Parallel()
	inBothLanguages(t, func(t *testing.T, e exampleTerminal) {
		box := StartBox(t, BoxConfig{})
		wifi := StartWifi(t, box.Addr())
		e.login(box.Token(event.Cashier, "c1", "AVQD-1"))
		c := e.start(wifi.URL())
		c.Expect("connect", 30*time.Second)
		c.command(payment("plain"))
		if stored(t, c).Duplicate {
			t.Error("the first sale is a repeat")
		}
		// unheard has the box store a sale whose ack does not arrive.
		unheard := func(id string) {
			t.Helper()
			before := box.Stored()
			wifi.Mute(true)
			c.command(payment(id))
			Eventually(t, 20*time.Second, "the sale is stored", func() bool { return box.Stored() > before })
		}
		unheard("the box dies before the ack")
		box.Kill()
		wifi.Mute(false)
		box.Start()
		if !stored(t, c).Duplicate {
			t.Error("a sale is stored twice: the box died before its ack")
		}
		unheard("the terminal dies before the ack")
		c.Kill()
		wifi.Mute(false)
		c = e.start(wifi.URL())
		if !stored(t, c).Duplicate {
			t.Error("a sale is stored twice: the terminal died before its ack")
		}
		box.Kill()
		c.command(payment("no box"))
		c.command(payment("still no box"))
		Eventually(t, 20*time.Second, "both sales are on the terminal's disk", func() bool {
			list, err := filepath.Glob(filepath.Join(e.dir, "outbox", "*.json"))
			return err == nil && len(list) == 2
		})
		c.Kill() // and again with nobody there
		box.Start()
		c = e.start(wifi.URL())
		for range 2 {
			if stored(t, c).Duplicate {
				t.Error("a sale that had not arrived is a repeat")
			}
		}
		// What the box will never take is put aside and stops nothing.
		for _, sale := range []string{"after it", "after it again"} {
			c.command(map[string]any{"event": "payment_completed", "payload": map[string]any{"paymentId": "no amount", "venueId": Venue}})
			c.command(payment(sale))
			if l := c.Expect("refused", 30*time.Second); !strings.Contains(l.Message, "amount") {
				t.Errorf("refused with %q", l.Message)
			}
			stored(t, c)
		}
		if list, err := filepath.Glob(filepath.Join(e.dir, "outbox", "refused", "*.json")); err != nil || len(list) != 2 {
			t.Errorf("put aside: %q, %v", list, err)
		}

		out, _, _ := box.Command("events", "list", "--json", "--payload")
		var order []string
		for line := range strings.Lines(out) {
			var said struct{ Payload struct{ PaymentID string } }
			if err := json.Unmarshal([]byte(line), &said); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			order = append(order, said.Payload.PaymentID)
		}
		want := "plain, the box dies before the ack, the terminal dies before the ack, no box, still no box, after it, after it again"
		if got := strings.Join(order, ", "); got != want {
			t.Errorf("the journal has %s", got)
		}
	})
}

// TestTerminalCharges: it charges a card once for an id, whoever dies in the
// middle, and says what became of it.
func TestTerminalCharges(t *testing.T) {
	t.Parallel()
	inBothLanguages(t, func(t *testing.T, e exampleTerminal) {
		broker := StartMosquitto(t, MosquittoConfig{})
		box := StartBox(t, BoxConfig{Broker: broker.URL()})
		cashier := box.Token(event.Cashier, "c1", "")
		e.login(box.Token(event.Cashier, "c1", "AVQD-1"))
		const path = "/api/v1/mobile/venues/" + Venue + "/terminal-payment"
		pos := func(id string) (status int, answer string) {
			return box.Do("POST", path, cashier, fmt.Sprintf(`{"requestId":%q,"terminalId":"AVQD-1","amountCents":12050}`, id))
		}
		charged := func(id string) {
			t.Helper()
			Eventually(t, time.Minute, id+" is paid", func() bool {
				status, answer := pos(id)
				return status == http.StatusOK && strings.Contains(answer, `"paymentId":"pay-`+id+`"`)
			})
		}
		c := e.start(box.URL())
		c.Expect("connect", 30*time.Second)
		charged("r1")
		c.Kill()

		// The card is charged, and then the power fails.
		e.env = []string{"HOLD=1"}
		c = e.start(box.URL())
		c.Expect("connect", 30*time.Second)
		go pos("r2") // answered once the terminal is back
		c.Expect("charged", 30*time.Second)
		c.Kill()
		e.env = nil
		c = e.start(box.URL())
		c.Expect("connect", 30*time.Second)
		charged("r2")

		// What became of one that it charged, and of one that it never saw.
		Eventually(t, 20*time.Second, "the cloud is there", func() bool { return box.Status().Uplink.State == "online" })
		for id, want := range map[string]string{"r1": `"status":"success"`, "r9": `"disposition":"NOT_FOUND"`} {
			broker.Publish(venueTopics+"/broadcasts", fmt.Sprintf(`{"id":"probe-%s","event":"terminal:payment_probe","payload":{"requestId":%[1]q,"terminalId":"AVQD-1"},"target":{"terminals":["AVQD-1"]}}`, id))
			Eventually(t, 20*time.Second, "it says what became of "+id, func() bool {
				out, _, _ := box.Command("events", "list", "--json", "--payload")
				for line := range strings.Lines(out) {
					if strings.Contains(line, "terminal:payment_probe_result") && strings.Contains(line, fmt.Sprintf(`"requestId":%q`, id)) {
						return strings.Contains(line, want)
					}
				}
				return false
			})
		}
		if _, answer := pos("r9"); !strings.Contains(answer, `"success":false`) {
			t.Errorf("what it never saw, it said, and now it charges: %s", answer)
		}

		// A box that has forgotten everything asks once more.
		box.Kill()
		if err := os.RemoveAll(box.StateDir()); err != nil {
			t.Fatal(err)
		}
		box.Start()
		c.Expect("connect", 60*time.Second)
		charged("r1")
		if _, answer := box.Do("POST", path, cashier, `{"requestId":"r2","terminalId":"AVQD-1","amountCents":1}`); strings.Contains(answer, "pay-r2") {
			t.Errorf("another amount under a known id: %s", answer)
		}
		raw, err := os.ReadFile(filepath.Join(e.dir, "outbox", "charged"))
		if err != nil || string(raw) != "r1\nr2\n" {
			t.Errorf("cards were charged with %q, %v", raw, err)
		}
	})
}

// TestTerminalObeys: it carries a command out once, and what it says of itself is
// acknowledged in other words.
func TestTerminalObeys(t *testing.T) {
	t.Parallel()
	inBothLanguages(t, func(t *testing.T, e exampleTerminal) {
		box := StartBox(t, BoxConfig{})
		e.login(box.Token(event.Cashier, "c1", "AVQD-1"))
		c := e.start(box.URL())
		c.Expect("connect", 30*time.Second)
		dashboard := startDashboard(t, box, box.URL())
		dashboard.EmitAck("tpv_command", map[string]any{"commandId": "c1", "terminalId": "AVQD-1", "type": "SYNC_DATA", "venueId": Venue}, 10*time.Second)
		c.Expect("doing", 20*time.Second)
		for range 3 { // that it has it, that it begins, what came of it
			c.Expect("stored", 20*time.Second)
		}
		Eventually(t, 20*time.Second, "the venue hears that it is done", func() bool {
			list := dashboard.Events("tpv_command_status_changed")
			return len(list) > 0 && strings.Contains(list[len(list)-1].Raw, `"newStatus":"COMPLETED"`)
		})
	})
}

// TestTerminalRecovers: it hears what it missed, and is told when that cannot be.
func TestTerminalRecovers(t *testing.T) {
	t.Parallel()
	inBothLanguages(t, func(t *testing.T, e exampleTerminal) {
		box := StartBox(t, BoxConfig{Env: []string{"AVOQADO_EDGE_LAN_PING_INTERVAL=1s"}})
		wifi := StartWifi(t, box.Addr())
		e.login(box.Token(event.Cashier, "c1", "AVQD-1"))
		c := e.start(wifi.URL())
		c.Expect("connect", 30*time.Second)
		dashboard := startDashboard(t, box, box.URL())
		say := func(order string) {
			t.Helper()
			dashboard.EmitAck("order_created", map[string]any{"orderId": order, "venueId": Venue, "total": 1}, 10*time.Second)
		}
		say("first")
		c.ExpectEvent("order_created", 10*time.Second)
		for range 3 { // a second each, with a ping: what was heard before is proven then
			told := len(c.Events("sync_status"))
			dashboard.EmitAck("order_status_changed", map[string]any{"orderId": "first", "status": "READY", "venueId": Venue}, 10*time.Second)
			Eventually(t, 20*time.Second, "a change is told", func() bool { return len(c.Events("sync_status")) > told })
		}
		wifi.Hold(true)
		wifi.Blip()
		say("missed")
		box.Kill() // a recovery outlives the box
		box.Start()
		wifi.Hold(false)
		again := c.Expect("connect", 60*time.Second)
		missed := c.ExpectEvent("order_created", 20*time.Second)
		if js := strings.HasSuffix(t.Name(), "JavaScript"); again.Recovered != js || strings.Contains(missed.Raw, `"replayed":true`) == js {
			t.Errorf("recovered %v, heard %s", again.Recovered, missed.Raw)
		}
		if strings.HasSuffix(t.Name(), "Kotlin") {
			return // whose client asks for no recovery, so none can fail
		}
		box.Kill()
		if err := os.RemoveAll(box.StateDir()); err != nil {
			t.Fatal(err)
		}
		box.Start()
		if l := c.Expect("reload", 60*time.Second); l.Reason != "session_unknown" {
			t.Errorf("told to reload for %q", l.Reason)
		}
	})
}

// TestTerminalStatus: what a waiter reads through an outage.
func TestTerminalStatus(t *testing.T) {
	t.Parallel()
	inBothLanguages(t, func(t *testing.T, e exampleTerminal) {
		broker := StartMosquitto(t, MosquittoConfig{})
		box := StartBox(t, BoxConfig{Broker: broker.URL()})
		e.login(box.Token(event.Cashier, "c1", "AVQD-1"))
		c := e.start(box.URL())
		status(t, c, "Al día", 60*time.Second)
		broker.Kill()
		c.command(payment("p1"))
		status(t, c, "Sin internet. Todo guardado en la caja: 1 de esta terminal por enviar", 60*time.Second)
		broker.Start()
		newNodeBackend(t, broker).listen()
		status(t, c, "Al día", 60*time.Second)
	})
}

// TestTerminalRenewsItsToken: when it has ended, and when it is accepted for the
// time of an outage.
func TestTerminalRenewsItsToken(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("waits until an outage is proven")
	}
	inBothLanguages(t, func(t *testing.T, e exampleTerminal) {
		broker := StartMosquitto(t, MosquittoConfig{})
		box := StartBox(t, BoxConfig{Broker: broker.URL()})
		good := func() string { return box.Token(event.Cashier, "c1", "AVQD-1") }
		then := func() time.Time { return time.Now().Add(-2 * time.Hour) }
		v, err := auth.NewVerifier(auth.Config{Venue: Venue, Secret: []byte(Secret)}, then)
		if err != nil {
			t.Fatal(err)
		}
		ended, err := v.Mint(auth.Grant{Subject: "c1", Org: "org1", Venue: Venue, Role: event.Cashier, Terminal: "AVQD-1"}, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		e.login(ended)
		c := e.start(box.URL())
		if l := c.Expect("connect_error", 60*time.Second); l.Message != "Token has expired" {
			t.Errorf("refused with %q", l.Message)
		}
		e.login(good())
		c.Expect("connect", 60*time.Second)
		c.Kill()

		broker.Kill()
		e.login(ended)
		c = e.start(box.URL())
		c.Expect("connect", 3*time.Minute)
		c.Expect("lease", time.Minute)
		e.login(good())
		c.Expect("connect", time.Minute)
		greeted := c.Events("authentication_success")
		Eventually(t, 20*time.Second, "it is greeted without a lease", func() bool {
			greeted = c.Events("authentication_success")
			return !strings.Contains(greeted[len(greeted)-1].Raw, "lease")
		})
	})
}

// TestTerminalPinsTheBox: from the QR code to a sale over TLS; and somebody else
// at the box's address is told nothing.
func TestTerminalPinsTheBox(t *testing.T) {
	t.Parallel()
	inBothLanguages(t, func(t *testing.T, e exampleTerminal) {
		box := StartBox(t, BoxConfig{Env: []string{"AVOQADO_EDGE_LAN_TLS=auto"}})
		e.login(box.Token(event.Cashier, "c1", "AVQD-1"))
		qr := box.qr()
		c := e.start(qr)
		if l := c.Expect("box", 30*time.Second); l.Message != "https://"+box.Addr() {
			t.Errorf("found %s", l.Message)
		}
		c.command(payment("p1"))
		stored(t, c)

		box.Kill()
		heard := impostor(t, box.Addr())
		c.Expect("connect_error", 60*time.Second)
		if heard() {
			t.Error("the terminal talks to somebody else at the address of the box")
		}
		box.Start()
		c.command(payment("p2"))
		stored(t, c)
		c.Kill()

		// A code of another box: this one is not taken for it.
		other := e.start(strings.Replace(qr, "key=", "key=00", 1))
		if !other.process.ended(60 * time.Second) {
			t.Error("a box with another key is taken")
		}
	})
}

// impostor listens in the place of a box with a certificate of its own, and ends
// when it is asked whether somebody talked to it.
func impostor(t *testing.T, addr string) (heard func() bool) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	var said atomic.Bool
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { said.Store(true) }))
	_ = s.Listener.Close()
	s.Listener = l
	s.StartTLS()
	t.Cleanup(s.Close)
	return func() bool { s.Close(); return said.Load() }
}

// qr is the text of the box's QR code.
func (b *Box) qr() string {
	b.t.Helper()
	out, stderr, code := b.Command("pair", "--json")
	var said struct{ QR string }
	if err := json.Unmarshal([]byte(out), &said); err != nil || said.QR == "" {
		b.t.Fatalf("pair ends with %d: %s%s", code, out, stderr)
	}
	return said.QR
}

// TestTerminalFindsTheBox runs TestMovedBox in a network of its own.
func TestTerminalFindsTheBox(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("waits for a box that is gone")
	}
	needs.Apart(t, "^TestMovedBox$")
}

// TestMovedBox: the box has another address than when it was paired, and is found
// by mDNS; and it moves once more while the terminal runs.
func TestMovedBox(t *testing.T) {
	t.Parallel()
	needs.OnlyApart(t)
	must := func(command string) {
		t.Helper()
		words := strings.Fields(command)
		run(t, words[0], words[1:]...)
	}
	for _, command := range []string{
		"ip link set lo up", "ip link add lan0 type veth peer name switch", "ip link set switch up", "ip link set lan0 up",
	} {
		must(command)
	}
	var network sync.Mutex // is one for both
	inBothLanguages(t, func(t *testing.T, e exampleTerminal) {
		network.Lock()
		defer network.Unlock()
		must("ip addr flush dev lan0")
		must("ip addr add 10.9.8.7/24 dev lan0")
		box := NewBox(t, BoxConfig{Extra: "discovery: {mode: builtin}"})
		box.env = append(box.env, "AVOQADO_EDGE_LAN_PING_INTERVAL=1s", "AVOQADO_EDGE_LAN_PING_TIMEOUT=1s", fmt.Sprintf("AVOQADO_EDGE_LAN_LISTEN=:%d", box.port))
		box.Start()
		e.login(box.Token(event.Cashier, "c1", "AVQD-1"))
		qr := box.qr()
		if !strings.Contains(qr, "a=10.9.8.7:") {
			t.Fatalf("the code is %s", qr)
		}
		c := e.start(strings.ReplaceAll(qr, "a=10.9.8.7:", "a=10.9.8.6:")) // where it was when it was paired
		if l := c.Expect("box", 60*time.Second); l.Message != fmt.Sprintf("http://10.9.8.7:%d", box.port) {
			t.Errorf("found %s", l.Message)
		}
		c.Expect("connect", 20*time.Second)
		must("ip addr del 10.9.8.7/24 dev lan0") // the router gives it another one
		must("ip addr add 10.9.8.8/24 dev lan0")
		if l := c.Expect("box", 90*time.Second); l.Message != fmt.Sprintf("http://10.9.8.8:%d", box.port) {
			t.Errorf("found %s", l.Message)
		}
		c.Expect("connect", 20*time.Second)
	})
}

// TestTerminalIsToldOfAGap: the other box of the venue said something that this
// one cannot give.
func TestTerminalIsToldOfAGap(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	inBothLanguages(t, func(t *testing.T, e exampleTerminal) {
		var boxes [2]*Box
		for i, id := range []string{"b1", "b2"} {
			boxes[i] = StartBox(t, BoxConfig{Env: []string{"REDIS_URL=" + redis.URL(), "AVOQADO_EDGE_BOX_ID=" + id}})
		}
		state := func(want string) {
			t.Helper()
			for _, box := range boxes {
				Eventually(t, 30*time.Second, "a box is "+want, func() bool { return box.Status().Boxes.State == want })
			}
		}
		state("joined")
		e.login(boxes[0].Token(event.Cashier, "c1", "AVQD-1"))
		c := e.start(boxes[0].URL())
		c.Expect("connect", 30*time.Second)
		there := startDashboard(t, boxes[1], boxes[1].URL())
		redis.Stop()
		state("alone")
		there.EmitAck("order_created", map[string]any{"orderId": "o1", "venueId": Venue}, 10*time.Second)
		redis.Start()
		state("joined")
		if l := c.Expect("reload", 30*time.Second); l.Reason != "other_box" {
			t.Errorf("told to reload for %q", l.Reason)
		}
	})
}
