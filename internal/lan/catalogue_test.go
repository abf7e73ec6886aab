package lan_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
)

const (
	noVenue    = "Venue ID is required"
	wrongVenue = "Access denied to specified venue"
	notYours   = "Terminal socket not registered for venue"
	logFields  = "Missing required fields in log payload"
	beatFields = "Missing required fields in heartbeat payload"
	reportIDs  = "Missing required fields: commandId, terminalId"
	replyIDs   = "Missing required fields: messageId, terminalId"
	requestID  = "Missing required field: requestId"
)

// sent is what a client→server row accepts: a whole payload, what is answered
// without each member it needs, and what a terminal reads on success.
type sent struct {
	payload string
	missing map[string]string
	done    string // the whole ack of a terminal; else its message
	eventOf string // eventType of the ack
}

// clientEvents says for every kind that clients may send what the contract
// says of it; the walk fails for a row that is not here.
func clientEvents() map[event.Kind]sent {
	pay := func(typ string) sent {
		return sent{
			`{"paymentId":"p","amount":"1.50","currency":"MXN","venueId":"venue_1"}`,
			map[string]string{
				"paymentId": "Payment ID is required", "amount": "Valid payment amount is required",
				"currency": "Currency is required", "venueId": noVenue,
			},
			"Payment " + typ + " event broadcasted", typ,
		}
	}
	order := func(typ string) sent {
		return sent{
			`{"orderId":"o","venueId":"venue_1"}`,
			map[string]string{"orderId": "Order ID is required", "venueId": noVenue},
			"Order " + typ + " event broadcasted", typ,
		}
	}
	report := func(message, more string) sent {
		return sent{
			`{"commandId":"c","terminalId":"1","venueId":"venue_1"` + more + `}`,
			map[string]string{"commandId": reportIDs, "terminalId": reportIDs},
			fmt.Sprintf(`{"success":true,"message":%q}`, message), "",
		}
	}
	reply := func(message, more string) sent {
		return sent{
			`{"messageId":"m","terminalId":"1","venueId":"venue_1"` + more + `}`,
			map[string]string{"messageId": replyIDs, "terminalId": replyIDs},
			fmt.Sprintf(`{"success":true,"message":%q}`, message), "",
		}
	}
	bridge := func(more string) sent {
		return sent{
			`{"requestId":"r","terminalId":"1","venueId":"venue_1",` + more + `}`,
			map[string]string{"requestId": requestID},
			`{"success":true}`, "",
		}
	}
	return map[event.Kind]sent{
		"payment_initiated": pay("initiated"), "payment_processing": pay("processing"),
		"payment_completed": pay("completed"), "payment_failed": pay("failed"),
		"order_created": order("created"), "order_updated": order("updated"),
		"order_status_changed": order("status_changed"), "order_deleted": order("deleted"),
		"system_alert": {
			`{"level":"info","title":"t","message":"m","venueId":"venue_1"}`,
			map[string]string{
				"level": "Alert level is required", "title": "Alert title is required",
				"message": "Alert message is required", "venueId": noVenue,
			},
			"System alert broadcasted", "",
		},
		"tpv_command": {
			`{"terminalId":"1","type":"LOCK","venueId":"venue_1"}`,
			map[string]string{"terminalId": "Terminal ID is required", "type": "Command type is required"},
			"Command queued", "tpv_command",
		},
		"tpv_command_cancelled": {
			`{"commandId":"c","venueId":"venue_1"}`,
			map[string]string{"commandId": "Command ID is required"},
			"Command cancelled", "tpv_command_cancelled",
		},
		"tpv_message": {`{"title":"t","venueId":"venue_1"}`, nil, "Message sent", "tpv_message"},
		"tpv_message_cancelled": {
			`{"messageId":"m","venueId":"venue_1"}`,
			map[string]string{"messageId": "Message ID is required"},
			"Message cancelled", "tpv_message_cancelled",
		},
		"tpv_command_ack":                     report("ACK processed", ""),
		"tpv_command_started":                 report("Execution start recorded", ""),
		"tpv_command_progress":                report("Progress processed", `,"progress":1`),
		"tpv_command_result":                  report("Result processed", `,"resultStatus":"SUCCESS"`),
		"tpv_message_ack":                     reply("Message ACK processed", `,"action":"DISMISSED"`),
		"tpv_message_response":                reply("Survey response processed", `,"selectedOptions":[]`),
		"terminal:payment_result":             bridge(`"status":"success"`),
		"terminal:print_receipt_result":       bridge(`"status":"failed"`),
		"terminal:refund_result":              bridge(`"status":"opened"`),
		"terminal:payment_cancel_disposition": bridge(`"disposition":"ACCEPTED"`),
		"terminal:payment_probe_result":       bridge(`"disposition":"NOT_FOUND"`),
		"tpv:log": {
			`{"level":"warn","tag":"t","message":"m","terminalId":"1","venueId":"venue_1"}`,
			map[string]string{"level": logFields, "tag": logFields, "message": logFields, "terminalId": logFields, "venueId": logFields},
			`{"success":true,"id":`, "",
		},
		"tpv:heartbeat": {
			`{"terminalId":"1","venueId":"venue_1","health":{}}`,
			map[string]string{"terminalId": beatFields, "venueId": beatFields, "health": beatFields},
			`{"success":true,"id":`, "",
		},
	}
}

func without(t *testing.T, payload, key string) string {
	t.Helper()
	var m map[string]json.RawMessage
	if err := json.Unmarshal([]byte(payload), &m); err != nil {
		t.Fatal(err)
	}
	delete(m, key)
	text, _ := json.Marshal(m)
	return string(text)
}

// TestEveryClientEvent walks the catalogue: what each kind accepts and how that
// is answered, and each refusal with its text and shape.
func TestEveryClientEvent(t *testing.T) {
	b := start(t)
	clients := make(map[event.Role]*client)
	for _, role := range event.Roles() {
		clients[role] = b.as(role)
	}
	clients[event.Owner] = b.connect(auth.Grant{Subject: "owner", Role: event.Owner, Terminal: "1"}, "AVQD-1")
	anonymous := b.as(event.Owner)
	known := clientEvents()
	for _, row := range event.Catalogue() {
		if !row.FromClients() || row.Family == event.Session { // whose events have tests of their own
			continue
		}
		t.Run(string(row.Kind), func(t *testing.T) {
			c, ok := known[row.Kind]
			if !ok {
				t.Fatal("the contract's word on it is missing")
			}
			delete(known, row.Kind)
			owner := clients[event.Owner]
			name := string(row.Kind)

			refused := func(from *client, payload, text, status string) {
				t.Helper()
				ack := from.ask(name, payload)
				if row.Terminal {
					if ack != fmt.Sprintf(`{"success":false,"error":%q}`, text) {
						t.Errorf("%s: %s, want %q", payload, ack, text)
					}
					return
				}
				checkFailure(t, ack, text, status)
				if got := from.want("error"); got != ack {
					t.Errorf("error event %s differs from ack %s", got, ack)
				}
			}

			ack := owner.ask(name, c.payload)
			switch {
			case row.Terminal:
				if !strings.HasPrefix(ack, c.done) {
					t.Errorf("ack is %s, want %s", ack, c.done)
				}
			default:
				want := map[string]string{"success": "true", "message": fmt.Sprintf("%q", c.done), "durability": `"stored"`}
				if c.eventOf != "" {
					want["eventType"] = fmt.Sprintf("%q", c.eventOf)
				}
				for key, value := range want {
					if field(t, ack, key) != value {
						t.Errorf("ack %s is %s, want %s", key, field(t, ack, key), value)
					}
				}
				if len(field(t, ack, "correlationId")) != 38 || field(t, ack, "eventId") == "" {
					t.Errorf("ack lacks ids: %s", ack)
				}
			}

			for key, text := range c.missing {
				refused(owner, without(t, c.payload, key), text, "400")
			}
			refused(owner, strings.Replace(c.payload, "venue_1", "venue_2", 1), wrongVenue, "401")
			for _, role := range event.Roles() {
				if !slices.Contains(row.Senders, role) {
					refused(clients[role], c.payload, roleText(&row, role), "401")
				}
			}
			if row.Terminal {
				refused(owner, strings.Replace(c.payload, `"terminalId":"1"`, `"terminalId":"2"`, 1), notYours, "")
				refused(anonymous, c.payload, notYours, "")
			}
		})
	}
	for kind := range known {
		t.Errorf("%s: no client may send it", kind)
	}
	for _, row := range event.Catalogue() { // the rest is dropped in silence
		if !row.FromClients() {
			clients[event.Owner].emit(string(row.Kind), `{}`)
		}
	}
	clients[event.Owner].ask("authenticate", `{}`)
	b.quiet(clients[event.Owner], "error")
}

func roleText(row *event.Row, role event.Role) string {
	switch row.Family {
	case event.Payment:
		if role == event.Waiter {
			return fmt.Sprintf("Role %s not authorized for %s payment events", role, row.Type)
		}
		return fmt.Sprintf("Role %s not authorized for payment events", role)
	case event.Order:
		if row.Kind == event.OrderDeleted && (role == event.Waiter || role == event.Kitchen) {
			return fmt.Sprintf("Role %s not authorized to delete orders", role)
		}
		return fmt.Sprintf("Role %s not authorized for order events", role)
	case event.Alert:
		return fmt.Sprintf("Role %s not authorized to send system alerts", role)
	case event.Plain, event.Task, event.Session:
	}
	return fmt.Sprintf("Role %s not authorized to send %s", role, row.Kind)
}

// TestEveryServerEvent walks the catalogue the other way: who hears each kind
// that names everybody it can name, each socket once.
func TestEveryServerEvent(t *testing.T) {
	b := start(t)
	clients := map[string]*client{
		"manager":  b.as(event.Manager),
		"waiter":   b.as(event.Waiter),
		"named":    b.connect(auth.Grant{Subject: "named", Role: event.Viewer}, ""),
		"terminal": b.terminal("1"),
		"other":    b.terminal("2"),
	}
	clients["waiter"].ask("join_room", `{"roomType":"table","venueId":"venue_1","tableId":"t1"}`)
	everybody := slices.Sorted(maps.Keys(clients))
	only := func(names ...string) []string { return names }
	addressed := map[event.Kind][]string{
		"notification_new": only("named"), "notification_read": only("named"), "notification_deleted": only("named"),
		"notification_count_updated": only("named"), "notification:updated": only("named"),
		"sim-custody.assigned-to-promoter": only("named"), "sim-custody.recollected-from-promoter": only("named"),
		"sim-custody.rejected-acknowledged": only("named"), "sale-verification.reviewed": only("named"),
		"terminal:payment_request": only("terminal"), "terminal:payment_cancel": only("terminal"),
		"terminal:payment_probe": only("terminal"), "terminal:refund_request": only("terminal"),
		"terminal:print_receipt_request": only("terminal"),
		"tpv_message":                    only("terminal"), "tpv_message_cancelled": only("terminal"),
		"system_alert": only("manager"),
	}
	const payload = `{"secret":"s","paymentId":"p","amount":1,"currency":"MXN","orderId":"o","level":"info","title":"t","message":"m",` +
		`"targetRoles":["MANAGER"],"tableId":"t1","recipientId":"named","targetStaffId":"named","staffId":"named",` +
		`"terminalId":"AVQD-1","terminalIds":["1"],"messageId":"m","commandId":"c","venueId":"venue_1"}`
	for _, row := range event.Catalogue() {
		if !row.Broadcast || !row.Shown() {
			continue // the desk's, whose tests see where they go
		}
		if row.Kind == "venue_update" { // the marker
			continue
		}
		ack := b.Publish(t.Context(), auth.Grant{Subject: "api", Venue: venue, Role: event.Owner}, row.Kind, []byte(payload), nil, event.Local)
		if row.Alias != "" {
			continue
		}
		if ack.Status != 200 {
			t.Errorf("%s: %s", row.Kind, ack.Body)
			continue
		}
		b.journal.append(event.Event{Kind: "venue_update", Payload: []byte(`{}`)})
		hear, ok := addressed[row.Kind]
		if !ok {
			hear = everybody
		}
		for name, c := range clients {
			c.want("venue_update")
			got := c.drop(string(row.Kind))
			want := 0
			if slices.Contains(hear, name) {
				want = 1
			}
			refreshes := row.Kind == event.UpdateDashboard || row.Kind == event.ShiftUpdate || row.Kind == event.NotificationUpdated
			if len(got) != want && (!refreshes || len(got) < want) {
				t.Errorf("%s reached %s %d times, want %d", row.Kind, name, len(got), want)
				continue
			}
			if want == 1 {
				checkShape(t, &row, got[0])
			}
		}
	}
}

// checkShape: what the box adds, and what it keeps to itself.
func checkShape(t *testing.T, row *event.Row, frame string) {
	t.Helper()
	payload := strings.TrimSuffix(strings.TrimPrefix(frame, fmt.Sprintf("42[%q,", row.Kind)), "]")
	if row.Kind == event.UpdateDashboard || row.Kind == event.ShiftUpdate || row.Kind == event.NotificationUpdated {
		return // perhaps one that follows from another event
	}
	if secret := field(t, payload, "secret"); (secret == "") != (row.Only != nil) {
		t.Errorf("%s came as %s", row.Kind, payload)
	}
	for _, key := range []string{"correlationId", "timestamp"} {
		if (field(t, payload, key) == "") != row.Bare {
			t.Errorf("%s: %s is %s", row.Kind, key, field(t, payload, key))
		}
	}
}

// drop takes all events of a name that came.
func (c *client) drop(name string) []string {
	found := c.pending(name)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.frames = slices.DeleteFunc(c.frames, func(f string) bool { return strings.HasPrefix(f, fmt.Sprintf("42[%q", name)) })
	return found
}
