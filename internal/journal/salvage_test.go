package journal

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/testpart"
)

// recordOf returns the bytes of sample n as they lie in a segment.
func recordOf(t *testing.T, n int) []byte {
	t.Helper()
	record, err := encode(sample(n))
	if err != nil {
		t.Fatal(err)
	}
	stamp(record, event.Seq(n))
	return record
}

// untouched returns which of the samples 1..n are whole in every place where
// they were in before.
func untouched(t *testing.T, before, after []byte, n int) map[event.Seq]bool {
	t.Helper()
	whole := map[event.Seq]bool{}
	for i := 1; i <= n; i++ {
		record := recordOf(t, i)
		for at := 0; ; {
			hit := bytes.Index(before[at:], record)
			if hit < 0 {
				break
			}
			at += hit
			same := at+len(record) <= len(after) && bytes.Equal(after[at:at+len(record)], record)
			if was, seen := whole[event.Seq(i)]; !seen || was {
				whole[event.Seq(i)] = same
			}
			at += len(record)
		}
	}
	return whole
}

// harms are the ways a file is damaged. Each returns the new content and says
// what it did.
var harms = map[string]func(b []byte, r *rand.Rand) ([]byte, string){
	"flip": func(b []byte, r *rand.Rand) ([]byte, string) {
		at := r.IntN(len(b))
		b[at] ^= 1 << r.IntN(8)
		return b, fmt.Sprintf("bit of byte %d", at)
	},
	"flip page header": func(b []byte, r *rand.Rand) ([]byte, string) {
		at := r.IntN(len(b)/pageSize)*pageSize + r.IntN(pageHeader+2*elemSize)
		b[at] ^= 1 << r.IntN(8)
		return b, fmt.Sprintf("bit of byte %d", at)
	},
	"zero pages": func(b []byte, r *rand.Rand) ([]byte, string) {
		first := r.IntN(len(b) / pageSize)
		last := min(first+r.IntN(4), len(b)/pageSize-1)
		clear(b[first*pageSize : (last+1)*pageSize])
		return b, fmt.Sprintf("pages %d to %d", first, last)
	},
	"zero both metas": func(b []byte, _ *rand.Rand) ([]byte, string) {
		clear(b[:2*pageSize])
		return b, ""
	},
	"cut": func(b []byte, r *rand.Rand) ([]byte, string) {
		at := r.IntN(len(b)/512) * 512
		return b[:at], fmt.Sprintf("at %d", at)
	},
	"swap pages": func(b []byte, r *rand.Rand) ([]byte, string) {
		one, two := r.IntN(len(b)/pageSize), r.IntN(len(b)/pageSize)
		x, y := b[one*pageSize:(one+1)*pageSize], b[two*pageSize:(two+1)*pageSize]
		held := bytes.Clone(x)
		copy(x, y)
		copy(y, held)
		return b, fmt.Sprintf("%d and %d", one, two)
	},
	"noise": func(b []byte, r *rand.Rand) ([]byte, string) {
		at := r.IntN(len(b)/512) * 512
		for i := range b[at : at+512] {
			b[at+i] = byte(r.Uint32())
		}
		return b, fmt.Sprintf("sector at %d", at)
	},
}

// TestSalvageSparesTheUntouched damages one segment, in every way there is,
// and wants each record that was not touched itself: read, not just present.
func TestSalvageSparesTheUntouched(t *testing.T) {
	const n = 900
	o := small
	b := start(t, newJournal(t, o), o)
	for i := 0; i < n; i += 100 {
		b.fill(i+1, i+90) // batches
		for k := range 10 {
			b.append(i + 91 + k) // and lone events
		}
	}
	b.stop()
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	defer func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}()
	rounds := 12
	if testing.Short() {
		rounds = 3
	}
	for name, harm := range harms {
		for range rounds {
			root := memory(t)
			dir := filepath.Join(root, "copy")
			if err := os.CopyFS(dir, os.DirFS(b.dir)); err != nil {
				t.Fatal(err)
			}
			paths, err := filepath.Glob(filepath.Join(dir, "*"+segmentSuffix))
			if err != nil {
				t.Fatal(err)
			}
			path := paths[rnd.IntN(len(paths))]
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			used := len(bytes.TrimRight(before, "\x00"))
			after, detail := harm(bytes.Clone(before[:(used+pageSize-1)/pageSize*pageSize]), rnd)
			if len(after) > pageSize {
				after = append(after, before[min(len(before), (used+pageSize-1)/pageSize*pageSize):]...)
			}
			if name == "cut" {
				after = after[:min(len(after), used/512*512)]
			}
			if err := os.WriteFile(path, after, 0o600); err != nil {
				t.Fatal(err)
			}
			what := fmt.Sprintf("%s %s of %s", name, detail, filepath.Base(path))
			wantSalvaged(t, what, dir, o, n, untouched(t, before, after, n))
			if err := os.RemoveAll(root); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestSalvageSparesABatchOfUnknownLength damages the number in front of each
// batch, which has no checksum, bit by bit: all its records are read.
func TestSalvageSparesABatchOfUnknownLength(t *testing.T) {
	const n = 200
	o := small
	b := start(t, newJournal(t, o), o)
	for i := 0; i < n; i += 100 {
		b.fill(i+1, i+90) // batches
		for k := range 10 {
			b.append(i + 91 + k) // and lone events
		}
	}
	b.stop()
	paths, err := filepath.Glob(filepath.Join(b.dir, "*"+segmentSuffix))
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(paths[0])
	if err != nil {
		t.Fatal(err)
	}
	batches := 0
	for seq := 1; seq <= n; seq++ {
		at := bytes.Index(before, recordOf(t, seq)) - countSize
		if at < 0 || before[at] < 2 || before[at] > 100 || !bytes.Equal(before[at+1:at+countSize], []byte{0, 0, 0}) {
			continue // in the middle of one, or in another segment
		}
		batches++
		for bit := range 8 * countSize {
			root := memory(t)
			dir := filepath.Join(root, "copy")
			if err := os.CopyFS(dir, os.DirFS(b.dir)); err != nil {
				t.Fatal(err)
			}
			after := bytes.Clone(before)
			after[at+bit/8] ^= 1 << (bit % 8)
			if err := os.WriteFile(filepath.Join(dir, filepath.Base(paths[0])), after, 0o600); err != nil {
				t.Fatal(err)
			}
			wantSalvaged(t, fmt.Sprintf("bit %d of the number of batch %d", bit, seq), dir, o, n, untouched(t, before, after, n))
			if err := os.RemoveAll(root); err != nil {
				t.Fatal(err)
			}
		}
	}
	if batches == 0 {
		t.Fatal("no batch was found")
	}
}

// wantSalvaged opens a damaged journal twice and wants to read what is whole.
func wantSalvaged(t *testing.T, what, dir string, o Options, n int, whole map[event.Seq]bool) {
	t.Helper()
	report, err := Check(dir)
	if err != nil {
		t.Fatalf("%s: check: %v", what, err)
	}
	for round := range 2 {
		j, err := Open(dir, o)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		box := run(t, j)
		got := map[event.Seq]bool{}
		for after := event.Seq(0); after < j.Stored(); {
			events, err := j.Read(after, 100, 1<<20)
			if lost, ok := errors.AsType[*LostError](err); ok {
				after = lost.To
				continue
			}
			if err != nil || len(events) == 0 {
				t.Fatalf("%s: read behind %d: %d events, %v", what, after, len(events), err)
			}
			for _, e := range events {
				if bytes.Equal(e.Payload, sample(n+1).Payload) {
					// Appended below: where nobody knew how far the old epoch
					// went, the new one uses a seq again.
					after = e.Seq
					continue
				}
				if want := sample(int(e.Seq)); int(e.Seq) <= n && !bytes.Equal(want.Payload, e.Payload) {
					t.Fatalf("%s: event %d is %s", what, e.Seq, e.Payload)
				}
				got[e.Seq] = true
				after = e.Seq
			}
		}
		for seq, ok := range whole {
			if ok && !got[seq] {
				t.Errorf("%s, opening %d: event %d is whole and was not read", what, round, seq)
			}
		}
		lost := 0
		for seq := range event.Seq(n) {
			if !got[seq+1] {
				lost++
			}
		}
		if lost > 0 && report.OK() {
			t.Errorf("%s: %d events are gone, and the report is clean", what, lost)
		}
		if round == 0 {
			if _, err := j.Append(t.Context(), sample(n+1)); err != nil {
				t.Errorf("%s: append: %v", what, err)
			}
		}
		box.stop()
	}
}

// TestSalvageReplacesAndKeeps looks at what is left where.
func TestSalvageReplacesAndKeeps(t *testing.T) {
	o := small
	b := start(t, newJournal(t, o), o)
	b.fill(1, 1000)
	b.stop()
	victim, next := b.segments[1], b.segments[2]
	damaged, err := os.ReadFile(victim.path)
	if err != nil {
		t.Fatal(err)
	}
	gone := victim.first + 5
	at := bytes.Index(damaged, recordOf(t, int(gone)))
	for ; at >= 0; at = bytes.Index(damaged, recordOf(t, int(gone))) {
		damaged[at+40] ^= 1
	}
	clear(damaged[:2*pageSize]) // and no structure at all
	if err := os.WriteFile(victim.path, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	b = start(t, b.dir, o)
	for round := range 3 {
		events, err := b.Read(victim.first-1, 1000, 1<<20)
		if err != nil || len(events) != 5 || events[0].Epoch != b.Epoch() {
			t.Fatalf("round %d: %d events, %v", round, len(events), err)
		}
		_, err = b.Read(gone-1, 1, 1)
		lost, ok := errors.AsType[*LostError](err)
		if !ok || lost.From != gone || lost.To != gone {
			t.Fatalf("round %d: %v", round, err)
		}
		if events, err = b.Read(gone, 1000, 1<<20); err != nil || events[len(events)-1].Seq != next.first-1 {
			t.Fatalf("round %d: %d events, %v", round, len(events), err)
		}
		s := b.Stats()
		if len(s.Quarantine) != 1 {
			t.Fatalf("round %d: quarantine %v", round, s.Quarantine)
		}
		if kept, err := os.ReadFile(s.Quarantine[0].Path); err != nil || !bytes.Equal(kept, damaged) {
			t.Fatalf("the damaged file was not kept as it was: %v", err)
		}
		if round == 0 && s.Salvaged != uint64(next.first-victim.first-1) {
			t.Fatalf("salvaged %d", s.Salvaged)
		}
		b = b.restart(o)
	}
	b.stop()
	report, err := Check(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	sick := slices.DeleteFunc(report.Segments, func(s SegmentReport) bool { return len(s.Lost) == 0 && s.Err == nil })
	if len(sick) != 1 || sick[0].Err != nil || len(sick[0].Lost) != 1 || sick[0].Lost[0].From != gone || sick[0].Lost[0].To != gone {
		t.Fatalf("check: %+v", sick)
	}
}

// TestSalvageAnswersRepeats has a key in a segment whose structure is gone.
func TestSalvageAnswersRepeats(t *testing.T) {
	o := small
	b := start(t, newJournal(t, o), o)
	first, err := b.Append(t.Context(), keyed(1, "k", 1))
	if err != nil {
		t.Fatal(err)
	}
	b.fill(2, 1000)
	b.stop()
	if err := errors.Join(wipe(b.segments[0].path, 0), wipe(b.segments[0].path, 1)); err != nil {
		t.Fatal(err)
	}
	b = start(t, b.dir, o)
	b.wantDuplicate("k", 1, first)
	b.wantPayloads(b.all()[:2], 1, 2)
}

func TestSalvageChooses(t *testing.T) {
	w := wreck{records: []found{
		{seq: 3, at: 1, use: pageUnknown, time: 9},
		{seq: 1, at: 2, use: pageFree, time: 9}, // only in a free page: never acknowledged
		{seq: 3, at: 3, use: pageLive, time: 1},
		{seq: 2, at: 4, use: pageUnknown, time: 1},
		{seq: 2, at: 5, use: pageUnknown, time: 2},
		{seq: 2, at: 6, use: pageFree, time: 3},
	}}
	w.choose()
	if len(w.records) != 2 || w.records[0].at != 5 || w.records[1].at != 3 {
		t.Fatalf("chosen %+v", w.records)
	}
	if lost := w.lost(1, 5); len(lost) != 2 || lost[0].From != 1 || lost[0].To != 1 || lost[1].From != 4 || lost[1].To != 5 {
		t.Fatalf("lost %v", lost)
	}
}

// TestSalvagePassesOverInterruptedCommits has a record in the file that was
// never acknowledged, and another event at its seq.
func TestSalvagePassesOverInterruptedCommits(t *testing.T) {
	o := Options{Now: small.Now}
	b := start(t, newJournal(t, o), o)
	b.fill(1, 50)
	path := b.writer.active.path
	b.stop()
	ghost, err := encode(sample(700))
	if err != nil {
		t.Fatal(err)
	}
	stamp(ghost, 20)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	used := len(bytes.TrimRight(raw, "\x00"))
	copy(raw[(used/pageSize+2)*pageSize:], ghost)
	touched := bytes.Index(raw, recordOf(t, 30))
	raw[touched+30] ^= 1
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	b = start(t, b.dir, o)
	events, err := b.Read(0, 1000, 1<<20)
	if err != nil || len(events) != 29 {
		t.Fatalf("%d events, %v", len(events), err)
	}
	b.wantSamples(events, 1, 29)
	if len(b.Stats().Quarantine) != 1 {
		t.Fatal("not salvaged")
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	testpart.Until(t, "it comes to be", ok)
}

// TestActiveSegmentIsSalvaged damages the file that is being written, behind
// what memory holds.
func TestActiveSegmentIsSalvaged(t *testing.T) {
	const n = 2 * tailEvents
	o := Options{Now: small.Now}
	b := start(t, newJournal(t, o), o)
	b.fill(1, n)
	f, err := os.OpenFile(b.writer.active.path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	raw, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; ; at++ { // every copy
		hit := bytes.Index(raw[at:], recordOf(t, 100))
		if hit < 0 {
			break
		}
		at += hit
		if _, err := f.WriteAt([]byte{0xff, 0xff, 0xff, 0xff}, int64(at)); err != nil {
			t.Fatal(err)
		}
	}
	epoch := b.Epoch()
	eventually(t, func() bool {
		_, err := b.Read(99, 1, 1)
		lost, ok := errors.AsType[*LostError](err)
		return ok && lost.From == 100 && lost.To == 100
	})
	b.append(n + 1)
	for range 2 {
		events, err := b.Read(100, n, 64<<20)
		if err != nil || events[0].Seq != 101 || b.Stored() != n+1 {
			t.Fatalf("%d events, stored %d, %v", len(events), b.Stored(), err)
		}
		if good, lost := readable(t, b.Journal); good != n || lost != 1 {
			t.Fatalf("%d read, %d lost", good, lost)
		}
		b = b.restart(o)
	}
	if b.Epoch() != epoch {
		t.Error("a new epoch, though it is known what is gone")
	}
}
