package api

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
)

// limits lets so many events through, and notes who asked for what.
type limits struct {
	mu    sync.Mutex
	left  int
	calls []string
	busy  bool                      // no bad token is answered
	wait  func(ctx context.Context) // before a bad token is answered
}

func (l *limits) refusal() *event.Refusal {
	r := event.RefuseForNow("rate_limit_exceeded", "Rate limit exceeded", 1200*time.Millisecond)
	r.Status = http.StatusTooManyRequests
	return r
}

func (l *limits) Spend(address string, telemetry bool) *event.Refusal {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = append(l.calls, fmt.Sprintf("spend %s %t", address, telemetry))
	if l.left--; l.left < 0 {
		return l.refusal()
	}
	return nil
}

func (l *limits) Leased(_ context.Context, g auth.Grant, address string) *event.Refusal {
	if g.Lease.IsZero() {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = append(l.calls, fmt.Sprintf("leased %s %s", address, g.Subject))
	if l.busy {
		return l.refusal()
	}
	return nil
}

func (l *limits) Denied(ctx context.Context, address string, why error) *event.Refusal {
	l.mu.Lock()
	l.calls = append(l.calls, fmt.Sprintf("denied %s %v", address, why))
	busy, wait := l.busy, l.wait
	l.mu.Unlock()
	if busy {
		return l.refusal()
	}
	if wait != nil {
		wait(ctx)
	}
	return nil
}

// requestFrom sends one request from a LAN address.
func requestFrom(t *testing.T, h http.Handler, path, token, body string) *httptest.ResponseRecorder {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), "POST", path, strings.NewReader(body))
	req.RemoteAddr = "192.168.1.20:5000"
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	return w
}

// TestEventsOverHTTPAreCounted: each event of each call, and what is beyond the
// budget is answered with the time after which to try again.
func TestEventsOverHTTPAreCounted(t *testing.T) {
	const one = `{"event":"a","payload":{}}`
	for _, tt := range []struct {
		name, path, body string
		left, status     int
		passed           int
		telemetry        bool
		spent            int
	}{
		{"an event", "/api/v1/events", one, 1, 200, 1, false, 1},
		{"one too many", "/api/v1/events", one, 0, 429, 0, false, 1},
		{"some of an array", "/api/v1/events", "[" + one + "," + one + "," + one + "]", 2, 207, 2, false, 3},
		{"malformed", "/api/v1/events", "[7,8]", 1, 207, 0, false, 2},
		{"a command's result", "/api/v1/tpv/command-ack", "{}", 1, 200, 1, false, 1},
		{"a result too many", "/api/v1/tpv/command-ack", "{}", 0, 429, 0, false, 1},
		{"a heartbeat", "/api/v1/tpv/heartbeat", "{}", 1, 200, 1, true, 1},
		{"a charge too many", "/api/v1/mobile/venues/v1/terminal-payment", "{}", 0, 429, 0, false, 1},
		{"a cancellation too many", "/api/v1/mobile/venues/v1/terminal-payment/cancel", "{}", 0, 429, 0, false, 1},
		{"a receipt too many", "/api/v1/mobile/venues/v1/terminals/t1/print-receipt", "{}", 0, 429, 0, false, 1},
		{"a heartbeat too many", "/api/v1/tpv/heartbeat", "{}", 0, 429, 0, true, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, l := &door{}, &limits{left: tt.left}
			s := newLimited(newMemory(0), box{}, d, l)
			w := requestFrom(t, s.LAN(), tt.path, "MANAGER", tt.body)
			if w.Code != tt.status || len(d.events) != tt.passed {
				t.Errorf("answer %d %s, %d passed", w.Code, w.Body, len(d.events))
			}
			refused := tt.status != http.StatusOK
			if got := w.Header().Get("Retry-After"); (got == "2") != refused {
				t.Errorf("Retry-After is %q", got)
			}
			if got := w.Body.String(); strings.Contains(got, `"statusCode":429,"code":"rate_limit_exceeded","retryable":true,"retryAfterMs":1200`) != refused {
				t.Errorf("answered %s", got)
			}
			if want := slices.Repeat([]string{fmt.Sprintf("spend 192.168.1.20 %t", tt.telemetry)}, tt.spent); !slices.Equal(l.calls, want) {
				t.Errorf("counted %q", l.calls)
			}

			local := httptest.NewRecorder() // nobody is counted on the unix socket
			req := httptest.NewRequestWithContext(t.Context(), "POST", tt.path, strings.NewReader(tt.body))
			req.RemoteAddr = "@"
			s.Socket().ServeHTTP(local, req)
			if local.Code == http.StatusTooManyRequests || len(l.calls) != tt.spent {
				t.Errorf("the operator: %d, counted %q", local.Code, l.calls)
			}
		})
	}
}

// TestBadTokensAreSlowedDown: they alone, and only what is bad about them.
func TestBadTokensAreSlowedDown(t *testing.T) {
	l := &limits{left: 1000}
	lan := newLimited(newMemory(0), box{}, &door{}, l).LAN()
	for _, token := range []string{"", "WAITER", "MANAGER"} {
		for _, path := range []string{"/api/v1/events", "/api/v1/tpv/command-ack", "/api/v1/tpv/heartbeat"} {
			requestFrom(t, lan, path, token, "{}")
		}
	}
	requestFrom(t, lan, "/api/v1/journal/compact", "junk", "") // looks at no token
	for _, call := range l.calls {
		if strings.HasPrefix(call, "denied") {
			t.Errorf("slowed down: %q", call)
		}
	}

	for _, tt := range []struct {
		path, token  string
		status, busy int
	}{
		{"/api/v1/events", "junk", 401, 429},
		{"/api/v1/events", "old", 401, 429},
		{"/api/v1/tpv/command-ack", "junk", 401, 429},
		{"/api/v1/tpv/heartbeat", "junk", 200, 429},
	} {
		l.calls, l.busy = nil, false
		if w := requestFrom(t, lan, tt.path, tt.token, "{}"); w.Code != tt.status {
			t.Errorf("%s with %s: %d %s", tt.path, tt.token, w.Code, w.Body)
		}
		l.busy = true
		w := requestFrom(t, lan, tt.path, tt.token, "{}")
		if w.Code != tt.busy || w.Header().Get("Retry-After") != "2" || !strings.Contains(w.Body.String(), `"retryAfterMs":1200`) {
			t.Errorf("%s with %s, too many wait: %d %s", tt.path, tt.token, w.Code, w.Body)
		}
		denied := slices.DeleteFunc(l.calls, func(c string) bool { return strings.HasPrefix(c, "spend") })
		why := map[string]string{"junk": "Invalid token format", "old": "Token has expired"}[tt.token]
		if want := "denied 192.168.1.20 " + why; !slices.Equal(denied, []string{want, want}) {
			t.Errorf("%s with %s: noted %q", tt.path, tt.token, denied)
		}
	}
}

// TestWrongCodesAreSlowedDown as bad tokens are, and a right one is not.
func TestWrongCodesAreSlowedDown(t *testing.T) {
	l := &limits{left: 1000}
	s := newLimited(newMemory(0), box{}, &door{}, l)
	code, _, err := s.code.renew(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for n := range 2 {
		l.busy = n > 0
		w := requestFrom(t, s.LAN(), "/api/v1/login", "", `{"code":"x"}`)
		if want := []int{http.StatusUnauthorized, http.StatusTooManyRequests}[n]; w.Code != want {
			t.Errorf("%d %s, want %d", w.Code, w.Body, want)
		}
	}
	if w := requestFrom(t, s.LAN(), "/api/v1/login", "", `{"code":"`+code+`"}`); w.Code != http.StatusOK {
		t.Errorf("the right one: %d %s", w.Code, w.Body)
	}
	want := "denied 192.168.1.20 code is wrong or over"
	if !slices.Equal(l.calls, []string{want, want}) {
		t.Errorf("noted %q", l.calls)
	}
}

// TestHangingUpEndsTheWait has a caller with a bad token go while its answer is
// held back, whatever it still had to send.
func TestHangingUpEndsTheWait(t *testing.T) {
	for _, size := range []int{0, 10, 500_000} {
		waiting, over := make(chan struct{}), make(chan struct{})
		l := &limits{left: 1000, wait: func(ctx context.Context) {
			close(waiting)
			<-ctx.Done()
			close(over)
		}}
		srv := httptest.NewServer(newLimited(newMemory(0), box{}, &door{}, l).LAN())
		ctx, hangUp := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, "POST", srv.URL+"/api/v1/events", bytes.NewReader(make([]byte, size)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer junk")
		answered := make(chan error, 1)
		go func() {
			resp, err := srv.Client().Do(req)
			if err == nil {
				_ = resp.Body.Close()
			}
			answered <- err
		}()
		<-waiting
		hangUp()
		if err := <-answered; err == nil {
			t.Errorf("%d bytes: answered", size)
		}
		select {
		case <-over:
		case <-time.After(10 * time.Second):
			t.Fatalf("%d bytes: the box still waits", size)
		}
		srv.Close()
	}
}
