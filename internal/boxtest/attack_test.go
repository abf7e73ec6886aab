package boxtest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// attacker is somebody on the venue's network, at an address of their own: who
// fails often at one is made to wait.
type attacker struct {
	t       testing.TB
	box     *Box
	address string
	client  *http.Client
	seen    *strings.Builder // everything the box has answered
}

func (b *Box) attacker(n int, seen *strings.Builder) *attacker {
	a := &attacker{t: b.t, box: b, address: fmt.Sprintf("127.%d.%d.%d", 1+n/62500, n/250%250, 2+n%250), seen: seen}
	a.client = &http.Client{
		Timeout:       20 * time.Second,
		Transport:     &http.Transport{DialContext: a.dialer().DialContext, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return a
}

func (a *attacker) dialer() *net.Dialer {
	return &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(a.address)}}
}

// do sends a request; header values that HTTP cannot carry count as refused.
func (a *attacker) do(method, path string, header http.Header, body string) (status int, answer string, cookies []*http.Cookie) {
	a.t.Helper()
	req, err := http.NewRequestWithContext(a.t.Context(), method, a.box.URL()+path, strings.NewReader(body))
	if err != nil {
		return 0, "", nil
	}
	if header != nil {
		req.Header = header
		if host := header.Get("Host"); host != "" {
			req.Host = host
		}
	}
	res, err := a.client.Do(req)
	if err != nil {
		if strings.Contains(err.Error(), "invalid header field value") {
			return 0, "", nil
		}
		a.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		a.t.Fatalf("%s %s: %v", method, path, err)
	}
	a.seen.Write(raw)
	return res.StatusCode, string(raw), res.Cookies()
}

// wire sends bytes on a connection of their own and returns all that comes back.
func (a *attacker) wire(text string) string {
	a.t.Helper()
	c, err := a.dialer().Dial("tcp", a.box.Addr())
	if err != nil {
		a.t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(3 * time.Second))
	_, _ = io.WriteString(c, text)
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
	raw, _ := io.ReadAll(io.LimitReader(c, 1<<20))
	a.seen.Write(raw)
	return string(raw)
}

// socket opens a WebSocket and returns it, or the status of the refusal.
func (a *attacker) socket(query string, header http.Header) (ws *websocket.Conn, status int) {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), 20*time.Second)
	defer cancel()
	d := websocket.Dialer{NetDialContext: a.dialer().DialContext}
	ws, res, err := d.DialContext(ctx, "ws://"+a.box.Addr()+"/socket.io/?EIO=4&transport=websocket"+query, header)
	if res != nil {
		defer func() { _ = res.Body.Close() }()
		status = res.StatusCode
	}
	if err != nil {
		return nil, status
	}
	_ = ws.SetReadDeadline(time.Now().Add(20 * time.Second))
	return ws, status
}

// connect opens a socket, sends CONNECT and returns the answer to it: 40… lets
// in, 44… does not, empty is a closed transport.
func (a *attacker) connect(login, query string, header http.Header) (ws *websocket.Conn, answer string) {
	a.t.Helper()
	ws, _ = a.socket(query, header)
	if ws == nil {
		return nil, ""
	}
	if _, _, err := ws.ReadMessage(); err != nil { // the open packet
		_ = ws.Close()
		return nil, ""
	}
	_ = ws.WriteMessage(websocket.TextMessage, []byte("40"+login))
	_, raw, err := ws.ReadMessage()
	if err != nil {
		_ = ws.Close()
		return nil, ""
	}
	a.seen.Write(raw)
	return ws, string(raw)
}

func (a *attacker) knock(login, query string, header http.Header) (in bool) {
	a.t.Helper()
	ws, answer := a.connect(login, query, header)
	if ws != nil {
		_ = ws.Close()
	}
	return strings.HasPrefix(answer, "40")
}

// doors tries a token everywhere and returns where it was let in.
func (a *attacker) doors(token string) (open []string) {
	a.t.Helper()
	try := func(door string, in bool) {
		if in {
			open = append(open, door)
		}
	}
	bearer, cookie := http.Header{"Authorization": {"Bearer " + token}}, http.Header{"Cookie": {"accessToken=" + token}}
	status, _, _ := a.do("GET", "/api/v1/session", bearer.Clone(), "")
	try("bearer", status == http.StatusOK)
	// A cookie's value ends at an equals sign and loses its quotes (contract §1.3,
	// RFC 6265 §4.1.1): what is left may be good.
	inCookie := !strings.ContainsAny(token, `="`)
	if inCookie {
		status, _, _ = a.do("GET", "/api/v1/session", cookie.Clone(), "")
		try("cookie", status == http.StatusOK)
	}
	status, _, cookies := a.do("POST", "/api/v1/login", nil, `{"token":`+quoted(token)+`}`)
	try("login", status == http.StatusOK || len(cookies) > 0)
	try("socket", a.knock(`{"token":`+quoted(token)+`}`, "", nil))
	if !strings.ContainsFunc(token, func(r rune) bool { return r < ' ' || r > '~' || r == ' ' || r == '%' || r == '+' }) {
		try("socket's cookie", inCookie && a.knock("", "", cookie.Clone()))
		try("socket's bearer", a.knock("", "", bearer.Clone()))
		try("socket's query", a.knock("", "&token="+token, nil))
	}
	return open
}

// TestForgedTokens tries every forgery at every door of a running box: none may
// open, and no answer and no line of the log may tell a secret.
func TestForgedTokens(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("some thousand requests")
	}
	f := newForge(t)
	keys := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(keys, f.jwks(), 0o600); err != nil {
		t.Fatal(err)
	}
	box := StartBox(t, BoxConfig{Extra: fmt.Sprintf("auth: {jwks_file: %q}", keys)})
	var seen strings.Builder
	for name, token := range f.good() {
		if open := box.attacker(0, &seen).doors(token); len(open) != 7 {
			t.Errorf("a good %s is let in at %q only", name, open)
		}
	}
	seen.Reset()
	n := 0
	classes := f.forgeries()
	for _, class := range slices.Sorted(maps.Keys(classes)) {
		for _, name := range slices.Sorted(maps.Keys(classes[class])) {
			n++
			token := classes[class][name]
			if open := box.attacker(n, &seen).doors(token); len(open) > 0 {
				t.Errorf("%s: %s is let in at %q", class, name, open)
			}
			for where, text := range map[string]string{"an answer": seen.String(), "the log": box.Log()} {
				if strings.Contains(text, Secret) || len(token) > 60 && strings.Contains(text, token) {
					t.Errorf("%s: %s: %s tells a secret", class, name, where)
				}
			}
			seen.Reset()
		}
	}
	if t.Logf("%d forgeries at 7 doors", n); n < 150 {
		t.Errorf("%d forgeries are too few", n)
	}
	if stored := box.Stored(); stored != 0 {
		t.Errorf("%d events are stored", stored)
	}
	if status, _ := box.Do("GET", "/readyz", "", ""); status != http.StatusOK {
		t.Errorf("the box is not well any more: %d", status)
	}
}

// quoted is a text as JSON.
func quoted(s string) string {
	raw, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(raw)
}
