package boxtest

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// attempt is one attack on the wires: what it says got through, empty if
// nothing did.
type attempt struct {
	name string
	try  func(a *attacker) string
}

// siege is a box with one terminal of its own, and tokens that are good but must
// not do everything.
type siege struct {
	t                               testing.TB
	box                             *Box
	admin, waiter, viewer, terminal string // tokens; the last is of AVQD-1
	victim                          *websocket.Conn
}

// TestAttacksOnTheWires tries what needs no forged token: none may get through,
// store anything, stop the box or have it tell a secret.
func TestAttacksOnTheWires(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("some hundred requests")
	}
	box := StartBox(t, BoxConfig{})
	s := &siege{
		t: t, box: box, admin: box.Token(event.Admin, "boss", ""), waiter: box.Token(event.Waiter, "w1", ""),
		viewer: box.Token(event.Viewer, "v", ""), terminal: box.Token(event.Waiter, "w2", "AVQD-1"),
	}
	var seen strings.Builder
	first := box.attacker(0, &seen)
	s.victim, _ = first.connect(`{"token":"`+s.terminal+`","terminalId":"AVQD-1"}`, "", nil)
	if s.victim == nil {
		t.Fatal("the terminal is not let in")
	}
	defer func() { _ = s.victim.Close() }()
	Eventually(t, 10*time.Second, "the terminal is known", func() bool {
		_, body, _ := first.do("GET", "/api/v1/terminals", s.bearer(s.admin), "")
		return strings.Contains(body, `"userId":"w2"`)
	})
	seen.Reset()
	n := 1000
	for class, attempts := range map[string][]attempt{
		"host": s.hosts(), "origin": s.origins(), "operator": s.operator(), "path": s.paths(), "role": s.roles(), "room": s.rooms(),
		"terminal": s.terminals(), "hijack": s.hijacks(), "smuggling": s.smuggling(), "login": s.logins(), "socket": s.files(),
		"cookie": s.cookies(), "logout": s.logouts(), "timing": s.timing(),
		"packet": s.packets(), "polling": s.posts(), "unasked": s.unasked(),
	} {
		for _, one := range attempts {
			n++
			if through := one.try(box.attacker(n, &seen)); through != "" {
				t.Errorf("%s: %s: %s", class, one.name, through)
			}
			for where, text := range map[string]string{"an answer": seen.String(), "the log": box.Log()} {
				for _, secret := range []string{Secret, s.admin, s.waiter, s.viewer, s.terminal} {
					if strings.Contains(text, secret) {
						t.Errorf("%s: %s: %s tells a secret", class, one.name, where)
					}
				}
			}
			seen.Reset()
		}
	}
	if t.Logf("%d attacks", n-1000); n < 1300 {
		t.Errorf("%d attacks are too few", n-1000)
	}
	if stored := box.Stored(); stored != 0 {
		out, _, _ := box.Command("events", "list", "--json", "--payload")
		t.Errorf("%d events are stored: %s", stored, out)
	}
	if status, body, _ := first.do("GET", "/api/v1/terminals", s.bearer(s.admin), ""); status != http.StatusOK || !strings.Contains(body, `"userId":"w2"`) {
		t.Errorf("the terminal is not who it was: %d %s", status, body)
	}
}

func (s *siege) bearer(token string) http.Header {
	return http.Header{"Authorization": {"Bearer " + token}}
}

func (s *siege) cookie(token string, more ...string) http.Header {
	h := http.Header{"Cookie": {"accessToken=" + token}}
	for i := 0; i+1 < len(more); i += 2 {
		h.Set(more[i], more[i+1])
	}
	return h
}

const anEvent = `{"event":"menu_updated","payload":{"updateType":"FULL_REFRESH"}}`

// hosts have a page of somebody else pass for the box's own (DNS rebinding).
func (s *siege) hosts() (list []attempt) {
	for _, host := range []string{
		"evil.example", "evil.example:8080", "127.0.0.1.nip.io", "localhost.evil.example", "avq-b1.evil.example", "evil.local",
		"0x7f.1", "2130706433", "[::1", "api.avoqado.io.evil.example", "localhost,evil.example",
	} {
		list = append(list, attempt{"Host " + host, func(a *attacker) string {
			h := s.cookie(s.admin, "Host", host, "Origin", "http://"+host)
			if status, body, _ := a.do("POST", "/api/v1/events", h.Clone(), anEvent); status == http.StatusOK {
				return body
			}
			if status, body, _ := a.do("GET", "/api/v1/status", h.Clone(), ""); status == http.StatusOK {
				return body
			}
			if strings.ContainsAny(host, "[,") {
				return "" // no client writes these
			}
			if ws, status := a.socket("", h); ws != nil {
				return fmt.Sprint("a socket: ", status)
			}
			return ""
		}})
	}
	return list
}

// origins have a browser that is logged in send what its person did not ask for.
func (s *siege) origins() (list []attempt) {
	own := s.box.URL()
	for _, origin := range []string{
		"http://evil.example", "null", "http://127.0.0.1:1", "http://127.0.0.1", own + ".evil.example", own + "@evil.example", "https://dashboard.avoqado.io.evil.example",
		"http://dashboard.avoqado.io", "https://evil-dashboard.avoqado.io", "file://", "https://avoqado.io:444", "chrome-extension://abc",
	} {
		list = append(list, attempt{"Origin " + origin, func(a *attacker) string {
			h := s.cookie(s.admin, "Origin", origin)
			if status, body, _ := a.do("POST", "/api/v1/events", h.Clone(), anEvent); status == http.StatusOK {
				return body
			}
			if _, _, cookies := a.do("POST", "/api/v1/login", http.Header{"Origin": {origin}}, `{"token":"`+s.viewer+`"}`); len(cookies) > 0 {
				return "logs somebody in"
			}
			if ws, status := a.socket("", h.Clone()); ws != nil {
				return fmt.Sprint("a socket: ", status)
			}
			if status, body, _ := a.do("GET", "/socket.io/?EIO=4&transport=polling", h, ""); status == http.StatusOK {
				return body
			}
			return ""
		}})
	}
	for _, site := range []string{"cross-site", "same-site"} {
		list = append(list, attempt{"Sec-Fetch-Site " + site, func(a *attacker) string {
			if status, body, _ := a.do("POST", "/api/v1/events", s.cookie(s.admin, "Sec-Fetch-Site", site), anEvent); status == http.StatusOK {
				return body
			}
			return ""
		}})
	}
	return append(list, attempt{"reading across origins", func(a *attacker) string {
		req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.box.URL()+"/api/v1/status", http.NoBody)
		if err != nil {
			s.t.Fatal(err)
		}
		req.Header = s.cookie(s.admin, "Origin", "http://evil.example")
		res, err := a.client.Do(req)
		if err != nil {
			s.t.Fatal(err)
		}
		_ = res.Body.Close()
		return res.Header.Get("Access-Control-Allow-Origin") // the page may not read it
	}})
}

// operator routes are the unix socket's, whoever asks.
func (s *siege) operator() (list []attempt) {
	super := s.box.Token(event.SuperAdmin, "root", "")
	for _, route := range []string{
		"GET /api/v1/journal/backup", "GET /api/v1/journal/export", "GET /api/v1/journal/stats", "POST /api/v1/journal/compact", "GET /debug/pprof/",
		"GET /debug/pprof/profile", "POST /api/v1/login/code", "POST /api/v1/events/parked/1/drop", "HEAD /api/v1/journal/backup",
	} {
		method, path, _ := strings.Cut(route, " ")
		for name, change := range map[string][]string{
			"": {}, " forwarded": {"X-Forwarded-For", "127.0.0.1", "X-Real-Ip", "127.0.0.1", "Forwarded", "for=127.0.0.1"},
			" by another method": {"X-Http-Method-Override", "GET"}, " rewritten": {"X-Original-Url", path, "X-Rewrite-Url", path},
		} {
			list = append(list, attempt{route + name, func(a *attacker) string {
				h := s.bearer(super)
				for i := 0; i < len(change); i += 2 {
					h.Set(change[i], change[i+1])
				}
				if status, body, _ := a.do(method, path, h, ""); status < 400 {
					return fmt.Sprint(status, " ", body)
				}
				return ""
			}})
		}
	}
	return append(list, attempt{"metrics through a proxy", func(a *attacker) string {
		if status, body, _ := a.do("GET", "/metrics", http.Header{"X-Forwarded-For": {"8.8.8.8"}}, ""); status == http.StatusOK {
			return body[:50]
		}
		return ""
	}})
}

func (s *siege) paths() (list []attempt) {
	for _, path := range []string{
		"/../../../../etc/passwd", "/..%2f..%2f..%2fetc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/docs/../../../etc/passwd", "/docs/..%5c..%5cetc/passwd",
		"/docs/....//....//etc/passwd", "/api/v1/events/..%2f..%2f..%2f..%2fetc%2fpasswd", "//etc/passwd", "/etc/passwd%00.html", "/.git/config", "/state/box.json", "/jwks.json",
		"/api/v1/../v1/journal/backup", "/api/v1/./journal/backup", "//api/v1/journal/backup", "/API/V1/journal/backup", "/api/v1/journal/backup/", "/api/v1/journal%2fbackup",
		"/api/v1/journal/backup;a=b", "/docs/..;/api/v1/journal/backup", "/%61pi/v1/journal/backup", "/debug/pprof/cmdline", "/debug/pprof/heap", "/%64ebug/pprof/", "/debug/vars", "/socket.io/../debug/pprof/",
	} {
		list = append(list, attempt{path, func(a *attacker) string {
			answer := a.wire("GET " + path + " HTTP/1.1\r\nHost: " + s.box.Addr() + "\r\nAuthorization: Bearer " + s.admin + "\r\nConnection: close\r\n\r\n")
			if strings.HasPrefix(answer, "HTTP/1.1 2") || strings.Contains(answer, "root:") {
				return answer[:min(len(answer), 200)]
			}
			return ""
		}})
	}
	return list
}

// said sends one event on a socket and returns the ack, empty if none came before
// that of a second event, which always is answered.
func (s *siege) said(a *attacker, token, terminal, name, payload string) string {
	login := `{"token":"` + token + `"`
	if terminal != "" {
		login += `,"terminalId":"` + terminal + `"`
	}
	ws, answer := a.connect(login+"}", "", nil)
	if ws == nil || !strings.HasPrefix(answer, "40") {
		return ""
	}
	defer func() { _ = ws.Close() }()
	_ = ws.WriteMessage(websocket.TextMessage, []byte("421["+quoted(name)+","+payload+"]"))
	_ = ws.WriteMessage(websocket.TextMessage, []byte(`422["authenticate",{}]`))
	for {
		_, raw, err := ws.ReadMessage()
		switch {
		case err != nil, strings.HasPrefix(string(raw), "432"):
			return ""
		case strings.HasPrefix(string(raw), "431"):
			a.seen.Write(raw)
			return string(raw[3:])
		}
	}
}

// refused tries an event that must not be answered with success.
func (s *siege) refused(name, token, terminal, kind, payload string) attempt {
	return attempt{name, func(a *attacker) string {
		ack := s.said(a, token, terminal, kind, payload)
		if strings.Contains(ack, `"success":true`) {
			return ack
		}
		return ""
	}}
}

func (s *siege) roles() []attempt {
	const pay = `{"paymentId":"p1","amount":"1.00","venueId":"v1","role":"ADMIN","userId":"boss"}`
	kitchen := s.box.Token(event.Kitchen, "k", "")
	list := []attempt{
		s.refused("KITCHEN takes a payment", kitchen, "", "payment_completed", pay),
		s.refused("VIEWER takes a payment", s.viewer, "", "payment_completed", pay),
		s.refused("VIEWER orders", s.viewer, "", "order_created", `{"orderId":"o1","venueId":"v1"}`),
		s.refused("WAITER deletes an order", s.waiter, "", "order_deleted", `{"orderId":"o1","venueId":"v1"}`),
		s.refused("WAITER sends an alert", s.waiter, "", "system_alert", `{"level":"info","title":"a","message":"b","venueId":"v1"}`),
		s.refused("WAITER commands a terminal", s.waiter, "", "tpv_command", `{"commandId":"c1","terminalId":"AVQD-1","type":"REBOOT","venueId":"v1"}`),
		s.refused("WAITER sends a message", s.waiter, "", "tpv_message", `{"messageId":"m1","title":"a","venueId":"v1"}`),
	}
	for _, kind := range []string{
		"auth:lease_used", "terminal:payment_request", "terminal:payment_attempt_opened", "notification_new", "sync_status", "authentication_success",
		"terminal_config_changed", "menu_updated", "shift_closed", "connect", "disconnect", "__proto__", "constructor", "no_such_event",
	} {
		list = append(list, s.refused("a client says "+kind, s.admin, "", kind, `{"venueId":"v1","userId":"u","requestId":"r1"}`))
	}
	for _, body := range []string{anEvent, `{"event":"auth:lease_used","payload":{}}`, `{"event":"order_deleted","payload":{"orderId":"o1","venueId":"v1"}}`} {
		list = append(list, attempt{"WAITER over HTTP: " + body, func(a *attacker) string {
			if status, answer, _ := a.do("POST", "/api/v1/events", s.bearer(s.waiter), body); status == http.StatusOK {
				return answer
			}
			return ""
		}})
	}
	return list
}

func (s *siege) rooms() []attempt {
	list := []attempt{
		s.refused("an order of another venue", s.waiter, "", "order_created", `{"orderId":"o1","venueId":"v2"}`),
		s.refused("a payment of another venue", s.admin, "", "payment_completed", `{"paymentId":"p1","amount":"1.00","venueId":"v2"}`),
		s.refused("another venue's name", s.waiter, "", "joinVenueRoom", `{"venueId":"v2"}`),
		s.refused("another venue's log", s.box.Token(event.Waiter, "w4", "AVQD-4"), "AVQD-4", "tpv:log", `{"venueId":"v2","terminalId":"AVQD-4","level":"info","message":"x"}`),
		s.refused("global", s.waiter, "", "join_room", `{"roomType":"global","venueId":"v1"}`),
		s.refused("a socket's own room", s.waiter, "", "join_room", `{"roomType":"socket","venueId":"v1"}`),
		s.refused("a long table", s.waiter, "", "join_room", `{"roomType":"table","venueId":"v1","tableId":"`+strings.Repeat("t", 500)+`"}`),
		s.refused("a table that is no text", s.waiter, "", "join_room", `{"roomType":"table","venueId":"v1","tableId":{"a":1}}`),
	}
	for _, venue := range []string{`"v2"`, `"V1"`, `"v1 "`, `["v1"]`, `{"v1":1}`, `"v１"`, `"v1\u0000"`, `"v1:table:t1"`, `"*"`, `1`} {
		list = append(list,
			s.refused("venue "+venue, s.waiter, "", "join_room", `{"roomType":"venue","venueId":`+venue+`}`),
			s.refused("table of "+venue, s.waiter, "", "join_room", `{"roomType":"table","tableId":"t1","venueId":`+venue+`}`))
	}
	return list
}

// terminals pass for another one, or are none.
func (s *siege) terminals() []attempt {
	other := s.box.Token(event.Waiter, "w3", "AVQD-2")
	list := make([]attempt, 0, 16)
	for _, id := range []string{"AVQD-1", "1", "avqd-1", " AVQD-1 ", "AVQD-AVQD-1", "AVQD-１", strings.Repeat("1", 200)} {
		list = append(list, attempt{"AVQD-2 says to be " + id, func(a *attacker) string {
			if a.knock(`{"token":"`+other+`","terminalId":`+quoted(id)+`}`, "", nil) {
				return "let in"
			}
			return ""
		}})
	}
	list = append(list,
		attempt{"a person says to be AVQD-1", func(a *attacker) string {
			ws, _ := a.connect(`{"token":"`+s.waiter+`","terminalId":"AVQD-1"}`, "", nil)
			if ws == nil {
				return ""
			}
			defer func() { _ = ws.Close() }()
			_ = ws.WriteMessage(websocket.TextMessage, []byte(`421["authenticate",{}]`))
			for raw := ""; !strings.HasPrefix(raw, "431"); { // it is in by then
				_, next, err := ws.ReadMessage()
				if err != nil {
					return ""
				}
				raw = string(next)
			}
			_, body, _ := a.do("GET", "/api/v1/terminals", s.bearer(s.admin), "")
			if !strings.Contains(body, `"userId":"w2"`) || strings.Contains(body, `"userId":"w1"`) {
				return body
			}
			return ""
		}},
		s.refused("the result of another's charge", other, "", "terminal:payment_result", `{"requestId":"r1","terminalId":"AVQD-1","status":"success"}`),
		s.refused("another's heartbeat", other, "", "tpv:heartbeat", `{"terminalId":"AVQD-1","status":"ACTIVE","timestamp":1}`),
		s.refused("another's log", other, "", "tpv:log", `{"venueId":"v1","terminalId":"AVQD-1","level":"info","message":"x"}`),
		s.refused("another's command", other, "", "tpv_command_result", `{"commandId":"c1","terminalId":"AVQD-1","resultStatus":"SUCCESS"}`),
		s.refused("another's message", other, "", "tpv_message_ack", `{"messageId":"m1","terminalId":"AVQD-1","action":"READ"}`),
		s.refused("a person's result", s.waiter, "", "terminal:payment_result", `{"requestId":"r1","terminalId":"AVQD-1","status":"success"}`),
		attempt{"another's command over HTTP", func(a *attacker) string {
			status, body, _ := a.do("POST", "/api/v1/tpv/command-ack", s.bearer(other), `{"terminalId":"AVQD-1","commandId":"c1","resultStatus":"SUCCESS"}`)
			if status == http.StatusOK && strings.Contains(body, `"success":true`) {
				return body
			}
			return ""
		}})
	return list
}
