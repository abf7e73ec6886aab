package event

import (
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func row(t *testing.T, kind Kind) *Row {
	t.Helper()
	r, ok := Lookup(kind)
	if !ok {
		t.Fatalf("no row for %s", kind)
	}
	return r
}

// Who may send what, and the words of the refusal (contract §3.2–3.4, C14, C15).
func TestMaySend(t *testing.T) {
	const (
		payment = "Role %s not authorized for payment events"
		order   = "Role %s not authorized for order events"
		remove  = "Role %s not authorized to delete orders"
		alert   = "Role %s not authorized to send system alerts"
	)
	settle := func(typ string) string { return "Role %s not authorized for " + typ + " payment events" }
	leaders := []Role{SuperAdmin, Owner, Admin, Manager}
	for kind, c := range map[Kind]struct {
		also  []Role          // who may besides the leaders
		texts map[Role]string // what all others read
	}{
		PaymentInitiated:  {[]Role{Waiter, Cashier}, map[Role]string{Kitchen: payment, Host: payment, Viewer: payment}},
		PaymentProcessing: {[]Role{Waiter, Cashier}, map[Role]string{Kitchen: payment, Host: payment, Viewer: payment}},
		PaymentCompleted:  {[]Role{Cashier}, map[Role]string{Waiter: settle("completed"), Kitchen: payment, Host: payment, Viewer: payment}},
		PaymentFailed:     {[]Role{Cashier}, map[Role]string{Waiter: settle("failed"), Kitchen: payment, Host: payment, Viewer: payment}},

		OrderCreated:       {[]Role{Waiter, Kitchen}, map[Role]string{Cashier: order, Host: order, Viewer: order}},
		OrderUpdated:       {[]Role{Waiter, Kitchen}, map[Role]string{Cashier: order, Host: order, Viewer: order}},
		OrderStatusChanged: {[]Role{Waiter, Kitchen}, map[Role]string{Cashier: order, Host: order, Viewer: order}},
		OrderDeleted:       {nil, map[Role]string{Waiter: remove, Kitchen: remove, Cashier: order, Host: order, Viewer: order}},

		SystemAlert: {nil, map[Role]string{Waiter: alert, Kitchen: alert, Cashier: alert, Host: alert, Viewer: alert}},
	} {
		r := row(t, kind)
		for _, role := range slices.Concat(leaders, c.also) {
			if refusal := r.MaySend(role); refusal != nil {
				t.Errorf("%s from %s: %v", kind, role, refusal)
			}
		}
		for role, text := range c.texts {
			refusal := r.MaySend(role)
			want := strings.Replace(text, "%s", string(role), 1)
			if refusal == nil || refusal.Text != want || refusal.Status != http.StatusUnauthorized || refusal.Code != "role_not_allowed" || refusal.Retryable {
				t.Errorf("%s from %s = %+v, want %q", kind, role, refusal, want)
			}
		}
		if n := len(leaders) + len(c.also) + len(c.texts); n != len(Roles()) {
			t.Errorf("%s: the table names %d of %d roles", kind, n, len(Roles()))
		}
	}
	for _, kind := range []Kind{"menu_updated", TableStatusChange, TerminalLog} {
		for _, role := range Roles() {
			if row(t, kind).MaySend(role) == nil {
				t.Errorf("%s may send %s", role, kind)
			}
		}
	}
	for _, role := range Roles() {
		if refusal := row(t, TPVHeartbeat).MaySend(role); refusal != nil {
			t.Errorf("heartbeat from %s: %v", role, refusal)
		}
		if want := slices.Contains(leaders, role); MayPublish(role) != want {
			t.Errorf("MayPublish(%s) = %t", role, !want)
		}
	}
}

// The texts and their order (contract §3.2–3.4): with several faults the
// first check of the existing system speaks.
func TestCheckPayload(t *testing.T) {
	const (
		wrongVenue = "Access denied to specified venue"
		noVenue    = "Venue ID is required"
		noAmount   = "Valid payment amount is required"
		badLevel   = "Invalid alert level. Must be one of: info, warning, error, critical"
	)
	long := strings.Repeat("x", MaxKey)
	payments := map[string]string{
		`{}`:                                                                  "Payment ID is required",
		`{"paymentId":""}`:                                                    "Payment ID is required",
		`{"paymentId":null,"amount":1}`:                                       "Payment ID is required",
		`{"paymentId":"p"}`:                                                   noAmount,
		`{"paymentId":"p","amount":0}`:                                        noAmount,
		`{"paymentId":"p","amount":-1}`:                                       noAmount,
		`{"paymentId":"p","amount":"x"}`:                                      noAmount,
		`{"paymentId":"p","amount":true}`:                                     noAmount,
		`{"paymentId":"p","amount":"1.0"}`:                                    "Currency is required",
		`{"paymentId":"p","amount":1,"currency":"MXN"}`:                       noVenue,
		`{"paymentId":"p","amount":1,"currency":"MXN","venueId":""}`:          noVenue,
		`{"paymentId":"p","amount":1,"currency":"MXN","venueId":"v2"}`:        wrongVenue,
		`{"paymentId":"p","amount":1,"currency":"MXN","venueId":["v1"]}`:      wrongVenue,
		`{"paymentId":"p","amount":"120.50","currency":"MXN","venueId":"v1"}`: "",
		`{"paymentId":7,"amount":1e3,"currency":"MXN","venueId":"v1","tableId":null,"x":{}}`:           "",
		`{"paymentId":{},"amount":1,"currency":"MXN","venueId":"v1"}`:                                  "paymentId must be a string",
		`{"paymentId":"p","amount":1,"currency":"MXN","venueId":"v1","tableId":["t"]}`:                 "tableId must be a string",
		`{"paymentId":"p","amount":1,"currency":"MXN","venueId":"v1","orderId":"` + long + `"}`:        "orderId is longer than 128 bytes",
		`{"paymentId":"p","amount":1,"currency":"MXN","venueId":"v1","idempotencyKey":"1234567"}`:      "idempotencyKey must be a string of 8 to 64 characters",
		`{"paymentId":"p","amount":1,"currency":"MXN","venueId":"v1","idempotencyKey":12345678}`:       "idempotencyKey must be a string of 8 to 64 characters",
		`{"paymentId":"p","amount":1,"currency":"MXN","venueId":"v1","idempotencyKey":"ññññññññ"}`:     "",
		`{"paymentId":"p","amount":1,"currency":"MXN","venueId":"v1","idempotencyKey":null}`:           "",
		`{"paymentId":"p","amount":1,"currency":"MXN","venueId":"v1","idempotencyKey":"` + long + `"}`: "idempotencyKey must be a string of 8 to 64 characters",
	}
	orders := map[string]string{
		`{}`:                              "Order ID is required",
		`{"orderId":0}`:                   "Order ID is required",
		`{"orderId":"o"}`:                 noVenue,
		`{"orderId":"o","venueId":"v2"}`:  wrongVenue,
		`{"orderId":"o","venueId":"v1"}`:  "",
		`{"orderId":[],"venueId":"v1"}`:   "orderId must be a string",
		`{"orderId":true,"venueId":"v1"}`: "orderId must be a string",
	}
	alerts := map[string]string{
		`{}`:                                    "Alert level is required",
		`{"level":"loud"}`:                      "Alert title is required",
		`{"level":"info","title":"t"}`:          "Alert message is required",
		`{"level":"x","title":"t","message":1}`: noVenue,
		`{"level":"loud","title":"t","message":"m","venueId":"v2"}`:                            badLevel,
		`{"level":"INFO","title":"t","message":"m","venueId":"v1"}`:                            badLevel,
		`{"level":"info","title":"t","message":"m","venueId":"v1","targetRoles":"ADMIN"}`:      "targetRoles must be an array of role names",
		`{"level":"info","title":"t","message":"m","venueId":"v2"}`:                            wrongVenue,
		`{"level":"info","title":"t","message":"m","venueId":"v1"}`:                            "",
		`{"level":"warning","title":"t","message":"m","venueId":"v1","targetRoles":[]}`:        "",
		`{"level":"error","title":"t","message":"m","venueId":"v1","targetRoles":["MANAGER"]}`: "",
		`{"level":"critical","title":"t","message":"m","venueId":"v1","targetRoles":null}`:     "",
	}
	plain := map[string]string{
		`{}`:                 "",
		`{"venueId":"v1"}`:   "",
		`{"venueId":"v2"}`:   wrongVenue,
		`{"tableId":{}}`:     "tableId must be a string",
		`{"commandId":true}`: "commandId must be a string",
	}
	commands := map[string]string{
		`{}`:                  "Terminal ID is required",
		`{"terminalId":"t1"}`: "Command type is required",
		`{"terminalId":"t1","commandType":"LOCK"}`:                "",
		`{"terminalId":"t1","type":"LOCK"}`:                       "",
		`{"terminalId":"t1","type":"LOCK","venueId":"v2"}`:        wrongVenue,
		`{"terminalId":["t1"],"type":"LOCK"}`:                     "terminalId must be a string",
		`{"terminalId":"` + long + `","type":"LOCK"}`:             "terminalId is longer than 128 bytes",
		`{"terminalId":"t1","type":"LOCK","commandId":{"a":"b"}}`: "commandId must be a string",
	}
	results := map[string]string{
		`{"commandId":"c"}`:                                           "Missing required fields: commandId, terminalId",
		`{"terminalId":"t"}`:                                          "Missing required fields: commandId, terminalId",
		`{"commandId":"c","terminalId":"t"}`:                          "",
		`{"commandId":"c","terminalId":"t","success":true}`:           "",
		`{"commandId":"c","terminalId":"t","resultStatus":"ERROR"}`:   "",
		`{"commandId":"c","terminalId":"t","resultStatus":"success"}`: "Invalid result status: success",
	}
	logs := map[string]string{
		`{"level":"info","tag":"t","message":"m","terminalId":"t"}`:                 "Missing required fields in log payload",
		`{"level":"Info","tag":"t","message":"m","terminalId":"t","venueId":"v1"}`:  "",
		`{"level":"DEBUG","tag":"t","message":"m","terminalId":"t","venueId":"v1"}`: "Invalid log level: DEBUG",
		`{"level":true,"tag":"t","message":"m","terminalId":"t","venueId":"v1"}`:    "Invalid log level: ",
	}
	for kind, table := range map[Kind]map[string]string{
		PaymentInitiated: payments, PaymentProcessing: payments, PaymentCompleted: payments, PaymentFailed: payments,
		OrderCreated: orders, OrderUpdated: orders, OrderStatusChanged: orders, OrderDeleted: orders,
		SystemAlert: alerts, "tpv_command_response": plain, TPVCommand: commands, TPVCommandResult: results, TPVLog: logs,
	} {
		for raw, want := range table {
			refusal := row(t, kind).CheckPayload(parse(t, raw), "v1")
			switch {
			case refusal == nil && want != "":
				t.Errorf("%s %.80s was accepted, want %q", kind, raw, want)
			case refusal == nil:
			case refusal.Text != want:
				t.Errorf("%s %.80s: %q, want %q", kind, raw, refusal.Text, want)
			case want == wrongVenue && (refusal.Status != http.StatusUnauthorized || refusal.Code != "venue_mismatch"):
				t.Errorf("%s %.80s = %+v", kind, raw, refusal)
			case want != wrongVenue && refusal.Status != http.StatusBadRequest:
				t.Errorf("%s %.80s: status %d", kind, raw, refusal.Status)
			}
		}
	}
}

func TestAudienceOf(t *testing.T) {
	for _, c := range []struct {
		kind Kind
		raw  string
		want Audience
	}{
		{PaymentCompleted, `{}`, Audience{Venue: true}},
		{PaymentCompleted, `{"tableId":"t1"}`, Audience{Venue: true, Tables: []string{"t1"}}},
		{OrderUpdated, `{"tableId":7}`, Audience{Venue: true, Tables: []string{"7"}}},
		{OrderCreated, `{"tableId":null}`, Audience{Venue: true, Roles: []Role{Waiter, Kitchen}}},
		{SystemAlert, `{"tableId":"t1"}`, Audience{Venue: true}},
		{SystemAlert, `{"targetRoles":[]}`, Audience{Venue: true}},
		{SystemAlert, `{"targetRoles":["MANAGER",7,"OWNER"]}`, Audience{Roles: []Role{Manager, Owner}}},
	} {
		got := row(t, c.kind).AudienceOf(parse(t, c.raw), nil)
		if got.Venue != c.want.Venue || !slices.Equal(got.Tables, c.want.Tables) || !slices.Equal(got.Roles, c.want.Roles) {
			t.Errorf("%s %s is for %+v, want %+v", c.kind, c.raw, got, c.want)
		}
	}
}

// Whom the payload names, and what a sender's own target may change about it.
func TestAudienceOfAddressed(t *testing.T) {
	venue, table := &Audience{Venue: true, Except: []Role{Viewer}}, &Audience{Tables: []string{"t1"}}
	for _, c := range []struct {
		kind   Kind
		raw    string
		target *Audience
		want   Audience
	}{
		{"notification_new", `{"recipientId":"s1"}`, nil, Audience{Users: []string{"s1"}}},
		{"notification_new", `{"recipientId":"s1"}`, venue, Audience{Users: []string{"s1"}, Except: []Role{Viewer}}},
		{"notification_new", `{"recipientId":"s1"}`, table, *table},
		{"notification_new", `{}`, nil, Audience{Venue: true}},
		{"notification_new", `{}`, venue, *venue},
		{TPVCommand, `{"terminalId":"AVQD-1"}`, venue, Audience{Terminals: []string{"AVQD-1"}, Except: []Role{Viewer}}},
		{TPVMessage, `{"terminalIds":["a","","b"]}`, nil, Audience{Terminals: []string{"a", "b"}}},
		{TPVMessage, `{"terminalIds":["a"]}`, venue, *venue},
		{TPVMessage, `{}`, nil, Audience{Venue: true}},
		{PaymentCompleted, `{"tableId":"t2"}`, table, *table},
	} {
		got := row(t, c.kind).AudienceOf(parse(t, c.raw), c.target)
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s %s is for %+v, want %+v", c.kind, c.raw, got, c.want)
		}
	}
}

func TestEnrich(t *testing.T) {
	at := time.Date(2026, 11, 23, 4, 0, 0, 7_900_000, time.FixedZone("", -6*3600))
	client := Stamp{CorrelationID: "made", Time: at, User: "staff_1", Venue: "v1", ID: "key_1"}
	cloud := Stamp{CorrelationID: "made", Time: at, Venue: "v1"}
	for _, c := range []struct {
		kind        Kind
		stamp       Stamp
		raw, want   string
		correlation string
	}{
		{PaymentCompleted, client, `{"amount":"120.50","venueId":"v1"}`, `{"amount":"120.50","venueId":"v1","correlationId":"made","timestamp":"2026-11-23T10:00:00.007Z","status":"completed","userId":"staff_1"}`, "made"},
		{PaymentInitiated, client, `{"status":"x","userId":"y","timestamp":1,"correlationId":"own","venueId":"v1"}`, `{"status":"initiated","userId":"staff_1","timestamp":"2026-11-23T10:00:00.007Z","correlationId":"own","venueId":"v1"}`, "own"},
		{PaymentFailed, cloud, `{"status":"x","userId":"y","timestamp":"z","correlationId":"own","venueId":"v1"}`, `{"status":"x","userId":"y","timestamp":"z","correlationId":"own","venueId":"v1"}`, "own"},
		{PaymentFailed, cloud, `{"correlationId":7}`, `{"correlationId":"made","timestamp":"2026-11-23T10:00:00.007Z","status":"failed","venueId":"v1"}`, "made"},
		{OrderUpdated, client, `{"status":"OPEN","venueId":"v1"}`, `{"status":"OPEN","venueId":"v1","correlationId":"made","timestamp":"2026-11-23T10:00:00.007Z","userId":"staff_1"}`, "made"},
		{TableStatusChange, cloud, `{"correlationId":"c","timestamp":"z","venueId":"v1","type":null,"role":"x"}`, `{"correlationId":"c","timestamp":"z","venueId":"v1","type":"status_changed","role":"x","userId":""}`, "c"},
		{TPVCommand, client, `{"commandType":"LOCK","venueId":"v1"}`, `{"commandType":"LOCK","venueId":"v1","correlationId":"made","timestamp":"2026-11-23T10:00:00.007Z","userId":"staff_1","commandId":"key_1","type":"LOCK"}`, "made"},
		{"notification_count_updated", cloud, `{"title":"secret","correlationId":"c","timestamp":"z","venueId":"v1","recipientId":"s1","action":"increment"}`, `{"recipientId":"s1","action":"increment","correlationId":"c","timestamp":"z","venueId":"v1"}`, "c"},
		{"terminal:payment_request", cloud, `{ "requestId":"r" }`, `{ "requestId":"r" }`, ""},
		{TPVCommandAck, client, `{"commandId":"c"}`, `{"commandId":"c"}`, ""},
	} {
		got, correlation := row(t, c.kind).Enrich(parse(t, c.raw), c.stamp)
		if string(got) != c.want || correlation != c.correlation {
			t.Errorf("%s %s\n got %s, %s\nwant %s, %s", c.kind, c.raw, got, correlation, c.want, c.correlation)
		}
	}
}

func TestRefusal(t *testing.T) {
	for _, c := range []struct {
		got  *Refusal
		want Refusal
	}{
		{Refuse(400, "bad", "text"), Refusal{Code: "bad", Status: 400, Text: "text"}},
		{RefuseForNow("busy", "later", time.Second), Refusal{Code: "busy", Status: 503, Text: "later", Retryable: true, RetryAfter: time.Second}},
		{WrongVenue(), Refusal{Code: "venue_mismatch", Status: 401, Text: "Access denied to specified venue"}},
	} {
		if *c.got != c.want || c.got.Error() != c.want.Text {
			t.Errorf("refusal = %+v, want %+v", *c.got, c.want)
		}
	}
}
