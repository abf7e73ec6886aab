package uplink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/cloud"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/testpart"
)

// memory is a journal without a disk, with knobs for what a disk can do wrong.
type memory struct {
	mu      sync.Mutex
	epoch   event.Epoch
	events  []event.Event // seq i+1 at i
	grown   chan struct{} // closed and replaced at each append
	cursors map[string]event.Seq
	moves   int
	spaces  map[string]map[string][]byte

	lostFrom, lostTo event.Seq // Read fails on these
	mute             bool      // Read gives nothing, whatever there is
	reads            int
	refuse           func(e *event.Event) error
	appended         func(e *event.Event) // after an event is stored
	put              func(space string) (after func(), before error)
}

func newMemory() *memory {
	return &memory{
		epoch: event.NewEpoch(""), grown: make(chan struct{}),
		cursors: map[string]event.Seq{}, spaces: map[string]map[string][]byte{},
	}
}

type lostRange struct{ from, to event.Seq }

func (l lostRange) Error() string                { return fmt.Sprintf("events %d to %d are lost", l.from, l.to) }
func (l lostRange) Lost() (event.Seq, event.Seq) { return l.from, l.to }

func (m *memory) Read(after event.Seq, maxEvents, maxBytes int) ([]event.Event, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads++
	if m.mute {
		return nil, nil
	}
	var out []event.Event
	size := 0
	for i := int(after); i < len(m.events) && len(out) < maxEvents; i++ {
		e := m.events[i]
		if e.Seq >= m.lostFrom && e.Seq <= m.lostTo {
			if len(out) == 0 {
				return nil, fmt.Errorf("read: %w", lostRange{m.lostFrom, m.lostTo})
			}
			break
		}
		if size += len(e.Payload) + 200; size > maxBytes && len(out) > 0 {
			break
		}
		out = append(out, e)
	}
	return out, nil
}

func (m *memory) Wait(ctx context.Context, after event.Seq) error {
	for {
		m.mu.Lock()
		stored, grown := event.Seq(len(m.events)), m.grown
		m.mu.Unlock()
		if stored > after {
			return nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (m *memory) Append(_ context.Context, e *event.Event) (event.Receipt, error) {
	if m.refuse != nil {
		if err := m.refuse(e); err != nil {
			return event.Receipt{}, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.DedupKey != "" {
		for i := range m.events {
			if old := &m.events[i]; old.DedupKey == e.DedupKey {
				return event.Receipt{ID: old.ID, Epoch: old.Epoch, Seq: old.Seq, Time: old.Time, Duplicate: true}, nil
			}
		}
	}
	e.Epoch, e.Seq = m.epoch, event.Seq(len(m.events)+1)
	m.events = append(m.events, *e)
	close(m.grown)
	m.grown = make(chan struct{})
	if m.appended != nil {
		m.appended(e)
	}
	return event.Receipt{ID: e.ID, Epoch: e.Epoch, Seq: e.Seq, Time: e.Time}, nil
}

func (m *memory) Cursor(name string) event.Seq {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cursors[name]
}

func (m *memory) MoveCursor(name string, to event.Seq) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if to > event.Seq(len(m.events)) {
		return errors.New("beyond the last event")
	}
	m.cursors[name] = max(to, m.cursors[name])
	m.moves++
	return nil
}

func (m *memory) Stored() event.Seq {
	m.mu.Lock()
	defer m.mu.Unlock()
	return event.Seq(len(m.events))
}

func (m *memory) Epoch() event.Epoch {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.epoch
}

func (m *memory) Put(space string, entries map[string][]byte) error {
	if m.put != nil {
		after, before := m.put(space)
		if before != nil {
			return before
		}
		defer after()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.spaces[space] == nil {
		m.spaces[space] = map[string][]byte{}
	}
	for key, value := range entries {
		if value == nil {
			delete(m.spaces[space], key)
			continue
		}
		m.spaces[space][key] = slices.Clone(value)
	}
	return nil
}

func (m *memory) All(space string) (map[string][]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.spaces[space]), nil
}

func (m *memory) Damaged(string) []string { return nil }

// appender is what tests need of a journal to put events into it.
type appender interface {
	Append(ctx context.Context, e *event.Event) (event.Receipt, error)
}

// payment returns an event as a terminal sends it.
func payment(n int) *event.Event {
	return &event.Event{
		ID: event.NewID(), Kind: event.PaymentCompleted, Origin: event.Terminal, Class: event.Money,
		Time: now(), Subject: fmt.Sprintf("pay_%d", n), Actor: "staff_1", Role: event.Cashier,
		Terminal: "2841548417", CorrelationID: event.NewCorrelationID(),
		Payload: fmt.Appendf(nil, `{"paymentId":"pay_%d", "amount":120.50,"n":9007199254740993,"tip":1e3}`, n),
	}
}

func appendPayments(t *testing.T, j appender, n int) {
	t.Helper()
	for i := range n {
		if _, err := j.Append(t.Context(), payment(i)); err != nil {
			t.Fatal(err)
		}
	}
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	testpart.Until(t, what, ok)
}

func running(t *testing.T, name string, run func(ctx context.Context) error) (stop func()) {
	t.Helper()
	return testpart.Run(t, name, run)
}

// testLog fails the test on an error: the uplink has no errors that a test may
// cause, only links that are lost.
func testLog(t *testing.T) *slog.Logger { return testpart.Log(t) }

func quietLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

func startBroker(t *testing.T, addr string) *cloud.Broker {
	t.Helper()
	b, err := cloud.ListenBroker(addr, quietLog())
	if err != nil {
		t.Fatal(err)
	}
	running(t, "broker", b.Run)
	return b
}

const testPrefix = "avoqado/v1/venues/v1"

func startBackend(t *testing.T, broker string, acceptHoles bool) *cloud.Backend {
	t.Helper()
	return startBackendOf(t, cloud.BackendConfig{Access: cloud.Access{Broker: broker}, Prefix: testPrefix, AcceptHoles: acceptHoles, IgnoreLive: true})
}

func startBackendAt(t *testing.T, broker, prefix string) *cloud.Backend {
	t.Helper()
	return startBackendOf(t, cloud.BackendConfig{Access: cloud.Access{Broker: broker}, Prefix: prefix, IgnoreLive: true})
}

func startBackendOf(t *testing.T, cfg cloud.BackendConfig) *cloud.Backend {
	t.Helper()
	cfg.Path = filepath.Join(t.TempDir(), "backend.db")
	b, err := cloud.OpenBackend(cfg, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	running(t, "back-end", func(ctx context.Context) error { return b.Run(ctx, nil) })
	// What is published before it listens is lost, and in Broker mode for good.
	until(t, "back-end listens", b.Online)
	return b
}

type everything interface {
	Journal
	Marks
	Notes
}

// till is a box that remembers what it was told.
type till struct {
	mu      sync.Mutex
	level   slog.Level
	inForce Settings
	reports int
	report  any
	refuse  error
	clock   func() time.Time

	diagnose func(ctx context.Context, payloads bool, most int) (any, error)
}

func (b *till) Report() any {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reports++
	if b.report != nil {
		return b.report
	}
	return map[string]int{"report": b.reports}
}

func (b *till) Diagnose(ctx context.Context, payloads bool, most int) (any, error) {
	if b.diagnose != nil {
		return b.diagnose(ctx, payloads, most)
	}
	return map[string]string{"diagnosis": "well"}, nil
}

func (b *till) SetLogLevel(l slog.Level) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.level = l
}

func (b *till) Configure(s *Settings, before json.RawMessage) (func(), error) {
	if b.refuse != nil {
		s.JWKS = before
	}
	in := *s
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.inForce = in
	}, b.refuse
}

func (b *till) Now() time.Time {
	if b.clock != nil {
		return b.clock()
	}
	return time.Now()
}

func (b *till) settings() Settings {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.inForce
}

func newUplink(t *testing.T, j everything, broker string, change func(*Config)) *Uplink {
	t.Helper()
	return newUplinkOf(t, &till{}, j, broker, change)
}

func newUplinkOf(t *testing.T, box Box, j everything, broker string, change func(*Config)) *Uplink {
	t.Helper()
	cfg := Config{
		Brokers: []string{broker}, Venue: "v1", Box: "b1", Version: "test",
		RetryMin: 20 * time.Millisecond, RetryMax: 200 * time.Millisecond, KeepAlive: 2 * time.Second,
		ConfirmWait: 300 * time.Millisecond,
	}
	if change != nil {
		change(&cfg)
	}
	u, err := New(cfg, j, j, j, box, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func count(t *testing.T, b *cloud.Backend) int {
	t.Helper()
	n, err := b.Count()
	if err != nil {
		t.Fatal(err)
	}
	return int(n)
}

// checkEffects checks that the back-end has exactly the journal's events that
// travel, once each, in order, byte for byte.
func checkEffects(t *testing.T, b *cloud.Backend, j Journal) {
	t.Helper()
	var want []event.Event
	for after := event.Seq(0); ; {
		events, err := j.Read(after, 1000, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if len(events) == 0 {
			break
		}
		for i := range events {
			after = events[i].Seq
			if travels(&events[i]) {
				want = append(want, events[i])
			}
		}
	}
	i := 0
	err := b.Each(func(e cloud.Effect) error {
		if i >= len(want) {
			return fmt.Errorf("effect %d: %s is one too many", i, e.ID)
		}
		w := &want[i]
		if e.ID != w.ID || e.Seq != w.Seq || e.Epoch != w.Epoch || string(e.Data) != string(w.Payload) {
			return fmt.Errorf("effect %d is %s seq %d %s, want %s seq %d %s", i, e.ID, e.Seq, e.Data, w.ID, w.Seq, w.Payload)
		}
		i++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if i != len(want) {
		t.Fatalf("back-end has %d effects, want %d", i, len(want))
	}
}
