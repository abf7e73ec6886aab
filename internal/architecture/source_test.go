package architecture

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// file is one Go file, parsed.
type file struct {
	path string // from the root of the repository, with slashes
	pkg  string // its folder
	test bool   // ends in _test.go, or belongs to a package for tests alone
	ast  *ast.File
	fset *token.FileSet
}

// source is every Go file of the repository, in the order of their paths.
type source []*file

// load parses all Go files below the root of fsys, except generated ones.
func load(fsys fs.FS) (source, error) {
	var all source
	err := walk(fsys, func(name string) error {
		if path.Ext(name) != ".go" {
			return nil
		}
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		f := &file{path: name, pkg: path.Dir(name), fset: token.NewFileSet()}
		f.test = strings.HasSuffix(name, "_test.go") || slices.Contains(testOnly, f.pkg)
		f.ast, err = parser.ParseFile(f.fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return fmt.Errorf("parse: %w", err)
		}
		all = append(all, f)
		return nil
	})
	return all, err
}

// walk calls visit with every regular file that is not generated. What lies in
// a testdata folder is data, not ours to judge.
func walk(fsys fs.FS, visit func(name string) error) error {
	return fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (slices.Contains(generated, d.Name()) || d.Name() == "testdata"):
			return fs.SkipDir
		case d.Type().IsRegular():
			return visit(name)
		}
		return nil
	})
}

// packages groups the files by package folder, each once, sorted.
func (s source) packages() []string {
	var pkgs []string
	for _, f := range s {
		pkgs = append(pkgs, f.pkg)
	}
	slices.Sort(pkgs)
	return slices.Compact(pkgs)
}

// of returns the files of one package.
func (s source) of(pkg string) source {
	return slices.DeleteFunc(slices.Clone(s), func(f *file) bool { return f.pkg != pkg })
}

// code returns the files that are not for tests.
func (s source) code() source {
	return slices.DeleteFunc(slices.Clone(s), func(f *file) bool { return f.test })
}

// at says where a node stands, as path:line.
func (f *file) at(n ast.Node) string {
	return fmt.Sprintf("%s:%d", f.path, f.fset.Position(n.Pos()).Line)
}

// lines returns how many lines a node takes.
func (f *file) lines(n ast.Node) int {
	return f.fset.Position(n.End()).Line - f.fset.Position(n.Pos()).Line + 1
}

// imports returns the import paths of the file.
func (f *file) imports() []string {
	var paths []string
	for _, spec := range f.ast.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err == nil {
			paths = append(paths, p)
		}
	}
	return paths
}

// name returns what the file calls the given import, or "".
func (f *file) name(importPath string) string {
	for _, spec := range f.ast.Imports {
		switch {
		case spec.Path.Value != strconv.Quote(importPath):
		case spec.Name != nil:
			return spec.Name.Name
		default:
			return path.Base(importPath)
		}
	}
	return ""
}

// uses returns the places where the file names a member of an import, such as
// os.Exit, that matches.
func (f *file) uses(importPath string, match func(member string) bool) []*ast.SelectorExpr {
	name := f.name(importPath)
	if name == "" {
		return nil
	}
	var found []*ast.SelectorExpr
	ast.Inspect(f.ast, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if id, ok := sel.X.(*ast.Ident); ok && id.Name == name && match(sel.Sel.Name) {
				found = append(found, sel)
			}
		}
		return true
	})
	return found
}

// functions returns the functions and methods the file declares.
func (f *file) functions() []*ast.FuncDecl {
	var found []*ast.FuncDecl
	for _, d := range f.ast.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok {
			found = append(found, fn)
		}
	}
	return found
}

// receiver returns the type a method belongs to, without pointer and type
// parameters, or "" for a function.
func receiver(fn *ast.FuncDecl) string {
	if fn.Recv == nil || len(fn.Recv.List) == 0 {
		return ""
	}
	t := fn.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.IndexListExpr:
			t = x.X
		case *ast.Ident:
			return x.Name
		default:
			return ""
		}
	}
}

// specs calls visit with every type, constant and variable declared at the top
// of the file.
func (f *file) specs(visit func(*ast.GenDecl, ast.Spec)) {
	for _, d := range f.ast.Decls {
		if gen, ok := d.(*ast.GenDecl); ok {
			for _, spec := range gen.Specs {
				visit(gen, spec)
			}
		}
	}
}
