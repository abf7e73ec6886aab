package spec_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/avoqado/avoqado-edge/internal/boxtest"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/spec"
)

func load(t *testing.T) (*spec.Spec, *boxtest.Schemas) {
	t.Helper()
	s, err := spec.Load()
	if err != nil {
		t.Fatal(err)
	}
	return s, boxtest.ReadSchemas(t, s.Document("1.2.3"))
}

func TestExamplesFitTheirSchemas(t *testing.T) {
	s, schemas := load(t)
	check := func(name string, example []byte) {
		t.Helper()
		if example == nil {
			t.Errorf("%s has no example", name)
			return
		}
		if err := schemas.Check(name, example); err != nil {
			t.Error(err)
		}
	}
	for i := range s.Events {
		e := &s.Events[i]
		if e.About == "" {
			t.Errorf("%s is not explained", e.Row.Kind)
		}
		for _, f := range e.Fields {
			if f.About == "" && f.Inner == nil {
				t.Errorf("%s.%s is not explained", e.Row.Kind, f.Name)
			}
		}
		if e.Row.FromClients() {
			check(e.Key()+".sent", e.Sent)
		}
		if e.Heard() {
			check(e.Key()+".heard", e.HeardExample())
		}
		if e.Row.Broadcast {
			check(e.Key(), e.Example)
		}
	}
	for i := range s.Topics {
		if topic := &s.Topics[i]; topic.ContentType == "application/json" {
			check("mqtt."+topic.Name, topic.Example)
		}
	}
}

// TestSchemasRefuse: a schema that takes everything describes nothing.
func TestSchemasRefuse(t *testing.T) {
	_, schemas := load(t)
	for name, bad := range map[string][]string{
		"payment_completed.sent": {
			`{"amount":1,"currency":"MXN","venueId":"v1"}`, `{"paymentId":"p","amount":true,"currency":"MXN","venueId":"v1"}`,
		},
		"payment_completed.heard":  {`{"paymentId":"p","amount":"1.00"}`},
		"system_alert.sent":        {`{"level":"panic","title":"t","message":"m","venueId":"v1"}`},
		"tpv_command.sent":         {`{"terminalId":"1"}`, `{"type":"LOCK"}`},
		"shift_opened.heard":       {`{"shiftId":"s","totalSales":"1.00","correlationId":"c","timestamp":"2026-11-23T10:00:00.000Z","venueId":"v1"}`},
		"Failure":                  {`{"success":false,"error":"e"}`},
		"mqtt.broadcasts":          {`{"id":"a","event":"payment_stolen","payload":{}}`, `{"id":"a","event":"system_alert","payload":{"level":1}}`, `{"id":"a","event":"venue_update","payload":{},"more":1}`},
		"mqtt.events":              {`[]`, `{}`, `[{"specversion":"1.0","id":"i","source":"s","type":"io.avoqado.order_created","time":"2026-11-23T10:00:00.000Z","datacontenttype":"application/json","epoch":"e","sequence":"1","origin":"terminal","data":{"orderId":1}}]`},
		"mqtt.acks":                {`{"epoch":"e"}`, `{"epoch":"e","through":1,"rejected":[{"sequence":true,"reason":"r"}]}`, `{"epoch":"e","through":1,"rejected":{}}`},
		"mqtt.events.live":         {`[]`, `[{"specversion":"1.0"}]`},
		"mqtt.commands.results":    {`{"id":"c","status":"maybe"}`},
		"sync_required.heard":      {`{"reason":"events_lost"}`},
		"terminal.log.heard":       {`{"id":"i","terminalId":"1","level":"warn","tag":"t","message":"m","timestamp":1,"correlationId":"c","venueId":"v1"}`},
		"terminal.payment_request": {`{"amountCents":120.5}`},
	} {
		for _, payload := range bad {
			if schemas.Check(name, []byte(payload)) == nil {
				t.Errorf("%s takes %s", name, payload)
			}
		}
	}
}

// TestErrorsAreThoseOfTheCode compares the table of errors with the refusals
// that the code of the wires makes.
func TestErrorsAreThoseOfTheCode(t *testing.T) {
	s, _ := load(t)
	document := s.Document("")
	// What only callers of the HTTP API are told is no part of the two wires.
	http := map[string]bool{
		"ORDER_ALREADY_PAID": true, "REQUEST_ID_REUSED": true, "not_ready": true,
		"terminal_not_connected": true, "terminal_without_socket": true,
	}
	listed := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\s*\| ([a-z_]+) \| \d`).FindAllSubmatch(document, -1) {
		listed[string(m[1])] = true
	}
	made := map[string]bool{}
	for _, dir := range []string{"event", "lan", "daemon"} {
		err := filepath.WalkDir(filepath.Join("..", dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if code := codeOf(n); code != "" && !http[code] {
					made[code] = true
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(made) < 10 {
		t.Errorf("only %d refusals were found", len(made))
	}
	for code := range made {
		if !listed[code] {
			t.Errorf("%s is not in the table of errors", code)
		}
	}
	for code := range listed {
		if !made[code] {
			t.Errorf("%s is in the table and nobody says it", code)
		}
	}
}

// codeOf returns the code of a call of Refuse or RefuseForNow.
func codeOf(n ast.Node) string {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return ""
	}
	name := ""
	switch f := call.Fun.(type) {
	case *ast.SelectorExpr:
		name = f.Sel.Name
	case *ast.Ident:
		name = f.Name
	}
	at, ok := map[string]int{"Refuse": 1, "RefuseForNow": 0}[name]
	if !ok || len(call.Args) <= at {
		return ""
	}
	literal, ok := call.Args[at].(*ast.BasicLit)
	if !ok {
		return ""
	}
	code, _ := strconv.Unquote(literal.Value)
	return code
}

func TestPage(t *testing.T) {
	s, _ := load(t)
	s.Events[0].About = `<script>alert("x")</script>`
	page := s.Page("1.2.3")
	if bytes.Contains(page, []byte("<script")) {
		t.Error("the page does not escape what it shows")
	}
	for _, outside := range []string{"http:", "https:", "src=", "@import", "url(", "style=", "%!"} {
		if bytes.Contains(page, []byte(outside)) {
			t.Errorf("the page has %q", outside)
		}
	}
	for _, link := range regexp.MustCompile(`href="#([^"]*)"`).FindAllSubmatch(page, -1) {
		if !bytes.Contains(page, fmt.Appendf(nil, "id=%q", link[1])) {
			t.Errorf("%s leads nowhere", link[0])
		}
	}
	for _, row := range event.Catalogue() {
		if !bytes.Contains(page, []byte("<h3>"+string(row.Kind)+"</h3>")) {
			t.Errorf("%s is not on the page", row.Kind)
		}
	}
	for i := range s.Topics {
		if !bytes.Contains(page, []byte("/"+s.Topics[i].Address+"</h3>")) {
			t.Errorf("topic %s is not on the page", s.Topics[i].Name)
		}
	}
}

func TestHandler(t *testing.T) {
	h := spec.Handler("1.2.3")
	ask := func(path, tag string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.Header.Set("If-None-Match", tag)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	for path, contentType := range map[string]string{
		spec.DocumentPath: "application/yaml; charset=utf-8", spec.PagePath: "text/html; charset=utf-8",
		spec.TerminalsPath: "text/plain; charset=utf-8", spec.BackendPath: "text/plain; charset=utf-8",
	} {
		first := ask(path, "")
		tag := first.Header().Get("ETag")
		if first.Code != http.StatusOK || first.Header().Get("Content-Type") != contentType || tag == "" || first.Body.Len() < 10_000 {
			t.Errorf("%s: %d %v, %d bytes", path, first.Code, first.Header(), first.Body.Len())
		}
		if first.Header().Get("Cache-Control") == "" || !strings.HasPrefix(first.Header().Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s: %v", path, first.Header())
		}
		if again := ask(path, tag); again.Code != http.StatusNotModified || again.Body.Len() != 0 {
			t.Errorf("%s again: %d, %d bytes", path, again.Code, again.Body.Len())
		}
	}
	if w := ask("/docs/other", ""); w.Code != http.StatusNotFound {
		t.Errorf("another path: %d", w.Code)
	}
}

// TestPagePolicy: the style that the policy allows is the one in the page.
func TestPagePolicy(t *testing.T) {
	s, _ := load(t)
	page := s.Page("")
	css, err := os.ReadFile("page.css")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(page, append(append([]byte("<style>"), css...), "</style>"...)) {
		t.Error("the style was changed on its way into the page, and browsers will refuse it")
	}
}
