package spec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// object is a JSON object that keeps the order of its members.
type object = yaml.MapSlice

// Field is a member of a payload.
type Field struct {
	Name, Type, About string
	schema            object
	Inner             []Field // of an object that is described
}

// fields reads members as the files write them: the name of a shared type, or
// values with | between; then * for a list, ? where null may stand; then what it
// means behind a dash. A mapping is an object, a list of one mapping a list of
// such objects.
func (s *Spec) fields(members object) ([]Field, error) {
	var list []Field
	for _, m := range members {
		f := Field{Name: fmt.Sprint(m.Key)}
		var err error
		switch v := m.Value.(type) {
		case string:
			err = s.line(&f, v)
		case object:
			if f.Inner, err = s.fields(v); err == nil {
				f.Type, f.schema = "object", shape(f.Inner, nil)
			}
		case []any:
			inner, ok := v[0].(object)
			if !ok {
				return nil, fmt.Errorf("%s: a list of no mapping", f.Name)
			}
			if f.Inner, err = s.fields(inner); err == nil {
				f.Type, f.schema = "list of objects", object{{Key: "type", Value: "array"}, {Key: "items", Value: shape(f.Inner, nil)}}
			}
		default:
			err = fmt.Errorf("a %T", v)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		list = append(list, f)
	}
	return list, nil
}

func (s *Spec) line(f *Field, line string) error {
	name, about, _ := strings.Cut(line, " — ")
	f.About = strings.Trim(about, `"`)
	name, null := strings.CutSuffix(name, "?")
	name, many := strings.CutSuffix(name, "*")
	values := strings.Split(strings.TrimSuffix(name, "|"), "|") // of one value: with the | behind it
	f.Type = strings.Join(values, " | ")
	switch {
	case strings.Contains(name, "|"):
		f.schema = object{{Key: "type", Value: "string"}, {Key: "enum", Value: anys(values)}}
	case name == "Kind", name == "Audience":
		f.schema = ref(name)
	case get(s.types, name) != nil:
		f.schema, f.Type = ref(name), s.typeWord(name)
	default:
		return fmt.Errorf("unknown type %q", name)
	}
	if many {
		f.Type = "list of " + f.Type
		f.schema = object{{Key: "type", Value: "array"}, {Key: "items", Value: f.schema}}
	}
	if null {
		f.Type += ", or null"
		f.schema = object{{Key: "anyOf", Value: []any{f.schema, object{{Key: "type", Value: "null"}}}}}
	}
	if f.About != "" {
		if get(f.schema, "$ref") != nil { // beside which draft 7 reads nothing
			f.schema = object{{Key: "allOf", Value: []any{f.schema}}}
		}
		f.schema = append(object{{Key: "description", Value: f.About}}, f.schema...)
	}
	return nil
}

// typeWord names a shared type by its JSON type, and its own name where that
// says more.
func (s *Spec) typeWord(name string) string {
	schema, _ := get(s.types, name).(object)
	word := "any"
	switch t := get(schema, "type").(type) {
	case string:
		word = t
	case []any:
		word = fmt.Sprintf("%v or %v", t[0], t[1])
	}
	if text(schema, "description") != "" {
		word += " (" + name + ")"
	}
	return word
}

// shape is the JSON Schema of an object with these members; others pass.
func shape(fields []Field, must []string) object {
	members := object{}
	for _, f := range fields {
		members = append(members, yaml.MapItem{Key: f.Name, Value: f.schema})
	}
	o := object{{Key: "type", Value: "object"}}
	if len(must) > 0 {
		o = append(o, yaml.MapItem{Key: "required", Value: anys(must)})
	}
	return append(o, yaml.MapItem{Key: "properties", Value: members}, yaml.MapItem{Key: "additionalProperties", Value: true})
}

func ref(schema string) object {
	return object{{Key: "$ref", Value: "#/components/schemas/" + schema}}
}

func anys[T ~string](list []T) []any {
	out := make([]any, len(list))
	for i, v := range list {
		out[i] = string(v)
	}
	return out
}

func get(o object, key string) any {
	if i := slices.IndexFunc(o, func(m yaml.MapItem) bool { return m.Key == key }); i >= 0 {
		return o[i].Value
	}
	return nil
}

func text(o object, key string) string { s, _ := get(o, key).(string); return s }

func yes(o object, key string) bool { b, _ := get(o, key).(bool); return b }

// jsonOf returns a member as JSON with its order kept, nil if there is none.
func jsonOf(o object, key string) []byte {
	if v := get(o, key); v != nil {
		return appendJSON(nil, v)
	}
	return nil
}

func appendJSON(b []byte, v any) []byte {
	switch v := v.(type) {
	case object:
		b = append(b, '{')
		for i, m := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendJSON(b, fmt.Sprint(m.Key)), ':')
			b = appendJSON(b, m.Value)
		}
		return append(b, '}')
	case []any:
		b = append(b, '[')
		for i, item := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendJSON(b, item)
		}
		return append(b, ']')
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	if enc.Encode(v) != nil { // what YAML reads encodes
		return append(b, "null"...)
	}
	return append(b, bytes.TrimSpace(text.Bytes())...)
}

// value reads JSON with its order kept. JSON is YAML.
func value(raw []byte) any {
	var v any
	if yaml.UnmarshalWithOptions(raw, &v, yaml.UseOrderedMap()) != nil {
		return nil
	}
	return v
}
