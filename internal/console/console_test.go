package console

import (
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func get(t *testing.T, h http.Handler, path string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	return w
}

func body(t *testing.T, r *httptest.ResponseRecorder) string {
	t.Helper()
	from := io.Reader(r.Body)
	if r.Header().Get("Content-Encoding") == "gzip" {
		zipped, err := gzip.NewReader(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		from = zipped
	}
	raw, err := io.ReadAll(from)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// All that the page names is there, for ever in a browser's cache, and the page
// itself is asked for each time.
func TestThePageAndAllItNames(t *testing.T) {
	h := Handler()
	page := get(t, h, "/", "Accept-Encoding", "gzip")
	text := body(t, page)
	if page.Header().Get("Content-Encoding") != "gzip" || page.Header().Get("Cache-Control") != "public, no-cache" {
		t.Errorf("page: %v", page.Header())
	}
	csp := page.Header().Get("Content-Security-Policy")
	if !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") || strings.Contains(csp, "*") {
		t.Errorf("policy %s", csp)
	}
	if got := get(t, h, "/", "If-None-Match", page.Header().Get("ETag")); got.Code != http.StatusNotModified {
		t.Errorf("the page again: %d", got.Code)
	}
	if regexp.MustCompile(`(?i)<(script|style)>|\son\w+=|style="`).MatchString(text) {
		t.Error("the page has a script or style of its own, which its policy forbids")
	}

	queue := regexp.MustCompile(`/console/[0-9a-f]{16}/[\w./]+`).FindAllString(text, -1)
	imports := regexp.MustCompile(`(?m)(?:from|import) "\./([\w./]+)"`)
	seen := map[string]bool{}
	for len(queue) > 0 {
		path := queue[0]
		queue = queue[1:]
		if seen[path] {
			continue
		}
		seen[path] = true
		got := get(t, h, path)
		code := body(t, got)
		if got.Code != http.StatusOK || got.Header().Get("Cache-Control") != "public, max-age=31536000, immutable" {
			t.Errorf("%s: %d %v", path, got.Code, got.Header())
		}
		if got.Header().Get("X-Content-Type-Options") != "nosniff" || strings.HasPrefix(got.Header().Get("Content-Type"), "text/plain") {
			t.Errorf("%s is served as %s", path, got.Header().Get("Content-Type"))
		}
		if !strings.Contains(path, "/lib/") {
			for _, found := range imports.FindAllStringSubmatch(code, -1) {
				queue = append(queue, path[:strings.LastIndex(path, "/")+1]+found[1])
			}
		}
	}
	if len(seen) < 15 {
		t.Errorf("only %d files are named: %v", len(seen), seen)
	}
	other := strings.Replace(queueOf(text), "/console/", "/console/0", 1)
	if got := get(t, h, other); got.Code != http.StatusNotFound || got.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("a file of another version: %d", got.Code)
	}
}

func queueOf(page string) string {
	return regexp.MustCompile(`/console/[0-9a-f]{16}/main.js`).FindString(page)
}

// What others wrote is what they published.
func TestVendoredFilesAreThoseOfTheirRelease(t *testing.T) {
	raw, err := web.ReadFile("web/lib/vendor.json")
	if err != nil {
		t.Fatal(err)
	}
	var list []struct{ File, Package, Version, SHA256 string }
	if err := json.Unmarshal(raw, &list); err != nil {
		t.Fatal(err)
	}
	var known []string
	for _, f := range list {
		code, err := web.ReadFile("web/lib/" + f.File)
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(code); hex.EncodeToString(sum[:]) != f.SHA256 {
			t.Errorf("%s is not that of %s %s", f.File, f.Package, f.Version)
		}
		known = append(known, f.File)
	}
	entries, err := web.ReadDir("web/lib")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if name := e.Name(); (strings.HasSuffix(name, ".js") || strings.HasSuffix(name, ".css")) && !slices.Contains(known, name) {
			t.Errorf("%s is not in vendor.json", name)
		}
	}
}

// Both languages have the same words with the same holes, and the page uses no
// word that they lack.
func TestBothLanguagesSayTheSame(t *testing.T) {
	words := map[string]map[string]string{}
	entry := regexp.MustCompile(`(?m)(?:^|[ ,{])"?([\w:]+)"?: "((?:[^"\\]|\\.)*)"`)
	hole := regexp.MustCompile(`\{\w+\}`)
	for _, lang := range []string{"es", "en"} {
		raw, err := web.ReadFile("web/" + lang + ".js")
		if err != nil {
			t.Fatal(err)
		}
		words[lang] = map[string]string{}
		for _, found := range entry.FindAllStringSubmatch(string(raw), -1) {
			holes := hole.FindAllString(found[2], -1)
			slices.Sort(holes)
			words[lang][found[1]] = strings.Join(slices.Compact(holes), " ")
		}
	}
	for _, pair := range [][2]string{{"es", "en"}, {"en", "es"}} {
		for name, holes := range words[pair[0]] {
			if other, ok := words[pair[1]][name]; !ok || other != holes {
				t.Errorf("%s: %s has %q, %s has %q (%t)", name, pair[0], holes, pair[1], other, ok)
			}
		}
	}
	entries, err := web.ReadDir("web")
	if err != nil {
		t.Fatal(err)
	}
	used := regexp.MustCompile(`\bt\("(\w+)"[,)]`)
	for _, e := range entries {
		raw, _ := web.ReadFile("web/" + e.Name()) // a folder has no words
		for _, found := range used.FindAllStringSubmatch(string(raw), -1) {
			if _, ok := words["en"][found[1]]; !ok {
				t.Errorf("%s uses %q, which no language has", e.Name(), found[1])
			}
		}
	}
	if len(words["en"]) < 200 {
		t.Errorf("only %d words found", len(words["en"]))
	}
}
