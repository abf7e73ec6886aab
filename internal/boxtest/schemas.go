package boxtest

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Schemas are the JSON Schemas of an AsyncAPI document.
type Schemas struct{ compiler *jsonschema.Compiler }

const schemasURL = "mem:///asyncapi.json"

// ReadSchemas reads the schemas of a document as the box serves it.
func ReadSchemas(t testing.TB, document []byte) *Schemas {
	t.Helper()
	text, err := yaml.YAMLToJSON(document)
	if err != nil {
		t.Fatalf("the document is no YAML: %v", err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("the document is no JSON: %v", err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft7)
	c.AssertFormat()
	if err := c.AddResource(schemasURL, doc); err != nil {
		t.Fatal(err)
	}
	return &Schemas{c}
}

// Check returns why a payload is not what the named schema says, or nil.
func (s *Schemas) Check(name string, payload []byte) error {
	schema, err := s.compiler.Compile(schemasURL + "#/components/schemas/" + name)
	if err != nil {
		return fmt.Errorf("schema %s: %w", name, err)
	}
	instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(payload))
	if err != nil {
		return fmt.Errorf("%s: %q is no JSON: %w", name, payload, err)
	}
	if err := schema.Validate(instance); err != nil {
		return fmt.Errorf("%s: %s: %w", name, payload, err)
	}
	return nil
}
