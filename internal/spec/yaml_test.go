package spec

import (
	"testing"

	"github.com/goccy/go-yaml"
)

// TestYAML: what is written is read again by a library, the whole document and
// what is easily taken for something else.
func TestYAML(t *testing.T) {
	s, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	odd := object{
		{Key: "$ref", Value: "#/a"},
		{Key: "on", Value: []any{"yes", "No", "null", "1.5", "1e3", "~", "", " a", "a ", "a: b", "a #b", "- a", "a\nb", "a\n\n b\n", " a\nb", "é\u2028\"\\\t", "2026-11-23"}},
		{Key: "empty", Value: []any{object{}, []any{}, []any{[]any{"a", object{{Key: "b", Value: 1}}}}}},
		{Key: "other", Value: []any{true, nil, 12, 1.5, uint64(1795428000000), object{{Key: "a", Value: object{{Key: "text", Value: "one\ntwo"}}}}}},
	}
	for name, v := range map[string]object{"document": s.document("1"), "odd": odd} {
		text := appendYAML(nil, v, 0)
		var back any
		if err := yaml.UnmarshalWithOptions(text, &back, yaml.UseOrderedMap()); err != nil {
			t.Errorf("%s: %v\n%s", name, err, text)
			continue
		}
		if got, want := string(appendJSON(nil, back)), string(appendJSON(nil, v)); got != want {
			t.Errorf("%s became\n%.2000s\nnot\n%.2000s", name, got, want)
		}
	}
}
