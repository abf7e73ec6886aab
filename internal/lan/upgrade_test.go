package lan_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// upgrade opens a WebSocket for a polling session.
func (b *box) upgrade(p *poller) *client {
	b.t.Helper()
	url := "ws" + strings.Replace(strings.TrimPrefix(p.url, "http"), "transport=polling", "transport=websocket", 1)
	ws, resp, err := b.dialer().Dial(url, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	_ = resp.Body.Close()
	c := &client{t: b.t, ws: ws}
	b.t.Cleanup(func() { _ = ws.Close() })
	go c.read()
	return c
}

func TestUpgrade(t *testing.T) {
	b := start(t)
	p := b.poll(t)
	c := b.upgrade(p)
	c.raw("2probe")
	if got := c.frame(); got != "3probe" {
		t.Fatalf("probe was answered with %q", got)
	}
	for body := ""; body != "6"; { // behind what it is told first
		var status int
		if status, body = p.get(); status != http.StatusOK || body != "6" && !strings.HasPrefix(body, "42") {
			t.Fatalf("the poll was answered with %d %q", status, body)
		}
	}
	c.raw("5")
	b.journal.append(event.Event{Kind: "menu_updated", Payload: []byte(`{}`)})
	c.want("menu_updated")
	if ack := c.ask("payment_initiated", payment); field(t, ack, "seq") != "2" {
		t.Errorf("ack is %s", ack)
	}
}

func TestBadUpgrades(t *testing.T) {
	b := start(t)
	for _, frames := range [][]string{{""}, {"x"}, {"2"}, {"5"}, {"2probe", "2probe"}, {"2probe", "42[]"}, {"4"}, {"3probe"}, {"2probe", "x"}} {
		p := b.poll(t)
		c := b.upgrade(p)
		for _, frame := range frames {
			c.raw(frame)
		}
		_ = c.ws.WriteMessage(websocket.BinaryMessage, []byte{1, 2, 3})
		_ = c.ws.Close()
	}
	p := b.poll(t)
	first := b.upgrade(p)
	until(t, "a second upgrade is closed", b.upgrade(p).closed)
	_ = first
	b.as(event.Waiter)
	if n := b.Stats().Panics; n != 0 {
		t.Errorf("%d panics:\n%s", n, b.logs)
	}
}
