package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// fakeDisk is a disk whose free room a test sets.
type fakeDisk struct{ free, total atomic.Int64 }

func newFakeDisk(free, total int64) *fakeDisk {
	d := &fakeDisk{}
	d.free.Store(free)
	d.total.Store(total)
	return d
}

func (d *fakeDisk) space(string) (free, total int64, err error) {
	return d.free.Load(), d.total.Load(), nil
}

func classed(n int, c event.Class) *event.Event {
	e := sample(n)
	e.Class = c
	return e
}

// offer appends one event of each class and returns the first that is taken.
func (b *box) offer() (lowest event.Class) {
	b.t.Helper()
	for c := event.Money; c >= event.Service; c-- {
		_, err := b.Append(b.t.Context(), classed(int(b.Stored())+1, c))
		full, ok := errors.AsType[*FullError](err)
		switch {
		case err == nil:
			if lowest != 0 && lowest != c+1 {
				b.t.Fatalf("%s is taken, and %s is not", c, c+1)
			}
			lowest = c
		case !ok || full.Class != c || full.Reason == "":
			b.t.Fatalf("refusal of %s: %v", c, err)
		}
	}
	return lowest
}

func TestLevelsRefuseFromTheBottom(t *testing.T) {
	for level, lowest := range map[Level]event.Class{
		LevelOK: event.Telemetry, LevelTrim: event.Telemetry, LevelNoService: event.Alerts,
		LevelNoAlerts: event.Orders, LevelNoOrders: event.Money, LevelFull: event.Money + 1,
	} {
		for c := event.Telemetry; c <= event.Money; c++ {
			if level.Refuses(c) != (c < lowest) {
				t.Errorf("%s refuses %s: %t", level, c, level.Refuses(c))
			}
		}
		if level.String() == "unknown" {
			t.Errorf("level %d has no name", level)
		}
	}
}

// TestLadder lets a disk fill and empty. The unit is 1 MiB.
func TestLadder(t *testing.T) {
	disk := newFakeDisk(100<<20, 1<<30)
	o := Options{SegmentBytes: 1 << 20, BallastBytes: 2 << 20, Now: small.Now, space: disk.space}
	b := start(t, newJournal(t, o), o)
	eventually(t, func() bool { return b.Stats().Ballast >= 2<<20 })
	for i, step := range []struct {
		free   int64 // in tenths of a unit
		level  Level
		lowest event.Class
	}{
		{81, LevelOK, event.Service},
		{79, LevelTrim, event.Service},
		{81, LevelTrim, event.Service}, // hysteresis: a quarter more
		{101, LevelOK, event.Service},
		{39, LevelNoService, event.Alerts},
		{41, LevelNoService, event.Alerts},
		{19, LevelNoAlerts, event.Orders},
		{9, LevelNoOrders, event.Money},
		{0, LevelNoOrders, event.Money}, // full says the kernel alone
		{12, LevelNoOrders, event.Money},
		{13, LevelNoAlerts, event.Orders},
		{101, LevelOK, event.Service},
	} {
		disk.free.Store(step.free << 20 / 10)
		if level := b.measure(); level != step.level {
			t.Fatalf("step %d: %s, want %s", i, level, step.level)
		}
		if s := b.Stats(); s.Level != step.level || (s.LevelReason == "") != (step.level == LevelOK) || s.Err != nil {
			t.Fatalf("step %d: %+v", i, s)
		}
		if lowest := b.offer(); lowest != step.lowest {
			t.Fatalf("step %d: takes from %s on, want %s", i, lowest, step.lowest)
		}
	}
	s := b.Stats()
	if s.Refused["service"] != 7 || s.Refused["alerts"] != 5 || s.Refused["orders"] != 3 || s.Refused["money"] != 0 {
		t.Fatalf("refused %v", s.Refused)
	}
	b.all()
}

// TestDiskFull has the kernel refuse a commit. The ballast goes, cursors move,
// nothing is tried until there is room, and then all goes on by itself.
func TestDiskFull(t *testing.T) {
	disk := newFakeDisk(100<<20, 1<<30)
	o := Options{SegmentBytes: 1 << 20, BallastBytes: 2 << 20, Now: small.Now, space: disk.space}
	b := start(t, newJournal(t, o), o)
	eventually(t, func() bool { return b.Stats().Ballast >= 2<<20 })
	first, err := b.Append(t.Context(), keyed(1, "k", 1))
	if err != nil {
		t.Fatal(err)
	}
	b.fill(2, 50)
	epoch := b.Epoch()

	disk.free.Store(0)
	b.fillDisk(b.writer.active.file)
	for range 20 {
		_, err := b.Append(t.Context(), sample(51))
		if full, ok := errors.AsType[*FullError](err); !ok || full.Level != LevelFull || full.Class != event.Money {
			t.Fatalf("on a full disk: %v", err)
		}
	}
	b.wantDuplicate("k", 1, first) // a repeat needs no room
	s := b.Stats()
	if s.Err == nil || s.Level != LevelFull || s.Ballast != 0 || s.Segments > 2 || s.Stored != 50 {
		t.Fatalf("stats %+v", s)
	}
	disk.free.Store(2 << 20) // what the ballast was
	if err := b.MoveCursor("uplink", 40); err != nil {
		t.Fatal(err)
	}
	if b.measure() != LevelFull {
		t.Fatal("the ballast is taken for room")
	}
	b.wantSamples(b.all()[1:], 2, 50)

	disk.free.Store(100 << 20)
	eventually(t, func() bool {
		_, err := b.Append(t.Context(), sample(51))
		return err == nil
	})
	eventually(t, func() bool { return b.Stats().Ballast >= 2<<20 })
	if s := b.Stats(); s.Err != nil || s.Level != LevelOK || s.Stored != 51 || s.Refused["money"] < 20 {
		t.Fatalf("stats %+v", s)
	}
	b = b.restart(o)
	b.wantSamples(b.all()[1:], 2, 51)
	if b.Epoch() != epoch {
		t.Fatal("a new epoch, though nothing was lost")
	}
	b.stop()
	if report, err := Check(b.dir); err != nil || !report.OK() {
		t.Fatalf("check: %v, %+v", err, report)
	}
}

// fillDisk makes every later write to a file fail as on a full disk.
func (b *box) fillDisk(f *boltFile) {
	b.t.Helper()
	b.swap(f, func() (int, error) { return syscall.Open("/dev/full", syscall.O_RDWR, 0) })
}

// TestStateOnAFullDisk moves a cursor when only the ballast is left.
func TestStateOnAFullDisk(t *testing.T) {
	disk := newFakeDisk(100<<20, 1<<30)
	o := Options{SegmentBytes: 1 << 20, BallastBytes: 2 << 20, Now: small.Now, space: disk.space}
	b := start(t, newJournal(t, o), o)
	b.fill(1, 10)
	eventually(t, func() bool { return b.Stats().Ballast >= 2<<20 })
	disk.free.Store(0)
	b.fillDisk(b.meta.file)
	if err := b.MoveCursor("uplink", 5); err != nil {
		t.Fatal(err)
	}
	if s := b.Stats(); s.Level != LevelFull || s.Ballast != 0 || b.Cursor("uplink") != 5 {
		t.Fatalf("stats %+v", s)
	}
	b = b.restart(o)
	if b.Cursor("uplink") != 5 {
		t.Fatal("the cursor is back")
	}
}

// TestShortRoomTrimsEarly lets go of what was synced before its time, and of
// nothing else.
func TestShortRoomTrimsEarly(t *testing.T) {
	disk := newFakeDisk(1<<30, 1<<30)
	o := Options{SegmentBytes: 64 << 10, Now: small.Now, space: disk.space}
	b := start(t, newJournal(t, o), o)
	b.fill(1, 1000)
	disk.free.Store(100 << 10)
	if n, err := b.Trim(); err != nil || n != 0 || b.First() != 1 {
		t.Fatalf("trimmed %d segments that nobody has: %v", n, err)
	}
	if err := b.MoveCursor("uplink", 500); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Trim(); err != nil || b.First() == 1 || b.First() > 501 {
		t.Fatalf("first is %d, %v", b.First(), err)
	}
	b.wantSamples(b.all(), int(b.First()), 1000)
}

// TestCaps fills a journal to its caps; money goes last, and exactly there.
func TestCaps(t *testing.T) {
	for name, o := range map[string]Options{
		"events": {MaxEvents: 640, Now: small.Now},
		"bytes":  {MaxBytes: 4 << 20, Now: small.Now},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t, newJournal(t, o), o)
			if err := b.MoveCursor("uplink", 0); err != nil {
				t.Fatal(err)
			}
			seen := map[event.Class]event.Seq{} // where each was first refused
			for n := 1; seen[event.Money] == 0; n++ {
				c := event.Class(n%4) + event.Service
				_, err := b.Append(t.Context(), classed(n, c))
				if full, ok := errors.AsType[*FullError](err); ok {
					if _, known := seen[full.Class]; !known {
						seen[full.Class] = b.Stored()
					}
				} else if err != nil {
					t.Fatal(err)
				}
			}
			if seen[event.Service] >= seen[event.Alerts] || seen[event.Alerts] >= seen[event.Orders] || seen[event.Orders] >= seen[event.Money] {
				t.Fatalf("refused from %v", seen)
			}
			s := b.Stats()
			if o.MaxEvents > 0 && int64(s.Stored) != o.MaxEvents {
				t.Fatalf("%d events stored", s.Stored)
			}
			if o.MaxBytes > 0 && (s.Bytes > o.MaxBytes+o.MaxBytes/16 || s.Bytes < o.MaxBytes*3/4) {
				t.Fatalf("%d bytes", s.Bytes)
			}
			// A batch must not run past it either.
			failed := make(chan error, 100)
			for n := range 100 {
				if err := b.Enqueue(t.Context(), sample(5000+n), func(_ event.Receipt, err error) { failed <- err }); err != nil {
					t.Fatal(err)
				}
			}
			for range 100 {
				if err := <-failed; err == nil {
					t.Fatal("stored beyond the cap")
				}
			}
			if err := b.MoveCursor("uplink", b.Stored()); err != nil {
				t.Fatal(err)
			}
			eventually(t, func() bool {
				_, err := b.Append(t.Context(), classed(1, event.Service))
				return err == nil
			})
			b.all()
			b = b.restart(o)
			if got := len(b.all()); int64(got) != b.kept() {
				t.Fatalf("%d events kept, %d read", b.kept(), got)
			}
		})
	}
}

// TestCapWithinABatch has more wait for one commit than the cap allows.
func TestCapWithinABatch(t *testing.T) {
	o := Options{MaxEvents: 100, Now: small.Now}
	j, err := Open(newJournal(t, o), o)
	if err != nil {
		t.Fatal(err)
	}
	answers := make(chan error, 300)
	for n := range cap(answers) {
		if err := j.Enqueue(t.Context(), sample(n), func(_ event.Receipt, err error) { answers <- err }); err != nil {
			t.Fatal(err)
		}
	}
	b := run(t, j)
	stored := 0
	for range cap(answers) {
		if err := <-answers; err == nil {
			stored++
		}
	}
	if stored != 100 || b.Stored() != 100 {
		t.Fatalf("%d answered as stored, %d are", stored, b.Stored())
	}
}

// TestBallast reserves a part of a small disk only, whole, and once.
func TestBallast(t *testing.T) {
	dir := t.TempDir()
	b := newBallast(dir, 32<<20)
	if made, err := b.hold(); made || err != nil {
		t.Fatalf("before the disk was measured: %t, %v", made, err)
	}
	if missing := b.missing(16 << 20); missing != 1<<20 {
		t.Fatalf("%d bytes missing", missing)
	}
	for _, want := range []bool{true, false} {
		if made, err := b.hold(); made != want || err != nil {
			t.Fatalf("made %t, %v", made, err)
		}
		if size := diskBytes(filepath.Join(dir, ballastName)); size < 1<<20 || b.missing(16<<20) != 0 {
			t.Fatalf("%d bytes", size)
		}
	}
	if !b.release() || b.release() || b.missing(16<<20) != 1<<20 {
		t.Fatal("not released once")
	}
	f, err := os.Create(filepath.Join(dir, "zeros"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := writeZeros(f, 3<<20+5); err != nil {
		t.Fatal(err)
	}
	if info, err := f.Stat(); err != nil || info.Size() != 3<<20+5 {
		t.Fatalf("%v, %v", info, err)
	}
}

// TestQuarantineIsBounded lets go of damaged files by age, size and need.
func TestQuarantineIsBounded(t *testing.T) {
	disk := newFakeDisk(1<<40, 1<<40)
	o := Options{Now: small.Now, RetainBytes: 100 << 10, space: disk.space}
	b := start(t, newJournal(t, o), o)
	dir := filepath.Join(b.dir, quarantineDir)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	keep := func(name string, size int) {
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want := func(names ...string) {
		t.Helper()
		if _, err := b.Trim(); err != nil {
			t.Fatal(err)
		}
		var have []string
		for _, q := range b.Stats().Quarantine {
			have = append(have, filepath.Base(q.Path))
		}
		if fmt.Sprint(have) != fmt.Sprint(names) {
			t.Fatalf("quarantine %v, want %v", have, names)
		}
	}
	at := func(days int) string { return day.AddDate(0, 0, -days).Format(quarantineTime) }
	old, mid, young := "1.seg-"+at(9), "2.seg-"+at(3), "3.seg-"+at(1)
	keep(old, 10)
	keep(mid, 60<<10)
	keep(young, 20<<10)
	want(mid, young)
	keep(young, 70<<10)
	want(young)
	disk.free.Store(0)
	want()
}

// TestTrimGoesOn: what cannot be deleted, or was by hand, keeps no other room
// from coming back, else the disk fills and money is refused.
func TestTrimGoesOn(t *testing.T) {
	o := small
	o.RetainBytes = 1
	b := start(t, newJournal(t, o), o)
	if err := b.MoveCursor("uplink", 0); err != nil {
		t.Fatal(err)
	}
	b.fill(1, 1500)
	stays := filepath.Join(b.dir, quarantineDir, "by hand", "file")
	if err := errors.Join(os.MkdirAll(filepath.Dir(stays), 0o700), os.WriteFile(stays, nil, 0o600), os.Remove(b.paths()[0])); err != nil {
		t.Fatal(err)
	}
	if err := b.MoveCursor("uplink", 1500); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Trim(); err == nil || b.Stats().Segments != 1 {
		t.Errorf("%d segments left: %v", b.Stats().Segments, err)
	}
	b.append(1501)
}
