package journal

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/avoqado/avoqado-edge/internal/event"
)

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
	if err != nil || len(entries) != 1 || string(entries["good"]) != "sound" {
		t.Fatalf("state %v, %v", entries, err)
	}
	b.stop()
	if r, err := Check(b.dir); err != nil || !r.OK() {
		t.Errorf("check: %v, %+v", err, r)
	}
	if kept, err := filepath.Glob(path + ".damaged-*"); err != nil || len(kept) != 1 {
		t.Errorf("kept for people: %v, %v", kept, err)
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
