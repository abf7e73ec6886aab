package journal

import (
	"errors"
	"fmt"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// The errors callers branch on.
var (
	// ErrExists says that Create found a journal.
	ErrExists = errors.New("journal exists already")

	// ErrMissing says that Open found no journal. On a box that had one this
	// is an alarm, never a reason to create an empty one.
	ErrMissing = errors.New("no journal")

	// ErrNewer says that the journal was written by a newer version.
	ErrNewer = errors.New("journal is of a newer version")

	// ErrClosed says that the journal takes no more events: it is shutting
	// down. The event was not stored.
	ErrClosed = errors.New("journal is closed")

	// ErrTooLarge says that an event can never be stored.
	ErrTooLarge = errors.New("event is too large for the journal")

	// ErrKeyReuse says that another event was stored under the same key.
	ErrKeyReuse = errors.New("idempotency key was used for another event")

	// ErrNotFound says that no retained event has the given seq or ID.
	ErrNotFound = errors.New("no such event")

	// ErrNoCursor says that nobody is known to have the events of a stopped
	// box: it has no cloud, or its state was lost.
	ErrNoCursor = errors.New("no cursor says who has the events: start the box, and compact while it runs")

	// ErrBeyond says that a cursor was asked to pass the last stored event.
	ErrBeyond = errors.New("cursor beyond the last stored event")

	// ErrDamaged says that a file of the journal cannot be read as written.
	ErrDamaged = errors.New("journal file is damaged")
)

// LockedError says that another process has the journal open.
type LockedError struct {
	Dir string
	PID int // zero if the holder has not written it yet
}

// Error names the journal and the process that holds it.
func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("journal %s is in use by another process", e.Dir)
	}
	return fmt.Sprintf("journal %s is in use by process %d", e.Dir, e.PID)
}

// LostError says that the events From..To cannot be read. Reading goes on
// behind To.
type LostError struct {
	From, To event.Seq // both inclusive
	Err      error     // why; may be nil
}

// Error names the lost range.
func (e *LostError) Error() string {
	text := fmt.Sprintf("events %d to %d are lost", e.From, e.To)
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Lost returns the range, for those who cannot name this type.
func (e *LostError) Lost() (from, to event.Seq) { return e.From, e.To }

// Unwrap returns the reason.
func (e *LostError) Unwrap() error { return e.Err }
