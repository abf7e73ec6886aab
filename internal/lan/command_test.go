package lan_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/lan"
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
	// It gives a terminal another id: there is one after the restart, too.
	b.journal.append(event.Event{Kind: "terminal_config_changed", Payload: []byte(`{"terminalId":"cm4terminal0000000000003","terminalSerialNumber":"77"}`)})
	var ids map[string][]byte
	until(t, "it is kept", func() bool { ids, _ = state.All("terminals"); return ids["cm4terminal0000000000003"] != nil })
	if len(ids) != 1 {
		t.Errorf("of one terminal are kept %q", ids)
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

// A terminal that came again before its old socket ended is here while either
// is: and what is sent goes to the newest that is left.
func TestTwoSocketsOfATerminal(t *testing.T) {
	b := start(t)
	dashboard, older, newer := b.as(event.Admin), b.terminal(serial), b.terminal(serial)
	online := func() bool { return b.Terminals()[0].Online }
	newer.raw("41")
	until(t, "the newer one has gone", func() bool { return b.Connections().ConnectionStats.Total == 2 })
	if !online() {
		t.Fatal("offline while the older socket lives")
	}
	dashboard.ask("tpv_command", `{"terminalId":"AVQD-`+serial+`","type":"MAINTENANCE_MODE"}`)
	older.want("tpv_command")
	older.raw("41")
	until(t, "it is offline", func() bool { return !online() })
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

// TestDamagedState flips a bit in what is kept beside the journal. The box starts
// with the rest; and what it cannot know any more to have been written to a
// terminal, and may be written once only, is not written.
func TestDamagedState(t *testing.T) {
	j, state := newMemory(), &notes{}
	b := startWith(t, j, state)
	dashboard := b.as(event.Admin)
	dashboard.ask("tpv_command", `{"terminalId":"`+serial+`","type":"FACTORY_RESET","commandId":"once"}`)
	dashboard.status("QUEUED")
	b.stop()
	state.hurt = errBroken
	b = startWith(t, j, state)
	until(t, "it says so", func() bool { return strings.Contains(b.logs.String(), "some tries of commands cannot be read") })
	target := b.terminal(serial)
	b.as(event.Admin).ask("tpv_command", `{"terminalId":"`+serial+`","type":"FACTORY_RESET","commandId":"fresh"}`)
	if got := target.want("tpv_command"); field(t, got, "commandId") != `"fresh"` {
		t.Errorf("perhaps written before, and written again: %s", got)
	}
}

// TestStatusesInBetween has the venue told of many commands, each of which waits
// for the disk: what happens meanwhile is looked at in between, since a payment may
// be in it.
func TestStatusesInBetween(t *testing.T) {
	j := newMemory()
	v, err := auth.NewVerifier(auth.Config{Venue: venue, Secret: []byte(secret)}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	s, err := lan.Listen(lan.Config{Listen: "127.0.0.1:0", Venue: venue}, &door{Verifier: v}, j, &notes{}, http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	const commands = 100
	for i := range commands {
		j.append(event.Event{Kind: event.TPVCommand, Subject: fmt.Sprint("c", i), Payload: []byte(`{"terminalId":"99","type":"CLEAR_CACHE"}`)})
	}
	s.DeskRound()
	if n := j.Stored() - commands; n == 0 || n > commands/4 {
		t.Errorf("%d events in one round", n)
	}
	for range commands {
		s.DeskRound()
	}
	if n := j.Stored(); n != 3*commands { // QUEUED, and tpv_command_queued
		t.Errorf("%d events in the end", n)
	}
}

// TestManyCommandsOneWrite: what waits for a terminal is noted with one write of
// the disk, behind which payments wait, and not sent before that was possible.
func TestManyCommandsOneWrite(t *testing.T) {
	b := start(t)
	dashboard := b.as(event.Admin)
	const many = 20
	for i := range many {
		dashboard.ask("tpv_command", fmt.Sprintf(`{"terminalId":%q,"type":"CLEAR_CACHE","commandId":"c%d"}`, serial, i))
	}
	for range many {
		dashboard.status("QUEUED")
	}
	broken := func(err error) {
		b.state.mu.Lock()
		defer b.state.mu.Unlock()
		b.state.err = err
	}
	broken(errBroken)
	target := b.terminal(serial)
	until(t, "it cannot be noted", func() bool { return strings.Contains(b.logs.String(), "commands wait") })
	b.quiet(target, "tpv_command")
	broken(nil)
	for i := range many {
		if got := target.want("tpv_command"); field(t, got, "commandId") != fmt.Sprintf(`"c%d"`, i) || field(t, got, "replayed") != "" {
			t.Fatalf("command %d is %s", i, got)
		}
	}
	b.state.mu.Lock()
	defer b.state.mu.Unlock()
	if n := b.state.puts["tasks"]; n != 1 {
		t.Errorf("%d writes", n)
	}
}
