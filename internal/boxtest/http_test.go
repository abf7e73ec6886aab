package boxtest

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// Do sends a request to the box's LAN address and returns status and body.
func (b *Box) Do(method, path, token, body string) (status int, answer string) {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), method, b.URL()+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp.StatusCode, string(raw)
}

// A program in the venue publishes over HTTP: same rules, same journal, same
// fan-out, same answer as from a socket.
func TestHTTPPublishing(t *testing.T) {
	t.Parallel()
	box := StartBox(t, BoxConfig{})
	dashboard := StartJS(t, ClientConfig{URL: box.URL(), Token: box.Token(event.Kitchen, "k1", ""), Venue: Venue})
	dashboard.ExpectAck(0, 20*time.Second)
	manager := box.Token(event.Manager, "m1", "")

	status, body := box.Do("POST", "/api/v1/events", manager,
		`{"event":"payment_completed","payload":{"paymentId":"p1","amount":"120.50","n":1e3,"currency":"MXN","venueId":"v1","idempotencyKey":"key-00001"}}`)
	if status != http.StatusOK || !strings.Contains(body, `"durability":"stored"`) || !strings.Contains(body, `"eventType":"completed"`) {
		t.Errorf("publish: %d %s", status, body)
	}
	if heard := dashboard.ExpectEvent("payment_completed", 10*time.Second); !strings.Contains(heard.Raw, `"amount":"120.50","n":1e3`) {
		t.Errorf("the kitchen heard %s", heard.Raw)
	}
	status, body = box.Do("POST", "/api/v1/events", manager,
		`{"event":"payment_completed","payload":{"paymentId":"p1","amount":"120.50","currency":"MXN","venueId":"v1","idempotencyKey":"key-00001"}}`)
	if status != http.StatusOK || !strings.Contains(body, `"duplicate":true`) || !strings.Contains(body, `"seq":1,`) {
		t.Errorf("publish again: %d %s", status, body)
	}

	// A back-office event with a target of its own, and refusals.
	status, body = box.Do("POST", "/api/v1/events", manager,
		`[{"event":"menu_updated","payload":{"reason":"PRICE_CHANGE"},"target":{"roles":["KITCHEN"]}},
		  {"event":"order_created","payload":{"orderId":"o1"}},
		  {"event":"tpv:log","payload":{}},
		  {"event":"no_such_event","payload":{}}]`)
	if status != http.StatusMultiStatus {
		t.Errorf("array: status %d", status)
	}
	var acks []struct {
		Success    bool
		Error      string
		StatusCode int
	}
	if err := json.Unmarshal([]byte(body), &acks); err != nil || len(acks) != 4 {
		t.Fatalf("array: %s, %v", body, err)
	}
	if !acks[0].Success || acks[1].Error != "Venue ID is required" || acks[1].StatusCode != 400 || acks[2].Success || acks[3].Success {
		t.Errorf("array: %s", body)
	}
	dashboard.ExpectEvent("menu_updated", 10*time.Second)
	if code, answer := box.Do("POST", "/api/v1/events", box.Token(event.Kitchen, "k1", ""),
		`{"event":"payment_completed","payload":{}}`); code != 401 || !strings.Contains(answer, "Role KITCHEN not authorized for payment events") {
		t.Errorf("KITCHEN: %d %s", code, answer)
	}
	if code, answer := box.Do("POST", "/api/v1/events", box.Token(event.Waiter, "w1", ""),
		`{"event":"menu_updated","payload":{}}`); code != 401 {
		t.Errorf("a WAITER publishes a menu: %d %s", code, answer)
	}

	status, body = box.Do("GET", "/api/v1/stats", manager, "")
	if status != 200 || !strings.Contains(body, `"totalConnections":1`) || !strings.Contains(body, `"roleConnections":{"KITCHEN":1}`) {
		t.Errorf("stats: %d %s", status, body)
	}
	if code, _ := box.Do("GET", "/api/v1/terminals", box.Token(event.Waiter, "w1", ""), ""); code != 403 {
		t.Errorf("terminals as WAITER: %d", code)
	}
	if code, _ := box.Do("GET", "/api/v1/stats", "", ""); code != 401 {
		t.Errorf("stats without a token: %d", code)
	}
	status, body = box.Do("GET", "/metrics", "", "")
	for _, want := range []string{
		"avoqado_edge_journal_stored_seq 2", `avoqado_edge_connections{role="KITCHEN"} 1`,
		"avoqado_edge_events_duplicate_total 1", "go_goroutines", "process_resident_memory_bytes",
	} {
		if status != 200 || !strings.Contains(body, want) {
			t.Errorf("metrics: %d, without %q", status, want)
		}
	}
	if strings.Contains(body, "avoqado_edge_uplink_connected") {
		t.Error("a box that has no cloud is called not connected: an alert for ever")
	}
	if status, body := box.Do("GET", "/readyz", "", ""); status != 200 || !strings.Contains(body, `"uplink":"off"`) {
		t.Errorf("readyz: %d %s", status, body)
	}

	// The operator sees it from the command line.
	out, _, code := box.Command("events", "list", "--json", "--payload")
	if code != 0 || strings.Count(out, "\n") != 2 || !strings.Contains(out, `"origin":"local"`) || !strings.Contains(out, `"n":1e3`) {
		t.Errorf("events list: %d %s", code, out)
	}
	if out, errs, code := box.Command("events", "show", "key-00001"); code != 0 || !strings.Contains(out, "payment_completed") {
		t.Errorf("events show: %d %s %s", code, out, errs)
	}
	if _, errs, code := box.Command("journal", "check", "--dir", box.StateDir()+"/journal"); code != 3 {
		t.Errorf("journal check beside a running box: %d %s", code, errs)
	}
	box.Stop()
	if out, errs, code := box.Command("journal", "check", "--dir", box.StateDir()+"/journal"); code != 0 || !strings.Contains(out, "every record is whole") {
		t.Errorf("journal check: %d %s %s", code, out, errs)
	}
	if _, errs, code := box.Command("status"); code != 3 || !strings.Contains(errs, "no box is running") {
		t.Errorf("status of a stopped box: %d %s", code, errs)
	}
}
