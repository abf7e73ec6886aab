package boxtest

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/lan/span/redistest"
)

// Two boxes of one venue, a Redis between them, a broker above both, and real
// clients at each: everybody hears everything once, also what the broker told
// both boxes. Without the Redis each box goes on alone, says so, and joins again.
func TestTwoBoxes(t *testing.T) {
	t.Parallel()
	broker, redis := StartMosquitto(t, MosquittoConfig{}), redistest.Start(t)
	var boxes [2]*Box
	for i, id := range []string{"b1", "b2"} {
		boxes[i] = StartBox(t, BoxConfig{
			Broker: broker.URL(), Confirm: "broker",
			Env: []string{"REDIS_URL=" + redis.URL(), "AVOQADO_EDGE_BOX_ID=" + id},
		})
	}
	state := func(want string) {
		t.Helper()
		for _, box := range boxes {
			Eventually(t, 30*time.Second, "a box is "+want, func() bool { return box.Status().Boxes.State == want })
		}
	}
	state("joined")
	for _, box := range boxes {
		Eventually(t, 20*time.Second, "uplink online", func() bool { return box.Status().Uplink.State == "online" })
	}
	here, there := startDashboard(t, boxes[0], boxes[0].URL()), startDashboard(t, boxes[1], boxes[1].URL())
	terminal := StartJava(t, ClientConfig{
		URL: boxes[1].URL(), Token: boxes[1].Token(event.Cashier, "c1", "AVQD-1"), Venue: Venue, Terminal: "AVQD-1", Table: "t1",
	})
	terminal.ExpectAck(-1, 30*time.Second)
	everybody := []*Client{here, there, terminal}
	pay := func(id string) {
		t.Helper()
		ack := terminal.EmitAck("payment_completed", map[string]any{
			"paymentId": id, "amount": "1.50", "currency": "MXN", "venueId": Venue, "tableId": "t1",
		}, 10*time.Second)
		if !strings.Contains(string(ack), `"durability":"stored"`) {
			t.Errorf("payment %s: %s", id, ack)
		}
	}
	// tell says something above both boxes and waits until all have heard it, so
	// that what was said before has come too.
	tell := func(id string) {
		t.Helper()
		broker.Publish(broadcasts, `{"id":"`+id+`","event":"menu_updated","payload":{"reason":"`+id+`"}}`)
		for _, c := range everybody {
			Eventually(t, 20*time.Second, id+" is heard", func() bool {
				list := c.Events("menu_updated")
				return len(list) > 0 && strings.Contains(list[len(list)-1].Raw, id)
			})
		}
	}
	heard := func(c *Client, name string, want int) {
		t.Helper()
		if got := c.Events(name); len(got) != want {
			t.Errorf("%s was heard %d times, want %d", name, len(got), want)
		}
	}

	pay("p1")
	there.ExpectEvent("payment_completed", 10*time.Second)
	here.ExpectEvent("payment_completed", 10*time.Second)
	here.EmitAck("order_created", map[string]any{"orderId": "o1", "venueId": Venue, "tableId": "t1"}, 10*time.Second)
	terminal.ExpectEvent("order_created", 10*time.Second)
	broker.Publish(broadcasts, alert("alert-0001", "both", time.Time{}))
	for _, c := range []*Client{here, there} {
		c.ExpectEvent("system_alert", 10*time.Second)
	}
	tell("menu-00001")
	for _, c := range []*Client{here, there} {
		heard(c, "payment_completed", 1)
		heard(c, "system_alert", 1)
	}
	heard(terminal, "order_created", 1) // in the venue's room and in the table's
	heard(terminal, "payment_completed", 0)
	heard(terminal, "system_alert", 0) // which was for managers

	redis.Stop()
	state("alone")
	if out, _, _ := boxes[0].Command("status"); !strings.Contains(strings.ToLower(out), "alone") {
		t.Errorf("status does not say that the box is alone:\n%s", out)
	}
	pay("p2")
	there.ExpectEvent("payment_completed", 10*time.Second)
	broker.Publish(broadcasts, alert("alert-0002", "apart", time.Time{}))
	for _, c := range []*Client{here, there} {
		c.ExpectEvent("system_alert", 10*time.Second) // each box was told itself
	}
	tell("menu-00002")
	heard(here, "payment_completed", 1)
	heard(here, "sync_required", 0)

	redis.Start()
	state("joined")
	var told struct{ Reason string }
	if line := here.ExpectEvent("sync_required", 20*time.Second); json.Unmarshal(line.Payload(), &told) != nil || told.Reason != "other_box" {
		t.Errorf("told %s", line.Raw)
	}
	pay("p3")
	here.ExpectEvent("payment_completed", 10*time.Second)
	tell("menu-00003")
	heard(here, "payment_completed", 2)
	heard(there, "payment_completed", 3)
	for _, c := range everybody {
		heard(c, "menu_updated", 3)
		heard(c, "disconnect", 0)
	}
	for _, c := range []*Client{here, there} {
		heard(c, "system_alert", 2)
	}
}

// A terminal is told what of its own the cloud does not have yet, so that it can
// say when it is safe to close.
func TestSyncStatusToTheTerminal(t *testing.T) {
	t.Parallel()
	broker := StartMosquitto(t, MosquittoConfig{})
	box := StartBox(t, BoxConfig{Broker: broker.URL(), Confirm: "broker"})
	terminal := StartJava(t, ClientConfig{
		URL: box.URL(), Token: box.Token(event.Cashier, "c1", "AVQD-1"), Venue: Venue, Terminal: "AVQD-1", Table: "t1",
	})
	dashboard := startDashboard(t, box, box.URL())
	terminal.ExpectAck(-1, 30*time.Second)
	type status struct {
		Epoch                           string
		StoredThrough, SyncedThrough    uint64
		Pending, PendingForThisTerminal int
		Uplink, Since                   string
	}
	told := func(what string, c *Client, right func(status) bool) {
		t.Helper()
		Eventually(t, 30*time.Second, what, func() bool {
			list := c.Events("sync_status")
			if len(list) == 0 {
				return false
			}
			var s status
			if err := json.Unmarshal(list[len(list)-1].Payload(), &s); err != nil {
				t.Fatal(err)
			}
			if _, err := time.Parse(time.RFC3339, s.Since); err != nil || s.Epoch == "" {
				t.Fatalf("told %s", list[len(list)-1].Raw)
			}
			return right(s)
		})
	}
	safe := func(s status) bool {
		return s.Uplink == "online" && s.Pending == 0 && s.PendingForThisTerminal == 0 && s.SyncedThrough == s.StoredThrough
	}
	told("the terminal may close", terminal, safe)
	broker.Stop()
	told("the cloud is away", terminal, func(s status) bool { return s.Uplink == "offline" })
	for _, id := range []string{"p1", "p2", "p3"} {
		terminal.EmitAck("payment_completed", map[string]any{"paymentId": id, "amount": "1.50", "currency": "MXN", "venueId": Venue}, 10*time.Second)
	}
	for _, id := range []string{"o1", "o2"} {
		dashboard.EmitAck("order_created", map[string]any{"orderId": id, "venueId": Venue}, 10*time.Second)
	}
	waits := func(own int) func(status) bool {
		return func(s status) bool {
			return s.Uplink == "offline" && s.Pending == 5 && s.PendingForThisTerminal == own && s.StoredThrough == s.SyncedThrough+5
		}
	}
	told("three of its own wait", terminal, waits(3))
	told("none of a dashboard's waits for a terminal", dashboard, waits(0))
	broker.Start()
	told("the terminal may close again", terminal, safe)
	told("so may the dashboard", dashboard, safe)
}
