package journal

import (
	"errors"
	"os"
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
	if _, err := Compact(b.dir, 0, o); err == nil {
		t.Error("compacted beside a running box")
	}
	b.stop()
	if c, err := Compact(b.dir, time.Hour, o); err != nil || c.Segments != 0 {
		t.Errorf("offline: %+v, %v", c, err)
	}
	now = now.Add(2 * time.Hour)
	if c, err := Compact(b.dir, time.Hour, o); err != nil || c.Segments < 3 {
		t.Errorf("offline: %+v, %v", c, err)
	}
	b = start(t, b.dir, o)
	b.wantSamples(b.all(), int(b.First()), 3000)
}

func TestRepair(t *testing.T) {
	b := start(t, newJournal(t, small), small)
	b.fill(1, 1500)
	_, err := Repair(b.dir, small)
	if _, locked := errors.AsType[*LockedError](err); !locked {
		t.Errorf("beside a running box: %v", err)
	}
	b.stop()
	sound := dirContent(t, b.dir)
	if r, err := Repair(b.dir, small); err != nil || r.Changed() || !r.After.OK() || r.After.Events != 1500 {
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
	f, err := os.OpenFile(segments[1].path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(make([]byte, 2*pageSize), 5*pageSize); err != nil {
		t.Fatal(err)
	}
	f.Close()
	before, err := Check(b.dir)
	if err != nil || before.OK() {
		t.Fatal("no damage", err)
	}
	r, err := Repair(b.dir, small)
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
	b = start(t, b.dir, small)
	if good, lost := readable(t, b.Journal); uint64(good) != r.After.Events || lost != int(r.After.LostEvents()) {
		t.Errorf("%d events and %d lost, not %d", good, lost, r.After.Events)
	}
	if next := b.append(1501); next.Seq != 1501 {
		t.Errorf("next is %d", next.Seq)
	}
}
