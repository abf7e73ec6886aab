package spec

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // the page and its style
	"encoding/base64"
	"encoding/json"
	"html/template"
	"slices"
	"strings"

	"github.com/avoqado/avoqado-edge/internal/event"
)

//go:embed page.html
var pageText string

//go:embed page.css
var style string

// pageEvent is an event as the page shows it.
type pageEvent struct {
	*Event
	Rows              []pageRow
	SentText, AckText string
	Heard             string
	FromUs, FromThere bool
}

type pageRow struct{ Name, Type, Must, About string }

type pageTopic struct {
	*Topic
	Rows        []pageRow
	ExampleText string
}

// Page returns the document as one HTML page that asks for nothing else.
func (s *Spec) Page(version string) ([]byte, error) {
	t, err := template.New("page").Parse(pageText)
	if err != nil {
		return nil, err
	}
	data := struct {
		Version, Prefix string
		Style           template.CSS
		Words           *words
		Events          []pageEvent
		Topics          []pageTopic
		Added, Types    []pageRow
	}{
		Version: version, Prefix: Prefix, Style: template.CSS(style), Words: &s.words, //nolint:gosec // our own file
		Added: rows(s.added(), []string{"correlationId", "timestamp", "venueId"}, nil),
	}
	for _, m := range s.types {
		name, schema := m.Key.(string), m.Value.(object)
		if about := text(schema, "description"); about != "" {
			data.Types = append(data.Types, pageRow{Name: name, Type: s.typeWord(name), About: about})
		}
	}
	for i := range s.Events {
		data.Events = append(data.Events, s.shown(&s.Events[i]))
	}
	for i := range s.Topics {
		topic := &s.Topics[i]
		data.Topics = append(data.Topics, pageTopic{topic, rows(topic.Fields, topic.must, nil), indent(topic.Example)})
	}
	var page bytes.Buffer
	if err := t.Execute(&page, data); err != nil {
		return nil, err
	}
	return page.Bytes(), nil
}

// policy allows the page its own style and nothing else.
func policy() string {
	sum := sha256.Sum256([]byte(style))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

func (s *Spec) shown(e *Event) pageEvent {
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
	p := pageEvent{
		Event: e, Rows: rows(fields, e.must, needs),
		FromThere: e.Row.FromClients(), FromUs: e.Heard(),
	}
	if e.Row.FromClients() {
		p.SentText = indent(e.Sent)
		p.AckText = indent(appendJSON(nil, s.ackExample(e)))
	}
	if e.Heard() {
		p.Heard = indent(e.HeardExample())
	}
	return p
}

// rows is a table of members; inner ones have a dotted name. must are there in
// what is heard, needs in what a client sends.
func rows(fields []Field, must, needs []string) []pageRow {
	var list []pageRow
	for _, f := range fields {
		r := pageRow{Name: f.Name, Type: f.Type, About: f.About}
		switch {
		case slices.Contains(needs, f.Name):
			r.Must = "needed"
		case slices.Contains(must, f.Name):
			r.Must = "always there"
		}
		list = append(list, r)
		for _, inner := range rows(f.Inner, nil, nil) {
			inner.Name = f.Name + "." + inner.Name
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
