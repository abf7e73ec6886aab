package outages

import (
	"slices"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// Outage is a time in which nothing reached the cloud. Times are UTC to the
// millisecond. It is JSON as it is kept, and as the API shows it: names of
// members are a contract, new ones may be added.
type Outage struct {
	ID    uint64    `json:"id"` // counts from 1 over the life of the box
	Start time.Time `json:"start"`
	End   time.Time `json:"end,omitzero"` // zero: it lasts

	// Cause is what kept the way closed for most of the time: a name of the
	// uplink's, or [Power], [Crash], [Stopped] or [Backend]. Place is where that
	// is, see [PlaceOf]. Evidence is what the box saw, Remedy what to do.
	Cause    string `json:"cause"`
	Place    string `json:"place"`
	Evidence string `json:"evidence"`
	Remedy   string `json:"remedy"`
	Broker   string `json:"broker,omitempty"`

	// Causes is all that was found to be wrong, in its order, at most
	// [maxCauses].
	Causes []Stretch `json:"causes"`

	// After and Through are the positions between which the held events lie:
	// the last one the cloud had when it began, and the last one stored when it
	// ended or, while it lasts, now.
	After   event.Seq `json:"after"`
	Through event.Seq `json:"through"`

	Held      Held       `json:"held"`
	Terminals []Terminal `json:"terminals"` // whose events were held, most first

	// Late counts what the cloud has got since, more than [LateAfter] after it
	// happened. Synced is when it had all that was held; zero: not yet, or
	// another outage came before and nobody looked.
	Late   Late      `json:"late"`
	Synced time.Time `json:"synced,omitzero"`

	// Repeats counts what came more than once until Synced and took effect
	// once. After a power cut it says at least how many.
	Repeats Repeats `json:"repeats"`

	// ClockUnsure says that the clock ran behind, so that the times are not to
	// be trusted.
	ClockUnsure bool `json:"clockUnsure,omitempty"`
}

// Stretch is a time in which one thing was wrong.
type Stretch struct {
	From     time.Time `json:"from"`
	Cause    string    `json:"cause"`
	Evidence string    `json:"evidence"`
	Remedy   string    `json:"remedy"`
}

// Held is what waited in the box for the cloud.
type Held struct {
	Events  uint64            `json:"events"`
	Bytes   uint64            `json:"bytes"` // of payload
	Classes map[string]uint64 `json:"classes"`
	Money   []Money           `json:"money"` // by kind and currency
}

// Money is the sum of the amounts that events of one kind named, exactly, in
// the currency they named; terminals' requests in cents name none.
type Money struct {
	Kind       string `json:"kind"`
	Currency   string `json:"currency"`
	Events     uint64 `json:"events"`
	Amount     string `json:"amount"`               // decimal
	Unreadable uint64 `json:"unreadable,omitempty"` // events whose amount is no number, not in the sum
}

// Terminal is how much of a terminal's was held. ID is empty for what other
// programs and people sent, and for terminals beyond [maxTerminals].
type Terminal struct {
	ID     string    `json:"id"`
	Events uint64    `json:"events"`
	Money  uint64    `json:"money"` // of the events
	First  time.Time `json:"first"`
}

// Late is what the cloud got later than it should have.
type Late struct {
	Events    uint64            `json:"events"`
	Classes   map[string]uint64 `json:"classes"`
	LongestMs int64             `json:"longestMs"`
}

// Repeats counts what was suppressed.
type Repeats struct {
	Terminals  uint64 `json:"terminals"`  // events that were sent again and answered with the first receipt
	Broadcasts uint64 `json:"broadcasts"` // of the cloud, that were stored before
	Resent     uint64 `json:"resent"`     // events sent to the cloud again
}

// LateAfter is how old an event may be when the cloud has it.
const LateAfter = 10 * time.Second

// The bounds of one outage and of all.
const (
	maxCauses    = 24
	maxTerminals = 50
	maxMoney     = 50
	maxEvidence  = 400
	keepMost     = 200
	keepFor      = 90 * 24 * time.Hour
)

// The causes that are not on the way, but at one of its ends.
const (
	Power   = "power"   // the machine went off without an orderly stop
	Crash   = "crash"   // the program ended without one, the machine ran on
	Stopped = "stopped" // the program was stopped, for a minute or more
	Backend = "backend" // the link was up, and the back-end confirmed nothing
)

// Places are where a cause can be.
const (
	PlaceLAN         = "lan"
	PlaceRouter      = "router"
	PlaceInternet    = "internet"
	PlaceDNS         = "dns"
	PlaceBroker      = "broker"
	PlaceCredentials = "credentials"
	PlaceBackend     = "backend"
	PlacePower       = "power"
	PlaceBox         = "box"
	PlaceDrill       = "drill" // an outage that was asked for
)

// PlaceOf says where a cause is: whose business it is.
func PlaceOf(cause string) string {
	switch cause {
	case "no_lan":
		return PlaceLAN
	case "no_router", "no_route":
		return PlaceRouter
	case "dns", "dns_lie":
		return PlaceDNS
	case "broker_down", "no_answer", "tls", "protocol", "subscription":
		return PlaceBroker
	case "credentials", "certificate":
		return PlaceCredentials
	case Backend, "parked_full":
		return PlaceBackend
	case Power:
		return PlacePower
	case Crash, Stopped, "clock", "journal", "overflow", "client_id_takeover", "renewed":
		return PlaceBox
	case "interrupted":
		return PlaceDrill
	}
	return PlaceInternet // no_internet, captive_portal, proxy, and a line that was lost or silent
}

// remedyOf is for the causes that the uplink does not know.
func remedyOf(cause string) string {
	switch cause {
	case Power:
		return "Give the box a power supply of its own, better one with a battery; what was acknowledged is safe."
	case Crash:
		return "Read `journalctl -u avoqado-edge` of that time and send it to support; what was acknowledged is safe."
	case Stopped:
		return "Nothing if it was meant: the box was stopped in order."
	case Backend:
		return "Nothing to do in the venue: have the back-end looked at; the events are safe in the box."
	}
	return ""
}

// vague are causes that only say that the line was lost, which is all that is
// known until the first look around.
func vague(cause string) bool { return cause == "lost" || cause == "timeout" }

// judge sets the cause: what was wrong for the longest time until now, where
// possible something that says more than that the line was lost.
func (o *Outage) judge(now time.Time) {
	if !o.End.IsZero() {
		now = o.End
	}
	lasted, best := map[string]time.Duration{}, -1
	for i, s := range o.Causes {
		to := now
		if i+1 < len(o.Causes) {
			to = o.Causes[i+1].From
		}
		lasted[s.Cause] += max(0, to.Sub(s.From))
	}
	for i, s := range o.Causes {
		if best < 0 || vague(o.Causes[best].Cause) && !vague(s.Cause) ||
			vague(s.Cause) == vague(o.Causes[best].Cause) && lasted[s.Cause] > lasted[o.Causes[best].Cause] {
			best = i
		}
	}
	if best < 0 {
		return
	}
	s := o.Causes[best]
	o.Cause, o.Place, o.Evidence, o.Remedy = s.Cause, PlaceOf(s.Cause), s.Evidence, s.Remedy
}

// add notes what is wrong from now on.
func (o *Outage) add(s Stretch) {
	s.From = s.From.UTC().Truncate(time.Millisecond)
	if len(s.Evidence) > maxEvidence {
		s.Evidence = s.Evidence[:maxEvidence] + "…"
	}
	if s.Remedy == "" {
		s.Remedy = remedyOf(s.Cause)
	}
	if n := len(o.Causes); n > 0 && o.Causes[n-1].Cause == s.Cause {
		return
	}
	if len(o.Causes) == maxCauses { // a link that flaps: keep how it began and the newest
		o.Causes = slices.Delete(o.Causes, maxCauses/2, maxCauses/2+1)
	}
	o.Causes = append(o.Causes, s)
}

// Lasted is how long it took, until now if it lasts.
func (o *Outage) Lasted(now time.Time) time.Duration {
	if !o.End.IsZero() {
		now = o.End
	}
	return max(0, now.Sub(o.Start))
}
