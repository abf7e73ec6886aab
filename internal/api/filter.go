package api

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
)

// Matches reports whether an event has all words of a text somewhere, in large
// or small letters: in its name, subject, actor, terminal, sequence number, id
// or payload. It finds what the console page's filter finds (filter.js there),
// but for the page's own names of events.
func (r *Record) Matches(text string) bool {
	all := strings.ToLower(strings.Join([]string{
		r.Event, r.Subject, r.Actor, r.Terminal, strconv.FormatUint(r.Seq, 10), r.ID, spelled(r.Payload),
	}, " "))
	for word := range strings.FieldsSeq(strings.ToLower(text)) {
		if !strings.Contains(all, word) {
			return false
		}
	}
	return true
}

// spelled returns JSON without spaces between its parts, and its letters as
// such and not as escapes: as the page writes it. Numbers stay as they came.
func spelled(raw json.RawMessage) string {
	var v any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if d.Decode(&v) != nil {
		return string(raw)
	}
	var out strings.Builder
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if enc.Encode(v) != nil {
		return string(raw)
	}
	return out.String()
}
