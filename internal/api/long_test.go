package api

import (
	"context"
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

// patient answers once the wait for a terminal ends.
type patient struct {
	*door
	asked, said chan struct{} // somebody waits; the terminal has spoken
}

func (p *patient) await(ctx context.Context) (answer []byte, status int) {
	p.asked <- struct{}{}
	select {
	case <-p.said:
		return []byte(`{"success":true}`), http.StatusOK
	case <-ctx.Done():
		return []byte(`{"success":false,"status":"timeout"}`), http.StatusGatewayTimeout
	}
}

func (p *patient) Charge(ctx context.Context, _ auth.Grant, _ string, _ []byte) (answer []byte, status int) {
	return p.await(ctx)
}

func (p *patient) PrintReceipt(ctx context.Context, _ auth.Grant, _ string, _ []byte) (answer []byte, status int) {
	return p.await(ctx)
}

// TestALongAnswerEndsWithItsToken: whoever waits for a terminal and is not let in
// any more learns nothing of what came of it. A token that ends by itself is no
// reason to leave a payment in doubt.
func TestALongAnswerEndsWithItsToken(t *testing.T) {
	t.Parallel()
	manager := auth.Grant{Subject: "m", Venue: "v1", Role: event.Manager}
	viewer, leased := manager, manager
	viewer.Role, leased.Lease = event.Viewer, leaseEnd()
	lesser := leased
	lesser.Role = event.Waiter
	for name, c := range map[string]struct {
		then auth.Grant
		err  error
		hear bool // what came of it
	}{
		"revoked":                {auth.Grant{}, auth.ErrRevoked, false},
		"the venue is suspended": {auth.Grant{}, auth.ErrVenue, false},
		"its key is gone":        {auth.Grant{}, auth.ErrFormat, false},
		"another role":           {viewer, nil, false},
		"let in by a lease now":  {leased, nil, true},
		"with fewer rights":      {lesser, nil, false},
		"ended":                  {auth.Grant{}, auth.ErrExpired, true},
		"good":                   {manager, nil, true},
	} {
		for _, path := range []string{"terminal-payment", "terminals/t1/print-receipt"} {
			t.Run(name+", "+path, func(t *testing.T) {
				t.Parallel()
				gate := &turnstile{grant: manager}
				p := &patient{door: &door{}, asked: make(chan struct{}, 1), said: make(chan struct{})}
				s := newServer(newMemory(0), box{}, p.door)
				s.cfg.Auth, s.cfg.Till = gate, p
				web := httptest.NewServer(s.LAN())
				defer web.Close()
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				go func() {
					<-p.asked
					gate.set(c.then, c.err)
					if c.hear {
						wait := time.NewTimer(2 * verifyEvery)
						defer wait.Stop()
						<-wait.C
						close(p.said)
					}
				}()
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, web.URL+"/api/v1/mobile/venues/v1/"+path, strings.NewReader("{}"))
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Authorization", "Bearer x")
				res, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = res.Body.Close() }()
				body, _ := io.ReadAll(res.Body)
				if heard := res.StatusCode == http.StatusOK; heard != c.hear || res.Header.Get("X-Content-Type-Options") != "nosniff" {
					t.Errorf("%d %s", res.StatusCode, body)
				}
			})
		}
	}
}

// TestALateBody: a request that was let in is no way to say something later, by a
// body that comes slowly or by many events in one.
func TestALateBody(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/api/v1/events", "/api/v1/tpv/command-ack", "/api/v1/mobile/venues/v1/terminal-payment", "/api/v1/mobile/venues/v1/terminal-payment/cancel"} {
		for err, want := range map[error]int{auth.ErrRevoked: http.StatusUnauthorized, nil: http.StatusOK} {
			t.Run(path+" "+http.StatusText(want), func(t *testing.T) {
				t.Parallel()
				gate := &turnstile{grant: auth.Grant{Subject: "m", Venue: "v1", Role: event.Manager}}
				d, begun := &door{}, make(chan struct{})
				s := newServer(newMemory(0), box{}, d)
				s.cfg.Auth = &watched{Verifier: gate, begun: begun}
				web := httptest.NewServer(s.LAN())
				defer web.Close()
				reader, writer := io.Pipe()
				go func() {
					_, _ = io.WriteString(writer, `{"event":"menu_updated",`)
					<-begun // it counts from then, on a busy machine too
					wait := time.NewTimer(2 * verifyEvery)
					defer wait.Stop()
					<-wait.C
					gate.set(gate.grant, err)
					_, _ = io.WriteString(writer, `"payload":{}}`)
					_ = writer.Close()
				}()
				req, e := http.NewRequestWithContext(t.Context(), http.MethodPost, web.URL+path, reader)
				if e != nil {
					t.Fatal(e)
				}
				req.Header.Set("Authorization", "Bearer x")
				res, e := http.DefaultClient.Do(req)
				if e != nil {
					t.Fatal(e)
				}
				_ = res.Body.Close()
				if res.StatusCode != want || err != nil && len(d.events) > 0 {
					t.Errorf("%d, %q", res.StatusCode, d.events)
				}
			})
		}
	}
}

// watched tells when a caller was first looked at.
type watched struct {
	Verifier
	begun chan struct{}
	first sync.Once
}

func (w *watched) Verify(token string) (auth.Grant, error) {
	defer w.first.Do(func() { close(w.begun) })
	return w.Verifier.Verify(token)
}

// slowly takes its time for each event.
type slowly struct {
	*door
	took func()
}

func (d slowly) Publish(ctx context.Context, g auth.Grant, kind event.Kind, payload []byte, target *event.Audience) (ack []byte, status int) {
	d.took()
	wait := time.NewTimer(100 * time.Millisecond)
	defer wait.Stop()
	<-wait.C
	return d.door.Publish(ctx, g, kind, payload, target)
}

func TestManyEventsOfWhoIsTakenBack(t *testing.T) {
	t.Parallel()
	gate, d := &turnstile{grant: auth.Grant{Subject: "m", Venue: "v1", Role: event.Manager}}, &door{}
	s := newServer(newMemory(0), box{}, d)
	s.cfg.Auth, s.cfg.Publish = gate, slowly{d, func() { gate.set(auth.Grant{}, auth.ErrRevoked) }}
	one := `{"event":"menu_updated","payload":{}}`
	w := requestFrom(t, s.LAN(), "/api/v1/events", "x", "["+strings.Repeat(one+",", 99)+one+"]")
	if n := len(d.events); w.Code != http.StatusMultiStatus || n == 0 || n > 50 || strings.Count(w.Body.String(), `"code":"bad_token"`) != 100-n {
		t.Errorf("%d, %d events, %s", w.Code, n, w.Body)
	}
}

// TestAGuessBesideAnOldToken is counted as a guess, whatever the caller is told.
func TestAGuessBesideAnOldToken(t *testing.T) {
	for tokens, want := range map[string]string{"guess old": "guess", "old guess": "guess", "old old": "old"} {
		l := &limits{left: 10}
		s := newLimited(newMemory(0), box{}, &door{}, l)
		s.cfg.Auth = lookup{"old": auth.ErrExpired, "guess": auth.ErrFormat}
		cookie, bearer, _ := strings.Cut(tokens, " ")
		req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/v1/session", http.NoBody)
		req.RemoteAddr = "192.168.1.20:5000"
		req.Header.Set("Cookie", tokenCookie+"="+cookie)
		req.Header.Set("Authorization", "Bearer "+bearer)
		w := httptest.NewRecorder()
		s.LAN().ServeHTTP(w, req)
		if noted := "denied 192.168.1.20 " + s.cfg.Auth.(lookup)[want].Error(); !strings.Contains(w.Body.String(), auth.ErrExpired.Error()) || len(l.calls) != 1 || l.calls[0] != noted {
			t.Errorf("%s: told %s, noted %q", tokens, w.Body, l.calls)
		}
	}
}

// lookup knows why each token is refused.
type lookup map[string]error

func (l lookup) Verify(token string) (auth.Grant, error) { return auth.Grant{}, l[token] }
