package boxtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/avoqado/avoqado-edge/internal/cloud"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/simulate"
	"github.com/avoqado/avoqado-edge/internal/spec"
)

const (
	boxTopics = "avoqado/v1/venues/" + Venue + "/boxes/b1/"
	serial    = "AVQD-2841548417"
)

// heard is one event of one client, or one message of the cloud's.
type heard struct {
	name    string
	payload []byte
}

// ear keeps what came, in order, and gives each away once.
type ear struct {
	name string
	mu   sync.Mutex
	all  []heard
	// Of those, what nobody asked for yet.
	fresh []heard
}

func (e *ear) hear(name string, payload []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, heard{name, payload})
	e.fresh = append(e.fresh, heard{name, payload})
}

func (e *ear) take(name string) ([]byte, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	i := slices.IndexFunc(e.fresh, func(h heard) bool { return h.name == name })
	if i < 0 {
		return nil, false
	}
	payload := e.fresh[i].payload
	e.fresh = slices.Delete(e.fresh, i, i+1)
	return payload, true
}

func (e *ear) everything() []heard {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.all)
}

// described is a venue whose every word is held against the document that its
// box serves.
type described struct {
	t       *testing.T
	spec    *spec.Spec
	schemas *Schemas
	box     *Box
	broker  *cloud.Broker
	sender  *simulate.Client // a manager who sends
	others  []*ear           // a manager at the table and a terminal, who hear
	reader  *simulate.Client // the terminal's
	ears    map[string]*ear  // of all, by their names
	cloud   ear
}

// TestEveryExampleIsTrue sends every example of the document through a real box:
// broadcasts through a broker, events of clients through sockets. What the box
// then says, to clients, in acks and to the cloud, is as the document has it.
func TestEveryExampleIsTrue(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs a whole box")
	}
	d := describe(t)
	for i := range d.spec.Events {
		if e := &d.spec.Events[i]; e.Row.Broadcast {
			d.broadcast(e)
		}
	}
	for i := range d.spec.Events {
		if e := &d.spec.Events[i]; e.Row.FromClients() && e.Row.Family == event.Session {
			d.send(e)
		}
	}
	for i := range d.spec.Events {
		if e := &d.spec.Events[i]; e.Row.FromClients() && e.Row.Family != event.Session {
			d.send(e)
		}
	}
	d.refusals()
	d.commands()
	d.everythingIsDescribed()
	d.cloudHeard()
}

func describe(t *testing.T) *described {
	t.Helper()
	d := &described{t: t, ears: map[string]*ear{}, cloud: ear{name: "cloud"}}
	var err error
	if d.spec, err = spec.Load(); err != nil {
		t.Fatal(err)
	}
	if d.broker, err = cloud.ListenBroker("127.0.0.1:0", slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background()) // the box stops after the test's own ends
	var wg sync.WaitGroup
	wg.Go(func() { _ = d.broker.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	d.listenAsCloud()

	d.box = StartBox(t, BoxConfig{Broker: d.broker.URL(), Confirm: "broker", Extra: "limits: {max_events_per_window: 100000}"})
	status, document := d.box.Do(http.MethodGet, "/asyncapi.yaml", "", "")
	if status != http.StatusOK {
		t.Fatalf("the document: %d %s", status, document)
	}
	if status, page := d.box.Do(http.MethodGet, "/docs", "", ""); status != http.StatusOK || !strings.Contains(page, "<h3>payment_completed</h3>") {
		t.Errorf("the page: %d, %d bytes", status, len(page))
	}
	d.schemas = ReadSchemas(t, []byte(document))
	Eventually(t, 20*time.Second, "uplink online", func() bool { return d.box.Status().Uplink.State == "online" })

	d.sender, _ = d.connect("sender", event.Manager, "staff_3", "")
	manager, one := d.connect("manager", event.Manager, "staff_1", "")
	reader, two := d.connect("terminal", event.Waiter, "staff_2", serial)
	d.reader, d.others = reader, []*ear{one, two}
	for _, room := range []string{`{"roomType":"table","venueId":"v1","tableId":"t1"}`, `{"roomType":"order","venueId":"v1","orderId":"o9"}`} {
		if ack, err := manager.EmitAck(t.Context(), "join_room", json.RawMessage(room)); err != nil || !bytes.Contains(ack, []byte(`"success":true`)) {
			t.Fatalf("join_room: %s %v", ack, err)
		}
	}
	return d
}

// listenAsCloud hears all that the box publishes.
func (d *described) listenAsCloud() {
	opts := mqtt.NewClientOptions().AddBroker(d.broker.URL()).SetClientID("listener").SetConnectTimeout(10 * time.Second)
	client := mqtt.NewClient(opts)
	if token := client.Connect(); !token.WaitTimeout(10*time.Second) || token.Error() != nil {
		d.t.Fatalf("connect to the broker: %v", token.Error())
	}
	d.t.Cleanup(func() { client.Disconnect(100) })
	token := client.Subscribe(boxTopics+"#", 1, func(_ mqtt.Client, m mqtt.Message) {
		d.cloud.hear(strings.TrimPrefix(m.Topic(), boxTopics), m.Payload())
	})
	if !token.WaitTimeout(10*time.Second) || token.Error() != nil {
		d.t.Fatalf("subscribe: %v", token.Error())
	}
}

func (d *described) connect(name string, role event.Role, subject, terminal string) (*simulate.Client, *ear) {
	d.t.Helper()
	e := &ear{name: name}
	d.ears[name] = e
	auth := map[string]any{"token": d.box.Token(role, subject, terminal)}
	if terminal != "" {
		auth["terminalId"] = terminal
	}
	c, err := simulate.Dial(d.t.Context(), simulate.ClientConfig{
		URL: d.box.URL(), Auth: auth, OnEvent: func(name string, payload json.RawMessage) { e.hear(name, payload) },
	})
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = c.Close() })
	return c, e
}

// broadcast sends a kind's example as the cloud does, and waits until a client
// hears it.
func (d *described) broadcast(e *spec.Event) {
	d.t.Helper()
	row, _ := event.Resolve(e.Row.Kind)
	id := "spec-" + e.Key()
	// A request to charge a card is void some minutes after it was made.
	today := regexp.MustCompile(`"timestamp":"[^"]*"`).ReplaceAll(e.Example, fmt.Appendf(nil, `"timestamp":%q`, event.FormatTime(time.Now())))
	message := fmt.Appendf(nil, `{"id":%q,"event":%q,"payload":%s}`, id, e.Row.Kind, today)
	d.check("mqtt.broadcasts", message)
	if err := cloud.Publish(d.t.Context(), cloud.Access{Broker: d.broker.URL()}, "avoqado/v1/venues/"+Venue+"/broadcasts", false, message); err != nil {
		d.t.Fatal(err)
	}
	d.expect(string(row.Kind), "the broadcast "+string(e.Row.Kind))
}

// send sends a kind's example as a client does, and holds the ack, and what the
// others hear of it, against the document.
func (d *described) send(e *spec.Event) {
	d.t.Helper()
	from := d.sender
	if e.Row.Terminal {
		from = d.reader
	}
	ctx, cancel := context.WithTimeout(d.t.Context(), 20*time.Second)
	defer cancel()
	ack, err := from.EmitAck(ctx, string(e.Row.Kind), json.RawMessage(e.Sent))
	if err != nil {
		d.t.Errorf("%s: no ack: %v", e.Row.Kind, err)
		return
	}
	d.check(e.Key()+".ack", ack)
	if row, _ := event.Resolve(e.Row.Kind); row.Shown() && row.Family != event.Session {
		d.expect(string(row.Kind), "the client's "+string(e.Row.Kind))
	}
}

// expect waits until one of those who hear has heard a kind.
func (d *described) expect(kind, what string) {
	d.t.Helper()
	if !poll(20*time.Second, func() bool {
		found := false
		for _, e := range d.others {
			_, ok := e.take(kind)
			found = found || ok
		}
		return found
	}) {
		d.t.Errorf("nobody heard %s", what)
	}
}

// refusals are acks, too.
func (d *described) refusals() {
	d.t.Helper()
	for _, c := range []struct {
		from          *simulate.Client
		kind, payload string
		schema        string
	}{
		{d.sender, "payment_completed", `{"paymentId":"p"}`, "Failure"},
		{d.sender, "join_room", `{"roomType":"table","venueId":"v2","tableId":"t1"}`, "Failure"},
		{d.reader, "order_deleted", `{"orderId":"o1","venueId":"v1"}`, "Failure"},
		{d.reader, "tpv_command_ack", `{"commandId":"c1","terminalId":"AVQD-1"}`, "TerminalFailure"},
	} {
		ack, err := c.from.EmitAck(d.t.Context(), c.kind, json.RawMessage(c.payload))
		if err != nil || !bytes.Contains(ack, []byte(`"success":false`)) {
			d.t.Errorf("%s %s: %s %v", c.kind, c.payload, ack, err)
			continue
		}
		d.check(c.schema, ack)
	}
}

// commands sends what else the cloud may.
func (d *described) commands() {
	d.t.Helper()
	for i := range d.spec.Topics {
		topic := &d.spec.Topics[i]
		if topic.FromBox || topic.Name == "broadcasts" {
			continue
		}
		address := strings.ReplaceAll(strings.ReplaceAll(spec.Prefix+topic.Address, "{venueId}", Venue), "{boxId}", "b1")
		if err := cloud.Publish(d.t.Context(), cloud.Access{Broker: d.broker.URL()}, address, topic.Retained, topic.Example); err != nil {
			d.t.Fatal(err)
		}
	}
	Eventually(d.t, 20*time.Second, "the command is answered", func() bool {
		_, ok := d.cloud.take("commands/results")
		return ok
	})
	if st := d.box.Status(); st.Uplink.Rejected != 0 {
		d.t.Errorf("the box rejected %d messages of the cloud", st.Uplink.Rejected)
	}
}

// everythingIsDescribed holds all that clients heard against the document.
func (d *described) everythingIsDescribed() {
	d.t.Helper()
	met := map[string]bool{}
	for name, e := range d.ears {
		for _, h := range e.everything() {
			met[h.name] = true
			if err := d.schemas.Check(strings.ReplaceAll(h.name, ":", ".")+".heard", h.payload); err != nil {
				d.t.Errorf("the %s heard %v", name, err)
			}
		}
	}
	// What does not happen in a venue without faults, limits or losses.
	rare := []string{"authentication_error", "rate_limit_exceeded", "sync_required"}
	for i := range d.spec.Events {
		if e := &d.spec.Events[i]; e.Heard() && !met[string(e.Row.Kind)] && !slices.Contains(rare, string(e.Row.Kind)) {
			d.t.Errorf("nobody heard %s", e.Row.Kind)
		}
	}
}

// cloudHeard holds all that the box published against the document, and finds
// every kind that travels in it.
func (d *described) cloudHeard() {
	d.t.Helper()
	stored := d.box.Stored()
	Eventually(d.t, 20*time.Second, "the cloud has everything", func() bool { return d.box.Status().Journal.SyncedThrough >= stored })
	Eventually(d.t, 20*time.Second, "the status is published", func() bool {
		for _, h := range d.cloud.everything() {
			if h.name == "status" && bytes.Contains(h.payload, []byte(`"lastBroadcast"`)) {
				return true
			}
		}
		return false
	})
	met, previous := map[string]bool{}, ""
	for _, h := range d.cloud.everything() {
		topic := "mqtt." + strings.ReplaceAll(h.name, "/", ".")
		if h.name == "acks" || h.name == "commands" { // the test's own
			continue
		}
		d.check(topic, h.payload)
		if h.name != "events" {
			continue
		}
		var batch []struct{ Type, Sequence, Previous string }
		if err := json.Unmarshal(h.payload, &batch); err != nil {
			d.t.Fatal(err)
		}
		for _, e := range batch {
			met[strings.TrimPrefix(e.Type, "io.avoqado.")] = true
			if e.Previous != previous || e.Sequence <= previous {
				d.t.Errorf("%s: previous is %q, and %q was before it", e.Sequence, e.Previous, previous)
			}
			previous = e.Sequence
		}
	}
	for i := range d.spec.Events {
		if e := &d.spec.Events[i]; e.Row.FromClients() && e.Travels() && !met[string(e.Row.Kind)] {
			d.t.Errorf("the cloud was not sent %s", e.Row.Kind)
		}
	}
}

func (d *described) check(schema string, payload []byte) {
	d.t.Helper()
	if err := d.schemas.Check(schema, payload); err != nil {
		d.t.Error(err)
	}
}
