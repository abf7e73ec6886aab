package spec

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
)

// plain is a text that YAML takes for itself without quotes.
var plain = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_ ,;()'./-]*[A-Za-z0-9.)]$`)

// appendYAML appends a value as YAML, its lines two blanks in for each depth. The
// library that reads YAML would build a tree of all tokens first, 20 MB of it
// for this document.
func appendYAML(b []byte, v any, depth int) []byte {
	margin := bytes.Repeat([]byte("  "), depth)
	switch v := v.(type) {
	case object:
		for _, m := range v {
			b = append(b, margin...)
			b = append(appendText(b, m.Key.(string), depth), ':')
			b = appendBehind(b, m.Value, depth)
		}
	case []any:
		for _, item := range v {
			at := len(b)
			if !hasLines(item) {
				b = append(append(b, margin...), '-')
				b = appendBehind(b, item, depth)
				continue
			}
			b = appendYAML(b, item, depth+1)
			b[at+2*depth] = '-' // in the margin of its first line
		}
	}
	return b
}

// appendBehind appends a value behind its key.
func appendBehind(b []byte, v any, depth int) []byte {
	switch text, isText := v.(string); {
	case hasLines(v):
		return appendYAML(append(b, '\n'), v, depth+1)
	case isText:
		b = appendText(append(b, ' '), text, depth+1)
	default:
		b = appendJSON(append(b, ' '), v)
	}
	return append(b, '\n')
}

// hasLines reports whether a value takes lines of its own.
func hasLines(v any) bool {
	switch v := v.(type) {
	case object:
		return len(v) > 0
	case []any:
		return len(v) > 0
	}
	return false
}

func appendText(b []byte, text string, depth int) []byte {
	words := []string{"true", "false", "null", "yes", "no", "on", "off"}
	switch {
	case plain.MatchString(text) && !slices.Contains(words, strings.ToLower(text)):
		return append(b, text...)
	case strings.Contains(text, "\n") && !strings.HasPrefix(text, " ") && !strings.HasSuffix(text, "\n"):
		b = append(b, "|-"...)
		for line := range strings.SplitSeq(text, "\n") {
			b = append(b, '\n')
			if line != "" {
				b = append(append(b, strings.Repeat("  ", depth)...), line...)
			}
		}
		return b
	}
	return appendJSON(b, text) // what JSON quotes YAML reads
}
