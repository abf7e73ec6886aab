package boxtest

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/simulate"
)

// orders sends n updates of orders, numbered, over several sockets at once, and
// returns when all are stored.
func orders(t *testing.T, box *Box, from, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	pos, err := simulate.Dial(ctx, simulate.ClientConfig{
		URL: box.URL(), Auth: map[string]any{"token": box.Token(event.Manager, "pos", "")},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = pos.Close() }()
	const flying = 100
	var wg sync.WaitGroup
	for first := range min(n, flying) {
		wg.Go(func() {
			for i := first; i < n; i += flying {
				payload := fmt.Appendf(nil, `{"orderId":"o%d","venueId":%q,"n":%d}`, from+i, Venue, from+i)
				ack, err := pos.EmitAck(ctx, "order_updated", json.RawMessage(payload))
				if err != nil || !strings.Contains(string(ack), `"stored"`) {
					t.Errorf("update %d: %v %s", from+i, err, ack)
					return
				}
			}
		})
	}
	wg.Wait()
}

// heardAll checks that a client has heard the updates 0..n-1, each once, none
// as a replay.
func heardAll(t *testing.T, c *Client, n int) {
	t.Helper()
	Eventually(t, 30*time.Second, fmt.Sprintf("%d updates are heard", n), func() bool { return len(c.Events("order_updated")) >= n })
	heard := make(map[int]int)
	for _, line := range c.Events("order_updated") {
		var body struct {
			N        int
			Replayed bool
		}
		if err := json.Unmarshal(line.Payload(), &body); err != nil || body.Replayed {
			t.Fatalf("heard %s", line.Raw)
		}
		heard[body.N]++
	}
	for i := range n {
		if heard[i] != 1 {
			t.Errorf("update %d was heard %d times", i, heard[i])
		}
	}
}

func startDashboard(t *testing.T, box *Box, url string) *Client {
	t.Helper()
	c := StartJS(t, ClientConfig{
		URL: url, Token: box.Token(event.Manager, "m1", ""), Venue: Venue,
		Options: map[string]any{"reconnectionDelay": 200, "reconnectionDelayMax": 200, "randomizationFactor": 0},
	})
	c.Expect("connect", 20*time.Second)
	c.ExpectAck(0, 20*time.Second)
	return c
}

// A box that dies or is replaced gives its clients back what they had.
func TestRecoveryOverRestarts(t *testing.T) {
	t.Parallel()
	box := StartBox(t, BoxConfig{})
	wifi := StartWifi(t, box.Addr())
	c := startDashboard(t, box, wifi.URL())
	n := 0
	for _, end := range []struct {
		name string
		stop func()
	}{
		{"SIGKILL before the first event", box.Kill},
		{"SIGKILL", box.Kill},
		{"an upgrade", box.Stop},
		{"SIGKILL again", box.Kill},
	} {
		end.stop()
		c.Expect("disconnect", 20*time.Second)
		box.Start()
		if !c.Expect("connect", 20*time.Second).Recovered {
			t.Errorf("not recovered after %s", end.name)
		}
		orders(t, box, n, 10)
		n += 10
		heardAll(t, c, n)

		wifi.Blip() // something is missed, then the box ends too
		wifi.Hold(true)
		c.Expect("disconnect", 20*time.Second)
		orders(t, box, n, 10)
		n += 10
		end.stop()
		box.Start()
		wifi.Hold(false)
		if !c.Expect("connect", 20*time.Second).Recovered {
			t.Errorf("not recovered after a blip and %s", end.name)
		}
		heardAll(t, c, n)
	}
}

// More is missed than any buffer holds, while others hear it live.
func TestRecoveryOfThousands(t *testing.T) {
	t.Parallel()
	n := 12_000
	if testing.Short() {
		n = 2_000
	}
	box := StartBox(t, BoxConfig{})
	wifi := StartWifi(t, box.Addr())
	c := startDashboard(t, box, wifi.URL())
	live := startDashboard(t, box, box.URL())
	orders(t, box, 0, 1)
	heardAll(t, c, 1)
	wifi.Hold(true)
	wifi.Blip()
	c.Expect("disconnect", 20*time.Second)
	orders(t, box, 1, n)
	wifi.Hold(false)
	orders(t, box, 1+n, 100) // while it catches up
	if !c.Expect("connect", 20*time.Second).Recovered {
		t.Error("not recovered")
	}
	heardAll(t, c, n+101)
	heardAll(t, live, n+101)
	if got := live.Events("disconnect"); len(got) > 0 {
		t.Error("the other lost its connection")
	}
}

// A terminal that knows nothing of recovery is replayed what it missed, marked,
// in order, the latest state alone where that is what counts, and in bursts that
// its application holds.
func TestReplayToTheTerminal(t *testing.T) {
	t.Parallel()
	box := StartBox(t, BoxConfig{Env: []string{"AVOQADO_EDGE_LAN_PING_INTERVAL=1s"}})
	wifi := StartWifi(t, box.Addr())
	terminal := StartJava(t, ClientConfig{
		URL: wifi.URL(), Token: box.Token(event.Cashier, "c1", "AVQD-1"), Venue: Venue, Terminal: "AVQD-1", Table: "t1",
	})
	terminal.ExpectAck(0, 30*time.Second)
	terminal.ExpectAck(-1, 20*time.Second)
	dashboard := startDashboard(t, box, box.URL())
	say := func(name string, body map[string]any) {
		body["venueId"] = Venue
		dashboard.EmitAck(name, body, 10*time.Second)
	}
	say("order_created", map[string]any{"orderId": "o0", "total": 1})
	terminal.ExpectEvent("order_created", 10*time.Second)
	// It is pinged every second, and told of changes no more often than that:
	// after three of them it has answered a ping behind the order.
	for i := range 3 {
		told := len(terminal.Events("sync_status"))
		say("order_status_changed", map[string]any{"orderId": "o0", "status": fmt.Sprint(i)})
		Eventually(t, 20*time.Second, "a change is told", func() bool { return len(terminal.Events("sync_status")) > told })
	}
	wifi.Hold(true)
	wifi.Blip()
	terminal.Expect("disconnect", 20*time.Second)

	for i := range 20 {
		say("order_created", map[string]any{"orderId": fmt.Sprintf("n%d", i), "total": i})
		say("order_updated", map[string]any{"orderId": "o0", "total": i})
	}
	say("payment_completed", map[string]any{"paymentId": "p1", "amount": "1.50", "currency": "MXN", "tableId": "t1"})
	wifi.Hold(false)
	terminal.ExpectEvent("payment_completed", 60*time.Second)

	var created []string
	for _, line := range terminal.Events("order_created")[1:] {
		var body struct {
			OrderID  string
			Replayed bool
		}
		if err := json.Unmarshal(line.Payload(), &body); err != nil || !body.Replayed {
			t.Errorf("heard %s", line.Raw)
		}
		created = append(created, body.OrderID)
	}
	for i, id := range created {
		if id != fmt.Sprintf("n%d", i) {
			t.Errorf("order %d is %s", i, id)
		}
	}
	if len(created) != 20 {
		t.Errorf("%d orders were replayed", len(created))
	}
	updates := terminal.Events("order_updated")
	if len(updates) != 1 {
		t.Fatalf("%d updates of one order were replayed", len(updates))
	}
	var last struct{ Total int }
	if err := json.Unmarshal(updates[0].Payload(), &last); err != nil || last.Total != 19 {
		t.Errorf("the update is %s", updates[0].Raw)
	}
	say("order_created", map[string]any{"orderId": "live", "total": 1})
	Eventually(t, 20*time.Second, "the next one is live", func() bool {
		list := terminal.Events("order_created")
		var body struct {
			OrderID  string
			Replayed bool
		}
		_ = json.Unmarshal(list[len(list)-1].Payload(), &body)
		return body.OrderID == "live" && !body.Replayed
	})
}
