package boxtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// hijacks go on with a session whose id they know.
func (s *siege) hijacks() (list []attempt) {
	open := func() string {
		_, body, _ := s.box.attacker(999, new(strings.Builder)).do("GET", "/socket.io/?EIO=4&transport=polling", nil, "")
		var packet struct{ Sid string }
		if len(body) == 0 || json.Unmarshal([]byte(body[1:]), &packet) != nil || packet.Sid == "" {
			s.t.Fatalf("open packet %q", body)
		}
		return packet.Sid
	}
	for _, sid := range []string{"0", "../../etc/passwd", "' OR 1=1", "%00", strings.Repeat("a", 4000), "AAAAAAAAAAAAAAAAAAAA", "a&sid=b"} {
		list = append(list, attempt{"a guessed id " + sid[:min(len(sid), 20)], func(a *attacker) string {
			if status, body, _ := a.do("GET", "/socket.io/?EIO=4&transport=polling&sid="+strings.ReplaceAll(strings.ReplaceAll(sid, " ", "%20"), "'", "%27"), nil, ""); status == http.StatusOK {
				return body
			}
			return ""
		}})
	}
	for _, way := range []string{"read", "write", "upgrade", "close"} {
		list = append(list, attempt{way + " of another's session", func(a *attacker) string {
			path := "/socket.io/?EIO=4&transport=polling&sid=" + open()
			switch way {
			case "read":
				if status, body, _ := a.do("GET", path, nil, ""); status == http.StatusOK {
					return body
				}
			case "upgrade":
				if ws, status := a.socket("&sid="+open(), nil); ws != nil {
					return fmt.Sprint(status)
				}
			default:
				if status, body, _ := a.do("POST", path, nil, map[string]string{"write": `40{"token":"x"}`, "close": "1"}[way]); status == http.StatusOK {
					return body
				}
			}
			return ""
		}})
	}
	return list
}

// smuggling hides a second request from whoever looks at the first.
func (s *siege) smuggling() (list []attempt) {
	hidden := "GET /api/v1/journal/stats HTTP/1.1\r\nHost: " + s.box.Addr() + "\r\nConnection: close\r\n\r\n"
	host := "Host: " + s.box.Addr() + "\r\n"
	upgrade := host + "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	for name, text := range map[string]string{
		"length and chunks":          "POST /api/v1/login HTTP/1.1\r\n" + host + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden,
		"two lengths":                "POST /api/v1/login HTTP/1.1\r\n" + host + "Content-Length: 0\r\nContent-Length: 5\r\n\r\n" + hidden,
		"a signed length":            "POST /api/v1/login HTTP/1.1\r\n" + host + "Content-Length: +0\r\n\r\n" + hidden,
		"chunks and identity":        "POST /api/v1/login HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + hidden,
		"space before the colon":     "POST /api/v1/login HTTP/1.1\r\n" + host + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + hidden,
		"chunks in another spelling": "POST /api/v1/login HTTP/1.1\r\n" + host + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + hidden,
		"a bare line feed":           "GET / HTTP/1.1\n" + "Host: " + s.box.Addr() + "\n\n" + hidden,
		"a folded header":            "GET / HTTP/1.1\r\n" + host + "X-A: b\r\n Authorization: Bearer x\r\n\r\n" + hidden,
		"behind a refused upgrade":   "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n" + upgrade + "Sec-WebSocket-Version: 12\r\n\r\n" + hidden,
		"behind a good upgrade":      "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n" + upgrade + "Sec-WebSocket-Version: 13\r\n\r\n" + hidden,
		"an upgrade of the API":      "GET /api/v1/journal/stats HTTP/1.1\r\n" + upgrade + "Sec-WebSocket-Version: 13\r\n\r\n",
		"an upgrade to h2c":          "GET /api/v1/journal/stats HTTP/1.1\r\n" + host + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
		"HTTP/2 outright":            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"a whole URL":                "GET http://127.0.0.1:1/api/v1/journal/stats HTTP/1.1\r\n" + host + "Connection: close\r\n\r\n",
		"CONNECT":                    "CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\n\r\n",
		"two hosts":                  "GET /api/v1/status HTTP/1.1\r\n" + host + "Host: evil.example\r\nConnection: close\r\n\r\n",
		"no host":                    "GET /api/v1/status HTTP/1.1\r\nConnection: close\r\n\r\n",
		"HTTP/0.9":                   "GET /api/v1/journal/stats\r\n",
	} {
		list = append(list, attempt{name, func(a *attacker) string {
			answer := a.wire(text)
			if strings.Contains(answer, "storedThrough") || strings.Contains(answer, `"segments"`) || strings.HasPrefix(answer, "SSH") {
				return answer[:min(len(answer), 300)]
			}
			return ""
		}})
	}
	return list
}

func (s *siege) logins() (list []attempt) {
	for _, body := range []string{
		`{"code":"000000"}`, `{"code":""}`, `{"code":null}`, `{"code":["000000"]}`, `{"code":0}`, `{"code":"１２３４５６"}`, `{"code":"000000","token":"x"}`, `{"token":null}`,
		`{"token":{"$ne":""}}`, `{"Code":""}`, `[]`, `null`, `{"code":"000000"}{"code":"000001"}`, `{"token":"` + s.admin[:len(s.admin)-3] + `"}`,
	} {
		list = append(list, attempt{body[:min(len(body), 30)], func(a *attacker) string {
			if status, answer, cookies := a.do("POST", "/api/v1/login", nil, body); status == http.StatusOK || len(cookies) > 0 {
				return answer
			}
			return ""
		}})
	}
	return append(list,
		attempt{"by GET", func(a *attacker) string {
			if _, _, cookies := a.do("GET", "/api/v1/login?token="+s.admin, nil, ""); len(cookies) > 0 {
				return "a cookie"
			}
			return ""
		}},
		attempt{"a token in the address", func(a *attacker) string {
			if status, body, _ := a.do("GET", "/api/v1/status?token="+s.admin+"&accessToken="+s.admin, nil, ""); status == http.StatusOK {
				return body
			}
			return ""
		}},
		attempt{"guessing a code", func(a *attacker) string {
			out, _, _ := s.box.Command("token", "code", "--json")
			var made struct{ Code string }
			if err := json.Unmarshal([]byte(out), &made); err != nil || len(made.Code) != 6 {
				s.t.Fatalf("token code: %s, %v", out, err)
			}
			wrong := string('0'+(made.Code[0]-'0'+1)%10) + made.Code[1:]
			for range 5 {
				a.do("POST", "/api/v1/login", nil, `{"code":"`+wrong+`"}`)
			}
			if status, body, _ := a.do("POST", "/api/v1/login", nil, `{"code":"`+made.Code+`"}`); status == http.StatusOK {
				return body // it ended with the fifth wrong one
			}
			return ""
		}})
}

// files are what another account of the machine could open.
func (s *siege) files() []attempt {
	mode := func(path string, most os.FileMode) attempt {
		return attempt{"the mode of " + filepath.Base(path), func(*attacker) string {
			info, err := os.Stat(path)
			if err != nil {
				s.t.Fatal(err)
			}
			if info.Mode().Perm()&^most != 0 {
				return info.Mode().String()
			}
			return ""
		}}
	}
	return []attempt{
		mode(s.box.Socket(), 0o660), mode(s.box.StateDir(), 0o700), mode(filepath.Join(s.box.StateDir(), "box.json"), 0o600),
		{"the socket as another account", func(*attacker) string {
			curl, err := exec.LookPath("curl")
			if err != nil || os.Geteuid() != 0 {
				return "" // its mode was looked at
			}
			ctx := s.t.Context()
			cmd := exec.CommandContext(ctx, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", curl, "-sS", "--max-time", "5",
				"--unix-socket", s.box.Socket(), "http://box/api/v1/status")
			if out, err := cmd.CombinedOutput(); err == nil {
				return string(out)
			}
			return ""
		}},
		{"a socket that says nothing", func(a *attacker) string {
			ws, _ := a.socket("", nil)
			if ws == nil {
				return ""
			}
			defer func() { _ = ws.Close() }()
			_ = ws.SetReadDeadline(time.Now().Add(15 * time.Second))
			for {
				_, raw, err := ws.ReadMessage()
				if err != nil {
					return "" // closed without having heard anything
				}
				if strings.HasPrefix(string(raw), "42") {
					return string(raw)
				}
			}
		}},
	}
}
