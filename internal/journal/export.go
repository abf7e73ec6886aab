package journal

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// Progress is told how many of how many events are done. It is called often
// and must not block; nil tells nobody.
type Progress func(done, total uint64)

func (p Progress) tell(done, total uint64) {
	if p != nil {
		p(done, total)
	}
}

// part is the progress of one of several passes over the same events, from the
// first, 0, on.
func (p Progress) part(pass, passes uint64) Progress {
	return func(done, total uint64) { p.tell((pass*total+min(done, total))/passes, total) }
}

// Selection says which events to export; the zero value means all.
type Selection struct {
	After event.Seq  // only those behind it
	Kind  event.Kind // only those of this kind; empty: of all
}

// history is what is exported and backed up: an open journal, or that of a
// stopped box.
type history interface {
	First() event.Seq
	Stored() event.Seq
	Read(after event.Seq, maxEvents, maxBytes int) ([]event.Event, error)
}

// Export writes every event of a selection that is stored by now, in order, as
// one JSON object a line, with every field it has. Payloads are written byte
// for byte, except that a line break in one becomes a space. In the place of
// events that cannot be read stands {"lost":{"from":N,"to":N,"reason":"…"}}.
// It may be called concurrently with everything else.
func (j *Journal) Export(ctx context.Context, w io.Writer, sel Selection) error {
	if err := export(ctx, j, w, sel, nil); err != nil {
		return fmt.Errorf("export journal %s: %w", j.dir, err)
	}
	return nil
}

func export(ctx context.Context, h history, w io.Writer, sel Selection, p Progress) error {
	var line []byte
	through := h.Stored()
	after := max(sel.After, h.First()-1)
	total := uint64(max(through, after) - after)
	write := func(seq event.Seq) error {
		p.tell(uint64(seq-after), total)
		_, err := w.Write(append(line, '\n'))
		return err
	}
	return visit(ctx, h, after, through, visitor{
		event: func(e *event.Event) (err error) {
			if sel.Kind != "" && e.Kind != sel.Kind {
				return nil
			}
			if line, err = appendEvent(line[:0], e); err != nil {
				return err
			}
			return write(e.Seq)
		},
		lost: func(l *LostError) error {
			line = appendLost(line[:0], l)
			return write(l.To)
		},
		trimmed: func(event.Seq) error { return nil }, // it is not kept any more
	})
}

// A read takes this much at a time, so that a long walk costs little memory.
const (
	visitEvents = 1024
	visitBytes  = 1 << 20
)

// visitor is called with what a walk through a history meets, in order.
type visitor struct {
	event   func(*event.Event) error
	lost    func(*LostError) error
	trimmed func(through event.Seq) error // what was before is not kept any more
}

// visit walks through the events behind after, up to through.
func visit(ctx context.Context, h history, after, through event.Seq, v visitor) error {
	for after < through {
		if err := ctx.Err(); err != nil {
			return err
		}
		events, err := h.Read(after, visitEvents, visitBytes)
		if lost, ok := errors.AsType[*LostError](err); ok {
			part := LostError{From: max(lost.From, after+1), To: min(lost.To, through), Err: lost.Err}
			if part.To <= after {
				return err // makes no progress
			}
			if err := v.lost(&part); err != nil {
				return err
			}
			after = part.To
			continue
		}
		if err != nil {
			return err
		}
		if len(events) == 0 {
			return v.trimmed(through)
		}
		if first := events[0].Seq; first > after+1 {
			if err := v.trimmed(first - 1); err != nil {
				return err
			}
		}
		for i := range events {
			if events[i].Seq > through {
				return nil
			}
			if err := v.event(&events[i]); err != nil {
				return err
			}
			after = events[i].Seq
		}
	}
	return nil
}

// plainEvent is an event as JSON, without its payload. It has every field that a
// record has; names follow the box's HTTP API.
type plainEvent struct {
	Seq           event.Seq      `json:"seq"`
	Epoch         event.Epoch    `json:"epoch"`
	ID            event.ID       `json:"id,omitempty"`
	Kind          event.Kind     `json:"event,omitempty"`
	Class         string         `json:"class,omitempty"`
	Origin        string         `json:"origin,omitempty"`
	Time          time.Time      `json:"time,omitzero"`
	TimeErrorMs   int64          `json:"timeErrorMs,omitempty"` // these three: event.Clock
	Boot          string         `json:"boot,omitempty"`
	UpMs          int64          `json:"upMs,omitempty"`
	Subject       string         `json:"subject,omitempty"`
	Actor         string         `json:"actor,omitempty"`
	Role          event.Role     `json:"role,omitempty"`
	Terminal      string         `json:"terminal,omitempty"`
	CorrelationID string         `json:"correlationId,omitempty"`
	Audience      event.Audience `json:"audience,omitzero"`
	Sender        string         `json:"sender,omitempty"`
	Expires       time.Time      `json:"expiresAt,omitzero"`
	DedupKey      string         `json:"dedupKey,omitempty"`
	Digest        uint64         `json:"digest,omitempty,string"` // more than a JavaScript number holds
}

// appendEvent appends an event as one JSON object on one line.
func appendEvent(b []byte, e *event.Event) ([]byte, error) {
	var head bytes.Buffer
	enc := json.NewEncoder(&head)
	enc.SetEscapeHTML(false)
	err := enc.Encode(&plainEvent{
		Seq: e.Seq, Epoch: e.Epoch, ID: e.ID, Kind: e.Kind, Class: e.Class.String(), Origin: e.Origin.String(),
		Time: inRange(e.Time), TimeErrorMs: e.Clock.Error.Milliseconds(), Boot: e.Clock.Boot, UpMs: e.Clock.Up.Milliseconds(),
		Subject: e.Subject, Actor: e.Actor, Role: e.Role, Terminal: e.Terminal,
		CorrelationID: e.CorrelationID, Audience: e.Audience, Sender: e.Sender, Expires: inRange(e.Expires),
		DedupKey: e.DedupKey, Digest: e.Digest,
	})
	if err != nil {
		return nil, fmt.Errorf("event %d: %w", e.Seq, err)
	}
	b = append(b, bytes.TrimSuffix(head.Bytes(), []byte("}\n"))...)
	if !json.Valid(e.Payload) {
		b = append(b, `,"payloadBase64":"`...)
		b = base64.StdEncoding.AppendEncode(b, e.Payload)
		return append(b, `"}`...), nil
	}
	b = append(b, `,"payload":`...)
	start := len(b)
	b = append(b, e.Payload...)
	for i := start; i < len(b); i++ {
		if b[i] == '\n' || b[i] == '\r' { // inside JSON only between words
			b[i] = ' '
		}
	}
	return append(b, '}'), nil
}

func appendLost(b []byte, l *LostError) []byte {
	reason := "cannot be read"
	if l.Err != nil {
		reason = l.Err.Error()
	}
	text, _ := json.Marshal(reason) // a string always encodes
	return fmt.Appendf(b, `{"lost":{"from":%d,"to":%d,"reason":%s}}`, l.From, l.To, text)
}

// faithful reports whether appendEvent's line gives the very same event back.
// Nearly all do; a line break inside a payload is enough not to.
func faithful(e *event.Event) bool {
	for _, text := range []string{
		string(e.ID), string(e.Kind), string(e.Epoch), e.Subject, e.Actor, string(e.Role), e.Terminal,
		e.CorrelationID, e.Sender, e.DedupKey,
	} {
		if !utf8.ValidString(text) {
			return false
		}
	}
	a := &e.Audience
	for _, list := range [][]string{a.Tables, a.Orders, a.Users, a.Terminals} {
		for _, text := range list {
			if !utf8.ValidString(text) {
				return false
			}
		}
	}
	for _, list := range [][]event.Role{a.Roles, a.Except} {
		for _, role := range list {
			if !utf8.ValidString(string(role)) {
				return false
			}
		}
	}
	p := e.Payload
	return inRange(e.Time).Equal(e.Time) && inRange(e.Expires).Equal(e.Expires) &&
		classOf(e.Class.String()) == e.Class && originOf(e.Origin.String()) == e.Origin &&
		len(bytes.TrimSpace(p)) == len(p) && !bytes.ContainsAny(p, "\n\r") && json.Valid(p)
}

// inRange returns no time for one that JSON cannot hold.
func inRange(t time.Time) time.Time {
	if year := t.Year(); year < 1 || year > 9999 {
		return time.Time{}
	}
	return t
}

// classOf is the inverse of Class.String; zero for a name it does not know.
func classOf(name string) event.Class {
	for c := event.Telemetry; c <= event.Money; c++ {
		if c.String() == name {
			return c
		}
	}
	return 0
}

// originOf is the inverse of Origin.String; zero for a name it does not know.
func originOf(name string) event.Origin {
	for o := event.Terminal; o <= event.Cloud; o++ {
		if o.String() == name {
			return o
		}
	}
	return 0
}
