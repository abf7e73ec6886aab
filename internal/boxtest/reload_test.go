package boxtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// gatekeeper is a box whose way of judging tokens changes while it runs.
type gatekeeper struct {
	t    *testing.T
	box  *Box
	base string // its configuration without what changes
	a    *attacker
}

// reload puts lines into the configuration and has the box read it: what it
// applied, or what it said when it refused.
func (g *gatekeeper) reload(lines string) (applied, restart []string, refused string) {
	g.t.Helper()
	if err := os.WriteFile(g.box.Config(), []byte(g.base+lines), 0o600); err != nil {
		g.t.Fatal(err)
	}
	out, errs, code := g.box.Command("reload", "--json")
	var done struct{ Applied, Restart []string }
	if code != 0 {
		return nil, nil, errs
	}
	if err := json.Unmarshal([]byte(out), &done); err != nil {
		g.t.Fatalf("%s: %v", out, err)
	}
	return done.Applied, done.Restart, ""
}

// takes is a reload that must apply these keys and nothing else.
func (g *gatekeeper) takes(lines string, want ...string) {
	g.t.Helper()
	applied, restart, refused := g.reload(lines)
	if slices.Sort(applied); !slices.Equal(applied, want) || len(restart) > 0 || refused != "" {
		g.t.Errorf("%s\napplied %q, want %q; restart %q; refused: %s", lines, applied, want, restart, refused)
	}
}

// status is what a token is worth over HTTP, under a name of the box.
func (g *gatekeeper) status(token, host string) int {
	g.t.Helper()
	h := http.Header{"Authorization": {"Bearer " + token}}
	if host != "" {
		h.Set("Host", host)
	}
	status, _, _ := g.a.do("GET", "/api/v1/session", h, "")
	return status
}

func (g *gatekeeper) open(token string) *websocket.Conn {
	g.t.Helper()
	ws, answer := g.a.connect(`{"token":"`+token+`"}`, "", nil)
	if ws == nil || !strings.HasPrefix(answer, "40") {
		g.t.Fatalf("a socket: %s", answer)
	}
	g.t.Cleanup(func() { _ = ws.Close() })
	return ws
}

// alive reports whether a socket still answers.
func (g *gatekeeper) alive(what string, ws *websocket.Conn) {
	g.t.Helper()
	_ = ws.WriteMessage(websocket.TextMessage, []byte(`427["authenticate",{}]`))
	_ = ws.SetReadDeadline(time.Now().Add(20 * time.Second))
	for {
		_, raw, err := ws.ReadMessage()
		if err != nil {
			g.t.Errorf("%s: its socket: %v", what, err)
			return
		}
		if strings.HasPrefix(string(raw), "437") {
			return
		}
		if string(raw) == "2" {
			_ = ws.WriteMessage(websocket.TextMessage, []byte("3"))
		}
	}
}

// TestReloadOfWhoMayComeIn changes keys, their sources, secrets, issuers and names
// under a running box: what is wrong is refused whole, who is still allowed is
// never disconnected, who is not is.
func TestReloadOfWhoMayComeIn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	f, next := newForge(t), newForge(t)
	jwk := func(f *forge, kid string) string {
		return fmt.Sprintf(`{"kty":"EC","kid":%q,"crv":"P-256","x":%q,"y":%q}`, kid, f.mu["e1"]["x"], f.mu["e1"]["y"])
	}
	set := func(keys ...string) string { return `{"keys":[` + strings.Join(keys, ",") + `]}` }
	signed := func(f *forge, kid string) string {
		return f.es(f.ec, `{"alg":"ES256","kid":"`+kid+`"}`, claims(nil))
	}
	one, both := file("one.json", set(jwk(f, "k1"))), file("both.json", set(jwk(f, "k1"), jwk(next, "k2")))
	secret := file("secret", Secret)
	auth := "auth: {access_token_secret_file: " + secret + ", "
	box := StartBox(t, BoxConfig{Env: []string{"ACCESS_TOKEN_SECRET="}, Extra: auth + "jwks_file: " + one + "}"})
	var seen strings.Builder
	raw, err := os.ReadFile(box.Config())
	if err != nil {
		t.Fatal(err)
	}
	base, _, _ := strings.Cut(string(raw), "auth:")
	g := &gatekeeper{t, box, base + "discovery: {mode: off}\n", box.attacker(0, &seen)}
	shared, keyed := hs(plainHeader, claims(nil)), signed(f, "k1")
	sharedSocket, keyedSocket := g.open(shared), g.open(keyed)
	stay := func(what string) {
		t.Helper()
		g.alive(what+": the shared secret's", sharedSocket)
		g.alive(what+": the key's", keyedSocket)
	}

	// Another file, other names, no lease.
	if status := g.status(shared, "tills.example"); status != http.StatusMisdirectedRequest {
		t.Errorf("under a foreign name: %d", status)
	}
	named := strings.Replace(g.base, "lan: {", "lan: {allowed_hosts: [tills.example], ", 1)
	plain := g.base
	g.base = named
	g.takes(auth+"jwks_file: "+both+", offline_grace: 0s, offline_role: WAITER}", "auth.jwks_file", "auth.offline_grace", "auth.offline_role", "lan.allowed_hosts")
	stay("another file")
	if status := g.status(signed(next, "k2"), "tills.example"); status != http.StatusOK {
		t.Errorf("a new key under a new name: %d", status)
	}

	// What is wrong changes nothing, also not what is right beside it.
	answer := atomic.Int32{} // of the web: 0 fails, 1 gives no key, 2 both keys
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		switch answer.Load() {
		case 0:
			w.WriteHeader(http.StatusInternalServerError)
		case 1:
			_, _ = w.Write([]byte(`{"keys":[]}`))
		default:
			_, _ = w.Write([]byte(set(jwk(f, "k1"), jwk(next, "k2"))))
		}
	}))
	defer web.Close()
	g.base = plain
	for lines, want := range map[string]string{
		auth + "jwks_file: " + filepath.Join(dir, "none.json") + "}":                     "auth.jwks_file: gives no keys: open ",
		auth + "jwks_file: " + file("empty.json", `{"keys":[]}`) + "}":                   "auth.jwks_file: gives no keys: the key set holds no key",
		auth + "jwks_url: " + web.URL + "}":                                              "auth.jwks_url: gives no keys: the answer is 500",
		auth + "jwks_url: http://keys.example/x}":                                        "https://",
		auth + "offline_grace: 200h}":                                                    "auth.offline_grace",
		auth + "offline_role: ROOT}":                                                     "auth.offline_role",
		"auth: {access_token_secret_file: " + file("short", "short") + "}":               "auth.access_token_secret",
		auth + "previous_secret_file: " + filepath.Join(dir, "none") + ", issuers: [x]}": "none",
	} {
		if applied, _, refused := g.reload(lines); !strings.Contains(refused, "refused as a whole") || !strings.Contains(refused, want) {
			t.Errorf("%s\napplied %q; said: %s", lines, applied, refused)
		}
	}
	answer.Store(1)
	if _, _, refused := g.reload(auth + "jwks_url: " + web.URL + "}"); !strings.Contains(refused, "holds no key") {
		t.Errorf("an address without keys: %s", refused)
	}
	stay("what was refused")
	if status := g.status(signed(next, "k2"), "tills.example"); status != http.StatusOK {
		t.Errorf("after what was refused: %d", status)
	}

	// From a file to an address that has the same keys; the file is not read any more.
	answer.Store(2)
	g.base = named
	g.takes(auth+"jwks_url: "+web.URL+", offline_grace: 0s, offline_role: WAITER}", "auth.jwks_file", "auth.jwks_url")
	stay("an address for a file")
	file("both.json", set(jwk(newForge(t), "k1")))

	// The secret is replaced, with overlap.
	rotated := "auth: {access_token_secret_file: " + file("secret2", "another-secret-for-tests-only-6543210") + ", previous_secret_file: " + secret +
		", jwks_url: " + web.URL + ", offline_grace: 0s, offline_role: WAITER}"
	applied, _, refused := g.reload(rotated)
	if !slices.Contains(applied, "auth.access_token_secret") || !slices.Contains(applied, "auth.previous_secret") {
		t.Errorf("applied %q, %s", applied, refused)
	}
	stay("the secret before")

	// What needs a restart is named; the rest is in force.
	applied, restart, _ := g.reload(rotated + "\nlimits: {max_connections: 77}\n")
	if len(applied) > 0 || !slices.Equal(restart, []string{"limits.max_connections"}) {
		t.Errorf("applied %q, restart %q", applied, restart)
	}

	// Who is not allowed any more is disconnected, and nobody else.
	g.takes(strings.Replace(rotated, "jwks_url: "+web.URL, "jwks_file: "+file("k2.json", set(jwk(next, "k2"))), 1), "auth.jwks_file", "auth.jwks_url")
	if err := closing(keyedSocket); err != nil {
		t.Errorf("the socket of a key that is gone: %v", err)
	}
	g.alive("a key is gone: the shared secret's", sharedSocket)
	if status := g.status(keyed, ""); status != http.StatusUnauthorized {
		t.Errorf("a key that is gone: %d", status)
	}
	g.takes(strings.Replace(strings.Replace(rotated, "jwks_url: "+web.URL, "jwks_file: "+filepath.Join(dir, "k2.json"), 1), "auth: {", "auth: {issuers: [somebody], ", 1), "auth.issuers")
	if err := closing(sharedSocket); err != nil {
		t.Errorf("the socket of another issuer: %v", err)
	}
	if status := g.status(hs(plainHeader, claims(map[string]string{"iss": `"somebody"`})), ""); status != http.StatusOK {
		t.Errorf("the issuer that is meant: %d", status)
	}
	if strings.Contains(seen.String()+box.Log(), Secret) {
		t.Error("a secret is told")
	}
}
