package boxtest

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/simulate"
)

// The two clients of the existing system, unchanged: a dashboard in JavaScript
// and a terminal in Java, at one box.
func TestTheExistingClients(t *testing.T) {
	t.Parallel()
	box := StartBox(t, BoxConfig{})
	dashboard := StartJS(t, ClientConfig{URL: box.URL(), Token: box.Token(event.Manager, "m1", ""), Venue: Venue})
	terminal := StartJava(t, ClientConfig{
		URL: box.URL(), Token: box.Token(event.Cashier, "c1", "AVQD-2841548417"), Venue: Venue,
		Terminal: "AVQD-2841548417", Table: "t1",
	})
	// It says what came over the wire byte for byte, which the Java one cannot.
	witness := StartJS(t, ClientConfig{URL: box.URL(), Token: box.Token(event.Viewer, "v1", ""), Venue: Venue})
	for _, c := range []*Client{dashboard, terminal, witness} {
		c.ExpectEvent("authentication_success", 30*time.Second)
		if ack := c.ExpectAck(0, 20*time.Second); !strings.Contains(ack.Raw, `"message":"Already in venue room: v1"`) {
			t.Errorf("join_room venue: %s", ack.Raw)
		}
	}
	if ack := terminal.ExpectAck(-1, 20*time.Second); !strings.Contains(ack.Raw, `"message":"Joined table room: t1"`) {
		t.Errorf("join_room table: %s", ack.Raw)
	}

	// What the terminal hears.
	odd := json.RawMessage(`{"zeta":1e3,"paymentId":"p1","amount":"120.50","currency":"MXN","big":9007199254740993,"venueId":"v1","tableId":"t1","note":"<b>&","amount2":1.10}`)
	// JavaScript would write the numbers its own way; this sender does not.
	pos, err := simulate.Dial(t.Context(), simulate.ClientConfig{
		URL: box.URL(), Auth: map[string]any{"token": box.Token(event.Manager, "m1", "")},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = pos.Close() }()
	ack, err := pos.EmitAck(t.Context(), "payment_initiated", odd)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"success":true`, `"durability":"stored"`, `"seq":1`, `"eventId":`, `"message":"Payment initiated event broadcasted"`} {
		if !strings.Contains(string(ack), want) {
			t.Errorf("ack %s has no %s", ack, want)
		}
	}
	terminal.ExpectEvent("payment_initiated", 10*time.Second)
	heard := witness.ExpectEvent("payment_initiated", 10*time.Second)
	for _, want := range []string{`"zeta":1e3,"paymentId":"p1","amount":"120.50","currency":"MXN","big":9007199254740993`, `"note":"<b>&","amount2":1.10`, `"status":"initiated"`, `"userId":"m1"`} {
		if !strings.Contains(heard.Raw, want) {
			t.Errorf("the witness heard %s without %s", heard.Raw, want)
		}
	}
	dashboard.EmitAck("order_status_changed", map[string]any{"orderId": "o1", "venueId": Venue, "status": "READY"}, 10*time.Second)
	terminal.ExpectEvent("order_status_changed", 10*time.Second)

	// What the dashboard hears.
	ack = terminal.EmitAck("payment_completed", map[string]any{
		"paymentId": "p1", "amount": "120.50", "currency": "MXN", "venueId": Venue, "tableId": "t1", "idempotencyKey": "pay-p1-completed",
	}, 10*time.Second)
	if !strings.Contains(string(ack), `"durability":"stored"`) || !strings.Contains(string(ack), `"eventId":"pay-p1-completed"`) {
		t.Errorf("the terminal's ack: %s", ack)
	}
	dashboard.ExpectEvent("payment_completed", 10*time.Second)
	dashboard.EmitAck("order_created", map[string]any{"orderId": "o2", "venueId": Venue, "total": 240}, 10*time.Second)
	terminal.ExpectEvent("order_created", 10*time.Second)
	dashboard.EmitAck("system_alert", map[string]any{"level": "info", "title": "t", "message": "m", "venueId": Venue}, 10*time.Second)
	terminal.ExpectEvent("system_alert", 10*time.Second)

	// The sender does not hear itself, and nobody hears anything twice.
	if n := len(terminal.Events("payment_completed")); n != 0 {
		t.Errorf("the terminal heard its own payment %d times", n)
	}
	if n := len(dashboard.Events("payment_completed")); n != 1 {
		t.Errorf("the dashboard heard the payment %d times", n)
	}

	// A restart: both come back by themselves, and a retry is known again.
	box.Stop()
	box.Start()
	for _, c := range []*Client{dashboard, terminal} {
		c.Expect("disconnect", 20*time.Second)
		c.ExpectEvent("authentication_success", 60*time.Second)
		c.ExpectAck(0, 20*time.Second)
	}
	ack = terminal.EmitAck("payment_completed", map[string]any{
		"paymentId": "p1", "amount": "120.50", "currency": "MXN", "venueId": Venue, "tableId": "t1", "idempotencyKey": "pay-p1-completed",
	}, 10*time.Second)
	if !strings.Contains(string(ack), `"duplicate":true`) || !strings.Contains(string(ack), `"seq":3`) {
		t.Errorf("a retry after the restart: %s", ack)
	}
	ack = terminal.EmitAck("payment_completed", map[string]any{
		"paymentId": "p1", "amount": "999.00", "currency": "MXN", "venueId": Venue, "idempotencyKey": "pay-p1-completed",
	}, 10*time.Second)
	if !strings.Contains(string(ack), `"success":false`) || !strings.Contains(string(ack), `"statusCode":409`) {
		t.Errorf("another payment under the same key: %s", ack)
	}
	if n := len(dashboard.Events("payment_completed")); n != 1 {
		t.Errorf("the dashboard heard the payment %d times, the last ones being repeats", n)
	}
}
