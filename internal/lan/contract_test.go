package lan_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/avoqado/avoqado-edge/internal/boxtest"
	"github.com/avoqado/avoqado-edge/internal/event"
)

// TestAckBeforeItsEvent: a client that joins or leaves reads the ack, then the
// event, the others hear of it after that (contract §2.4).
func TestAckBeforeItsEvent(t *testing.T) {
	b := start(t)
	c, other := b.as(event.Waiter), b.as(event.Manager)
	const table = `{"roomType":"table","venueId":"venue_1","tableId":"t1"}`
	other.ask("join_room", table)
	for _, say := range []struct{ verb, event string }{{"join_room", "room_joined"}, {"leave_room", "room_left"}} {
		id := c.post(say.verb, table)
		until(t, "both came", func() bool { return len(c.pending(say.event)) > 0 })
		ack, said := -1, -1
		for i, f := range c.framesNow() {
			switch {
			case strings.HasPrefix(f, fmt.Sprintf("43%d[", id)):
				ack = i
			case strings.HasPrefix(f, fmt.Sprintf("42[%q", say.event)):
				said = i
			}
		}
		if ack < 0 || said < ack {
			t.Errorf("%s: the ack came as frame %d, the event as %d", say.verb, ack, said)
		}
		other.want("table_status_change")
	}
}

// TestNoCompression: a frame is what was said, also to a client that offers to
// compress (contract §1.1).
func TestNoCompression(t *testing.T) {
	b := start(t)
	d := websocket.Dialer{EnableCompression: true}
	ws, resp, err := d.Dial(b.socketURL(), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	_ = ws.Close()
	if got := resp.Header.Get("Sec-WebSocket-Extensions"); got != "" {
		t.Errorf("the box takes up %s", got)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Errorf("HTTP %d", resp.StatusCode)
	}
}

// TestNoNull: what a terminal's parser reads as the text "null" is left out of
// all that the box says by itself (contract C12).
func TestNoNull(t *testing.T) {
	b := start(t)
	dashboard, target := b.as(event.Admin), b.terminal(serial)
	target.ask("tpv:heartbeat", fmt.Sprintf(`{"terminalId":%q,"venueId":"venue_1","health":{}}`, serial))
	target.ask("tpv:log", fmt.Sprintf(`{"level":"info","tag":"t","message":"m","terminalId":%q,"venueId":"venue_1"}`, serial))
	for _, id := range []string{"c1", "c2"} {
		dashboard.ask("tpv_command", fmt.Sprintf(`{"commandId":%q,"terminalId":%q,"type":"LOCK"}`, id, serial))
		dashboard.status("SENT")
	}
	target.ask("tpv_command_result", fmt.Sprintf(`{"commandId":"c1","terminalId":%q,"resultStatus":"SUCCESS"}`, serial))
	dashboard.ask("tpv_command_cancelled", `{"commandId":"c2"}`)
	dashboard.ask("tpv_command", `{"commandId":"c3","terminalId":"away","type":"LOCK"}`)
	dashboard.want("tpv_command_queued")
	dashboard.ask("tpv_message", `{"messageId":"m1","title":"t"}`)
	dashboard.ask("payment_initiated", payment)
	dashboard.ask("order_created", `{"orderId":"o","venueId":"venue_1"}`)
	dashboard.ask("order_created", `{}`)
	for _, kind := range []string{"table_status_change", "shift_opened", "notification_new", "notification_read", "printer_status", "product_price_changed"} {
		b.cloud(kind, `{"recipientId":"staff_admin"}`)
	}
	for _, c := range []*client{dashboard, target} {
		b.quiet(c)
		for _, f := range c.framesNow() {
			if strings.Contains(f, ":null") {
				t.Errorf("said %s", f)
			}
		}
	}
}

// TestRealClientByPolling has the real client come by each way the existing ones
// may: it is served, recovered and keeps its order on all.
func TestRealClientByPolling(t *testing.T) {
	for name, ways := range map[string][]string{
		"polling": {"polling"}, "upgrade": {"polling", "websocket"}, "WebSocket": {"websocket"},
	} {
		t.Run(name, func(t *testing.T) {
			h := open(t)
			c := boxtest.StartJS(t, boxtest.ClientConfig{
				URL: h.wifi.URL(), Token: h.mint(manager), Venue: venue,
				Options: map[string]any{"transports": ways, "reconnectionDelay": 100, "reconnectionDelayMax": 100, "randomizationFactor": 0},
			})
			c.Expect("connect", patience)
			c.ExpectAck(0, patience)
			h.happen(50)
			ack := c.EmitAck("order_created", map[string]any{"orderId": "o", "venueId": venue}, patience)
			if field(t, string(ack), "durability") != `"stored"` {
				t.Errorf("ack is %s", ack)
			}
			h.whole(c)
			for range 2 {
				h.wifi.Hold(true) // or it may lie between two polls and notice nothing
				h.wifi.Blip()
				h.happen(20)
				// One whose WebSocket dies after the probe, and before the upgrade,
				// has no request under way: only its pings' absence tells it.
				c.Expect("disconnect", time.Minute)
				h.happen(20)
				h.wifi.Hold(false)
				h.back(c)
				h.whole(c)
			}
		})
	}
}
