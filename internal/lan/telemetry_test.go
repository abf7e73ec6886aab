package lan_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
)

func TestLogs(t *testing.T) {
	b := start(t)
	terminal := b.connect(auth.Grant{Subject: "staff_1", Role: event.Waiter, Terminal: "2841548417"}, "AVQD-2841548417")
	dashboard := b.as(event.Admin)
	const body = `"tag":"Pay","message":"<x>","terminalId":"AVQD-2841548417","venueId":"venue_1","timestamp":1790000000000`
	ack := terminal.ask("tpv:log", `{"level":"warn","metadata":{"z":1.0},`+body+`}`)
	if field(t, ack, "success") != "true" || field(t, ack, "id") == "" {
		t.Errorf("ack is %s", ack)
	}
	got := dashboard.want("terminal:log")
	for key, want := range map[string]string{
		"id": field(t, ack, "id"), "terminalId": `"AVQD-2841548417"`, "level": `"WARN"`, "tag": `"Pay"`,
		"message": `"<x>"`, "metadata": `{"z":1.0}`, "timestamp": "1790000000000", "venueId": `"venue_1"`, "error": "",
	} {
		if field(t, got, key) != want {
			t.Errorf("%s is %s, want %s", key, field(t, got, key), want)
		}
	}
	for payload, text := range map[string]string{
		``:    "Missing required fields in log payload",
		`{}`:  "Missing required fields in log payload",
		`"x"`: "Missing required fields in log payload",
		`{"level":"warn","tag":"t","message":"m","venueId":"venue_1"}`:                                                 "Missing required fields in log payload",
		`{"level":"loud",` + body + `}`:                                                                                "Invalid log level: loud",
		`{"level":7,` + body + `}`:                                                                                     "Invalid log level: 7",
		`{"level":"info",` + strings.Replace(body, "venue_1", "venue_2", 1) + `}`:                                      "Access denied to specified venue",
		`{"level":"info",` + strings.Replace(body, "AVQD-2841548417", "AVQD-1", 1) + `}`:                               "Terminal socket not registered for venue",
		`{"level":"info","tag":"t","message":"m","venueId":"venue_1","terminalId":"` + strings.Repeat("x", 300) + `"}`: "Missing required fields in log payload",
	} {
		if ack := terminal.ask("tpv:log", payload); ack != fmt.Sprintf(`{"success":false,"error":%q}`, text) {
			t.Errorf("%s: %s, want %q", payload, ack, text)
		}
	}
	b.quiet(terminal, "error")
	if b.journal.Stored() != 1 { // the marker
		t.Error("a log was stored")
	}
}

func TestHeartbeats(t *testing.T) {
	b := start(t)
	terminal := b.connect(auth.Grant{Subject: "staff_1", Role: event.Waiter}, "AVQD-77")
	dashboard := b.as(event.Admin)
	const beat = `{"terminalId":"77","venueId":"venue_1","healthScore":87.5,"timestamp":1790000000000,` +
		`"health":{"memory":{"usagePercent":1.50},"storage":{},"battery":{"level":null},"device":{"model":"A910S"}}}`
	ack := terminal.ask("tpv:heartbeat", beat)
	got := dashboard.want("terminal:heartbeat")
	if field(t, ack, "id") == "" || field(t, ack, "id") != field(t, got, "id") {
		t.Errorf("ack %s, event %s", ack, got)
	}
	if h := field(t, got, "health"); h != `{"memory":{"usagePercent":1.50},"battery":{"level":null},"storage":{}}` {
		t.Errorf("health is %s", h)
	}
	if ack := terminal.ask("tpv:heartbeat", strings.Replace(beat, `"77"`, `"avqd-77"`, 1)); ack != `{"success":true,"debounced":true}` {
		t.Errorf("second within 30 s: %s", ack)
	}
	for _, bad := range []string{`{}`, `{"terminalId":"77","venueId":"venue_1"}`} {
		if ack := terminal.ask("tpv:heartbeat", bad); ack != `{"success":false,"error":"Missing required fields in heartbeat payload"}` {
			t.Errorf("%s: %s", bad, ack)
		}
	}
	// One without an identity may speak for any terminal, each with its own window.
	if ack := dashboard.ask("tpv:heartbeat", strings.Replace(beat, `"77"`, `"78"`, 1)); field(t, ack, "id") == "" {
		t.Errorf("another terminal: %s", ack)
	}
	b.quiet(dashboard)

	list := b.Terminals()
	if len(list) != 2 || list[0].ID != "77" || !list[0].Online || list[0].User != "staff_1" || *list[0].HealthScore != 87.5 || list[1].Online {
		t.Errorf("terminals are %+v", list)
	}
	// A newer socket of the terminal keeps it online when the older one goes.
	b.connect(auth.Grant{Subject: "staff_2", Role: event.Waiter}, "77")
	_ = terminal.ws.Close()
	until(t, "the first is gone", func() bool { return b.Connections().ConnectionStats.Total == 2 })
	if list := b.Terminals(); !list[0].Online || list[0].User != "staff_2" {
		t.Errorf("terminals are %+v", list)
	}
}

// What a terminal sends is a sign of life, long before a ping is due; that its
// socket is gone is none.
func TestEventIsASignOfLife(t *testing.T) {
	b := start(t)
	terminal := b.connect(auth.Grant{Subject: "staff_1", Role: event.Cashier}, "AVQD-77")
	seen := func() time.Time { return b.Terminals()[0].LastSeen }
	came := seen()
	until(t, "a payment is a sign of life", func() bool {
		terminal.ask("payment_completed", `{"paymentId":"p1","amount":1,"currency":"MXN","venueId":"venue_1"}`)
		return seen().After(came)
	})
	last := seen()
	_ = terminal.ws.Close()
	until(t, "it is away", func() bool { return !b.Terminals()[0].Online })
	if got := seen(); got.After(last) {
		t.Errorf("seen at %s, and it said nothing after %s", got, last)
	}
}

// After a restart it is known which terminals have not come back.
func TestTerminalsAreMissedAfterARestart(t *testing.T) {
	b := start(t, quick)
	for _, id := range []string{"AVQD-77", "AVQD-78"} {
		b.connect(auth.Grant{Subject: "staff_" + id, Role: event.Cashier}, id)
	}
	until(t, "what is saved of both", func() bool {
		entries, err := b.state.All("positions")
		return err == nil && entries["terminal/77"] != nil && entries["terminal/78"] != nil
	})
	b.stop()
	b = startWith(t, b.journal, b.state, quick)
	b.connect(auth.Grant{Subject: "staff_1", Role: event.Cashier}, "AVQD-77")
	list := b.Terminals()
	if len(list) != 2 || !list[0].Online || list[1].ID != "78" || list[1].Online || !list[1].LastSeen.IsZero() {
		t.Errorf("terminals are %+v", list)
	}
}
