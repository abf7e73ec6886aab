package journal

import (
	"log/slog"
	"time"
)

// Options say how a journal is kept. The zero value is a good journal.
type Options struct {
	// SegmentBytes is the size at which a new segment is begun. Default 32 MiB.
	SegmentBytes int64

	// RetainFor and RetainBytes say how long events are kept that every cursor
	// has passed: whichever is exceeded first lets go of the oldest segment.
	// What a cursor has not passed stays. Default 7 days and 1 GiB.
	RetainFor   time.Duration
	RetainBytes int64

	// MaxBytes and MaxEvents cap what is kept, synced or not. As they come
	// near, and at them, events are refused as on a disk that fills up. Zero:
	// the disk is the only limit. Segments are then kept small enough for the
	// oldest to be let go in time.
	MaxBytes  int64
	MaxEvents int64

	// BallastBytes is how much disk is kept back, so that cursors can move and
	// segments be trimmed when it is full; at most a 16th of the disk. Zero:
	// none.
	BallastBytes int64

	// Endurance is how many bytes may be written to the disk in its life, its
	// TBW: what Wear forecasts from. Zero: no forecast.
	Endurance int64

	// QueueEvents and QueueBytes bound what waits for the next commit; who
	// comes then waits for room. Default 4096 events and 16 MiB.
	QueueEvents int
	QueueBytes  int64

	// Replace lets Restore put a journal in the place of one that is there,
	// which is moved aside as it is.
	Replace bool

	Log *slog.Logger     // default: discard
	Now func() time.Time // wall clock for retention; default time.Now

	// space measures the disk; tests have their own.
	space func(dir string) (free, total int64, err error)
}

func (o Options) withDefaults() Options {
	if o.SegmentBytes <= 0 {
		o.SegmentBytes = 32 << 20
	}
	if o.RetainFor <= 0 {
		o.RetainFor = 7 * 24 * time.Hour
	}
	if o.RetainBytes <= 0 {
		o.RetainBytes = 1 << 30
	}
	if o.MaxBytes > 0 {
		o.SegmentBytes = min(o.SegmentBytes, max(o.MaxBytes/segmentShare, 4*pageSize))
		o.RetainBytes = min(o.RetainBytes, o.MaxBytes/2)
	}
	if o.space == nil {
		o.space = diskSpace
	}
	if o.QueueEvents <= 0 {
		o.QueueEvents = 4096
	}
	if o.QueueBytes <= 0 {
		o.QueueBytes = 16 << 20
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// segmentShare is the part of a cap that one segment may take.
const segmentShare = 8

// mapped is the address space reserved for the active segment: what it grows
// to, and room for the last batch and the key table.
func (o Options) mapped() int64 { return 2 * o.SegmentBytes }

// full reports whether a segment of that size takes no more.
func (o Options) full(bytes, events int64) bool {
	return bytes >= o.SegmentBytes || o.MaxEvents > 0 && events >= max(o.MaxEvents/segmentShare, 1)
}
