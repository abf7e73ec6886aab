package daemon

import (
	"runtime"
	"sync/atomic"
	"time"

	"github.com/avoqado/avoqado-edge/internal/buildinfo"
)

// clock is the system's, except that it does not run behind what the cloud has
// said as long as nothing disciplines the system's: a board without a battery
// boots in the past. The zero clock is the system's. Safe concurrently.
type clock struct {
	hint         atomic.Pointer[hint]
	synchronised func() bool // nil: clockSynchronised
}

// hint is a time that was over when it was heard. It may be old: the
// configuration it comes with is kept by broker and box.
type hint struct{ said, heard time.Time }

// Now returns the time that tokens and commands are judged by.
func (c *clock) Now() time.Time {
	now, h := time.Now(), c.hint.Load()
	if h == nil {
		return now
	}
	least := h.said.Add(now.Sub(h.heard)) // counts on, also if the system's clock is set
	if !now.Before(least) {
		return now
	}
	synchronised := c.synchronised
	if synchronised == nil {
		synchronised = clockSynchronised
	}
	if synchronised() {
		return now
	}
	return least
}

// buildTime is when this program's source was committed; zero: unknown.
func buildTime() time.Time {
	at, err := time.Parse(time.RFC3339, buildinfo.Read().Date)
	if err != nil {
		return time.Time{}
	}
	return at
}

// clockKnown tells whether the clock is disciplined, nil where the system does
// not say.
func clockKnown() func() bool {
	if runtime.GOOS != "linux" {
		return nil
	}
	return clockSynchronised
}

// heard takes what the cloud says the time is. Zero says nothing.
func (c *clock) heard(at time.Time) {
	if !at.IsZero() {
		c.hint.Store(&hint{said: at, heard: time.Now()})
	}
}
