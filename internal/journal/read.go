package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// errTrimmed is what a reader gets from a segment that was deleted under it.
var errTrimmed = errors.New("segment was trimmed")

// Read returns events behind after, in seq order: at least one if there is
// one, at most maxEvents, and no more once they exceed maxBytes (estimated).
// Events older than the oldest kept are passed over: compare First. A
// *LostError names events that cannot be read; reading goes on behind its To.
// Other errors may pass. The caller must not change the events' slices.
func (j *Journal) Read(after event.Seq, maxEvents, maxBytes int) ([]event.Event, error) {
	maxEvents = max(maxEvents, 1)
	for {
		stored := j.Stored()
		after = max(after, j.First()-1) // memory may hold what was trimmed
		if after >= stored {
			return nil, nil
		}
		if events, ok := j.tail.read(after, stored, maxEvents, maxBytes); ok {
			return events, nil
		}
		s, from, limit := j.segmentOf(after+1, stored)
		if s == nil {
			return nil, nil
		}
		if from > limit { // nothing of it is left
			return nil, nil
		}
		events, err := s.read(from, limit, maxEvents, max(maxBytes, 1))
		if errors.Is(err, errTrimmed) {
			continue
		}
		if err != nil {
			if lost, ok := errors.AsType[*LostError](err); ok {
				if !errors.Is(err, errSalvaged) && j.mend(s) {
					continue
				}
				if s.writing.Load() { // mended as soon as the writer has left it
					return nil, fmt.Errorf("read events after %d: segment %d is about to be salvaged: %w", after, s.first, lost.Err)
				}
				j.reportLost(lost)
			}
			return nil, fmt.Errorf("read events after %d: %w", after, err)
		}
		return events, nil
	}
}

// segmentOf returns the segment that holds seq, or the oldest one if seq is
// before it, with the part of it that may be read.
func (j *Journal) segmentOf(seq, stored event.Seq) (s *segment, from, limit event.Seq) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	n := len(j.segments)
	if n == 0 {
		return nil, 0, 0
	}
	i := max(sort.Search(n, func(i int) bool { return j.segments[i].first > seq })-1, 0)
	limit = stored
	if i+1 < n {
		limit = min(limit, j.segments[i+1].first-1)
	}
	return j.segments[i], max(seq, j.segments[i].first), limit
}

// event returns one event.
func (j *Journal) event(seq event.Seq) (event.Event, error) {
	if seq == 0 {
		return event.Event{}, ErrNotFound
	}
	events, err := j.Read(seq-1, 1, 1)
	if err != nil {
		return event.Event{}, err
	}
	if len(events) == 0 || events[0].Seq != seq {
		return event.Event{}, ErrNotFound
	}
	return events[0], nil
}

// Find returns an event by its seq in decimal or by its ID, newest first. A
// seq is a seek; an ID reads through all that is kept. ErrNotFound.
func (j *Journal) Find(id string) (event.Event, error) {
	if n, err := strconv.ParseUint(id, 10, 64); err == nil {
		e, err := j.event(event.Seq(n))
		if !errors.Is(err, ErrNotFound) {
			return e, err
		}
	}
	stored := j.Stored()
	j.mu.RLock()
	segments := j.segments
	j.mu.RUnlock()
	limit := stored
	for _, s := range slices.Backward(segments) {
		var found event.Seq
		err := s.walk(s.first, func(first event.Seq, batch []byte) bool {
			batchRecords(first, batch, func(seq event.Seq, record []byte, err error) bool {
				if err == nil && seq <= limit && string(recordID(record)) == id {
					found = seq
				}
				return true
			})
			return true
		})
		if found != 0 {
			return j.event(found)
		}
		if isDamage(err) && j.mend(s) {
			return j.Find(id)
		}
		if err != nil && !isDamage(err) && !errors.Is(err, errTrimmed) {
			return event.Event{}, fmt.Errorf("find event: %w", err)
		}
		limit = min(limit, s.first-1)
	}
	return event.Event{}, fmt.Errorf("%w: %s", ErrNotFound, id)
}

// Wait returns nil once there are events behind after, the error of ctx when
// that ends first, and ErrClosed when there will be none any more.
func (j *Journal) Wait(ctx context.Context, after event.Seq) error {
	return j.tail.wait(ctx, j.done, func() bool { return j.Stored() > after })
}

// reportLost counts and logs a range that cannot be read, once.
func (j *Journal) reportLost(lost *LostError) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.lost[lost.From] {
		return
	}
	if len(j.lost) < maxLostRanges {
		j.lost[lost.From] = true
	}
	j.counts.LostRanges++
	j.counts.LostEvents += uint64(lost.To - lost.From + 1)
	j.o.Log.Error("events cannot be read", "from", lost.From, "to", lost.To, "err", lost.Err)
}

func isLost(err error) bool {
	_, ok := errors.AsType[*LostError](err)
	return ok
}

// maxLostRanges bounds the memory of reportLost.
const maxLostRanges = 1024
