package architecture

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestSnippets holds the code in the pages for developers against the files that
// tests run. AVOQADO_EDGE_UPDATE=1 writes it anew.
func TestSnippets(t *testing.T) {
	root := filepath.Join("..", "..")
	// Where it is cut from, its language, the code.
	snippet := regexp.MustCompile("(?s)<!-- (\\S+)#(\\S+) -->\n```(kotlin|js)\n(.*?)```")
	shown := map[string]bool{}
	files := map[string]map[string]string{}
	for _, page := range []string{"TERMINALS.md", "BACKEND.md"} {
		raw, err := os.ReadFile(filepath.Join(root, page))
		if err != nil {
			t.Fatal(err)
		}
		fences := regexp.MustCompile("(?m)^```(kotlin|js|java|javascript|ts)$").FindAll(raw, -1)
		found := snippet.FindAllSubmatch(raw, -1)
		if len(found) == 0 || len(fences) != len(found) {
			t.Errorf("%s shows code %d times and says %d times where it is from", page, len(fences), len(found))
		}
		written := snippet.ReplaceAllFunc(raw, func(whole []byte) []byte {
			parts := snippet.FindSubmatch(whole)
			file, region := string(parts[1]), string(parts[2])
			if files[file] == nil {
				files[file] = regions(t, filepath.Join(root, file))
			}
			code, ok := files[file][region]
			if !ok {
				t.Errorf("%s: %s has no region %s", page, file, region)
			}
			shown[file+"#"+region] = true
			return []byte("<!-- " + file + "#" + region + " -->\n```" + string(parts[3]) + "\n" + code + "```")
		})
		switch {
		case slices.Equal(written, raw):
		case os.Getenv("AVOQADO_EDGE_UPDATE") != "":
			err = os.WriteFile(filepath.Join(root, page), written, 0o644) //nolint:gosec // a page
		default:
			t.Errorf("%s does not show the code as it is: AVOQADO_EDGE_UPDATE=1 go test -run TestSnippets ./internal/architecture", page)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for file, all := range files {
		for region := range all {
			if !shown[file+"#"+region] {
				t.Errorf("no page shows the region %s of %s", region, file)
			}
		}
	}
}

// regions returns what stands between "// region NAME" and "// endregion" in a
// file, moved to the left.
func regions(t *testing.T, path string) map[string]string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	all, name, indent := map[string]string{}, "", ""
	for line := range strings.Lines(string(raw)) {
		before, begins, ok := strings.Cut(line, "// region ")
		switch {
		case ok:
			name, indent = strings.TrimSpace(begins), before
		case strings.TrimSpace(line) == "// endregion":
			name = ""
		case name != "" && strings.TrimSpace(line) == "":
			all[name] += "\n"
		case name != "":
			all[name] += strings.TrimPrefix(line, indent)
		}
	}
	if name != "" || len(all) == 0 {
		t.Errorf("%s: a region has no end, or there is none", path)
	}
	return all
}
