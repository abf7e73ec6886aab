package lan_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/boxtest"
	"github.com/avoqado/avoqado-edge/internal/event"
)

// socket.io #5363: what a client sends is not lost either. A real client that
// tries again until it is answered (retries) has each of its payments stored
// once, also one that was stored and whose answer was lost.
func TestClientSendsAgain(t *testing.T) {
	b := start(t)
	wifi := boxtest.StartWifi(t, b.Addr().String())
	c := boxtest.StartJS(t, boxtest.ClientConfig{
		URL: wifi.URL(), Token: b.mint(auth.Grant{Subject: "c1", Role: event.Cashier}), Venue: venue,
		Options: map[string]any{"retries": 100, "reconnectionDelay": 100, "reconnectionDelayMax": 100, "randomizationFactor": 0},
	})
	c.Expect("connect", patience)
	c.ExpectAck(0, patience)
	const n = 20
	var ids []int
	pay := func() {
		i := len(ids)
		ids = append(ids, c.Post("payment_completed", map[string]any{
			"paymentId": fmt.Sprintf("p%d", i), "amount": "1.50", "currency": "MXN", "venueId": venue,
			"idempotencyKey": fmt.Sprintf("payment-%04d", i),
		}, time.Second))
	}

	b.journal.set(func() { b.journal.hold = true })
	pay()
	until(t, "the first is stored and not answered", func() bool { return b.journal.Stored() == 1 })
	wifi.Lose()
	c.Expect("disconnect", patience)
	b.journal.release()
	for len(ids) < n { // while it is away, while it is here, while it goes
		pay()
		switch len(ids) {
		case 8:
			c.Expect("connect", patience)
		case 12:
			wifi.Reset()
		case 16:
			wifi.Lose()
		}
	}
	for i, id := range ids {
		if ack := c.ExpectAck(id, 60*time.Second); ack.Error != "" {
			t.Errorf("payment %d: %s", i, ack.Error)
		}
	}
	events, err := b.journal.Read(0, 1000, 1<<20)
	if err != nil || len(events) != n {
		t.Fatalf("%d payments are stored: %v", len(events), err)
	}
	for i := range events {
		var body struct{ PaymentID string }
		if err := json.Unmarshal(events[i].Payload, &body); err != nil || body.PaymentID != fmt.Sprintf("p%d", i) {
			t.Errorf("payment %d is %s", i, events[i].Payload)
		}
	}
	if b.Stats().Duplicates == 0 {
		t.Error("none was sent twice: nothing is proven")
	}
}

// Two real clients with one pid, as when a page was copied: each is cut off when
// the other comes, comes back by itself, and neither misses anything or hears it
// twice.
func TestTwoClientsWithOnePID(t *testing.T) {
	h := open(t)
	one := h.dashboard(manager)
	h.happen(1)
	h.whole(one)
	connects := func(c *boxtest.Client) (list []boxtest.Line) {
		for _, line := range c.Lines() {
			if line.Kind == "connect" {
				list = append(list, line)
			}
		}
		return list
	}
	pid := connects(one)[0].PID
	if pid == "" {
		t.Fatal("the client has no pid")
	}
	two := boxtest.StartJS(t, boxtest.ClientConfig{
		URL: h.wifi.URL(), Venue: venue,
		Options: map[string]any{
			"auth":              map[string]any{"token": h.mint(manager), "pid": pid},
			"reconnectionDelay": 100, "reconnectionDelayMax": 100, "randomizationFactor": 0,
		},
	})
	for want := 2; want < 7; want++ {
		until(t, "both come and go", func() bool { return len(connects(one)) >= want && len(connects(two)) >= want-1 })
		h.happen(3)
	}
	two.Kill()
	h.happen(3)
	h.whole(one)
	for i, line := range connects(one) {
		if line.PID != pid || line.Recovered != (i > 0) {
			t.Errorf("connect %d of the first: %+v", i, line)
		}
	}
	for i, line := range connects(two) {
		if line.PID != pid || line.Recovered != (i > 0) { // it had no session of its own before
			t.Errorf("connect %d of the second: %+v", i, line)
		}
	}
	last := 0
	for _, line := range two.Events("order_updated") {
		var body struct{ N int }
		if err := json.Unmarshal(line.Payload(), &body); err != nil || (last > 0 && body.N != last+1) {
			t.Fatalf("the second heard %s behind %d", line.Raw, last)
		}
		last = body.N
	}
	if last == 0 {
		t.Error("the second heard nothing")
	}
}
