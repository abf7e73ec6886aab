package journal

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
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
			if s := b.Stats(); s.Healthy() || s.Stored != event.Seq(last) {
				t.Fatalf("stats %+v", s)
			}
			r, err := b.Append(t.Context(), keyed(500, "k", 1))
			if err != nil || r.Seq != event.Seq(last+1) || r.Duplicate {
				t.Fatalf("after the error: %+v, %v", r, err)
			}
			if s := b.Stats(); !s.Healthy() || s.Segments != 2 {
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
	if s := b.Stats(); !s.Healthy() {
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

// copyJournal copies a closed journal.
func copyJournal(t *testing.T, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// readable returns what can be read, checking it byte for byte, and the ranges
// reported lost. Sample n has seq n.
func readable(t *testing.T, j *Journal) (good, lost int) {
	t.Helper()
	after := j.First() - 1
	for after < j.Stored() {
		events, err := j.Read(after, 100, 1<<20)
		if l, ok := errors.AsType[*LostError](err); ok {
			if l.From <= after || l.To < l.From || l.To > j.Stored() {
				t.Fatalf("lost %d to %d behind %d", l.From, l.To, after)
			}
			lost += int(l.To - after)
			after = l.To
			continue
		}
		if err != nil || len(events) == 0 {
			t.Fatalf("read behind %d of %d: %d events, %v", after, j.Stored(), len(events), err)
		}
		for _, e := range events {
			want := sample(int(e.Seq))
			if e.Seq <= after || e.ID != want.ID || !bytes.Equal(e.Payload, want.Payload) {
				t.Fatalf("event %d behind %d is %s: %s", e.Seq, after, e.ID, e.Payload)
			}
			after = e.Seq
			good++
		}
	}
	return good, lost
}

// TestFlippedBits damages one byte at a time, in any file. No content may stop
// the journal from opening and storing, nothing wrong may be read, and Check
// must see whatever costs an event.
func TestFlippedBits(t *testing.T) {
	const n = 600
	o := small
	b := start(t, newJournal(t, o), o)
	for i := 0; i < n; i += 100 {
		b.fill(i+1, i+99) // batches
		b.append(i + 100) // and a lone event
	}
	b.stop()
	rounds := 150
	if testing.Short() {
		rounds = 30
	}
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	defer func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}()
	for range rounds {
		root := memory(t)
		dir := filepath.Join(root, "copy")
		if err := os.CopyFS(dir, os.DirFS(b.dir)); err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob(filepath.Join(dir, "*.*"))
		if err != nil {
			t.Fatal(err)
		}
		path := files[rnd.IntN(len(files))]
		damage := damageFile(t, path, rnd)
		report, err := Check(dir)
		if err != nil {
			t.Fatalf("%s: check: %v", damage, err)
		}
		j, err := Open(dir, o)
		if err != nil {
			t.Fatalf("%s: %v", damage, err)
		}
		stored := j.Stored()
		good, lost := readable(t, j)
		if (good < n || lost > 0) && report.OK() {
			t.Errorf("%s: %d of %d events read, %d lost, but the report is clean", damage, good, n, lost)
		}
		after := run(t, j)
		if r, err := after.Append(t.Context(), sample(int(stored)+1)); err != nil || r.Seq != stored+1 {
			t.Errorf("%s: append: %+v, %v", damage, r, err)
		}
		if again, _ := readable(t, j); again != good+1 {
			t.Errorf("%s: %d events, then %d", damage, good, again)
		}
		after.stop()
		if err := os.RemoveAll(root); err != nil {
			t.Fatal(err)
		}
	}
}

// damageFile flips a bit, zeroes a page or cuts the file short.
func damageFile(t *testing.T, path string, rnd *rand.Rand) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	used := len(bytes.TrimRight(data, "\x00"))
	var what string
	switch at := rnd.IntN(used); rnd.IntN(4) {
	case 0:
		page := at / pageSize * pageSize
		clear(data[page:min(page+pageSize, len(data))])
		what = fmt.Sprintf("page %d zeroed", page/pageSize)
	case 1:
		at = at / 512 * 512
		data = data[:at]
		what = fmt.Sprintf("cut at %d", at)
	default:
		data[at] ^= 1 << rnd.IntN(8)
		what = fmt.Sprintf("bit flipped in byte %d", at)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return filepath.Base(path) + ": " + what
}

// wipe zeroes a page of a file.
func wipe(path string, page int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(make([]byte, pageSize), page*pageSize)
	return errors.Join(err, f.Close())
}

func TestCheckNamesWhatIsWrong(t *testing.T) {
	o := small
	b := start(t, newJournal(t, o), o)
	b.fill(1, 1000)
	b.stop()
	var paths []string
	for _, s := range b.segments {
		paths = append(paths, filepath.Base(s.path))
	}
	second, third := b.segments[1].first, b.segments[2].first
	for name, c := range map[string]struct {
		harm func(dir string) error
		lost string // from-to
	}{
		"missing segment": {
			func(dir string) error { return os.Remove(filepath.Join(dir, paths[1])) },
			fmt.Sprintf("%d-%d", second, third-1),
		},
		"truncated segment": {
			func(dir string) error { return os.Truncate(filepath.Join(dir, paths[1]), 2*pageSize) },
			fmt.Sprintf("%d-%d", second, third-1),
		},
		"flipped bit": {
			func(dir string) error {
				path := filepath.Join(dir, paths[1])
				data, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				at := bytes.Index(data, []byte(`{"paymentId":"pay_`+fmt.Sprint(second+2)))
				data[at+40] ^= 1
				return os.WriteFile(path, data, 0o600)
			},
			fmt.Sprintf("%d-%d", second+2, second+2),
		},
		"first meta page":  {func(dir string) error { return wipe(filepath.Join(dir, paths[1]), 0) }, ""},
		"second meta page": {func(dir string) error { return wipe(filepath.Join(dir, paths[1]), 1) }, ""},
		"missing last segment": {
			func(dir string) error { return os.Remove(filepath.Join(dir, paths[len(paths)-1])) }, "",
		},
		"missing state": {
			func(dir string) error { return os.Remove(filepath.Join(dir, metaName)) }, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := copyJournal(t, b.dir)
			if err := c.harm(dir); err != nil {
				t.Fatal(err)
			}
			before, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			report, err := Check(dir)
			if err != nil || report.OK() {
				t.Fatalf("check: %v, %+v", err, report)
			}
			after, err := os.ReadDir(dir)
			if err != nil || fmt.Sprint(before) != fmt.Sprint(after) {
				t.Fatalf("check changed the journal: %v, %v, %v", before, after, err)
			}
			var lost []string
			for _, s := range report.Segments {
				for _, l := range s.Lost {
					lost = append(lost, fmt.Sprintf("%d-%d", l.From, l.To))
				}
			}
			if got := strings.Join(lost, " "); got != c.lost {
				t.Fatalf("lost %s, want %s", got, c.lost)
			}
		})
	}
}

func TestEpochGrowsWhenHistoryIsLost(t *testing.T) {
	o := small
	b := start(t, newJournal(t, o), o)
	b.fill(1, 1000)
	if err := b.MoveCursor("uplink", 900); err != nil {
		t.Fatal(err)
	}
	epoch := b.Epoch()
	b = b.restart(o)
	if b.Epoch() != epoch {
		t.Fatal("a new epoch after a clean restart")
	}
	b.stop()
	last := b.segments[len(b.segments)-1]
	for name, harm := range map[string]func(dir string) error{
		"last segment missing": func(dir string) error {
			return os.Remove(segmentPath(dir, last.first))
		},
		"all segments missing": func(dir string) error {
			for _, s := range b.segments {
				if err := os.Remove(segmentPath(dir, s.first)); err != nil {
					return err
				}
			}
			return nil
		},
		"last segment unreadable": func(dir string) error {
			return os.Truncate(segmentPath(dir, last.first), pageSize)
		},
		"last segment's first meta page": func(dir string) error {
			return wipe(segmentPath(dir, last.first), 0)
		},
		"last segment's second meta page": func(dir string) error {
			return wipe(segmentPath(dir, last.first), 1)
		},
		"state missing": func(dir string) error { return os.Remove(filepath.Join(dir, metaName)) },
		"state unreadable": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, metaName), []byte("nonsense"), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := copyJournal(t, b.dir)
			if err := harm(dir); err != nil {
				t.Fatal(err)
			}
			var grown event.Epoch
			for range 2 { // the second start finds nothing new
				again := start(t, dir, o)
				if grown == "" {
					grown = again.Epoch()
					if grown <= epoch || again.Stats().Damages == 0 {
						t.Fatalf("epoch %s behind %s, stats %+v", grown, epoch, again.Stats())
					}
					r := again.append(2000)
					if r.Epoch != grown || r.Seq <= 900 {
						t.Fatalf("receipt %+v", r)
					}
					e, err := again.event(r.Seq)
					if err != nil || e.Epoch != grown {
						t.Fatalf("read %+v, %v", e, err)
					}
				}
				if again.Epoch() != grown {
					t.Fatal("the epoch grew again")
				}
				again.stop()
			}
		})
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

// TestDamagedCursor flips a bit in a cursor and in a piece of state.
func TestDamagedCursor(t *testing.T) {
	b := start(t, newJournal(t, Options{}), Options{})
	b.fill(1, 10)
	if err := errors.Join(
		b.MoveCursor("uplink", 3), b.MoveCursor("other", 4),
		b.Put("lan", map[string][]byte{"good": []byte("sound"), "bad": []byte("to be harmed")}),
	); err != nil {
		t.Fatal(err)
	}
	b.stop()
	path := filepath.Join(b.dir, metaName)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, stored := range []string{"uplink\x00\x00\x00\x00\x00\x00\x00\x03", "badto be harmed"} {
		harmed := []byte(stored)
		harmed[len(harmed)-1] ^= 4
		if !bytes.Contains(data, []byte(stored)) {
			t.Fatalf("%q is not in the file", stored)
		}
		data = bytes.ReplaceAll(data, []byte(stored), harmed)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if r, err := Check(b.dir); err != nil || r.OK() {
		t.Fatalf("check: %v, %+v", err, r)
	}
	b = start(t, b.dir, Options{})
	if b.Cursor("uplink") != 0 || b.Cursor("other") != 4 || b.Stats().Damages == 0 {
		t.Fatalf("cursors %v", b.Stats().Cursors)
	}
	entries, err := b.All("lan")
	if !errors.Is(err, ErrDamaged) || len(entries) != 1 || string(entries["good"]) != "sound" {
		t.Fatalf("state %v, %v", entries, err)
	}
}

// TestDamagedFreelist names a page with events as free: bbolt would write the
// next batch over them.
func TestDamagedFreelist(t *testing.T) {
	o := Options{Now: small.Now}
	b := start(t, newJournal(t, o), o)
	for n := 1; n <= 100; n++ {
		b.append(n)
	}
	b.stop()
	path := b.segments[0].path
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	meta, err := newestMeta(f)
	if err != nil {
		t.Fatal(err)
	}
	free := int64(order.Uint64(meta[32:]))
	taken := order.AppendUint64(nil, order.Uint64(meta[16:])) // the root page
	if _, err := f.WriteAt(taken, free*pageSize+pageHeader); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if r, err := Check(b.dir); err != nil || r.OK() || r.Events != 100 {
		t.Fatalf("check: %v, %+v", err, r)
	}
	epoch := b.Epoch()
	b = start(t, b.dir, o)
	b.fill(101, 200)
	if s := b.Stats(); s.Segments != 2 || s.Damages != 1 || b.Epoch() != epoch {
		t.Fatalf("stats %+v", s)
	}
	b.wantSamples(b.all(), 1, 200)
	b = b.restart(o)
	b.wantSamples(b.all(), 1, 200)
}
