package event

import (
	"time"

	"github.com/google/uuid"
)

// MaxPayload is the largest payload an event may carry, in bytes. An event
// must fit into one MQTT message of 128 KiB together with its envelope, so a
// larger one is refused at the door, where the sender still hears about it.
const MaxPayload = 120 << 10

// MaxKey is the longest identifier (idempotency key, table, order, terminal,
// user) an event may carry, in bytes.
const MaxKey = 128

type (
	// Seq is the position of an event in its epoch: 1, 2, 3, … without gaps.
	// Zero means "before the first".
	Seq uint64

	// Epoch names one unbroken history of a box. Epochs are UUIDv7 strings and
	// compare in the order they were made; a new one begins only when history
	// was lost or a backup was restored.
	Epoch string

	// ID identifies an event for ever. It is the sender's idempotency key where
	// there is one, else a UUIDv7 made by the box.
	ID string

	// Kind is the Socket.IO event name, such as payment_completed.
	Kind string

	// Role is a staff role as it stands in the token.
	Role string
)

// The staff roles (contract §5).
const (
	SuperAdmin Role = "SUPERADMIN"
	Owner      Role = "OWNER"
	Admin      Role = "ADMIN"
	Manager    Role = "MANAGER"
	Waiter     Role = "WAITER"
	Cashier    Role = "CASHIER"
	Kitchen    Role = "KITCHEN"
	Host       Role = "HOST"
	Viewer     Role = "VIEWER"
)

// Roles lists every known role, most powerful first.
func Roles() []Role {
	return []Role{SuperAdmin, Owner, Admin, Manager, Waiter, Cashier, Kitchen, Host, Viewer}
}

// Known reports whether r is one of the staff roles.
func (r Role) Known() bool {
	switch r {
	case SuperAdmin, Owner, Admin, Manager, Waiter, Cashier, Kitchen, Host, Viewer:
		return true
	}
	return false
}

// Origin says which of the three writers an event came in by.
type Origin uint8

// The origins. Their numbers are on disk and never change meaning.
const (
	Terminal Origin = 1 // a Socket.IO client on the LAN
	Local    Origin = 2 // the HTTP API of the box, or its operator
	Cloud    Origin = 3 // the central backend; never sent back to it
)

// String returns the origin as it stands in the MQTT contract.
func (o Origin) String() string {
	switch o {
	case Terminal:
		return "terminal"
	case Local:
		return "local"
	case Cloud:
		return "cloud"
	}
	return "unknown"
}

// Audience says who hears an event: the union of its parts, each socket once,
// less the excluded roles. The zero value means the whole venue. Its JSON form
// is the target of a broadcast in the MQTT contract.
type Audience struct {
	Venue     bool     `json:"venue,omitempty"`
	Tables    []string `json:"tables,omitempty"`
	Orders    []string `json:"orders,omitempty"`
	Roles     []Role   `json:"roles,omitempty"`
	Users     []string `json:"users,omitempty"`
	Terminals []string `json:"terminals,omitempty"`

	// Except lists roles that do not hear it, whatever else includes them.
	Except []Role `json:"excludeRoles,omitempty"`
}

// Everyone reports whether the audience is the whole venue.
func (a Audience) Everyone() bool {
	return a.Venue ||
		len(a.Tables)+len(a.Orders)+len(a.Roles)+len(a.Users)+len(a.Terminals) == 0
}

// Event is one thing that happened in the venue, as it was accepted. Once
// stored it never changes; nobody may modify a stored event or its slices.
type Event struct {
	Epoch Epoch // set by the journal
	Seq   Seq   // set by the journal

	ID     ID
	Kind   Kind
	Origin Origin
	Class  Class
	Time   time.Time // when the box accepted it, by its clock then, UTC, to the millisecond
	Clock  Clock     // how that clock stood

	Subject       string // natural key, such as the paymentId; may be empty
	Actor         string // staff id of the sender; empty from the cloud
	Role          Role   // role of the sender; empty from the cloud
	Terminal      string // normalised serial of the sending terminal; may be empty
	CorrelationID string

	Audience Audience
	Sender   string    // id of the sending socket, which does not hear its own event
	Expires  time.Time // zero: never. Past it the event is kept but not shown.

	// DedupKey is what a repeat of this event would carry again, scoped by who
	// may repeat it; empty when nobody can. Digest tells a repeat from another
	// event that reuses the key. See [DedupKey] and [Object.Digest].
	DedupKey string
	Digest   uint64

	// Payload is the JSON object as the LAN sees it. Its bytes are passed on
	// and stored as they are, never parsed and written again.
	Payload []byte
}

// Clock says how a clock stood when it told the time. The zero Clock says
// nothing.
type Clock struct {
	// Error is how far the time was off at most; 0: nobody knew.
	Error time.Duration
	// Boot names a boot of the machine, a UUID, and Up says how long ago it was:
	// by these the time can be put right once it is known when the boot was.
	// Empty: unknown.
	Boot string
	Up   time.Duration
}

// TimeQuality says where the time of an event is from.
type TimeQuality string

// The qualities.
const (
	TimeSynced    TimeQuality = "synced"    // of a clock that was right within the error
	TimeCorrected TimeQuality = "corrected" // put right since, within the error
	TimeUnknown   TimeQuality = "unknown"   // of a clock that may have been wrong by anything
)

// Timing is when an event happened, as well as is known.
type Timing struct {
	Time    time.Time
	Quality TimeQuality
	Error   time.Duration // how far Time may be off; unknown: 0
}

// Expired reports whether the event is past its expiry at the given time.
func (e *Event) Expired(now time.Time) bool {
	return !e.Expires.IsZero() && !now.Before(e.Expires)
}

// Receipt is what a sender gets once its event is on disk.
type Receipt struct {
	ID    ID
	Epoch Epoch
	Seq   Seq
	Time  time.Time // when the event (the first one, for a duplicate) was accepted

	// Duplicate is set when an event with the same key was stored before. The
	// receipt is then the first one's, and nothing was stored or sent again.
	Duplicate bool
}

// DedupKey scopes a sender's key so that two writers, or two kinds of event,
// cannot take each other's key: scope is the kind for clients (a terminal may
// use one key for a payment's whole life) and "broadcast" or "command" for the
// cloud.
func DedupKey(scope, key string) string {
	if key == "" {
		return ""
	}
	return scope + "/" + key
}

// NewID returns a fresh, time-ordered identifier (UUIDv7, RFC 9562 §5.7).
func NewID() ID { return ID(newUUIDv7()) }

// NewEpoch returns an epoch that compares greater than the one before it, even
// when the clock of the machine has gone backwards since.
func NewEpoch(before Epoch) Epoch {
	next := Epoch(newUUIDv7())
	if next > before {
		return next
	}
	// The clock is behind: the time of the one before, and a millisecond. The
	// rest stays random, since two machines may be made of the same backup.
	was, errWas := uuid.Parse(string(before))
	id, errIs := uuid.Parse(string(next))
	if errWas == nil && errIs == nil {
		copy(id[:6], was[:6])
		for i := 5; i >= 0; i-- { // count up, carrying
			id[i]++
			if id[i] != 0 {
				break
			}
		}
		next = Epoch(id.String())
	}
	if next > before {
		return next
	}
	// Not one of ours, or the last there is: anything that sorts behind it will do.
	return before + "~"
}

// NewCorrelationID returns a random UUIDv4, the form existing clients know.
func NewCorrelationID() string { return uuid.NewString() }

func newUUIDv7() string {
	id, err := uuid.NewV7()
	if err != nil {
		// The kernel's random source does not fail on any system we run on;
		// v4 panics there too, so there is nothing better to fall back to.
		return uuid.NewString()
	}
	return id.String()
}
