package journal

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// model is what a journal should be: a list, and how far each follower is.
type model struct {
	events  []*event.Event // seq 1 first, trimmed ones too
	first   event.Seq
	epoch   event.Epoch
	cursors map[string]event.Seq
	keeps   map[string]event.Seq // what may not be trimmed for a cursor's sake
	harmed  map[event.Seq]bool   // in a segment that was damaged: may be lost
}

// subject is a journal under a model.
type subject struct {
	*model
	t    *testing.T
	root string
	o    Options
	b    *box

	crashes int

	mu  sync.Mutex // the box's own trimming reads the clock
	now time.Time
}

// modelRound is how many sequences of TestModel run at a time.
const modelRound = 500

// TestModel runs random operations against the journal and the model. What it
// ran with is printed; the same again, and a failure made small:
//
//	AVOQADO_SEED=s go test -run 'TestModel$' ./internal/journal
//	go test -run 'TestModel$' ./internal/journal -rapid.failfile=… (as it says)
func TestModel(t *testing.T) {
	count := &tally{t: t, what: "sequences of about 30 operations", seed: seed(t)}
	defer count.report()
	done := map[string]int{}
	// In rounds, since what a test started is kept until it ends.
	for left := torture(t, 500, 20); left > 0; left -= modelRound {
		sequences := min(left, modelRound)
		checks := sequences
		if testing.Short() {
			checks *= 5 // rapid makes a fifth of it
		}
		set(t, "rapid.checks", strconv.Itoa(checks))
		set(t, "rapid.seed", strconv.FormatUint(count.seed+uint64(left), 10))
		if !t.Run("round", func(t *testing.T) { runModel(t, done); count.count += sequences }) {
			break
		}
	}
	count.note = fmt.Sprint(done)
	for _, name := range []string{"crash", "corrupt", "roll", "make room"} {
		if done[name] == 0 {
			t.Errorf("no %s was drawn", name)
		}
	}
}

// set gives rapid a flag for the rest of the test.
func set(t *testing.T, flagName, value string) {
	t.Helper()
	before := flag.Lookup(flagName).Value.String()
	if err := flag.Set(flagName, value); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = flag.Set(flagName, before) })
}

// runModel runs sequences and counts the operations of each kind in done.
func runModel(t *testing.T, done map[string]int) {
	rapid.Check(t, func(rt *rapid.T) {
		s := newSubject(t, rt)
		defer os.RemoveAll(s.root)
		defer func() { s.b.stop() }()
		actions := map[string]func(*rapid.T){"": s.check}
		for name, action := range map[string]func(*rapid.T){
			"append": s.append, "append many": s.appendMany, "roll": s.roll, "cursor": s.cursor, "trim": s.trim,
			"read": s.read, "reopen": s.reopen, "crash": s.crash, "corrupt": s.corrupt, "make room": s.makeRoom,
		} {
			actions[name] = func(rt *rapid.T) {
				action(rt)
				done[name]++
			}
		}
		rt.Repeat(actions)
		s.b.stop()
		r, err := Check(s.b.dir)
		if err != nil || !r.OK() && len(s.harmed) == 0 || r.Stored != event.Seq(len(s.events)) {
			rt.Fatalf("check: %v, %+v", err, r)
		}
	})
}

func newSubject(t *testing.T, rt *rapid.T) *subject {
	s := &subject{
		model: &model{
			first: 1, cursors: map[string]event.Seq{}, keeps: map[string]event.Seq{}, harmed: map[event.Seq]bool{},
		},
		t: t, root: memory(rt), now: day,
	}
	s.o = Options{
		SegmentBytes: int64(rapid.SampledFrom([]int{4, 16, 64}).Draw(rt, "segment")) << 10,
		RetainFor:    time.Minute,
		QueueEvents:  rapid.IntRange(1, 64).Draw(rt, "queue"),
		MaxEvents:    rapid.SampledFrom([]int64{0, 0, 0, 64, 200}).Draw(rt, "cap"),
		Now:          func() time.Time { s.mu.Lock(); defer s.mu.Unlock(); return s.now },
	}
	dir := filepath.Join(s.root, "journal")
	if err := Create(dir, s.o); err != nil {
		rt.Fatal(err)
	}
	s.b = start(t, dir, s.o)
	s.epoch = s.b.Epoch()
	return s
}

func (s *subject) draw(rt *rapid.T) *event.Event {
	e := sample(len(s.events) + rapid.IntRange(0, 1000).Draw(rt, "n"))
	e.Time = s.now
	e.Payload = rapid.SliceOfN(rapid.Byte(), 0, 3000).Draw(rt, "payload")
	if rapid.Bool().Draw(rt, "keyed") {
		e.DedupKey = fmt.Sprintf("k/%d", rapid.IntRange(0, 40).Draw(rt, "key"))
		e.Digest = uint64(rapid.IntRange(1, 2).Draw(rt, "digest"))
	}
	return e
}

// answered checks what became of an event. Trimming runs beside us, so one
// that a key stands for may or may not be there any more if it is old: then
// any answer will do.
func (s *subject) answered(rt *rapid.T, e *event.Event, r event.Receipt, err error) {
	if full, ok := errors.AsType[*FullError](err); ok && s.o.MaxEvents > 0 {
		if full.Class != event.Money {
			rt.Fatalf("refused: %+v", full)
		}
		return
	}
	if err == nil && !r.Duplicate {
		if int(r.Seq) != len(s.events)+1 || r.Epoch != s.epoch {
			rt.Fatalf("stored at %d of %s, want %d of %s", r.Seq, r.Epoch, len(s.events)+1, s.epoch)
		}
		for i, have := range s.events[s.b.First()-1:] {
			if e.DedupKey != "" && have.DedupKey == e.DedupKey && !s.harmed[s.b.First()+event.Seq(i)] {
				rt.Fatalf("key %s stored again, first at %d", e.DedupKey, have.Seq)
			}
		}
		s.events = append(s.events, e)
		return
	}
	if e.DedupKey == "" || err != nil && !errors.Is(err, ErrKeyReuse) {
		rt.Fatalf("append: %v", err)
	}
	for _, have := range s.events[s.first-1:] {
		if have.DedupKey == e.DedupKey && (have.Digest != e.Digest) == (err != nil) && (err != nil || r.Seq == have.Seq) {
			return
		}
	}
	rt.Fatalf("%s/%d is no repeat: %+v, %v", e.DedupKey, e.Digest, r, err)
}

func (s *subject) append(rt *rapid.T) {
	e := s.draw(rt)
	r, err := s.b.Append(s.t.Context(), e)
	s.answered(rt, e, r, err)
}

func (s *subject) appendMany(rt *rapid.T) {
	n := rapid.IntRange(2, 40).Draw(rt, "many")
	type answer struct {
		e   *event.Event
		r   event.Receipt
		err error
	}
	answers := make(chan answer, n)
	for range n {
		e := s.draw(rt)
		if err := s.b.Enqueue(s.t.Context(), e, func(r event.Receipt, err error) {
			answers <- answer{e, r, err}
		}); err != nil {
			rt.Fatal(err)
		}
	}
	for range n { // in seq order, so the model can follow
		a := <-answers
		s.answered(rt, a.e, a.r, a.err)
	}
}

// roll fills the segment with one event.
func (s *subject) roll(rt *rapid.T) {
	e := s.draw(rt)
	e.Payload = bytes.Repeat([]byte("x"), int(s.o.SegmentBytes))
	r, err := s.b.Append(s.t.Context(), e)
	s.answered(rt, e, r, err)
}

func (s *subject) cursor(rt *rapid.T) {
	name := rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "name")
	s.move(rt, name, event.Seq(rapid.IntRange(0, len(s.events)+1).Draw(rt, "to")))
}

func (s *subject) move(rt *rapid.T, name string, to event.Seq) {
	err := s.b.MoveCursor(name, to)
	if (int(to) > len(s.events)) != errors.Is(err, ErrBeyond) {
		rt.Fatalf("move to %d of %d: %v", to, len(s.events), err)
	}
	if err == nil {
		s.cursors[name] = max(s.cursors[name], to)
		if _, have := s.keeps[name]; !have { // what is gone already, it cannot keep
			s.keeps[name] = s.b.First()
		}
		s.keeps[name] = max(s.keeps[name], to+1)
	}
}

func (s *subject) trim(rt *rapid.T) {
	s.mu.Lock()
	s.now = s.now.Add(time.Duration(rapid.IntRange(0, 90).Draw(rt, "seconds")) * time.Second)
	s.mu.Unlock()
	if _, err := s.b.Trim(); err != nil {
		rt.Fatal(err)
	}
}

func (s *subject) reopen(*rapid.T) { s.b = s.b.restart(s.o) }

// crash goes on with the files as they are, as a process does that follows one
// that was killed, and finds a file that one had only begun.
func (s *subject) crash(rt *rapid.T) {
	// Trimming runs beside us: a segment may go while it is copied.
	s.b.trimming.Lock()
	dir := filepath.Join(s.root, fmt.Sprintf("crash-%d", s.crashes))
	s.crashes++
	err := os.CopyFS(dir, os.DirFS(s.b.dir))
	s.b.trimming.Unlock()
	if err != nil {
		rt.Fatal(err)
	}
	begun := segmentPath(dir, event.Seq(len(s.events)+1)) + tempSuffix
	if err := os.WriteFile(begun, []byte("begun"), 0o600); err != nil {
		rt.Fatal(err)
	}
	s.b.stop()
	if err := os.RemoveAll(s.b.dir); err != nil {
		rt.Fatal(err)
	}
	s.b = start(s.t, dir, s.o)
}

// corrupt harms one of the segments that are not written any more.
func (s *subject) corrupt(rt *rapid.T) {
	s.b.stop()
	defer func() { s.b = start(s.t, s.b.dir, s.o) }()
	segments := s.b.segments
	if len(segments) < 2 {
		return
	}
	i := rapid.IntRange(0, len(segments)-2).Draw(rt, "which")
	content, err := os.ReadFile(segments[i].path)
	if err != nil {
		rt.Fatal(err)
	}
	at := rapid.IntRange(0, len(bytes.TrimRight(content, "\x00"))).Draw(rt, "at")
	at = min(at, len(content)-1)
	if rapid.Bool().Draw(rt, "page") {
		clear(content[at/pageSize*pageSize:][:pageSize])
	} else {
		content[at] ^= 0x10
	}
	if err := os.WriteFile(segments[i].path, content, 0o600); err != nil {
		rt.Fatal(err)
	}
	for seq := segments[i].first; seq < segments[i+1].first; seq++ {
		s.harmed[seq] = true
	}
}

// makeRoom has everything confirmed, after which even a full journal must take
// an event.
func (s *subject) makeRoom(rt *rapid.T) {
	s.move(rt, "a", event.Seq(len(s.events))) // without a follower nothing is let go early
	if _, have := s.cursors["b"]; have {
		s.move(rt, "b", event.Seq(len(s.events)))
	}
	if _, err := s.b.Trim(); err != nil {
		rt.Fatal(err)
	}
	e := s.draw(rt)
	e.DedupKey = "" // a repeat needs no room
	for deadline := time.Now().Add(time.Minute); ; {
		r, err := s.b.Append(s.t.Context(), e)
		s.answered(rt, e, r, err)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			rt.Fatalf("never takes an event again: %v\n%+v", err, s.b.Stats())
		}
	}
}

func (s *subject) read(rt *rapid.T) {
	after := event.Seq(rapid.IntRange(0, len(s.events)).Draw(rt, "after"))
	events, err := s.b.Read(after, rapid.IntRange(1, 50).Draw(rt, "max"), 10_000)
	if lost, ok := errors.AsType[*LostError](err); ok {
		for seq := lost.From; seq <= lost.To; seq++ {
			if !s.harmed[seq] {
				rt.Fatalf("lost without being harmed: %d, of %d to %d", seq, lost.From, lost.To)
			}
		}
		return
	}
	if err != nil || len(events) == 0 && after < s.b.Stored() && s.b.First() <= s.b.Stored() {
		rt.Fatalf("read behind %d: %d events, %v", after, len(events), err)
	}
	for i, e := range events {
		if want := s.events[e.Seq-1]; e.Seq != events[0].Seq+event.Seq(i) ||
			e.ID != want.ID || string(e.Payload) != string(want.Payload) || !e.Time.Equal(want.Time) {
			rt.Fatalf("read %+v, want %+v", e, *want)
		}
	}
	if len(events) > 0 && events[0].Seq != max(after+1, s.b.First()) && s.b.First() <= after+1 {
		rt.Fatalf("read %d behind %d", events[0].Seq, after)
	}
}

// check holds after every operation.
func (s *subject) check(rt *rapid.T) {
	if s.b.Stored() != event.Seq(len(s.events)) || s.b.Epoch() != s.epoch {
		rt.Fatalf("stored %d of %s, want %d of %s", s.b.Stored(), s.b.Epoch(), len(s.events), s.epoch)
	}
	if s.o.MaxEvents > 0 && s.b.kept() > s.o.MaxEvents {
		rt.Fatalf("%d events are kept, at most %d may be", s.b.kept(), s.o.MaxEvents)
	}
	for name, at := range s.cursors {
		if s.b.Cursor(name) != at {
			rt.Fatalf("cursor %s at %d, want %d", name, s.b.Cursor(name), at)
		}
		if s.b.First() > s.keeps[name] {
			rt.Fatalf("trimmed to %d, cursor %s is at %d", s.b.First(), name, at)
		}
	}
	first := s.b.First()
	young := first > 1 && first <= s.b.Stored() && s.events[first-2].Time.Add(s.o.RetainFor).After(s.now)
	if young && s.o.MaxEvents == 0 && !s.harmed[first-1] {
		rt.Fatalf("event %d was trimmed too young", first-1)
	}
	if first < s.first {
		rt.Fatalf("first went back from %d to %d", s.first, first)
	}
	s.first = first
}

// memory returns a new directory, in memory where there is such a file system:
// these tests are about what is in the files, and an fsync that costs nothing
// allows for many more of them. The caller removes it.
func memory(t interface{ Fatal(...any) }) string {
	dir, err := os.MkdirTemp("/dev/shm", "journal-")
	if err != nil {
		dir, err = os.MkdirTemp("", "journal-")
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
