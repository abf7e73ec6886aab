package lan_test

import (
	"net/http"
	"strings"
	"testing"
)

// TestMalformedPost: what is no payload is refused and ends the session.
func TestMalformedPost(t *testing.T) {
	b := start(t)
	for _, body := range []string{"", "abc", "\x1e", "42[\"x\"]\x1e", "3\x1ex", "3\x1e\x1e3"} {
		p := b.poll(t)
		resp, err := http.Post(p.url, "text/plain", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%q was answered with %d", body, resp.StatusCode)
		}
		if status, _ := p.get(); status != http.StatusBadRequest {
			t.Errorf("%q: the next poll was answered with %d", body, status)
		}
	}
}
