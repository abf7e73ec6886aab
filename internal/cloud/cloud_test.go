package cloud

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/testpart"
)

func startBroker(t *testing.T) *Broker {
	t.Helper()
	b, err := ListenBroker("127.0.0.1:0", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	testpart.Run(t, "broker", b.Run)
	return b
}

func openBackend(t *testing.T, cfg BackendConfig) *Backend {
	t.Helper()
	if cfg.Path == "" {
		cfg.Path = filepath.Join(t.TempDir(), "backend.db")
	}
	if cfg.Prefix == "" {
		cfg.Prefix = Prefix("v1")
	}
	b, err := OpenBackend(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// wireEvent returns an event as a box sends it.
func wireEvent(box string, seq, previous int) string {
	before := ""
	if previous > 0 {
		before = fmt.Sprintf(`"previous":"%020d",`, previous)
	}
	return fmt.Sprintf(`{"specversion":"1.0","id":"%s-%d","source":"/venues/v1/boxes/%s","type":"io.avoqado.payment_completed",`+
		`"time":"2026-11-23T10:00:00.000Z","epoch":"e1","sequence":"%020d",%s"data":{ "amount":1e3, "t":"<&>" }}`, box, seq, box, seq, before)
}

func batchOf(box string, from, to int) []byte {
	var list []string
	for i := from; i <= to; i++ {
		list = append(list, wireEvent(box, i, i-1))
	}
	return []byte("[" + strings.Join(list, ",") + "]")
}

// box publishes batches and collects acks.
type box struct {
	client mqtt.Client
	topic  string
	news   chan struct{} // there was an ack
	mu     sync.Mutex
	acks   []string
}

func newBox(t *testing.T, broker, name string) *box {
	t.Helper()
	x := &box{topic: Prefix("v1") + "/boxes/" + name, news: make(chan struct{}, 1)}
	x.client = mqtt.NewClient(mqtt.NewClientOptions().AddBroker(broker).SetClientID("box-" + name))
	if token := x.client.Connect(); token.Wait() && token.Error() != nil {
		t.Fatal(token.Error())
	}
	t.Cleanup(func() { x.client.Disconnect(100) })
	token := x.client.Subscribe(x.topic+"/acks", 1, func(_ mqtt.Client, m mqtt.Message) {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.acks = append(x.acks, string(m.Payload()))
		select {
		case x.news <- struct{}{}:
		default:
		}
	})
	if token.Wait() && token.Error() != nil {
		t.Fatal(token.Error())
	}
	return x
}

func (x *box) send(t *testing.T, sub string, body []byte) {
	t.Helper()
	if token := x.client.Publish(x.topic+sub, 1, false, body); token.Wait() && token.Error() != nil {
		t.Fatal(token.Error())
	}
}

func (x *box) heard() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	out := make([]string, 0, len(x.acks))
	for _, a := range x.acks {
		var w struct{ Through int }
		_ = json.Unmarshal([]byte(a), &w)
		out = append(out, fmt.Sprint(w.Through))
	}
	return strings.Join(out, " ")
}

func TestBackendKeepsTheContract(t *testing.T) {
	broker := startBroker(t)
	b := openBackend(t, BackendConfig{Access: Access{Broker: broker.URL()}})
	var seen []event.Seq
	testpart.Run(t, "back-end", func(ctx context.Context) error {
		return b.Run(ctx, func(e Effect) { seen = append(seen, e.Seq) })
	})
	testpart.Until(t, "online", b.Online)
	x, y := newBox(t, broker.URL(), "b1"), newBox(t, broker.URL(), "b2")
	hears := func(x *box, want string) {
		t.Helper()
		testpart.Until(t, "acks "+want, func() bool { return x.heard() == want })
	}
	x.send(t, "/events", batchOf("b1", 1, 3))
	hears(x, "3")
	x.send(t, "/events", batchOf("b1", 2, 5)) // half known
	hears(x, "3 5")
	x.send(t, "/events", batchOf("b1", 8, 9)) // 6 and 7 are missing
	hears(x, "3 5 5")
	x.send(t, "/events", []byte("["+wireEvent("b1", 6, 5)+","+wireEvent("b1", 8, 7)+"]"))
	hears(x, "3 5 5 6")
	x.send(t, "/events", []byte("["+wireEvent("b1", 9, 6)+"]")) // 7 and 8 came from the cloud
	hears(x, "3 5 5 6 9")
	y.send(t, "/events", batchOf("b2", 1, 1))
	hears(y, "1")
	y.send(t, "/events", []byte("nonsense"))
	y.send(t, "/events", []byte(`[{"specversion":"1.0"}]`))
	y.send(t, "/events/gzip", []byte("nonsense"))
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	if _, err := z.Write(batchOf("b2", 2, 200)); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	y.send(t, "/events/gzip", zipped.Bytes())
	hears(y, "1 200")
	if c := b.Counts(); c != (Counts{Duplicates: 2, Holes: 2, Rejected: 3}) {
		t.Errorf("counts %+v", c)
	}
	n, err := b.Count()
	if err != nil || n != 5+1+1+200 || len(seen) != int(n) {
		t.Errorf("%d effects, %d seen: %v", n, len(seen), err)
	}
	err = b.Each(func(e Effect) error {
		if string(e.Data) != `{ "amount":1e3, "t":"<&>" }` {
			return fmt.Errorf("%s: data %s", e.ID, e.Data)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestBackendAcceptsHolesIfTold(t *testing.T) {
	b := openBackend(t, BackendConfig{AcceptHoles: true})
	for _, e := range []Effect{{Seq: 1}, {Seq: 5, Previous: 4}} {
		c, err := b.commit([]Effect{e})
		if err != nil || len(c.fresh) != 1 || c.hole != (e.Seq == 5) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// What is sent while the back-end is away waits in the broker.
func TestBackendSessionIsKept(t *testing.T) {
	broker := startBroker(t)
	b := openBackend(t, BackendConfig{Access: Access{Broker: broker.URL()}})
	stop := testpart.Run(t, "back-end", func(ctx context.Context) error { return b.Run(ctx, nil) })
	testpart.Until(t, "online", b.Online)
	stop()
	x := newBox(t, broker.URL(), "b1")
	x.send(t, "/events", batchOf("b1", 1, 50))
	testpart.Run(t, "back-end", func(ctx context.Context) error { return b.Run(ctx, nil) })
	testpart.Until(t, "committed", func() bool { n, _ := b.Count(); return n == 50 })
	testpart.Until(t, "confirmed", func() bool { return x.heard() == "50" })
}

// TestBackendsBesideEachOther has two with files of their own listen at one
// broker: neither takes the other's session, and each keeps its name.
func TestBackendsBesideEachOther(t *testing.T) {
	broker := startBroker(t)
	access := Access{Broker: broker.URL()}
	path := filepath.Join(t.TempDir(), "a.db")
	a, b := openBackend(t, BackendConfig{Access: access, Path: path}), openBackend(t, BackendConfig{Access: access})
	stop := testpart.Run(t, "back-end", func(ctx context.Context) error { return a.Run(ctx, nil) })
	testpart.Run(t, "back-end", func(ctx context.Context) error { return b.Run(ctx, nil) })
	testpart.Until(t, "both listen", func() bool { return a.Online() && b.Online() })
	x := newBox(t, broker.URL(), "b1")
	x.send(t, "/events", batchOf("b1", 1, 50))
	testpart.Until(t, "both have it all", func() bool {
		n, _ := a.Count()
		m, _ := b.Count()
		return n == 50 && m == 50
	})
	if !a.Online() || !b.Online() {
		t.Error("one threw the other out")
	}
	stop()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if again := openBackend(t, BackendConfig{Access: access, Path: path}); again.cfg.ClientID != a.cfg.ClientID || again.cfg.ClientID == b.cfg.ClientID {
		t.Errorf("called %s, then %s; the other one %s", a.cfg.ClientID, again.cfg.ClientID, b.cfg.ClientID)
	}
}

// The back-end in a process of its own, killed while it works: every event has
// its effect once.
func TestBackendKilled(t *testing.T) {
	const fileVar, brokerVar = "CLOUD_TEST_FILE", "CLOUD_TEST_BROKER"
	if path := os.Getenv(fileVar); path != "" { // the process to be killed
		b, err := OpenBackend(BackendConfig{
			Access: Access{Broker: os.Getenv(brokerVar)}, Path: path, Prefix: Prefix("v1"),
		}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		_ = b.Run(t.Context(), nil)
		return
	}
	broker := startBroker(t)
	path := filepath.Join(t.TempDir(), "backend.db")
	first, err := OpenBackend(BackendConfig{Access: Access{Broker: broker.URL()}, Path: path, Prefix: Prefix("v1")}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	// From now on the broker keeps what comes. A back-end that does not know a box
	// takes the first that it hears of it for the beginning.
	stop := testpart.Run(t, "back-end", func(ctx context.Context) error { return first.Run(ctx, nil) })
	testpart.Until(t, "online", first.Online)
	stop()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	x := newBox(t, broker.URL(), "b1")
	start := func() *exec.Cmd {
		cmd := exec.Command(os.Args[0], "-test.run=^TestBackendKilled$")
		cmd.Env = append(os.Environ(), fileVar+"="+path, brokerVar+"="+broker.URL())
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	const batches, each = 120, 20
	for killed := range 3 {
		cmd := start()
		// A box sends from what is confirmed, again and again.
		want := (killed + 1) * batches / 3 * each
		testpart.Until(t, "progress", func() bool {
			through := 0
			if acks := strings.Fields(x.heard()); len(acks) > 0 {
				_, _ = fmt.Sscan(acks[len(acks)-1], &through)
			}
			for i := range 4 {
				from := through + i*each
				x.send(t, "/events", batchOf("b1", from+1, from+each))
			}
			select {
			case <-x.news:
			case <-time.After(200 * time.Millisecond):
			}
			return through >= want
		})
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	b := openBackend(t, BackendConfig{Path: path})
	next := event.Seq(1)
	err = b.Each(func(e Effect) error {
		if e.Seq != next {
			return fmt.Errorf("effect of %d where %d belongs", e.Seq, next)
		}
		next++
		return nil
	})
	if err != nil || next <= batches*each {
		t.Fatalf("%d effects: %v", next-1, err)
	}
}

func TestSendBroadcast(t *testing.T) {
	broker := startBroker(t)
	got := make(chan string, 1)
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(broker.URL()).SetClientID("x"))
	if token := c.Connect(); token.Wait() && token.Error() != nil {
		t.Fatal(token.Error())
	}
	t.Cleanup(func() { c.Disconnect(100) })
	c.Subscribe(Prefix("v1")+"/broadcasts", 1, func(_ mqtt.Client, m mqtt.Message) { got <- string(m.Payload()) }).Wait()
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	err := SendBroadcast(t.Context(), Access{Broker: broker.URL()}, Prefix("v1"), Broadcast{
		ID: "1", Event: event.SystemAlert, Payload: []byte(`{ "x":1.50, "t":"<&>" }`), ExpiresAt: &at,
		Target: &event.Audience{Roles: []event.Role{event.Manager}},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"id":"1","event":"system_alert","expiresAt":"2026-01-01T00:00:00Z","target":{"roles":["MANAGER"]},"payload":{ "x":1.50, "t":"<&>" }}`
	if s := <-got; s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
	if SendBroadcast(t.Context(), Access{Broker: broker.URL()}, "p", Broadcast{Payload: []byte("{")}) == nil {
		t.Error("a payload that is not JSON is sent")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := SendBroadcast(ctx, Access{Broker: broker.URL()}, "p", Broadcast{Payload: []byte("{}")}); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of ctx: %v", err)
	}
}

func TestBrokerBindsInTheConstructor(t *testing.T) {
	b, err := ListenBroker("127.0.0.1:0", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ListenBroker(b.Addr(), slog.New(slog.DiscardHandler)); err == nil {
		t.Error("the same port twice")
	}
	testpart.Run(t, "broker", b.Run)
}

// The broker ends while connections come in, and with some that say nothing.
func TestBrokerEnds(t *testing.T) {
	for range 20 {
		b, err := ListenBroker("127.0.0.1:0", slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		stop := testpart.Run(t, "broker", b.Run)
		connected := make(chan struct{}, 1)
		var callers sync.WaitGroup
		for range 4 {
			callers.Go(func() {
				for range 100 {
					c, err := net.Dial("tcp", b.Addr())
					if err != nil {
						return // closed
					}
					defer c.Close()
					select {
					case connected <- struct{}{}:
					default:
					}
				}
			})
		}
		<-connected
		stop()
		callers.Wait()
	}
}
