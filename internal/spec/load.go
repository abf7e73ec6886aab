package spec

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/goccy/go-yaml"

	"github.com/avoqado/avoqado-edge/internal/event"
)

//go:embed base.yaml mqtt.yaml events/*.yaml
var files embed.FS

// Spec is what the files say of each kind, beside what the catalogue says.
// It is read-only once loaded.
type Spec struct {
	Events []Event // in the order of the catalogue
	Topics []Topic
	types  object // shared JSON Schemas by name
	words  words
}

// Event is one kind with its schema and examples.
type Event struct {
	Row   event.Row
	About string
	entry

	// Example is a payload as the back-end or the box makes it, Sent as a client
	// does, Answer what a client acknowledges it with; JSON, nil if there is none.
	Example, Sent, Answer []byte
}

// Topic is one topic of the MQTT contract.
type Topic struct {
	Name, Address string // the address below the venue
	FromBox       bool
	Retained      bool
	QoS           int
	About         string
	ContentType   string
	AnsweredBy    string // the topic of the answers
	Example       []byte // JSON, nil if there is none
	entry
	strict, batch, broadcast bool
}

// entry is the shape of a payload.
type entry struct {
	Fields []Field
	must   []string // members that are always there
}

type words struct {
	Promises []struct{ Title, Text string }
	Errors   []struct {
		Code, Text, Retry, About string
		Status                   int
	}
}

// Load reads the files that are part of the program; the error names a kind
// that the catalogue and the files do not both have.
func Load() (*Spec, error) { return load(files) }

func load(files fs.FS) (*Spec, error) {
	s := &Spec{}
	var base struct {
		Types object `yaml:"types"`
	}
	if err := read(files, "base.yaml", &base); err != nil {
		return nil, err
	}
	s.types = base.Types
	if err := read(files, "base.yaml", &s.words); err != nil {
		return nil, err
	}
	if err := s.loadEvents(files); err != nil {
		return nil, err
	}
	return s, s.loadTopics(files)
}

func read(files fs.FS, name string, into any) error {
	text, err := fs.ReadFile(files, name)
	if err != nil {
		return err
	}
	if err := yaml.UnmarshalWithOptions(text, into, yaml.UseOrderedMap()); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return nil
}

func (s *Spec) loadEvents(files fs.FS) error {
	folder, err := fs.ReadDir(files, "events")
	if err != nil {
		return err
	}
	written := map[event.Kind]object{}
	for _, f := range folder {
		var all object
		if err := read(files, "events/"+f.Name(), &all); err != nil {
			return err
		}
		for _, item := range all {
			kind, body := event.Kind(fmt.Sprint(item.Key)), item.Value.(object)
			if _, twice := written[kind]; twice {
				return fmt.Errorf("%s is described twice", kind)
			}
			written[kind] = body
		}
	}
	var problems []error
	for _, row := range event.Catalogue() {
		body, ok := written[row.Kind]
		if !ok {
			problems = append(problems, fmt.Errorf("%s has no schema", row.Kind))
			continue
		}
		delete(written, row.Kind)
		e := Event{Row: row, About: text(body, "about"), Example: jsonOf(body, "example"), Sent: jsonOf(body, "sent"), Answer: jsonOf(body, "answer")}
		if e.entry, err = s.entry(body); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", row.Kind, err))
		}
		if e.Sent == nil && row.FromClients() {
			e.Sent = e.Example
		}
		s.Events = append(s.Events, e)
	}
	for kind := range written {
		problems = append(problems, fmt.Errorf("%s is described and not in the catalogue", kind))
	}
	return errors.Join(problems...)
}

func (s *Spec) loadTopics(files fs.FS) error {
	var all object
	if err := read(files, "mqtt.yaml", &all); err != nil {
		return err
	}
	for _, item := range all {
		body := item.Value.(object)
		t := Topic{
			Name: fmt.Sprint(item.Key), Address: text(body, "address"), FromBox: text(body, "from") == "box",
			Retained: yes(body, "retained"), QoS: 1, About: text(body, "about"), ContentType: text(body, "type"),
			AnsweredBy: text(body, "answeredBy"), Example: jsonOf(body, "example"),
			strict: yes(body, "strict"), batch: yes(body, "batch"), broadcast: yes(body, "broadcast"),
		}
		if get(body, "qos") != nil {
			t.QoS = 0
		}
		if t.ContentType == "" {
			t.ContentType = "application/json"
		}
		var err error
		if t.entry, err = s.entry(body); err != nil {
			return fmt.Errorf("%s: %w", t.Name, err)
		}
		s.Topics = append(s.Topics, t)
	}
	return nil
}

func (s *Spec) entry(body object) (entry, error) {
	var e entry
	if must, ok := get(body, "must").([]any); ok {
		for _, name := range must {
			e.must = append(e.must, fmt.Sprint(name))
		}
	}
	members, _ := get(body, "fields").(object)
	if text(body, "schema") == "Failure" {
		members, e.must = failureFields(), []string{"correlationId", "success", "error", "statusCode", "code"}
	}
	var err error
	if e.Fields, err = s.fields(members); err != nil {
		return e, err
	}
	for _, name := range e.must {
		if !slices.ContainsFunc(e.Fields, func(f Field) bool { return f.Name == name }) {
			return e, fmt.Errorf("%s must be there and is not described", name)
		}
	}
	return e, nil
}

// failureFields is the refusal that acks and error events carry.
func failureFields() object {
	return object{
		{Key: "correlationId", Value: "Id — Of this socket"},
		{Key: "success", Value: "Bool — false"},
		{Key: "error", Value: "Text — For people, and as existing clients know it"},
		{Key: "statusCode", Value: "Int — As of HTTP"},
		{Key: "code", Value: "Text — For programs; see the table of errors"},
		{Key: "retryable", Value: "Bool — The same request may succeed later; absent, it never will"},
		{Key: "retryAfterMs", Value: "Int — When to try again, in milliseconds"},
	}
}
