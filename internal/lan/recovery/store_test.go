package recovery_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/lan/recovery"
)

// disk is a State with knobs.
type disk struct {
	mu      sync.Mutex // guards below
	entries map[string][]byte
	puts    int
	err     error
	held    chan struct{} // Put waits for it, if there is one
}

func (d *disk) Put(_ string, entries map[string][]byte) error {
	d.mu.Lock()
	held := d.held
	d.mu.Unlock()
	if held != nil {
		<-held
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.puts++
	if d.err != nil {
		return d.err
	}
	if d.entries == nil {
		d.entries = make(map[string][]byte)
	}
	for key, value := range entries {
		if value == nil {
			delete(d.entries, key)
		} else {
			d.entries[key] = value
		}
	}
	return nil
}

func (d *disk) All(string) (map[string][]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.entries), nil
}

func (d *disk) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.puts
}

// start opens a store and runs it; stop ends it and may be called twice.
func start(t *testing.T, d *disk, now func() time.Time) (s *recovery.Store, stop func()) {
	t.Helper()
	s, err := recovery.Open(d, func() event.Epoch { return "e1" }, now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() { s.Run(ctx) })
	stop = func() { cancel(); group.Wait() }
	t.Cleanup(stop)
	return s, stop
}

// save waits until all is written, or was tried.
func save(s *recovery.Store) {
	done := make(chan struct{})
	s.Save(func() { close(done) })
	<-done
}

var (
	owner   = recovery.Owner{Subject: "m1", Role: event.Manager}
	errDisk = errors.New("disk is broken")
)

func TestDurable(t *testing.T) {
	d := &disk{}
	s, stop := start(t, d, time.Now)
	x := s.New(owner, "sid1", 7)
	x.Join("table/t1")
	x.Join("table/t2")
	x.Leave("table/t1")
	save(s)
	crashed, _ := d.All("")
	x.Prove(20)
	stop()

	s, _ = start(t, &disk{entries: crashed}, time.Now)
	got, at, err := s.Claim(x.PID(), "", owner)
	if err != nil || at != 7 || got.Self() != "sid1" || !slices.Equal(got.Places(), []string{"table/t2"}) {
		t.Errorf("after a crash: %v, %d, %v", got, at, err)
	}
	s, _ = start(t, d, time.Now) // after a clean end
	if _, at, err = s.Claim(x.PID(), "", owner); err != nil || at != 20 {
		t.Errorf("position %d, %v", at, err)
	}
	if _, at, err = s.Claim(x.PID(), recovery.Offset("e1", 12), owner); err != nil || at != 12 {
		t.Errorf("offset %d, %v", at, err) // it knows better
	}
}

func TestOwed(t *testing.T) {
	s, _ := start(t, &disk{}, time.Now)
	x := s.New(owner, "sid1", 7)
	x.Owe(7)
	for offset, want := range map[string]error{
		"": recovery.ErrUnproven, recovery.Offset("e1", 7): recovery.ErrUnproven, recovery.Offset("e1", 8): nil,
		recovery.Offset("e2", 8): recovery.ErrOffset, "e1.8": recovery.ErrOffset, "8": recovery.ErrOffset,
	} {
		if _, _, err := s.Claim(x.PID(), offset, owner); !errors.Is(err, want) {
			t.Errorf("offset %q: %v, want %v", offset, err, want)
		}
	}
	x.Prove(7)
	if _, _, err := s.Claim(x.PID(), "", owner); err != nil {
		t.Error(err)
	}
}

// TestGroupedWrites has two hundred clients come at once.
func TestGroupedWrites(t *testing.T) {
	d := &disk{held: make(chan struct{})}
	s, _ := start(t, d, time.Now)
	var group sync.WaitGroup
	for n := range 200 {
		s.New(owner, fmt.Sprint(n), 0)
		group.Add(1)
		s.Save(group.Done)
	}
	close(d.held)
	group.Wait()
	puts := d.count()
	if puts > 3 {
		t.Errorf("%d writes", puts)
	}
	save(s) // nothing to write
	if d.count() != puts {
		t.Error("wrote nothing new")
	}
}

func TestBounds(t *testing.T) {
	var ahead atomic.Int64
	s, _ := start(t, &disk{}, func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) })
	kept := s.New(owner, "kept", 0)
	release, _ := kept.Hold(func() {})
	save(s)
	for n := range 5000 {
		s.New(owner, fmt.Sprint(n), 0) // none is on disk yet
	}
	save(s)
	s.New(owner, "last", 0)
	if n := s.Len(); n > 2048 {
		t.Errorf("%d sessions", n)
	}
	if _, _, err := s.Claim(kept.PID(), "", owner); err != nil {
		t.Errorf("one that is here was forgotten: %v", err)
	}
	if !release() {
		t.Error("somebody took over")
	}
	ahead.Store(int64(recovery.KeepFor + time.Minute))
	save(s)
	if n := s.Len(); n != 0 {
		t.Errorf("%d sessions after too long", n)
	}
}

func TestDiskTrouble(t *testing.T) {
	d := &disk{err: errDisk}
	s, _ := start(t, d, time.Now)
	x := s.New(owner, "sid1", 0)
	save(s) // and lets the client in
	d.mu.Lock()
	d.err = nil
	d.mu.Unlock()
	save(s)
	if entries, _ := d.All(""); entries[x.PID()] == nil {
		t.Error("not written after all")
	}
}

func TestTakeOver(t *testing.T) {
	s, _ := start(t, &disk{}, time.Now)
	x := s.New(owner, "sid1", 0)
	told := 0
	first, took := x.Hold(func() { told++ })
	if took {
		t.Error("took it from nobody")
	}
	second, took := x.Hold(func() { t.Error("was told") })
	if !took || told != 1 || first() || !second() {
		t.Errorf("took %v, told %d", took, told)
	}
}
