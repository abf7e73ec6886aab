package history

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// disk is a state that can fail and counts what is written.
type disk struct {
	mu      sync.Mutex
	entries map[string][]byte
	writes  int
	err     error
	hangs   func() // nil: it does not
}

func (d *disk) Put(_ string, entries map[string][]byte) error {
	if d.hangs != nil {
		d.hangs()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return d.err
	}
	d.writes++
	for k, v := range entries {
		if v == nil {
			delete(d.entries, k)
			continue
		}
		d.entries[k] = v
	}
	return nil
}

func (d *disk) All(string) (map[string][]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.entries), d.err
}

func run(t *testing.T, d *disk, sample func() Sample, lasts time.Duration) *Recorder {
	t.Helper()
	r := Open(d, sample, time.Now, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithTimeout(t.Context(), lasts)
	defer cancel()
	if err := r.Run(ctx); err != nil {
		t.Fatal(err)
	}
	return r
}

func figures(t *testing.T, r *Recorder, n int) (waiting, down []int32) {
	t.Helper()
	f := r.Last(time.Duration(n)*Step, time.Now())
	if len(f.Waiting) != n || len(f.Down) != n {
		t.Fatalf("%d and %d figures of %d minutes", len(f.Waiting), len(f.Down), n)
	}
	for i := range n {
		w, d := int32(unknown), int32(unknown)
		if f.Waiting[i] != nil {
			w, d = *f.Waiting[i], *f.Down[i]
		}
		waiting, down = append(waiting, w), append(down, d)
	}
	return waiting, down
}

func TestMinutesSurviveARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{entries: map[string][]byte{}}
		<-time.After(time.Until(time.Now().Truncate(time.Hour).Add(58 * time.Minute))) // over the end of an hour
		start := time.Now()
		run(t, d, func() Sample {
			s := Sample{Waiting: 3}
			if since := time.Since(start); since > 90*time.Second && since <= 120*time.Second {
				s = Sample{Waiting: 40, Down: true}
			}
			return s
		}, 3*time.Minute+500*time.Millisecond)
		if d.writes != 1 {
			t.Errorf("%d writes in three minutes and a stop", d.writes)
		}
		<-time.After(2 * time.Minute) // switched off
		r := run(t, d, func() Sample { return Sample{} }, 10*time.Second)
		waiting, down := figures(t, r, 7)
		if want := []int32{unknown, 3, 40, 40, 3, unknown, 0}; !slices.Equal(waiting, want) {
			t.Errorf("waiting %v, want %v", waiting, want)
		}
		if want := []int32{unknown, 0, 29, 1, 0, unknown, 0}; !slices.Equal(down, want) {
			t.Errorf("down %v, want %v", down, want)
		}
	})
}

// TestSystemThatBootsInThePast: the week stays, whatever a board without a clock
// battery takes the time for until it is told.
func TestSystemThatBootsInThePast(t *testing.T) {
	d := &disk{entries: map[string][]byte{}}
	before := Open(d, nil, time.Now, slog.New(slog.DiscardHandler))
	last := time.Unix(1_800_000_000, 0)
	before.note(last, Sample{Waiting: 7})
	before.save(last)
	synctest.Test(t, func(t *testing.T) { // in it, it is the year 2000
		boot := time.Now()
		r := Open(d, func() Sample { return Sample{} }, func() time.Time { return last.Add(time.Since(boot)) }, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
		defer cancel()
		if err := r.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if f := r.Last(2*Step, last.Add(Step)).Waiting; f[0] == nil || *f[0] != 7 || f[1] == nil || *f[1] != 0 {
			t.Errorf("what was known is not shown: %v", f)
		}
	})
	if len(d.entries) != 1 {
		t.Errorf("%d hours kept", len(d.entries))
	}
}

func TestAWeekIsAllThatIsKept(t *testing.T) {
	d := &disk{entries: map[string][]byte{}}
	r := Open(d, nil, time.Now, slog.New(slog.DiscardHandler))
	begin := time.Unix(1_800_000_000, 0)
	for h := range 24 * 9 {
		r.note(begin.Add(time.Duration(h)*time.Hour), Sample{Waiting: h})
		r.save(begin)
	}
	if n := int(Keep/time.Hour) + 1; len(r.hours) != n || len(d.entries) != n {
		t.Errorf("%d hours in memory and %d on disk, want %d", len(r.hours), len(d.entries), n)
	}
	// A clock that was years ahead leaves nothing behind.
	r.note(begin, Sample{})
	r.save(begin)
	if len(r.hours) != 1 || len(d.entries) != 1 {
		t.Errorf("%d hours in memory and %d on disk after the clock went back", len(r.hours), len(d.entries))
	}
}

// TestADiskThatHangs: who asks for the figures does not wait for it.
func TestADiskThatHangs(t *testing.T) {
	begun, hangs := make(chan struct{}), make(chan struct{})
	d := &disk{entries: map[string][]byte{}, hangs: func() { close(begun); <-hangs }}
	r := Open(d, nil, time.Now, slog.New(slog.DiscardHandler))
	now := time.Now()
	r.note(now, Sample{Waiting: 3})
	var wg sync.WaitGroup
	wg.Go(func() { r.save(now) })
	<-begun
	if !r.mu.TryLock() {
		t.Error("the figures are locked while the disk hangs")
	} else {
		r.mu.Unlock()
	}
	close(hangs)
	wg.Wait()
	if len(d.entries) != 1 || len(r.dirty) != 0 {
		t.Errorf("%d hours kept, %d to be kept", len(d.entries), len(r.dirty))
	}
}

func TestADiskThatFailsIsTriedAgain(t *testing.T) {
	d := &disk{entries: map[string][]byte{}, err: errors.New("no")}
	r := Open(d, nil, time.Now, slog.New(slog.DiscardHandler))
	now := time.Unix(1_800_000_000, 0)
	r.note(now, Sample{Waiting: 1})
	r.save(now)
	d.err = nil
	r.save(now)
	if len(d.entries) != 1 {
		t.Error("what could not be kept was not tried again")
	}
	d.entries["nonsense"] = []byte("{")
	if again := Open(d, nil, time.Now, slog.New(slog.DiscardHandler)); len(again.hours) != 1 {
		t.Errorf("%d hours read", len(again.hours))
	}
}
