package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// quarantineDir holds damaged segments as they were, for people. Nothing in it
// is needed for anything else.
const (
	quarantineDir  = "quarantine"
	quarantineTime = "20060102T150405.000"
)

// errSalvaged marks what salvage did not find: it is gone for good.
var errSalvaged = fmt.Errorf("%w: not found by salvage", ErrDamaged)

// SalvageReport says what became of one damaged segment.
type SalvageReport struct {
	First, Last event.Seq   // what it should have held
	Found       uint64      // events that are whole
	Lost        []LostError // what is not, exact and in order
	Quarantine  string      // path of the damaged file; empty: it was missing
}

// Missing returns how many events were not found.
func (r *SalvageReport) Missing() uint64 {
	var n uint64
	for _, l := range r.Lost {
		n += uint64(l.To - l.From + 1)
	}
	return n
}

// salvageSegment puts a new, sealed segment with every record that is whole in
// the place of the damaged one that begins at first, and the damaged file into
// quarantine. known is the last seq it must have held; zero if nobody knows,
// then it ends with the last record found, or at atLeast if that is higher.
// epoch is what to assume if the file does not say. No one may have the file
// open for writing. It is safe to call again, after a crash too:
//
//	write new under a temp name    crash: removed at the next start
//	link the old into quarantine   crash: it has two names; the next try adds one
//	rename new over old            the old one has one name left
func salvageSegment(dir string, first, known, atLeast event.Seq, epoch event.Epoch, o Options, p *pool, c *counters) (*segment, SalvageReport, error) {
	path := segmentPath(dir, first)
	r := SalvageReport{First: first}
	f, err := os.Open(path)
	if err != nil {
		return nil, r, fmt.Errorf("salvage segment %d: %w", first, err)
	}
	defer f.Close()
	w, err := salvageFile(f, first, known)
	if err != nil {
		return nil, r, fmt.Errorf("salvage segment %d: %w", first, err)
	}
	a := about{epoch: w.epoch, first: first, last: known, salvaged: true}
	if a.epoch == "" {
		a.epoch = epoch
	}
	if known == 0 {
		a.last = max(w.last(), atLeast, first-1)
	}
	r.Last, r.Found, r.Lost = a.last, uint64(len(w.records)), w.lost(first, a.last)
	if r.Quarantine, err = quarantine(path, o.Now()); err != nil {
		return nil, r, fmt.Errorf("salvage segment %d: %w", first, err)
	}
	s, err := writeSegment(dir, a, w.read(f), o, p, c)
	if err != nil {
		// The damaged one still has its place; one name of it is enough.
		return nil, r, errors.Join(fmt.Errorf("salvage segment %d: %w", first, err), os.Remove(r.Quarantine))
	}
	return s, r, nil
}

// quarantine gives a damaged file a second, durable name in quarantine/.
func quarantine(path string, now time.Time) (string, error) {
	dir := filepath.Join(filepath.Dir(path), quarantineDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	if err := syncDir(filepath.Dir(dir)); err != nil {
		return "", err
	}
	aside := filepath.Join(dir, filepath.Base(path)+"-"+now.UTC().Format(quarantineTime))
	if err := os.Link(path, aside); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	return aside, syncDir(dir)
}

// Quarantined is a damaged file that is kept for people.
type Quarantined struct {
	Path  string    `json:"path"`
	Bytes int64     `json:"bytes"` // on disk
	Since time.Time `json:"since,omitzero"`
}

// listQuarantine returns what is in quarantine, oldest first.
func listQuarantine(dir string) ([]Quarantined, error) {
	entries, err := os.ReadDir(filepath.Join(dir, quarantineDir))
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	list := []Quarantined{}
	for _, e := range entries {
		path := filepath.Join(dir, quarantineDir, e.Name())
		q := Quarantined{Path: path, Bytes: diskBytes(path)}
		if i := strings.LastIndexByte(e.Name(), '-'); i >= 0 {
			q.Since, _ = time.Parse(quarantineTime, e.Name()[i+1:]) // put there by hand: no time
		}
		list = append(list, q)
	}
	slices.SortStableFunc(list, func(a, b Quarantined) int { return a.Since.Compare(b.Since) })
	return list, err
}

// mend salvages a segment in which damage was met, once, and reports whether
// the list of segments has changed: whoever met the damage looks again. It
// reads the whole file, so the caller waits for about a second; better that
// than to call lost what is not.
func (j *Journal) mend(s *segment) bool {
	if s.hopeless.Load() {
		return false
	}
	if s.writing.Load() {
		// The writer leaves it first. Until then what is damaged in it cannot
		// be told from what is gone.
		s.suspect.Store(true)
		j.queue.wake()
		return false
	}
	j.trimming.Lock()
	defer j.trimming.Unlock()
	i, last := j.place(s)
	if i < 0 {
		return true // trimmed, or mended by another
	}
	if s.writing.Load() || s.hopeless.Swap(true) {
		return false
	}
	if r, err := s.scan(); err == nil && !r.rotten && checkFile(s.path) == nil {
		return false // sound, and shorter than it should be: there is no more in it
	}
	_, _, err := j.replaceSalvaged(s, last, 0)
	return err == nil
}

// place returns where s stands in the list, -1 if nowhere, and its last seq.
func (j *Journal) place(s *segment) (i int, last event.Seq) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	i, last = slices.Index(j.segments, s), j.Stored()
	if i+1 < len(j.segments) && i >= 0 {
		last = j.segments[i+1].first - 1
	}
	return i, last
}

// replaceSalvaged salvages a segment and puts the new one into its place in the
// list. See salvageSegment for known and atLeast. Called with trimming held, or
// before anyone else has the journal.
func (j *Journal) replaceSalvaged(s *segment, known, atLeast event.Seq) (*segment, SalvageReport, error) {
	next, report, err := salvageSegment(j.dir, s.first, known, atLeast, j.neighbour(s), j.o, &j.pool, &j.disk)
	if err != nil {
		j.o.Log.Error("segment is damaged and not salvaged", "first", s.first, "err", err)
		return nil, report, err
	}
	next.hopeless.Store(true)
	j.mu.Lock()
	j.segments = slices.Clone(j.segments) // others may hold the list
	j.segments[slices.Index(j.segments, s)] = next
	j.counts.Damages++
	j.counts.Salvaged += report.Found
	j.mu.Unlock()
	j.pool.forget(s)
	s.kill(errTrimmed)
	j.o.Log.Error("damaged segment salvaged", "first", report.First, "last", report.Last,
		"found", report.Found, "missing", report.Missing(), "quarantine", report.Quarantine)
	for n := range report.Lost {
		j.reportLost(&report.Lost[n])
	}
	return next, report, nil
}

// neighbour returns the epoch a segment must have if it does not say: that of
// the one before it, else of the one behind it, else the journal's.
func (j *Journal) neighbour(s *segment) event.Epoch {
	j.mu.RLock()
	segments, epoch := j.segments, j.epoch
	j.mu.RUnlock()
	at := slices.Index(segments, s)
	for _, i := range []int{at - 1, at + 1} {
		if i >= 0 && i < len(segments) {
			if a, err := segments[i].info(); err == nil {
				return a.epoch
			}
		}
	}
	return epoch
}

// mendMeta has what can be read of meta.db written anew if there is damage in
// it: no part is to stumble over that at each start. What cannot be read is told
// here, and kept beside for people.
func (j *Journal) mendMeta() {
	m := j.meta
	lost := m.lostState()
	if err := m.file.checkMetas(); err != nil {
		lost = append(lost, fmt.Errorf("it may be one change old: %w", err))
	}
	if err := m.file.checkPages(); err != nil {
		lost = append(lost, err)
	}
	for name, err := range m.damaged {
		lost = append(lost, fmt.Errorf("cursor %s begins anew: %w", name, err))
	}
	for _, err := range lost {
		j.o.Log.Error("journal state is damaged and written anew", "err", err)
		j.counts.Damages++
		m.broken = true
	}
	if !m.broken {
		return
	}
	if err := os.Link(m.path, damagedName(m.path, j.o.Now())); err != nil {
		j.o.Log.Warn("keep damaged journal state", "err", err)
	}
	if err := m.replace(); err != nil { // again before the next change
		j.o.Log.Warn("write journal state anew", "err", err)
	}
}
