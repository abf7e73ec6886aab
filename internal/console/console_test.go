package console

import (
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/avoqado/avoqado-edge/internal/needs"
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

// The page's filter finds what the command line's does.
func TestFilterIsThatOfTheCommandLine(t *testing.T) {
	node := needs.Program(t, "node")
	const script = `
		const { matches } = await import("file://" + process.argv[1]);
		const { event, cases } = JSON.parse(await (await import("node:fs/promises")).readFile(process.argv[2], "utf8"));
		const wrong = cases.filter((c) => matches(event, c.text) !== c.found).map((c) => c.text);
		if (!matches(event, "cobro", "Cobro hecho")) wrong.push("the page's own name");
		console.log(JSON.stringify({ held: cases.length, wrong }));`
	dir := t.TempDir()
	code, err := web.ReadFile("web/filter.js")
	if err != nil {
		t.Fatal(err)
	}
	module := filepath.Join(dir, "filter.mjs")
	if err := os.WriteFile(module, code, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), node, "--input-type=module", "-e", script, module, filepath.Join("..", "api", "testdata", "filter.json")).CombinedOutput()
	if err != nil || !strings.Contains(string(out), `"wrong":[]`) || strings.Contains(string(out), `"held":0`) {
		t.Errorf("%v %s", err, out)
	}
}

// node runs a script beside the page's modules, in ./web, and returns what it says.
func node(t *testing.T, script string) string {
	t.Helper()
	program, dir := needs.Program(t, "node"), t.TempDir()
	if err := os.CopyFS(dir, web); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"package.json": `{"type":"module"}`, "test.js": script} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.CommandContext(t.Context(), program, filepath.Join(dir, "test.js")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// The page does not say that all is well while the box refuses events, a write
// hangs, or the back-end will not take some.
func TestMoodIsNotBetterThanTheBox(t *testing.T) {
	said := node(t, `
		globalThis.document = { documentElement: {}, getElementById: () => ({}) };
		const { mood } = await import("./web/status.js");
		const { feed } = await import("./web/feed.js");
		feed.heard = Date.now();
		const well = () => ({ journal: { backlog: { events: 0 }, level: "ok" }, uplink: { state: "online", parked: 0 }, way: [{ name: "lan", state: "ok" }] });
		for (const harm of [
			() => {},
			(s) => (s.journal.level = "trim"),
			(s) => (s.journal.level = "no_orders"),
			(s) => (s.journal.level = "full"),
			(s) => (s.journal.stuckSince = new Date(Date.now() - 60000).toISOString()),
			(s) => (s.uplink.parked = 2),
		]) {
			feed.status = well();
			harm(feed.status);
			console.log(mood().state);
		}`)
	if want := "ok\nok\ndown\ndown\ndown\nwarn\n"; said != want {
		t.Errorf("%q, want %q", said, want)
	}
}

// An alert that is sent again because no answer came is the same one; one that was
// changed meanwhile is another, which the box must not take for a repeat.
func TestAnotherAlertHasAnotherKey(t *testing.T) {
	said := node(t, `
		const element = () => ({ dataset: {}, setAttribute() {}, append() {} });
		globalThis.document = { createElement: element, createElementNS: element };
		globalThis.fetch = async (_, { body }) => {
			sent.push(JSON.parse(body).payload);
			throw new Error("no answer in time");
		};
		const sent = [];
		let form = {};
		globalThis.FormData = class { get(name) { return form[name] ?? ""; } getAll() { return []; } };
		const made = [];
		document.createElement = (tag) => (made.push({ ...element(), tag }), made.at(-1));
		const { alertsView } = await import("./web/alerts.js");
		const { feed } = await import("./web/feed.js");
		feed.who = { venueId: "v1" };
		const send = async (text) => {
			made.length = 0;
			alertsView(() => {});
			const it = made.find((e) => e.tag === "form");
			if (text) {
				form = { level: "info", title: "Caja", message: text, expires: "0" };
				it.oninput?.();
			}
			await it.onsubmit({ preventDefault() {}, target: {} });
		};
		await send("Falta cambio");
		await send("");
		await send("Sobra cambio");
		console.log(sent.length, sent[0].idempotencyKey === sent[1].idempotencyKey, sent[1].idempotencyKey === sent[2].idempotencyKey);`)
	if said != "3 true false\n" {
		t.Errorf("%q", said)
	}
}

// Who logs out while the box does not answer is out once it does again.
func TestLogoutIsMadeUpFor(t *testing.T) {
	said := node(t, `
		globalThis.document = { documentElement: {}, getElementById: () => ({}), hidden: false };
		const asked = [], timers = [];
		let away = false, cookie = true;
		globalThis.setTimeout = (f) => timers.push(f);
		globalThis.clearTimeout = () => {};
		globalThis.fetch = async (path, { method }) => {
			if (away) throw new Error("nobody there");
			asked.push(method + " " + path);
			if (path.endsWith("/logout")) cookie = false;
			if (path.endsWith("/login")) cookie = true;
			const ok = path === "/" || path.includes("/log") || cookie && path.endsWith("/session");
			return { ok, status: ok ? 200 : cookie ? 404 : 401, json: async () => ({ venue: "v1", venueId: "v1" }) };
		};
		const feed = await import("./web/feed.js");
		feed.feed.who = { venueId: "v1" };
		away = true;
		await feed.logout();
		away = false;
		const settle = () => new Promise((done) => setImmediate(done));
		for (let round = 0; round < 3; round++) {
			for (const f of timers.splice(0)) await f();
			await settle();
		}
		console.log(cookie, feed.feed.who);
		await feed.login({ code: "123456" }).catch(() => {});
		console.log(asked.filter((a) => a.endsWith("/logout")).length, cookie);
		process.exit(0);`)
	if said != "false null\n1 true\n" {
		t.Errorf("%q", said)
	}
}

// One event is not spoken of as several.
func TestOneEventIsOne(t *testing.T) {
	said := node(t, `
		globalThis.document = { documentElement: {}, getElementById: () => ({}) };
		const { mood } = await import("./web/status.js");
		const { feed } = await import("./web/feed.js");
		const { choose, t } = await import("./web/i18n.js");
		choose("es");
		feed.heard = Date.now();
		feed.status = { journal: { backlog: { events: 1 }, level: "ok" }, uplink: { state: "online", paused: { since: new Date().toISOString() } }, way: [] };
		console.log(mood().sub);
		console.log(t("paused_n", { n: 1 }));`)
	if said != "La central lo pidió. 1 evento guardado en esta caja.\nEn pausa: 1 nuevo\n" {
		t.Errorf("%q", said)
	}
}
