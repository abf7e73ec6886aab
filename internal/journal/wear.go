package journal

import (
	"sync/atomic"
	"time"
)

const (
	// forecastAfter is how long a box must have run before its wear says
	// anything: a start writes more than the hours behind it.
	forecastAfter = time.Hour

	// fileSystemShare is what a journaling file system writes besides, as a
	// factor: measured 1.1 with many events a commit and 1.25 with one.
	fileSystemShare = 1.25
)

// Wear is what the journal does to the disk, since Open.
type Wear struct {
	BytesWritten   int64   `json:"bytesWritten"`  // to its files, with their growth; the file system adds its own
	Fsyncs         int64   `json:"fsyncs"`        // fdatasync, fsync and directory syncs
	BytesPerEvent  float64 `json:"bytesPerEvent"` // of both, with all that is written besides events; zero: no event yet
	FsyncsPerEvent float64 `json:"fsyncsPerEvent"`
	LifeYears      float64 `json:"lifeYears"` // until the endurance is used up, at this rate; zero: not known (yet)
}

// wear works out what was written for so many events in so long. endurance is
// the bytes the disk is good for, its TBW; zero: not known.
func wear(written, syncs int64, events uint64, ran time.Duration, endurance int64) Wear {
	w := Wear{BytesWritten: written, Fsyncs: syncs}
	if events > 0 {
		w.BytesPerEvent = float64(written) / float64(events)
		w.FsyncsPerEvent = float64(syncs) / float64(events)
	}
	if endurance > 0 && written > 0 && ran >= forecastAfter {
		const year = 365.25 * 24 * float64(time.Hour)
		w.LifeYears = float64(endurance) / (float64(written) * fileSystemShare) * float64(ran) / year
	}
	return w
}

// watch knows since when something has been under way.
type watch struct{ began atomic.Int64 } // Unix nanoseconds; zero: nothing is

func (w *watch) start() { w.began.Store(time.Now().UnixNano()) }
func (w *watch) stop()  { w.began.Store(0) }

// since returns when it began, zero if nothing is under way or for no longer
// than patience.
func (w *watch) since(now time.Time) time.Time {
	n := w.began.Load()
	if n == 0 || now.Sub(time.Unix(0, n)) < patience {
		return time.Time{}
	}
	return time.Unix(0, n)
}

// patience is how long a commit may take before Stats tells.
const patience = time.Second

// created counts what bbolt writes into a file it creates: four pages, synced
// as one.
func (c *counters) created() {
	c.bytes.Add(4 * pageSize)
	c.syncs.Add(1)
}

// grew counts that a file became longer: an fsync of its own, and the pages in
// which the file system notes it.
func (c *counters) grew() {
	c.bytes.Add(pageSize)
	c.syncs.Add(1)
}

// noteGrowth counts it if the file became longer since it was last asked.
// Called by the writer alone.
func (s *segment) noteGrowth() {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.file == nil {
		return
	}
	info, err := s.file.raw.Stat()
	if err != nil || info.Size() <= s.length {
		return
	}
	if s.length > 0 {
		s.file.counters.grew()
	}
	s.length = info.Size()
}
