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
}

func (d *disk) Put(_ string, entries map[string][]byte) error {
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
	r := Open(d, sample, slog.New(slog.DiscardHandler))
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

func TestAWeekIsAllThatIsKept(t *testing.T) {
	d := &disk{entries: map[string][]byte{}}
	r := Open(d, nil, slog.New(slog.DiscardHandler))
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

func TestADiskThatFailsIsTriedAgain(t *testing.T) {
	d := &disk{entries: map[string][]byte{}, err: errors.New("no")}
	r := Open(d, nil, slog.New(slog.DiscardHandler))
	now := time.Unix(1_800_000_000, 0)
	r.note(now, Sample{Waiting: 1})
	r.save(now)
	d.err = nil
	r.save(now)
	if len(d.entries) != 1 {
		t.Error("what could not be kept was not tried again")
	}
	d.entries["nonsense"] = []byte("{")
	if again := Open(d, nil, slog.New(slog.DiscardHandler)); len(again.hours) != 1 {
		t.Errorf("%d hours read", len(again.hours))
	}
}
