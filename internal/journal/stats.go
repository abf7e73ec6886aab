package journal

import (
	"path/filepath"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// Stats are facts about an open journal.
type Stats struct {
	Epoch    event.Epoch
	First    event.Seq // oldest kept
	Stored   event.Seq // newest on disk
	Segments int
	Bytes    int64 // of all files, as they take disk
	Cursors  map[string]event.Seq

	Counters

	Wear

	Quarantine []Quarantined // damaged files kept for people, oldest first

	Level       Level     // what is given up for want of room
	LevelReason string    // what is short; empty: nothing
	LevelSince  time.Time // zero: since Open
	FreeBytes   int64     // on the file system; below zero: unknown
	MaxBytes    int64     // the caps; zero: none
	MaxEvents   int64
	Ballast     int64             // bytes kept back just now
	Refused     map[string]uint64 // events refused for want of room, by class

	QueueEvents int    // waiting for the next commit
	QueueBytes  int64  // of their records
	QueueFull   uint64 // callers that had to wait for room

	// StuckSince is when a commit began that is still under way after a second:
	// the disk is slow, or hangs. No error: it may yet succeed. Zero: none.
	StuckSince time.Time

	Err   error  `json:"-"` // why no events can be stored just now; nil: healthy
	Fault string // the text of Err
}

// Counters count since Open.
type Counters struct {
	Commits    uint64
	Events     uint64 // stored, without duplicates
	Trimmed    uint64 // segments deleted
	Damages    uint64 // findings of damage at open and after failed writes
	Salvaged   uint64 // events found in damaged segments, which have new ones now
	LostRanges uint64 // ranges that readers met and could not read
	LostEvents uint64 // events in them
}

// EventsPerCommit returns how many events shared a commit on average.
func (s *Stats) EventsPerCommit() float64 {
	if s.Commits == 0 {
		return 0
	}
	return float64(s.Events) / float64(s.Commits)
}

// Stats returns the facts at this moment. It costs a stat per segment.
func (j *Journal) Stats() Stats {
	s := Stats{
		First:  j.First(),
		Stored: j.Stored(),
		Bytes:  j.diskBytes() + diskBytes(filepath.Join(j.dir, metaName)),
	}
	s.Cursors, _, _, _ = j.meta.snapshot()
	s.Quarantine, _ = listQuarantine(j.dir) // unreadable: nothing can be told
	s.QueueEvents, s.QueueBytes = j.queue.depth()
	j.queue.mu.Lock()
	s.QueueFull = j.queue.full
	j.queue.mu.Unlock()
	s.MaxBytes, s.MaxEvents, s.Ballast = j.o.MaxBytes, j.o.MaxEvents, j.room.ballast.bytes()
	j.room.mu.Lock()
	s.Level, s.LevelReason, s.LevelSince, s.FreeBytes = j.room.level, j.room.reason, j.room.since, j.room.free
	j.room.mu.Unlock()
	now := time.Now()
	s.StuckSince = j.commits.since(now)
	if since := j.meta.commits.since(now); !since.IsZero() && (s.StuckSince.IsZero() || since.Before(s.StuckSince)) {
		s.StuckSince = since
	}
	j.mu.RLock()
	defer j.mu.RUnlock()
	s.Epoch, s.Segments, s.Counters, s.Err = j.epoch, len(j.segments), j.counts, j.unwell
	s.Refused = map[string]uint64{}
	for class, n := range j.refused {
		if n > 0 {
			s.Refused[event.Class(class).String()] = n
		}
	}
	s.Wear = wear(j.disk.bytes.Load(), j.disk.syncs.Load(), s.Events, time.Since(j.opened), j.o.Endurance)
	if s.Err == nil && s.Level == LevelFull {
		s.Err = &FullError{Class: event.Money, Level: s.Level, Reason: s.LevelReason}
	}
	if s.Err != nil {
		s.Fault = s.Err.Error()
	}
	return s
}

// Healthy reports whether the last attempt to store an event succeeded.
func (s *Stats) Healthy() bool { return s.Err == nil }
