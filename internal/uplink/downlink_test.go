package uplink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/avoqado/avoqado-edge/internal/cloud"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/testpart"
)

// say publishes to a topic under the test's prefix.
func say(t *testing.T, broker, topic string, retained bool, body string) {
	t.Helper()
	if err := cloud.Publish(t.Context(), cloud.Access{Broker: broker}, testPrefix+topic, retained, []byte(body)); err != nil {
		t.Fatal(err)
	}
}

// listener collects what is published.
type listener struct {
	mu   sync.Mutex
	said map[string][]string // by topic below the prefix
}

func listen(t *testing.T, broker string) *listener {
	t.Helper()
	return listenAs(t, broker, "listener")
}

func listenAs(t *testing.T, broker, client string) *listener {
	t.Helper()
	l := &listener{said: map[string][]string{}}
	o := mqtt.NewClientOptions().AddBroker(broker).SetClientID(client).SetDefaultPublishHandler(
		func(_ mqtt.Client, m mqtt.Message) {
			l.mu.Lock()
			defer l.mu.Unlock()
			topic := strings.TrimPrefix(m.Topic(), testPrefix)
			l.said[topic] = append(l.said[topic], string(m.Payload()))
		})
	c := mqtt.NewClient(o)
	if token := c.Connect(); token.Wait() && token.Error() != nil {
		t.Fatal(token.Error())
	}
	t.Cleanup(func() { c.Disconnect(100) })
	if token := c.Subscribe(testPrefix+"/#", 1, nil); token.Wait() && token.Error() != nil {
		t.Fatal(token.Error())
	}
	return l
}

func (l *listener) last(topic string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.said[topic]); n > 0 {
		return l.said[topic][n-1]
	}
	return ""
}

// all returns what was said on a topic, oldest first.
func (l *listener) all(topic string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.said[topic])
}

func online(t *testing.T, u *Uplink) {
	t.Helper()
	until(t, "online", func() bool { return u.Status().State == Online })
}

func TestBroadcastIsStoredOnceAndAcknowledgedAfter(t *testing.T) {
	broker := newMosquitto(t)
	w := newWire(t, broker.url())
	j := newMemory()
	u := newUplink(t, j, w.url(), nil)
	var full atomic.Bool
	full.Store(true)
	var refused atomic.Int32
	j.refuse = func(*event.Event) error {
		if full.Load() {
			refused.Add(1)
			return event.RefuseForNow("journal_full", "full", 10*time.Millisecond)
		}
		return nil
	}
	stop := running(t, "uplink", u.Run)
	online(t, u)

	// While the journal is full nothing is confirmed: after a restart of the
	// box the broker still has both, in order.
	b := cloud.Broadcast{ID: "b-1", Event: "menu_updated", Payload: []byte(`{"amount": 1e3,"x":[1]}`)}
	for _, id := range []event.ID{"b-1", "b-2", "b-1"} {
		b.ID = id
		if err := cloud.SendBroadcast(t.Context(), cloud.Access{Broker: broker.url()}, testPrefix, b); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "the box has tried", func() bool { return refused.Load() > 2 })
	stop()
	full.Store(false)
	again := newUplink(t, j, w.url(), nil)
	running(t, "uplink", again.Run)
	until(t, "both are stored", func() bool { s := again.Status(); return s.Broadcasts == 2 && s.Duplicates == 1 })
	if j.events[0].ID != "b-1" || j.events[1].ID != "b-2" || len(j.events) != 2 {
		t.Fatalf("stored %d events, %s first", len(j.events), j.events[0].ID)
	}
	e := &j.events[0]
	if e.Origin != event.Cloud || !e.Audience.Everyone() || e.DedupKey != "broadcast/b-1" || e.Digest != 0 ||
		e.Class != event.Service || !strings.HasPrefix(string(e.Payload), `{"amount": 1e3,"x":[1]`) {
		t.Errorf("stored %+v %s", e, e.Payload)
	}
	if m := again.Status().LastBroadcast; m == nil || m.ID != "b-2" {
		t.Errorf("last broadcast %+v", m)
	}

	// Confirmed, they do not come again; and the cursor passes them unsent.
	// The broker has the confirmations of the three when it has the status,
	// which goes behind them; that of the fourth may be lost with the link.
	online(t, again) // they came before it was
	heard := listen(t, broker.url())
	say(t, broker.url(), "/broadcasts", false, `{"id":"b-2b","event":"menu_updated","payload":{}}`)
	until(t, "the broker is told of it", func() bool { return strings.Contains(heard.last("/boxes/b1/status"), `"b-2b"`) })
	w.cut()
	until(t, "it connects again", func() bool { s := again.Status(); return s.Connects == 2 && s.State == Online })
	say(t, broker.url(), "/broadcasts", false, `{"id":"b-3","event":"menu_updated","payload":{}}`)
	until(t, "the next is stored", func() bool { return again.Status().Broadcasts == 4 })
	if s := again.Status(); s.Duplicates > 2 || s.Sent != 0 {
		t.Errorf("status %+v", s)
	}
	until(t, "cursor passes", func() bool { return j.Cursor(cursorName) == 4 })
}

// A back-end that sends again what it is not sure of, also to the next life of
// the box, shows nothing twice; an expired one is stored, too, and takes its id.
func TestBroadcastIdsOutliveARestart(t *testing.T) {
	broker := startBroker(t, "127.0.0.1:0").URL()
	dir := filepath.Join(t.TempDir(), "journal")
	sent := []string{
		`{"id":"b-1","event":"menu_updated","payload":{"n":1}}`,
		`{"id":"b-2","event":"menu_updated","payload":{"n":2},"expiresAt":"2020-01-01T00:00:00Z"}`,
		`{"id":"b-3","event":"menu_updated","payload":{"n":3},"target":{"roles":["MANAGER"]},"excludeRoles":["OWNER"]}`,
	}
	for n := range 3 {
		j, u, end := life(t, dir, broker, &till{})
		for _, body := range sent {
			say(t, broker, "/broadcasts", false, body)
		}
		stored, repeated := uint64(len(sent)), uint64(0)
		if n > 0 {
			stored, repeated = repeated, stored
		}
		until(t, "all are handled", func() bool { s := u.Status(); return s.Broadcasts == stored && s.Duplicates == repeated })
		events, err := j.Read(0, 10, 1<<20)
		if err != nil || len(events) != len(sent) {
			t.Fatalf("%d events stored, %v", len(events), err)
		}
		// In any order: they are said by three clients.
		slices.SortFunc(events, func(a, b event.Event) int { return strings.Compare(string(a.ID), string(b.ID)) })
		if e := events[1]; !e.Expired(time.Now()) {
			t.Errorf("expires %s", e.Expires)
		}
		if a := events[2].Audience; a.Everyone() || !slices.Equal(a.Except, []event.Role{event.Owner}) {
			t.Errorf("for %+v", a)
		}
		end()
	}
}

// Broadcasts wait for the journal in the broker, not in the box, and in order;
// events go on meanwhile, for they are what makes room.
type blank struct{ mqtt.Message }

func (blank) Topic() string   { return "" }
func (blank) Payload() []byte { return nil }

// The queue may be worked off before it is seen that something did not fit.
func TestOverflowIsSeenLate(t *testing.T) {
	d := newDownlink(newUplink(t, newMemory(), "tcp://127.0.0.1:1", nil))
	d.link = &link{}
	for range queueLength + 1 {
		d.receive(blank{})
	}
	for len(d.queue) > 0 {
		<-d.queue
	}
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { d.work(ctx); close(done) }()
	select {
	case <-done:
	case <-time.After(testpart.Patience):
		t.Error("it waits for ever, and hears nothing")
	}
}

func TestANoteThatFailsEndsNoLink(t *testing.T) {
	broker := startBroker(t, "127.0.0.1:0")
	j := newMemory()
	j.put = func(space string) (func(), error) {
		if space == noteSpace {
			return nil, errors.New("disk full")
		}
		return func() {}, nil
	}
	u, err := New(Config{Brokers: []string{broker.URL()}, Venue: "v1", Box: "b1"}, j, j, j, &till{}, quietLog())
	if err != nil {
		t.Fatal(err)
	}
	running(t, "uplink", u.Run)
	online(t, u)
	for i := range 3 {
		say(t, broker.URL(), "/broadcasts", false, fmt.Sprintf(`{"id":"b%d","event":"menu_updated","payload":{}}`, i))
		until(t, "it is stored", func() bool { return u.Status().Broadcasts == uint64(i+1) })
	}
	if st := u.Status(); st.Connects != 1 || st.Duplicates != 0 || st.LastBroadcast.ID != "b2" {
		t.Errorf("status %+v", st)
	}
}

func TestFloodOfBroadcasts(t *testing.T) {
	broker := newMosquitto(t) // the embedded one delivers again in any order
	backend := startBackend(t, broker.url(), false)
	j := newMemory()
	gate := make(chan struct{})
	var once sync.Once
	j.refuse = func(e *event.Event) error {
		select {
		case <-gate:
			return nil
		default:
			if e.Origin != event.Cloud {
				return nil
			}
			return errors.New("disk is slow")
		}
	}
	t.Cleanup(func() { once.Do(func() { close(gate) }) })
	u := newUplink(t, j, broker.url(), nil)
	running(t, "uplink", u.Run)
	online(t, u)
	s, err := newPublisher(t, broker.url())
	if err != nil {
		t.Fatal(err)
	}
	const n = 10 * queueLength
	flood := func(from, to int) {
		for i := from; i < to; i++ {
			s(testPrefix+"/broadcasts", fmt.Sprintf(`{"id":"f-%d","event":"menu_updated","payload":{}}`, i))
		}
	}
	flood(0, n/2)
	appendPayments(t, j, 100)
	until(t, "events pass by", func() bool { return count(t, backend) == 100 && u.Status().Synced == 100 })
	until(t, "the queue overflows", func() bool { return u.Status().Overflows > 0 })
	once.Do(func() { close(gate) })
	flood(n/2, n) // while the queue is worked off
	until(t, "all are stored", func() bool { return u.Status().Broadcasts == n })
	if n := u.Status().Connects; n < 2 {
		t.Error("the link was not cut after the overflow")
	}
	want := 0
	for _, e := range j.events {
		if e.Origin == event.Cloud {
			if string(e.ID) != fmt.Sprintf("f-%d", want) {
				t.Fatalf("broadcast %d is %s", want, e.ID)
			}
			want++
		}
	}
}

// newPublisher returns a function that publishes at QoS 1.
func newPublisher(t *testing.T, broker string) (func(topic, body string), error) {
	u, err := url.Parse(broker)
	if err != nil {
		return nil, err
	}
	o := mqtt.NewClientOptions().SetClientID("publisher")
	o.Servers = []*url.URL{u}
	c := mqtt.NewClient(o)
	if token := c.Connect(); token.Wait() && token.Error() != nil {
		return nil, token.Error()
	}
	t.Cleanup(func() { c.Disconnect(100) })
	return func(topic, body string) {
		if token := c.Publish(topic, 1, false, body); token.Wait() && token.Error() != nil {
			t.Error(token.Error())
		}
	}, nil
}

func TestRejectedMessages(t *testing.T) {
	broker := startBroker(t, "127.0.0.1:0")
	heard := listen(t, broker.URL())
	w := newWire(t, broker.URL())
	j := newMemory()
	u := newUplink(t, j, w.url(), nil)
	running(t, "uplink", u.Run)
	online(t, u)
	bad := []struct{ topic, code, body string }{
		{"/broadcasts", "not_json", `{`},
		{"/broadcasts", "not_json", "{\"id\":\"\xff\"}"},
		{"/broadcasts", "not_json", `{"id":"x","event":"menu_updated","payload":{},"newMember":1}`},
		{"/broadcasts", "not_json", `{"id":"x","event":"menu_updated","payload":{}} {}`},
		{"/broadcasts", "not_json", `{"id":7,"event":"menu_updated","payload":{}}`},
		{"/broadcasts", "not_json", `{"id":"x","event":"menu_updated","payload":{},"expiresAt":"soon"}`},
		{"/broadcasts", "not_json", `{"` + strings.Repeat("x", 200<<10) + `":1}`},
		{"/broadcasts", "bad_id", `{"event":"menu_updated","payload":{}}`},
		{"/broadcasts", "bad_id", `{"id":"` + strings.Repeat("x", 129) + `","event":"menu_updated","payload":{}}`},
		{"/broadcasts", "bad_event", `{"id":"x","event":"connect","payload":{}}`},
		{"/broadcasts", "bad_event", `{"id":"x","event":"tpv:log","payload":{}}`},
		{"/broadcasts", "bad_payload", `{"id":"x","event":"menu_updated"}`},
		{"/broadcasts", "bad_payload", `{"id":"x","event":"menu_updated","payload":[1]}`},
		{"/broadcasts", "bad_payload", `{"id":"x","event":"menu_updated","payload":{"a":` + strings.Repeat("[", 70) + strings.Repeat("]", 70) + `}}`},
		{"/broadcasts", "bad_target", `{"id":"x","event":"menu_updated","payload":{},"target":{"roles":[]}}`},
		{"/broadcasts", "bad_target", `{"id":"x","event":"menu_updated","payload":{},"target":{"tables":[""]}}`},
		{"/broadcasts", "too_large", `{"id":"x","event":"menu_updated","payload":{"x":"` + strings.Repeat("x", event.MaxPayload) + `"}}`},
		{"/broadcasts", "too_large", strings.Repeat("x", maxMessage+1)},
		{"/boxes/b1/commands", "not_json", `stop`},
		{"/boxes/b1/commands", "bad_id", `{"type":"status.report"}`},
		{"/boxes/b1/commands", "not_json", `{"id":"c","type":"status.report","newMember":1}`},
		{"/boxes/b1/commands", "not_json", `{"id":"c","type":"status.report","expiresAt":"soon"}`},
		{"/boxes/b1/commands", "too_large", strings.Repeat("x", maxMessage+1)},
		{"/config", "bad_config", `{}`},
		{"/config", "bad_config", `{"version":-1}`},
		{"/config", "bad_config", `{"version":1,"venueStatus":7}`},
		{"/config", "bad_revoked", `{"version":1,"revoked":[{}]}`},
		{"/config", "bad_revoked", `{"version":1,"revoked":[{"jti":"a","sub":"b"}]}`},
		{"/config", "bad_revoked", `{"version":1,"revoked":[{"sub":"b","until":"2026-01-01T00:00:00Z"}]}`},
		{"/config", "bad_revoked", `{"version":1,"revoked":[{"jti":"b","before":"2026-01-01T00:00:00Z"}]}`},
		{"/config", "not_json", `{"version":1`},
		{"/config", "not_json", "{\"version\":1,\"venueStatus\":\"\xff\"}"},
		{"/config", "too_large", strings.Repeat("x", maxMessage+1)},
		{"/boxes/b1/acks", "not_json", `through`},
		{"/boxes/b1/acks", "too_large", strings.Repeat("x", maxMessage+1)},
		{"/boxes/b1/acks", "not_json", `{"through":-1}`},
	}
	for i, c := range bad {
		say(t, broker.URL(), c.topic, false, c.body)
		until(t, "it is rejected", func() bool { return u.Status().Rejected == uint64(i+1) })
		kept, _ := j.All(RejectedSpace)
		var r Rejection
		if err := json.Unmarshal(kept[fmt.Sprintf("%03d", i+1)], &r); err != nil {
			t.Fatal(err)
		}
		if r.Code != c.code || r.Size != len(c.body) || r.Topic != testPrefix+c.topic || r.Number != uint64(i+1) ||
			string(r.Bytes) != c.body[:min(len(c.body), rejectedBytes)] {
			t.Errorf("%.60s: kept %s (%s), %d bytes of %d", c.body, r.Code, r.Reason, len(r.Bytes), r.Size)
		}
		if n := len(u.Status().RejectedFor); n > 1<<10 { // it is in the status topic, and more than a broker takes ends each link
			t.Errorf("%.60s: the reason has %d bytes", c.body, n)
		}
	}
	if s := u.Status(); s.Connects != 1 || j.Stored() != 0 || !strings.HasPrefix(s.RejectedFor, bad[len(bad)-1].code) {
		t.Errorf("status %+v, %d events stored", s, j.Stored())
	}
	until(t, "the back-end is told", func() bool {
		var r report
		_ = json.Unmarshal([]byte(heard.last("/boxes/b1/status")), &r)
		return r.Rejected != nil && r.Rejected.Count == uint64(len(bad))
	})

	// Confirmed, none of them comes again.
	w.cut()
	until(t, "online again", func() bool { s := u.Status(); return s.Connects == 2 && s.State == Online })
	say(t, broker.URL(), "/broadcasts", false, `{"id":"x","event":"menu_updated","payload":{}}`)
	until(t, "what comes behind is stored", func() bool { return u.Status().Broadcasts == 1 })
	if n := u.Status().Rejected; n != uint64(len(bad)) {
		t.Errorf("%d rejected, want %d", n, len(bad))
	}

	// The list is a ring, and its numbers go on after a restart.
	list, err := loadRejected(j, quietLog())
	if err != nil || list.last != uint64(len(bad)) {
		t.Fatalf("last %d: %v", list.last, err)
	}
	for range 2 * rejectedKept {
		if err := list.keep("t", 1, []byte("x"), unread("not_json", "x"), now()); err != nil {
			t.Fatal(err)
		}
	}
	if kept, _ := j.All(RejectedSpace); len(kept) != rejectedKept {
		t.Errorf("%d kept", len(kept))
	}
}

func TestParseBroadcast(t *testing.T) {
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	parse := func(body string) *event.Event {
		t.Helper()
		e, bad := parseBroadcast([]byte(body), "v1", at)
		if bad != nil {
			t.Fatalf("%s: %v", body, bad)
		}
		return e
	}
	e := parse(`{"id":"1","event":"payment_completed","payload":{"paymentId":"p1","amount":1.50},"expiresAt":"2026-11-23T11:00:00+02:00",
		"target":{"tables":["t1"],"roles":["MANAGER"]},"excludeRoles":["KITCHEN"]}`)
	if e.Subject != "p1" || e.Class != event.Money || e.CorrelationID == "" || !e.Expired(at) ||
		!slices.Equal(e.Audience.Tables, []string{"t1"}) || !slices.Equal(e.Audience.Except, []event.Role{"KITCHEN"}) || e.Audience.Everyone() {
		t.Errorf("%+v", e)
	}
	if old := parse(`{"id":"1","event":"menu_updated","payload":{},"expiresAt":"0001-01-01T00:00:00Z"}`); !old.Expired(at) {
		t.Error("what expired in the year 1 never does")
	}
	want := `{"paymentId":"p1","amount":1.50,"correlationId":"` + e.CorrelationID +
		`","timestamp":"2026-11-23T10:00:00.000Z","status":"completed","venueId":"v1"}`
	if string(e.Payload) != want {
		t.Errorf("payload %s\nwant    %s", e.Payload, want)
	}
	alert := `{"id":"1","event":"system_alert","payload":{"title":"x","targetRoles":["MANAGER","OWNER"]}`
	if e = parse(alert + `}`); !slices.Equal(e.Audience.Roles, []event.Role{"MANAGER", "OWNER"}) || e.Audience.Venue {
		t.Errorf("alert goes to %+v", e.Audience)
	}
	if e = parse(alert + `,"target":{"venue":true}}`); !e.Audience.Everyone() {
		t.Errorf("alert with a target goes to %+v", e.Audience)
	}
	for _, all := range []string{``, `,"target":null`, `,"target":{}`} {
		if e = parse(`{"id":"1","event":"menu_updated","payload":{"tableId":"t1"}` + all + `}`); !e.Audience.Everyone() {
			t.Errorf("%s goes to %+v", all, e.Audience)
		}
	}
}

func TestStatusTopicAndWill(t *testing.T) {
	broker := startBroker(t, "127.0.0.1:0")
	heard := listen(t, broker.URL())
	w := newWire(t, broker.URL())
	j := newMemory()
	appendPayments(t, j, 3)
	u := newUplink(t, j, w.url(), func(c *Config) {
		c.Confirm = Broker
		c.LANAddrs, c.Key = func() []string { return []string{"10.0.0.7:8443"} }, "a1b2"
	})
	stop := running(t, "uplink", u.Run)
	last := func() (r report) {
		_ = json.Unmarshal([]byte(heard.last("/boxes/b1/status")), &r)
		return r
	}
	until(t, "online, and then synced", func() bool { r := last(); return r.State == Online && r.Synced == 3 })
	if r := last(); r.Epoch != j.epoch || r.Stored != 3 || r.Version != "test" || !slices.Equal(r.LAN, []string{"10.0.0.7:8443"}) || r.Key != "a1b2" {
		t.Errorf("status %+v", r)
	}
	u.Interrupt(time.Hour)
	until(t, "the will speaks", func() bool { return heard.last("/boxes/b1/status") == will })
	u.Interrupt(0)
	until(t, "online again", func() bool { return last().State == Online })
	stop()
	until(t, "a farewell", func() bool { r := last(); return r.State == Offline && r.Synced == 3 })
	// Retained: who comes later hears it too.
	until(t, "retained", func() bool { return listenOnce(t, broker.URL()) != "" })
}

// listenOnce returns the retained status.
func listenOnce(t *testing.T, broker string) string {
	t.Helper()
	o := mqtt.NewClientOptions().AddBroker(broker).SetClientID("late")
	got := make(chan string, 1)
	c := mqtt.NewClient(o)
	if token := c.Connect(); token.Wait() && token.Error() != nil {
		t.Fatal(token.Error())
	}
	defer c.Disconnect(100)
	c.Subscribe(testPrefix+"/boxes/b1/status", 1, func(_ mqtt.Client, m mqtt.Message) { got <- string(m.Payload()) })
	select {
	case s := <-got:
		return s
	case <-time.After(10 * time.Second):
		return ""
	}
}
