package span

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/zishang520/socket.io/servers/socket/v3"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// A message on the wire is one line of JSON, its header, and the payload behind
// it, byte for byte:
//
//	{"from":"HLV3…","v":1,"venue":"venue_1","n":7,"event":"order_updated","to":["venue:venue_1"]}
//	{"orderId":"7","total":19.990}

// Message is a broadcast of one box as the others hear it.
type Message struct {
	Event   string
	To      []string // rooms, at least one; each socket hears it once
	Except  []string // rooms and sockets that do not hear it
	Payload []byte   // a JSON object, as its box sends it

	// Gap says, in a message with nothing else, that others before it never
	// came: the box was alone, or not there yet.
	Gap bool
}

// lasting reports whether a client that missed an event of this name lacks
// something; of heartbeats and logs it does not.
func lasting(name string) bool {
	row, ok := event.Lookup(event.Kind(name))
	return name != "" && (!ok || !row.Volatile)
}

const (
	version  = 1         // of the form of messages
	maxRooms = 1024      // in To and Except together
	maxName  = 128       // bytes of an event name
	maxBytes = 512 << 10 // of a message: a payload and its rooms
)

// spans reports whether an event of this name goes from box to box: what one
// socket and its box say to each other does not, nor what a box asks of a terminal:
// the Redis must not be a way to have a card charged.
func spans(name string) bool {
	row, ok := event.Lookup(event.Kind(name))
	return name != "" && len(name) <= maxName && (!ok || row.Family != event.Session && row.Shown() && row.Alias == "") &&
		!socket.SOCKET_RESERVED_EVENTS.Has(name)
}

// header begins with From: by the first bytes of a message a box knows its own.
type header struct {
	From   string   `json:"from"` // names the run of a box, not the box
	V      int      `json:"v"`
	Venue  string   `json:"venue"`
	N      uint64   `json:"n"`               // lasting messages of this run, with this one
	Event  string   `json:"event,omitempty"` // empty: a sign of life
	To     []string `json:"to,omitempty"`
	Except []string `json:"except,omitempty"`
}

func (h *header) encode(payload []byte) []byte {
	head, _ := json.Marshal(h) // strings and numbers always encode
	b := make([]byte, 0, len(head)+1+len(payload))
	b = append(b, head...)
	b = append(b, '\n')
	return append(b, payload...)
}

// mark is what all messages of one run begin with.
func mark(from string) []byte { return fmt.Appendf(nil, `{"from":%q,`, from) }

// Why a message is refused: the names in [Stats.Refused].
const (
	refusedForm    = "malformed"
	refusedVersion = "version"
	refusedVenue   = "venue"
	refusedEvent   = "event"
	refusedRooms   = "rooms"
	refusedPayload = "payload"
	refusedSize    = "too_large"
)

// decode reads a message and checks all of it, since whoever may write to the
// Redis may have made it. reason is empty if it is good. venue is this box's;
// room reports whether it may be spoken to.
func decode(b []byte, venue string, room func(string) bool) (h header, payload []byte, reason string) {
	if len(b) > maxBytes {
		return h, nil, refusedSize
	}
	head, payload, ok := bytes.Cut(b, []byte{'\n'})
	if !ok || json.Unmarshal(head, &h) != nil || h.From == "" || len(h.From) > maxName {
		return h, nil, refusedForm
	}
	switch {
	case h.V != version:
		return h, nil, refusedVersion
	case h.Venue != venue:
		return h, nil, refusedVenue
	case h.Event == "" && len(payload) == 0:
		return h, nil, "" // a sign of life
	case !spans(h.Event):
		return h, nil, refusedEvent
	case len(h.To) == 0 || len(h.To)+len(h.Except) > maxRooms ||
		slices.Contains(h.Except, "") || slices.ContainsFunc(h.To, func(r string) bool { return !room(r) }):
		return h, nil, refusedRooms
	}
	if _, err := event.ParseObject(payload); err != nil {
		return h, nil, refusedPayload
	}
	return h, payload, ""
}
