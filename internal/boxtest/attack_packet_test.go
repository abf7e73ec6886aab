package boxtest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/gorilla/websocket"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// aCommand is what a waiter must not send, and what would be answered and stored.
const aCommand = `["tpv_command",{"commandId":"c9","terminalId":"AVQD-1","type":"REBOOT","venueId":"v1"}]`

// answers sends packets on a new transport, a login first, and returns all that
// comes back within a moment or until the box closes it.
func (s *siege) answers(a *attacker, frames ...string) string {
	ws, _ := a.socket("", nil)
	if ws == nil {
		return ""
	}
	defer func() { _ = ws.Close() }()
	for _, frame := range frames {
		kind := websocket.TextMessage
		if frame == "\x00" {
			kind = websocket.BinaryMessage
		}
		if ws.WriteMessage(kind, []byte(frame)) != nil {
			break
		}
	}
	_ = ws.SetReadDeadline(time.Now().Add(time.Second))
	var all strings.Builder
	for {
		_, raw, err := ws.ReadMessage()
		if err != nil {
			a.seen.WriteString(all.String())
			return all.String()
		}
		all.Write(raw)
		all.WriteByte('\n')
	}
}

// packets are Engine.IO and Socket.IO packets in an order, of a kind or for a
// namespace that nobody foresaw.
func (s *siege) packets() (list []attempt) {
	waiter, admin := `40{"token":"`+s.waiter+`"}`, `{"token":"`+s.admin+`"}`
	for name, frames := range map[string][]string{
		"before CONNECT":                          {"421" + aCommand},
		"behind a refused CONNECT":                {`40{"token":"x"}`, "421" + aCommand},
		"behind DISCONNECT":                       {waiter, "41", "421" + aCommand, "40" + `{"token":"x"}`, "422" + aCommand},
		"another namespace":                       {"40/admin," + admin, "42/admin,1" + aCommand},
		"another namespace besides":               {waiter, "40/admin," + admin, "42/admin,1" + aCommand},
		"a namespace with a query":                {waiter, "40/?token=x,", "42/?a=b,1" + aCommand},
		"the main namespace by its name":          {waiter, "42/,1" + aCommand},
		"a second CONNECT as somebody else":       {waiter, "40" + admin, "421" + aCommand},
		"a binary event":                          {waiter, `451-1["tpv_command",{"_placeholder":true,"num":0}]`, "\x00"},
		"a binary event that needs no attachment": {waiter, `450-1` + aCommand},
		"an ack of what was not asked":            {waiter, `431[{"success":true}]`, "421" + aCommand},
		"an ack before CONNECT":                   {`430[{"success":true}]`, "421" + aCommand},
		"a CONNECT_ERROR from a client":           {waiter, `44{"message":"x"}`, "421" + aCommand},
		"an open packet from a client":            {`0{"sid":"x","pingInterval":1}`, waiter, "421" + aCommand},
		"an upgrade packet from a client":         {waiter, "5", "421" + aCommand},
		"two packets in one frame":                {waiter + "\x1e421" + aCommand, "421" + aCommand},
		"a name that is a list":                   {waiter, `421[["tpv_command"],{}]`, `422[{"toString":"tpv_command"},{}]`},
		"a name in other letters":                 {waiter, `421["TPV_COMMAND",{"commandId":"c9","terminalId":"AVQD-1","type":"REBOOT"}]`},
		"an id beyond all numbers":                {waiter, "4299999999999999999999" + aCommand},
		"a token in the event":                    {waiter, `421["tpv_command",{"commandId":"c9","terminalId":"AVQD-1","type":"REBOOT","token":"` + s.admin + `","role":"ADMIN"}]`},
		"authenticate as somebody else":           {waiter, `421["authenticate",` + admin + `]`, "422" + aCommand},
	} {
		list = append(list, attempt{name, func(a *attacker) string {
			said := s.answers(a, frames...)
			for line := range strings.Lines(said) {
				if strings.HasPrefix(line, "43") && strings.Contains(line, `"success":true`) && !strings.Contains(line, "Already authenticated") ||
					strings.HasPrefix(line, "40/") || strings.Contains(line, `"role":"ADMIN"`) {
					return said
				}
			}
			return ""
		}})
	}
	return append(list, s.frames()...)
}

// frames break RFC 6455, which a proxy in between may read in another way.
func (s *siege) frames() (list []attempt) {
	text := `40{"token":"` + s.admin + `"}`
	masked := func(head byte) string {
		return string([]byte{head, 0x80 | 126, byte(len(text) >> 8), byte(len(text)), 0, 0, 0, 0}) + text
	}
	for name, frame := range map[string]string{
		"no mask (§5.1)":               string([]byte{0x81, 126, byte(len(text) >> 8), byte(len(text))}) + text,
		"a reserved bit (§5.2)":        masked(0xc1),
		"a reserved opcode (§5.2)":     masked(0x83),
		"goes on with nothing (§5.4)":  masked(0x80),
		"a large control frame (§5.5)": masked(0x89),
		"a split control frame (§5.5)": masked(0x09),
	} {
		list = append(list, attempt{name, func(a *attacker) string {
			answer := a.wire("GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: " + s.box.Addr() +
				"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n" + frame)
			if strings.Contains(answer, `40{"sid"`) || strings.Contains(answer, "authentication_success") {
				return answer
			}
			return ""
		}})
	}
	return list
}

// posts put several packets into one polling request.
func (s *siege) posts() (list []attempt) {
	for name, body := range map[string]string{
		"a refused CONNECT and an event":   `40{"token":"x"}` + "\x1e421" + aCommand,
		"an event and CONNECT":             "421" + aCommand + "\x1e" + `40{"token":"` + s.waiter + `"}`,
		"two CONNECTs and an event":        `40{"token":"` + s.waiter + `"}` + "\x1e" + `40{"token":"` + s.admin + `"}` + "\x1e421" + aCommand,
		"a CONNECT of another namespace":   `40/admin,{"token":"` + s.admin + `"}` + "\x1e42/admin,1" + aCommand,
		"an upgrade within":                `40{"token":"` + s.waiter + `"}` + "\x1e2probe\x1e5\x1e421" + aCommand,
		"an event as base64":               `40{"token":"` + s.waiter + `"}` + "\x1eb" + base64.StdEncoding.EncodeToString([]byte("421"+aCommand)),
		"length prefixes of another day":   fmt.Sprint(len(aCommand)+3) + ":421" + aCommand,
		"a form, as pages may send (d=…)":  "d=421" + aCommand,
		"a thousand empty packets, an end": strings.Repeat("\x1e", 1000) + "421" + aCommand,
	} {
		list = append(list, attempt{name, func(a *attacker) string {
			path := "/socket.io/?EIO=4&transport=polling"
			_, open, _ := a.do("GET", path, nil, "")
			var packet struct{ Sid string }
			if len(open) == 0 || json.Unmarshal([]byte(open[1:]), &packet) != nil {
				s.t.Fatalf("open packet %q", open)
			}
			path += "&sid=" + packet.Sid
			if status, _, _ := a.do("POST", path, http.Header{"Content-Type": {"text/plain;charset=UTF-8"}}, body); status != http.StatusOK {
				return ""
			}
			var heard strings.Builder
			for range 3 {
				a.client.Timeout = time.Second
				req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.box.URL()+path, http.NoBody)
				if err != nil {
					s.t.Fatal(err)
				}
				res, err := a.client.Do(req)
				if err != nil {
					break // it waits for what comes
				}
				raw := make([]byte, 1<<16)
				n, _ := res.Body.Read(raw)
				_ = res.Body.Close()
				heard.Write(raw[:n])
			}
			for line := range strings.SplitSeq(heard.String(), "\x1e") {
				if strings.HasPrefix(line, "43") && strings.Contains(line, `"success":true`) || strings.Contains(line, `"role":"ADMIN"`) || strings.HasPrefix(line, "40/") {
					return heard.String()
				}
			}
			return ""
		}})
	}
	return list
}

// unasked is what the routes for everybody can be made to do.
func (s *siege) unasked() (list []attempt) {
	for name, h := range map[string]http.Header{
		"no token": {}, "a viewer's": s.bearer(s.viewer), "a waiter's": s.bearer(s.waiter), "another terminal's": s.bearer(s.box.Token(event.Waiter, "w3", "AVQD-2")),
	} {
		list = append(list, attempt{"a heartbeat of AVQD-1 with " + name + " token", func(a *attacker) string {
			a.do("POST", "/api/v1/tpv/heartbeat", h.Clone(), `{"terminalId":"AVQD-1","timestamp":1,"status":"EVIL","systemInfo":{"x":"EVIL"}}`)
			if _, body, _ := a.do("GET", "/api/v1/terminals", s.bearer(s.admin), ""); strings.Contains(body, "EVIL") {
				return body
			}
			return ""
		}})
	}
	for _, path := range []string{"/api/v1/events", "/api/v1/login", "/api/v1/logout", "/socket.io/?EIO=4&transport=polling", "/api/v1/status"} {
		list = append(list, attempt{"asking for leave from another site: " + path, func(a *attacker) string {
			req, err := http.NewRequestWithContext(s.t.Context(), http.MethodOptions, s.box.URL()+path, http.NoBody)
			if err != nil {
				s.t.Fatal(err)
			}
			req.Header = http.Header{
				"Origin": {"http://evil.example"}, "Access-Control-Request-Method": {"POST"}, "Access-Control-Request-Headers": {"authorization"},
				"Access-Control-Request-Private-Network": {"true"},
			}
			res, err := a.client.Do(req)
			if err != nil {
				s.t.Fatal(err)
			}
			_ = res.Body.Close()
			return res.Header.Get("Access-Control-Allow-Origin") + res.Header.Get("Access-Control-Allow-Private-Network")
		}})
	}
	for _, path := range []string{"/%3Cscript%3Ealert(1)%3C/script%3E", "/api/v1/events/%3Cimg%20src=x%20onerror=alert(1)%3E", "/api/v1/outages/%3Cb%3E?format=html"} {
		list = append(list, attempt{"a page out of " + path, func(a *attacker) string {
			req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.box.URL()+path, http.NoBody)
			if err != nil {
				s.t.Fatal(err)
			}
			req.Header = s.cookie(s.admin, "Accept", "text/html")
			res, err := a.client.Do(req)
			if err != nil {
				s.t.Fatal(err)
			}
			_ = res.Body.Close()
			if kind := res.Header.Get("Content-Type"); !strings.HasPrefix(kind, "application/json") || res.Header.Get("X-Content-Type-Options") != "nosniff" {
				return kind
			}
			return ""
		}})
	}
	return append(list, s.tills()...)
}

// tills have cards charged by those who may not.
func (s *siege) tills() (list []attempt) {
	const ours, theirs = "/api/v1/mobile/venues/v1", "/api/v1/mobile/venues/v2"
	charge := `{"requestId":"q1","terminalId":"AVQD-1","amountCents":100}`
	for _, c := range []struct {
		name, token, method, path, body string
	}{
		{"VIEWER charges", s.viewer, "POST", ours + "/terminal-payment", charge},
		{"KITCHEN charges", s.box.Token(event.Kitchen, "k", ""), "POST", ours + "/terminal-payment", charge},
		{"nobody charges", "", "POST", ours + "/terminal-payment", charge},
		{"another venue's charge", s.admin, "POST", theirs + "/terminal-payment", charge},
		{"a negative charge", s.admin, "POST", ours + "/terminal-payment", `{"requestId":"q1","terminalId":"AVQD-1","amountCents":-100}`},
		{"a charge in letters", s.admin, "POST", ours + "/terminal-payment", `{"requestId":"q1","terminalId":"AVQD-1","amountCents":"100"}`},
		{"a charge beyond all numbers", s.admin, "POST", ours + "/terminal-payment", `{"requestId":"q1","terminalId":"AVQD-1","amountCents":18446744073709551716}`},
		{"VIEWER cancels", s.viewer, "POST", ours + "/terminal-payment/cancel", `{"terminalId":"AVQD-1"}`},
		{"VIEWER lists terminals", s.viewer, "GET", ours + "/terminals/online", ""},
		{"VIEWER asks for a payment", s.viewer, "GET", ours + "/terminal-payment/q1", ""},
		{"VIEWER prints", s.viewer, "POST", ours + "/terminals/AVQD-1/print-receipt", `{"receipt":{"a":1}}`},
		{"another venue's printer", s.admin, "POST", theirs + "/terminals/AVQD-1/print-receipt", `{"receipt":{"a":1}}`},
		{"a path within the venue", s.admin, "POST", "/api/v1/mobile/venues/v1%2f..%2fv2/terminal-payment", charge},
	} {
		list = append(list, attempt{c.name, func(a *attacker) string {
			h := http.Header{}
			if c.token != "" {
				h = s.bearer(c.token)
			}
			if status, body, _ := a.do(c.method, c.path, h, c.body); status < 400 {
				return body
			}
			return ""
		}})
	}
	return append(list, s.recoveries()...)
}

// recoveries claim what somebody else missed.
func (s *siege) recoveries() (list []attempt) {
	pid := func(answer string) string {
		var told struct{ Pid string }
		if len(answer) < 2 || json.Unmarshal([]byte(answer[2:]), &told) != nil {
			return ""
		}
		return told.Pid
	}
	for name, token := range map[string]string{"another person": s.waiter, "another role": s.box.Token(event.Manager, "v", ""), "a terminal": s.box.Token(event.Viewer, "v", "AVQD-2")} {
		list = append(list, attempt{"the session of a viewer as " + name, func(a *attacker) string {
			ws, answer := a.connect(`{"token":"`+s.viewer+`"}`, "", nil)
			if ws == nil {
				s.t.Fatal(answer)
			}
			_ = ws.Close()
			ws, again := a.connect(`{"token":"`+token+`","pid":"`+pid(answer)+`","offset":""}`, "", nil)
			if ws != nil {
				_ = ws.Close()
			}
			if pid(answer) == "" || pid(again) == pid(answer) {
				return again
			}
			return ""
		}})
	}
	return list
}
