package journal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// breakWrites makes every later write to the active segment fail, as a disk
// that has gone away does.
func (b *box) breakWrites() {
	b.t.Helper()
	b.swap(b.writer.active.file, func() (int, error) {
		return syscall.Open(b.writer.active.path, syscall.O_RDONLY, 0)
	})
}

// forgetWrites makes every later write to the active segment succeed and
// leave no trace, as a disk that lies does.
func (b *box) forgetWrites() {
	b.t.Helper()
	b.swap(b.writer.active.file, func() (int, error) {
		name := filepath.Join(b.t.TempDir(), "void")
		return syscall.Open(name, syscall.O_RDWR|syscall.O_CREAT, 0o600)
	})
}

// swap puts another descriptor under an open file.
func (b *box) swap(f *boltFile, open func() (int, error)) {
	b.t.Helper()
	fd, err := open()
	if err != nil {
		b.t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := syscall.Dup3(fd, int(f.raw.Fd()), 0); err != nil {
		b.t.Fatal(err)
	}
}

func TestWriteErrorRollsToANewSegment(t *testing.T) {
	for _, filled := range []int{0, 1, 100} { // 0: the segment holds nothing yet
		t.Run(fmt.Sprint(filled), func(t *testing.T) {
			b := start(t, newJournal(t, Options{}), Options{Now: small.Now})
			epoch := b.Epoch()
			b.append(1)
			b.writer.full = filled == 0
			if filled == 0 {
				if err := b.ready(); err != nil {
					t.Fatal(err)
				}
			} else {
				b.fill(2, filled)
			}
			last := int(b.Stored())
			b.breakWrites()
			if _, err := b.Append(t.Context(), keyed(500, "k", 1)); err == nil {
				t.Fatal("stored on a broken disk")
			}
			if s := b.Stats(); s.Err == nil || s.Stored != event.Seq(last) {
				t.Fatalf("stats %+v", s)
			}
			r, err := b.Append(t.Context(), keyed(500, "k", 1))
			if err != nil || r.Seq != event.Seq(last+1) || r.Duplicate {
				t.Fatalf("after the error: %+v, %v", r, err)
			}
			if s := b.Stats(); s.Err != nil || s.Segments != 2 {
				t.Fatalf("stats %+v", s)
			}
			for range 2 {
				events := b.all()
				b.wantSamples(events[:last], 1, last)
				b.wantPayloads(events[last:], 500)
				b.wantDuplicate("k", 1, r)
				if b.Epoch() != epoch {
					t.Fatal("a new epoch, though nothing was lost")
				}
				b = b.restart(Options{Now: small.Now})
			}
			b.stop()
			if report, err := Check(b.dir); err != nil || !report.OK() || report.Events != uint64(last+1) {
				t.Fatalf("check: %v, %+v", err, report)
			}
		})
	}
}

// wantPayloads compares IDs and payloads only.
func (b *box) wantPayloads(events []event.Event, ns ...int) {
	b.t.Helper()
	if len(events) != len(ns) {
		b.t.Fatalf("%d events, want %d", len(events), len(ns))
	}
	for i, n := range ns {
		if want := sample(n); events[i].ID != want.ID || !bytes.Equal(events[i].Payload, want.Payload) {
			b.t.Fatalf("event %d is %s, want %s", events[i].Seq, events[i].ID, want.ID)
		}
	}
}

// TestFailedCommitIsVoid has a batch reach the disk although its commit was
// reported as failed: its senders were told that it is not stored.
func TestFailedCommitIsVoid(t *testing.T) {
	b := start(t, newJournal(t, Options{}), Options{Now: small.Now})
	b.fill(1, 10)
	buf := newBatch(nil)
	for i := range 3 {
		record, err := encode(keyed(900+i, "ghost", 1))
		if err != nil {
			t.Fatal(err)
		}
		stamp(record, event.Seq(11+i))
		buf = append(buf, record...)
	}
	closeBatch(buf, 3)
	if _, err := b.writer.active.append(11, buf); err != nil {
		t.Fatal(err)
	}
	b.breakWrites()
	if _, err := b.Append(t.Context(), sample(901)); err == nil {
		t.Fatal("stored on a broken disk")
	}
	b.append(11)
	for range 2 {
		b.wantSamples(b.all(), 1, 11)
		if _, err := b.Find("id-900"); !errors.Is(err, ErrNotFound) {
			t.Fatalf("find a void event: %v", err)
		}
		b = b.restart(Options{Now: small.Now})
	}
	if r, err := b.Append(t.Context(), keyed(12, "ghost", 1)); err != nil || r.Duplicate || r.Seq != 12 {
		t.Fatalf("a void event counts as a duplicate: %+v, %v", r, err)
	}
	b.stop()
	if report, err := Check(b.dir); err != nil || !report.OK() || report.Events != 12 {
		t.Fatalf("check: %v, %+v", err, report)
	}
}

// TestRescue loses acknowledged events to a disk that lied. They are still in
// memory when it is found out.
func TestRescue(t *testing.T) {
	b := start(t, newJournal(t, Options{}), Options{Now: small.Now})
	b.fill(1, 10)
	b.forgetWrites()
	b.append(11)
	b.breakWrites()
	if _, err := b.Append(t.Context(), sample(500)); err == nil {
		t.Fatal("stored on a broken disk")
	}
	b.append(12)
	for range 2 {
		b.wantSamples(b.all(), 1, 12)
		b = b.restart(Options{Now: small.Now})
	}
}

// TestRescueOfMoreThanMemoryHolds loses a whole segment under the writer: what
// memory does not hold any more is lost, the rest is not.
func TestRescueOfMoreThanMemoryHolds(t *testing.T) {
	b := start(t, newJournal(t, Options{}), Options{Now: small.Now})
	if err := b.MoveCursor("uplink", 0); err != nil { // nothing is trimmed
		t.Fatal(err)
	}
	const last = tailEvents + 1000
	b.fill(1, last)
	held := int(b.tail.oldest())
	info, err := os.Stat(b.writer.active.path)
	if err != nil {
		t.Fatal(err)
	}
	zero(t, b.writer.active.path, 2*pageSize, info.Size()-2*pageSize)
	b.breakWrites()
	if _, err := b.Append(t.Context(), sample(9999)); err == nil {
		t.Fatal("stored on a broken disk")
	}
	b.append(last + 1)
	b = b.restart(Options{Now: small.Now})
	events, err := b.Read(event.Seq(held-1), last, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	b.wantSamples(events, held, last+1)
	if good, lost := readable(t, b.Journal); good != len(events) || lost != held-1 {
		t.Errorf("%d events and %d lost", good, lost)
	}
}

// TestDiskGoneAndBack refuses events while no segment can be made, and goes on
// by itself.
func TestDiskGoneAndBack(t *testing.T) {
	b := start(t, newJournal(t, Options{}), Options{Now: small.Now})
	b.fill(1, 10)
	b.breakWrites()
	block := segmentPath(b.dir, 11)
	if err := os.MkdirAll(filepath.Join(block, "x"), 0o700); err != nil { // rename cannot replace it
		t.Fatal(err)
	}
	for range 3 {
		if _, err := b.Append(t.Context(), sample(500)); err == nil {
			t.Fatal("stored on a broken disk")
		}
	}
	b.wantSamples(b.all(), 1, 10)
	if err := os.RemoveAll(block); err != nil {
		t.Fatal(err)
	}
	b.append(11)
	if s := b.Stats(); s.Err != nil {
		t.Fatalf("stats %+v", s)
	}
	b.wantSamples(b.all(), 1, 11)
	b = b.restart(Options{Now: small.Now})
	b.wantSamples(b.all(), 1, 11)
}

// TestTruncatedUnderTheWriter pulls mapped pages away from a running journal.
func TestTruncatedUnderTheWriter(t *testing.T) {
	b := start(t, newJournal(t, Options{}), Options{Now: small.Now})
	b.fill(1, 300)
	if err := os.Truncate(b.writer.active.path, 3*pageSize); err != nil {
		t.Fatal(err)
	}
	for n := range 3 { // fails once, or not at all
		_, err := b.Append(t.Context(), sample(301))
		if err == nil {
			break
		}
		if n == 2 {
			t.Fatal(err)
		}
	}
	if events, err := b.Read(0, 1000, 1<<20); err != nil || events[0].Seq != 1 {
		t.Fatalf("%d events, %v", len(events), err)
	}
	if got := len(b.all()); got != 301 {
		t.Fatalf("%d events", got)
	}
	b = b.restart(Options{Now: small.Now})
	if got := len(b.all()); got != 301 {
		t.Fatalf("%d events after a restart", got)
	}
}

// TestStateSurvivesAFailedCommit breaks the disk under meta.db.
func TestStateSurvivesAFailedCommit(t *testing.T) {
	b := start(t, newJournal(t, Options{}), Options{})
	b.fill(1, 10)
	put := map[string][]byte{"k": []byte("v")}
	if err := errors.Join(b.MoveCursor("uplink", 3), b.Put("lan", put)); err != nil {
		t.Fatal(err)
	}
	b.swap(b.meta.file, func() (int, error) { return syscall.Open(b.meta.path, syscall.O_RDONLY, 0) })
	if err := b.MoveCursor("uplink", 5); err == nil || b.Cursor("uplink") != 3 {
		t.Fatalf("moved on a broken disk: %v, at %d", err, b.Cursor("uplink"))
	}
	if err := b.MoveCursor("uplink", 7); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		entries, err := b.All("lan")
		if err != nil || string(entries["k"]) != "v" || b.Cursor("uplink") != 7 {
			t.Fatalf("state %v, %v, cursor %d", entries, err, b.Cursor("uplink"))
		}
		b = b.restart(Options{})
	}
}
