package journal

import (
	"path/filepath"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// Stats are facts about an open journal. Its JSON is what `journal stats
// --json` and GET /api/v1/journal/stats answer.
type Stats struct {
	Epoch    event.Epoch          `json:"epoch"`
	First    event.Seq            `json:"first"`         // oldest kept
	Stored   event.Seq            `json:"storedThrough"` // newest on disk
	Segments int                  `json:"segments"`
	Bytes    int64                `json:"bytes"` // of all files, as they take disk
	Cursors  map[string]event.Seq `json:"cursors"`

	Counters

	Wear

	Quarantine []Quarantined `json:"quarantine"` // damaged files kept for people, oldest first

	Level       Level             `json:"level"`                 // what is given up for want of room
	LevelReason string            `json:"levelReason,omitempty"` // what is short; empty: nothing
	LevelSince  time.Time         `json:"levelSince,omitzero"`   // zero: since Open
	FreeBytes   int64             `json:"freeBytes"`             // on the file system; below zero: unknown
	MaxBytes    int64             `json:"maxBytes"`              // the caps; zero: none
	MaxEvents   int64             `json:"maxEvents"`
	Ballast     int64             `json:"ballastBytes"` // kept back just now
	Refused     map[string]uint64 `json:"refused"`      // events refused for want of room, by class

	QueueEvents int    `json:"queueEvents"` // waiting for the next commit
	QueueBytes  int64  `json:"queueBytes"`  // of their records
	QueueFull   uint64 `json:"queueFull"`   // callers that had to wait for room

	// StuckSince is when a commit began that is still under way after a second:
	// the disk is slow, or hangs. No error: it may yet succeed. Zero: none.
	StuckSince time.Time `json:"stuckSince,omitzero"`

	Err   error  `json:"-"`               // why no events can be stored just now; nil: healthy
	Fault string `json:"fault,omitempty"` // the text of Err
}

// Counters count since Open.
type Counters struct {
	Commits    uint64 `json:"commits"`
	Events     uint64 `json:"events"`          // stored, without duplicates
	Trimmed    uint64 `json:"trimmedSegments"` // deleted
	Damages    uint64 `json:"damages"`         // findings of damage at open and after failed writes
	Salvaged   uint64 `json:"salvagedEvents"`  // found in damaged segments, which have new ones now
	LostRanges uint64 `json:"lostRanges"`      // that readers met and could not read
	LostEvents uint64 `json:"lostEvents"`      // in them
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
