package event

import (
	"net/http"
	"time"
)

// Refusal is the answer to a sender whose request is not accepted: a name for
// programs, a text for people (the existing clients' texts where the contract
// has one), and whether trying again can help.
type Refusal struct {
	Code       string        // stable name, such as venue_mismatch
	Status     int           // HTTP-like status, the statusCode of an ack
	Text       string        // what the sender reads
	Retryable  bool          // the same request may succeed later
	RetryAfter time.Duration // when to try again; zero: as the sender likes
}

// Error returns the text the sender reads.
func (r *Refusal) Error() string { return r.Text }

// Refuse returns a final refusal: the same request will never be accepted.
func Refuse(status int, code, text string) *Refusal {
	return &Refusal{Code: code, Status: status, Text: text}
}

// RefuseForNow returns a refusal that a retry after the given time can cure.
func RefuseForNow(code, text string, after time.Duration) *Refusal {
	return &Refusal{
		Code: code, Status: http.StatusServiceUnavailable, Text: text,
		Retryable: true, RetryAfter: after,
	}
}
