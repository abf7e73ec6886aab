package api

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
)

// browser sends requests as a page of the given origin would.
type browser struct {
	t       *testing.T
	handler http.Handler
	origin  string
	cookies []*http.Cookie
}

func (b *browser) ask(method, path, body string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	b.t.Helper()
	req := httptest.NewRequestWithContext(b.t.Context(), method, "http://192.168.1.5:8080"+path, strings.NewReader(body))
	req.RemoteAddr = "192.168.1.20:5000"
	if b.origin != "" {
		req.Header.Set("Origin", b.origin)
	}
	for _, c := range b.cookies {
		req.AddCookie(c)
	}
	for _, f := range change {
		f(req)
	}
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, req)
	if set := w.Result().Cookies(); len(set) > 0 {
		b.cookies = set
	}
	return w
}

func TestLogin(t *testing.T) {
	s := newServer(newMemory(1), box{}, &door{})
	page := &browser{t: t, handler: s.LAN(), origin: "http://192.168.1.5:8080"}
	if w := page.ask("POST", "/api/v1/login", `{"token":"MANAGER"}`); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"role":"MANAGER"`) {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if got := page.cookies[0].String(); got != "accessToken=MANAGER; Path=/; HttpOnly; SameSite=Strict" {
		t.Errorf("cookie: %s", got)
	}
	for path, want := range map[string]int{"/api/v1/stats": 200, "/api/v1/session": 200, "/api/v1/journal/stats": 403} {
		if w := page.ask("GET", path, ""); w.Code != want {
			t.Errorf("%s with the cookie: %d %s", path, w.Code, w.Body)
		}
	}

	// Another site's page has the cookie sent along, should a browser do that.
	thief := &browser{t: t, handler: s.LAN(), origin: "http://evil.example", cookies: page.cookies}
	for _, path := range []string{"/api/v1/events", "/api/v1/login", "/api/v1/logout", "/api/v1/tpv/heartbeat"} {
		if w := thief.ask("POST", path, `{"event":"payment_completed","payload":{}}`); w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "foreign_page") {
			t.Errorf("%s from another site: %d %s", path, w.Code, w.Body)
		}
	}
	site := func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }
	if w := page.ask("POST", "/api/v1/events", `{}`, site); w.Code != http.StatusForbidden {
		t.Errorf("cross-site by Sec-Fetch-Site: %d", w.Code)
	}
	known := &browser{t: t, handler: s.LAN(), origin: "https://pos.example", cookies: page.cookies}
	for _, b := range []*browser{page, known, {t: t, handler: s.LAN(), cookies: page.cookies}} { // a program sends no origin
		if w := b.ask("POST", "/api/v1/events", `{"event":"payment_completed","payload":{}}`); w.Code != http.StatusOK {
			t.Errorf("from %q: %d %s", b.origin, w.Code, w.Body)
		}
	}

	secure := page.ask("POST", "/api/v1/login", `{"token":"MANAGER"}`, func(r *http.Request) {
		r.TLS = httptest.NewRequestWithContext(t.Context(), "GET", "https://x/", http.NoBody).TLS
	})
	if !page.cookies[0].Secure {
		t.Errorf("the cookie of an https page: %d %s", secure.Code, page.cookies[0])
	}
	if page.ask("POST", "/api/v1/logout", ""); page.cookies[0].MaxAge >= 0 || page.cookies[0].Value != "" {
		t.Errorf("logged out: %s", page.cookies[0])
	}

	// A logout that is not kept is said, and the cookie stays for another try.
	full := &browser{t: t, handler: s.LAN(), origin: page.origin, cookies: []*http.Cookie{{Name: "accessToken", Value: "full"}}} //nolint:gosec // a request's
	if w := full.ask("POST", "/api/v1/logout", ""); w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "logout_not_kept") || full.cookies[0].Value != "full" {
		t.Errorf("on a full disk: %d %s", w.Code, w.Body)
	}

	for body, want := range map[string]int{
		`{"token":"old"}`: 401, `{"token":"junk"}`: 401, `{}`: 400, `{"token":"MANAGER","code":"123456"}`: 400, `[]`: 400, `{"token":7}`: 400,
		`{"token":"MANAGER"}{}`: 400, `{"token":"MANAGER","x":1}`: 400, ``: 400, `{"token":"` + strings.Repeat("x", 20<<10) + `"}`: 400,
	} {
		w := (&browser{t: t, handler: s.LAN()}).ask("POST", "/api/v1/login", body)
		if w.Code != want || len(w.Result().Cookies()) != 0 {
			t.Errorf("login with %.40s: %d %s", body, w.Code, w.Body)
		}
	}
}

// slow is a box whose clock is not where the machine's has jumped to.
type slow struct {
	box
	now time.Time
}

func (s slow) Status() Status { return Status{Clock: ClockStatus{Now: s.now}} }

// Who logs in stays in by the clock that judges tokens, the box's.
func TestTheCookieGoesByTheClockOfTheBox(t *testing.T) {
	now := time.Now().Add(-48 * time.Hour)
	s := newServer(newMemory(1), box{}, &door{})
	s.cfg.Auth = &turnstile{grant: auth.Grant{Subject: "console", Venue: "v1", Role: event.Admin, Expires: now.Add(8 * time.Hour)}}
	s.cfg.Box = slow{now: now}
	page := &browser{t: t, handler: s.LAN(), origin: "http://192.168.1.5:8080"}
	page.ask("POST", "/api/v1/login", `{"token":"T"}`)
	if len(page.cookies) != 1 || page.cookies[0].MaxAge != 8*60*60 {
		t.Errorf("%v", page.cookies)
	}
}

// TestTokensFallThrough: an old cookie does not beat a good header (contract A8).
func TestTokensFallThrough(t *testing.T) {
	lan := newServer(newMemory(1), box{}, &door{}).LAN()
	for _, c := range []struct {
		cookie, header string
		status         int
		says           string
	}{
		{"old", "MANAGER", 200, ""},
		{"MANAGER", "old", 200, ""},
		{"MANAGER", "", 200, ""},
		{"junk", "old", 401, "Token has expired"},
		{"old", "junk", 401, "Token has expired"},
		{"junk", "", 401, "Invalid token format"},
		{"", "", 401, "No authentication token provided"},
		{"WAITER", "MANAGER", 403, "Role WAITER"}, // the first good one counts
	} {
		w := (&browser{t: t, handler: lan}).ask("GET", "/api/v1/stats", "", func(r *http.Request) {
			if c.cookie != "" {
				r.AddCookie(&http.Cookie{Name: "accessToken", Value: c.cookie}) //nolint:gosec // a request's
			}
			if c.header != "" {
				r.Header.Set("Authorization", "Bearer "+c.header)
			}
		})
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
			t.Errorf("%+v: %d %s", c, w.Code, w.Body)
		}
	}
	w := (&browser{t: t, handler: lan}).ask("GET", "/api/v1/stats?token=MANAGER", "")
	if w.Code != http.StatusUnauthorized {
		t.Errorf("a token in the address: %d", w.Code)
	}
}

func TestLoginByCode(t *testing.T) {
	s := newServer(newMemory(0), box{}, &door{})
	fresh := func() string {
		t.Helper()
		w := httptest.NewRecorder()
		s.Socket().ServeHTTP(w, httptest.NewRequestWithContext(context.Background(), "POST", "/api/v1/login/code", http.NoBody))
		var c LoginCode
		if err := json.Unmarshal(w.Body.Bytes(), &c); err != nil || len(c.Code) != 6 || c.Tries != 5 || time.Until(c.Expires) > 10*time.Minute {
			t.Fatalf("%s, %v", w.Body, err)
		}
		return c.Code
	}
	try := func(code string) *httptest.ResponseRecorder {
		return (&browser{t: t, handler: s.LAN()}).ask("POST", "/api/v1/login", fmt.Sprintf(`{"code":%q}`, code))
	}
	wrong := func(code string) string { return string('0'+(code[0]-'0'+1)%10) + code[1:] }

	if w := try("000000"); w.Code != http.StatusUnauthorized {
		t.Errorf("before there is a code: %d", w.Code)
	}
	code := fresh()
	for n := range 4 {
		if w := try(wrong(code)); w.Code != http.StatusUnauthorized || !strings.Contains(w.Body.String(), fmt.Sprintf("%d tries", 4-n)) {
			t.Errorf("a wrong code: %d %s", w.Code, w.Body)
		}
	}
	if w := try(code[:3] + " " + code[3:]); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"role":"ADMIN"`) || w.Result().Cookies()[0].Value != "ADMIN" {
		t.Errorf("the code at the fifth try: %d %s", w.Code, w.Body)
	}
	if w := try(code); w.Code != http.StatusUnauthorized {
		t.Errorf("the code once more: %d", w.Code)
	}
	code = fresh()
	for range 5 {
		try(wrong(code))
	}
	if w := try(code); w.Code != http.StatusUnauthorized {
		t.Errorf("the code after five tries: %d", w.Code)
	}
	old := fresh()
	if code = fresh(); old != code {
		if w := try(old); w.Code != http.StatusUnauthorized {
			t.Errorf("the code before: %d", w.Code)
		}
	}
	s.code.mu.Lock()
	s.code.ends = time.Now()
	s.code.mu.Unlock()
	if w := try(code); w.Code != http.StatusUnauthorized {
		t.Errorf("a code that is over: %d", w.Code)
	}
}

// TestLeasesAreRecorded: no request is allowed by a lease without its record.
func TestLeasesAreRecorded(t *testing.T) {
	l := &limits{left: 10}
	lan := newLimited(newMemory(1), box{}, &door{}, l).LAN()
	if status, body := ask(t, lan, "GET", "/api/v1/session", "lease-WAITER", ""); status != http.StatusOK || !strings.Contains(body, `"lease":{"until":"2126-01-02T03:04:05Z"}`) {
		t.Errorf("%d %s", status, body)
	}
	if len(l.calls) != 1 || l.calls[0] != "leased 192.168.1.20 s1" {
		t.Errorf("recorded: %q", l.calls)
	}
	l.busy = true
	if status, body := ask(t, lan, "GET", "/api/v1/session", "lease-WAITER", ""); status != http.StatusTooManyRequests {
		t.Errorf("without a record: %d %s", status, body)
	}
}

// turnstile says of every token what was set last.
type turnstile struct {
	mu    sync.Mutex // guards below
	grant auth.Grant
	err   error
}

func (d *turnstile) set(g auth.Grant, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.grant, d.err = g, err
}

func (d *turnstile) Verify(string) (auth.Grant, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.grant, d.err
}

// TestTailEndsWithItsToken: an answer without an end is no way around the end of
// a token, its revocation or a lease.
func TestTailEndsWithItsToken(t *testing.T) {
	manager := auth.Grant{Subject: "m", Venue: "v1", Role: event.Manager}
	waiter, leased := manager, manager
	waiter.Role, leased.Lease = event.Waiter, leaseEnd()
	for name, c := range map[string]struct {
		then auth.Grant
		err  error
		busy bool // events come all the time
	}{
		"ended":                 {auth.Grant{}, auth.ErrExpired, false},
		"revoked, in a stream":  {auth.Grant{}, auth.ErrRevoked, true},
		"let in by a lease now": {leased, nil, false},
		"another role":          {waiter, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			m, gate := newMemory(1), &turnstile{grant: manager}
			s := newServer(m, box{}, &door{})
			s.cfg.Auth = gate
			web := httptest.NewServer(s.LAN())
			defer web.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, web.URL+"/api/v1/events/tail?after=0", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer x")
			res, err := http.DefaultClient.Do(req)
			if err != nil || res.StatusCode != http.StatusOK {
				t.Fatalf("%v, %v", res, err)
			}
			defer func() { _ = res.Body.Close() }()
			lines := bufio.NewReader(res.Body)
			if _, err := lines.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			gate.set(c.then, c.err)
			if c.busy {
				stop := make(chan struct{})
				defer close(stop)
				go func() {
					for tick := time.NewTicker(50 * time.Millisecond); ; {
						select {
						case <-stop:
							return
						case <-tick.C:
							m.add()
						}
					}
				}()
			}
			if _, err := io.Copy(io.Discard, lines); err != nil {
				t.Errorf("it goes on: %v", err)
			}
		})
	}
}
