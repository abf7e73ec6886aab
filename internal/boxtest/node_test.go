package boxtest

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/needs"
)

// nodeBackend is the example of a back-end in Node that lies beside the
// description of the wires.
type nodeBackend struct {
	t            *testing.T
	dir          string
	file, broker string
	log          *output
}

func newNodeBackend(t *testing.T, broker *Mosquitto) *nodeBackend {
	t.Helper()
	dir := filepath.Join(RepositoryRoot(), "internal", "spec", "examples")
	for _, module := range []string{"mqtt", "better-sqlite3/build/Release"} {
		if _, err := os.Stat(filepath.Join(dir, "node_modules", module)); err != nil {
			needs.Missing(t, "the example of a back-end is not installed: run scripts/setup")
		}
	}
	n := &nodeBackend{t: t, dir: dir, file: filepath.Join(t.TempDir(), "backend.db"), broker: strings.Replace(broker.URL(), "tcp:", "mqtt:", 1), log: &output{}}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("node: %s", n.log)
		}
	})
	return n
}

func (n *nodeBackend) command(env ...string) *exec.Cmd {
	cmd := exec.Command(needs.Program(n.t, "node"), "backend.mjs", n.broker, Venue, n.file)
	cmd.Dir, cmd.Env = n.dir, append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = n.log, n.log
	return cmd
}

// listen starts it and returns when it listens.
func (n *nodeBackend) listen(env ...string) *process {
	n.t.Helper()
	cmd, said := n.command(env...), &output{}
	cmd.Stdout = said
	p := start(n.t, cmd)
	Eventually(n.t, 20*time.Second, "the back-end listens", func() bool { return strings.Contains(said.String(), "listening") })
	return p
}

// rows asks its database.
func (n *nodeBackend) rows(query string, into any) {
	n.t.Helper()
	const ask = `import Database from "better-sqlite3"; console.log(JSON.stringify(new Database(process.argv[1], { readonly: true }).prepare(process.argv[2]).all()))`
	cmd := exec.Command(needs.Program(n.t, "node"), "--input-type=module", "-e", ask, n.file, query)
	cmd.Dir = n.dir
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, into)
	}
	if err != nil {
		n.t.Fatalf("%s: %v\n%s", query, err, out)
	}
}

// TestNodeBackendKilled kills the example of a back-end while a box sells: each
// event has its effect once, in order. Then it speaks to the box.
func TestNodeBackendKilled(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("kills a process again and again")
	}
	broker := StartMosquitto(t, MosquittoConfig{Extra: []string{"max_queued_messages 100000"}})
	n := newNodeBackend(t, broker)
	box := StartBox(t, BoxConfig{Broker: broker.URL(), Compress: true})
	const events = 6000
	sold := sell(t, box, "node", events, func() {
		killed(t, 8, 1500*time.Millisecond, func() *exec.Cmd { return n.command() }, func() bool { return box.Stored() < events })
	})
	answers := answersTo(t, broker)
	p := n.listen(`ALERT={"level":"info","title":"Corte","message":"A las 23:00"}`, "COMMAND=b1 status.report")
	if !poll(2*time.Minute, func() bool { return box.Status().Journal.Backlog.Events == 0 }) {
		t.Fatalf("the box does not know that the back-end has everything: %+v", box.Status().Journal)
	}
	Eventually(t, 20*time.Second, "the command is answered", func() bool {
		all := answers()
		return len(all) > 0 && strings.Contains(all[0], `"status":"done"`)
	})
	Eventually(t, 20*time.Second, "the venue is told", func() bool {
		out, _, _ := box.Command("events", "list", "--limit", "3")
		return strings.Contains(out, "system_alert")
	})
	p.signal(syscall.SIGKILL)
	<-p.done

	var effects []struct {
		ID       string
		Sequence uint64
		Live     int
	}
	n.rows("SELECT id, sequence, live FROM effect ORDER BY n", &effects)
	if len(effects) != len(sold) {
		t.Errorf("%d effects of %d events", len(effects), len(sold))
	}
	count, before := map[string]int{}, uint64(0)
	for _, e := range effects {
		count[e.ID]++
		if e.Live == 0 && e.Sequence <= before {
			t.Errorf("effect of %d behind that of %d", e.Sequence, before)
		}
		if e.Live == 0 {
			before = e.Sequence
		}
	}
	for _, a := range sold {
		if count[string(a.ID)] != 1 {
			t.Errorf("event %d has had %d effects", a.Seq, count[string(a.ID)])
		}
	}
}

// TestNodeBackendLanes has it take the live lane, see holes, refuse an event.
func TestNodeBackendLanes(t *testing.T) {
	t.Parallel()
	broker := StartMosquitto(t, MosquittoConfig{})
	n := newNodeBackend(t, broker)
	n.listen("REFUSE=b9-4")
	topic := venueTopics + "/boxes/events-b9" // as a topic's end begins
	acks := heardOn(t, broker, topic+"/acks")
	send := func(lane string, seqs ...int) {
		t.Helper()
		var list []string
		for _, seq := range seqs {
			previous := fmt.Sprintf(`"previous":"%020d",`, seq-1)
			if lane == "/events/live" || seq == 1 {
				previous = ""
			}
			list = append(list, fmt.Sprintf(`{"specversion":"1.0","id":"b9-%d","source":"/venues/v1/boxes/b9","type":"io.avoqado.order_created","epoch":"e1","sequence":"%020d",%s"data":{}}`, seq, seq, previous))
		}
		broker.Publish(topic+lane, "["+strings.Join(list, ",")+"]")
	}
	hears := func(want string) {
		t.Helper()
		if !poll(10*time.Second, func() bool {
			all := acks()
			return len(all) > 0 && all[len(all)-1] == want
		}) {
			t.Fatalf("acks %s, not %s", acks(), want)
		}
	}
	Eventually(t, 10*time.Second, "acks are heard", func() bool {
		send("/events", 1)
		return len(acks()) > 0
	})
	hears(`{"epoch":"e1","through":1,"rejected":[]}`)
	send("/events/live", 3, 4, 1)
	send("/events", 5) // behind a hole
	hears(`{"epoch":"e1","through":1,"rejected":[]}`)
	send("/events", 2, 3, 4)
	hears(`{"epoch":"e1","through":4,"rejected":[{"sequence":"00000000000000000004","reason":"refused for practice"}]}`)
	send("/events", 4, 5)
	hears(`{"epoch":"e1","through":5,"rejected":[{"sequence":"00000000000000000004","reason":"refused for practice"}]}`)
	broker.Publish(topic+"/events", "nonsense")
	send("/events/live", 3)
	send("/events", 6)
	hears(`{"epoch":"e1","through":6,"rejected":[]}`)
	var effects []struct{ Sequence, Live int }
	n.rows("SELECT sequence, live FROM effect ORDER BY n", &effects)
	if got := fmt.Sprint(effects); got != "[{1 0} {3 1} {2 0} {5 0} {6 0}]" {
		t.Errorf("effects %s", got)
	}
	var early []struct{ Sequence int }
	if n.rows("SELECT sequence FROM early", &early); len(early) != 0 {
		t.Errorf("early positions are kept: %v", early)
	}
}

// TestNodeBackendAfterRestore brings a box back from a backup that is older than a
// payment. The terminal, which had no answer, sends it again: the box does not
// know it, so it comes at a new place, and the back-end knows its id.
func TestNodeBackendAfterRestore(t *testing.T) {
	t.Parallel()
	broker := StartMosquitto(t, MosquittoConfig{})
	n := newNodeBackend(t, broker)
	n.listen()
	box := StartBox(t, BoxConfig{Broker: broker.URL()})
	sold := func(event string) {
		t.Helper()
		terminal := StartJS(t, ClientConfig{URL: box.URL(), Token: box.Token("CASHIER", "c1", "AVQD-1"), Venue: Venue, Terminal: "AVQD-1"})
		terminal.ExpectEvent("authentication_success", 30*time.Second)
		ack := terminal.EmitAck(event, map[string]any{
			"venueId": Venue, "paymentId": "p1", "amount": "120.50", "currency": "MXN", "idempotencyKey": "key-payment-1",
		}, 10*time.Second)
		if !strings.Contains(string(ack), `"durability":"stored"`) || strings.Contains(string(ack), `"duplicate":true`) {
			t.Fatalf("ack of %s: %s", event, ack)
		}
		terminal.Kill()
	}
	type effect struct{ Epoch, ID, Type string }
	effects := func(wanted int) (list []effect) {
		t.Helper()
		Eventually(t, time.Minute, "the cloud has everything", func() bool { return box.Status().Journal.Backlog.Events == 0 })
		n.rows("SELECT epoch, id, type FROM effect WHERE id = 'key-payment-1' ORDER BY n", &list)
		if len(list) != wanted {
			t.Fatalf("effects of the payment: %+v, not %d", list, wanted)
		}
		return list
	}
	sold("payment_initiated")
	effects(1)
	file := filepath.Join(t.TempDir(), "box.tar")
	if _, errs, code := box.Command("backup", "--config", box.Config(), file); code != 0 {
		t.Fatal(errs)
	}
	sold("payment_completed") // one key for all that happens to a payment
	before := effects(2)
	box.Stop()
	if _, errs, code := box.Command("restore", file, "--force"); code != 0 {
		t.Fatal(errs)
	}
	box.Start()
	sold("payment_completed")
	if after := effects(2); !slices.Equal(after, before) {
		t.Errorf("%+v became %+v", before, after)
	}
	var positions []struct{ Through int }
	if n.rows("SELECT through FROM position", &positions); len(positions) != 2 {
		t.Errorf("positions %v: the payment did not come in a new epoch", positions)
	}
}

// TestNodeBackendSpeaks has it speak to the tables of a venue, ask a box, and
// revoke the tokens of a terminal.
func TestNodeBackendSpeaks(t *testing.T) {
	t.Parallel()
	broker := StartMosquitto(t, MosquittoConfig{})
	n := newNodeBackend(t, broker)
	box := StartBox(t, BoxConfig{Broker: broker.URL()})
	Eventually(t, 20*time.Second, "uplink online", func() bool { return box.Status().Uplink.State == "online" })
	near, far := startDashboard(t, box, box.URL()), startDashboard(t, box, box.URL())
	near.EmitAck("join_room", map[string]any{"roomType": "table", "venueId": Venue, "tableId": "t1"}, 10*time.Second)
	stolen := startTerminal(t, box, "AVQD-9")

	cmd, said := n.command(`ALERT={"level":"info","title":"Mesa 1","message":"Pide la cuenta"}`, `TARGET={"tables":["t1"]}`,
		"COMMAND=b1 status.report", `CONFIG={"version":1,"venueStatus":"ACTIVE","revoked":[{"device":"AVQD-9"}]}`), &output{}
	cmd.Stdout = said
	start(t, cmd)
	near.ExpectEvent("system_alert", 20*time.Second)
	Eventually(t, 20*time.Second, "the answer to the command", func() bool {
		return strings.Contains(said.String(), `"status":"done"`)
	})
	stolen.Expect("connect_error", 30*time.Second)
	if far.EmitAck("join_room", map[string]any{"roomType": "venue", "venueId": Venue}, 10*time.Second); len(far.Events("system_alert")) > 0 {
		t.Error("another table is told")
	}
}

// startTerminal starts the client of a terminal and waits until it is in.
func startTerminal(t *testing.T, box *Box, serial string) *Client {
	t.Helper()
	c := StartJava(t, ClientConfig{URL: box.URL(), Token: box.Token(event.Cashier, "c9", serial), Venue: Venue, Terminal: serial})
	c.ExpectAck(0, 30*time.Second)
	return c
}
