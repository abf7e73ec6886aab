package simulate

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/needs"
	"github.com/avoqado/avoqado-edge/internal/testpart"
)

// socketIO is the release of the original server that the client is held against.
const socketIO = "socket.io@4.8.4"

// nodeServer starts the original server and returns its address. It skips the
// test where there is no node, or npm cannot get the library.
func nodeServer(t *testing.T) string {
	t.Helper()
	node, npm := needs.Program(t, "node"), needs.Program(t, "npm")
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	install := exec.CommandContext(ctx, npm, "install", "--no-audit", "--no-fund", "--no-save", "--ignore-scripts", "--prefix", dir, socketIO)
	install.WaitDelay = 5 * time.Second
	if out, err := install.CombinedOutput(); err != nil {
		needs.Missing(t, fmt.Sprintf("npm cannot install %s: %v: %.300s", socketIO, err, out))
	}
	script, err := os.ReadFile(filepath.Join("testdata", "server.js"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "server.js") // beside its node_modules
	if err := os.WriteFile(path, script, 0o600); err != nil {
		t.Fatal(err)
	}
	server := exec.CommandContext(t.Context(), node, path) // killed when the test ends
	server.Stderr = os.Stderr
	stdin, err := server.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = server.Wait() // it was killed or left; both are an end
	})
	port, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("server did not start: %v", err)
	}
	return "http://127.0.0.1:" + strings.TrimSpace(port)
}

// TestOriginalServer holds the client against the library that boxes imitate.
func TestOriginalServer(t *testing.T) {
	url := nodeServer(t)
	connect := func(t *testing.T, token string, rec *recorder) *Client {
		t.Helper()
		c, err := Dial(soon(t), ClientConfig{
			URL: url, Auth: map[string]any{"token": token, "terminalId": "AVQD-1"},
			Header: http.Header{"X-Device-Name": {"till"}}, OnEvent: rec.event, OnState: rec.state,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}

	t.Run("refusals", func(t *testing.T) {
		for want, auth := range map[string]map[string]any{
			"No authentication token provided": nil,
			"Token has expired":                {"token": "expired"},
		} {
			_, err := Dial(soon(t), ClientConfig{URL: url, Auth: auth})
			var refused *ConnectError
			if !errors.As(err, &refused) || refused.Message != want {
				t.Errorf("err = %v, want %q", err, want)
			}
		}
	})
	t.Run("handshake and answers", func(t *testing.T) {
		rec := &recorder{}
		c := connect(t, "t", rec)
		testpart.Until(t, "hello", func() bool { return len(rec.heard()) > 0 })
		if want := `hello {"auth":{"terminalId":"AVQD-1","token":"t"},"header":"till"}`; rec.heard()[0] != want {
			t.Errorf("heard %s, want %s", rec.heard()[0], want)
		}
		payload := json.RawMessage(`{"amount":"120.50","name":"Peña 🌮","nested":[1,{"a":null}]}`)
		if got, err := c.EmitAck(soon(t), "echo", payload); err != nil || string(got) != string(payload) {
			t.Errorf("echo = %s, %v", got, err)
		}
		if got, err := c.EmitAck(soon(t), "bare", nil); err != nil || got != nil {
			t.Errorf("empty answer = %s, %v", got, err)
		}
	})
	t.Run("order", func(t *testing.T) {
		rec := &recorder{}
		c := connect(t, "t", rec)
		if err := c.Emit(soon(t), "many", 500); err != nil {
			t.Fatal(err)
		}
		ones := func() (list []string) {
			for _, e := range rec.heard() {
				if strings.HasPrefix(e, "one ") {
					list = append(list, e)
				}
			}
			return list
		}
		testpart.Until(t, "all events", func() bool { return len(ones()) == 500 })
		for i, got := range ones() {
			if got != fmt.Sprintf("one %d", i) {
				t.Fatalf("event %d = %s", i, got)
			}
		}
	})
	t.Run("pings", func(t *testing.T) {
		rec := &recorder{}
		c := connect(t, "slow", rec) // pinged before it is connected, too
		testpart.Until(t, "heartbeats", func() bool { return strings.Contains(strings.Join(rec.heard(), "\n"), "beat 3") })
		if c.Err() != nil {
			t.Errorf("ended: %v", c.Err())
		}
	})
	for name, isFinal := range map[string]bool{"kick": true, "cut": false, "binary": false} {
		t.Run(name, func(t *testing.T) {
			c := connect(t, "t", &recorder{})
			if err := c.Emit(soon(t), name, nil); err != nil {
				t.Fatal(err)
			}
			if err := ended(t, c); final(err) != isFinal {
				t.Errorf("after %s: %v, final = %t", name, err, final(err))
			}
		})
	}
	t.Run("a day", func(t *testing.T) {
		s, err := Run(soon(t), Plan{
			URL: url, Venue: "v1", Terminals: 3, Dashboards: 1, Events: 300, Token: noToken, Backoff: quick,
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := connect(t, "t", &recorder{}).EmitAck(soon(t), "ledger", nil)
		if err != nil {
			t.Fatal(err)
		}
		var ledger []string
		if err := json.Unmarshal(raw, &ledger); err != nil {
			t.Fatal(err)
		}
		checkLedger(t, s, ledger)
		if s.Lost != 0 || s.Total.Acknowledged != 300 || s.Total.Duplicates == 0 || s.Doubled != 0 {
			t.Errorf("summary:\n%s", s)
		}
		if got := s.Dashboards[0].Heard.Events; got != 300 {
			t.Errorf("dashboard heard %d of 300", got)
		}
	})
}
