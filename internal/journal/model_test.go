package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
	cursors map[string]event.Seq
	keeps   map[string]event.Seq // what may not be trimmed for a cursor's sake
	now     time.Time
}

// TestModel runs random operations against the journal and the model.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		root := memory(rt)
		defer os.RemoveAll(root)
		m := &model{first: 1, cursors: map[string]event.Seq{}, keeps: map[string]event.Seq{}, now: day}
		var mu sync.Mutex // the box's own trimming reads the clock
		o := Options{
			SegmentBytes: int64(rapid.SampledFrom([]int{4, 16, 64}).Draw(rt, "segment")) << 10,
			RetainFor:    time.Minute,
			QueueEvents:  rapid.IntRange(1, 64).Draw(rt, "queue"),
			Now:          func() time.Time { mu.Lock(); defer mu.Unlock(); return m.now },
		}
		dir := filepath.Join(root, "journal")
		if err := Create(dir, o); err != nil {
			rt.Fatal(err)
		}
		b := start(t, dir, o)
		defer func() { b.stop() }()

		newEvent := func() *event.Event {
			n := len(m.events) + rapid.IntRange(0, 1000).Draw(rt, "n")
			e := sample(n)
			e.Time = m.now
			e.Payload = rapid.SliceOfN(rapid.Byte(), 0, 3000).Draw(rt, "payload")
			if rapid.Bool().Draw(rt, "keyed") {
				e.DedupKey = fmt.Sprintf("k/%d", rapid.IntRange(0, 40).Draw(rt, "key"))
				e.Digest = uint64(rapid.IntRange(1, 2).Draw(rt, "digest"))
			}
			return e
		}
		// retained finds the event that a key stands for. Trimming runs beside
		// us, so an old one may or may not be there: then any answer will do.
		check := func(e *event.Event, r event.Receipt, err error) {
			if err == nil && !r.Duplicate {
				if int(r.Seq) != len(m.events)+1 {
					rt.Fatalf("stored at %d, want %d", r.Seq, len(m.events)+1)
				}
				for _, have := range m.events[b.First()-1:] {
					if e.DedupKey != "" && have.DedupKey == e.DedupKey {
						rt.Fatalf("key %s stored again, first at %d", e.DedupKey, have.Seq)
					}
				}
				m.events = append(m.events, e)
				return
			}
			if e.DedupKey == "" || err != nil && !errors.Is(err, ErrKeyReuse) {
				rt.Fatalf("append: %v", err)
			}
			for _, have := range m.events[m.first-1:] {
				if have.DedupKey == e.DedupKey {
					if (have.Digest != e.Digest) == (err != nil) && (err != nil || r.Seq == have.Seq) {
						return
					}
				}
			}
			rt.Fatalf("%s/%d is no repeat: %+v, %v", e.DedupKey, e.Digest, r, err)
		}
		rt.Repeat(map[string]func(*rapid.T){
			"append": func(rt *rapid.T) {
				e := newEvent()
				r, err := b.Append(t.Context(), e)
				check(e, r, err)
			},
			"append many": func(rt *rapid.T) {
				n := rapid.IntRange(2, 40).Draw(rt, "many")
				type answered struct {
					e   *event.Event
					r   event.Receipt
					err error
				}
				answers := make(chan answered, n)
				for range n {
					e := newEvent()
					if err := b.Enqueue(t.Context(), e, func(r event.Receipt, err error) {
						answers <- answered{e, r, err}
					}); err != nil {
						rt.Fatal(err)
					}
				}
				for range n { // in seq order, so the model can follow
					a := <-answers
					check(a.e, a.r, a.err)
				}
			},
			"cursor": func(rt *rapid.T) {
				name := rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "name")
				to := event.Seq(rapid.IntRange(0, len(m.events)+1).Draw(rt, "to"))
				err := b.MoveCursor(name, to)
				if (int(to) > len(m.events)) != errors.Is(err, ErrBeyond) {
					rt.Fatalf("move to %d of %d: %v", to, len(m.events), err)
				}
				if err == nil {
					m.cursors[name] = max(m.cursors[name], to)
					if _, have := m.keeps[name]; !have { // what is gone already, it cannot keep
						m.keeps[name] = b.First()
					}
					m.keeps[name] = max(m.keeps[name], to+1)
				}
			},
			"trim": func(rt *rapid.T) {
				mu.Lock()
				m.now = m.now.Add(time.Duration(rapid.IntRange(0, 90).Draw(rt, "seconds")) * time.Second)
				mu.Unlock()
				if _, err := b.Trim(); err != nil {
					rt.Fatal(err)
				}
			},
			"reopen": func(*rapid.T) { b = b.restart(o) },
			"read": func(rt *rapid.T) {
				after := event.Seq(rapid.IntRange(0, len(m.events)).Draw(rt, "after"))
				events, err := b.Read(after, rapid.IntRange(1, 50).Draw(rt, "max"), 10_000)
				if err != nil || len(events) == 0 && after < b.Stored() && b.First() <= b.Stored() {
					rt.Fatalf("read behind %d: %d events, %v", after, len(events), err)
				}
				for i, e := range events {
					if want := m.events[e.Seq-1]; e.Seq != events[0].Seq+event.Seq(i) ||
						e.ID != want.ID || string(e.Payload) != string(want.Payload) || !e.Time.Equal(want.Time) {
						rt.Fatalf("read %+v, want %+v", e, *want)
					}
				}
				if len(events) > 0 && events[0].Seq != max(after+1, b.First()) && b.First() <= after+1 {
					rt.Fatalf("read %d behind %d", events[0].Seq, after)
				}
			},
			"": func(rt *rapid.T) {
				if b.Stored() != event.Seq(len(m.events)) {
					rt.Fatalf("stored %d, want %d", b.Stored(), len(m.events))
				}
				for name, at := range m.cursors {
					if b.Cursor(name) != at {
						rt.Fatalf("cursor %s at %d, want %d", name, b.Cursor(name), at)
					}
					if b.First() > m.keeps[name] {
						rt.Fatalf("trimmed to %d, cursor %s is at %d", b.First(), name, at)
					}
				}
				first := b.First()
				if first > 1 && first <= b.Stored() && m.events[first-2].Time.Add(o.RetainFor).After(m.now) {
					rt.Fatalf("event %d was trimmed too young", first-1)
				}
				if first < m.first {
					rt.Fatalf("first went back from %d to %d", m.first, first)
				}
				m.first = first
			},
		})
		b.stop()
		if r, err := Check(dir); err != nil || !r.OK() || r.Stored != event.Seq(len(m.events)) {
			rt.Fatalf("check: %v, %+v", err, r)
		}
	})
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
