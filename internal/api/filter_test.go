package api

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// The page's filter is held against the same cases (internal/console).
func TestFilter(t *testing.T) {
	raw, err := os.ReadFile("testdata/filter.json")
	if err != nil {
		t.Fatal(err)
	}
	var said struct {
		Event Record
		Cases []struct {
			Text  string
			Found bool
		}
	}
	if err := json.Unmarshal(raw, &said); err != nil {
		t.Fatal(err)
	}
	if len(said.Cases) < 15 {
		t.Fatalf("only %d cases", len(said.Cases))
	}
	for _, c := range said.Cases {
		if got := said.Event.Matches(c.Text); got != c.Found {
			t.Errorf("%q: %v", c.Text, got)
		}
	}
	// However the terminal wrote it.
	r := Record{Payload: json.RawMessage(`{ "name" : "Pe\u00f1a", "amount" : 120.50 }`)}
	for _, text := range []string{"peña", `"name":"peña"`, "120.50"} {
		if !r.Matches(text) {
			t.Errorf("%q is not found", text)
		}
	}
	if r.Payload = json.RawMessage(`{"cut`); !r.Matches("cut") || r.Matches("other") {
		t.Error("a payload that cannot be read is not searched")
	}
	if r.Payload = nil; r.Matches(strings.Repeat("x", 9)) {
		t.Error("nothing has it")
	}
}
