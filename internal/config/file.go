package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxFile is the largest configuration or secret file read, in bytes.
const maxFile = 1 << 20

// entry is one key as it stands in a file.
type entry struct {
	form form
	text string // a list's items with commas between them
	line int
}

// readFile reads a whole file that should be small.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if len(content) > maxFile {
		return nil, fmt.Errorf("%s is larger than %s", path, showSize(maxFile))
	}
	return content, nil
}

// parseFile finds the entries of a YAML file by key path, and everything in it
// that is no entry. It walks the syntax tree instead of decoding into a
// struct: a decoder stops at the first problem and speaks of Go types.
func parseFile(name string, content []byte) (entries map[string]entry, problems []Problem) {
	name = filepath.Base(name)
	defer func() {
		// The parser is not ours, and a typing mistake must not end a box.
		if r := recover(); r != nil {
			entries, problems = nil, []Problem{{Source: name, Text: fmt.Sprintf("is not YAML (%v)", r)}}
		}
	}()
	// Editors on Windows put a byte order mark in front, and two characters at
	// the end of a line, which the parser counts as more than one line.
	content = bytes.TrimPrefix(content, []byte("\ufeff"))
	content = bytes.ReplaceAll(content, []byte("\r\n"), []byte("\n"))
	tree, err := parser.ParseBytes(content, 0)
	if err != nil {
		var syntax yaml.Error
		if errors.As(err, &syntax) && syntax.GetToken() != nil && syntax.GetToken().Position != nil {
			return nil, []Problem{{Source: name, Line: syntax.GetToken().Position.Line, Text: syntax.GetMessage()}}
		}
		return nil, []Problem{{Source: name, Text: err.Error()}}
	}
	w := walker{source: name, entries: map[string]entry{}, known: map[string]bool{}}
	for _, k := range keys() {
		w.known[k.path] = true
		if i := strings.IndexByte(k.path, '.'); i > 0 {
			w.known[k.path[:i]] = false
		}
	}
	bodies := 0
	for _, document := range tree.Docs {
		if document.Body == nil {
			continue
		}
		if bodies++; bodies > 1 {
			w.wrong(document.Body, "", "is a second document; there must be one")
			break
		}
		w.mapping("", document.Body)
	}
	return w.entries, w.problems
}

type walker struct {
	source   string
	entries  map[string]entry
	known    map[string]bool // by path: true for a key, false for a section
	problems []Problem
}

func (w *walker) wrong(node ast.Node, path, format string, args ...any) {
	w.problems = append(w.problems, Problem{
		Source: w.source, Line: lineOf(node), Path: path, Text: fmt.Sprintf(format, args...),
	})
}

func lineOf(node ast.Node) int {
	if t := node.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 0
}

// mapping takes the keys of the file, or of a section of it.
func (w *walker) mapping(path string, node ast.Node) {
	switch n := node.(type) {
	case *ast.MappingNode:
		for _, member := range n.Values {
			w.member(path, member)
		}
	case *ast.MappingValueNode: // a mapping of one
		w.member(path, n)
	case *ast.NullNode: // all its keys are commented out
	case *ast.CommentGroupNode:
	default:
		written, _ := read(node)
		if written == untyped {
			w.unsupported(path, node)
			return
		}
		w.wrong(node, path, "is %s, keys are wanted", written)
	}
}

func (w *walker) unsupported(path string, node ast.Node) {
	w.wrong(node, path, "is written with a YAML feature that is not supported here (%s)",
		strings.ToLower(node.Type().String()))
}

func (w *walker) member(parent string, member *ast.MappingValueNode) {
	path := member.Key.GetToken().Value
	if _, plain := member.Key.(*ast.StringNode); !plain {
		w.wrong(member.Key, parent, "%s is not a key", member.Key)
		return
	}
	if parent != "" {
		path = parent + "." + path
	}
	isKey, known := w.known[path]
	switch {
	case !known:
		meant := nearest(path, w.paths())
		if meant != "" {
			meant = fmt.Sprintf("; did you mean %s?", meant)
		}
		w.wrong(member.Key, path, "unknown key%s", meant)
	case !isKey:
		w.mapping(path, member.Value)
	default:
		written, content := read(member.Value)
		if written == untyped {
			w.unsupported(path, member.Value)
			return
		}
		w.entries[path] = entry{written, content, lineOf(member.Key)}
	}
}

// paths lists keys and sections, in the table's order.
func (w *walker) paths() []string {
	var paths []string
	for _, k := range keys() {
		if i := strings.IndexByte(k.path, '.'); i > 0 && (len(paths) == 0 || !strings.HasPrefix(paths[len(paths)-1], k.path[:i])) {
			paths = append(paths, k.path[:i])
		}
		paths = append(paths, k.path)
	}
	return paths
}

// read returns how a value is written, and its text as it stands in the file;
// untyped if it is nothing a configuration needs, such as an alias.
func read(node ast.Node) (form, string) {
	switch n := node.(type) {
	case *ast.StringNode:
		return text, n.Value
	case *ast.LiteralNode:
		return text, n.Value.Value
	case *ast.IntegerNode:
		return integer, n.Token.Value
	case *ast.FloatNode:
		return float, n.Token.Value
	case *ast.InfinityNode, *ast.NanNode:
		return float, node.GetToken().Value
	case *ast.BoolNode:
		return boolean, n.Token.Value
	case *ast.NullNode:
		return nothing, ""
	case *ast.MappingNode, *ast.MappingValueNode:
		return section, ""
	case *ast.SequenceNode:
		items := make([]string, 0, len(n.Values))
		for _, item := range n.Values {
			itemForm, itemText := read(item)
			switch itemForm {
			case text, integer, float:
				items = append(items, itemText)
			case nothing, boolean, list, section:
				return "a list of other things than texts", ""
			default:
				return untyped, ""
			}
		}
		return list, strings.Join(items, ",")
	}
	return untyped, ""
}
