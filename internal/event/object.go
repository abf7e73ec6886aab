package event

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxDepth is how deep a payload may nest. Terminals parse with recursive
// parsers; a payload that would overflow their stack must not reach them.
const MaxDepth = 64

// Errors of [ParseObject] that callers tell apart.
var (
	ErrNotObject = errors.New("payload is not a JSON object")
	ErrTooDeep   = fmt.Errorf("payload nests deeper than %d levels", MaxDepth)
)

// Object is a JSON object whose members can be looked at and replaced without
// touching the bytes of any other: amounts such as 120.50, 1e3 or
// 9007199254740993 leave exactly as they came, in the order they came.
type Object struct {
	raw     []byte
	members []member
}

type member struct {
	key        string
	start, end int // of the value, in raw
}

// Member is a key with its value, already encoded as JSON.
type Member struct {
	Key   string
	Value []byte
}

// Text returns a member whose value is the given string.
func Text(key, value string) Member { return Member{key, quote(value)} }

// ParseObject checks raw against RFC 8259, UTF-8 and [MaxDepth] and finds its
// members. The object keeps raw; the caller must not change it afterwards.
func ParseObject(raw []byte) (Object, error) {
	raw = bytes.Trim(raw, " \t\r\n") // what JSON calls space, which is less than Unicode does
	if len(raw) == 0 || raw[0] != '{' {
		return Object{}, ErrNotObject
	}
	if !utf8.Valid(raw) {
		return Object{}, errors.New("payload is not valid UTF-8")
	}
	o := Object{raw: raw, members: make([]member, 0, 12)}
	s := scanner{b: raw}
	text := string(raw) // of which the names are parts
	end, err := s.object(0, 1, func(at, nameEnd, start, end int) (err error) {
		name := text[at+1 : nameEnd-1]
		if strings.IndexByte(name, '\\') >= 0 {
			name, err = unquote(raw[at:nameEnd])
		}
		o.members = append(o.members, member{name, start, end})
		return err
	})
	if err != nil {
		return Object{}, err
	}
	if end != len(raw) {
		return Object{}, fmt.Errorf("payload has %d bytes after the object", len(raw)-end)
	}
	return o, nil
}

// maxLevels is how deep [Elements] goes, as deep as encoding/json.
const maxLevels = 10_000

// Elements checks raw against RFC 8259 and returns the elements of the array it
// is, as they stand there. They may nest deeper than a payload may.
func Elements(raw []byte) ([]json.RawMessage, error) {
	s := scanner{b: raw, deepest: maxLevels}
	i := s.space(0)
	if i >= len(raw) || raw[i] != '[' {
		return nil, s.fail(i, "an array")
	}
	list := make([]json.RawMessage, 0, 2)
	end, err := s.elements(i, 1, func(start, end int) { list = append(list, raw[start:end:end]) })
	if err != nil {
		return nil, err
	}
	if end = s.space(end); end != len(raw) {
		return nil, s.fail(end, "the end")
	}
	return list, nil
}

// Unquote returns the text of a JSON string as [Elements] returns it; false: it
// is none.
func Unquote(raw []byte) (string, bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return "", false
	}
	text, err := unquote(raw)
	return text, err == nil
}

// Quote encodes a text as a JSON string, without HTML escapes.
func Quote(text string) []byte { return quote(text) }

// Bytes returns the object as it came.
func (o Object) Bytes() []byte { return o.raw }

// Raw returns the encoded value of a member, nil if there is none. Of
// duplicates the last one counts, as in JSON.parse.
func (o Object) Raw(key string) []byte {
	for _, m := range slices.Backward(o.members) {
		if m.key == key {
			return o.raw[m.start:m.end]
		}
	}
	return nil
}

// String returns a member that is a JSON string, else "".
func (o Object) String(key string) string {
	raw := o.Raw(key)
	if len(raw) < 2 || raw[0] != '"' {
		return ""
	}
	s, err := unquote(raw)
	if err != nil {
		return ""
	}
	return s
}

// Ident returns a member that identifies something: a string as it is, a number
// as it is written, else "".
func (o Object) Ident(key string) string {
	raw := o.Raw(key)
	if len(raw) == 0 {
		return ""
	}
	if c := raw[0]; c == '-' || (c >= '0' && c <= '9') {
		return string(raw)
	}
	return o.String(key)
}

// Strings returns a member that is an array of strings; other elements are
// left out. The second result is false if the member is there and no array.
func (o Object) Strings(key string) ([]string, bool) {
	raw := o.Raw(key)
	if raw == nil || string(raw) == "null" {
		return nil, true
	}
	var elements []any
	if json.Unmarshal(raw, &elements) != nil {
		return nil, false
	}
	var list []string
	for _, e := range elements {
		if s, ok := e.(string); ok {
			list = append(list, s)
		}
	}
	return list, true
}

// Truthy reports whether JavaScript would take the member for true, which is
// how the existing system checks that a field is there.
func (o Object) Truthy(key string) bool {
	raw := o.Raw(key)
	if len(raw) == 0 {
		return false
	}
	switch raw[0] {
	case 'n', 'f':
		return false
	case '"':
		return len(raw) > 2
	case 't', '{', '[':
		return true
	}
	n, err := strconv.ParseFloat(string(raw), 64)
	return n != 0 || err != nil
}

// Positive reports whether the member is a number above zero, or a string that
// holds one: prices travel both ways in this system (contract §4.3).
func (o Object) Positive(key string) bool {
	raw := o.Raw(key)
	if len(raw) == 0 {
		return false
	}
	text := string(raw)
	if raw[0] == '"' {
		// Only what JSON itself would call a number: no hex, no "Infinity".
		text = o.String(key)
		s := scanner{b: []byte(text)}
		if end, err := s.number(0); err != nil || end != len(text) {
			return false
		}
	}
	n, err := strconv.ParseFloat(text, 64)
	return n > 0 && (err == nil || math.IsInf(n, 1))
}

// Digest returns a 64-bit fingerprint of the given members as they came, which
// tells a repeat of an event from another one under the same key.
func (o Object) Digest(keys ...string) uint64 {
	h := fnv.New64a()
	for _, key := range keys {
		raw := o.Raw(key)
		_, _ = fmt.Fprintf(h, "%s=%d:", key, len(raw)) // a hash never fails
		_, _ = h.Write(raw)
	}
	return h.Sum64()
}

// With returns the object's bytes with the given members set: replaced where
// they stand, else appended; their keys must differ. All other bytes are unchanged.
func (o Object) With(set ...Member) []byte {
	size := len(o.raw)
	for _, m := range set {
		size += len(m.Key) + len(m.Value) + 4
	}
	out := make([]byte, 0, size)

	done := make([]bool, len(set))
	at := 0
	for _, have := range o.members {
		for i, m := range set {
			if m.Key == have.key {
				out = append(out, o.raw[at:have.start]...)
				out = append(out, m.Value...)
				at = have.end
				done[i] = true
			}
		}
	}
	closing := len(o.raw) - 1
	out = append(out, o.raw[at:closing]...)
	comma := len(o.members) > 0
	for i, m := range set {
		if done[i] {
			continue
		}
		if comma {
			out = append(out, ',')
		}
		comma = true
		out = append(out, quote(m.Key)...)
		out = append(out, ':')
		out = append(out, m.Value...)
	}
	return append(out, '}')
}

// Pick returns an object of the given members alone, those it has, their
// values' bytes unchanged.
func (o Object) Pick(keys ...string) Object {
	var set []Member
	for _, key := range keys {
		if raw := o.Raw(key); raw != nil {
			set = append(set, Member{key, raw})
		}
	}
	picked, _ := ParseObject([]byte("{}")) // always parses
	picked, _ = ParseObject(picked.With(set...))
	return picked
}

// quote encodes s as a JSON string without the HTML escapes that
// encoding/json adds by default.
func quote(s string) []byte {
	if plain(s) {
		b := make([]byte, 0, len(s)+2)
		return append(append(append(b, '"'), s...), '"')
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string always encodes
	return bytes.TrimRight(buf.Bytes(), "\n")
}

// plain reports whether a text stands in JSON as it is. (U+2028 and U+2029, which
// encoding/json escapes for JavaScript of before 2019, are not ASCII.)
func plain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

func unquote(raw []byte) (string, error) {
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1]), nil
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err
}

// scanner walks JSON text by position. It exists because encoding/json cannot
// say where in the text a member's value stands.
type scanner struct {
	b       []byte
	deepest int // levels; 0: MaxDepth
}

func (s *scanner) tooDeep(depth int) bool { return depth > cmp.Or(s.deepest, MaxDepth) }

func (s *scanner) fail(at int, want string) error {
	if at >= len(s.b) {
		return fmt.Errorf("payload ends where %s is expected", want)
	}
	return fmt.Errorf("payload has %q at byte %d where %s is expected", s.b[at], at, want)
}

func (s *scanner) space(i int) int {
	for i < len(s.b) && (s.b[i] == ' ' || s.b[i] == '\t' || s.b[i] == '\n' || s.b[i] == '\r') {
		i++
	}
	return i
}

// value returns the position behind the value that starts at i.
func (s *scanner) value(i, depth int) (int, error) {
	if i >= len(s.b) {
		return 0, s.fail(i, "a value")
	}
	switch c := s.b[i]; {
	case c == '{':
		return s.object(i, depth+1, nil)
	case c == '[':
		return s.array(i, depth+1)
	case c == '"':
		return s.str(i)
	case c == '-' || (c >= '0' && c <= '9'):
		return s.number(i)
	}
	for _, word := range []string{"true", "false", "null"} {
		if bytes.HasPrefix(s.b[i:], []byte(word)) {
			return i + len(word), nil
		}
	}
	return 0, s.fail(i, "a value")
}

func (s *scanner) object(i, depth int, found func(at, nameEnd, start, end int) error) (int, error) {
	if s.tooDeep(depth) {
		return 0, ErrTooDeep
	}
	i = s.space(i + 1)
	if i < len(s.b) && s.b[i] == '}' {
		return i + 1, nil
	}
	for {
		if i >= len(s.b) || s.b[i] != '"' {
			return 0, s.fail(i, "a member name")
		}
		nameEnd, err := s.str(i)
		if err != nil {
			return 0, err
		}
		colon := s.space(nameEnd)
		if colon >= len(s.b) || s.b[colon] != ':' {
			return 0, s.fail(colon, "a colon")
		}
		start := s.space(colon + 1)
		end, err := s.value(start, depth)
		if err != nil {
			return 0, err
		}
		if found != nil {
			if err := found(i, nameEnd, start, end); err != nil {
				return 0, err
			}
		}
		i = s.space(end)
		if i < len(s.b) && s.b[i] == '}' {
			return i + 1, nil
		}
		if i >= len(s.b) || s.b[i] != ',' {
			return 0, s.fail(i, "a comma or the end of the object")
		}
		i = s.space(i + 1)
	}
}

func (s *scanner) array(i, depth int) (int, error) {
	if s.tooDeep(depth) {
		return 0, ErrTooDeep
	}
	return s.elements(i, depth, func(int, int) {})
}

// elements walks the array that starts at i.
func (s *scanner) elements(i, depth int, found func(start, end int)) (int, error) {
	i = s.space(i + 1)
	if i < len(s.b) && s.b[i] == ']' {
		return i + 1, nil
	}
	for {
		end, err := s.value(i, depth)
		if err != nil {
			return 0, err
		}
		found(i, end)
		i = s.space(end)
		if i < len(s.b) && s.b[i] == ']' {
			return i + 1, nil
		}
		if i >= len(s.b) || s.b[i] != ',' {
			return 0, s.fail(i, "a comma or the end of the array")
		}
		i = s.space(i + 1)
	}
}

func (s *scanner) str(i int) (int, error) {
	for j := i + 1; j < len(s.b); j++ {
		switch c := s.b[j]; {
		case c == '"':
			return j + 1, nil
		case c < 0x20:
			return 0, s.fail(j, "a printable character")
		case c == '\\':
			j++
			if j >= len(s.b) {
				return 0, s.fail(j, "an escape")
			}
			if s.b[j] == 'u' {
				if j+4 >= len(s.b) || !isHex(s.b[j+1:j+5]) {
					return 0, s.fail(j, "four hex digits")
				}
				j += 4
			} else if bytes.IndexByte([]byte(`"\/bfnrt`), s.b[j]) < 0 {
				return 0, s.fail(j, "an escape")
			}
		}
	}
	return 0, s.fail(len(s.b), "the end of a string")
}

func isHex(b []byte) bool {
	for _, c := range b {
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F') {
			return false
		}
	}
	return true
}

func (s *scanner) number(i int) (int, error) {
	if i < len(s.b) && s.b[i] == '-' {
		i++
	}
	start := i
	i = s.digits(i)
	if i == start {
		return 0, s.fail(i, "a digit")
	}
	if s.b[start] == '0' && i > start+1 {
		return 0, s.fail(start+1, "no digit behind a leading zero")
	}
	if i < len(s.b) && s.b[i] == '.' {
		start = i + 1
		if i = s.digits(start); i == start {
			return 0, s.fail(i, "a digit")
		}
	}
	if i < len(s.b) && (s.b[i] == 'e' || s.b[i] == 'E') {
		i++
		if i < len(s.b) && (s.b[i] == '+' || s.b[i] == '-') {
			i++
		}
		start = i
		if i = s.digits(start); i == start {
			return 0, s.fail(i, "a digit")
		}
	}
	return i, nil
}

func (s *scanner) digits(i int) int {
	for i < len(s.b) && s.b[i] >= '0' && s.b[i] <= '9' {
		i++
	}
	return i
}
