package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/avoqado/avoqado-edge/internal/event"
)

func keyed(n int, key string, digest uint64) *event.Event {
	e := sample(n)
	e.DedupKey, e.Digest = key, digest
	return e
}

// wantDuplicate appends a repeat and another event under the same key.
func (b *box) wantDuplicate(key string, digest uint64, first event.Receipt) {
	b.t.Helper()
	stored := b.Stored()
	r, err := b.Append(b.t.Context(), keyed(999_999, key, digest))
	first.Duplicate = true
	if err != nil || r != first {
		b.t.Fatalf("repeat of %s: %+v, %v; want %+v", key, r, err, first)
	}
	if _, err := b.Append(b.t.Context(), keyed(999_999, key, digest+1)); !errors.Is(err, ErrKeyReuse) {
		b.t.Fatalf("other event under %s: %v", key, err)
	}
	if b.Stored() != stored {
		b.t.Fatalf("a repeat of %s was stored", key)
	}
}

func TestDuplicates(t *testing.T) {
	b := start(t, newJournal(t, small), small)
	first := map[string]event.Receipt{}
	const n = 500
	for i := range n {
		key := fmt.Sprintf("payment_completed/%d", i)
		r, err := b.Append(t.Context(), keyed(i, key, uint64(i)))
		if err != nil || r.Duplicate {
			t.Fatal(r, err)
		}
		first[key] = r
	}
	check := func(b *box) {
		t.Helper()
		for i := 0; i < n; i += 7 {
			key := fmt.Sprintf("payment_completed/%d", i)
			b.wantDuplicate(key, uint64(i), first[key])
		}
		key := fmt.Sprintf("payment_completed/%d", n-1)
		b.wantDuplicate(key, n-1, first[key])
	}
	if b.Stats().Segments < 3 {
		t.Fatalf("%d segments", b.Stats().Segments)
	}
	check(b)
	b = b.restart(small)
	check(b)
	if r := b.append(n); r.Seq != n+1 {
		t.Fatalf("seq %d", r.Seq)
	}

	// Without its seal, as after a failed write, a segment is read through.
	b.stop()
	b = start(t, b.dir, small)
	for _, s := range b.segments[:len(b.segments)-1] {
		r, err := s.scan()
		if err != nil {
			t.Fatal(err)
		}
		s.keys = r.keys
	}
	check(b)
}

func TestDuplicatesInOneBatch(t *testing.T) {
	dir := newJournal(t, Options{})
	j, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var got []string
	put := func(e *event.Event) {
		t.Helper()
		err := j.Enqueue(t.Context(), e, func(r event.Receipt, err error) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, fmt.Sprint(r.Seq, r.Duplicate, errors.Is(err, ErrKeyReuse)))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	put(keyed(1, "a", 1))
	put(keyed(2, "b", 1))
	put(keyed(3, "a", 1))
	put(keyed(4, "a", 2))
	put(keyed(5, "", 1))
	put(keyed(6, "", 1))
	b := run(t, j) // all of it is one batch
	r := b.append(7)
	b.stop()
	want := "[1 false false 2 false false 1 true false 0 false true 3 false false 4 false false]"
	if fmt.Sprint(got) != want || r.Seq != 5 || b.Stats().Commits > 2 {
		t.Fatalf("answers %v, want %s; then %d", got, want, r.Seq)
	}
}

func TestHashCollisionIsNoDuplicate(t *testing.T) {
	b := start(t, newJournal(t, small), small)
	if _, err := b.Append(t.Context(), keyed(1, "one", 1)); err != nil {
		t.Fatal(err)
	}
	// Pretend that all keys hash alike: the record decides.
	b.writer.keys.add(hashKey("two"), 1)
	r, err := b.Append(t.Context(), keyed(2, "two", 1))
	if err != nil || r.Duplicate || r.Seq != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	b.wantDuplicate("two", 1, r)
}

func TestKeyTableAndFilter(t *testing.T) {
	keys := keyIndex{}
	const n = 20_000
	for i := range n {
		keys.add(hashKey(fmt.Sprintf("kind/%d", i)), event.Seq(i+1))
	}
	keys.add(hashKey("kind/5"), 77_777)
	table := keys.table()
	f := newFilter(table)
	for i := range n {
		hash := hashKey(fmt.Sprintf("kind/%d", i))
		seqs := searchTable(table, hash)
		if !f.has(hash) || len(seqs) == 0 || seqs[0] != event.Seq(i+1) {
			t.Fatalf("key %d: filter %v, table %v", i, f.has(hash), seqs)
		}
	}
	if got := searchTable(table, hashKey("kind/5")); len(got) != 2 {
		t.Fatalf("two events under one hash: %v", got)
	}
	wrong := 0
	for i := range n {
		hash := hashKey(fmt.Sprintf("other/%d", i))
		if f.has(hash) {
			wrong++
		}
		if len(searchTable(table, hash)) > 0 {
			t.Fatalf("found what was never added")
		}
	}
	if wrong > n/500 {
		t.Fatalf("the filter is wrong for %d of %d", wrong, n)
	}
	if filter(nil).has(1) || newFilter(nil).has(1) || len(searchTable(nil, 1)) > 0 {
		t.Fatal("found something in nothing")
	}
}

func TestQueueBounds(t *testing.T) {
	o := Options{QueueEvents: 4, QueueBytes: 1200}
	j, err := Open(newJournal(t, o), o)
	if err != nil {
		t.Fatal(err)
	}
	answers := 0
	put := func(ctx context.Context) error {
		return j.Enqueue(ctx, sample(1), func(event.Receipt, error) { answers++ })
	}
	var queued int
	full, cancel := context.WithCancel(t.Context())
	for ; queued < 10; queued++ { // the bytes run out first
		if n, bytes := j.queue.depth(); bytes+300 > o.QueueBytes || n == o.QueueEvents {
			break
		}
		if err := put(full); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := put(full); !errors.Is(err, context.Canceled) {
		t.Fatalf("put into a full queue: %v", err)
	}
	s := j.Stats()
	if s.QueueEvents != queued || s.QueueFull != 1 || s.QueueBytes > o.QueueBytes {
		t.Fatalf("stats %+v", s)
	}
	var wg sync.WaitGroup
	wg.Go(func() { // waits until Run makes room
		if err := put(t.Context()); err != nil {
			t.Error(err)
		}
	})
	b := run(t, j)
	wg.Wait()
	b.stop()
	if answers != queued+1 {
		t.Fatalf("%d answers, want %d", answers, queued+1)
	}
	big := sample(1)
	big.Payload = make([]byte, maxRecord)
	if err := j.Enqueue(t.Context(), big, nil); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("too large: %v", err)
	}
}

func TestShutdownAnswersEverythingOnce(t *testing.T) {
	dir := newJournal(t, small)
	for round := range 10 {
		j, err := Open(dir, small)
		if err != nil {
			t.Fatal(err)
		}
		before := j.Stored()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var mu sync.Mutex
		counts := map[int]int{}
		queued, acked := 0, 0
		var wg sync.WaitGroup
		for c := range 8 {
			wg.Go(func() {
				for i := 0; ; i++ {
					n := c*1_000_000 + i
					err := j.Enqueue(context.Background(), sample(n), func(r event.Receipt, err error) {
						mu.Lock()
						defer mu.Unlock()
						counts[n]++
						if err == nil {
							acked++
						}
						if acked == 100*(round+1) {
							cancel()
						}
					})
					if errors.Is(err, ErrClosed) {
						return
					}
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					queued++
					mu.Unlock()
				}
			})
		}
		if err := j.Run(ctx); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		for n, count := range counts {
			if count != 1 {
				t.Fatalf("event %d answered %d times", n, count)
			}
		}
		if len(counts) != queued || acked != queued || int(j.Stored()-before) != queued {
			t.Fatalf("%d queued, %d answered, %d acknowledged, %d stored",
				queued, len(counts), acked, j.Stored()-before)
		}
	}
}

func TestCloseWithoutRun(t *testing.T) {
	j, err := Open(newJournal(t, Options{}), Options{})
	if err != nil {
		t.Fatal(err)
	}
	var got []error
	if err := j.Enqueue(t.Context(), sample(1), func(_ event.Receipt, err error) { got = append(got, err) }); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || !errors.Is(got[0], ErrClosed) {
		t.Fatalf("answers %v", got)
	}
	if _, err := j.Append(t.Context(), sample(1)); !errors.Is(err, ErrClosed) {
		t.Fatalf("append: %v", err)
	}
	if err := j.MoveCursor("a", 0); !errors.Is(err, ErrClosed) {
		t.Fatalf("move cursor: %v", err)
	}
	if _, err := j.All("s"); !errors.Is(err, ErrClosed) {
		t.Fatalf("all: %v", err)
	}
	if err := j.Wait(t.Context(), 0); !errors.Is(err, ErrClosed) {
		t.Fatalf("wait: %v", err)
	}
	if again, err := Open(j.dir, Options{}); err != nil {
		t.Fatalf("open after close: %v", err)
	} else if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(segmentPath(j.dir, 1)); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("a segment without an event: %v", err)
	}
}
