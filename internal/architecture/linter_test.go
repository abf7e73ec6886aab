package architecture

import (
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

type depguardRule struct {
	Files []string
	Allow []string
	Deny  []struct{ Pkg string }
}

// TestLinterAgrees compares the arrows and walls that the linter shows in the
// editor with the tables here, which are the ones that count.
func TestLinterAgrees(t *testing.T) {
	text, err := os.ReadFile("../../.golangci.yml")
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Linters struct {
			Settings struct {
				Depguard struct{ Rules map[string]depguardRule }
			}
		}
	}
	if err := yaml.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	rules := config.Linters.Settings.Depguard.Rules

	for _, pkg := range slices.Sorted(maps.Keys(arrows)) {
		if slices.Contains(testOnly, pkg) || pkg == "." || pkg == "configs" || pkg == "systemd" {
			continue
		}
		name := strings.ReplaceAll(strings.TrimPrefix(pkg, "internal/"), "/", "-")
		if _, own := rules[name]; !own {
			name, _, _ = strings.Cut(name, "-")
		}
		var allowed []string
		for _, p := range rules[name].Allow {
			allowed = append(allowed, strings.TrimPrefix(p, module+"/"))
		}
		slices.Sort(allowed)
		want := slices.DeleteFunc(slices.Clone(arrows[pkg]), func(p string) bool { return p == "." }) // to the linter the name of all of ours
		if len(rules[name].Deny) == 0 || !slices.Equal(allowed, want) {
			t.Errorf("%s: the linter allows %v, the table %v", pkg, allowed, want)
		}
	}

	homes := map[string][]string{}
	for _, rule := range rules {
		for _, d := range rule.Deny {
			if strings.HasPrefix(d.Pkg, module) {
				continue
			}
			for _, f := range rule.Files {
				if in := path.Dir(strings.TrimPrefix(f, "!**/")); strings.HasPrefix(f, "!**/") && !slices.Contains(testOnly, in) {
					homes[d.Pkg] = append(homes[d.Pkg], in)
				}
			}
		}
	}
	for library, in := range homes {
		w := wallOf(library)
		if w == nil {
			t.Errorf("%s: walled by the linter, without a row in the table", library)
			continue
		}
		want := slices.Concat(w.owners, w.also)
		slices.Sort(in)
		slices.Sort(want)
		if !slices.Equal(in, want) {
			t.Errorf("%s: the linter lets %v import it, the table %v", library, in, want)
		}
	}
	for _, w := range walls {
		if len(w.owners) > 0 && homes[w.library] == nil {
			t.Errorf("%s: walled by the table, not by the linter", w.library)
		}
	}
}
