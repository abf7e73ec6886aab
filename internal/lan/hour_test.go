package lan_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
)

// What the two documented clients listen to (contract §3.14). Left out is
// authentication_error: nobody without a token gets as far as to hear it.
const (
	terminalHears = `authentication_success room_joined room_left
		payment_initiated payment_processing payment_completed payment_failed crypto:payment_confirmed crypto:payment_failed
		order_created order_updated order_status_changed order_deleted system_alert venue_update table_status_change
		notification_new notification_read notification_deleted notification_count_updated
		tpv_command tpv_command_cancelled tpv_command_response tpv_status_update
		inventory_low_stock inventory_out_of_stock inventory_updated
		menu_updated menu_item_created menu_item_updated menu_item_deleted menu_item_availability_changed
		menu_category_updated menu_category_deleted product_price_changed
		terminal:payment_request terminal:payment_cancel printer_status card_reader_status peripheral_error
		tpv_message tpv_message_cancelled sim-custody.assigned-to-promoter sim-custody.recollected-from-promoter
		error rate_limit_exceeded`
	dashboardHears = `payment_initiated payment_processing payment_completed payment_failed
		shift_opened shift_closed shift_updated
		menu_updated menu_item_created menu_item_updated menu_item_deleted menu_item_availability_changed
		menu_category_updated menu_category_deleted product_price_changed
		notification_new notification:updated tpv_status_update tpv_command_status_changed
		subscription.activated subscription.deactivated updateDashboard shiftUpdate`
)

// cloud stores an event as the uplink does.
func (b *box) cloud(kind, payload string) {
	b.t.Helper()
	row, ok := event.Resolve(event.Kind(kind))
	o, err := event.ParseObject([]byte(payload))
	if !ok || err != nil {
		b.t.Fatalf("%s %s: %v", kind, payload, err)
	}
	e := event.Event{Kind: row.Kind, Subject: row.SubjectOf(o), Audience: row.AudienceOf(o, nil), Expires: event.Expiry(o)}
	e.Payload, e.CorrelationID = row.Enrich(o, event.Stamp{CorrelationID: event.NewCorrelationID(), Venue: venue, ID: "made"})
	b.journal.append(e)
}

// TestVenueHour plays an hour of a venue: what staff do at one terminal, what
// the office does at its screen, what the cloud says. Another terminal and
// another screen must have seen all that they listen to.
func TestVenueHour(t *testing.T) {
	b := start(t, func(c *lanConfig) { c.MaxEventsPerWindow = 200 })
	till := b.connect(auth.Grant{Subject: "cashier_1", Role: event.Manager, Terminal: "77"}, "AVQD-77")
	office := b.as(event.Owner)
	terminal := b.connect(auth.Grant{Subject: "waiter_1", Role: event.Waiter, Terminal: serial}, "AVQD-"+serial)
	screen := b.connect(auth.Grant{Subject: "admin_1", Role: event.Admin}, "")

	// Opening: the terminal takes its places, the screen asks in its own words.
	terminal.ask("authenticate", `{}`)
	for _, room := range []string{`"venue"`, `"table","tableId":"t1"`, `"order","orderId":"o1"`} {
		terminal.ask("join_room", `{"venueId":"venue_1","roomType":`+room+`}`)
	}
	if ack := screen.ask("joinVenueRoom", `{"venueId":"venue_1"}`); field(t, ack, "success") != "true" {
		t.Errorf("joinVenueRoom: %s", ack)
	}
	terminal.ask("tpv:heartbeat", `{"terminalId":"`+serial+`","venueId":"venue_1","health":{}}`)
	b.cloud("shift_opened", `{"shiftId":"s1","status":"OPEN"}`)
	b.cloud("venue_update", `{"type":"opened"}`)

	// Service: a table is served and pays, once in vain.
	const order, pay = `{"orderId":"o1","tableId":"t1","venueId":"venue_1"}`, `{"paymentId":"p1","amount":"120.50","currency":"MXN","tableId":"t1","orderId":"o1","venueId":"venue_1"}`
	till.ask("join_room", `{"venueId":"venue_1","roomType":"order","orderId":"o1"}`)
	b.cloud("table_status_change", `{"tableId":"t1","status":"OCCUPIED","waiter":null}`)
	for _, kind := range []string{"order_created", "order_updated", "order_status_changed"} {
		till.ask(kind, order)
	}
	for _, kind := range []string{"payment_initiated", "payment_failed", "payment_processing", "payment_completed"} {
		till.ask(kind, pay)
	}
	till.ask("order_deleted", order)
	b.cloud("crypto:payment_confirmed", `{"paymentId":"p2","amount":100}`)
	b.cloud("crypto:payment_failed", `{"paymentId":"p3","status":"EX"}`)
	b.cloud("terminal:payment_request", `{"requestId":"r1","terminalId":"AVQD-`+serial+`","amountCents":100}`)
	b.cloud("terminal:payment_cancel", `{"requestId":"r1","terminalId":"`+serial+`"}`)
	terminal.ask("terminal:payment_result", `{"requestId":"r1","status":"cancelled"}`)

	// The office: alerts, messages, commands, the menu.
	office.ask("system_alert", `{"level":"info","title":"t","message":"m","venueId":"venue_1"}`)
	office.ask("tpv_message", `{"messageId":"m1","title":"t","terminalIds":["`+serial+`"]}`)
	office.ask("tpv_message_cancelled", `{"messageId":"m1","terminalIds":["`+serial+`"]}`)
	office.ask("tpv_command", `{"commandId":"c1","terminalId":"`+serial+`","type":"LOCK"}`)
	terminal.ask("tpv_command_result", `{"commandId":"c1","terminalId":"`+serial+`","resultStatus":"SUCCESS"}`)
	office.ask("tpv_command", `{"commandId":"c2","terminalId":"`+serial+`","type":"UNLOCK"}`)
	for want := 1; want > 0; { // c2 is sent before it is cancelled
		got := office.want("tpv_command_status_changed")
		if field(t, got, "commandId") == `"c2"` && field(t, got, "newStatus") == `"SENT"` {
			want--
		}
	}
	office.ask("tpv_command_cancelled", `{"commandId":"c2"}`)
	for _, kind := range []string{
		"menu_updated", "menu_item_created", "menu_item_updated", "menu_item_deleted", "menu_item_availability_changed",
		"menu_category_updated", "menu_category_deleted", "product_price_changed", "inventory_low_stock",
		"inventory_out_of_stock", "inventory_updated", "printer_status", "card_reader_status", "peripheral_error",
		"tpv_command_response", "subscription.activated", "subscription.deactivated", "shift_updated", "shift_closed",
	} {
		b.cloud(kind, `{"terminalId":"printer_1"}`)
	}
	for _, staff := range []string{"waiter_1", "admin_1"} {
		for _, kind := range []string{"notification_new", "notification_read", "notification_deleted", "notification_count_updated"} {
			b.cloud(kind, fmt.Sprintf(`{"notificationId":"n","recipientId":%q}`, staff))
		}
		for _, kind := range []string{"sim-custody.assigned-to-promoter", "sim-custody.recollected-from-promoter"} {
			b.cloud(kind, fmt.Sprintf(`{"targetStaffId":%q,"data":{}}`, staff))
		}
	}

	// Closing: a mistake, and one event too many.
	terminal.ask("leave_room", `{"venueId":"venue_1","roomType":"table","tableId":"t1"}`)
	terminal.ask("order_created", `{}`)
	for range 200 {
		terminal.emit("join_room", `{"venueId":"venue_1","roomType":"venue"}`)
	}

	for _, c := range []struct {
		who    string
		client *client
		hears  string
	}{{"terminal", terminal, terminalHears}, {"screen", screen, dashboardHears}} {
		for kind := range strings.FieldsSeq(c.hears) {
			until(t, c.who+" hears "+kind, func() bool { return len(c.client.pending(kind)) > 0 })
			row, _ := event.Lookup(event.Kind(kind))
			if n := len(c.client.pending(kind)); row.Family == event.Payment && n != 1 {
				t.Errorf("%s heard %s %d times", c.who, kind, n)
			}
		}
		if slices.ContainsFunc(c.client.pending("notification_new"), func(f string) bool {
			return strings.Contains(f, "waiter_1") == (c.client == screen)
		}) {
			t.Errorf("%s heard what is another's", c.who)
		}
	}
	if got := screen.pending("tpv_command"); len(got) > 0 {
		t.Errorf("the screen heard a command: %v", got)
	}
}
