package config

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml/parser"

	"github.com/avoqado/avoqado-edge/configs"
)

func noEnv(string) (string, bool) { return "", false }

// TestReferenceListsEveryDefault takes the "#" off every key of the reference
// file and compares what stands there with what the box would take.
func TestReferenceListsEveryDefault(t *testing.T) {
	uncommented := regexp.MustCompile(`(?m)^( *)#([a-z_]+:)`).ReplaceAll(configs.Reference, []byte("$1$2"))
	entries, problems := parseFile("reference.yaml", uncommented)
	for _, p := range problems {
		t.Error(p)
	}
	for _, k := range keys() {
		e, ok := entries[k.path]
		if !ok {
			t.Errorf("%s is not in the reference file", k.path)
			continue
		}
		if k.path == "box.venue" || k.path == "auth.access_token_secret_file" {
			continue // examples: they have no default
		}
		var written, def Config
		if err := k.bind(&written).give(e.form, e.text); err != nil {
			t.Errorf("reference.yaml:%d: %s: %v", e.line, k.path, err)
		}
		if k.fallback != "" {
			if err := k.bind(&def).set(k.fallback); err != nil {
				t.Errorf("default of %s: %v", k.path, err)
			}
		}
		if got, want := k.bind(&written).show(), k.bind(&def).show(); got != want {
			t.Errorf("reference.yaml:%d: %s is %q, the default is %q", e.line, k.path, got, want)
		}
	}
	if len(entries) != len(keys()) {
		t.Errorf("reference file has %d keys, there are %d", len(entries), len(keys()))
	}
}

func TestReferenceAndMinimalLoad(t *testing.T) {
	for _, path := range []string{"../../configs/reference.yaml", "../../configs/minimal.yaml"} {
		c, err := Load(path, noEnv, map[string]string{"auth.access_token_secret": "sixteen-or-more-characters"})
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if c.Box.Venue != "venue_1" {
			t.Errorf("%s: venue is %q", path, c.Box.Venue)
		}
	}
}

// TestReadmeExplainsEveryKey looks for a row per key with its default and its
// names in the environment of the existing system.
func TestReadmeExplainsEveryKey(t *testing.T) {
	readme, err := os.ReadFile("../../configs/README.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	for row := range strings.SplitSeq(string(readme), "\n") {
		if name, _, ok := strings.Cut(strings.TrimPrefix(row, "| `"), "`"); ok && strings.HasPrefix(row, "| `") {
			rows[name] = row
		}
	}
	for _, k := range keys() {
		row, ok := rows[k.path]
		if !ok {
			t.Errorf("%s has no row in configs/README.md", k.path)
			continue
		}
		if k.fallback != "" && k.path != "lan.cors_origins" && !strings.Contains(row, "| `"+k.fallback+"` |") {
			t.Errorf("the row of %s does not give its default %s:\n%s", k.path, k.fallback, row)
		}
		for _, n := range k.env {
			if !strings.Contains(row, "`"+n.name+"`") {
				t.Errorf("the row of %s does not name %s:\n%s", k.path, n.name, row)
			}
		}
	}
}

// TestReadmeNamesEveryFile holds the table of files against the folder.
func TestReadmeNamesEveryFile(t *testing.T) {
	readme, err := os.ReadFile("../../configs/README.md")
	if err != nil {
		t.Fatal(err)
	}
	table, _, _ := strings.Cut(string(readme), "\n## ")
	files, err := os.ReadDir("../../configs")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if name := f.Name(); name != "README.md" && !strings.HasSuffix(name, "_test.go") && !strings.Contains(table, "`"+name+"`") {
			t.Errorf("configs/README.md does not say what %s is", name)
		}
	}
}

func TestYAMLInReadmeIsRight(t *testing.T) {
	readme, err := os.ReadFile("../../configs/README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(readme, -1)
	if len(blocks) == 0 {
		t.Fatal("no YAML in configs/README.md")
	}
	for _, block := range blocks {
		if _, problems := parseFile("README.md", block[1]); len(problems) > 0 {
			t.Error(problems)
		}
	}
}

// TestParserStopsAtDuplicates holds the library to what parseFile relies on.
func TestParserStopsAtDuplicates(t *testing.T) {
	if _, err := parser.ParseBytes([]byte("a: 1\na: 2\n"), 0); err == nil {
		t.Error("the parser lets a key stand twice")
	}
}
