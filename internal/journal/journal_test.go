package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// day is when the samples were accepted, and the clock of the tests.
var day = time.UnixMilli(1_790_000_000_000).UTC()

var small = Options{SegmentBytes: 64 << 10, Now: func() time.Time { return day }}

// box is a journal under test with its Run.
type box struct {
	*Journal
	t    testing.TB
	stop func() // ends Run, closes; may be called twice
}

// newJournal makes a journal: a test's in memory, a benchmark's on disk.
func newJournal(t testing.TB, o Options) (dir string) {
	t.Helper()
	root := t.TempDir()
	if _, bench := t.(*testing.B); !bench {
		root = memory(t)
		t.Cleanup(func() { os.RemoveAll(root) })
	}
	dir = filepath.Join(root, "journal")
	if err := Create(dir, o); err != nil {
		t.Fatal(err)
	}
	return dir
}

func start(t testing.TB, dir string, o Options) *box {
	t.Helper()
	j, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return run(t, j)
}

func run(t testing.TB, j *Journal) *box {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := j.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	b := &box{Journal: j, t: t}
	b.stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		if err := j.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	t.Cleanup(b.stop)
	return b
}

func (b *box) restart(o Options) *box {
	b.t.Helper()
	b.stop()
	return start(b.t, b.dir, o)
}

func sample(n int) *event.Event {
	return &event.Event{
		ID: event.ID(fmt.Sprintf("id-%d", n)), Kind: event.PaymentCompleted,
		Origin: event.Terminal, Class: event.Money,
		Time:    day.Add(time.Duration(n) * time.Millisecond),
		Subject: fmt.Sprintf("pay_%d", n),
		Payload: fmt.Appendf(nil, `{"paymentId":"pay_%d","amount":"120.50","x":1e3 ,"pad":"%0200d"}`, n, n),
	}
}

func (b *box) append(n int) event.Receipt {
	b.t.Helper()
	r, err := b.Append(b.t.Context(), sample(n))
	if err != nil {
		b.t.Fatalf("append %d: %v", n, err)
	}
	return r
}

// fill appends the samples from..to, many at a time.
func (b *box) fill(from, to int) {
	b.t.Helper()
	var wg sync.WaitGroup
	for n := from; n <= to; n++ {
		wg.Add(1)
		err := b.Enqueue(b.t.Context(), sample(n), func(_ event.Receipt, err error) {
			if err != nil {
				b.t.Errorf("store %d: %v", n, err)
			}
			wg.Done()
		})
		if err != nil {
			b.t.Fatal(err)
		}
	}
	wg.Wait()
}

// all reads everything that is kept, failing on a gap.
func (b *box) all() []event.Event {
	b.t.Helper()
	var out []event.Event
	after := b.First() - 1
	for {
		events, err := b.Read(after, 100, 1<<20)
		if err != nil {
			b.t.Fatal(err)
		}
		if len(events) == 0 {
			return out
		}
		for _, e := range events {
			if e.Seq != after+1 {
				b.t.Fatalf("read %d behind %d", e.Seq, after)
			}
			after = e.Seq
		}
		out = append(out, events...)
	}
}

func (b *box) wantSamples(events []event.Event, from, to int) {
	b.t.Helper()
	if len(events) != to-from+1 {
		b.t.Fatalf("%d events, want %d", len(events), to-from+1)
	}
	for i, e := range events {
		want := sample(from + i)
		want.Seq, want.Epoch = e.Seq, e.Epoch
		if !reflect.DeepEqual(e, *want) {
			b.t.Fatalf("event %d is\n%+v, want\n%+v", e.Seq, e, *want)
		}
	}
}

func TestAppendReadReopen(t *testing.T) {
	b := start(t, newJournal(t, Options{}), Options{})
	epoch := b.Epoch()
	for n := 1; n <= 10; n++ {
		if r := b.append(n); r.Seq != event.Seq(n) || r.Epoch != epoch || r.ID != sample(n).ID || r.Duplicate {
			t.Fatalf("receipt %+v", r)
		}
	}
	b.wantSamples(b.all(), 1, 10)
	b = b.restart(Options{})
	b.wantSamples(b.all(), 1, 10)
	if b.Epoch() != epoch || b.First() != 1 || b.Stored() != 10 {
		t.Fatalf("reopened as epoch %s, %d to %d", b.Epoch(), b.First(), b.Stored())
	}
	if r := b.append(11); r.Seq != 11 {
		t.Fatalf("seq %d after reopening", r.Seq)
	}
}

func TestRecordKeepsEveryField(t *testing.T) {
	full := event.Event{
		ID: "i", Kind: "k", Origin: event.Cloud, Class: event.Alerts,
		Time: time.UnixMilli(-5).UTC(), Clock: event.Clock{Error: 7 * time.Millisecond, Boot: "0190a5b0-1c2d-7e3f-8a4b-5c6d7e8f9a0b", Up: time.Hour}, Subject: "s", Actor: "a", Role: event.Waiter, Terminal: "t",
		CorrelationID: "c", Sender: "sid", Expires: time.UnixMilli(77).UTC(), DedupKey: "d", Digest: 1 << 63,
		Audience: event.Audience{
			Venue: true, Tables: []string{"1", ""}, Orders: []string{"2"}, Roles: []event.Role{"R"},
			Users: []string{"3"}, Terminals: []string{"4", "5"}, Except: []event.Role{event.Viewer},
		},
		Payload: []byte("{\"a\":\x00\xff}"),
	}
	for i := range reflect.TypeOf(full).NumField() { // a new field must be stored, or listed here
		name := reflect.TypeOf(full).Field(i).Name
		if name != "Epoch" && name != "Seq" && reflect.ValueOf(full).Field(i).IsZero() {
			t.Errorf("the sample has no %s", name)
		}
	}
	for _, e := range []event.Event{full, {Payload: []byte{}}} {
		record, err := encode(&e)
		if err != nil {
			t.Fatal(err)
		}
		stamp(record, 9)
		// A tag of a later version.
		record = append(record, 200, 3, 'n', 'e', 'w')
		record[0] += 5
		stamp(record, 9)
		got, rest, err := cut(append(bytes.Clone(record), "next"...))
		if err != nil || string(rest) != "next" || verify(got, 9) != nil {
			t.Fatalf("cut and verify: %v, rest %q", err, rest)
		}
		back, err := decode(got, 9, "E")
		e.Seq, e.Epoch = 9, "E"
		if err != nil || !reflect.DeepEqual(back, e) {
			t.Fatalf("back: %v\n%+v, want\n%+v", err, back, e)
		}
		for i := range record {
			record[i] ^= 4
			if got, _, err := cut(record); err == nil && verify(got, 9) == nil {
				t.Fatalf("a flipped bit in byte %d is not noticed", i)
			}
			record[i] ^= 4
		}
	}
}

func TestGroupCommitAnswersInOrder(t *testing.T) {
	b := start(t, newJournal(t, Options{}), Options{})
	var mu sync.Mutex
	var answered []event.Seq
	var wg sync.WaitGroup
	const callers, each = 32, 50
	for c := range callers {
		wg.Go(func() {
			for i := range each {
				var one sync.WaitGroup
				one.Add(1)
				err := b.Enqueue(t.Context(), sample(c*each+i), func(r event.Receipt, err error) {
					if err != nil {
						t.Errorf("store: %v", err)
					}
					if b.Stored() < r.Seq {
						t.Errorf("%d answered before it was stored", r.Seq)
					}
					mu.Lock()
					answered = append(answered, r.Seq)
					mu.Unlock()
					one.Done()
				})
				if err != nil {
					t.Error(err)
					return
				}
				one.Wait()
			}
		})
	}
	wg.Wait()
	for i, seq := range answered {
		if seq != event.Seq(i+1) {
			t.Fatalf("answer %d is for seq %d", i+1, seq)
		}
	}
	s := b.Stats()
	if s.Events != callers*each || s.Events < 2*s.Commits || s.Fsyncs < int64(2*s.Commits) {
		t.Fatalf("no group commit: %+v", s)
	}
	if got := len(b.all()); got != callers*each {
		t.Fatalf("%d events", got)
	}
}

func TestRollAndReopen(t *testing.T) {
	b := start(t, newJournal(t, small), small)
	b.fill(1, 3000)
	if s := b.Stats(); s.Segments < 5 {
		t.Fatalf("%d segments", s.Segments)
	}
	b.wantSamples(b.all(), 1, 3000)
	b = b.restart(small)
	b.wantSamples(b.all(), 1, 3000)
	b.fill(3001, 3100)
	b.wantSamples(b.all(), 1, 3100)
	open := 0
	for _, s := range b.segments {
		if s.file != nil {
			open++
		}
	}
	if open > maxOpen+1 {
		t.Fatalf("%d segments are open", open)
	}
	b.stop()
	if r, err := Check(b.dir); err != nil || !r.OK() || r.Events != 3100 || r.Stored != 3100 || r.First != 1 {
		t.Fatalf("check: %v, %+v", err, r)
	}
}

func TestCreateOpenErrors(t *testing.T) {
	dir := newJournal(t, Options{})
	if err := Create(dir, Options{}); !errors.Is(err, ErrExists) {
		t.Errorf("create twice: %v", err)
	}
	empty := t.TempDir()
	for _, path := range []string{empty, filepath.Join(empty, "no")} {
		if _, err := Open(path, Options{}); !errors.Is(err, ErrMissing) {
			t.Errorf("open %s: %v", path, err)
		}
		if _, err := Check(path); !errors.Is(err, ErrMissing) {
			t.Errorf("check %s: %v", path, err)
		}
	}
	if entries, err := os.ReadDir(empty); err != nil || len(entries) > 0 {
		t.Errorf("opening what is missing left %v, %v", entries, err)
	}
	j, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	for name, try := range map[string]func() error{
		"open":   func() error { _, err := Open(dir, Options{}); return err },
		"check":  func() error { _, err := Check(dir); return err },
		"create": func() error { return Create(dir, Options{}) },
	} {
		var locked *LockedError
		if err := try(); !errors.As(err, &locked) || locked.PID != os.Getpid() {
			t.Errorf("%s while open: %v", name, err)
		}
	}
}
