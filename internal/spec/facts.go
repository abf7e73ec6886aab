package spec

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// Key is the kind's name in the document, whose names may hold no colon.
func (e *Event) Key() string { return keyOf(e.Row.Kind) }

func keyOf(kind event.Kind) string { return strings.ReplaceAll(string(kind), ":", ".") }

// Heard reports whether clients get the kind under its own name.
func (e *Event) Heard() bool {
	r := &e.Row
	return !r.Inbound && r.Alias == ""
}

// Travels reports whether the kind goes to the cloud.
func (e *Event) Travels() bool { return !e.Row.Volatile && e.Row.Alias == "" }

// enriched reports whether the box adds its members to what is heard.
func (e *Event) enriched() bool {
	return e.Heard() && !e.Row.Volatile && !e.Row.Bare
}

// From says who may send it.
func (e *Event) From() string {
	r := &e.Row
	var who []string
	switch {
	case r.Terminal:
		who = append(who, "the terminal it is about, whatever its role")
	case len(r.Senders) == len(event.Roles()):
		who = append(who, "any client")
	case r.FromClients():
		who = append(who, "clients with the role "+join(names(r.Senders)))
	}
	if r.Broadcast {
		who = append(who, "the cloud, by a broadcast")
		if r.Alias == "" {
			who = append(who, "back-offices with the role "+join(publishers())+", by POST /api/v1/events")
		}
	}
	if len(who) == 0 {
		if r.Inbound {
			return "Nobody, at the box."
		}
		return "The box."
	}
	return sentence(who)
}

// To says who hears it.
func (e *Event) To() string {
	r := &e.Row
	switch {
	case r.Alias != "":
		return "It is taken for " + string(r.Alias) + "."
	case r.Inbound && r.Volatile:
		return "The box, which tells the venue what comes of it."
	case r.Inbound && !r.FromClients():
		return "Nobody."
	case r.Inbound:
		return "The box and the cloud, no client."
	case r.Family == event.Session:
		return "The one socket it is about."
	case r.Queued:
		return "The terminal it names, alone, once it is here."
	case r.Family == event.Alert:
		return "The roles in targetRoles, else the venue."
	}
	who := "The venue"
	switch r.To.Kind {
	case event.ToUser:
		who = "The member of staff in " + r.To.Key
	case event.ToTerminal:
		who = "The terminal in " + r.To.Key
	case event.ToTerminals:
		who = "The terminals in " + r.To.Key
	case event.ToVenue:
		if len(r.AlsoRoles) > 0 {
			who += " with " + join(names(r.AlsoRoles))
		}
		if r.Volatile {
			return who + "."
		}
		return who + ", and the table in tableId, less the sender."
	}
	if r.Private {
		return who + ", nobody else."
	}
	return who + "; without it the venue."
}

// Kept says whether it is stored, and for how long a client that missed it gets it.
func (e *Event) Kept() string {
	r := &e.Row
	switch {
	case r.Volatile:
		return "Not stored, not replayed, not sent to the cloud."
	case r.Queued:
		return "Stored. Waits for its terminal instead of being replayed."
	case r.Replay == 0:
		return "Stored, not replayed."
	case r.Latest:
		return fmt.Sprintf("Stored. Replayed for %s; of each %s only the newest.", hours(r.Replay), subject(r))
	}
	return fmt.Sprintf("Stored. Replayed for %s.", hours(r.Replay))
}

// About adds the facts of the catalogue to what is written.
func (e *Event) description() string {
	lines := []string{e.About, "Sent by: " + e.From(), "Heard by: " + e.To(), "Kept: " + e.Kept()}
	if e.Row.Refresh != "" {
		lines = append(lines, "The box tells dashboards "+string(e.Row.Refresh)+" besides.")
	}
	return strings.Join(lines, "\n")
}

func subject(r *event.Row) string {
	if r.Subject == "" {
		return "venue"
	}
	return r.Subject
}

func hours(d time.Duration) string { return fmt.Sprintf("%d hours", int(d.Hours())) }

func names(roles []event.Role) []string {
	out := make([]string, len(roles))
	for i, r := range roles {
		out[i] = string(r)
	}
	return out
}

func publishers() []string {
	return names(slices.DeleteFunc(event.Roles(), func(r event.Role) bool { return !event.MayPublish(r) }))
}

func join(list []string) string {
	if len(list) < 2 {
		return strings.Join(list, "")
	}
	return strings.Join(list[:len(list)-1], ", ") + " or " + list[len(list)-1]
}

func sentence(parts []string) string {
	s := strings.Join(parts, "; ")
	return strings.ToUpper(s[:1]) + s[1:] + "."
}

// HeardExample is a payload as clients hear it: what the box makes of Example.
func (e *Event) HeardExample() []byte {
	if !e.enriched() || e.Example == nil {
		return e.Example
	}
	o, err := event.ParseObject(e.Example)
	if err != nil {
		return nil
	}
	payload, _ := e.Row.Enrich(o, event.Stamp{
		CorrelationID: "6f1f5a1e-8a52-4d4a-9f0e-0c4f3a1f2b3c",
		Time:          time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC), Venue: "v1", ID: "c1",
	})
	return payload
}
