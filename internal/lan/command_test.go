package lan_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
)

const (
	serial = "2841548417"
	cuid   = "cm4terminal0000000000001"
)

func (b *box) terminal(id string) *client {
	b.t.Helper()
	return b.connect(auth.Grant{Subject: "staff_" + id, Role: event.Waiter, Terminal: id}, "AVQD-"+id)
}

// status waits for a change of a command's status.
func (c *client) status(want string) string {
	c.t.Helper()
	got := c.want("tpv_command_status_changed")
	if field(c.t, got, "newStatus") != fmt.Sprintf("%q", want) {
		c.t.Fatalf("status is %s, want %s", got, want)
	}
	return got
}

func TestCommand(t *testing.T) {
	b := start(t)
	dashboard, target, other := b.as(event.Admin), b.terminal(serial), b.terminal("77")

	ack := dashboard.ask("tpv_command", `{"terminalId":"AVQD-`+serial+`","type":"MAINTENANCE_MODE","payload":{"n":1.50}}`)
	id := strings.Trim(field(t, ack, "commandId"), `"`)
	if field(t, ack, "message") != `"Command queued"` || id == "" {
		t.Fatalf("ack is %s", ack)
	}
	got := target.want("tpv_command")
	for key, want := range map[string]string{
		"terminalId": `"AVQD-` + serial + `"`, "commandId": field(t, ack, "commandId"), "type": `"MAINTENANCE_MODE"`,
		"commandType": `"MAINTENANCE_MODE"`, "payload": `{"n":1.50}`, "requiresPin": "false", "priority": `"NORMAL"`,
		"requestedBy": `"staff_admin"`, "venueId": `"venue_1"`, "replayed": "",
	} {
		if field(t, got, key) != want {
			t.Errorf("%s is %s, want %s", key, field(t, got, key), want)
		}
	}
	for _, key := range []string{"correlationId", "timestamp", "expiresAt"} {
		if len(field(t, got, key)) < 26 {
			t.Errorf("%s is %s", key, field(t, got, key))
		}
	}
	sent := dashboard.status("SENT")
	if field(t, sent, "previousStatus") != `"PENDING"` || field(t, sent, "commandType") != `"MAINTENANCE_MODE"` {
		t.Errorf("status changed: %s", sent)
	}

	report := func(name, more string) string {
		return target.ask(name, fmt.Sprintf(`{"commandId":%q,"terminalId":%q%s}`, id, serial, more))
	}
	for _, c := range []struct{ name, more, message, status string }{
		{"tpv_command_ack", "", "ACK processed", "RECEIVED"},
		{"tpv_command_started", "", "Execution start recorded", "EXECUTING"},
		{"tpv_command_result", `,"resultStatus":"SUCCESS","message":"done"`, "Result processed", "COMPLETED"},
	} {
		want := fmt.Sprintf(`{"success":true,"message":%q}`, c.message)
		if got := report(c.name, c.more); got != want {
			t.Errorf("%s: %s, want %s", c.name, got, want)
		}
		dashboard.status(c.status)
		if got := report(c.name, c.more); got != want { // a repeat changes nothing
			t.Errorf("%s again: %s", c.name, got)
		}
	}
	if got := report("tpv_command_progress", `,"progress":40`); got != `{"success":true,"message":"Progress processed"}` {
		t.Errorf("progress: %s", got)
	}
	if got := dashboard.want("tpv_command_progress"); field(t, got, "progress") != "40" {
		t.Errorf("progress is heard as %s", got)
	}
	if got := dashboard.want("tpv_status_update"); field(t, got, "status") != `"MAINTENANCE"` {
		t.Errorf("status update: %s", got)
	}
	b.quiet(dashboard, "tpv_command_status_changed", "tpv_command", "tpv_command_ack", "tpv_command_result", "error")
	b.quiet(other, "tpv_command", "error")
}

// TestCommandForOneAway: it waits, is told under one id until its terminal has
// said a word, and never by a server that was started anew once that may be
// its second effect.
func TestCommandForOneAway(t *testing.T) {
	j, state := newMemory(), &notes{}
	b := startWith(t, j, state)
	dashboard := b.as(event.Admin)
	for _, c := range []string{"LOCK", "RESTART"} {
		dashboard.ask("tpv_command", fmt.Sprintf(`{"terminalId":%q,"type":%q,"commandId":"cmd_%s"}`, serial, c, c))
	}
	for range 2 {
		dashboard.status("QUEUED")
		if got := dashboard.want("tpv_command_queued"); field(t, got, "reason") != `"TERMINAL_OFFLINE"` {
			t.Errorf("queued: %s", got)
		}
	}
	target := b.terminal(serial)
	for _, want := range []string{"LOCK", "RESTART"} {
		if got := target.want("tpv_command"); field(t, got, "type") != fmt.Sprintf("%q", want) {
			t.Errorf("got %s, want %s", got, want)
		}
		dashboard.status("SENT")
	}
	_ = target.ws.Close() // before it says a word
	until(t, "it is gone", func() bool { return b.Connections().ConnectionStats.Total == 1 })
	target = b.terminal(serial)
	if got := target.want("tpv_command"); field(t, got, "commandId") != `"cmd_LOCK"` || field(t, got, "replayed") != "true" {
		t.Errorf("told again: %s", got)
	}
	b.quiet(target, "tpv_command")

	b.stop()
	b = startWith(t, j, state)
	target = b.terminal(serial)
	if got := target.want("tpv_command"); field(t, got, "commandId") != `"cmd_LOCK"` {
		t.Errorf("told again after a restart: %s", got)
	}
	b.quiet(target, "tpv_command")
	target.ask("tpv_command_ack", `{"commandId":"cmd_LOCK","terminalId":"`+serial+`"}`)
	_ = target.ws.Close()
	until(t, "it is gone", func() bool { return b.Connections().ConnectionStats.Total == 0 })
	target = b.terminal(serial)
	b.quiet(target, "tpv_command")
}

func TestCommandEnds(t *testing.T) {
	b := start(t)
	dashboard, target := b.as(event.Admin), b.terminal(serial)
	command := func(id, terminal, more string) {
		dashboard.ask("tpv_command", fmt.Sprintf(`{"terminalId":%q,"type":"CLEAR_CACHE","commandId":%q%s}`, terminal, id, more))
	}
	soon := `,"expiresAt":"` + event.FormatTime(time.Now().Add(100*time.Millisecond)) + `"`
	command("late", "99", soon)
	until(t, "it expires", func() bool { // queued before, if the machine is fast enough
		got := dashboard.want("tpv_command_status_changed")
		return field(t, got, "newStatus") == `"EXPIRED"`
	})

	command("unsent", "99", "")
	dashboard.status("QUEUED")
	dashboard.ask("tpv_command_cancelled", `{"commandId":"unsent"}`)
	dashboard.status("CANCELLED")

	command("sent", serial, "")
	dashboard.status("SENT")
	target.want("tpv_command")
	dashboard.ask("tpv_command_cancelled", `{"commandId":"sent","reason":"r"}`)
	dashboard.status("CANCELLED")
	got := target.want("tpv_command_cancelled")
	if field(t, got, "commandId") != `"sent"` || field(t, got, "cancelledBy") != `"staff_admin"` || field(t, got, "terminalId") != `"`+serial+`"` {
		t.Errorf("cancelled: %s", got)
	}
	// What it did all the same is what counts.
	target.ask("tpv_command_result", `{"commandId":"sent","terminalId":"`+serial+`","success":true}`)
	dashboard.status("COMPLETED")

	away := b.terminal("99")
	b.quiet(away, "tpv_command", "tpv_command_cancelled")
}

// TestCommandFromCloud: the other name, the back-end's id for the terminal, and
// a second message about the same command.
func TestCommandFromCloud(t *testing.T) {
	b := start(t)
	target := b.terminal(serial)
	target.ask("tpv:heartbeat", `{"terminalId":"`+cuid+`","venueId":"venue_1","health":{}}`) // says its other id
	dashboard := b.as(event.Admin)
	row, _ := event.Resolve("tpv_command_send")
	for range 2 {
		b.journal.append(event.Event{
			Kind: row.Kind, Subject: "c1", Audience: event.Audience{Terminals: []string{cuid}},
			Payload: []byte(`{"terminalId":"` + cuid + `","commandId":"c1","commandType":"UNLOCK","requiresPin":false}`),
		})
	}
	if got := target.want("tpv_command"); field(t, got, "type") != `"UNLOCK"` || field(t, got, "requiresPin") != "false" || field(t, got, "requestedBy") != `"cloud"` {
		t.Errorf("got %s", got)
	}
	if got := dashboard.status("SENT"); field(t, got, "terminalId") != `"`+cuid+`"` {
		t.Errorf("dashboards know it as %s", got)
	}
	b.quiet(target, "tpv_command")
}

func TestTerminalIDs(t *testing.T) {
	j, state := newMemory(), &notes{}
	b := startWith(t, j, state)
	one, two := b.terminal(serial), b.terminal("77")
	beat := func(c *client, id string) bool {
		return strings.Contains(c.ask("tpv:heartbeat", fmt.Sprintf(`{"terminalId":%q,"venueId":"venue_1","health":{}}`, id)), `"success":true`)
	}
	if !beat(one, cuid) || !beat(one, serial) || !beat(one, strings.ToUpper("avqd-"+serial)) {
		t.Error("a terminal is refused under its own ids")
	}
	for _, id := range []string{cuid, serial, "avqd-" + serial, "78"} {
		if beat(two, id) {
			t.Errorf("another terminal may be %s", id)
		}
	}
	if beat(one, "cm4terminal0000000000002") {
		t.Error("a terminal has three ids")
	}
	if dashboard := b.as(event.Admin); beat(dashboard, serial) {
		t.Error("a dashboard may be a terminal that is here")
	}
	// The cloud knows better.
	b.journal.append(event.Event{Kind: "terminal_config_changed", Payload: []byte(`{"terminalId":"` + cuid + `","terminalSerialNumber":"AVQD-77"}`)})
	until(t, "the cloud is believed", func() bool { return beat(two, cuid) })
	if beat(one, cuid) {
		t.Error("the id has two terminals")
	}
	b.stop()
	b = startWith(t, j, state)
	if two := b.terminal("77"); !beat(two, cuid) {
		t.Error("forgotten over a restart")
	}
}

// TestCapabilities: what a terminal understands is what its newest socket said.
func TestCapabilities(t *testing.T) {
	b := start(t)
	c := b.dial("", nil)
	c.raw(fmt.Sprintf(`40{"token":%q,"terminalId":"AVQD-%s","terminalPaymentAckVersion":1,"terminalPaymentProbeVersion":2,"terminalPaymentCancelDispositionVersion":"1"}`,
		b.mint(auth.Grant{Subject: "staff_1", Role: event.Waiter, Terminal: serial}), serial))
	c.want("authentication_success")
	list := b.Terminals()
	if len(list) != 1 || len(list[0].Capabilities) != 2 || list[0].Capabilities["terminalPaymentAckVersion"] != 1 || list[0].Capabilities["terminalPaymentProbeVersion"] != 2 {
		t.Errorf("terminals are %+v", list)
	}
	b.terminal(serial)
	if list := b.Terminals(); len(list) != 1 || len(list[0].Capabilities) > 0 {
		t.Errorf("terminals are %+v", list)
	}
}

func TestMessages(t *testing.T) {
	b := start(t)
	manager, one, two := b.as(event.Manager), b.terminal("1"), b.terminal("2")
	send := func(id, more string) {
		if ack := manager.ask("tpv_message", fmt.Sprintf(`{"messageId":%q,"title":"T","body":"B"%s}`, id, more)); field(t, ack, "messageId") != fmt.Sprintf("%q", id) {
			t.Errorf("ack is %s", ack)
		}
	}
	send("m1", `,"type":"SURVEY","terminalIds":["AVQD-1"]`)
	send("m2", `,"type":"ANNOUNCEMENT"`)
	one.want("tpv_message")
	one.want("tpv_message")
	if got := two.want("tpv_message"); field(t, got, "messageId") != `"m2"` {
		t.Errorf("terminal 2 got %s", got)
	}
	b.quiet(two, "tpv_message")
	one.want("venue_update")
	manager.want("venue_update")

	say := func(c *client, name, id, terminal, more string) string {
		return c.ask(name, fmt.Sprintf(`{"messageId":%q,"terminalId":%q%s}`, id, terminal, more))
	}
	const ack, response = `,"action":"ACKNOWLEDGED"`, `,"selectedOptions":["a"]`
	good := func(text string) string { return fmt.Sprintf(`{"success":true,"message":%q}`, text) }
	bad := func(text string) string { return fmt.Sprintf(`{"success":false,"error":%q}`, text) }
	for i, c := range []struct{ got, want string }{
		{say(one, "tpv_message_ack", "m1", "1", ack), good("Message ACK processed")},
		{say(one, "tpv_message_response", "m1", "1", response), good("Survey response processed")},
		{say(one, "tpv_message_ack", "unknown", "1", ack), good("Message ACK processed")},
		{say(two, "tpv_message_ack", "m1", "2", ack), bad("Message delivery not found for this terminal")},
		{say(two, "tpv_message_response", "m2", "2", response), bad("Only survey messages accept responses")},
		{say(one, "tpv_message_ack", "m1", "1", `,"action":"SNOOZED"`), bad("Invalid action: SNOOZED")},
		{say(one, "tpv_message_ack", "m1", "2", ack), bad("Terminal socket not registered for venue")},
		{say(manager, "tpv_message_ack", "m1", "1", ack), bad("Terminal socket not registered for venue")},
	} {
		if c.got != c.want {
			t.Errorf("case %d: %s, want %s", i, c.got, c.want)
		}
	}
	manager.ask("tpv_message_cancelled", `{"messageId":"m1","terminalIds":["1"]}`)
	one.want("tpv_message_cancelled")
	until(t, "the cancellation is taken in", func() bool {
		return say(one, "tpv_message_response", "m1", "1", response) == bad("Message not found or not active")
	})
	b.quiet(two, "tpv_message_cancelled")
}

// TestRefresh: dashboards that only wait to be told to fetch anew (contract C1).
func TestRefresh(t *testing.T) {
	b := start(t)
	cashier, screen := b.as(event.Cashier), b.connect(auth.Grant{Subject: "staff_1", Role: event.Admin}, "")
	for range 20 {
		cashier.ask("payment_initiated", payment)
	}
	screen.want("updateDashboard")
	if n := len(screen.pending("updateDashboard")); n > 10 {
		t.Errorf("20 payments made %d refreshes", n+1)
	}
	b.journal.append(event.Event{Kind: "shift_opened", Payload: []byte(`{"shiftId":"s"}`)})
	screen.want("shiftUpdate")
	b.journal.append(event.Event{
		Kind: "notification_read", Subject: "n1", Audience: event.Audience{Users: []string{"staff_1"}},
		Payload: []byte(`{"notificationId":"n1","recipientId":"staff_1"}`),
	})
	if got := screen.want("notification:updated"); field(t, got, "id") != `"n1"` || field(t, got, "isRead") != "true" {
		t.Errorf("got %s", got)
	}
	b.quiet(cashier, "notification:updated", "notification_read")
}
