package journal

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// Level says what the journal gives up because room is short. It rises one
// class of events at a time, so that what is left is kept for money. Volatile
// events, which would go first, are never stored in the first place.
type Level uint8

// The levels. From LevelNoService on, each refuses the class of its number and
// all below.
const (
	LevelOK        Level = iota
	LevelTrim            // what every cursor has passed goes before its time
	LevelNoService       // service events are refused
	LevelNoAlerts        // alerts too
	LevelNoOrders        // orders too: money alone is taken
	LevelFull            // nothing is: the disk is full, or a cap is reached
)

// String returns the level as status and metrics name it.
func (l Level) String() string {
	switch l {
	case LevelOK:
		return "ok"
	case LevelTrim:
		return "trim"
	case LevelNoService:
		return "no_service"
	case LevelNoAlerts:
		return "no_alerts"
	case LevelNoOrders:
		return "no_orders"
	case LevelFull:
		return "full"
	}
	return "unknown"
}

// MarshalText writes the level as String does.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// Refuses reports whether events of the class are refused.
func (l Level) Refuses(c event.Class) bool {
	return l == LevelFull || l >= LevelNoService && c <= event.Class(l)
}

// FullError says that an event was not stored because room is short. A later
// try may succeed: the journal goes on by itself when there is room again.
type FullError struct {
	Class  event.Class
	Level  Level
	Reason string // what is short, with numbers
}

// Error names the class and what is short.
func (e *FullError) Error() string {
	return fmt.Sprintf("no room for events of class %s: %s", e.Class, e.Reason)
}

const (
	// roomEvery is how often the room is measured while nothing is stored, and
	// roomBusy while something is.
	roomEvery = time.Second
	roomBusy  = 250 * time.Millisecond

	// unitShare is the part of a disk or cap that the ladder counts in, where
	// a segment would be more.
	unitShare = 32
)

// rung returns the units of room below which a level is entered.
func (l Level) rung() int64 {
	switch l {
	case LevelTrim:
		return 8
	case LevelNoService:
		return 4
	case LevelNoAlerts:
		return 2
	case LevelNoOrders:
		return 1
	case LevelOK, LevelFull:
	}
	return 0
}

// limit is one thing that can be short.
type limit struct {
	name string // with its dimension, for people
	room int64  // what is left, in bytes or events
	unit int64  // the ladder's
	hard bool   // none left means full; else only the kernel says so
}

// level returns the level for what is left. One that was reached, now or
// higher, is kept until there is a quarter more room than where it begins; a
// full one until half a unit is free.
func (l limit) level(now Level) Level {
	if l.hard && l.room <= 0 || now == LevelFull && l.room < l.unit/2 {
		return LevelFull
	}
	for level := LevelNoOrders; level > LevelOK; level-- {
		below := level.rung() * l.unit
		if level <= now {
			below += below / 4
		}
		if l.room < below {
			return level
		}
	}
	return LevelOK
}

// The limits, as indices.
const (
	limitDisk = iota
	limitBytes
	limitEvents
	limitCount
)

// room watches what is left for events.
type room struct {
	ballast ballast

	mu      sync.Mutex // guards below
	levels  [limitCount]Level
	level   Level // the highest of them
	since   time.Time
	reason  string
	refused time.Time // when the kernel last said that the disk is full
	left    int64     // until measured again: bytes that may be stored under the byte cap
	free    int64     // on the file system; below zero: unknown
	unit    int64     // the disk's
}

// isFull reports whether the kernel refused bytes for want of room. bbolt does
// not wrap the error of growing a file.
func isFull(err error) bool {
	return err != nil && slices.ContainsFunc(noRoom(), func(full error) bool {
		return errors.Is(err, full) || strings.Contains(err.Error(), full.Error())
	})
}

// measure looks how much room there is and returns the level. Anyone may call
// it; it costs a statfs, and with a byte cap a stat per segment.
func (j *Journal) measure() Level {
	limits := j.limits()
	r := &j.room
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.level
	if !r.refused.IsZero() && time.Since(r.refused) >= roomEvery && limits[limitDisk].room >= limits[limitDisk].unit/2 {
		r.refused = time.Time{}
	}
	highest, reason := LevelOK, ""
	for i, l := range limits {
		if l.unit == 0 {
			continue // not a limit here
		}
		r.levels[i] = l.level(r.levels[i])
		if i == limitDisk && !r.refused.IsZero() {
			r.levels[i] = LevelFull
		}
		if r.levels[i] > highest {
			highest, reason = r.levels[i], fmt.Sprintf(l.name, max(l.room, 0))
		}
	}
	r.unit, r.left = limits[limitDisk].unit, limits[limitBytes].room
	r.reason = reason
	if highest == now {
		return now
	}
	r.level, r.since = highest, j.o.Now()
	if highest > now {
		j.o.Log.Warn("room for events is short", "level", highest, "before", now, "reason", reason)
	} else {
		j.o.Log.Info("there is more room for events", "level", highest, "before", now, "reason", reason)
	}
	return highest
}

// limits returns what is left of each limit; one that does not apply is zero.
func (j *Journal) limits() (l [limitCount]limit) {
	free, total, err := j.o.space(j.dir)
	j.room.mu.Lock()
	j.room.free = free
	if err != nil {
		j.room.free = -1
	}
	j.room.mu.Unlock()
	if err == nil && total > 0 {
		l[limitDisk] = limit{
			name: "%d bytes are free on the disk besides what is reserved",
			room: free - j.room.ballast.missing(total),
			unit: max(min(j.o.SegmentBytes, total/unitShare), 1),
		}
	}
	if j.o.MaxBytes > 0 {
		l[limitBytes] = limit{
			name: fmt.Sprintf("%%d of %d bytes are left to the journal", j.o.MaxBytes),
			room: j.o.MaxBytes - j.usedBytes(),
			unit: max(j.o.MaxBytes/unitShare, 1),
			hard: true,
		}
	}
	if j.o.MaxEvents > 0 {
		l[limitEvents] = limit{
			name: fmt.Sprintf("%%d of %d events are left to the journal", j.o.MaxEvents),
			room: j.o.MaxEvents - j.kept(),
			unit: max(j.o.MaxEvents/unitShare, 1),
			hard: true,
		}
	}
	return l
}

// kept returns how many events are kept.
func (j *Journal) kept() int64 { return int64(j.Stored() + 1 - j.First()) }

// usedBytes returns what the journal takes on disk, without the ballast.
func (j *Journal) usedBytes() int64 {
	sum := j.diskBytes() + diskBytes(filepath.Join(j.dir, metaName))
	list, _ := listQuarantine(j.dir) // unreadable: counts for nothing
	for _, q := range list {
		sum += q.Bytes
	}
	return sum
}

// diskFull notes that the kernel said so, and releases the ballast, so that
// cursors can move and segments be trimmed. It reports whether that gave room.
func (j *Journal) diskFull() bool {
	released := j.room.ballast.release()
	if released {
		j.o.Log.Warn("disk is full, ballast released", "bytes", j.o.BallastBytes)
	}
	j.room.mu.Lock()
	j.room.refused = time.Now()
	j.room.mu.Unlock()
	j.measure()
	return released
}

// shortage returns what the level refuses an event of the class with.
func (j *Journal) shortage(c event.Class) *FullError {
	j.room.mu.Lock()
	defer j.room.mu.Unlock()
	return &FullError{Class: c, Level: j.room.level, Reason: j.room.reason}
}

// Level returns what the journal gives up just now for want of room.
func (j *Journal) Level() Level {
	j.room.mu.Lock()
	defer j.room.mu.Unlock()
	return j.room.level
}

// keepBallast makes the ballast again once there is room for it.
func (j *Journal) keepBallast() {
	l := j.limits()[limitDisk]
	j.room.mu.Lock()
	refused := !j.room.refused.IsZero()
	j.room.mu.Unlock()
	if l.unit == 0 || refused || l.room < l.unit {
		return
	}
	switch made, err := j.room.ballast.hold(); {
	case err != nil && !isFull(err):
		j.o.Log.Warn("reserve room on the disk", "err", err)
	case made:
		j.o.Log.Info("room reserved on the disk", "bytes", j.room.ballast.bytes())
	}
}

// capped reports whether, when the journal is full, it is so because of a cap:
// the disk has room.
func (j *Journal) capped() bool {
	j.room.mu.Lock()
	defer j.room.mu.Unlock()
	return j.room.levels[limitDisk] < LevelFull
}

// allowance is what one batch may still take under the caps, exactly, so that
// a large batch does not run past them.
type allowance struct{ bytes, events int64 }

func (j *Journal) allowance() allowance {
	a := allowance{bytes: 1 << 62, events: 1 << 62}
	if j.o.MaxBytes > 0 {
		j.room.mu.Lock()
		a.bytes = j.room.left
		j.room.mu.Unlock()
	}
	if j.o.MaxEvents > 0 {
		a.events = j.o.MaxEvents - j.kept()
	}
	return a
}

// take takes room for one event; false if there is none.
func (a *allowance) take(bytes int) bool {
	if a.events <= 0 || a.bytes < int64(bytes) {
		return false
	}
	a.events--
	a.bytes -= int64(bytes)
	return true
}

// look returns the level, measuring it first if so much was stored or so much
// time has passed that it may have changed.
func (j *Journal) look(stored int) Level {
	w := &j.writer
	w.unmeasured += int64(stored)
	unit := j.o.MaxBytes / unitShare
	if unit == 0 {
		unit = j.o.SegmentBytes
	}
	if w.unmeasured >= unit/8 || j.o.MaxEvents > 0 || time.Since(w.measured) >= roomBusy {
		w.unmeasured, w.measured = 0, time.Now()
		return j.measure()
	}
	return j.Level()
}

// deny returns what an event is refused with for want of room, and counts it.
func (j *Journal) deny(c event.Class) error {
	j.mu.Lock()
	j.refused[min(int(c), len(j.refused)-1)]++
	j.mu.Unlock()
	return j.shortage(c)
}

// refuse answers a batch that cannot be stored. Where the disk is full, each
// sender is told so in its own class.
func (j *Journal) refuse(batch []entry, err error) {
	if !isFull(err) {
		refuse(batch, err)
		return
	}
	for _, e := range batch {
		e.answer(event.Receipt{}, j.deny(e.event.Class))
	}
}
