package auth_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/auth"
)

// publisher is who publishes keys: what it answers is a knob.
type publisher struct {
	mu     sync.Mutex
	status int
	body   []byte
	asked  int
}

// pack returns what is a bomb once it is unpacked.
func pack(t *testing.T, size int) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	for range size >> 20 {
		if _, err := w.Write(bytes.Repeat([]byte(" "), 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func (p *publisher) say(status int, body []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status, p.body = status, body
}

func (p *publisher) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	if bytes.HasPrefix(p.body, []byte{0x1f, 0x8b}) {
		w.Header().Set("Content-Encoding", "gzip")
	}
	w.WriteHeader(p.status)
	_, _ = w.Write(p.body)
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("never: %s", what)
		case <-tick.C:
		}
	}
}

// follow runs a source until the test ends.
func follow(t *testing.T, s *auth.KeySource) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); group.Wait() })
	t.Cleanup(stop)
	return stop
}

// TestKeysFromAURL rotates keys at a URL that fails in between, over a restart.
func TestKeysFromAURL(t *testing.T) {
	all := pairs(t)
	at := &publisher{status: http.StatusServiceUnavailable}
	web := httptest.NewServer(at)
	defer web.Close()
	cache := filepath.Join(t.TempDir(), "jwks.json")
	quiet := slog.New(slog.DiscardHandler)
	v := verifier(t, auth.Config{})
	good := func(v *auth.Verifier, kid string) bool {
		_, err := v.Verify(signBy(t, all[kid].method, all[kid].private, kid))
		return err == nil
	}
	source, err := auth.NewURLSource(web.URL, cache, v.Trust, quiet)
	if err != nil {
		t.Fatal(err)
	}
	source.Hurry()
	v.OnUnknownKey(source.Nudge)
	source.Load() // there is no copy
	stop := follow(t, source)
	until(t, "the failure is told", func() bool { return strings.Contains(source.Status().Failing, "503") })
	at.say(http.StatusOK, jwks(t, all["r1"].jwk))
	until(t, "it is tried again", func() bool { return good(v, "r1") })
	until(t, "it is well", func() bool { s := source.Status(); return s.Failing == "" && s.Keys == 1 && !s.At.IsZero() })

	// A new key beside the old one: a token that names it has it fetched.
	at.say(http.StatusOK, jwks(t, all["r1"].jwk, all["e1"].jwk))
	until(t, "the new key is fetched because a token names it", func() bool { return good(v, "e1") })
	if !good(v, "r1") {
		t.Error("the old key is not good beside the new one")
	}

	// What cannot be used changes nothing.
	for name, answer := range map[string][]byte{
		"no keys": []byte(`{"keys":[]}`), "no JSON": []byte(`<html>`), "a secret": []byte(`{"keys":[{"kty":"oct","kid":"k","k":"c2VjcmV0"}]}`),
		"a page in another type": []byte(`<!doctype html><title>Sign in</title>`), "something behind it": append(jwks(t, all["r1"].jwk), "{}"...),
		"null": []byte(`null`), "nothing": {}, "a list": []byte(`[]`), "a short key": []byte(`{"keys":[{"kty":"RSA","kid":"k","n":"AQAB","e":"AQAB"}]}`),
		"packed tight": pack(t, 256<<20),
		"huge":         []byte(`{"keys":[{"kty":"` + strings.Repeat("x", 1<<20) + `"}]}`),
	} {
		at.say(http.StatusOK, answer)
		until(t, name+" is a failure", func() bool { source.Nudge(); return source.Status().Failing != "" })
		if !good(v, "r1") || !good(v, "e1") {
			t.Errorf("%s: the keys are gone", name)
		}
		at.say(http.StatusOK, jwks(t, all["r1"].jwk, all["e1"].jwk))
		until(t, "it is well after "+name, func() bool { source.Nudge(); return source.Status().Failing == "" })
	}

	// Without the URL a new start has the copy.
	stop()
	web.Close()
	info, err := os.Stat(cache)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the copy: %v, %v", info, err)
	}
	second := verifier(t, auth.Config{})
	again, err := auth.NewURLSource(web.URL, cache, second.Trust, quiet)
	if err != nil {
		t.Fatal(err)
	}
	again.Load()
	if !good(second, "r1") || !good(second, "e1") {
		t.Error("a start without the URL does not know its keys")
	}
	third := verifier(t, auth.Config{})
	other, err := auth.NewURLSource(web.URL+"/another", cache, third.Trust, quiet)
	if err != nil {
		t.Fatal(err)
	}
	if other.Load(); good(third, "r1") {
		t.Error("the copy of another URL is believed")
	}
	if err := os.WriteFile(cache, []byte("\x00broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	again.Load() // no panic; the keys in force stay
	if !good(second, "r1") {
		t.Error("a broken copy takes the keys away")
	}
}

func TestKeysFromAFile(t *testing.T) {
	all := pairs(t)
	path := filepath.Join(t.TempDir(), "keys.json")
	write := func(raw []byte) {
		t.Helper()
		if err := os.WriteFile(path+".new", raw, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	v := verifier(t, auth.Config{Secret: []byte{}})
	good := func(kid string) bool {
		_, err := v.Verify(signBy(t, all[kid].method, all[kid].private, kid))
		return err == nil
	}
	source := auth.NewFileSource(path, v.Trust, slog.New(slog.DiscardHandler))
	source.Load()
	if s := source.Status(); s.Failing == "" || s.Keys != 0 {
		t.Errorf("without the file: %+v", s)
	}
	write(jwks(t, all["d1"].jwk))
	source.Load()
	if !good("d1") || good("r1") {
		t.Error("the file is not read")
	}
	follow(t, source)
	write([]byte(`{`))
	until(t, "a broken file is told", func() bool { return source.Status().Failing != "" })
	if !good("d1") {
		t.Error("a broken file takes the keys away")
	}
	write(jwks(t, all["r1"].jwk))
	until(t, "the new file counts", func() bool { return good("r1") && !good("d1") && source.Status().Failing == "" })

	// Another key in a file of the same time and size.
	other := pairs(t)
	then := time.Now().Add(-time.Hour)
	for _, all := range []map[string]pair{all, other} {
		write(jwks(t, all["e1"].jwk))
		if err := os.Chtimes(path, then, then); err != nil {
			t.Fatal(err)
		}
		until(t, "a file of the same time and size counts", func() bool {
			_, err := v.Verify(signBy(t, all["e1"].method, all["e1"].private, "e1"))
			return err == nil
		})
	}

	// Whoever may write it may let anybody in.
	write(jwks(t, all["r1"].jwk))
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	until(t, "a file that everybody may write is refused", func() bool {
		return runtime.GOOS == "windows" || strings.Contains(source.Status().Failing, "can be written by everyone")
	})
	if good("r1") {
		t.Error("a file that everybody may write counts")
	}

	// There is no secret, so HS256 is nobody's.
	if _, err := v.Verify(raw(header, with("", ""))); err == nil {
		t.Error("HS256 is accepted without a secret")
	}
	if _, err := v.Verify(rawWith(nil, header, with("", ""))); err == nil {
		t.Error("HS256 with the empty secret is accepted")
	}
	if _, err := v.Mint(auth.Grant{Subject: "s", Role: "WAITER"}, time.Hour); err == nil {
		t.Error("a token is made without a secret")
	}
}

// TestKeysOfSeveralSources: one kid at two of them, and each taken away.
func TestKeysOfSeveralSources(t *testing.T) {
	first, second := pairs(t), pairs(t)
	parse := func(jwk map[string]string) auth.Keys {
		keys, err := auth.ParseKeys(jwks(t, jwk))
		if err != nil {
			t.Fatal(err)
		}
		return keys
	}
	v := verifier(t, auth.Config{})
	v.Trust("url", parse(first["e1"].jwk))
	v.Enforce(auth.Policy{Keys: parse(second["e1"].jwk)})
	state := func() string {
		var now []bool
		for _, all := range []map[string]pair{first, second} {
			_, err := v.Verify(signBy(t, all["e1"].method, all["e1"].private, "e1"))
			now = append(now, err == nil)
		}
		return fmt.Sprint(now)
	}
	if got := state(); got != "[true true]" {
		t.Errorf("both: %s", got)
	}
	v.Trust("url", nil)
	if got := state(); got != "[false true]" {
		t.Errorf("the URL's taken away: %s", got)
	}
	v.Enforce(auth.Policy{})
	if got := state(); got != "[false false]" {
		t.Errorf("all taken away: %s", got)
	}
}

func TestKeyURLs(t *testing.T) {
	for url, good := range map[string]bool{
		"https://api.example.com/jwks.json": true, "http://localhost:1/": true, "http://127.0.0.1/": true, "http://[::1]:80/": true,
		"http://api.example.com/jwks.json": false, "http://192.168.1.1/": false, "ftp://a/": false, "file:///etc/passwd": false,
		"https://user:password@a/": false, "https://": false, "": false, "http://localhost.example.com/": false,
	} {
		if err := auth.CheckKeyURL(url); good != (err == nil) {
			t.Errorf("%s: %v", url, err)
		} else if err != nil && strings.Contains(err.Error(), "password") {
			t.Errorf("%s: the error holds it: %v", url, err)
		}
	}
	// Nor may an answer lead there.
	away := httptest.NewServer(http.RedirectHandler("http://api.example.com/jwks.json", http.StatusFound))
	defer away.Close()
	source, err := auth.NewURLSource(away.URL, filepath.Join(t.TempDir(), "c"), func(string, auth.Keys) {}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	follow(t, source)
	until(t, "the redirect is refused", func() bool { return strings.Contains(source.Status().Failing, "does not begin with https") })
}
