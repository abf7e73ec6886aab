package daemon

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestUnclaimed: a page for people, nothing for anybody else, and an end as soon
// as the box is claimed.
func TestUnclaimed(t *testing.T) {
	page := make(chan string, 1)
	log := slog.New(slog.NewJSONHandler(new(bytes.Buffer), &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == "page" {
			page <- a.Value.String()
		}
		return a
	}}))
	var claimed atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := Unclaimed(t.Context(), "127.0.0.1:0", claimed.Load, log); err != nil {
			t.Error(err)
		}
	})
	url := <-page
	for path, want := range map[string]struct {
		status int
		text   string
	}{
		"": {http.StatusOK, "sudo avoqado-edge claim FILE"}, "socket.io/?EIO=4&transport=polling": {http.StatusServiceUnavailable, `"unclaimed"`},
		"healthz": {http.StatusServiceUnavailable, "belongs to no venue yet"}, "api/v1/status": {http.StatusServiceUnavailable, "unclaimed"},
		"metrics": {http.StatusServiceUnavailable, "unclaimed"}, "docs": {http.StatusServiceUnavailable, "unclaimed"},
	} {
		resp, err := http.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != want.status || !strings.Contains(string(body), want.text) || strings.Contains(string(body), "{{") {
			t.Errorf("/%s: status %d, %v: %s", path, resp.StatusCode, err, body)
		}
	}
	claimed.Store(true)
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatal("it does not end")
	}
	if resp, err := http.Get(url); err == nil {
		_ = resp.Body.Close()
		t.Error("the page is still there")
	}
}

// What goes into the page is no HTML, whatever the machine is called.
func TestHostName(t *testing.T) {
	if got := hostName("caja-1.<b>local"); got != "caja-1.blocal" {
		t.Error(got)
	}
}
