package daemon

import (
	"path/filepath"
	"runtime"
	"time"

	"github.com/avoqado/avoqado-edge/internal/buildinfo"
	"github.com/avoqado/avoqado-edge/internal/clock"
	"github.com/avoqado/avoqado-edge/internal/event"
)

// ClockFile lies in the state directory.
const ClockFile = "clock.json"

func (d *Daemon) openClock(system func() clock.Reading) *clock.Clock {
	return clock.Open(clock.Config{
		Path: filepath.Join(d.cfg.StateDir, ClockFile), Built: buildTime(), System: system, Log: d.log.With("part", "clock"),
	})
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
	return clock.Disciplined
}

// stamped notes how the clock stood that an event has its time from. What came
// from the cloud does not go back there.
func (s store) stamped(e *event.Event) *event.Event {
	if e.Origin != event.Cloud {
		e.Clock = s.clock.Stamp(e.Time)
	}
	return e
}
