package uplink

import (
	"math/rand/v2"
	"time"
)

// backoff spaces attempts with decorrelated jitter: each pause is drawn
// between the shortest one and three times the last one. A fleet that lost its
// broker in one moment comes back spread out, and no box waits longer than the
// longest pause.
type backoff struct {
	min, max time.Duration
	last     time.Duration // zero: start over
}

// next returns the next pause, in [min, max].
func (b *backoff) next() time.Duration {
	last := max(b.last, b.min)
	b.last = min(b.max, b.min+rand.N(3*last-b.min+1))
	return b.last
}

func (b *backoff) reset() { b.last = 0 }
