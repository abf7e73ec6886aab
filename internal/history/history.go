package history

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"strconv"
	"sync"
	"time"
)

const (
	// Step is the time one figure stands for.
	Step = time.Minute
	// Keep is how far back they go.
	Keep = 7 * 24 * time.Hour

	look    = time.Second
	perHour = int(time.Hour / Step)
	space   = "history" // in State: Unix hour → [hour] as JSON
	unknown = -1        // nobody looked

	// saveEvery is how much a power cut may take: a card does not wear out on
	// six small writes an hour.
	saveEvery = 10 * time.Minute
)

// State keeps small things on disk, safe concurrently. Put sets entries of a
// space and returns when they are durable; nil deletes.
type State interface {
	Put(space string, entries map[string][]byte) error
	All(space string) (map[string][]byte, error)
}

// Sample is how the box is at one moment.
type Sample struct {
	Waiting int  // events that the cloud does not have
	Down    bool // nothing reaches it
}

// hour is an hour's figures as they are kept, one per minute: the most that
// waited, and for how many seconds the way was closed; below zero: not known.
type hour struct {
	Waiting [perHour]int32 `json:"waiting"`
	Down    [perHour]int32 `json:"down"`
}

// Recorder looks at the box every second. All methods may be called
// concurrently.
type Recorder struct {
	state  State
	sample func() Sample
	now    func() time.Time
	log    *slog.Logger

	mu    sync.Mutex // guards below
	hours map[int64]*hour
	dirty map[int64]bool
}

// Open returns a recorder that knows what an earlier one kept. Figures that
// cannot be read are left out: they are a convenience. now is a clock that does
// not begin in the past at a start: what seems to lie ahead is let go.
func Open(state State, sample func() Sample, now func() time.Time, log *slog.Logger) *Recorder {
	r := &Recorder{state: state, sample: sample, now: now, log: log, hours: map[int64]*hour{}, dirty: map[int64]bool{}}
	entries, err := state.All(space)
	if err != nil {
		log.Warn("history read in part", "err", err)
	}
	for key, raw := range entries {
		h := newHour()
		if at, err := strconv.ParseInt(key, 10, 64); err == nil && json.Unmarshal(raw, h) == nil {
			r.hours[at] = h
		}
	}
	return r
}

func newHour() *hour {
	h := &hour{}
	for i := range perHour {
		h.Waiting[i], h.Down[i] = unknown, unknown
	}
	return h
}

// Run looks and keeps until ctx ends, then keeps once more.
func (r *Recorder) Run(ctx context.Context) error {
	tick := time.NewTicker(look)
	defer tick.Stop()
	saved := time.Now()
	for {
		select {
		case <-ctx.Done():
			r.save(r.now())
			return nil
		case at := <-tick.C:
			now := r.now()
			r.note(now, r.sample())
			if at.Sub(saved) >= saveEvery {
				saved = at
				r.save(now)
			}
		}
	}
}

// note takes one look into the figures of its minute.
func (r *Recorder) note(now time.Time, s Sample) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := now.Unix() / 3600
	h := r.hours[at]
	if h == nil {
		h = newHour()
		r.hours[at] = h
		for old := range r.hours { // a clock that was wrong leaves some ahead, too
			if past := at - old; past > int64(Keep/time.Hour) || past < 0 {
				delete(r.hours, old)
				r.dirty[old] = true
			}
		}
	}
	minute := now.Unix() / 60 % int64(perHour)
	h.Waiting[minute] = max(h.Waiting[minute], int32(min(s.Waiting, 1<<30))) //nolint:gosec // bounded
	h.Down[minute] = max(h.Down[minute], 0)
	if s.Down {
		h.Down[minute] = min(h.Down[minute]+int32(look/time.Second), 60)
	}
	r.dirty[at] = true
}

// save keeps what has changed. What cannot be kept is tried again with the next.
// Called by Run alone; nobody waits for the disk but it.
func (r *Recorder) save(now time.Time) {
	r.mu.Lock()
	dirty := r.dirty
	r.dirty = map[int64]bool{}
	entries := map[string][]byte{}
	for at := range dirty {
		key := strconv.FormatInt(at, 10)
		entries[key] = nil
		if h := r.hours[at]; h != nil {
			raw, err := json.Marshal(h)
			if err != nil {
				raw = nil // numbers always encode
			}
			entries[key] = raw
		}
	}
	r.mu.Unlock()
	if len(entries) == 0 {
		return
	}
	if err := r.state.Put(space, entries); err != nil {
		r.log.Warn("history not kept", "err", err, "at", now.UTC().Format(time.RFC3339))
		r.mu.Lock()
		maps.Copy(r.dirty, dirty)
		r.mu.Unlock()
	}
}

// Figures are some of the last minutes: how much waited at most and how many
// seconds the way was closed, in each; nil where nobody looked.
type Figures struct {
	From    time.Time `json:"from"`
	StepMs  int64     `json:"stepMs"`
	Waiting []*int32  `json:"waiting"`
	Down    []*int32  `json:"down"`
}

// Last returns the minutes of a time up to now, at most [Keep].
func (r *Recorder) Last(of time.Duration, now time.Time) Figures {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := int64(min(max(of, Step), Keep) / Step)
	first := now.Unix()/60 - n + 1
	f := Figures{From: time.Unix(first*60, 0).UTC(), StepMs: Step.Milliseconds(), Waiting: make([]*int32, n), Down: make([]*int32, n)}
	for i := range n {
		minute := first + i
		if h := r.hours[minute/60]; h != nil {
			f.Waiting[i], f.Down[i] = known(h.Waiting[minute%60]), known(h.Down[minute%60])
		}
	}
	return f
}

func known(n int32) *int32 {
	if n == unknown {
		return nil
	}
	return &n
}
