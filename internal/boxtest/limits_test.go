package boxtest

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// TestHTTPLimits: what one address sends over HTTP is one budget with what it
// sends over sockets, and is refused with the time left, never cut off.
func TestHTTPLimits(t *testing.T) {
	t.Parallel()
	box := StartBox(t, BoxConfig{Extra: "limits: {max_events_per_address: 8, rate_window: 1h}"})
	manager := box.Token(event.Manager, "m1", "")
	const menu = `{"event":"menu_updated","payload":{"reason":"PRICE_CHANGE"}}`
	const beat = `{"terminalId":"AVQD-1","status":"ACTIVE"}`
	send := func(path, token, body string) (status int, retry string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, box.URL()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode, resp.Header.Get("Retry-After")
	}
	for range 6 { // telemetry leaves a quarter
		if status, _ := send("/api/v1/tpv/heartbeat", "", beat); status != http.StatusOK {
			t.Errorf("a heartbeat: %d", status)
		}
	}
	if status, retry := send("/api/v1/tpv/heartbeat", "", beat); status != http.StatusTooManyRequests || retry == "" {
		t.Errorf("a heartbeat too many: %d, Retry-After %q", status, retry)
	}
	for range 2 {
		if status, _ := send("/api/v1/events", manager, menu); status != http.StatusOK {
			t.Errorf("an event: %d", status)
		}
	}
	for _, path := range []string{"/api/v1/events", "/api/v1/tpv/command-ack"} {
		if status, retry := send(path, manager, menu); status != http.StatusTooManyRequests || retry == "" {
			t.Errorf("%s beyond the budget: %d, Retry-After %q", path, status, retry)
		}
	}
	terminal := StartJS(t, ClientConfig{URL: box.URL(), Token: box.Token(event.Waiter, "w1", ""), Venue: Venue})
	if ack := terminal.ExpectAck(0, 20*time.Second); !strings.Contains(ack.Raw, "rate_limit_exceeded") {
		t.Errorf("a socket of that address: %s", ack.Raw)
	}
	if _, body := box.Do("GET", "/metrics", "", ""); !strings.Contains(body, `code="rate_limit_exceeded"} 4`) {
		t.Error("the refusals are not in the metrics")
	}

	// Who guesses tokens waits; who has one does not.
	var slowest time.Duration
	for range 32 { // the 31st waits 0.1 s, the next twice that
		began := time.Now()
		if status, _ := send("/api/v1/events", "guess", menu); status != http.StatusUnauthorized {
			t.Errorf("a guess: %d", status)
		}
		slowest = max(slowest, time.Since(began))
	}
	if slowest < 200*time.Millisecond {
		t.Errorf("the slowest guess was answered after %s", slowest)
	}
	if status, _ := send("/api/v1/events", manager, menu); status != http.StatusTooManyRequests { // it got as far as its budget
		t.Errorf("a good token: %d", status)
	}
	if _, body := box.Do("GET", "/metrics", "", ""); !strings.Contains(body, `reason="bad_token"} 32`) {
		t.Error("the guesses are not in the metrics")
	}
}
