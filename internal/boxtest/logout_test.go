package boxtest

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// tail follows the events over HTTP and returns how to wait for the box to end
// that. Whose role may not is refused, which is an end, too.
func (a *attacker) tail(header http.Header) (end func() error) {
	a.t.Helper()
	req, err := http.NewRequestWithContext(a.t.Context(), http.MethodGet, a.box.URL()+"/api/v1/events/tail", http.NoBody)
	if err != nil {
		a.t.Fatal(err)
	}
	req.Header = header
	res, err := a.client.Do(req) //nolint:bodyclose // end does
	if err != nil {
		a.t.Fatal(err)
	}
	return func() error {
		defer func() { _ = res.Body.Close() }()
		_, err := io.Copy(io.Discard, res.Body)
		return err
	}
}

// TestLogoutEndsTheToken: what was logged out is worth nothing any more, on HTTP
// and on the sockets that it opened, also for who kept a copy, and over a restart.
func TestLogoutEndsTheToken(t *testing.T) {
	t.Parallel()
	box := StartBox(t, BoxConfig{})
	var seen strings.Builder
	a := box.attacker(0, &seen)
	header := func(name, value string) http.Header { return http.Header{name: {value}} }
	status := func(h http.Header) int {
		t.Helper()
		status, _, _ := a.do("GET", "/api/v1/session", h, "")
		return status
	}
	byCode := func() string {
		t.Helper()
		out, _, _ := box.Command("token", "code", "--json")
		var made struct{ Code string }
		if err := json.Unmarshal([]byte(out), &made); err != nil {
			t.Fatalf("%s, %v", out, err)
		}
		_, body, cookies := a.do("POST", "/api/v1/login", nil, `{"code":"`+made.Code+`"}`)
		if len(cookies) == 0 {
			t.Fatal(body)
		}
		return cookies[0].Value
	}
	mine, other := box.Token(event.Admin, "boss", ""), box.Token(event.Admin, "boss", "")
	bystander, answer := a.connect(`{"token":"`+other+`"}`, "", nil)
	if bystander == nil || !strings.HasPrefix(answer, "40") {
		t.Fatal(answer)
	}
	defer func() { _ = bystander.Close() }()
	for name, h := range map[string]http.Header{
		"a cookie": header("Cookie", "accessToken="+mine), "a code": header("Cookie", "accessToken="+byCode()),
		"a header": header("Authorization", "Bearer "+box.Token(event.Waiter, "w1", "AVQD-1")),
	} {
		ws, answer := a.connect("", "", h.Clone())
		if !strings.HasPrefix(answer, "40") || status(h.Clone()) != http.StatusOK {
			t.Fatalf("%s: before: %s", name, answer)
		}
		tail := a.tail(h.Clone())
		// A page of somebody else cannot log a person out.
		foreign := h.Clone()
		foreign.Set("Origin", "http://evil.example")
		if status, _, _ := a.do("POST", "/api/v1/logout", foreign, ""); status != http.StatusForbidden {
			t.Errorf("%s: another site's page: %d", name, status)
		}
		if status, body, _ := a.do("POST", "/api/v1/logout", h.Clone(), ""); status != http.StatusOK {
			t.Errorf("%s: logout: %d %s", name, status, body)
		}
		if err := closing(ws); err != nil {
			t.Errorf("%s: its socket: %v", name, err)
		}
		if left := tail(); left != nil {
			t.Errorf("%s: its answer without an end: %v", name, left)
		}
		if got := status(h.Clone()); got != http.StatusUnauthorized {
			t.Errorf("%s: over HTTP: %d", name, got)
		}
		if _, answer := a.connect("", "", h.Clone()); !strings.HasPrefix(answer, `44{"message":"Ses`) {
			t.Errorf("%s: another socket: %s", name, answer)
		}
	}
	if err := bystander.WriteMessage(1, []byte(`421["authenticate",{}]`)); err != nil || closing(bystander) == nil {
		t.Errorf("the socket of another token of the same person is closed, too: %v", err)
	}
	if n := box.Stored(); n != 0 {
		t.Errorf("%d events", n)
	}
	box.Kill()
	box.Start()
	if got := status(header("Cookie", "accessToken="+mine)); got != http.StatusUnauthorized {
		t.Errorf("after a restart: %d", got)
	}
	if got := status(header("Cookie", "accessToken="+other)); got != http.StatusOK {
		t.Errorf("another token after a restart: %d", got)
	}
}
