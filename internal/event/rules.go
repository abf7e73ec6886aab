package event

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// MaySend says whether a client with the role may send the kind, and if not,
// in the words existing clients know.
func (r *Row) MaySend(role Role) *Refusal {
	if slices.Contains(r.Senders, role) {
		return nil
	}
	switch r.Family {
	case Payment:
		if slices.Contains(payers, role) {
			return unauthorised("Role %s not authorized for %s payment events", role, r.Type)
		}
		return unauthorised("Role %s not authorized for payment events", role)
	case Order:
		if slices.Contains(orderers, role) {
			return unauthorised("Role %s not authorized to delete orders", role)
		}
		return unauthorised("Role %s not authorized for order events", role)
	case Alert:
		return unauthorised("Role %s not authorized to send system alerts", role)
	case Plain, Task, Bridge, Session:
	}
	return unauthorised("Role %s not authorized to send %s", role, r.Kind)
}

// MayPublish says whether the role may send any server-to-client kind through
// the HTTP API, as the back-office of the venue does.
func MayPublish(role Role) bool { return slices.Contains(publishers, role) }

func unauthorised(format string, args ...any) *Refusal {
	return Refuse(http.StatusUnauthorized, "role_not_allowed", fmt.Sprintf(format, args...))
}

// CheckPayload applies the row's rules to a client's payload, in the order and
// with the texts of the existing system (contract §3.2–3.4): what must be
// there, what it must be, whose venue it is about. A payload that names no
// venue, and needs none, is about the sender's own, which is venue.
func (r *Row) CheckPayload(o Object, venue string) *Refusal {
	for _, need := range r.Needs {
		switch {
		case need.Amount && !o.Positive(need.Key), !o.Truthy(need.Key) && !o.Truthy(r.twin(need.Key)):
			return missing(need.Text)
		}
	}
	if refusal := r.Choice.check(o); refusal != nil {
		return refusal
	}
	if r.Family == Alert {
		if _, ok := o.Strings("targetRoles"); !ok {
			return missing("targetRoles must be an array of role names")
		}
	}
	if o.Truthy("venueId") && o.String("venueId") != venue {
		return WrongVenue()
	}
	return r.checkKeys(o)
}

// twin returns the member that says the same as key, or "".
func (r *Row) twin(key string) string {
	for _, pair := range r.Twins {
		switch key {
		case pair[0]:
			return pair[1]
		case pair[1]:
			return pair[0]
		}
	}
	return ""
}

func (c *Choice) check(o Object) *Refusal {
	if c.Key == "" || (c.Optional && !o.Truthy(c.Key)) {
		return nil
	}
	value := o.String(c.Key)
	for _, allowed := range c.Values {
		if value == allowed || (c.Fold && strings.EqualFold(value, allowed)) {
			return nil
		}
	}
	text := c.Text
	if strings.HasSuffix(text, ":") {
		said := o.Ident(c.Key)
		text += " " + said[:min(len(said), MaxKey)]
	}
	return missing(text)
}

// checkKeys bounds the identifiers the box keeps beside the payload.
func (r *Row) checkKeys(o Object) *Refusal {
	for _, key := range []string{r.Subject, r.To.one(), "tableId", "orderId", "correlationId"} {
		raw := o.Raw(key)
		if key == "" || raw == nil || string(raw) == "null" {
			continue
		}
		switch {
		case raw[0] == '{' || raw[0] == '[' || raw[0] == 't' || raw[0] == 'f':
			return Refuse(http.StatusBadRequest, "bad_payload", key+" must be a string")
		case len(raw) > MaxKey:
			return Refuse(http.StatusBadRequest, "bad_payload",
				fmt.Sprintf("%s is longer than %d bytes", key, MaxKey))
		}
	}
	if raw := o.Raw("idempotencyKey"); raw != nil && string(raw) != "null" {
		if n := utf8.RuneCountInString(o.String("idempotencyKey")); n < 8 || n > 64 {
			return Refuse(http.StatusBadRequest, "bad_idempotency_key",
				"idempotencyKey must be a string of 8 to 64 characters")
		}
	}
	return nil
}

func missing(text string) *Refusal {
	return Refuse(http.StatusBadRequest, "bad_payload", text)
}

// WrongVenue refuses a sender that names a venue other than its token's.
func WrongVenue() *Refusal {
	return Refuse(http.StatusUnauthorized, "venue_mismatch", "Access denied to specified venue")
}

// AudienceOf returns who hears an event of this kind with this payload. target
// is whom its sender asks for; nil: the kind's own audience, which is the
// people or terminals the payload names, or for an alert the roles; else the
// venue, which includes the table named in it and the kind's extra roles.
func (r *Row) AudienceOf(o Object, target *Audience) Audience {
	if target != nil && !(r.Private && target.Everyone()) {
		return *target
	}
	var a Audience
	switch {
	case r.Family == Alert:
		names, _ := o.Strings("targetRoles")
		for _, name := range names {
			a.Roles = append(a.Roles, Role(name))
		}
	case r.To.Kind == ToUser:
		a.Users = r.To.names(o)
	case r.To.Kind == ToTerminal, r.To.Kind == ToTerminals:
		a.Terminals = r.To.names(o)
	}
	if !a.Everyone() {
		if target != nil {
			a.Except = target.Except
		}
		return a
	}
	if target != nil {
		return *target
	}
	if r.Family == Alert || r.To.Kind != ToVenue {
		return Audience{Venue: true}
	}
	a = Audience{Venue: true, Roles: r.AlsoRoles}
	if table := o.Ident("tableId"); table != "" {
		a.Tables = []string{table}
	}
	return a
}

// one returns the addressee's member if it holds one name.
func (to Addressee) one() string {
	if to.Kind == ToTerminals {
		return ""
	}
	return to.Key
}

// names returns whom the payload names, empty or overlong names left out.
func (to Addressee) names(o Object) []string {
	names := []string{o.Ident(to.Key)}
	if to.Kind == ToTerminals {
		names, _ = o.Strings(to.Key)
	}
	return slices.DeleteFunc(names, func(name string) bool { return name == "" || len(name) > MaxKey })
}

// Stamp is what the box adds to a payload before it is stored.
type Stamp struct {
	CorrelationID string // used when the payload brings none
	Time          time.Time
	User          string // staff id of the sending client; empty from the cloud
	Venue         string // filled in when the payload names none
	ID            string // the natural key, when a Once kind's payload brings none
}

// Enrich returns the payload as the LAN will see it and the correlation id it
// now carries (contract §4.1 with B4: a supplied correlation id is kept). What
// a client says of its own user, time and payment status is replaced; what the
// cloud says stands. What the LAN never sees, and what goes to one terminal's
// card reader, stays as it came.
func (r *Row) Enrich(o Object, s Stamp) (payload []byte, correlationID string) {
	correlationID = o.String("correlationId")
	if r.Bare || r.Inbound {
		return o.Bytes(), correlationID
	}
	set := make([]Member, 0, 5)
	if correlationID == "" {
		correlationID = s.CorrelationID
		set = append(set, Text("correlationId", correlationID))
	}
	fromClient := s.User != ""
	if fromClient || !o.Truthy("timestamp") {
		set = append(set, Text("timestamp", FormatTime(s.Time)))
	}
	if r.Family == Payment && (fromClient || !o.Truthy("status")) {
		set = append(set, Text("status", r.Type))
	}
	if fromClient {
		set = append(set, Text("userId", s.User))
	}
	if !o.Truthy("venueId") {
		set = append(set, Text("venueId", s.Venue))
	}
	if r.Once && o.Ident(r.Subject) == "" {
		set = append(set, Text(r.Subject, s.ID))
	}
	for _, fill := range r.Fill {
		if raw := o.Raw(fill.Key); (raw == nil || string(raw) == "null") && !fromClient {
			set = append(set, fill)
		}
	}
	for _, pair := range r.Twins {
		for i, key := range pair {
			if raw := o.Raw(pair[1-i]); o.Raw(key) == nil && raw != nil {
				set = append(set, Member{Key: key, Value: raw})
			}
		}
	}
	if r.Only != nil {
		o = o.Pick(r.Only...)
	}
	return o.With(set...), correlationID
}

// Expiry returns until when an event is worth showing, as its payload says in
// expiresAt; zero: for ever.
func Expiry(o Object) time.Time {
	at, err := time.Parse(time.RFC3339, o.String("expiresAt"))
	if err != nil {
		return time.Time{}
	}
	return at.UTC().Truncate(time.Millisecond)
}

// FormatTime writes a time as existing clients expect it: ISO 8601, UTC, with
// milliseconds and Z, 24 characters.
func FormatTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
