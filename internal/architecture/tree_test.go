package architecture

import (
	"bytes"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// machinePath finds paths that exist on one person's machine only.
var machinePath = regexp.MustCompile(`(^|[^\w.$}/-])/(home|Users|root|work)/\w`)

// checkTree finds top-level folders that do not belong, and files that name a
// path of the machine they were written on, or the registry a lock file was
// made from.
func checkTree(fsys fs.FS) ([]string, error) {
	var wrong []string
	top, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return nil, err
	}
	for _, d := range top {
		if d.IsDir() && !strings.HasPrefix(d.Name(), ".") &&
			!slices.Contains(topFolders, d.Name()) && !slices.Contains(generated, d.Name()) {
			wrong = append(wrong, fmt.Sprintf("%s: a new top-level folder; there are %v", d.Name(), topFolders))
		}
	}
	err = walk(fsys, func(name string) error {
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		if !utf8.Valid(text) {
			return nil
		}
		for i, line := range bytes.Split(text, []byte("\n")) {
			if machinePath.Match(line) {
				wrong = append(wrong, fmt.Sprintf("%s:%d: a path of one machine", name, i+1))
			}
			if strings.HasSuffix(name, "package-lock.json") && bytes.Contains(line, []byte(`"resolved"`)) {
				wrong = append(wrong, fmt.Sprintf("%s:%d: the registry this lock file was made from", name, i+1))
			}
		}
		return nil
	})
	return wrong, err
}

// checkRows finds packages without a row in the table of a document, and rows
// that say something else about imports than the table of arrows.
func checkRows(s source, document string) []string {
	rows := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|.*\\| ([^|]+) \\|$").FindAllStringSubmatch(document, -1) {
		rows[row[1]] = row[2]
	}
	var wrong []string
	for _, pkg := range s.packages() {
		said, named := rows[pkg]
		may := make([]string, 0, len(arrows[pkg]))
		for _, other := range arrows[pkg] {
			may = append(may, strings.TrimPrefix(other, "internal/"))
		}
		list := strings.Fields(said)
		slices.Sort(may)
		slices.Sort(list)
		switch {
		case strings.HasPrefix(pkg, "scripts/"), said == "tests only":
		case !named:
			wrong = append(wrong, fmt.Sprintf("%s: has no row in ARCHITECTURE.md", pkg))
		case said == "–" && len(may) == 0:
		case !slices.Equal(list, may):
			wrong = append(wrong, fmt.Sprintf("%s: ARCHITECTURE.md says that it may import %s; it may %s", pkg, said, strings.Join(may, " ")))
		}
	}
	return wrong
}
