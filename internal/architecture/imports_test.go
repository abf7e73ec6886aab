package architecture

import (
	"fmt"
	"slices"
	"strings"
)

// checkArrows finds imports of ours that the table does not allow, and packages
// that it does not know.
func checkArrows(s source) []string {
	var wrong []string
	for _, pkg := range s.packages() {
		if _, ok := arrows[pkg]; !ok {
			wrong = append(wrong, fmt.Sprintf("%s: has no row in the table of arrows", pkg))
		}
	}
	for _, f := range s {
		may, known := arrows[f.pkg]
		if f.test || !known {
			continue
		}
		for _, p := range f.imports() {
			ours, ok := strings.CutPrefix(p, module+"/")
			if !ok {
				continue
			}
			if slices.Contains(testOnly, ours) {
				wrong = append(wrong, fmt.Sprintf("%s: imports %s, which is for tests", f.path, ours))
			} else if !allows(may, ours) {
				wrong = append(wrong, fmt.Sprintf("%s: imports %s; %s may import %v", f.path, ours, f.pkg, may))
			}
		}
	}
	return wrong
}

// checkWalls finds libraries imported outside the packages they live in, those
// without a row, and owners that do not use theirs.
func checkWalls(s source) []string {
	var wrong []string
	used := map[string]bool{} // package and library
	for _, f := range s {
		for _, p := range f.imports() {
			if !external(p) {
				continue
			}
			w := wallOf(p)
			if w == nil {
				wrong = append(wrong, fmt.Sprintf("%s: imports %s, which has no row in the table of walls", f.path, p))
				continue
			}
			if f.test {
				continue
			}
			used[f.pkg+" "+w.library] = true
			if in := slices.Concat(w.owners, w.also); !allows(in, f.pkg) {
				wrong = append(wrong, fmt.Sprintf("%s: imports %s, which lives in %v", f.path, w.library, in))
			}
		}
	}
	for _, w := range walls {
		for _, owner := range w.owners {
			if len(s.of(owner).code()) > 1 && !used[owner+" "+w.library] { // more than its doc.go
				wrong = append(wrong, fmt.Sprintf("%s: no longer imports %s: drop the row or the package", owner, w.library))
			}
		}
	}
	return wrong
}

func allows(list []string, pkg string) bool {
	return slices.Contains(list, pkg) || slices.Equal(list, anything)
}

// external reports whether an import path is neither ours nor the standard
// library's, whose first element has no dot.
func external(p string) bool {
	first, _, _ := strings.Cut(p, "/")
	return strings.Contains(first, ".") && p != module && !strings.HasPrefix(p, module+"/")
}

func wallOf(p string) *wall {
	for i, w := range walls {
		if p == w.library || strings.HasPrefix(p, w.library+"/") {
			return &walls[i]
		}
	}
	return nil
}
