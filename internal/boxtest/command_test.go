package boxtest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// commands lists the commands a terminal was told, by their ids, in order.
func commands(c *Client) []string {
	var ids []string
	for _, line := range c.Events("tpv_command") {
		_, rest, _ := strings.Cut(line.Raw, `"commandId":"`)
		id, _, _ := strings.Cut(rest, `"`)
		ids = append(ids, id)
	}
	return ids
}

// TestCommandsOverPowerCuts kills the box at each stage of a command's life. It
// waits for its terminal all the same, reaches it alone, and a command that may
// be told once only is told once.
func TestCommandsOverPowerCuts(t *testing.T) {
	t.Parallel()
	box := StartBox(t, BoxConfig{})
	manager := box.Token(event.Manager, "m1", "")
	order := func(id, kind string) {
		t.Helper()
		status, body := box.Do("POST", "/api/v1/events", manager,
			fmt.Sprintf(`{"event":"tpv_command","payload":{"commandId":%q,"terminalId":"AVQD-2841","type":%q}}`, id, kind))
		if status != http.StatusOK || !strings.Contains(body, `"message":"Command queued"`) {
			t.Fatalf("command: %d %s", status, body)
		}
	}
	terminal := func(serial string) *Client {
		c := StartJS(t, ClientConfig{URL: box.URL(), Token: box.Token(event.Waiter, "w"+serial, serial), Venue: Venue})
		c.ExpectAck(0, 20*time.Second)
		return c
	}
	dashboard := terminal("")
	status := func(id, want string) {
		t.Helper()
		Eventually(t, 20*time.Second, id+" is "+want, func() bool {
			return slices.ContainsFunc(dashboard.Events("tpv_command_status_changed"), func(l Line) bool {
				return strings.Contains(l.Raw, fmt.Sprintf(`"commandId":%q`, id)) && strings.Contains(l.Raw, fmt.Sprintf(`"newStatus":%q`, want))
			})
		})
	}

	order("c1", "RESTART") // its terminal is away
	order("c2", "LOCK")
	box.Kill()
	box.Start()
	other, target := terminal("77"), terminal("2841")
	Eventually(t, 20*time.Second, "the terminal is told", func() bool { return slices.Contains(commands(target), "c2") })
	status("c1", "SENT")
	status("c2", "SENT")

	box.Kill() // the terminal has said nothing yet
	box.Start()
	Eventually(t, 40*time.Second, "the terminal is told again", func() bool {
		return len(commands(target)) == 3
	})
	target.EmitAck("tpv_command_result", map[string]any{"commandId": "c2", "terminalId": "2841", "resultStatus": "SUCCESS"}, 20*time.Second)
	status("c2", "COMPLETED")

	box.Kill()
	box.Start()
	Eventually(t, 40*time.Second, "the terminals are back", func() bool { return box.Status().LAN.Terminals == 2 })
	order("c3", "CLEAR_CACHE")
	Eventually(t, 20*time.Second, "the terminal is told of the last", func() bool { return slices.Contains(commands(target), "c3") })
	if got := strings.Join(commands(target), " "); got != "c1 c2 c2 c3" {
		t.Errorf("the terminal was told %q", got)
	}
	for name, c := range map[string]*Client{"another terminal": other, "the dashboard": dashboard} {
		if got := commands(c); len(got) > 0 {
			t.Errorf("%s was told %q", name, got)
		}
	}
}
