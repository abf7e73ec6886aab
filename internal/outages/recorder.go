package outages

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// Journal is where the events lie and the outages are kept. Safe concurrently.
type Journal interface {
	// Read returns events after the given position, in order, passing over what
	// is lost.
	Read(after event.Seq, maxEvents, maxBytes int) ([]event.Event, error)

	// Stored is the last event on disk, Cursor how far the named follower is.
	Stored() event.Seq
	Cursor(name string) event.Seq

	// Put sets entries of a space and returns when they are on disk; nil
	// deletes. All returns every entry of a space.
	Put(space string, entries map[string][]byte) error
	All(space string) (map[string][]byte, error)
}

// Link is how the way to the cloud is at one moment.
type Link struct {
	Up     bool
	Since  time.Time // when it came up, or was lost, or was tried first
	Broker string

	// Waits says that the back-end is to confirm, and nobody has paused it.
	Waits bool

	// Connects counts the links that came up. Failure is the last one, of a
	// link or an attempt, kept after recovery; its Cause is empty if there was
	// none. A planned reconnection is none.
	Connects uint64
	Failure  Stretch
}

// Config is what a [Recorder] needs.
type Config struct {
	Journal Journal
	Cursor  string         // of the uplink
	Link    func() Link    // cheap, safe concurrently
	Repeats func() Repeats // counted since the process began; likewise
	Boot    string         // names the run of the machine's system; empty: unknown
	Log     *slog.Logger

	// How often the link is looked at, how long it must be up for an outage to
	// be over, after how long without a confirmation the back-end counts as
	// away, how often a sign of life is written. Zero: 500 ms, 30 s, 1 min, 1 min.
	Look, Steady, Stalled, Alive time.Duration
}

const (
	space    = "outages"
	markKey  = "mark"
	maxOpen  = 8               // outages whose events are followed until the cloud has them
	restart  = time.Minute     // a stop that is shorter is no outage
	chunk    = 256             // events read from the journal at once
	maxChunk = 1 << 20         // and their bytes
	perLook  = 40              // such pieces
	pace     = 5 * time.Second // between two lines of log about the same trouble
)

// mark is the sign of life that tells an orderly stop from a power cut.
type mark struct {
	At    time.Time `json:"at"`
	Clean bool      `json:"clean"` // it stopped in order
	Boot  string    `json:"boot,omitempty"`
}

// kept is an outage as it is on disk.
type kept struct {
	Outage
	Passed  event.Seq `json:"passed"`  // the cloud has it, and it was counted as late or not
	Settled bool      `json:"settled"` // nothing will change any more

	tally *tally
	base  Repeats // what to take from Config.Repeats: counted before it began; wraps around after a restart
}

// Recorder follows the way to the cloud and keeps what happens to it: of the
// last 90 days, 200 outages at most.
type Recorder struct {
	cfg Config

	// Owned by Run.
	started  time.Time // this process
	connects uint64
	cursor   event.Seq
	moved    time.Time // when the cursor last did, or had nowhere to go
	alive    time.Time // when the mark was written
	troubled time.Time

	mu  sync.Mutex
	all []*kept // oldest first; guarded by mu, changed by Run alone
}

// New returns a recorder with what was kept. What the last process did not
// bring to its end is an outage of its own: see [Power], [Crash], [Stopped].
// The error says that the notes cannot be read at all.
func New(cfg Config) (*Recorder, error) {
	cfg.Look = cmp.Or(cfg.Look, 500*time.Millisecond)
	cfg.Steady = cmp.Or(cfg.Steady, 30*time.Second)
	cfg.Stalled = cmp.Or(cfg.Stalled, time.Minute)
	cfg.Alive = cmp.Or(cfg.Alive, time.Minute)
	r := &Recorder{cfg: cfg}
	entries, err := cfg.Journal.All(space)
	if err != nil && len(entries) == 0 {
		return nil, fmt.Errorf("read outages: %w", err)
	}
	var last mark
	for key, raw := range entries {
		if key == markKey {
			_ = json.Unmarshal(raw, &last) // none is as good as a damaged one
			continue
		}
		k := &kept{}
		if err := json.Unmarshal(raw, k); err != nil {
			cfg.Log.Warn("outage cannot be read", "key", key, "err", err)
			continue
		}
		r.all = append(r.all, k)
	}
	slices.SortFunc(r.all, func(a, b *kept) int { return cmp.Compare(a.ID, b.ID) })
	now := time.Now().UTC()
	for _, k := range r.all {
		r.take(k)
	}
	r.started = now
	r.resume(last, now)
	r.cursor, r.moved = cfg.Journal.Cursor(cfg.Cursor), now
	return r, nil
}

// take prepares an outage that was kept for being followed.
func (r *Recorder) take(k *kept) {
	if k.Settled {
		return
	}
	k.tally = newTally(k.After)
	k.base = minus(r.cfg.Repeats(), k.Repeats)
}

// resume says what the end of the last process and the time since were.
func (r *Recorder) resume(last mark, now time.Time) {
	if last.At.IsZero() {
		return // the first start
	}
	s := Stretch{From: last.At}
	switch {
	case last.Clean && now.Sub(last.At) < restart:
		return
	case last.Clean:
		s.Cause, s.Evidence = Stopped, "the box was stopped in order and started again at "+now.Format(time.RFC3339)
	case last.Boot != "" && last.Boot == r.cfg.Boot:
		s.Cause, s.Evidence = Crash, "the program ended without an orderly stop while the machine ran on; started again at "+now.Format(time.RFC3339)
	default:
		s.Cause, s.Evidence = Power, "the machine went off without an orderly stop, at most a minute after the last sign of life; started again at "+now.Format(time.RFC3339)
	}
	k := r.current()
	if k == nil {
		k = r.begin(last.At)
	}
	k.End, k.Synced = time.Time{}, time.Time{}
	k.ClockUnsure = k.ClockUnsure || now.Before(last.At)
	k.add(s)
	k.judge(now)
}

// current returns the outage that lasts, or was over too short a time ago to be
// sure; nil if there is none.
func (r *Recorder) current() *kept {
	if n := len(r.all); n > 0 && !r.all[n-1].Settled && (r.all[n-1].End.IsZero() || time.Since(r.all[n-1].End) < r.cfg.Steady) {
		return r.all[n-1]
	}
	return nil
}

// begin enters a new outage. The oldest ones go.
func (r *Recorder) begin(start time.Time) *kept {
	id := uint64(1)
	if n := len(r.all); n > 0 {
		id = r.all[n-1].ID + 1
	}
	after := r.cfg.Journal.Cursor(r.cfg.Cursor)
	k := &kept{Outage: Outage{
		ID: id, Start: start.UTC().Truncate(time.Millisecond), After: after,
		Held: Held{Classes: map[string]uint64{}, Money: []Money{}}, Late: Late{Classes: map[string]uint64{}}, Terminals: []Terminal{},
	}, Passed: after}
	k.tally, k.base = newTally(after), r.cfg.Repeats()
	r.all = append(r.all, k)
	return k
}

// Outages returns what is known, the newest first. Safe concurrently.
func (r *Recorder) Outages() []Outage {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]Outage, 0, len(r.all))
	for _, k := range slices.Backward(r.all) {
		o := k.Outage
		o.Causes, o.Terminals = slices.Clone(o.Causes), slices.Clone(o.Terminals)
		o.Held.Money = slices.Clone(o.Held.Money)
		o.Late.Classes = maps.Clone(o.Late.Classes) // into makes the others anew
		list = append(list, o)
	}
	return list
}

// Run follows the way to the cloud until ctx ends, then leaves the mark of an
// orderly stop. Call it once.
func (r *Recorder) Run(ctx context.Context) error {
	look := time.NewTicker(r.cfg.Look)
	defer look.Stop()
	for {
		now := time.Now()
		r.mu.Lock()
		changed := r.look(now)
		r.mu.Unlock()
		if len(changed) > 0 || now.Sub(r.alive) >= r.cfg.Alive {
			r.keep(now, false, changed)
		}
		for n := 0; n < perLook && r.follow(ctx) && ctx.Err() == nil; n++ {
			// a long backlog is counted in pieces, between which the link is looked at
		}
		select {
		case <-ctx.Done():
			r.keep(time.Now(), true, nil)
			return nil
		case <-look.C:
		}
	}
}

// look compares the link with what was known, and returns the outages that are
// to be kept at once.
func (r *Recorder) look(now time.Time) (changed []*kept) {
	l, k := r.cfg.Link(), r.current()
	wrong := r.wrong(&l, now)
	missed := l.Up && r.connects > 0 && l.Connects > r.connects && l.Failure.Cause != ""
	r.connects = l.Connects
	switch {
	case wrong.Cause != "":
		if k == nil {
			k = r.begin(wrong.From)
			r.cfg.Log.Warn("outage", "id", k.ID, "cause", wrong.Cause)
		}
		before := len(k.Causes)
		k.End, k.Through, k.Synced = time.Time{}, 0, time.Time{}
		if k.Broker == "" || k.Broker != l.Broker {
			k.Broker = l.Broker
		}
		k.add(wrong)
		k.judge(now)
		if len(k.Causes) != before || before == 0 {
			changed = append(changed, k)
		}
	case k == nil && missed && l.Failure.From.Before(l.Since): // shorter than a look
		k = r.begin(l.Failure.From)
		k.Broker = l.Broker
		k.add(l.Failure)
		r.end(k, l.Since)
		changed = append(changed, k)
	case k != nil && k.End.IsZero() && l.Up:
		over := now
		if n := len(k.Causes); n == 0 || k.Causes[n-1].Cause != Backend {
			over = l.Since
		}
		r.end(k, over)
		changed = append(changed, k)
	}
	return changed
}

// end notes when an outage was over.
func (r *Recorder) end(k *kept, at time.Time) {
	k.End, k.Through = at.UTC().Truncate(time.Millisecond), r.cfg.Journal.Stored()
	if k.End.Before(k.Start) {
		k.End, k.ClockUnsure = k.Start, true
	}
	k.judge(k.End)
	r.cfg.Log.Info("outage over", "id", k.ID, "cause", k.Cause, "lasted", k.Lasted(at).Round(time.Second).String())
}

// wrong says what keeps events from the cloud; an empty cause: nothing.
func (r *Recorder) wrong(l *Link, now time.Time) Stretch {
	cursor, stored := r.cfg.Journal.Cursor(r.cfg.Cursor), r.cfg.Journal.Stored()
	if cursor != r.cursor || cursor >= stored || !l.Up || !l.Waits {
		r.cursor, r.moved = cursor, now
	}
	if !l.Up {
		s := l.Failure
		switch k := r.current(); {
		case s.Cause == "":
		case k == nil || len(k.Causes) == 0:
			s.From = l.Since // it was lost before it was known why
		case k.Causes[len(k.Causes)-1].From.Before(r.started):
			s.From = r.started // since then the box was there, and did not know yet
		}
		return s
	}
	if from := r.moved; now.Sub(from) >= r.cfg.Stalled {
		return Stretch{
			From: from, Cause: Backend, Remedy: remedyOf(Backend),
			Evidence: fmt.Sprintf("the link is up, and nothing behind event %d was confirmed for %s", cursor, r.cfg.Stalled),
		}
	}
	return Stretch{}
}

// follow counts a piece of what is held and of what came late, and reports
// whether there is more.
func (r *Recorder) follow(ctx context.Context) (more bool) {
	r.mu.Lock()
	open := make([]*kept, 0, maxOpen)
	for _, k := range r.all {
		if !k.Settled {
			open = append(open, k)
		}
	}
	r.mu.Unlock()
	for i, k := range open {
		if len(open)-i > maxOpen {
			r.settle(k)
			continue
		}
		again, err := r.followOne(k)
		if err != nil && ctx.Err() == nil {
			r.complain(fmt.Errorf("count outage %d: %w", k.ID, err))
		}
		more = more || again && err == nil
	}
	return more
}

func (r *Recorder) followOne(k *kept) (more bool, err error) {
	now, cursor := time.Now(), r.cfg.Journal.Cursor(r.cfg.Cursor)
	to := r.cfg.Journal.Stored()
	r.mu.Lock()
	over := !k.End.IsZero()
	if over {
		to = k.Through
	} else {
		k.Through = to
	}
	late, passed := k.Late, k.Passed
	late.Classes = maps.Clone(late.Classes)
	r.mu.Unlock()

	counted, err1 := r.walk(k.tally.read, to, k.tally.add)
	k.tally.read = max(k.tally.read, counted)
	passed, err2 := r.walk(passed, min(cursor, to), func(e *event.Event) { late.note(e, now) })

	r.mu.Lock()
	k.tally.into(&k.Outage)
	k.Late, k.Passed = late, passed
	k.Repeats = minus(r.cfg.Repeats(), k.base)
	r.mu.Unlock()
	if err := errors.Join(err1, err2); err != nil {
		return false, err
	}
	more = k.tally.read < to || passed < min(cursor, to)
	if more || !over || cursor < k.Through {
		return more, nil
	}
	r.mu.Lock()
	if k.Synced.IsZero() {
		k.Synced = now.UTC().Truncate(time.Millisecond)
	}
	r.mu.Unlock()
	if now.Sub(k.End) >= r.cfg.Steady {
		r.settle(k)
	}
	return more, nil
}

// walk reads one piece of the journal and returns how far it came.
func (r *Recorder) walk(after, to event.Seq, each func(*event.Event)) (event.Seq, error) {
	if after >= to {
		return after, nil
	}
	events, err := r.cfg.Journal.Read(after, chunk, maxChunk)
	if err != nil {
		return after, err
	}
	if len(events) == 0 {
		return to, nil // they are gone
	}
	for i := range events {
		if events[i].Seq > to {
			return to, nil
		}
		each(&events[i])
	}
	return events[len(events)-1].Seq, nil
}

// settle keeps an outage for the last time.
func (r *Recorder) settle(k *kept) {
	r.mu.Lock()
	k.Settled, k.tally = true, nil
	r.mu.Unlock()
	r.cfg.Log.Info("outage settled", "id", k.ID, "cause", k.Cause, "held", k.Held.Events, "late", k.Late.Events)
	r.keep(time.Now(), false, []*kept{k})
}

// keep writes the mark, the outages that changed or may change, and lets go of
// the oldest, in one commit.
func (r *Recorder) keep(now time.Time, clean bool, changed []*kept) {
	r.alive = now
	entries := map[string][]byte{}
	put := func(key string, v any) {
		if raw, err := json.Marshal(v); err == nil { // cannot fail: strings, numbers and times
			entries[key] = raw
		}
	}
	r.mu.Lock()
	for len(r.all) > keepMost || len(r.all) > 0 && r.all[0].Settled && now.Sub(r.all[0].End) > keepFor {
		entries[key(r.all[0].ID)] = nil
		r.all = r.all[1:]
	}
	for _, k := range r.all {
		if !k.Settled || slices.Contains(changed, k) {
			put(key(k.ID), k)
		}
	}
	r.mu.Unlock()
	put(markKey, mark{At: now.UTC().Truncate(time.Millisecond), Clean: clean, Boot: r.cfg.Boot})
	if err := r.cfg.Journal.Put(space, entries); err != nil {
		r.complain(err)
	}
}

func (r *Recorder) complain(err error) {
	if now := time.Now(); now.Sub(r.troubled) >= pace {
		r.troubled = now
		r.cfg.Log.Warn("outages are not followed as they should be", "err", err)
	}
}

func key(id uint64) string { return strconv.FormatUint(id, 10) }

func minus(a, b Repeats) Repeats {
	return Repeats{Terminals: a.Terminals - b.Terminals, Broadcasts: a.Broadcasts - b.Broadcasts, Resent: a.Resent - b.Resent}
}
