package lan_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
)

const payment = `{"paymentId":"pay_1","amount":100,"currency":"MXN","venueId":"venue_1","tableId":"t1"}`

func TestPaymentWalksTheLine(t *testing.T) {
	b := start(t)
	waiter, manager, kitchen := b.as(event.Waiter), b.as(event.Manager), b.as(event.Kitchen)
	waiter.ask("join_room", `{"roomType":"table","venueId":"venue_1","tableId":"t1"}`)
	manager.ask("join_room", `{"roomType":"table","venueId":"venue_1","tableId":"t1"}`)

	ack := waiter.ask("payment_initiated", payment)
	for key, want := range map[string]string{
		"success": "true", "message": `"Payment initiated event broadcasted"`, "eventType": `"initiated"`,
		"paymentId": `"pay_1"`, "seq": "1", "durability": `"stored"`, "duplicate": "",
	} {
		if got := field(t, ack, key); got != want {
			t.Errorf("ack %s is %s, want %s", key, got, want)
		}
	}
	if field(t, ack, "correlationId") == "" || field(t, ack, "eventId") == "" {
		t.Errorf("ack lacks ids: %s", ack)
	}
	for _, c := range []*client{manager, kitchen} {
		got := c.want("payment_initiated")
		for key, want := range map[string]string{
			"status": `"initiated"`, "userId": `"staff_waiter"`, "venueId": `"venue_1"`, "amount": "100",
		} {
			if field(t, got, key) != want {
				t.Errorf("%s is %s, want %s", key, field(t, got, key), want)
			}
		}
		b.quiet(c, "payment_initiated") // once, though manager is in two rooms of it
	}
	b.quiet(waiter, "payment_initiated")
}

// TestBytesPass holds what goes in against what comes out.
func TestBytesPass(t *testing.T) {
	b := start(t)
	cashier, viewer := b.as(event.Cashier), b.as(event.Viewer)
	const body = `"zeta": 1 ,"amount":"120.50","e":1e3,"big":9007199254740993,"f":19.990,"html":"<b>&\u0026</b>","nested":{"z":[1.10,{"b":null,"a":true}]},"ñ":"é🍕","paymentId":"pay_1","currency":"MXN","venueId":"venue_1"`
	cashier.emit("payment_completed", "{ "+body+" }")
	if got := viewer.want("payment_completed"); !strings.HasPrefix(got, "{ "+body+" ,\"correlationId\":") {
		t.Errorf("came out as %s", got)
	}
}

func TestRefusalsOfBusinessEvents(t *testing.T) {
	b := start(t)
	clients := make(map[event.Role]*client)
	for _, role := range event.Roles() {
		clients[role] = b.as(role)
	}
	for _, c := range []struct {
		role    event.Role
		name    string
		payload string
		text    string // empty: accepted
		status  string
	}{
		{"KITCHEN", "payment_initiated", payment, "Role KITCHEN not authorized for payment events", "401"},
		{"HOST", "payment_initiated", payment, "Role HOST not authorized for payment events", "401"},
		{"VIEWER", "payment_completed", payment, "Role VIEWER not authorized for payment events", "401"},
		{"WAITER", "payment_completed", payment, "Role WAITER not authorized for completed payment events", "401"},
		{"WAITER", "payment_failed", payment, "Role WAITER not authorized for failed payment events", "401"},
		{"KITCHEN", "payment_initiated", `{}`, "Role KITCHEN not authorized for payment events", "401"},
		{"WAITER", "payment_initiated", ``, "Payload must be a JSON object", "400"},
		{"WAITER", "payment_initiated", `"x"`, "Payload must be a JSON object", "400"},
		{"WAITER", "payment_initiated", `[{}]`, "Payload must be a JSON object", "400"},
		{"WAITER", "payment_initiated", `null`, "Payload must be a JSON object", "400"},
		{"WAITER", "payment_initiated", `{"amount":1}`, "Payment ID is required", "400"},
		{"WAITER", "payment_initiated", `{"paymentId":"p"}`, "Valid payment amount is required", "400"},
		{"WAITER", "payment_initiated", `{"paymentId":"p","amount":0}`, "Valid payment amount is required", "400"},
		{"WAITER", "payment_initiated", `{"paymentId":"p","amount":-1}`, "Valid payment amount is required", "400"},
		{"WAITER", "payment_initiated", `{"paymentId":"p","amount":"abc"}`, "Valid payment amount is required", "400"},
		{"WAITER", "payment_initiated", `{"paymentId":"p","amount":1}`, "Currency is required", "400"},
		{"WAITER", "payment_initiated", `{"paymentId":"p","amount":1,"currency":"MXN"}`, "Venue ID is required", "400"},
		{"WAITER", "payment_initiated", `{"paymentId":"p","amount":1,"currency":"MXN","venueId":"venue_2"}`, "Access denied to specified venue", "401"},
		{"SUPERADMIN", "payment_initiated", `{"paymentId":"p","amount":1,"currency":"MXN","venueId":"venue_2"}`, "Access denied to specified venue", "401"},
		{"CASHIER", "order_created", `{}`, "Role CASHIER not authorized for order events", "401"},
		{"WAITER", "order_deleted", `{}`, "Role WAITER not authorized to delete orders", "401"},
		{"WAITER", "order_created", `{}`, "Order ID is required", "400"},
		{"WAITER", "order_created", `{"orderId":"o"}`, "Venue ID is required", "400"},
		{"KITCHEN", "order_updated", `{"orderId":"o","venueId":"v"}`, "Access denied to specified venue", "401"},
		{"WAITER", "system_alert", `{}`, "Role WAITER not authorized to send system alerts", "401"},
		{"MANAGER", "system_alert", `{}`, "Alert level is required", "400"},
		{"MANAGER", "system_alert", `{"level":"info"}`, "Alert title is required", "400"},
		{"MANAGER", "system_alert", `{"level":"info","title":"t"}`, "Alert message is required", "400"},
		{"MANAGER", "system_alert", `{"level":"info","title":"t","message":"m"}`, "Venue ID is required", "400"},
		{"MANAGER", "system_alert", `{"level":"bad","title":"t","message":"m","venueId":"venue_1"}`, "Invalid alert level. Must be one of: info, warning, error, critical", "400"},
		{"MANAGER", "system_alert", `{"level":"info","title":"t","message":"m","venueId":"other"}`, "Access denied to specified venue", "401"},

		{"OWNER", "payment_completed", payment, "", ""},
		{"CASHIER", "payment_processing", payment, "", ""},
		{"CASHIER", "payment_failed", payment, "", ""},
		{"KITCHEN", "order_status_changed", `{"orderId":"o","venueId":"venue_1"}`, "", ""},
		{"OWNER", "order_deleted", `{"orderId":"o","venueId":"venue_1"}`, "", ""},
		{"OWNER", "system_alert", `{"level":"info","title":"t","message":"m","venueId":"venue_1"}`, "", ""},
	} {
		t.Run(fmt.Sprintf("%s %s %s", c.role, c.name, c.payload), func(t *testing.T) {
			client := clients[c.role]
			ack := client.ask(c.name, c.payload)
			if c.text == "" {
				if field(t, ack, "success") != "true" {
					t.Fatalf("refused: %s", ack)
				}
				return
			}
			checkFailure(t, ack, c.text, c.status)
			if got := client.want("error"); got != ack {
				t.Errorf("error event %s differs from ack %s", got, ack)
			}
		})
	}
}

func checkFailure(t *testing.T, ack, text, status string) {
	t.Helper()
	if field(t, ack, "error") != fmt.Sprintf("%q", text) || field(t, ack, "statusCode") != status ||
		field(t, ack, "success") != "false" || len(field(t, ack, "correlationId")) != 38 {
		t.Errorf("got %s, want %q with %s", ack, text, status)
	}
}

func TestOrderAndAlertAcks(t *testing.T) {
	b := start(t)
	manager := b.as(event.Manager)
	for _, c := range []struct{ name, payload, message, extra, value string }{
		{"order_created", `{"orderId":"o1","venueId":"venue_1"}`, "Order created event broadcasted", "orderId", `"o1"`},
		{"order_updated", `{"orderId":"o1","venueId":"venue_1"}`, "Order updated event broadcasted", "eventType", `"updated"`},
		{"system_alert", `{"level":"info","title":"T","message":"m","venueId":"venue_1"}`, "System alert broadcasted", "title", `"T"`},
	} {
		ack := manager.ask(c.name, c.payload)
		if field(t, ack, "message") != fmt.Sprintf("%q", c.message) || field(t, ack, c.extra) != c.value {
			t.Errorf("%s: %s", c.name, ack)
		}
	}
}

func TestAudiences(t *testing.T) {
	b := start(t)
	manager, admin := b.as(event.Manager), b.as(event.Admin)
	waiter := b.as(event.Waiter)
	terminal := b.connect(auth.Grant{Subject: "staff_9", Role: event.Cashier}, "AVQD-77")
	waiter.ask("join_room", `{"roomType":"order","venueId":"venue_1","orderId":"o1"}`)

	all := []*client{manager, admin, waiter, terminal}
	for i, c := range []struct {
		audience event.Audience
		hear     []*client
	}{
		{event.Audience{}, all},
		{event.Audience{Venue: true, Roles: []event.Role{event.Manager}}, all},
		{event.Audience{Venue: true, Except: []event.Role{event.Manager, event.Cashier}}, []*client{admin, waiter}},
		{event.Audience{Roles: []event.Role{event.Manager, event.Admin}, Users: []string{"staff_admin"}}, []*client{manager, admin}},
		{event.Audience{Terminals: []string{"avqd-77"}}, []*client{terminal}},
		{event.Audience{Users: []string{"staff_9"}, Terminals: []string{"77"}}, []*client{terminal}},
		{event.Audience{Orders: []string{"o1"}}, []*client{waiter}},
		{event.Audience{Tables: []string{"t9"}}, nil},
		{event.Audience{Users: []string{waiter.sid}, Tables: []string{waiter.sid}}, nil},
	} {
		b.journal.append(event.Event{Kind: "menu_updated", Audience: c.audience, Payload: fmt.Appendf(nil, `{"n":%d}`, i)})
		for _, h := range c.hear {
			if got := h.want("menu_updated"); got != fmt.Sprintf(`{"n":%d}`, i) {
				t.Errorf("case %d: got %s", i, got)
			}
		}
		for _, h := range all {
			b.quiet(h, "menu_updated")
			for _, other := range all {
				if other != h {
					other.want("venue_update")
				}
			}
		}
	}
}

func TestAlertsGoToTheirRoles(t *testing.T) {
	b := start(t)
	manager, owner, waiter := b.as(event.Manager), b.as(event.Owner), b.as(event.Waiter)
	owner.ask("system_alert", `{"level":"info","title":"t","message":"m","venueId":"venue_1","targetRoles":["MANAGER","OWNER"]}`)
	manager.want("system_alert")
	b.quiet(owner, "system_alert")
	b.quiet(waiter, "system_alert")
}

func TestDuplicates(t *testing.T) {
	b := start(t)
	cashier, viewer := b.as(event.Cashier), b.as(event.Viewer)
	keyed := func(amount, key string) string {
		return fmt.Sprintf(`{"paymentId":"p","amount":%s,"currency":"MXN","venueId":"venue_1","idempotencyKey":%q}`, amount, key)
	}
	first := cashier.ask("payment_completed", keyed("1", "key-12345"))
	again := cashier.ask("payment_completed", keyed("1", "key-12345"))
	if field(t, again, "duplicate") != "true" || field(t, again, "seq") != field(t, first, "seq") || field(t, again, "eventId") != `"key-12345"` {
		t.Errorf("repeat answered with %s", again)
	}
	viewer.want("payment_completed")
	b.quiet(viewer, "payment_completed")

	checkFailure(t, cashier.ask("payment_completed", keyed("2", "key-12345")), "idempotencyKey was used for another event", "409")
	checkFailure(t, cashier.ask("payment_completed", keyed("2", "short")), "idempotencyKey must be a string of 8 to 64 characters", "400")
	if other := cashier.ask("payment_failed", keyed("1", "key-12345")); field(t, other, "duplicate") != "" {
		t.Errorf("another kind under the key: %s", other)
	}
}

func TestJournalTrouble(t *testing.T) {
	b := start(t)
	waiter := b.as(event.Waiter)
	b.journal.set(func() { b.journal.refuse = errBroken })
	ack := waiter.ask("payment_initiated", payment)
	checkFailure(t, ack, "Event could not be stored, try again", "503")
	if field(t, ack, "retryable") != "true" || field(t, ack, "retryAfterMs") != "1000" {
		t.Errorf("no word on a retry: %s", ack)
	}
	b.journal.set(func() { b.journal.refuse, b.journal.panics = nil, true })
	checkFailure(t, waiter.ask("payment_initiated", payment), "Internal error", "500")
	checkFailure(t, waiter.ask("payment_initiated", payment), "Internal error", "500")
	b.journal.set(func() { b.journal.panics = false })
	if ack := waiter.ask("payment_initiated", payment); field(t, ack, "success") != "true" {
		t.Errorf("still refused: %s", ack)
	}
	if n := b.Stats().Panics; n != 2 {
		t.Errorf("%d panics counted", n)
	}
	if n := strings.Count(b.logs.String(), "panic contained"); n != 1 {
		t.Errorf("%d panics logged", n)
	}
}

func TestAnswersKeepTheirOrder(t *testing.T) {
	b := start(t)
	waiter := b.as(event.Waiter)
	b.journal.set(func() { b.journal.hold = true })
	first := waiter.post("payment_initiated", payment)
	second := waiter.post("payment_initiated", `{}`)
	third := waiter.post("authenticate", `{}`)
	until(t, "the payment is held", func() bool {
		b.journal.mu.Lock()
		defer b.journal.mu.Unlock()
		return len(b.journal.held) == 1
	})
	b.journal.release()
	waiter.answer(third)
	waiter.mu.Lock()
	left := strings.Join(waiter.frames, "\n")
	waiter.mu.Unlock()
	a, z := strings.Index(left, fmt.Sprintf("43%d[", first)), strings.Index(left, fmt.Sprintf("43%d[", second))
	if a < 0 || z < a {
		t.Errorf("answers came as\n%s", left)
	}
}

// TestBackpressure sends more than a client may have in flight while the disk
// stands still.
func TestBackpressure(t *testing.T) {
	b := start(t)
	waiter := b.as(event.Waiter)
	b.journal.set(func() { b.journal.hold = true })
	const n = 400
	ids := make([]int, n)
	for i := range ids {
		ids[i] = waiter.post("payment_initiated", payment)
	}
	until(t, "the client waits", func() bool { return b.Stats().Waits > 0 })
	if got := b.journal.Stored(); got > 256 {
		t.Errorf("%d events in flight", got)
	}
	b.journal.release()
	for _, id := range ids {
		waiter.answer(id)
	}
}

func TestTooLarge(t *testing.T) {
	b := start(t)
	waiter := b.as(event.Waiter)
	pad := func(n int) string {
		return fmt.Sprintf(`{"paymentId":"p","amount":1,"currency":"MXN","venueId":"venue_1","pad":%q}`, strings.Repeat("x", n))
	}
	const text = "Payload is larger than 122880 bytes"
	checkFailure(t, waiter.ask("payment_initiated", pad(event.MaxPayload-50)), text, "413")
	checkFailure(t, waiter.ask("payment_initiated", pad(900_000)), text, "413")
	if ack := waiter.ask("payment_initiated", pad(event.MaxPayload-400)); field(t, ack, "success") != "true" {
		t.Errorf("refused: %s", ack)
	}
}
