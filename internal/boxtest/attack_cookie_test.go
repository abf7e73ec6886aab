package boxtest

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// cookies pass a good token where none belongs, or slip one in.
func (s *siege) cookies() (list []attempt) {
	for _, header := range []string{
		"accesstoken=TOKEN", "ACCESSTOKEN=TOKEN", "xaccessToken=TOKEN", "accessToken2=TOKEN", "__Host-accessToken=TOKEN", "access%54oken=TOKEN", "accessToken[]=TOKEN",
		"a=accessToken=TOKEN", `a="x; accessToken=TOKEN"`, "a=b,accessToken=TOKEN", "accessToken:TOKEN", "accessToken", "accessToken==TOKEN", "accessToken=Bearer TOKEN",
		"accessToken=x; accessToken=TOKEN", "accessToken=x; Path=/; accessToken=TOKEN", "accessToken=TOKEN.x", "accessToken=.TOKEN", "accessToken=x\x00; TOKEN", "refreshToken=TOKEN", "token=TOKEN",
	} {
		// A quoted value ends at its semicolon all the same, as browsers see it; it
		// is no browser that sends one.
		quoted := strings.Contains(header, `"`)
		list = append(list, attempt{header, func(a *attacker) string {
			h := http.Header{"Cookie": {strings.ReplaceAll(header, "TOKEN", s.admin)}}
			if status, body, _ := a.do("GET", "/api/v1/session", h.Clone(), ""); status == http.StatusOK && !quoted {
				return body
			}
			if !strings.Contains(header, "\x00") && !quoted && a.knock("", "", h) {
				return "a socket"
			}
			return ""
		}})
	}
	for _, name := range []string{"Cookie2", "X-Cookie", "Set-Cookie", "X-Access-Token", "Proxy-Authorization", "Token", "X-Authorization", "Sec-WebSocket-Protocol"} {
		list = append(list, attempt{"a token in " + name, func(a *attacker) string {
			value := "accessToken=" + s.admin
			if !strings.Contains(name, "Cookie") {
				value = "Bearer " + s.admin
			}
			if status, body, _ := a.do("GET", "/api/v1/session", http.Header{name: {value}}, ""); status == http.StatusOK {
				return body
			}
			return ""
		}})
	}
	return append(list, attempt{"a header in a token", func(a *attacker) string {
		if _, body, cookies := a.do("POST", "/api/v1/login", nil, `{"token":"x\r\nSet-Cookie: accessToken=mine"}`); len(cookies) > 0 {
			return body
		}
		return ""
	}})
}

// logouts go on with what was logged out, or log somebody else out.
func (s *siege) logouts() []attempt {
	out := func(a *attacker, method, token string) int {
		status, _, _ := a.do(method, "/api/v1/logout", s.bearer(token), "")
		return status
	}
	works := func(a *attacker, token string) bool {
		status, _, _ := a.do("GET", "/api/v1/session", s.bearer(token), "")
		return status == http.StatusOK
	}
	gone := s.box.Token(event.Admin, "left", "")
	return []attempt{
		{"a token that was logged out", func(a *attacker) string {
			if status := out(a, "POST", gone); status != http.StatusOK {
				s.t.Fatalf("logout: %d", status)
			}
			return strings.Join(a.doors(gone), ", ")
		}},
		{"in another spelling", func(a *attacker) string {
			head, sig := gone[:strings.LastIndexByte(gone, '.')+1], gone[strings.LastIndexByte(gone, '.')+1:]
			raw, err := base64.RawURLEncoding.DecodeString(sig)
			if err != nil {
				s.t.Fatal(err)
			}
			for _, again := range []string{head + sig + "=", head + sig[:len(sig)-1] + string(sig[len(sig)-1]+1), head + base64.RawStdEncoding.EncodeToString(raw) + "=", " " + gone, gone + " "} {
				if works(a, again) {
					return again[len(head):]
				}
			}
			return ""
		}},
		{"logging somebody out by a forged token", func(a *attacker) string {
			out(a, "POST", s.admin[:len(s.admin)-4]+"AAAA")
			if !works(a, s.admin) {
				return "it is logged out"
			}
			return ""
		}},
		{"logging out by a link", func(a *attacker) string {
			for _, method := range []string{"GET", "HEAD"} {
				if status := out(a, method, s.admin); status < 400 || !works(a, s.admin) {
					return method
				}
			}
			return ""
		}},
	}
}

// timing looks whether an answer, or how long it takes, tells how much of a
// signature was right. What it finds of the time is logged: over a network nothing
// below some microseconds can be told, and the comparison takes none of them.
func (s *siege) timing() []attempt {
	return []attempt{{"how much of a signature is right", func(*attacker) string {
		dot := strings.LastIndexByte(s.admin, '.')
		flip := func(at int) string { // another character at a place of the signature
			b := []byte(s.admin)
			if b[at]++; b[at] == 'z'+1 || b[at] == 'Z'+1 || b[at] == '9'+1 || b[at] == '_'+1 || b[at] == '-'+1 {
				b[at] = 'B'
			}
			return string(b)
		}
		took, said := map[string][]time.Duration{}, map[string]string{}
		guesses := map[string]string{"first": flip(dot + 1), "late": flip(len(s.admin) - 3)}
		for round := range 12 { // each at an address of its own: after 30 wrong ones all wait
			a := s.box.attacker(5000+round, new(strings.Builder))
			for range 10 {
				for name, guess := range guesses {
					began := time.Now()
					status, body, _ := a.do("GET", "/api/v1/session", s.bearer(guess), "")
					took[name] = append(took[name], time.Since(began))
					if status == http.StatusOK {
						return name + " is let in"
					}
					said[name] = body
				}
			}
		}
		for name := range took {
			slices.Sort(took[name])
		}
		half := len(took["first"]) / 2
		s.t.Logf("wrong from the first byte on: median %s; but for the last: %s", took["first"][half], took["late"][half])
		if said["first"] != said["late"] {
			return said["first"] + " and " + said["late"]
		}
		return ""
	}}}
}
