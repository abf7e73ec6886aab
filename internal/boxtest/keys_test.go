package boxtest

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestABoxWithoutASecret has its keys from an address alone: they rotate under it,
// the address goes away, the box starts anew.
func TestABoxWithoutASecret(t *testing.T) {
	t.Parallel()
	f, next := newForge(t), newForge(t)
	one := func(f *forge, kid string) string {
		return fmt.Sprintf(`{"kty":"EC","kid":%q,"crv":"P-256","x":%q,"y":%q}`, kid, f.mu["e1"]["x"], f.mu["e1"]["y"])
	}
	var answer atomic.Value
	answer.Store(`{"keys":[` + one(f, "k1") + `]}`)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(answer.Load().(string)))
	}))
	defer web.Close()
	box := StartBox(t, BoxConfig{Extra: fmt.Sprintf("auth: {jwks_url: %q}", web.URL), Env: []string{"ACCESS_TOKEN_SECRET="}})
	var seen strings.Builder
	a := box.attacker(0, &seen)
	in := func(f *forge, kid string) bool {
		token := f.es(f.ec, `{"alg":"ES256","kid":"`+kid+`"}`, claims(nil))
		status, _, _ := a.do("GET", "/api/v1/session", http.Header{"Authorization": {"Bearer " + token}}, "")
		return status == http.StatusOK
	}
	Eventually(t, 20*time.Second, "the keys are fetched", func() bool { return in(f, "k1") })
	for name, token := range map[string]string{
		"of the other boxes": hs(plainHeader, claims(nil)), "of the empty secret": mac(nil, sha256.New, body(plainHeader, claims(nil))),
	} {
		if open := a.doors(token); len(open) > 0 {
			t.Errorf("an HS256 token %s is let in at %q", name, open)
		}
	}

	old, said := a.connect(`{"token":"`+f.es(f.ec, `{"alg":"ES256","kid":"k1"}`, claims(nil))+`"}`, "", nil)
	if old == nil || !strings.HasPrefix(said, "40") {
		t.Fatalf("a socket: %s", said)
	}
	answer.Store(`{"keys":[` + one(f, "k1") + `,` + one(next, "k2") + `]}`)
	Eventually(t, 30*time.Second, "the new key is fetched since a token names it", func() bool { return in(next, "k2") })
	if !in(f, "k1") {
		t.Error("the old key is not good beside the new one")
	}
	answer.Store(`{"keys":[` + one(next, "k2") + `]}`)
	Eventually(t, 30*time.Second, "the old key is gone", func() bool { in(f, "k3"); return !in(f, "k1") })
	if err := closing(old); err != nil {
		t.Errorf("the socket that the old key let in: %v", err)
	}

	web.Close()
	box.Stop()
	box.Start()
	if !in(next, "k2") || in(f, "k1") {
		t.Error("after a start without the address the keys are not those of before")
	}
	info, err := os.Stat(filepath.Join(box.StateDir(), "jwks.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the copy: %v, %v", info, err)
	}
	Eventually(t, 30*time.Second, "the failure is in the status", func() bool {
		return strings.Contains(strings.Join(box.Status().Problems, "\n"), "auth.jwks_url cannot be read, 1 that were read before are in force")
	})
}
