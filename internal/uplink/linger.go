package uplink

import (
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// gatherFor is how long what nobody waits for may wait for company.
const gatherFor = 200 * time.Millisecond

// gather reads on, and reports whether what is read is to wait for more: it
// fills no message, the journal has no more, and all of it is of a class of
// which nobody waits for the next one. Money, orders and alerts never wait, nor
// does what stands before them, and nothing waits while there is a backlog.
func (s *sender) gather(now time.Time) (bool, error) {
	s.gathers = false
	if s.built != nil {
		return false, nil
	}
	begun := len(s.pending) > 0
	if err := s.load(); err != nil {
		return false, err
	}
	if !begun {
		s.since = now
	}
	if s.more || len(s.pending) == 0 {
		return false, nil // a backlog, or nothing
	}
	size := 0
	for i := range s.pending {
		size += len(s.pending[i].Payload) + 512
	}
	if size >= s.most(s.toBroker.bytes) || !now.Before(s.since.Add(gatherFor)) {
		return false, nil
	}
	travelling := 0
	for i := range s.pending {
		e := &s.pending[i]
		switch {
		case !s.enc.sends(e):
		case e.Class != event.Telemetry && e.Class != event.Service:
			return false, nil
		default:
			travelling++
		}
	}
	s.gathers = travelling > 0 && travelling < maxBatchEvents
	return s.gathers, nil
}

// gatheredAt is when what waits goes; zero: nothing does.
func (s *sender) gatheredAt() time.Time {
	if !s.gathers {
		return time.Time{}
	}
	return s.since.Add(gatherFor)
}
