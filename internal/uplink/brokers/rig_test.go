package brokers_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/avoqado/avoqado-edge/internal/boxtest"
	"github.com/avoqado/avoqado-edge/internal/cloud"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/journal"
	"github.com/avoqado/avoqado-edge/internal/testpart"
	"github.com/avoqado/avoqado-edge/internal/uplink"
	"github.com/avoqado/avoqado-edge/internal/uplink/brokers"
)

const (
	venueTopic = "avoqado/v1/venues/" + brokers.Venue
	boxTopic   = venueTopic + "/boxes/" + brokers.Box
)

// broker is what all brokers have in common.
type broker interface {
	URLs() []string
	CAFile() string
	Access(user string) cloud.Access
}

// mosquitto is a Mosquitto on configs/mosquitto.acl, and lets everybody in.
type mosquitto struct{ *boxtest.Mosquitto }

func (m mosquitto) URLs() []string { return []string{m.URL()} }
func (mosquitto) CAFile() string   { return "" }
func (m mosquitto) Access(user string) cloud.Access {
	return cloud.Access{Broker: m.URL(), Username: user}
}

// backend is a back-end that takes events.
type backend interface {
	Run(ctx context.Context, onEvent func(cloud.Effect)) error
	Online() bool
}

// rig is a box, a broker and a back-end.
type rig struct {
	t       *testing.T
	broker  broker
	store   *cloud.Backend
	backend backend
	gate    gate

	journal *journal.Journal
	box     *till
	uplink  *uplink.Uplink

	compress bool // for the next box

	// say sends a message of the back-end, ask a command, and awaits its answer.
	say func(topic, body string)
	ask func(cloud.Command) cloud.Result

	// restart has the broker fail and come back with its store; forgets says
	// that what was retained may be gone then.
	restart func()
	forgets bool
}

// newRig puts a box and a back-end on a broker. The back-end speaks MQTT.
func newRig(t *testing.T, b broker) *rig {
	t.Helper()
	store, err := cloud.OpenBackend(cloud.BackendConfig{
		Access: b.Access(brokers.Backend), Path: filepath.Join(t.TempDir(), "backend.db"), Prefix: "avoqado/v1/venues/+",
		IgnoreLive: true, // the total order is looked at
	}, testpart.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	r := &rig{t: t, broker: b, store: store, backend: store, journal: openJournal(t), box: &till{}}
	r.say = func(topic, body string) {
		r.t.Helper()
		r.must(cloud.Publish(r.context(), b.Access(brokers.Backend), topic, false, []byte(body)))
	}
	r.ask = func(c cloud.Command) cloud.Result {
		r.t.Helper()
		answer, err := cloud.SendCommand(r.context(), b.Access(brokers.Backend), venueTopic, brokers.Box, c)
		r.must(err)
		return answer
	}
	return r
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), testpart.Patience)
	r.t.Cleanup(cancel)
	return ctx
}

// startBackend runs the back-end until the end of the test.
func (r *rig) startBackend() {
	r.t.Helper()
	testpart.Run(r.t, "back-end", func(ctx context.Context) error { return r.backend.Run(ctx, r.gate.pass) })
	r.t.Cleanup(r.gate.open) // first: a back-end that is held would not end
	testpart.Until(r.t, "back-end listens", r.backend.Online)
}

// startBox runs a new uplink on the journal and returns when it is online.
func (r *rig) startBox() (stop func()) {
	r.t.Helper()
	u, err := uplink.New(uplink.Config{
		Brokers: r.broker.URLs(), CAFile: r.broker.CAFile(), Username: brokers.Box, Password: brokers.Password,
		Venue: brokers.Venue, Box: brokers.Box, Version: "test",
		RetryMin: 20 * time.Millisecond, RetryMax: time.Second, KeepAlive: 5 * time.Second, ConfirmWait: time.Second,
		Compress: r.compress, Live: true,
	}, r.journal, r.journal, r.journal, r.box, testpart.Log(r.t))
	r.must(err)
	r.uplink = u
	stop = testpart.Run(r.t, "uplink", u.Run)
	r.online()
	return stop
}

func (r *rig) online() {
	r.t.Helper()
	testpart.Until(r.t, "the box is online", func() bool { return r.uplink.Status().State == uplink.Online })
}

func (r *rig) count() int {
	r.t.Helper()
	n, err := r.store.Count()
	r.must(err)
	return int(n)
}

// events returns the events of an origin in the journal.
func (r *rig) events(origin event.Origin) []event.Event {
	r.t.Helper()
	var found []event.Event
	for after := event.Seq(0); ; {
		events, err := r.journal.Read(after, 1000, 1<<20)
		r.must(err)
		if len(events) == 0 {
			return found
		}
		for i := range events {
			after = events[i].Seq
			if events[i].Origin == origin {
				found = append(found, events[i])
			}
		}
	}
}

// retained returns what a broker keeps under a topic; empty if it is nothing, or
// if the broker does not answer yet.
func (r *rig) retained(topic string) string {
	a := r.broker.Access(brokers.Observer)
	kept := make(chan string, 1)
	o := mqtt.NewClientOptions().AddBroker(a.Broker).SetClientID("observer-" + string(event.NewID())).
		SetUsername(a.Username).SetPassword(a.Password).SetTLSConfig(a.TLS).SetAutoReconnect(false).
		SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) {
			if !m.Retained() {
				return
			}
			select {
			case kept <- string(m.Payload()):
			default:
			}
		})
	client := mqtt.NewClient(o)
	if done := client.Connect(); !done.WaitTimeout(testpart.Patience) || done.Error() != nil {
		return ""
	}
	defer client.Disconnect(100)
	if done := client.Subscribe(topic, 1, nil); !done.WaitTimeout(testpart.Patience) || done.Error() != nil {
		return ""
	}
	wait := time.NewTimer(time.Second) // there may be none
	defer wait.Stop()
	select {
	case body := <-kept:
		return body
	case <-wait.C:
		return ""
	}
}

// gate holds a back-end after an event, so that what is done then is done in the
// middle of a drain.
type gate struct {
	mu       sync.Mutex
	seen, at int
	reached  chan struct{}
	release  chan struct{}
}

// close has the back-end held after n more events. Wait for reached, then open.
func (g *gate) close(n int) (reached <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.at, g.reached, g.release = g.seen+n, make(chan struct{}), make(chan struct{})
	return g.reached
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.release != nil {
		close(g.release)
	}
	g.at, g.release = 0, nil
}

func (g *gate) pass(cloud.Effect) {
	g.mu.Lock()
	g.seen++
	held, reached, release := g.seen == g.at, g.reached, g.release
	g.mu.Unlock()
	if held {
		close(reached)
		<-release
	}
}

// till is a box that remembers what it was told.
type till struct {
	mu      sync.Mutex
	level   slog.Level
	inForce uplink.Settings
	bundles int
	held    chan struct{} // no bundle is finished until it is closed; nil: at once
}

func (b *till) Report() any { return map[string]string{"report": "well"} }

func (b *till) Diagnose(ctx context.Context, _ bool, _ int) (any, error) {
	b.mu.Lock()
	b.bundles++
	held := b.held
	b.mu.Unlock()
	if held != nil {
		select {
		case <-held:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return map[string]string{"diagnosis": "well"}, nil
}

// hold lets no bundle be finished until release is called.
func (b *till) hold() (release func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held = make(chan struct{})
	return sync.OnceFunc(func() { close(b.held) })
}

func (b *till) collections() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bundles
}

func (b *till) Now() time.Time { return time.Now() }

func (b *till) SetLogLevel(l slog.Level) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.level = l
}

func (b *till) Configure(s *uplink.Settings, _ json.RawMessage) (func(), error) {
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.inForce = *s
	}, nil
}

func (b *till) version() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.inForce.Version
}

func openJournal(t *testing.T) *journal.Journal {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "journal")
	o := journal.Options{Log: slog.New(slog.DiscardHandler)}
	if err := journal.Create(dir, o); err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	testpart.Run(t, "journal", j.Run)
	return j
}

// fill appends n events of 300 bytes, many at once, as many terminals do.
func (r *rig) fill(n int) {
	r.t.Helper()
	const writers = 64
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := w; i < n; i += writers {
				id := event.NewID()
				_, err := r.journal.Append(context.Background(), &event.Event{
					ID: id, Kind: event.PaymentCompleted, Origin: event.Terminal, Class: event.Money,
					Time: time.Now().UTC(), Subject: "pay_" + string(id), Actor: "staff_1", Role: event.Cashier,
					Terminal: "2841548417", CorrelationID: event.NewCorrelationID(),
					Payload: fmt.Appendf(nil, `{"paymentId":"pay_%s", "amount":120.50,"n":9007199254740993,"tip":1e3,"pad":"%s"}`,
						id, strings.Repeat("x", 180)),
				})
				if err != nil {
					r.t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}
