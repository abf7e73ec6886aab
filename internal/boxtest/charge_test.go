package boxtest

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// TestChargesOverPowerCuts kills the box at each stage of a payment that a POS
// asked for. The terminal is asked to charge once, and the POS is told what came
// of it however often it asks.
func TestChargesOverPowerCuts(t *testing.T) {
	t.Parallel()
	box := StartBox(t, BoxConfig{})
	cashier := box.Token(event.Cashier, "c1", "")
	reader := StartJS(t, ClientConfig{URL: box.URL(), Token: box.Token(event.Waiter, "w1", "2841"), Venue: Venue})
	reader.ExpectAck(0, 20*time.Second)
	const path = "/api/v1/mobile/venues/" + Venue + "/terminal-payment"
	charge := func(id string) (int, string) {
		return box.Do("POST", path, cashier, fmt.Sprintf(`{"requestId":%q,"terminalId":"AVQD-2841","amountCents":12050}`, id))
	}
	asked := func(id string) (n int) {
		for _, line := range reader.Events("terminal:payment_request") {
			if strings.Contains(line.Raw, fmt.Sprintf(`"requestId":%q`, id)) {
				n++
			}
		}
		return n
	}
	begin := func(id string) {
		t.Helper()
		Eventually(t, 40*time.Second, "the terminal is here", func() bool {
			_, body := box.Do("GET", strings.TrimSuffix(path, "terminal-payment")+"terminals/online", cashier, "")
			return strings.Contains(body, `"terminalId":"2841"`)
		})
		go func() { // the POS, which loses its answer when the box dies
			req, err := http.NewRequest("POST", box.URL()+path, strings.NewReader(fmt.Sprintf(`{"requestId":%q,"terminalId":"2841","amountCents":12050}`, id)))
			if err != nil {
				return
			}
			req.Header.Set("Authorization", "Bearer "+cashier)
			if resp, err := http.DefaultClient.Do(req); err == nil {
				_ = resp.Body.Close()
			}
		}()
		Eventually(t, 20*time.Second, "the terminal is asked", func() bool { return asked(id) == 1 })
	}
	say := func(id string) {
		t.Helper()
		reader.EmitAck("terminal:payment_result", map[string]any{"requestId": id, "status": "success", "paymentId": "p-" + id}, 40*time.Second)
	}

	begin("r1")
	box.Kill()
	box.Start()
	if status, body := charge("r1"); status != http.StatusConflict || !strings.Contains(body, `"code":"TERMINAL_BUSY"`) {
		t.Errorf("asked again while it is in flight: %d %s", status, body)
	}
	say("r1")
	begin("r2")
	say("r2")
	box.Kill()
	box.Start()
	for _, id := range []string{"r1", "r2"} {
		Eventually(t, 20*time.Second, id+" is known", func() bool {
			status, body := charge(id)
			return status == http.StatusOK && strings.Contains(body, `"paymentId":"p-`+id+`"`)
		})
		if n := asked(id); n != 1 {
			t.Errorf("the terminal was asked %d times to charge %s", n, id)
		}
	}
	if status, body := box.Do("POST", path, cashier, `{"requestId":"r1","terminalId":"2841","amountCents":1}`); status != http.StatusConflict || !strings.Contains(body, "REQUEST_ID_REUSED") {
		t.Errorf("another amount under the same id: %d %s", status, body)
	}
}
