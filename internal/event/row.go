package event

import (
	"slices"
	"time"
)

// Class orders kinds by what may be given up first when the box is short of
// room: a higher class is refused later. Money is never dropped. The numbers
// are on disk and never change meaning.
type Class uint8

// The classes, first to go first.
const (
	Telemetry Class = 1 // heartbeats, logs, progress: volatile
	Service   Class = 2 // menu, printers, notifications
	Alerts    Class = 3 // system alerts, messages to staff
	Orders    Class = 4 // orders, tables, shifts
	Money     Class = 5 // payments
)

// String returns the class as metrics and status name it.
func (c Class) String() string {
	switch c {
	case Telemetry:
		return "telemetry"
	case Service:
		return "service"
	case Alerts:
		return "alerts"
	case Orders:
		return "orders"
	case Money:
		return "money"
	}
	return "unknown"
}

// Family is a group of kinds that one rule serves.
type Family uint8

// The families.
const (
	Plain   Family = iota // no rule of its own
	Payment               // contract §3.2
	Order                 // contract §3.3
	Alert                 // contract §3.4
	Task                  // what a terminal is asked to do or read, and what became of it (§3.8, §3.9)
	Bridge                // what the card reader of a terminal is asked for, and what came of it (§3.7)
	Session               // what one socket and the box say to each other (§1, §2): never stored
)

// Row is everything the box knows about one kind of event. Code that serves a
// kind reads its row; there is no branch per kind where a row says it all.
type Row struct {
	Kind     Kind
	Class    Class
	Family   Family
	Type     string // of a payment, order or alert: its name within the family, the eventType of an ack
	Volatile bool   // never stored nor sent to the cloud

	// Senders may send it from the LAN; empty: no client may. A kind that
	// clients send is heard by the others, unless it is Inbound: then it is for
	// the box and the cloud. Publishers may besides send every Broadcast kind
	// through the box's HTTP API, as a back-office does.
	Senders []Role
	Inbound bool

	// Terminal says that a terminal sends it about itself: the socket must be
	// the terminal that the payload names, and a failure is told in the ack
	// alone, without statusCode.
	Terminal bool

	// Queued says that it waits for its terminal and is delivered to it alone,
	// however long that takes, instead of being shown when it is stored.
	Queued bool

	// Alias is the kind it is another name of: it is taken for that one.
	Alias Kind

	// Broadcast says the cloud, and publishers, may send it to clients.
	Broadcast bool

	// What a client's payload must hold, in the order it is checked, with the
	// texts of the existing system.
	Needs  []Need
	Choice Choice

	// Subject is the member that holds the natural key. Identity lists the
	// members that make two events under one idempotency key the same event.
	// Once says that the subject is such a key itself: each sender says it once.
	Subject  string
	Identity []string
	Once     bool

	// Who hears it: the people or terminals that the member To names, where the
	// payload has it; else the venue, and AlsoRoles, and the table it names.
	// Private says that nobody else may hear it, whatever its sender asks for.
	To        Addressee
	Private   bool
	AlsoRoles []Role

	// Replay is for how long after it was stored a client that missed it gets
	// it on reconnect; zero: not replayed. Latest says that only the newest one
	// of its ReplayKey is worth it.
	Replay time.Duration
	Latest bool

	// What the box does to the payload. Bare: nothing at all. Only: it drops
	// all other members. Fill: these where the payload has none. Twins: one of
	// each pair where only the other is there.
	Bare  bool
	Only  []string
	Fill  []Member
	Twins [][2]string

	// The ack of success: its message, and the members it repeats.
	Done string
	Echo []string

	// Refresh is what the dashboards are told besides, for them to fetch anew.
	Refresh Kind
}

// Need is a member that must be there.
type Need struct {
	Key    string
	Text   string // what is answered otherwise
	Amount bool   // and must be a number above zero
}

// Choice is a member that must have one of some values, in any case of letters
// if Fold is set; the zero value asks for nothing.
type Choice struct {
	Key      string
	Values   []string
	Fold     bool
	Optional bool   // may be absent
	Text     string // what is answered otherwise; a colon at its end is followed by the value
}

// Addressee is a member that names who an event is for.
type Addressee struct {
	Key  string
	Kind AddresseeKind
}

// AddresseeKind says what the member's value or values are.
type AddresseeKind uint8

// What an addressee is.
const (
	ToVenue     AddresseeKind = iota // nobody in particular
	ToUser                           // a member of staff
	ToTerminal                       // a terminal
	ToTerminals                      // an array of terminals
)

// FromClients reports whether clients may send the kind.
func (r *Row) FromClients() bool { return len(r.Senders) > 0 }

// Shown reports whether the fan-out shows the kind to its audience, and a
// replay to who missed it.
func (r *Row) Shown() bool { return !r.Inbound && !r.Queued }

// ReplayKey says of what an event is the latest state: two events of Latest
// kinds with equal keys replace each other.
func (r *Row) ReplayKey(e *Event) string { return string(r.Kind) + "\x00" + e.Subject }

// Lookup returns the row of a kind. The row is shared; do not change it.
func Lookup(k Kind) (*Row, bool) {
	r, ok := byKind[k]
	return r, ok
}

// Resolve returns the row of a kind, or of the kind it is another name of.
func Resolve(k Kind) (*Row, bool) {
	r, ok := byKind[k]
	if ok && r.Alias != "" {
		r, ok = byKind[r.Alias]
	}
	return r, ok
}

// SubjectOf returns the natural key of a payload, "" if it has none.
func (r *Row) SubjectOf(o Object) string {
	if r.Subject == "" {
		return ""
	}
	return o.Ident(r.Subject)
}

// Catalogue returns a copy of the whole table, rows in the order of the
// contract.
func Catalogue() []Row { return slices.Clone(catalogue) }
