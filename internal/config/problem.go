package config

import (
	"fmt"
	"strings"
)

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	Source string // a file name, "environment NAME", "flag"; may be empty
	Line   int    // in the file; 0: none
	Path   string // of the key; may be empty
	Text   string
}

// String returns the problem as one line: config.yaml:12: uplink.keepalive:
// 900s is above 600s.
func (p Problem) String() string {
	var parts []string
	switch {
	case p.Line > 0:
		parts = append(parts, fmt.Sprintf("%s:%d", p.Source, p.Line))
	case p.Source != "":
		parts = append(parts, p.Source)
	}
	if p.Path != "" {
		parts = append(parts, p.Path)
	}
	return strings.Join(append(parts, p.Text), ": ")
}

// Error is what [Load] and [Init] return when a configuration is not right:
// all of its problems, in the order of the file.
type Error struct {
	Problems []Problem

	file error // of a file that could not be read; nil: all could
}

// Unwrap returns why a file could not be read, nil if all could.
func (e *Error) Unwrap() error { return e.file }

// Error returns the problems, one on each line.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// level orders the places a value may come from; a higher one wins.
type level int

const (
	fromDefault level = iota
	fromFile
	fromEnvironment
	fromCredential
	fromFlag
)

// origin is where a value came from.
type origin struct {
	level  level
	source string // as in Problem
	line   int
	file   string // the file that held the secret, for secrets kept apart
}

func (o origin) String() string {
	text := o.source
	if o.line > 0 {
		text = fmt.Sprintf("%s:%d", o.source, o.line)
	}
	if o.file != "" {
		text += " (" + o.file + ")"
	}
	return text
}

func (o origin) problem(path, text string) Problem {
	return Problem{Source: o.source, Line: o.line, Path: path, Text: text}
}

// nearest returns the known path a person probably meant, "" if none is near:
// the one with the fewest typing mistakes, else the same key in another section.
func nearest(path string, known []string) string {
	// Who errs more than twice, or in more than a third, meant something else.
	best, fewest := "", min(3, 1+len(path)/3)
	for _, candidate := range known {
		if n := distance(path, candidate); n < fewest {
			best, fewest = candidate, n
		}
	}
	if best != "" {
		return best
	}
	last := path[strings.LastIndexByte(path, '.')+1:]
	for _, candidate := range known {
		if strings.HasSuffix(candidate, "."+last) {
			return candidate
		}
	}
	return ""
}

// distance is the Levenshtein distance of two words.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
