package journal

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

func TestReadBounds(t *testing.T) {
	b := start(t, newJournal(t, small), small)
	const n = tailEvents + 900 // some only on disk, some in memory too
	b.fill(1, n)
	for _, after := range []int{0, 1, 63, 898, 899, 900, 901, 902, 2000, n - 1} {
		for _, most := range []int{1, 2, 50} {
			events, err := b.Read(event.Seq(after), most, 1<<20)
			if err != nil || len(events) == 0 || len(events) > most {
				t.Fatalf("read %d behind %d: %d events, %v", most, after, len(events), err)
			}
			b.wantSamples(events, after+1, after+len(events))
		}
		for _, bytes := range []int{-1, 0, 1, 1000} {
			events, err := b.Read(event.Seq(after), 100, bytes)
			if err != nil || len(events) == 0 || len(events) > 1+max(bytes, 0)/weigh(sample(1)) {
				t.Fatalf("read %d bytes behind %d: %d events, %v", bytes, after, len(events), err)
			}
		}
	}
	for _, after := range []event.Seq{n, n + 1, 1 << 60} {
		if events, err := b.Read(after, 10, 1000); err != nil || len(events) != 0 {
			t.Fatalf("read behind the end %d: %d events, %v", after, len(events), err)
		}
	}
	if len(b.all()) != n {
		t.Fatal("not all")
	}
}

func TestTailIsBounded(t *testing.T) {
	b := start(t, newJournal(t, Options{}), Options{Now: small.Now})
	big := make([]byte, 100<<10)
	for n := range 60 {
		e := sample(n)
		e.Payload = big
		if _, err := b.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if held := b.tail.next - b.tail.first; held < 30 || b.tail.bytes > tailBytes+weigh(sample(1))+len(big) {
		t.Fatalf("tail holds %d events, %d bytes", held, b.tail.bytes)
	}
	if got := len(b.all()); got != 60 {
		t.Fatalf("%d events", got)
	}
}

func TestWait(t *testing.T) {
	b := start(t, newJournal(t, Options{}), Options{})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	results := make([]error, 8)
	for i := range results {
		wg.Go(func() { results[i] = b.Wait(t.Context(), event.Seq(i)) })
	}
	var canceled, closed error
	wg.Go(func() { canceled = b.Wait(ctx, 1000) })
	b.fill(1, 8)
	cancel()
	wg.Wait()
	wg.Go(func() { closed = b.Wait(t.Context(), 1000) })
	b.stop()
	wg.Wait()
	if err := errors.Join(results...); err != nil {
		t.Errorf("wait for what came: %v", err)
	}
	if !errors.Is(canceled, context.Canceled) || !errors.Is(closed, ErrClosed) {
		t.Errorf("wait for what never came: %v, %v", canceled, closed)
	}
	if err := b.Wait(t.Context(), 3); err != nil {
		t.Errorf("wait for what is there, after the end: %v", err)
	}
}

// TestFollow reads behind the writer, across rolls, without missing anything.
func TestFollow(t *testing.T) {
	b := start(t, newJournal(t, small), small)
	const n = 4000
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for after := event.Seq(0); after < n; {
				if err := b.Wait(t.Context(), after); err != nil {
					t.Error(err)
					return
				}
				events, err := b.Read(after, 64, 1<<20)
				if err != nil {
					t.Error(err)
					return
				}
				for _, e := range events {
					if e.Seq != after+1 || e.ID != sample(int(e.Seq)).ID {
						t.Errorf("read %d (%s) behind %d", e.Seq, e.ID, after)
						return
					}
					after = e.Seq
				}
			}
		})
	}
	b.fill(1, n)
	wg.Wait()
}

func TestCursors(t *testing.T) {
	b := start(t, newJournal(t, Options{}), Options{})
	b.fill(1, 20)
	if b.Cursor("uplink") != 0 {
		t.Fatal("a cursor from nowhere")
	}
	move := func(to event.Seq, want error, at event.Seq) {
		t.Helper()
		if err := b.MoveCursor("uplink", to); !errors.Is(err, want) || b.Cursor("uplink") != at {
			t.Fatalf("move to %d: %v, now at %d", to, err, b.Cursor("uplink"))
		}
	}
	move(0, nil, 0)
	move(21, ErrBeyond, 0)
	move(15, nil, 15)
	move(3, nil, 15)
	b = b.restart(Options{})
	if b.Cursor("uplink") != 15 {
		t.Fatalf("cursor at %d after a restart", b.Cursor("uplink"))
	}
	move(15, nil, 15)
	got := b.Backlog("uplink")
	if got.Events != 5 || !got.Oldest.Equal(sample(16).Time) || got.Bytes <= 0 {
		t.Fatalf("backlog %+v", got)
	}
	move(20, nil, 20)
	if got := b.Backlog("uplink"); got != (Backlog{}) {
		t.Fatalf("backlog %+v", got)
	}
	if got := b.Backlog("nobody"); got.Events != 20 {
		t.Fatalf("backlog %+v", got)
	}
	if c := b.Stats().Cursors; !maps.Equal(c, map[string]event.Seq{"uplink": 20}) {
		t.Fatalf("cursors %v", c)
	}
}

func TestState(t *testing.T) {
	b := start(t, newJournal(t, Options{}), Options{})
	put := func(space string, entries map[string][]byte) {
		t.Helper()
		if err := b.Put(space, entries); err != nil {
			t.Fatal(err)
		}
	}
	put("lan", map[string][]byte{"a": []byte("1"), "b": {}, "c": []byte("3")})
	put("lan", map[string][]byte{"a": nil, "c": []byte("4"), "never": nil})
	put("uplink", map[string][]byte{"a": []byte("x")})
	if err := b.Put("lan", map[string][]byte{"d": []byte("1"), "": []byte("1")}); err == nil {
		t.Fatal("an empty key is kept")
	}
	b = b.restart(Options{})
	for space, want := range map[string]string{
		"lan": "b= c=4", "uplink": "a=x", "unknown": "",
	} {
		entries, err := b.All(space)
		if err != nil {
			t.Fatal(err)
		}
		var got string
		for i, key := range slices.Sorted(maps.Keys(entries)) {
			if i > 0 {
				got += " "
			}
			got += fmt.Sprintf("%s=%s", key, entries[key])
		}
		if got != want {
			t.Errorf("space %s is %q, want %q", space, got, want)
		}
	}
}

func TestFind(t *testing.T) {
	b := start(t, newJournal(t, small), small)
	const n = 1500
	b.fill(1, n)
	digits := sample(n + 1)
	digits.ID = "12345678"
	if _, err := b.Append(t.Context(), digits); err != nil {
		t.Fatal(err)
	}
	b.append(7) // the same ID again
	for id, want := range map[string]event.Seq{
		"1": 1, "0700": 700, "1501": n + 1, "id-1": 1, "id-1500": n, "id-640": 640,
		"12345678": n + 1, "id-7": n + 2,
		"": 0, "id-": 0, "0": 0, "1503": 0, "-1": 0,
	} {
		e, err := b.Find(id)
		if e.Seq != want || (want == 0) != errors.Is(err, ErrNotFound) {
			t.Errorf("find %q: %d, %v; want %d", id, e.Seq, err, want)
		}
	}
}

func TestTrim(t *testing.T) {
	now := day
	o := small
	o.Now = func() time.Time { return now }
	o.RetainFor = time.Hour
	dir := newJournal(t, o)
	j, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = j.Run(ctx) })
	b := &box{Journal: j, t: t}
	b.fill(1, 2000)
	cancel() // so that only this test trims
	wg.Wait()
	defer j.Close()

	trim := func(want bool) {
		t.Helper()
		first, segments := j.First(), j.Stats().Segments
		n, err := j.Trim()
		if err != nil || (n > 0) != want || j.Stats().Segments != segments-n || (j.First() > first) != want {
			t.Fatalf("trimmed %d of %d segments, first %d → %d, %v", n, segments, first, j.First(), err)
		}
		if j.First() > 1 {
			if _, err := j.Find("1"); !errors.Is(err, ErrNotFound) {
				t.Fatalf("find what is gone: %v", err)
			}
			if e, err := j.Read(0, 1, 1); err != nil || e[0].Seq != j.First() {
				t.Fatalf("read from the start: %v, %v", e, err)
			}
		}
		if got := len(b.all()); got != int(j.Stored()-j.First()+1) {
			t.Fatalf("%d events", got)
		}
	}
	if err := j.MoveCursor("uplink", 0); err != nil {
		t.Fatal(err)
	}
	trim(false) // too young
	now = day.Add(2 * time.Hour)
	trim(false) // not passed
	second := j.segments[1].first
	for _, to := range []event.Seq{second - 2, second - 1} {
		if err := j.MoveCursor("uplink", to); err != nil {
			t.Fatal(err)
		}
		trim(to == second-1)
	}
	if j.First() != second {
		t.Fatalf("first is %d, want %d", j.First(), second)
	}
	if err := j.MoveCursor("lan", 1000); err != nil { // a second cursor does not free
		t.Fatal(err)
	}
	trim(false)
	if err := j.MoveCursor("uplink", 900); err != nil {
		t.Fatal(err)
	}
	trim(true)
	if j.First() > 901 {
		t.Fatalf("first is %d: trimmed past a cursor", j.First())
	}
	now = day // young again: only size counts
	if err := errors.Join(j.MoveCursor("uplink", 2000), j.MoveCursor("lan", 2000)); err != nil {
		t.Fatal(err)
	}
	trim(false)
	j.o.RetainBytes = j.diskBytes() / 2
	trim(true)
	if j.diskBytes() > j.o.RetainBytes {
		t.Fatalf("%d bytes are kept, %d allowed", j.diskBytes(), j.o.RetainBytes)
	}
	j.o.RetainBytes = 1
	trim(true)
	if j.Stats().Segments != 1 {
		t.Fatalf("%d segments", j.Stats().Segments)
	}
}

// TestTrimUnderReaders deletes segments while they are read.
func TestTrimUnderReaders(t *testing.T) {
	o := small
	o.RetainBytes = 256 << 10
	b := start(t, newJournal(t, o), o)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for ctx.Err() == nil {
				after := b.First() - 1
				for range 20 {
					events, err := b.Read(after, 64, 1<<20)
					if err != nil {
						t.Error(err)
						return
					}
					if len(events) == 0 {
						break
					}
					after = events[len(events)-1].Seq
				}
			}
		})
	}
	const n = 12_000
	b.fill(1, n)
	for deadline := time.Now().Add(time.Minute); b.Stats().Trimmed < 5; {
		if time.Now().After(deadline) {
			t.Fatal("nothing was trimmed")
		}
		if _, err := b.Trim(); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	wg.Wait()
	b.wantSamples(b.all(), int(b.First()), n)
}

// TestAlive: a writer that runs says so at once, one that does not, never.
func TestAlive(t *testing.T) {
	dir := newJournal(t, small)
	b := start(t, dir, small)
	b.fill(1, 10)
	for range 3 {
		if err := b.Alive(t.Context()); err != nil {
			t.Error(err)
		}
	}
	b.stop()
	j, err := Open(dir, small)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := j.Alive(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without a writer: %v", err)
	}
}
