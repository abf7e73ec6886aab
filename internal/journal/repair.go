package journal

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// Repaired says what Repair found and what it left.
type Repaired struct {
	Before, After Report
	Lost          []LostError   // that are gone and that no Repair has reported before
	Salvaged      uint64        // events found whole in damaged segments
	Quarantine    []Quarantined // damaged files kept for people, old ones too
}

// Changed reports whether anything was repaired.
func (r *Repaired) Changed() bool { return !r.Before.OK() }

// Repair does to the journal of a stopped box at once what a running box does
// when it meets damage: what of a damaged segment is whole is written into a
// new one, the damaged file goes to quarantine, and state that cannot be read
// begins anew. Where history was lost a new epoch begins. A journal without
// damage is left as it is. ErrMissing, ErrNewer or a *LockedError say why it
// cannot.
//
// What is gone for good it reports once, as Lost: from then on it is Known, and
// a journal in which nothing else is wrong is OK. All of it is durable on return.
func Repair(dir string, o Options, p Progress) (Repaired, error) {
	r, err := repair(dir, o.withDefaults(), p)
	if err != nil {
		return r, fmt.Errorf("repair journal %s: %w", dir, err)
	}
	return r, nil
}

func repair(dir string, o Options, p Progress) (r Repaired, err error) {
	const passes = 3
	if r.Before, err = check(dir, p.part(0, passes)); err != nil {
		return r, err
	}
	if r.Before.OK() {
		r.After = r.Before
		return r, nil
	}
	j, err := open(dir, o) // repairs the state and the newest segment
	if err != nil {
		return r, err
	}
	j.mendAll(p.part(1, passes))
	if err := j.Close(); err != nil {
		return r, err
	}
	r.Salvaged = j.counts.Salvaged
	if r.Quarantine, err = listQuarantine(dir); err != nil {
		return r, err
	}
	if r.After, err = check(dir, p.part(2, passes)); err != nil {
		return r, err
	}
	r.Lost = r.After.NewLosses()
	return r, noteLosses(dir, &r.After, o.Now())
}

// mendAll salvages every segment in which there is damage.
func (j *Journal) mendAll(p Progress) {
	j.mu.RLock()
	segments := slices.Clone(j.segments)
	j.mu.RUnlock()
	for i, s := range segments {
		p.tell(uint64(s.first-segments[0].first), uint64(segments[len(segments)-1].first-segments[0].first))
		last := j.Stored()
		if i+1 < len(segments) {
			last = segments[i+1].first - 1
		}
		if found := s.check(last); found.Err != nil || len(found.Lost) > 0 {
			j.mend(s)
		}
	}
}

// Losses returns the ranges of events that are gone, in order.
func (r *Report) Losses() []LostError {
	var all []LostError
	for _, s := range r.Segments {
		all = append(all, s.Lost...)
	}
	slices.SortFunc(all, func(a, b LostError) int { return cmp.Compare(a.From, b.From) })
	return all
}

// LostEvents returns how many events are gone.
func (r *Report) LostEvents() event.Seq {
	var n event.Seq
	for _, l := range r.Losses() {
		n += l.To + 1 - l.From
	}
	return n
}
