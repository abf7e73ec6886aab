package journal

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// victim is a journal that is damaged over and over, each time in a new copy.
type victim struct {
	dir   string
	o     Options
	n     int                          // events, a multiple of nine
	where map[event.Seq]map[string]int // file and offset of each record
	files []string                     // by name
	whole map[string][]byte            // content
	stale map[string][]byte            // content as it was earlier
	pages map[string][]place           // by what is on them
}

// place is a page of a file.
type place struct {
	file string
	page int
}

func newVictim(t *testing.T) *victim {
	t.Helper()
	v := &victim{
		o: Options{SegmentBytes: 160 << 10, Now: small.Now},
		n: 1998, where: map[event.Seq]map[string]int{},
		whole: map[string][]byte{}, stale: map[string][]byte{}, pages: map[string][]place{},
	}
	v.dir = newJournal(t, v.o)
	b := start(t, v.dir, v.o)
	state := map[string][]byte{}
	for i := range 300 {
		state[fmt.Sprintf("device/%d", i)] = bytes.Repeat([]byte{byte(i)}, 40)
	}
	state["large"] = bytes.Repeat([]byte("x"), 3*pageSize)
	for n := 1; n <= v.n; n++ {
		if n%9 > 0 { // batches of nine
			v.enqueue(t, b, n)
			continue
		}
		if _, err := b.Append(t.Context(), damagedOne(n)); err != nil {
			t.Fatal(err)
		}
		if n == v.n/2/9*9 {
			if err := errors.Join(b.MoveCursor("uplink", 5), b.Put("lan", state)); err != nil {
				t.Fatal(err)
			}
			v.stale = v.read(t)
		}
	}
	if err := errors.Join(
		b.Put("lan", map[string][]byte{"device/7": nil, "device/8": []byte("new")}),
		b.MoveCursor("uplink", b.Stored()), b.MoveCursor("lan", b.Stored()),
	); err != nil {
		t.Fatal(err)
	}
	b.stop()
	v.whole = v.read(t)
	v.files = slices.Sorted(maps.Keys(v.whole))
	for _, name := range v.files {
		v.survey(name)
	}
	v.locate(t)
	return v
}

func (v *victim) enqueue(t *testing.T, b *box, n int) {
	t.Helper()
	if err := b.Enqueue(t.Context(), damagedOne(n), func(_ event.Receipt, err error) {
		if err != nil {
			t.Errorf("store %d: %v", n, err)
		}
	}); err != nil {
		t.Fatal(err)
	}
}

// damagedOne makes the n-th event.
func damagedOne(n int) *event.Event { return keyed(n, fmt.Sprintf("key/%d", n), uint64(n)) }

func (v *victim) read(t *testing.T) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	paths, err := filepath.Glob(filepath.Join(v.dir, "*.*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.Base(path)] = content
	}
	return files
}

// survey notes what each page of a file is for.
func (v *victim) survey(name string) {
	content := v.whole[name]
	note := func(kind string, page int) { v.pages[kind] = append(v.pages[kind], place{name, page}) }
	note("meta", 0)
	note("meta", 1)
	for page := 2; page < v.used(name); page++ {
		b := content[page*pageSize:]
		kind := "other"
		switch order.Uint16(b[8:]) {
		case branchPage:
			kind = "branch"
		case leafPage:
			kind = "leaf"
		case freelistPage:
			kind = "freelist"
		}
		more := int(order.Uint32(b[12:]))
		if order.Uint64(b) != uint64(page) || page+more >= v.used(name)+1 {
			kind, more = "other", 0
		}
		if kind == "leaf" && (bytes.Contains(b[:pageSize], keysKey) || bytes.Contains(b[:pageSize], filterKey)) {
			kind = "key table"
		}
		note(kind, page)
		for range more {
			page++
			if kind == "leaf" {
				note("overflow", page)
			} else {
				note(kind, page)
			}
		}
	}
}

// used is how many pages of a file are not empty.
func (v *victim) used(name string) int {
	return (len(bytes.TrimRight(v.whole[name], "\x00")) + pageSize - 1) / pageSize
}

// locate finds every record in the files.
func (v *victim) locate(t *testing.T) {
	t.Helper()
	for n := 1; n <= v.n; n++ {
		seq := event.Seq(n)
		v.where[seq] = map[string]int{}
		for _, name := range v.files {
			if at := bytes.Index(v.whole[name], v.record(t, n)); at >= 0 {
				v.where[seq][name] = at
			}
		}
		if len(v.where[seq]) == 0 {
			t.Fatalf("event %d is in no file", n)
		}
	}
}

func (v *victim) record(t *testing.T, n int) []byte {
	t.Helper()
	record, err := encode(damagedOne(n))
	if err != nil {
		t.Fatal(err)
	}
	stamp(record, event.Seq(n))
	return record
}

// harm is one damage.
type harm struct {
	what string
	file string
	now  []byte // its content; nil: it is gone
}

// draw chooses a damage of the given way.
func (v *victim) draw(way string, r *rand.Rand) harm {
	name := v.files[r.IntN(len(v.files))]
	pick := func(kind string) place { return v.pages[kind][r.IntN(len(v.pages[kind]))] }
	now := func() []byte { return bytes.Clone(v.whole[name]) }
	switch verb, kind, _ := strings.Cut(way, " "); verb {
	case "flip":
		at := pick(kind)
		name = at.file
		b, offset := now(), at.page*pageSize+r.IntN(pageSize)
		if kind == "meta" { // the rest of the page is empty
			offset = at.page*pageSize + r.IntN(pageHeader+metaSize)
		}
		b[offset] ^= 1 << r.IntN(8)
		return harm{fmt.Sprintf("%s in byte %d of %s", way, offset, name), name, b}
	case "zero":
		if kind == "metas" {
			b := now()
			clear(b[:2*pageSize])
			return harm{way + " of " + name, name, b}
		}
		at := pick(kind)
		name = at.file
		b := now()
		clear(b[at.page*pageSize:][:pageHeader])
		return harm{fmt.Sprintf("%s header of page %d of %s", way, at.page, name), name, b}
	case "cut":
		return v.cut(name, r.IntN(v.used(name)*pageSize/512))
	case "swap":
		one, two := r.IntN(v.used(name)), r.IntN(v.used(name))
		b := now()
		copy(b[one*pageSize:][:pageSize], v.whole[name][two*pageSize:])
		copy(b[two*pageSize:][:pageSize], v.whole[name][one*pageSize:])
		return harm{fmt.Sprintf("pages %d and %d of %s swapped", one, two, name), name, b}
	default: // stale
		names := slices.Sorted(maps.Keys(v.stale))
		name = names[r.IntN(len(names))]
		return harm{"stale " + name, name, bytes.Clone(v.stale[name])}
	}
}

func (v *victim) cut(name string, sector int) harm {
	return harm{fmt.Sprintf("%s cut at sector %d", name, sector), name, bytes.Clone(v.whole[name][:sector*512])}
}

// verdict is what became of the records that a harm did not touch.
type verdict struct{ untouched, read int }

// suffer does the harm to a copy and looks: nothing panics, nothing wrong is
// read, what is missing is told, events are taken again, and the next start
// reads the same.
func (v *victim) suffer(t *testing.T, c *tally, h harm) (out verdict) {
	t.Helper()
	root := memory(t)
	defer os.RemoveAll(root)
	dir := filepath.Join(root, "copy")
	if err := os.CopyFS(dir, os.DirFS(v.dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, h.file), h.now, 0o600); err != nil {
		t.Fatal(err)
	}
	report, err := Check(dir)
	if err != nil {
		c.violated("%s: check: %v", h.what, err)
		return out
	}
	told := !report.OK()
	var first map[event.Seq]bool
	for round := range 2 {
		j, err := Open(dir, v.o)
		if err != nil {
			c.violated("%s: open: %v", h.what, err)
			return out
		}
		have, lost := v.readable(c, h, j)
		told = told || j.Stats().Damages > 0
		if round == 0 {
			first = have
			if r, err := appendOnce(j, damagedOne(v.n+1)); err != nil || r.Duplicate {
				c.violated("%s: append: %+v, %v", h.what, r, err)
			}
			if (len(have) < v.n || lost > 0) && !told {
				c.violated("%s: %d of %d events are there, and nothing tells", h.what, len(have), v.n)
			}
		}
		for seq := range first {
			if !have[seq] {
				c.violated("%s: event %d was there at the first start and not at the second", h.what, seq)
				break
			}
		}
		if err := j.Close(); err != nil {
			c.violated("%s: close: %v", h.what, err)
		}
	}
	for n := 1; n <= v.n; n++ {
		seq := event.Seq(n)
		if !v.touched(t, seq, h) {
			out.untouched++
			if first[seq] {
				out.read++
			}
		}
	}
	return out
}

// touched tells whether the harm changed a record in any place where it is.
func (v *victim) touched(t *testing.T, seq event.Seq, h harm) bool {
	t.Helper()
	at, there := v.where[seq][h.file]
	if !there {
		return false
	}
	record := v.record(t, int(seq))
	if strings.HasPrefix(h.what, "stale") {
		return !bytes.Contains(h.now, record)
	}
	return at+len(record) > len(h.now) || !bytes.Equal(h.now[at:at+len(record)], record)
}

// readable reads all it can, and checks every byte of it.
func (v *victim) readable(c *tally, h harm, j *Journal) (have map[event.Seq]bool, lost int) {
	c.t.Helper()
	have = map[event.Seq]bool{}
	for after := j.First() - 1; after < j.Stored(); {
		events, err := j.Read(after, 500, 1<<20)
		if l, ok := errors.AsType[*LostError](err); ok && l.From > after && l.To >= l.From && l.To <= j.Stored() {
			lost += int(l.To - l.From + 1)
			after = l.To
			continue
		}
		if err != nil || len(events) == 0 {
			c.violated("%s: read behind %d of %d: %d events, %v", h.what, after, j.Stored(), len(events), err)
			return have, lost
		}
		for _, e := range events {
			want := damagedOne(int(e.Seq))
			if again := damagedOne(v.n + 1); e.ID == again.ID { // appended by the round before
				want = again
			}
			if e.Seq <= after || e.ID != want.ID || !bytes.Equal(e.Payload, want.Payload) || e.DedupKey != want.DedupKey {
				c.violated("%s: event %d behind %d is %s", h.what, e.Seq, after, e.ID)
				return have, lost
			}
			after = e.Seq
			have[e.Seq] = true
		}
	}
	return have, lost
}

// ways lists the damages that are drawn.
func (v *victim) ways() []string {
	ways := []string{"zero metas", "cut", "swap", "stale"}
	for _, kind := range slices.Sorted(maps.Keys(v.pages)) {
		ways = append(ways, "flip "+kind, "zero "+kind)
	}
	return ways
}

// TestCorruption damages a journal of 1,998 events in every way there is: bits
// in every type of page, headers, meta pages, pages that change places, files
// that are cut off or come back from the past. Under torture files are also
// cut at each of their sectors.
func TestCorruption(t *testing.T) {
	v := newVictim(t)
	for _, kind := range []string{"meta", "freelist", "branch", "leaf", "overflow", "key table"} {
		if len(v.pages[kind]) == 0 {
			t.Errorf("no page of type %s", kind)
		}
	}
	count := &tally{t: t, what: "damaged journals", seed: seed(t)}
	defer count.report()
	rnd := rand.New(rand.NewPCG(count.seed, 0))
	var sum verdict
	try := func(h harm) {
		out := v.suffer(t, count, h)
		sum.untouched += out.untouched
		sum.read += out.read
		if out.read < out.untouched {
			t.Logf("%s: %d of %d untouched records are read", h.what, out.read, out.untouched)
		}
		count.count++
	}
	rounds, ways := torture(t, 208, 5), v.ways()
	for i := range rounds {
		try(v.draw(ways[i%len(ways)], rnd))
	}
	if tortures(t) > 0 {
		for _, name := range v.files {
			for sector := range v.used(name) * pageSize / 512 {
				try(v.cut(name, sector))
			}
		}
	}
	rate := 100 * float64(sum.read) / float64(sum.untouched)
	count.note = fmt.Sprintf("%.4f %% of untouched records read", rate)
	if rate < 99.9 {
		count.violated("%s", count.note)
	}
}
