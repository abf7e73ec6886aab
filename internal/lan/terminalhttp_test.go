package lan_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
)

func waiter(terminal string) auth.Grant {
	return auth.Grant{Subject: "staff_1", Venue: "venue_1", Role: event.Waiter, Terminal: terminal}
}

// TestCommandResultOverHTTP: a command reaches its terminal by socket, and what
// became of it comes back as today's terminal says it.
func TestCommandResultOverHTTP(t *testing.T) {
	b := start(t)
	dashboard, target := b.as(event.Admin), b.terminal(serial)
	dashboard.ask("tpv_command", fmt.Sprintf(`{"terminalId":%q,"type":"MAINTENANCE_MODE","commandId":"cmd_1"}`, serial))
	target.want("tpv_command")
	dashboard.status("SENT")

	result := fmt.Sprintf(`{"commandId":"cmd_1","terminalId":%q,"resultStatus":"SUCCESS","resultMessage":"done","resultPayload":{"n":1.50}}`, serial)
	for name, tt := range map[string]struct {
		grant   auth.Grant
		payload string
		status  int
		code    string
	}{
		"another terminal's login": {waiter("999"), result, http.StatusUnauthorized, "terminal_mismatch"},
		"another terminal's name":  {waiter(""), strings.Replace(result, serial, "999", 1), http.StatusUnauthorized, "terminal_mismatch"},
		"no terminal":              {waiter(""), `{"commandId":"cmd_1","resultStatus":"SUCCESS"}`, http.StatusBadRequest, ""},
		"another venue": {
			auth.Grant{Subject: "s", Venue: "venue_2", Role: event.Waiter, Terminal: serial},
			result,
			http.StatusUnauthorized, "",
		},
		"unknown status": {waiter(serial), strings.Replace(result, "SUCCESS", "GREAT", 1), http.StatusBadRequest, ""},
		"no object":      {waiter(serial), `[]`, http.StatusBadRequest, "bad_payload"},
	} {
		ack := b.CommandResult(t.Context(), tt.grant, []byte(tt.payload))
		if ack.Status != tt.status || (tt.code != "" && field(t, string(ack.Body), "code") != fmt.Sprintf("%q", tt.code)) {
			t.Errorf("%s: %d %s", name, ack.Status, ack.Body)
		}
	}
	for range 2 { // a repeat changes nothing
		ack := b.CommandResult(t.Context(), waiter(""), []byte(result))
		if string(ack.Body) != `{"success":true,"message":"Result processed"}` || ack.Status != http.StatusOK {
			t.Errorf("%d %s", ack.Status, ack.Body)
		}
	}
	if got := dashboard.want("tpv_command_status_changed"); field(t, got, "newStatus") != `"COMPLETED"` || field(t, got, "message") != `"done"` {
		t.Errorf("the dashboard heard %s", got)
	}
	b.quiet(dashboard, "tpv_command_status_changed", "error")

	// As on a socket: one that shows tokens of its own is not believed without.
	proven, other := serial, strings.Replace(result, "cmd_1", "cmd_2", 1)
	b.door.proven.Store(&proven)
	for terminal, status := range map[string]int{"": http.StatusUnauthorized, serial: http.StatusOK} {
		if ack := b.CommandResult(t.Context(), waiter(terminal), []byte(other)); ack.Status != status {
			t.Errorf("a login of terminal %q: %d %s", terminal, ack.Status, ack.Body)
		}
	}
}

// TestHeartbeatOverHTTP: it is answered to anybody, and believed of those who
// may say it.
func TestHeartbeatOverHTTP(t *testing.T) {
	b := start(t)
	dashboard := b.as(event.Admin)
	b.connect(auth.Grant{Subject: "staff_2", Role: event.Waiter}, "88")
	const beat = `{"terminalId":"AVQD-77","status":"MAINTENANCE","version":"2.1.0","systemInfo":{"battery":81.50},"networkInfo":{}}`
	ok := func(ack any, body []byte, status int) {
		t.Helper()
		if status != http.StatusOK || field(t, string(body), "success") != "true" {
			t.Errorf("%v: %d %s", ack, status, body)
		}
	}

	stranger := b.Heartbeat(nil, []byte(beat))
	ok("a stranger", stranger.Body, stranger.Status)
	if len(b.Terminals()) != 1 {
		t.Errorf("a stranger made a terminal: %+v", b.Terminals())
	}
	g := waiter("77")
	for range 2 {
		ack := b.Heartbeat(&g, []byte(beat))
		ok("the terminal", ack.Body, ack.Status)
		if field(t, string(ack.Body), "serverStatus") != `"MAINTENANCE"` {
			t.Errorf("got %s", ack.Body)
		}
	}
	got := dashboard.want("tpv_status_update")
	for key, want := range map[string]string{
		"terminalId": `"AVQD-77"`, "status": `"MAINTENANCE"`, "version": `"2.1.0"`,
		"systemInfo": `{"battery":81.50}`, "venueId": `"venue_1"`,
	} {
		if field(t, got, key) != want {
			t.Errorf("%s is %s, want %s", key, field(t, got, key), want)
		}
	}
	list := b.Terminals()
	if len(list) != 2 || list[0].ID != "77" || list[0].LastHeartbeat.IsZero() || string(list[0].Telemetry) != beat {
		t.Errorf("terminals are %+v", list)
	}
	b.Heartbeat(&g, []byte(strings.Replace(beat, "{}", `{"x":"`+strings.Repeat("x", 20_000)+`"}`, 1)))
	if list := b.Terminals(); list[0].Telemetry != nil {
		t.Errorf("%d bytes are kept", len(list[0].Telemetry))
	}

	for name, tt := range map[string]struct {
		grant   auth.Grant
		payload string
		status  int
	}{
		"another terminal": {waiter("99"), beat, http.StatusUnauthorized},
		"another venue":    {auth.Grant{Subject: "s", Venue: "venue_2", Role: event.Waiter}, beat, http.StatusUnauthorized},
		"one that is here": {waiter(""), strings.Replace(beat, "AVQD-77", "88", 1), http.StatusUnauthorized},
		"no terminalId":    {waiter("77"), `{"status":"ACTIVE"}`, http.StatusBadRequest},
		"no object":        {waiter("77"), `7`, http.StatusBadRequest},
	} {
		if ack := b.Heartbeat(&tt.grant, []byte(tt.payload)); ack.Status != tt.status {
			t.Errorf("%s: %d %s", name, ack.Status, ack.Body)
		}
	}
	b.quiet(dashboard, "tpv_status_update")
}
