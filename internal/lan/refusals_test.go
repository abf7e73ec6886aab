package lan_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
)

// TestEveryChoice walks the catalogue: what a kind's choice takes, and what is
// answered to anything else.
func TestEveryChoice(t *testing.T) {
	b := start(t)
	c := b.connect(auth.Grant{Subject: "owner", Role: event.Owner, Terminal: "1"}, "AVQD-1")
	texts := map[event.Kind]string{
		"system_alert":                        "Invalid alert level. Must be one of: info, warning, error, critical",
		"tpv_message":                         "Invalid message type: odd",
		"tpv_command_result":                  "Invalid result status: odd",
		"tpv_message_ack":                     "Invalid action: odd",
		"tpv:log":                             "Invalid log level: odd",
		"terminal:payment_result":             "Invalid status: odd",
		"terminal:print_receipt_result":       "Invalid status: odd",
		"terminal:refund_result":              "Invalid status: odd",
		"terminal:payment_cancel_disposition": "Invalid disposition: odd",
		"terminal:payment_probe_result":       "Invalid disposition: odd",
	}
	known := clientEvents()
	for _, row := range event.Catalogue() {
		if !row.FromClients() || row.Choice.Key == "" {
			continue
		}
		text, ok := texts[row.Kind]
		if !ok {
			t.Errorf("%s: the contract's word on its choice is missing", row.Kind)
			continue
		}
		delete(texts, row.Kind)
		tried := 0
		with := func(value string) string {
			payload := without(t, known[row.Kind].payload, row.Choice.Key)
			tried++ // a command has one result
			payload = strings.Replace(payload, `"commandId":"c"`, fmt.Sprintf(`"commandId":"c%d"`, tried), 1)
			return fmt.Sprintf(`{%q:%s,%s`, row.Choice.Key, value, payload[1:])
		}
		for _, value := range row.Choice.Values {
			if ack := c.ask(string(row.Kind), with(fmt.Sprintf("%q", value))); field(t, ack, "success") != "true" {
				t.Errorf("%s refuses %s: %s", row.Kind, value, ack)
			}
		}
		ack := c.ask(string(row.Kind), with(`"odd"`))
		if row.Terminal {
			if ack != fmt.Sprintf(`{"success":false,"error":%q}`, text) {
				t.Errorf("%s: %s, want %q", row.Kind, ack, text)
			}
			continue
		}
		checkFailure(t, ack, text, "400")
		if got := c.want("error"); got != ack {
			t.Errorf("%s: error event %s differs from ack %s", row.Kind, got, ack)
		}
	}
	for kind := range texts {
		t.Errorf("%s has no choice", kind)
	}
	b.quiet(c, "error")
}

// TestNoObject sends each kind what is no payload.
func TestNoObject(t *testing.T) {
	b := start(t)
	c := b.connect(auth.Grant{Subject: "owner", Role: event.Owner, Terminal: "1"}, "AVQD-1")
	for _, row := range event.Catalogue() {
		if !row.FromClients() || row.Family == event.Session {
			continue
		}
		for _, payload := range []string{``, `null`, `7`, `"x"`, `[{}]`} {
			ack := c.ask(string(row.Kind), payload)
			switch {
			case !row.Terminal:
				checkFailure(t, ack, "Payload must be a JSON object", "400")
			case row.Volatile: // what is no object lacks everything
				if ack != fmt.Sprintf(`{"success":false,"error":%q}`, row.Needs[0].Text) {
					t.Errorf("%s %s: %s", row.Kind, payload, ack)
				}
			case ack != `{"success":false,"error":"Payload must be a JSON object"}`:
				t.Errorf("%s %s: %s", row.Kind, payload, ack)
			}
		}
	}
}

// TestEveryEventOfAnEndedLogin: between the end of a token and that of its
// transport nothing is taken, in the words of the existing system.
func TestEveryEventOfAnEndedLogin(t *testing.T) {
	b := start(t)
	c := b.connect(auth.Grant{Subject: "owner", Role: event.Owner, Terminal: "1"}, "AVQD-1")
	b.EndLogins()
	known := clientEvents()
	for _, row := range event.Catalogue() {
		if !row.FromClients() || row.Kind == event.Authenticate || row.Alias != "" {
			continue
		}
		text := "Authentication required"
		switch {
		case row.Family == event.Payment:
			text = "Authentication required for payment events"
		case row.Family == event.Order:
			text = "Authentication required for order events"
		case row.Family == event.Alert:
			text = "Authentication required for system alerts"
		case row.Kind == event.JoinRoom:
			text = "Authentication required to join rooms"
		case row.Kind == event.LeaveRoom:
			text = "Authentication required to leave rooms"
		}
		ack := c.ask(string(row.Kind), known[row.Kind].payload)
		if row.Terminal {
			if ack != fmt.Sprintf(`{"success":false,"error":%q}`, text) {
				t.Errorf("%s: %s, want %q", row.Kind, ack, text)
			}
			continue
		}
		checkFailure(t, ack, text, "401")
		if got := c.want("error"); got != ack {
			t.Errorf("%s: error event %s differs from ack %s", row.Kind, got, ack)
		}
	}
	if n := b.journal.Stored(); n != 0 {
		t.Errorf("%d events were stored", n)
	}
}

// TestEveryEcho: the ack names what it is about, with the values as they came
// (contract §3.2–3.4).
func TestEveryEcho(t *testing.T) {
	b := start(t)
	c := b.as(event.Owner)
	for kind, want := range map[string]map[string]string{
		"payment_initiated": {"eventType": `"initiated"`, "paymentId": `"p"`},
		"payment_completed": {"eventType": `"completed"`, "paymentId": `"p"`},
		"order_created":     {"eventType": `"created"`, "orderId": `"o"`},
		"order_deleted":     {"eventType": `"deleted"`, "orderId": `"o"`},
		"system_alert":      {"level": `"info"`, "title": `"t"`},
	} {
		ack := c.ask(kind, clientEvents()[event.Kind(kind)].payload)
		for key, value := range want {
			if got := field(t, ack, key); got != value {
				t.Errorf("%s: %s is %s, want %s", kind, key, got, value)
			}
		}
	}
}

// TestDashboardOrigins: each page of the existing system may come in, and none
// of a developer's (contract §1.7).
func TestDashboardOrigins(t *testing.T) {
	b := start(t)
	dial := func(origin string) error {
		ws, resp, err := websocket.DefaultDialer.Dial(b.socketURL(), http.Header{"Origin": {origin}})
		if resp != nil {
			_ = resp.Body.Close()
		}
		if err == nil {
			_ = ws.Close()
		}
		return err
	}
	for host := range strings.FieldsSeq(`www.dashboard.avoqado.io dashboard.avoqado.io www.demo.avoqado.io demo.avoqado.io
		avoqado.io www.avoqado.io avo-demo.onrender.com`) {
		if err := dial("https://" + host); err != nil {
			t.Errorf("%s: %v", host, err)
		}
		if dial("http://"+host) == nil {
			t.Errorf("%s may come without TLS", host)
		}
	}
	for _, port := range []string{"5173", "5177", "3000", "4173", "5000", "8080"} {
		if dial("http://localhost:"+port) == nil {
			t.Errorf("a page of port %s may come", port)
		}
	}
}

// TestSyncStatusSaysWhatItShould holds the whole of a sync_status against its
// description.
func TestSyncStatusSaysWhatItShould(t *testing.T) {
	cloud := &sky{}
	since := time.Date(2026, 11, 23, 10, 0, 0, 7e6, time.UTC)
	cloud.set(1, true, since)
	j := newMemory()
	for range 3 {
		j.append(event.Event{Kind: "venue_update", Origin: event.Terminal, Terminal: "1", Payload: []byte(`{}`)})
	}
	b := startWith(t, j, &notes{}, func(c *lanConfig) { c.Cloud = cloud })
	c := b.connect(auth.Grant{Subject: "w1", Role: event.Waiter}, "AVQD-1")
	if got, want := c.want("sync_status"), `{"epoch":"epoch-1","storedThrough":3,"syncedThrough":1,"pending":2,`+
		`"pendingForThisTerminal":2,"uplink":"online","since":"2026-11-23T10:00:00.007Z"}`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	j.set(func() { j.epoch = "epoch-2" })
	cloud.set(1, false, since.Add(time.Hour))
	if got, want := c.want("sync_status"), `{"epoch":"epoch-2","storedThrough":3,"syncedThrough":1,"pending":2,`+
		`"pendingForThisTerminal":2,"uplink":"offline","since":"2026-11-23T11:00:00.007Z"}`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
