package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/outages"
)

// tokens take the role's name for a token.
type tokens struct{}

func (tokens) Verify(token string) (auth.Grant, error) {
	if token == "old" {
		return auth.Grant{}, auth.ErrExpired
	}
	if role, ok := strings.CutPrefix(token, "lease-"); ok {
		return auth.Grant{Subject: "s1", Venue: "v1", Role: event.Role(role), Lease: leaseEnd(), Expires: leaseEnd()}, nil
	}
	if !event.Role(token).Known() {
		return auth.Grant{}, auth.ErrFormat
	}
	return auth.Grant{Subject: "s1", Venue: "v1", Role: event.Role(token)}, nil
}

func leaseEnd() time.Time { return time.Date(2126, 1, 2, 3, 4, 5, 0, time.UTC) }

func (tokens) MintConsole(role event.Role, _ time.Duration) (string, error) { return string(role), nil }

func (tokens) Logout(token string) error {
	if token == "full" {
		return errors.New("disk is full")
	}
	return nil
}

// door remembers what came through it and refuses events called "refused".
type door struct {
	mu     sync.Mutex
	events []string
}

func (d *door) Publish(_ context.Context, g auth.Grant, kind event.Kind, payload []byte, target *event.Audience) (ack []byte, status int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if kind == "refused" {
		return []byte(`{"success":false,"error":"no","statusCode":400}`), http.StatusBadRequest
	}
	d.events = append(d.events, fmt.Sprintf("%s %s %s %v", g.Role, kind, payload, target != nil && target.Venue))
	return []byte(`{"success":true}`), http.StatusOK
}

func (d *door) CommandResult(_ context.Context, g auth.Grant, payload []byte) (ack []byte, status int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.events = append(d.events, fmt.Sprintf("result %s %s", g.Role, payload))
	return []byte(`{"success":true}`), http.StatusOK
}

func (d *door) Heartbeat(g *auth.Grant, payload []byte) (ack []byte, status int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.events = append(d.events, fmt.Sprintf("heartbeat %t %s", g != nil, payload))
	return []byte(`{"success":true}`), http.StatusOK
}

// The till answers with what it was asked.
func (d *door) till(g auth.Grant, what ...string) (answer []byte, status int) {
	return fmt.Appendf(nil, `{"asked":%q}`, string(g.Role)+" "+strings.Join(what, " ")), http.StatusOK
}

func (d *door) Charge(_ context.Context, g auth.Grant, device string, payload []byte) (answer []byte, status int) {
	return d.till(g, "charge", device, string(payload))
}

func (d *door) CancelCharge(_ context.Context, g auth.Grant, payload []byte) (answer []byte, status int) {
	return d.till(g, "cancel", string(payload))
}

func (d *door) ChargeStatus(_ context.Context, g auth.Grant, request string) (answer []byte, status int) {
	return d.till(g, "status", request)
}

func (d *door) OnlineTerminals(_ context.Context, g auth.Grant) (answer []byte, status int) {
	return d.till(g, "online")
}

func (d *door) PrintReceipt(_ context.Context, g auth.Grant, terminal string, payload []byte) (answer []byte, status int) {
	return d.till(g, "print", terminal, string(payload))
}

type box struct{ notReady error }

func (b box) Status() Status {
	return Status{Venue: "v1", Box: "b1", Uplink: UplinkStatus{State: "offline"}, Problems: []string{}}
}
func (b box) Stats() Stats          { return Stats{TotalConnections: 3} }
func (b box) Terminals() []Terminal { return []Terminal{{TerminalID: "b"}, {TerminalID: "a"}} }
func (b box) Ready() error          { return b.notReady }

// memory is a journal in memory.
type memory struct {
	mu      sync.Mutex
	events  []event.Event
	grown   chan struct{}
	readErr error
}

func newMemory(n int) *memory {
	m := &memory{grown: make(chan struct{})}
	for range n {
		m.add()
	}
	return m
}

func (m *memory) add() {
	m.mu.Lock()
	defer m.mu.Unlock()
	seq := event.Seq(len(m.events) + 1)
	m.events = append(m.events, event.Event{
		Seq: seq, Epoch: "e1", ID: event.ID(fmt.Sprintf("id-%d", seq)), Kind: event.PaymentCompleted,
		Class: event.Money, Origin: event.Terminal, Payload: []byte(`{"amount":1e3,"note":"<b>"}`),
	})
	close(m.grown)
	m.grown = make(chan struct{})
}

func (m *memory) Read(after event.Seq, n, _ int) ([]event.Event, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.readErr != nil {
		return nil, m.readErr
	}
	rest := m.events[min(int(after), len(m.events)):]
	return slices.Clone(rest[:min(n, len(rest), 3)]), nil // few at a time, as a real journal may
}

func (m *memory) Wait(ctx context.Context, after event.Seq) error {
	for {
		m.mu.Lock()
		stored, grown := event.Seq(len(m.events)), m.grown
		m.mu.Unlock()
		if stored > after {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-grown:
		}
	}
}

func (m *memory) Find(id string) (event.Event, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.events {
		if string(e.ID) == id || strconv.FormatUint(uint64(e.Seq), 10) == id {
			return e, nil
		}
	}
	return event.Event{}, fs.ErrNotExist
}

func (m *memory) Stored() event.Seq {
	m.mu.Lock()
	defer m.mu.Unlock()
	return event.Seq(len(m.events))
}

func (m *memory) Cursor(string) event.Seq { return 2 }

// past had one outage.
type past struct{}

func (past) Outages() []outages.Outage {
	return []outages.Outage{{ID: 1, Cause: "no_internet", Evidence: "<b>"}}
}

func newServer(m *memory, b box, d *door) *Server { return newLimited(m, b, d, &limits{left: 1000}) }

func newLimited(m *memory, b box, d *door, l Limits) *Server {
	return New(Config{
		Venue: "v1", Auth: tokens{}, Publish: d, Till: d, Limits: l, Logins: tokens{}, Origins: []string{"https://pos.example"}, Box: b, Events: m, Log: slog.New(slog.DiscardHandler),
		Journal: func() any { return map[string]int{"segments": 1} }, Keeper: keeper{}, Outages: past{},
		CA:      func() []byte { return []byte("-----BEGIN CERTIFICATE-----\n") },
		Card:    func(string) ([]byte, error) { return []byte("{}"), nil },
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "up 1\n") }),
		Spec:    http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "asyncapi: 3.0.0\n") }),
		Page:    http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<!doctype html>") }),
		Pairing: func() ([]byte, error) { return []byte("<svg/>"), nil },
		History: func(of time.Duration) any { return map[string]string{"of": of.String()} },
	})
}

// ask sends one request from a LAN address and returns status and body.
func ask(t *testing.T, h http.Handler, method, path, token, body string) (status int, answer string) {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	req.RemoteAddr = "192.168.1.20:5000"
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	return w.Code, w.Body.String()
}

// Every route is asked with no token, each role, a bad and an expired token;
// a route that is added without a line here fails.
func TestEveryRouteHasItsAccessRule(t *testing.T) {
	s := newServer(newMemory(3), box{}, &door{})
	lan := s.LAN()
	want := map[string]access{
		"GET /healthz": public, "GET /readyz": public, "GET /": public,
		"GET /asyncapi.yaml": public, "GET /docs": public, "GET /docs/{page}": public, "GET /ca.crt": public,
		"GET /.well-known/avoqado-edge": public,
		"GET /metrics":                  loopback,
		"POST /api/v1/login":            public, "POST /api/v1/logout": public, "POST /api/v1/login/code": operator,
		"GET /api/v1/session": staff,
		"GET /console/":       public,
		"GET /api/v1/history": office, "GET /api/v1/pairing.svg": office,
		"POST /api/v1/events":          staff,
		"GET /api/v1/stats":            office,
		"POST /api/v1/tpv/command-ack": staff, "POST /api/v1/tpv/heartbeat": public,
		"POST " + mobile + "/terminal-payment": staff, "POST " + mobile + "/terminal-payment/cancel": staff,
		"GET " + mobile + "/terminal-payment/{requestId}": staff, "GET " + mobile + "/terminals/online": staff,
		"POST " + mobile + "/terminals/{terminalId}/print-receipt": staff,
		"GET /api/v1/terminals": office,
		"GET /api/v1/status":    office, "GET /api/v1/events": office,
		"GET /api/v1/events/tail": office, "GET /api/v1/events/{id}": office,
		"GET /api/v1/events/settled": office,
		"GET /api/v1/events/parked":  office, "POST /api/v1/events/parked/{seq}/{decision}": operator,
		"POST /api/v1/uplink/cut": operator, "GET /api/v1/diagnosis": operator,
		"GET /api/v1/outages": office, "GET /api/v1/outages/{id}": office,
		"GET /api/v1/journal/stats": operator, "GET /api/v1/journal/export": operator,
		"GET /api/v1/journal/backup": operator, "POST /api/v1/journal/compact": operator,
		"POST /api/v1/reload": operator, "GET /debug/pprof/": operator, "GET /debug/pprof/profile": operator,
	}
	for _, r := range s.routes() {
		rule, ok := want[r.pattern]
		if !ok {
			t.Errorf("route %s is not in this test's table", r.pattern)
			continue
		}
		if rule != r.access {
			t.Errorf("route %s has access %d, want %d", r.pattern, r.access, rule)
		}
		if r.pattern == "GET /api/v1/events/tail" {
			continue // allowed callers would wait for ever; it has its own test
		}
		method, path, _ := strings.Cut(strings.NewReplacer("{id}", "1", "{seq}", "1", "{decision}", "retry", "{venueId}", "v1", "{requestId}", "r", "{terminalId}", "t").Replace(r.pattern), " ")
		body := `{"event":"payment_completed","payload":{}}`
		if path == "/api/v1/login" {
			body = `{"token":"WAITER"}` // which is the one that it looks at
		}

		if got, _ := ask(t, lan, method, path, "", body); (got == http.StatusOK) != (rule == public) {
			t.Errorf("%s without a token: status %d", r.pattern, got)
		}
		for _, token := range []string{"old", "junk"} {
			if got, _ := ask(t, lan, method, path, token, body); (got == http.StatusOK) != (rule == public) {
				t.Errorf("%s with a %s token: status %d", r.pattern, token, got)
			}
		}
		for _, role := range event.Roles() {
			allowed := rule == public || rule == staff || (rule != operator && event.MayPublish(role))
			if got, _ := ask(t, lan, method, path, string(role), body); (got == http.StatusOK) != allowed {
				t.Errorf("%s as %s: status %d, allowed %v", r.pattern, role, got, allowed)
			}
		}
	}
}

// TestCA: a device gets the CA as something to install, or is told that there is
// none.
func TestCA(t *testing.T) {
	s := newServer(newMemory(0), box{}, &door{})
	w := httptest.NewRecorder()
	s.LAN().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/ca.crt", http.NoBody))
	if w.Header().Get("Content-Type") != "application/x-x509-ca-cert" || !strings.HasPrefix(w.Body.String(), "-----BEGIN CERTIFICATE") {
		t.Errorf("answered %v %s", w.Header(), w.Body)
	}
	s.cfg.CA = func() []byte { return nil }
	if status, body := ask(t, s.LAN(), "GET", "/ca.crt", "", ""); status != http.StatusNotFound || !strings.Contains(body, "no_ca") {
		t.Errorf("without one: %d %s", status, body)
	}
}

// TestCard: a nonce comes through, what is none is refused, and so is every
// question to a box without a key.
func TestCard(t *testing.T) {
	s := newServer(newMemory(0), box{}, &door{})
	s.cfg.Card = func(nonce string) ([]byte, error) { return []byte(`{"nonce":"` + nonce + `"}`), nil }
	path := "/.well-known/avoqado-edge"
	if status, body := ask(t, s.LAN(), "GET", path+"?nonce=a-Z_09", "", ""); status != http.StatusOK || body != `{"nonce":"a-Z_09"}` {
		t.Errorf("answered %d %s", status, body)
	}
	for _, nonce := range []string{strings.Repeat("a", 65), "a%22b", "a+b", "%00"} {
		if status, body := ask(t, s.LAN(), "GET", path+"?nonce="+nonce, "", ""); status != http.StatusBadRequest || !strings.Contains(body, "bad_nonce") {
			t.Errorf("nonce %q: %d %s", nonce, status, body)
		}
	}
	s.cfg.Card = func(string) ([]byte, error) { return nil, errors.New("damaged") }
	if status, body := ask(t, s.LAN(), "GET", path, "", ""); status != http.StatusServiceUnavailable || !strings.Contains(body, "no_key") {
		t.Errorf("without a key: %d %s", status, body)
	}
}

// TestTill: what a POS asks for reaches the till, of this venue alone.
func TestTill(t *testing.T) {
	lan := newServer(newMemory(0), box{}, &door{}).LAN()
	for _, c := range []struct{ method, path, asked string }{
		{"POST", "/terminal-payment", "WAITER charge  {}"},
		{"POST", "/terminal-payment/cancel", "WAITER cancel {}"},
		{"GET", "/terminal-payment/a%2Fb", "WAITER status a/b"},
		{"GET", "/terminals/online", "WAITER online"},
		{"POST", "/terminals/AVQD-1/print-receipt", "WAITER print AVQD-1 {}"},
	} {
		status, body := ask(t, lan, c.method, "/api/v1/mobile/venues/v1"+c.path, "WAITER", " {} ")
		if want := fmt.Sprintf(`{"asked":%q}`, c.asked); status != http.StatusOK || strings.TrimSpace(body) != want {
			t.Errorf("%s: %d %s, want %s", c.path, status, body, want)
		}
		status, body = ask(t, lan, c.method, "/api/v1/mobile/venues/v2"+c.path, "WAITER", "{}")
		if status != http.StatusForbidden || !strings.Contains(body, `"success":false`) {
			t.Errorf("%s of another venue: %d %s", c.path, status, body)
		}
	}
}

func TestRefusalsUseTheTextsOfTheSockets(t *testing.T) {
	lan := newServer(newMemory(0), box{}, &door{}).LAN()
	for token, text := range map[string]string{
		"": "No authentication token provided", "old": "Token has expired", "junk": "Invalid token format",
	} {
		status, body := ask(t, lan, "POST", "/api/v1/events", token, "{}")
		if status != http.StatusUnauthorized || !strings.Contains(body, `"error":"`+text+`"`) {
			t.Errorf("token %q: %d %s, want 401 and %q", token, status, body, text)
		}
	}
}

func TestMetricsAnswerThisMachineWithoutAToken(t *testing.T) {
	lan := newServer(newMemory(0), box{}, &door{}).LAN()
	req := httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", http.NoBody)
	req.RemoteAddr = "[::1]:5000"
	w := httptest.NewRecorder()
	lan.ServeHTTP(w, req)
	if w.Code != http.StatusOK {
		t.Errorf("from ::1: status %d", w.Code)
	}
	for _, h := range []http.Header{
		{"X-Forwarded-For": {"8.8.8.8"}},
		{"X-Forwarded-For": {""}},
		{"X-Forwarded-Host": {"a.example"}},
		{"X-Real-Ip": {"8.8.8.8"}},
		{"Forwarded": {"for=8.8.8.8"}},
		{"Via": {"1.1 proxy"}},
	} {
		req.Header = h
		w = httptest.NewRecorder()
		lan.ServeHTTP(w, req)
		if w.Code != http.StatusUnauthorized {
			t.Errorf("through a proxy, by %v: status %d, want 401", h, w.Code)
		}
	}
}

func TestReadyTellsWhyNot(t *testing.T) {
	server := newServer(newMemory(0), box{notReady: errors.New("disk on fire")}, &door{})
	lan := server.LAN()
	status, body := ask(t, lan, "GET", "/readyz", "", "")
	if status != http.StatusServiceUnavailable || !strings.Contains(body, "disk on fire") {
		t.Errorf("%d %s", status, body)
	}
	if status, _ := ask(t, lan, "GET", "/healthz", "", ""); status != http.StatusOK {
		t.Errorf("healthz depends on the journal: %d", status)
	}
	if err := onSocket(t, server).Ready(t.Context()); err == nil || err.Error() != "disk on fire" {
		t.Errorf("over the socket: %v", err)
	}
	if err := onSocket(t, newServer(newMemory(0), box{}, &door{})).Ready(t.Context()); err != nil {
		t.Errorf("of a box that is ready: %v", err)
	}
}

func TestPublish(t *testing.T) {
	tests := []struct {
		name, body string
		status     int
		answer     string
		events     []string
	}{
		{
			"one", `{"event":"payment_completed","payload":{"amount":"120.50"}}`, 200,
			`{"success":true}`,
			[]string{`MANAGER payment_completed {"amount":"120.50"} false`},
		},
		{
			"with target", ` {"event":"a","payload":{},"target":{"venue":true}} `, 200,
			`{"success":true}`,
			[]string{`MANAGER a {} true`},
		},
		{
			"array", `[{"event":"a","payload":{}},{"event":"b","payload":{}}]`, 200,
			`[{"success":true},{"success":true}]`,
			[]string{`MANAGER a {} false`, `MANAGER b {} false`},
		},
		{
			"array with one refused", `[{"event":"refused","payload":{}},{"event":"b","payload":{}}]`, 207,
			`[{"success":false,"error":"no","statusCode":400},{"success":true}]`,
			[]string{`MANAGER b {} false`},
		},
		{
			"array with one malformed", `[7,{"event":"b","payload":{}}]`, 207,
			`"statusCode":400`,
			[]string{`MANAGER b {} false`},
		},
		{"empty array", `[]`, 200, `[]`, nil},
		{"refused", `{"event":"refused","payload":{}}`, 400, `"success":false`, nil},
		{"no event", `{"payload":{}}`, 400, "event is required", nil},
		{"unknown member", `{"event":"a","payload":{},"tagret":{}}`, 400, `tagret`, nil},
		{"bad target", `{"event":"a","payload":{},"target":{"tables":"t1"}}`, 400, "bad_body", nil},
		{"not JSON", `hello`, 400, "bad_body", nil},
		{"empty", ``, 400, "bad_body", nil},
		{"two objects", `{"event":"a","payload":{}}{"event":"b"}`, 400, "bad_body", nil},
		{"half an array", `[{"event":"a"`, 400, "bad_body", nil},
		{"too many", "[" + strings.Repeat("{},", maxEvents) + "{}]", 413, "too_many", nil},
		{"too large", `{"event":"` + strings.Repeat("a", maxBody) + `"}`, 413, "too_large", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := &door{}
			status, body := ask(t, newServer(newMemory(0), box{}, d).LAN(), "POST", "/api/v1/events", "MANAGER", tt.body)
			if status != tt.status || !strings.Contains(body, tt.answer) {
				t.Errorf("answer %d %s, want %d with %s", status, body, tt.status, tt.answer)
			}
			if !slices.Equal(d.events, tt.events) {
				t.Errorf("published %q, want %q", d.events, tt.events)
			}
		})
	}
}

// TestHeartbeatNeedsNoToken: today's terminal sends none, and is never to be
// told that it is unknown.
func TestHeartbeatNeedsNoToken(t *testing.T) {
	d := &door{}
	lan := newServer(newMemory(0), box{}, d).LAN()
	for _, token := range []string{"", "old", "junk", "WAITER"} {
		if status, body := ask(t, lan, "POST", "/api/v1/tpv/heartbeat", token, ` {"terminalId":"T"}`+"\n"); status != http.StatusOK {
			t.Errorf("with token %q: %d %s", token, status, body)
		}
	}
	if status, _ := ask(t, lan, "POST", "/api/v1/tpv/heartbeat", "", strings.Repeat("x", maxBody+1)); status != http.StatusRequestEntityTooLarge {
		t.Errorf("too large: %d", status)
	}
	want := []string{
		`heartbeat false {"terminalId":"T"}`, `heartbeat false {"terminalId":"T"}`,
		`heartbeat false {"terminalId":"T"}`, `heartbeat true {"terminalId":"T"}`,
	}
	if !slices.Equal(d.events, want) {
		t.Errorf("got %q", d.events)
	}
}

// onSocket serves the API on a unix socket and returns a client for it.
func onSocket(t *testing.T, s *Server) *Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "run", "box.sock")
	l, err := ListenSocket(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.ServeSocket(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("ServeSocket: %v", err)
		}
	})
	return NewClient(path)
}

func TestClientReadsEvents(t *testing.T) {
	c := onSocket(t, newServer(newMemory(10), box{}, &door{}))
	for _, tt := range []struct {
		after       int64
		limit       int
		first, last uint64
	}{
		{-1, 4, 7, 10},
		{-1, 1000, 1, 10},
		{0, 2, 1, 2},
		{8, 100, 9, 10},
	} {
		list, err := c.Events(t.Context(), tt.after, tt.limit)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == 0 || list[0].Seq != tt.first || list[len(list)-1].Seq != tt.last {
			t.Errorf("after %d limit %d: %+v", tt.after, tt.limit, list)
		}
	}
	if list, err := c.Events(t.Context(), 10, 5); err != nil || len(list) != 0 {
		t.Errorf("behind the end: %v, %v", list, err)
	}
	r, err := c.Event(t.Context(), "id-2")
	if err != nil || r.Seq != 2 || !r.Synced || string(r.Payload) != `{"amount":1e3,"note":"<b>"}` {
		t.Errorf("event id-2: %+v, %v", r, err)
	}
	if r, err := c.Event(t.Context(), "3"); err != nil || r.Synced {
		t.Errorf("event 3: %+v, %v", r, err)
	}
	if _, err := c.Event(t.Context(), "nope"); err == nil || !strings.Contains(err.Error(), "nope") {
		t.Errorf("unknown event: %v", err)
	}
	for _, limit := range []int{0, -1, 1001} {
		if _, err := c.Events(t.Context(), -1, limit); err == nil || !strings.Contains(err.Error(), "limit") {
			t.Errorf("limit %d: %v", limit, err)
		}
	}
}

func TestTailFollows(t *testing.T) {
	m := newMemory(5)
	c := onSocket(t, newServer(m, box{}, &door{}))
	var got []uint64
	stop := errors.New("enough")
	err := c.Tail(t.Context(), 3, func(r Record) error {
		got = append(got, r.Seq)
		switch len(got) {
		case 2:
			m.add()
		case 3:
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) || !slices.Equal(got, []uint64{4, 5, 6}) {
		t.Errorf("tail gave %v, %v", got, err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancelled := make(chan error, 1)
	go func() { cancelled <- c.Tail(ctx, -1, func(Record) error { return nil }) }()
	cancel()
	select {
	case err := <-cancelled:
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("a cancelled tail returns %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("a cancelled tail does not return")
	}
}

func TestStatusOverTheSocket(t *testing.T) {
	c := onSocket(t, newServer(newMemory(0), box{}, &door{}))
	st, err := c.Status(t.Context())
	if err != nil || st.Venue != "v1" || st.Uplink.State != "offline" {
		t.Errorf("%+v, %v", st, err)
	}
	raw, err := c.Journal(t.Context())
	if err != nil || !json.Valid(raw) || !strings.Contains(string(raw), "segments") {
		t.Errorf("%s, %v", raw, err)
	}
}

func TestSocketFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "box.sock")
	if _, err := NewClient(path).Status(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("no socket: %v, want ErrNotRunning", err)
	}
	l, err := ListenSocket(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("whoever may open it is an operator: %v, %v", info, err)
	}
	if _, err := ListenSocket(path); err == nil || !strings.Contains(err.Error(), "another box") {
		t.Errorf("a living socket was replaced: %v", err)
	}
	// A process that was killed leaves the file behind.
	l.(interface{ SetUnlinkOnClose(bool) }).SetUnlinkOnClose(false)
	_ = l.Close()
	if _, err := NewClient(path).Status(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("dead socket: %v, want ErrNotRunning", err)
	}
	l, err = ListenSocket(path)
	if err != nil {
		t.Fatalf("a dead socket was not replaced: %v", err)
	}
	_ = l.Close()
}

func TestTerminalsAreSortedAndStatsFlat(t *testing.T) {
	lan := newServer(newMemory(0), box{}, &door{}).LAN()
	if _, body := ask(t, lan, "GET", "/api/v1/terminals", "ADMIN", ""); strings.Index(body, `"a"`) > strings.Index(body, `"b"`) {
		t.Errorf("terminals %s", body)
	}
	if _, body := ask(t, lan, "GET", "/api/v1/stats", "OWNER", ""); !strings.Contains(body, `"totalConnections":3`) {
		t.Errorf("stats %s", body)
	}
	if status, body := ask(t, lan, "GET", "/nothing", "", ""); status != http.StatusNotFound || !strings.Contains(body, "/nothing") {
		t.Errorf("unknown path: %d %s", status, body)
	}
}

func TestOutages(t *testing.T) {
	h := newServer(newMemory(1), box{}, &door{}).LAN()
	for path, want := range map[string]string{
		"/api/v1/outages":                              `"outages":[{"id":1`,
		"/api/v1/outages/1":                            `"cause":"no_internet"`,
		"/api/v1/outages/latest?format=html":           "Sin internet (no_internet)",
		"/api/v1/outages/1?format=html&lang=en-US":     "<td>&lt;b&gt;",
		"/api/v1/outages/latest?format=text&lang=en":   "Outage 1 · Venue v1 · b1",
		"/api/v1/outages/1?format=pdf":                 "bad_format",
		"/api/v1/outages/2":                            "no_outage",
		"/api/v1/outages/latest%2F..?format=text":      "no_outage",
		"/api/v1/outages/1?format=html&lang=%3Cscript": `<html lang="es">`,
	} {
		if _, body := ask(t, h, http.MethodGet, path, "MANAGER", ""); !strings.Contains(body, want) {
			t.Errorf("%s: %s", path, body)
		}
	}
	bare := New(Config{Auth: tokens{}, Box: box{}, Limits: &limits{left: 10}})
	if _, body := ask(t, bare.LAN(), http.MethodGet, "/api/v1/outages", "MANAGER", ""); body != "{\"outages\":[]}\n" {
		t.Errorf("without a cloud: %s", body)
	}
}
