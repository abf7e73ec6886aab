package spec

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // the style
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"slices"
	"strings"

	"github.com/avoqado/avoqado-edge/internal/event"
)

//go:embed page.css
var style string

// sheet is a page of HTML that grows. No template package writes it: they call
// methods by their names, and for one of them in the program the linker keeps
// every exported method of every type, which is a third of the binary.
type sheet struct{ bytes.Buffer }

// row is a line of a table of members.
type row struct{ name, kind, must, about string }

// add appends markup in which each %s is a text. Texts are escaped, all of them.
func (p *sheet) add(markup string, texts ...string) {
	escaped := make([]any, len(texts))
	for i, t := range texts {
		escaped[i] = html.EscapeString(t)
	}
	fmt.Fprintf(p, markup, escaped...)
}

// Page returns the document as one HTML page that asks for nothing else.
func (s *Spec) Page(version string) []byte {
	p := &sheet{}
	p.add(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<title>Avoqado Edge: events</title>
<style>`)
	p.WriteString(style) // our own, and as it is: see policy
	p.add(`</style>
</head>
<body>
<h1>Avoqado Edge: events</h1>
<p>Version %s. The same for programs, with JSON Schemas: <a href="/asyncapi.yaml">asyncapi.yaml</a> (AsyncAPI 3.0). How to build on it, in code to copy: <a href="%s">a terminal or a dashboard</a> (Kotlin, JavaScript), <a href="%s">a back-end</a> (Node).</p>
`, version, TerminalsPath, BackendPath)
	for _, promise := range s.words.Promises {
		p.add("<h2>%s</h2>\n<p>%s</p>\n", promise.Title, promise.Text)
	}
	p.refusals(&s.words)
	p.add("<h2>Events on the LAN</h2>\n<nav>")
	for i := range s.Events {
		p.add(`<a href="#%s">%s</a>`, s.Events[i].Key(), string(s.Events[i].Row.Kind))
	}
	p.add(`</nav>
<p>In the tables <i>needed</i> is what a client must send, <i>always there</i> what who hears it can count on; other members pass through. Names in brackets are types of which there is more to say:</p>
`)
	var types []row
	for _, m := range s.types {
		name, schema := m.Key.(string), m.Value.(object)
		if about := text(schema, "description"); about != "" {
			types = append(types, row{name: name, kind: s.typeWord(name), about: about})
		}
	}
	p.members(types)
	p.add(`
<h2>What the box adds</h2>
<p>To every stored event that clients hear, except those to the card reader of a terminal:</p>
`)
	p.members(rows(s.added(), []string{"correlationId", "timestamp", "venueId"}, nil))
	p.add("\n")
	for i := range s.Events {
		p.event(s, &s.Events[i])
	}
	p.add("\n<h2>Topics of the cloud</h2>\n")
	for i := range s.Topics {
		p.topic(&s.Topics[i])
	}
	p.add("\n</body>\n</html>\n")
	return p.Bytes()
}

// policy allows the page its own style and nothing else.
func policy() string {
	sum := sha256.Sum256([]byte(style))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

func (p *sheet) refusals(w *words) {
	p.add(`
<h2 id="errors">Errors</h2>
<div class="wide"><table>
<tr><th>code</th><th>statusCode</th><th>error</th><th>retry</th><th>meaning</th></tr>
`)
	for _, e := range w.Errors {
		status, retry := "", "no"
		if e.Status != 0 {
			status = fmt.Sprint(e.Status)
		}
		if e.Retry != "" {
			retry = "yes, " + e.Retry
		}
		p.add("<tr><td><code>%s</code></td><td>%s</td><td>%s</td><td>%s</td><td>%s</td></tr>\n", e.Code, status, e.Text, retry, e.About)
	}
	p.add(`</table></div>
<p>A refusal is <code>{"correlationId", "success": false, "error", "statusCode", "code"}</code>, with <code>"retryable": true</code> and <code>"retryAfterMs"</code> where a retry can help. What a terminal says of itself is refused with <code>{"success": false, "error"}</code>.</p>
`)
}

// members is a table of members.
func (p *sheet) members(list []row) {
	p.add(`<div class="wide"><table>
<tr><th>member</th><th>type</th><th></th><th>meaning</th></tr>
`)
	for _, r := range list {
		p.add("<tr><td><code>%s</code></td><td>%s</td><td>%s</td><td>%s</td></tr>\n", r.name, r.kind, r.must, r.about)
	}
	if len(list) == 0 {
		p.add("<tr><td>none</td><td></td><td></td><td></td></tr>\n")
	}
	p.add("</table></div>\n")
}

// section opens what is said of one event or topic.
func (p *sheet) section(id, title, about string) {
	p.add("<section class=\"event\" id=\"%s\">\n<h3>%s</h3>\n<p>%s</p>\n<dl>\n", id, title, about)
}

// example is a text of its own behind a title, which may be folded away.
func (p *sheet) example(title, text string, open bool) {
	if open {
		p.add("<details open>")
	} else {
		p.add("<details>")
	}
	p.add("<summary>%s</summary><pre>%s</pre></details>\n", title, text)
}

func (p *sheet) event(s *Spec, e *Event) {
	p.section(e.Key(), string(e.Row.Kind), e.About)
	p.add("<dt>sent by</dt><dd>%s</dd>\n<dt>heard by</dt><dd>%s</dd>\n<dt>kept</dt><dd>%s</dd>\n", e.From(), e.To(), e.Kept())
	if also := e.Row.Refresh; also != "" {
		p.add("<dt>besides</dt><dd>Dashboards are told <a href=\"#%s\">%s</a>.</dd>\n", keyOf(also), string(also))
	}
	p.add("</dl>\n")
	p.members(s.shown(e))
	if e.Row.FromClients() {
		p.example("A client sends", indent(e.Sent), true)
		p.example("and is answered", indent(appendJSON(nil, s.ackExample(e))), false)
	}
	if e.Heard() {
		p.example("Clients hear", indent(e.HeardExample()), true)
	}
	if e.Answer != nil {
		p.example("and answer", string(e.Answer), false)
	}
	p.add("</section>\n")
}

func (p *sheet) topic(t *Topic) {
	p.section("mqtt."+t.Name, Prefix+t.Address, t.About)
	direction, quality := "back-end to box", fmt.Sprintf("QoS %d", t.QoS)
	if t.FromBox {
		direction = "box to back-end"
	}
	if t.Retained {
		quality += ", retained"
	}
	p.add("<dt>direction</dt><dd>%s</dd>\n<dt>quality</dt><dd>%s</dd>\n</dl>\n", direction, quality)
	if len(t.Fields) > 0 {
		p.members(rows(t.Fields, t.must, nil))
	}
	if t.Example != nil {
		p.example("Example", indent(t.Example), true)
	}
	p.add("</section>\n")
}

// shown is the table of an event, with what its sender must say.
func (s *Spec) shown(e *Event) []row {
	var needs []string
	fields := e.Fields
	for _, need := range e.Row.Needs {
		needs = append(needs, need.Key)
		if need.Key == "venueId" && !slices.ContainsFunc(fields, func(f Field) bool { return f.Name == need.Key }) {
			fields = append(slices.Clone(fields), Field{Name: need.Key, Type: s.typeWord("Id"), About: "The venue of the token"})
		}
	}
	switch {
	case !e.Row.FromClients():
		needs = nil
	case e.Row.Inbound && e.Row.Family == event.Session:
		needs = append(needs, e.must...)
	case e.Row.Choice.Key != "" && !e.Row.Choice.Optional:
		needs = append(needs, e.Row.Choice.Key)
	}
	return rows(fields, e.must, needs)
}

// rows is a table of members; inner ones have a dotted name. must are there in
// what is heard, needs in what a client sends.
func rows(fields []Field, must, needs []string) []row {
	var list []row
	for _, f := range fields {
		r := row{name: f.Name, kind: f.Type, about: f.About}
		switch {
		case slices.Contains(needs, f.Name):
			r.must = "needed"
		case slices.Contains(must, f.Name):
			r.must = "always there"
		}
		list = append(list, r)
		for _, inner := range rows(f.Inner, nil, nil) {
			inner.name = f.Name + "." + inner.name
			list = append(list, inner)
		}
	}
	return list
}

// ackExample makes an answer of what its schema says.
func (s *Spec) ackExample(e *Event) object {
	schema := e.ack()
	if name, ok := get(schema, "$ref").(string); ok {
		kind := strings.TrimSuffix(strings.TrimPrefix(name, "#/components/schemas/"), ".heard")
		for i := range s.Events {
			if o, ok := value(s.Events[i].HeardExample()).(object); ok && s.Events[i].Key() == kind {
				return o
			}
		}
	}
	out := object{}
	members, _ := get(schema, "properties").(object)
	sent, _ := value(e.Sent).(object)
	for _, m := range members {
		name := m.Key.(string)
		known := map[string]any{
			"correlationId": "6f1f5a1e-8a52-4d4a-9f0e-0c4f3a1f2b3c", "eventId": "01936f0e-7c00-7a5e-8000-000000000004",
			"id": "01936f0e-7c00-7a5e-8000-000000000004", "seq": 12345,
		}
		switch said := get(sent, name); {
		case get(m.Value.(object), "const") != nil:
			m.Value = get(m.Value.(object), "const")
		case known[name] != nil:
			m.Value = known[name]
		case said != nil:
			m.Value = said
		default:
			continue
		}
		out = append(out, m)
	}
	return out
}

func indent(raw []byte) string {
	var b bytes.Buffer
	if json.Indent(&b, raw, "", "  ") != nil {
		return string(raw)
	}
	return b.String()
}
