package journal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func TestCompact(t *testing.T) {
	o := small
	now := day
	o.Now = func() time.Time { return now }
	b := start(t, newJournal(t, o), o)
	if err := b.MoveCursor("uplink", 0); err != nil {
		t.Fatal(err)
	}
	b.fill(1, 1500)
	segments := b.Stats().Segments
	if segments < 4 {
		t.Fatalf("only %d segments", segments)
	}
	if c, err := b.Compact(0); err != nil || c.Segments != 0 || c.First != 1 || c.Bytes != 0 {
		t.Errorf("took what a cursor has not passed: %+v, %v", c, err)
	}
	if err := b.MoveCursor("uplink", 1500); err != nil {
		t.Fatal(err)
	}
	if c, err := b.Compact(time.Hour); err != nil || c.Segments != 0 {
		t.Errorf("took what is not old enough: %+v, %v", c, err)
	}
	before := b.Stats()
	c, err := b.Compact(0)
	after := b.Stats()
	if err != nil || c.Segments != segments-1 || after.Segments != 1 || uint64(c.First) != 1+c.Events ||
		before.Bytes-after.Bytes != c.Bytes || c.Left != after.Bytes || c.Bytes <= 0 {
		t.Errorf("%+v, %v; before %+v, after %+v", c, err, before, after)
	}
	b.wantSamples(b.all(), int(c.First), 1500)
	if r := b.append(1501); r.Seq != 1501 {
		t.Errorf("next is %d", r.Seq)
	}
	b.fill(1502, 3000)
	if err := b.MoveCursor("uplink", 3000); err != nil {
		t.Fatal(err)
	}
	if _, err := Compact(b.dir, 0, o, nil); err == nil {
		t.Error("compacted beside a running box")
	}
	b.stop()
	if c, err := Compact(b.dir, time.Hour, o, nil); err != nil || c.Segments != 0 {
		t.Errorf("offline: %+v, %v", c, err)
	}
	now = now.Add(2 * time.Hour)
	if c, err := Compact(b.dir, time.Hour, o, nil); err != nil || c.Segments < 3 {
		t.Errorf("offline: %+v, %v", c, err)
	}
	b = start(t, b.dir, o)
	b.wantSamples(b.all(), int(b.First()), 3000)
}

// TestCompactWithoutCursors: where the state was lost nobody knows what the cloud
// has, so all of it stays.
func TestCompactWithoutCursors(t *testing.T) {
	b := start(t, newJournal(t, small), small)
	if err := b.MoveCursor("uplink", 0); err != nil {
		t.Fatal(err)
	}
	b.fill(1, 1500)
	b.stop()
	if err := os.Remove(filepath.Join(b.dir, metaName)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the first one makes the state anew
		if c, err := Compact(b.dir, 0, small, nil); !errors.Is(err, ErrNoCursor) || c.Segments != 0 {
			t.Errorf("%+v, %v", c, err)
		}
	}
	b = start(t, b.dir, small)
	b.wantSamples(b.all(), 1, 1500)
}

func TestRepair(t *testing.T) {
	b := start(t, newJournal(t, small), small)
	b.fill(1, 1500)
	_, err := Repair(b.dir, small, nil)
	if _, locked := errors.AsType[*LockedError](err); !locked {
		t.Errorf("beside a running box: %v", err)
	}
	b.stop()
	sound := dirContent(t, b.dir)
	if r, err := Repair(b.dir, small, nil); err != nil || r.Changed() || !r.After.OK() || r.After.Events != 1500 {
		t.Errorf("sound: %+v, %v", r, err)
	}
	for name, text := range dirContent(t, b.dir) {
		if name != lockName && text != sound[name] {
			t.Errorf("%s of a sound journal was changed", name)
		}
	}
	// A page of an old segment, in the middle.
	segments, _, err := listSegments(b.dir, &pool{})
	if err != nil {
		t.Fatal(err)
	}
	const damage = 8 * pageSize // which of its pages hold events depends on the commits; so many are not free
	zero(t, segments[1].path, 5*pageSize, damage)
	before, err := Check(b.dir)
	if err != nil || before.OK() {
		t.Fatal("no damage", err)
	}
	r, err := Repair(b.dir, small, nil)
	if err != nil || !r.Changed() || len(r.Quarantine) != 1 || r.Salvaged == 0 || r.After.Events < before.Events {
		t.Errorf("%+v, %v", r, err)
	}
	for _, l := range r.After.Losses() {
		if l.From < segments[1].first || l.To >= segments[2].first {
			t.Errorf("%v", &l)
		}
	}
	if r.After.Events+uint64(r.After.LostEvents()) != 1500 {
		t.Errorf("%d events and %d lost", r.After.Events, r.After.LostEvents())
	}
	// What was reported once is known, and no fault.
	if len(r.Lost) == 0 || r.After.LostEvents() == 0 {
		t.Fatal("nothing is lost; the test needs a loss")
	}
	reported := r.Lost
	after, err := Check(b.dir)
	if err != nil || !after.OK() || len(after.Losses()) != len(reported) || after.LostEvents() != r.After.LostEvents() {
		t.Errorf("after repair: %+v, %v", after, err)
	}
	for _, l := range after.Losses() {
		if !after.KnownSince(&l).Equal(day) {
			t.Errorf("%v is known since %v, want %v", &l, after.KnownSince(&l), day)
		}
	}
	if again, err := Repair(b.dir, small, nil); err != nil || again.Changed() || len(again.Lost) > 0 {
		t.Errorf("again: %+v, %v", again, err)
	}
	b = start(t, b.dir, small)
	if good, lost := readable(t, b.Journal); uint64(good) != r.After.Events || lost != int(r.After.LostEvents()) {
		t.Errorf("%d events and %d lost, not %d", good, lost, r.After.Events)
	}
	if next := b.append(1501); next.Seq != 1501 {
		t.Errorf("next is %d", next.Seq)
	}
	file := backUp(t, b.Journal)
	b.stop()

	// A backup takes it along.
	copied, _ := restored(t, file, small)
	if c, err := Check(copied); err != nil || !c.OK() || c.LostEvents() != after.LostEvents() {
		t.Errorf("restored: %+v, %v", c, err)
	}

	// New damage is none of it, in the same segment or in another.
	for _, s := range segments[1:3] {
		zero(t, s.path, 5*pageSize, damage)
		r, err := Repair(b.dir, small, nil)
		if err != nil || !r.Changed() || len(r.Lost) == 0 || !r.After.OK() {
			t.Fatalf("%s: %+v, %v", s.path, r, err)
		}
		for _, l := range r.Lost {
			if l.From < s.first || !r.After.KnownSince(&l).Equal(day) {
				t.Errorf("%s: lost %v", s.path, &l)
			}
		}
	}
}

// TestRepairOfTheState loses each page of meta.db in turn, and a bit of each of
// its values: the journal is sound afterwards, and what is whole is still there.
func TestRepairOfTheState(t *testing.T) {
	b := start(t, newJournal(t, small), small)
	b.fill(1, 100)
	state := map[string][]byte{}
	for n := range 20 {
		state[fmt.Sprint("key", n)] = bytes.Repeat([]byte{byte(n)}, 1000) // pages of its own
	}
	if err := errors.Join(b.MoveCursor("uplink", 50), b.Put("lan", state), b.Put("auth", map[string][]byte{"a": {1}})); err != nil {
		t.Fatal(err)
	}
	b.stop()
	path := filepath.Join(b.dir, metaName)
	sound, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var harms [][2]int64 // from, length
	for at := int64(0); at < int64(len(sound)); at += pageSize {
		if !bytes.Equal(sound[at:at+pageSize], make([]byte, pageSize)) {
			harms = append(harms, [2]int64{at, pageSize})
		}
	}
	for _, value := range []string{"format", "epoch", "newest", "uplink", "key7"} {
		if at := bytes.LastIndex(sound, []byte(value)); at > 0 {
			harms = append(harms, [2]int64{int64(at+len(value)) + 30, 2}, [2]int64{int64(at + len(value)), 2})
		}
	}
	for _, harm := range harms {
		if err := os.WriteFile(path, sound, 0o600); err != nil {
			t.Fatal(err)
		}
		zero(t, path, harm[0], harm[1])
		if r, err := Repair(b.dir, small, nil); err != nil || !r.After.OK() || r.After.Events != 100 {
			t.Errorf("%v: %v, %q, %d events", harm, err, r.After.Problems, r.After.Events)
		}
		j, err := Open(b.dir, small)
		if err != nil {
			t.Fatalf("%v: %v", harm, err)
		}
		got, err := j.All("lan")
		if err := errors.Join(err, j.MoveCursor("uplink", 60), j.Put("lan", state), j.Close()); err != nil {
			t.Errorf("%v: %v", harm, err)
		}
		for key, value := range got {
			if !bytes.Equal(value, state[key]) {
				t.Errorf("%v: %s is not as it was", harm, key)
			}
		}
	}
}

// zero overwrites a part of a file.
func zero(t *testing.T, path string, at, n int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(make([]byte, n), at); err != nil {
		t.Fatal(err)
	}
}

// TestOnlyFinalLossesAreKnown: what may yet be salvaged is reported again.
func TestOnlyFinalLossesAreKnown(t *testing.T) {
	b := start(t, newJournal(t, small), small)
	b.fill(1, 10)
	b.stop()
	r := Report{First: 5, Known: []KnownLoss{{From: 2, To: 4}, {From: 6, To: 7, Since: day}}, Segments: []SegmentReport{{Lost: []LostError{
		{From: 6, To: 7, Err: errSalvaged}, {From: 9, To: 9}, {From: 11, To: 12, Err: errSalvaged}, {From: 20, To: 30, Err: ErrDamaged},
	}}}}
	if err := noteLosses(b.dir, &r, day.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	found, err := Check(b.dir)
	if err != nil || !slices.Equal(found.Known, []KnownLoss{{9, 9, day.Add(time.Hour)}, {11, 12, day.Add(time.Hour)}}) {
		t.Errorf("noted %v, %v", found.Known, err)
	}
	if fresh := r.NewLosses(); len(fresh) != 1 || fresh[0].From != 20 {
		t.Errorf("still new: %v", fresh)
	}
	if r.OK() {
		t.Error("a loss that is not final is no fault")
	}
}
