package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

const trimEvery = time.Minute

// trimLoop looks after the room on disk. Retention is looked at once a minute
// and whenever a segment was sealed; when room is short, every second.
func (j *Journal) trimLoop(ctx context.Context) {
	tick := time.NewTicker(roomEvery)
	defer tick.Stop()
	var trimmed time.Time
	for {
		j.keepBallast()
		if j.measure() >= LevelTrim || time.Since(trimmed) >= trimEvery {
			trimmed = time.Now()
			if n, err := j.Trim(); err != nil {
				j.o.Log.Error("trim journal", "err", err)
			} else if n > 0 {
				j.o.Log.Info("journal trimmed", "segments", n, "first", j.First())
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-j.trims:
			trimmed = time.Time{}
		}
	}
}

// Trim deletes the oldest segments that every cursor has passed and that are
// past retention, by age or because the journal is larger than it should be, or
// before their time when room is short, and returns how many. The newest
// segment always stays. Run trims by itself.
func (j *Journal) Trim() (deleted int, err error) {
	j.trimming.Lock()
	defer j.trimming.Unlock()
	err = j.trimQuarantine() // where that fails, events need the room all the more
	for {
		s := j.trimmable()
		if s == nil {
			return deleted, err
		}
		if gone := j.deleteOldest(s); gone != nil {
			return deleted, errors.Join(err, gone)
		}
		deleted++
	}
}

// deleteOldest deletes the oldest segment; j.trimming is held.
//
//	forget the segment, unlink, fsync directory    crash: it is there again
//
// Oldest first, each durable before the next, so that no crash or power cut in
// between leaves a hole.
func (j *Journal) deleteOldest(s *segment) error {
	j.mu.Lock()
	j.segments = j.segments[1:]
	j.mu.Unlock()
	j.pool.forget(s)
	s.kill(errTrimmed) // waits for its readers
	if err := removeIfThere(s.path); err != nil {
		// It is still there, and the next to go: a later one first would
		// leave a hole.
		j.mu.Lock()
		j.segments = append([]*segment{{path: s.path, first: s.first, pool: s.pool}}, j.segments...)
		j.mu.Unlock()
		return fmt.Errorf("trim segment %d: %w", s.first, err)
	}
	j.mu.Lock()
	j.counts.Trimmed++
	j.mu.Unlock()
	if err := syncDir(j.dir); err != nil {
		return fmt.Errorf("trim segment %d: %w", s.first, err)
	}
	return nil
}

// passed returns the oldest segment and its last seq if every cursor has passed
// it and it is not the newest; followed says that there is a cursor.
func (j *Journal) passed() (s *segment, last event.Seq, followed bool) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	if len(j.segments) < 2 {
		return nil, 0, false
	}
	last = j.segments[1].first - 1
	_, hindmost, _, followed := j.meta.snapshot()
	if followed && hindmost < last {
		return nil, 0, true
	}
	return j.segments[0], last, followed
}

// trimmable returns the oldest segment if it may go.
func (j *Journal) trimmable() *segment {
	s, _, followed := j.passed()
	if s == nil {
		return nil
	}
	if s.age(j.o.Now()) > j.o.RetainFor || j.diskBytes() > j.o.RetainBytes {
		return s
	}
	// Where nobody follows, nobody else has it: then it stays its time.
	if followed && j.measure() >= LevelTrim {
		return s
	}
	return nil
}

// trimQuarantine deletes what is in quarantine for longer than events are
// kept, or takes more room than they may, or any when room is short.
func (j *Journal) trimQuarantine() error {
	list, err := listQuarantine(j.dir)
	sum := int64(0)
	for _, q := range list {
		sum += q.Bytes
	}
	for _, q := range list {
		if j.o.Now().Sub(q.Since) <= j.o.RetainFor && sum <= j.o.RetainBytes && j.measure() < LevelTrim {
			break
		}
		if gone := os.Remove(q.Path); gone != nil {
			err = errors.Join(err, fmt.Errorf("trim quarantine: %w", gone))
			continue
		}
		j.o.Log.Warn("damaged file deleted from quarantine", "path", q.Path, "since", q.Since)
		sum -= q.Bytes
	}
	return err
}

// age returns how long ago the last event of the segment was accepted.
func (s *segment) age(now time.Time) time.Duration {
	if a, err := s.info(); err == nil && a.sealed {
		return now.Sub(a.newest)
	}
	info, err := os.Stat(s.path) // never sealed, or damaged: when it was written
	if err != nil {
		return 0
	}
	return now.Sub(info.ModTime())
}

// diskBytes returns what all segments take on disk.
func (j *Journal) diskBytes() int64 {
	var sum int64
	for _, path := range j.paths() {
		sum += diskBytes(path)
	}
	return sum
}

func (j *Journal) paths() []string {
	j.mu.RLock()
	defer j.mu.RUnlock()
	paths := make([]string, len(j.segments))
	for i, s := range j.segments {
		paths[i] = s.path
	}
	return paths
}

// diskBytes returns what a file takes on disk, which is less than its length
// while bbolt has not used all of it.
func diskBytes(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0 // just deleted
	}
	return onDisk(info)
}

// Backlog is what a follower has before it.
type Backlog struct {
	Events uint64
	Bytes  int64     // on disk, estimated from file sizes
	Oldest time.Time // when the first of them was accepted; zero: none, or unreadable
}

// Backlog returns what lies behind the named cursor. It costs one seek and a
// stat per segment, however long the backlog is.
func (j *Journal) Backlog(name string) Backlog {
	after, stored := j.Cursor(name), j.Stored()
	if after >= stored {
		return Backlog{}
	}
	b := Backlog{Events: uint64(stored - after)}
	type span struct {
		path        string
		first, last event.Seq
	}
	var spans []span
	j.mu.RLock()
	for i, s := range j.segments {
		last := stored
		if i+1 < len(j.segments) {
			last = j.segments[i+1].first - 1
		}
		if last > after && last >= s.first {
			spans = append(spans, span{s.path, s.first, last})
		}
	}
	j.mu.RUnlock()
	for _, s := range spans {
		size := diskBytes(s.path)
		if after >= s.first { // only the part behind the cursor
			size = int64(float64(size) * float64(s.last-after) / float64(s.last-s.first+1))
		}
		b.Bytes += size
	}
	if len(spans) > 0 && after+1 < spans[0].first {
		b.Events = uint64(stored - spans[0].first + 1) // the rest is gone by retention
	}
	if events, err := j.Read(after, 1, 1); err == nil && len(events) > 0 {
		b.Oldest = events[0].Time
	}
	return b
}
