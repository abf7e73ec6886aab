package boxtest

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// A terminal's application holds 11 events and drops the oldest of more. So what
// it missed comes slowly, and what happens meanwhile comes behind it, slowly
// too: nowhere are there more at once than it holds.
func TestReplayPace(t *testing.T) {
	t.Parallel()
	const missed, meanwhile = 60, 25
	box := StartBox(t, BoxConfig{})
	wifi := StartWifi(t, box.Addr())
	terminal := StartJava(t, ClientConfig{
		URL: wifi.URL(), Token: box.Token(event.Cashier, "c1", "AVQD-1"), Venue: Venue, Terminal: "AVQD-1", Table: "t1",
	})
	terminal.Expect("connect", 30*time.Second)
	terminal.ExpectAck(-1, 20*time.Second)
	pos := startDashboard(t, box, box.URL())
	said := 0
	say := func() {
		pos.EmitAck("order_created", map[string]any{"orderId": fmt.Sprintf("o%d", said), "venueId": Venue}, 10*time.Second)
		said++
	}
	wifi.Hold(true)
	wifi.Blip()
	terminal.Expect("disconnect", 20*time.Second)
	for range missed {
		say()
	}
	wifi.Hold(false)
	back := terminal.Expect("connect", 60*time.Second)
	terminal.ExpectEvent("order_created", 20*time.Second)
	for range meanwhile {
		say()
	}
	Eventually(t, 30*time.Second, "all is heard", func() bool { return len(terminal.Events("order_created")) >= said })

	heard := terminal.Events("order_created")
	if len(heard) != said {
		t.Errorf("%d events were heard", len(heard))
	}
	for i, line := range heard {
		var body struct {
			OrderID  string
			Replayed bool
		}
		if err := json.Unmarshal(line.Payload(), &body); err != nil || body.OrderID != fmt.Sprintf("o%d", i) || body.Replayed != (i < missed) {
			t.Fatalf("event %d is %s", i, line.Raw)
		}
	}
	// Bounds from below, so that a busy machine cannot break them: a burst is 5
	// every 100 ms, some of which the client may have been late to tell of.
	const burst, every, late = 5, 100 * time.Millisecond, time.Second
	if took := heard[missed-1].At.Sub(back.At); took < (missed/burst-1)*every-late {
		t.Errorf("%d missed events came within %s", missed, took)
	}
	if took := heard[said-1].At.Sub(heard[missed-1].At); took < (meanwhile/burst-1)*every/4 {
		t.Errorf("%d events behind them came within %s", meanwhile, took)
	}
}
