package event

import (
	"fmt"
	"net/http"
	"slices"
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
	case Plain:
	}
	return unauthorised("Role %s not authorized to send %s", role, r.Kind)
}

// MayPublish says whether the role may send any server-to-client kind through
// the HTTP API, as the back-office of the venue does.
func MayPublish(role Role) bool { return slices.Contains(publishers, role) }

func unauthorised(format string, args ...any) *Refusal {
	return Refuse(http.StatusUnauthorized, "role_not_allowed", fmt.Sprintf(format, args...))
}

// CheckPayload applies the family's rules to a client's payload, in the order
// and with the texts of the existing system (contract §3.2–3.4). venue is the
// sender's own.
func (r *Row) CheckPayload(o Object, venue string) *Refusal {
	switch r.Family {
	case Payment:
		if !o.Truthy("paymentId") {
			return missing("Payment ID is required")
		}
		if !o.Positive("amount") {
			return missing("Valid payment amount is required")
		}
		if !o.Truthy("currency") {
			return missing("Currency is required")
		}
	case Order:
		if !o.Truthy("orderId") {
			return missing("Order ID is required")
		}
	case Alert:
		if refusal := checkAlert(o); refusal != nil {
			return refusal
		}
	case Plain:
		// A publisher's or a terminal's: only the venue is checked, and a
		// payload that names none is taken to be about the sender's own.
		if !o.Truthy("venueId") {
			return r.checkKeys(o)
		}
	}
	if !o.Truthy("venueId") {
		return missing("Venue ID is required")
	}
	if o.String("venueId") != venue {
		return WrongVenue()
	}
	return r.checkKeys(o)
}

func checkAlert(o Object) *Refusal {
	for _, need := range []struct{ key, text string }{
		{"level", "Alert level is required"},
		{"title", "Alert title is required"},
		{"message", "Alert message is required"},
		{"venueId", "Venue ID is required"},
	} {
		if !o.Truthy(need.key) {
			return missing(need.text)
		}
	}
	switch o.String("level") {
	case "info", "warning", "error", "critical":
	default:
		return missing("Invalid alert level. Must be one of: info, warning, error, critical")
	}
	if _, ok := o.Strings("targetRoles"); !ok {
		return missing("targetRoles must be an array of role names")
	}
	return nil
}

// checkKeys bounds the identifiers the box keeps beside the payload.
func (r *Row) checkKeys(o Object) *Refusal {
	for _, key := range []string{r.Subject, "tableId", "orderId", "correlationId"} {
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

// AudienceOf returns who hears an event of this kind with this payload: the
// venue, which includes the table named in it and the kind's extra roles, or
// for an alert the roles it names.
func (r *Row) AudienceOf(o Object) Audience {
	if r.Family == Alert {
		if names, _ := o.Strings("targetRoles"); len(names) > 0 {
			var a Audience
			for _, name := range names {
				a.Roles = append(a.Roles, Role(name))
			}
			return a
		}
		return Audience{Venue: true}
	}
	a := Audience{Venue: true, Roles: r.AlsoRoles}
	if table := o.Ident("tableId"); table != "" {
		a.Tables = []string{table}
	}
	return a
}

// Stamp is what the box adds to a payload before it is stored.
type Stamp struct {
	CorrelationID string // used when the payload brings none
	Time          time.Time
	User          string // staff id of the sending client; empty from the cloud
	Venue         string // filled in when the payload names none
}

// Enrich returns the payload as the LAN will see it and the correlation id it
// now carries (contract §4.1 with B4: a supplied correlation id is kept). What
// a client says of its own user, time and payment status is replaced; what the
// cloud says stands.
func (r *Row) Enrich(o Object, s Stamp) (payload []byte, correlationID string) {
	set := make([]Member, 0, 5)
	correlationID = o.String("correlationId")
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
	return o.With(set...), correlationID
}

// FormatTime writes a time as existing clients expect it: ISO 8601, UTC, with
// milliseconds and Z, 24 characters.
func FormatTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
