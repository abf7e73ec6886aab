package simulate

import (
	"encoding/json"
	"maps"
	"sync"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// remembered is how many of the last events an ear knows again.
const remembered = 1 << 14

// Heard is what one client heard of the venue's events; answers and greetings
// to the client itself are not counted.
type Heard struct {
	Events   uint64                `json:"events"`
	Sales    uint64                `json:"sales"` // of those: payments and orders
	Kinds    map[event.Kind]uint64 `json:"kinds,omitempty"`
	Replayed uint64                `json:"replayed"` // marked as such
	Doubled  uint64                `json:"doubled"`  // came twice and was not marked as replayed
	Foreign  uint64                `json:"foreign"`  // of another venue: must stay zero
	Echoed   uint64                `json:"echoed"`   // its own, sent back: must stay zero
}

// add sums up what several clients heard.
func (h *Heard) add(other Heard) {
	h.Events += other.Events
	h.Sales += other.Sales
	h.Replayed += other.Replayed
	h.Doubled += other.Doubled
	h.Foreign += other.Foreign
	h.Echoed += other.Echoed
	if h.Kinds == nil {
		h.Kinds = make(map[event.Kind]uint64)
	}
	for kind, n := range other.Kinds {
		h.Kinds[kind] += n
	}
}

// ear listens for one client across its connections: a copy that comes again
// on the next one is as wrong as on the same. Methods are safe for concurrent use.
type ear struct {
	venue string
	own   string // prefix of its own idempotency keys; empty: it sends nothing

	mu    sync.Mutex // guards below
	heard Heard
	seen  map[string]bool
	order []string // ring of what is in seen
	next  int
}

func newEar(venue, own string) *ear {
	return &ear{
		venue: venue, own: own,
		heard: Heard{Kinds: make(map[event.Kind]uint64)},
		seen:  make(map[string]bool),
	}
}

// hear takes one event as it came off the wire.
func (e *ear) hear(name string, payload json.RawMessage) {
	kind := event.Kind(name)
	row, known := event.Lookup(kind)
	if !known || row.Family == event.Session {
		return
	}
	o, err := event.ParseObject(payload)
	if err != nil {
		o = event.Object{} // counted all the same
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heard.Events++
	e.heard.Kinds[kind]++
	if row.Family == event.Payment || row.Family == event.Order {
		e.heard.Sales++
	}
	if venue := o.String("venueId"); venue != "" && venue != e.venue {
		e.heard.Foreign++
	}
	if key := o.String("idempotencyKey"); e.own != "" && len(key) > len(e.own) && key[:len(e.own)] == e.own {
		e.heard.Echoed++
	}
	replayed := string(o.Raw("replayed")) == "true"
	if replayed {
		e.heard.Replayed++
	}
	id := o.Ident("eventId")
	if id == "" {
		id = o.Ident("correlationId")
	}
	if id == "" || row.Volatile {
		return // nothing to know it by, or nothing that promises to come once
	}
	// The kind belongs to it: one business act may make several events.
	if id = name + " " + id; e.know(id) && !replayed {
		e.heard.Doubled++
	}
}

// know reports whether id was heard before, and keeps it.
func (e *ear) know(id string) bool {
	if e.seen[id] {
		return true
	}
	if len(e.order) < remembered {
		e.order = append(e.order, id)
	} else {
		delete(e.seen, e.order[e.next])
		e.order[e.next] = id
		e.next = (e.next + 1) % remembered
	}
	e.seen[id] = true
	return false
}

func (e *ear) figures() Heard {
	e.mu.Lock()
	defer e.mu.Unlock()
	h := e.heard
	h.Kinds = maps.Clone(h.Kinds)
	return h
}
