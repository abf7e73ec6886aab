package architecture

import (
	"fmt"
	"go/ast"
	"go/doc"
	"go/token"
	"path"
	"strings"
)

// checkPackageDoc finds packages whose job is not said in one sentence, at one
// place: doc.go, main.go of a command, or the only file there is.
func checkPackageDoc(s source) []string {
	var wrong []string
	for _, pkg := range s.packages() {
		var places []*file
		for _, f := range s.of(pkg) {
			if f.ast.Doc != nil && !strings.HasSuffix(f.ast.Name.Name, "_test") {
				places = append(places, f)
			}
		}
		if len(places) != 1 {
			wrong = append(wrong, fmt.Sprintf("%s: has %d package comments, not one in doc.go", pkg, len(places)))
			continue
		}
		f := places[0]
		name, home, opening := f.ast.Name.Name, "doc.go", "Package "+f.ast.Name.Name+" "
		if name == "main" {
			home, opening = "main.go", "Command "+path.Base(pkg)+" "
		}
		first := new(doc.Package).Synopsis(f.ast.Doc.Text())
		switch {
		case path.Base(f.path) != home && len(s.of(pkg).code()) > 1:
			wrong = append(wrong, fmt.Sprintf("%s: the package comment belongs into %s", f.path, home))
		case !strings.HasPrefix(first, opening):
			wrong = append(wrong, fmt.Sprintf("%s: the package comment does not begin with %q", f.path, opening))
		case !strings.HasSuffix(first, "."):
			wrong = append(wrong, fmt.Sprintf("%s: the package comment does not begin with a whole sentence", f.path))
		}
	}
	return wrong
}

// checkDocumented finds exported names without a comment. A comment on a group
// of constants or variables counts for all of them.
func checkDocumented(s source) []string {
	var wrong []string
	for _, f := range s {
		if strings.HasSuffix(f.path, "_test.go") || f.ast.Name.Name == "main" {
			continue
		}
		missing := func(n ast.Node, name string) {
			wrong = append(wrong, fmt.Sprintf("%s: exported %s has no comment", f.at(n), name))
		}
		for _, fn := range f.functions() {
			if r := receiver(fn); fn.Doc == nil && fn.Name.IsExported() && (r == "" || ast.IsExported(r)) {
				missing(fn, strings.TrimPrefix(r+"."+fn.Name.Name, "."))
			}
		}
		f.specs(func(gen *ast.GenDecl, spec ast.Spec) {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				if spec.Name.IsExported() && spec.Doc == nil && (gen.Doc == nil || gen.Lparen.IsValid()) {
					missing(spec, spec.Name.Name)
				}
			case *ast.ValueSpec:
				for _, name := range spec.Names {
					if name.IsExported() && spec.Doc == nil && spec.Comment == nil && gen.Doc == nil {
						missing(name, name.Name)
					}
				}
			}
		})
	}
	return wrong
}

// checkSizes finds files, functions and interfaces that have grown too large.
func checkSizes(s source) []string {
	var wrong []string
	over := func(where, key, what string, size, limit int) {
		if _, excused := oversized[key]; size > limit && !excused {
			wrong = append(wrong, fmt.Sprintf("%s: %s has %d, more than %d", where, what, size, limit))
		}
	}
	for _, f := range s.code() {
		over(f.path, f.path, "lines: the file", f.fset.File(f.ast.FileStart).LineCount(), maxFileLines)
		for _, fn := range f.functions() {
			name := strings.TrimPrefix(receiver(fn)+"."+fn.Name.Name, ".")
			over(f.at(fn), f.pkg+"."+name, "lines: "+name, f.lines(fn), maxFunctionLines)
		}
		f.specs(func(_ *ast.GenDecl, spec ast.Spec) {
			t, ok := spec.(*ast.TypeSpec)
			if !ok {
				return
			}
			if i, ok := t.Type.(*ast.InterfaceType); ok {
				over(f.at(t), f.pkg+"."+t.Name.Name, "methods: "+t.Name.Name, i.Methods.NumFields(), maxMethods)
			}
		})
	}
	return wrong
}

// checkHabits finds what makes a program hard to stop, to test or to follow:
// init functions, exits outside the door, sleeps in tests, goroutines that
// nobody waits for, variables that everybody can change.
func checkHabits(s source) []string {
	var wrong []string
	note := func(f *file, n ast.Node, text string) { wrong = append(wrong, f.at(n)+": "+text) }
	for _, f := range s {
		for _, fn := range f.functions() {
			if fn.Name.Name == "init" && fn.Recv == nil {
				note(f, fn, "init runs before anybody asked for it: do it in a constructor")
			}
		}
		if f.test {
			for _, use := range f.uses("time", func(m string) bool { return m == "Sleep" }) {
				note(f, use, "time.Sleep in a test: poll with a deadline, or use testing/synctest")
			}
			continue
		}
		if !strings.HasPrefix(f.pkg, "cmd/") {
			for _, use := range f.uses("os", func(m string) bool { return m == "Exit" }) {
				note(f, use, "os.Exit outside cmd skips every deferred close: return an error")
			}
		}
		for _, use := range f.uses("log", func(string) bool { return true }) {
			note(f, use, "package log: use the slog.Logger that the constructor got")
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if g, ok := n.(*ast.GoStmt); ok {
				note(f, g, "bare go statement: use sync.WaitGroup.Go inside Run and wait before returning")
			}
			return true
		})
		wrong = append(wrong, globals(f)...)
	}
	return wrong
}

// globals finds the package-level variables of a file that are none of the
// allowed sorts.
func globals(f *file) []string {
	var wrong []string
	f.specs(func(gen *ast.GenDecl, spec ast.Spec) {
		v, ok := spec.(*ast.ValueSpec)
		if !ok || gen.Tok != token.VAR {
			return
		}
		embedded := embeds(gen.Doc) || embeds(v.Doc)
		for i, name := range v.Names {
			_, excused := packageVars[f.pkg+"."+name.Name]
			allowed := excused || embedded || name.Name == "_"
			if len(v.Values) == len(v.Names) {
				allowed = allowed || isError(name.Name, v.Values[i]) || isRegexp(f, v.Values[i]) || isBytes(v.Values[i])
			}
			if !allowed {
				wrong = append(wrong, fmt.Sprintf(
					"%s: package-level variable %s: pass it to a constructor, or say in packageVars why not", f.at(name), name.Name))
			}
		}
	})
	return wrong
}

func embeds(comment *ast.CommentGroup) bool {
	if comment == nil {
		return false
	}
	for _, c := range comment.List {
		if strings.HasPrefix(c.Text, "//go:embed ") {
			return true
		}
	}
	return false
}

// isError reports whether a variable is a sentinel: named like one and made by
// a constructor.
func isError(name string, value ast.Expr) bool {
	_, call := value.(*ast.CallExpr)
	return call && (strings.HasPrefix(name, "Err") || strings.HasPrefix(name, "err"))
}

func isRegexp(f *file, value ast.Expr) bool {
	call, ok := value.(*ast.CallExpr)
	if !ok {
		return false
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	id, ok := sel.X.(*ast.Ident)
	return ok && id.Name == f.name("regexp") && sel.Sel.Name == "MustCompile"
}

// isBytes reports whether a value is []byte("..."), the constant that Go cannot
// declare as one.
func isBytes(value ast.Expr) bool {
	call, ok := value.(*ast.CallExpr)
	if !ok || len(call.Args) != 1 {
		return false
	}
	slice, ok := call.Fun.(*ast.ArrayType)
	if !ok {
		return false
	}
	element, ok := slice.Elt.(*ast.Ident)
	_, literal := call.Args[0].(*ast.BasicLit)
	return ok && element.Name == "byte" && literal
}
