package uplink

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// unreadable is why a message from the cloud is not acted on. The code is one
// of few; the text says what exactly.
type unreadable struct{ code, text string }

func (e *unreadable) Error() string { return e.code + ": " + e.text }

// maxReason bounds what is kept and told of why, which quotes what others said, in
// characters.
const maxReason = 400

func unread(code, format string, args ...any) *unreadable {
	return &unreadable{code, fmt.Sprintf("%.*s", maxReason, fmt.Sprintf(format, args...))}
}

// broadcast is a message on the broadcasts topic.
type broadcast struct {
	ID           string          `json:"id"`
	Event        event.Kind      `json:"event"`
	Payload      json.RawMessage `json:"payload"`
	ExpiresAt    *time.Time      `json:"expiresAt"`
	Target       *event.Audience `json:"target"`
	ExcludeRoles []event.Role    `json:"excludeRoles"`
}

// decodeStrict refuses members it does not know. One of a later contract may
// narrow who hears a broadcast, and leaving it out would tell the wrong people.
func decodeStrict(raw []byte, into any) *unreadable {
	if !utf8.Valid(raw) {
		return unread("not_json", "not valid UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return unread("not_json", "%v", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return unread("not_json", "more after the object")
	}
	return nil
}

// parseBroadcast turns a message into the event to store. now is when the box
// took it; venue is the box's own.
func parseBroadcast(raw []byte, venue string, now time.Time) (*event.Event, *unreadable) {
	var b broadcast
	if bad := decodeStrict(raw, &b); bad != nil {
		return nil, bad
	}
	if b.ID == "" || len(b.ID) > event.MaxKey {
		return nil, unread("bad_id", "id has %d bytes, not 1 to %d", len(b.ID), event.MaxKey)
	}
	row, known := event.Resolve(b.Event)
	if !known || !row.Broadcast {
		return nil, unread("bad_event", "%.64q may not be broadcast", b.Event)
	}
	o, err := event.ParseObject(b.Payload)
	if err != nil {
		return nil, unread("bad_payload", "%v", err)
	}
	audience, bad := b.audience(row, o)
	if bad != nil {
		return nil, bad
	}
	subject := row.SubjectOf(o)
	if subject == "" && row.Once {
		subject = b.ID
	}
	if len(subject) > event.MaxKey {
		return nil, unread("bad_payload", "%s is longer than %d bytes", row.Subject, event.MaxKey)
	}
	e := &event.Event{
		ID: event.ID(b.ID), Kind: row.Kind, Origin: event.Cloud, Class: row.Class, Time: now,
		Subject: subject, Audience: audience, Expires: event.Expiry(o),
		DedupKey: event.DedupKey("broadcast", b.ID),
	}
	if b.ExpiresAt != nil {
		e.Expires = b.ExpiresAt.UTC()
		if e.Expires.IsZero() { // which would be never
			e.Expires = time.Unix(0, 0).UTC()
		}
	}
	e.Payload, e.CorrelationID = row.Enrich(o, event.Stamp{
		CorrelationID: event.NewCorrelationID(), Time: now, Venue: venue, ID: subject,
	})
	if len(e.Payload) > event.MaxPayload {
		return nil, unread("too_large", "payload has %d bytes, more than %d", len(e.Payload), event.MaxPayload)
	}
	return e, nil
}

// audience returns who hears the broadcast. No target is the kind's own
// audience, an empty one the venue, as far as the kind is not private; a target
// whose lists are all empty names nobody, and is not taken for everybody.
func (b *broadcast) audience(row *event.Row, o event.Object) (event.Audience, *unreadable) {
	var a event.Audience
	switch {
	case b.Target == nil:
		a = row.AudienceOf(o, nil)
	default:
		a = *b.Target
		listed := a.Tables != nil || a.Orders != nil || a.Roles != nil || a.Users != nil || a.Terminals != nil
		if !a.Venue && a.Everyone() {
			if listed {
				return a, unread("bad_target", "target names nobody")
			}
			a.Venue = true
		}
		a = row.AudienceOf(o, &a)
	}
	for _, list := range [][]string{a.Tables, a.Orders, a.Users, a.Terminals} {
		for _, id := range list {
			if id == "" || len(id) > event.MaxKey {
				return a, unread("bad_target", "an id has %d bytes, not 1 to %d", len(id), event.MaxKey)
			}
		}
	}
	a.Except = append(a.Except, b.ExcludeRoles...)
	return a, nil
}
