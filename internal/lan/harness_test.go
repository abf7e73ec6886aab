package lan_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/api"
	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/lan"
)

const (
	venue    = "venue_1"
	secret   = "a-secret-of-thirty-two-characters"
	patience = 45 * time.Second // nothing takes that long; a test that waits so long has failed

	// transportEnv says on which transport all tests run; fast if not set.
	transportEnv = "AVOQADO_LAN_TRANSPORT"

	// tlsEnv, if set, has the clients of most tests come over TLS.
	tlsEnv = "AVOQADO_LAN_TLS"
)

// memory is a journal without a disk, with knobs.
type memory struct {
	mu      sync.Mutex // guards below
	changed *sync.Cond
	events  []event.Event
	keys    map[string]int
	refuse  error    // answered instead of storing
	panics  bool     // Enqueue panics
	readErr error    // Read fails
	held    []func() // answers kept back while hold is set
	hold    bool
	epoch   event.Epoch
	lost    [2]event.Seq // read past them, as if they were damaged on disk
}

func newMemory() *memory {
	m := &memory{keys: make(map[string]int), epoch: "epoch-1"}
	m.changed = sync.NewCond(&m.mu)
	return m
}

func (m *memory) set(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
	m.changed.Broadcast()
}

func (m *memory) Enqueue(_ context.Context, e *event.Event, done func(event.Receipt, error)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.panics {
		var none *event.Event
		_ = none.Kind
	}
	if m.refuse != nil {
		return m.refuse
	}
	receipt, err := m.store(e)
	answer := func() { done(receipt, err) }
	if m.hold {
		m.held = append(m.held, answer)
		return nil
	}
	go answer() // as the writer does: later, on a goroutine of its own
	return nil
}

func (m *memory) store(e *event.Event) (event.Receipt, error) {
	at, repeated := m.keys[e.DedupKey]
	if e.DedupKey == "" || !repeated {
		stored := *e
		stored.Seq, stored.Epoch = event.Seq(len(m.events)+1), m.epoch
		m.events = append(m.events, stored)
		m.keys[e.DedupKey] = len(m.events) - 1
		m.changed.Broadcast()
		return event.Receipt{ID: e.ID, Epoch: m.epoch, Seq: stored.Seq, Time: e.Time}, nil
	}
	first := m.events[at]
	if first.Digest != e.Digest {
		return event.Receipt{}, event.Refuse(http.StatusConflict, "key_reuse", "idempotencyKey was used for another event")
	}
	return event.Receipt{ID: first.ID, Epoch: first.Epoch, Seq: first.Seq, Time: first.Time, Duplicate: true}, nil
}

// append stores an event that came from the cloud.
func (m *memory) append(e event.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.Origin == 0 {
		e.Origin = event.Cloud
	}
	if e.Time.IsZero() {
		e.Time = time.Now().UTC()
	}
	e.ID = event.NewID()
	_, _ = m.store(&e) // without a key there is nothing to refuse
}

func (m *memory) release() {
	m.mu.Lock()
	held := m.held
	m.held, m.hold = nil, false
	m.mu.Unlock()
	for _, answer := range held {
		answer()
	}
}

func (m *memory) Read(after event.Seq, maxEvents, maxBytes int) ([]event.Event, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.readErr != nil {
		return nil, m.readErr
	}
	if int(after) >= len(m.events) {
		return nil, nil
	}
	rest := m.events[after:]
	rest = rest[:min(len(rest), maxEvents)]
	size := 0
	for i := range rest { // at least one
		if size += len(rest[i].Payload); size > maxBytes {
			rest = rest[:max(i, 1)]
			break
		}
	}
	events := slices.Clone(rest)
	return slices.DeleteFunc(events, func(e event.Event) bool { return e.Seq >= m.lost[0] && e.Seq <= m.lost[1] }), nil
}

func (m *memory) Wait(ctx context.Context, after event.Seq) error {
	stop := context.AfterFunc(ctx, func() { m.set(func() {}) })
	defer stop()
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.events) <= int(after) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		m.changed.Wait()
	}
	return nil
}

func (m *memory) Stored() event.Seq {
	m.mu.Lock()
	defer m.mu.Unlock()
	return event.Seq(len(m.events))
}

func (m *memory) Epoch() event.Epoch { return m.epoch }

// notes is a State without a disk.
type notes struct {
	mu     sync.Mutex // guards below
	spaces map[string]map[string][]byte
	err    error
	hurt   error // with what is sound: the rest is damaged on disk
	puts   map[string]int
}

func (n *notes) Put(space string, entries map[string][]byte) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.err != nil {
		return n.err
	}
	if n.spaces == nil {
		n.spaces, n.puts = make(map[string]map[string][]byte), make(map[string]int)
	}
	n.puts[space]++
	if n.spaces[space] == nil {
		n.spaces[space] = make(map[string][]byte)
	}
	for key, value := range entries {
		if value == nil {
			delete(n.spaces[space], key)
		} else {
			n.spaces[space][key] = value
		}
	}
	return nil
}

func (n *notes) All(space string) (map[string][]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := make(map[string][]byte)
	maps.Copy(out, n.spaces[space])
	return out, errors.Join(n.err, n.hurt)
}

// door is a verifier with a knob.
type door struct {
	*auth.Verifier
	panics atomic.Bool
	fails  atomic.Bool
	grants atomic.Pointer[auth.Grant] // whatever the token; nil: what it says
	lapsed atomic.Bool
	proven atomic.Pointer[string] // a serial
	passed atomic.Pointer[func()] // called once, behind the next token that is good
}

func (d *door) Lapsed(g auth.Grant) bool { return d.lapsed.Load() || d.Verifier.Lapsed(g) }

func (d *door) Proven(serial string) bool {
	known := d.proven.Load()
	return known != nil && *known == serial
}

func (d *door) Verify(token string) (auth.Grant, error) {
	if d.panics.Load() {
		panic("verifier is broken")
	}
	if d.fails.Load() {
		return auth.Grant{}, auth.ErrExpired
	}
	if g := d.grants.Load(); g != nil {
		return *g, nil
	}
	g, err := d.Verifier.Verify(token)
	if f := d.passed.Load(); f != nil && err == nil && d.passed.CompareAndSwap(f, nil) {
		(*f)()
	}
	return g, err
}

// box is a server under test.
type box struct {
	*lan.Server
	t       testing.TB
	journal *memory
	state   *notes
	door    *door
	logs    *logs
	stop    func() // cancels Run and waits; may be called twice
}

// logs keeps what was logged.
type logs struct {
	mu     sync.Mutex // guards below
	text   strings.Builder
	poison string // a message that makes it panic
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.poison != "" && bytes.Contains(b, []byte(`msg="`+l.poison+`"`)) {
		panic("the log is broken")
	}
	return l.text.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func start(t testing.TB, change ...func(*lan.Config)) *box {
	return startWith(t, newMemory(), &notes{}, change...)
}

func startWith(t testing.TB, j *memory, state *notes, change ...func(*lan.Config)) *box {
	t.Helper()
	b := serve(t, j, state, change...)
	b.journal, b.state = j, state
	return b
}

// serve starts a server on any journal.
func serve(t testing.TB, j lan.Journal, state lan.State, change ...func(*lan.Config)) *box {
	t.Helper()
	v, err := auth.NewVerifier(auth.Config{Venue: venue, Secret: []byte(secret)}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	b := &box{t: t, door: &door{Verifier: v}, logs: &logs{}}
	cfg := lan.Config{Listen: "127.0.0.1:0", Venue: venue, Box: "box_1", Version: "test", CORS: []string{"https://pos.example"}}
	cfg.Transport = lan.Transport(os.Getenv(transportEnv))
	cfg.Waits.Ack = time.Minute // nobody is in doubt for being slow
	if os.Getenv(tlsEnv) != "" {
		cfg.TLS = testTLS(t)
	}
	for _, f := range change {
		f(&cfg)
	}
	var routes http.Handler
	extra := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/api/v1/mobile/") {
			routes.ServeHTTP(w, r)
			return
		}
		http.Error(w, "extra "+r.URL.Path, http.StatusTeapot)
	})
	log := slog.New(slog.NewTextHandler(b.logs, nil))
	if b.Server, err = lan.Listen(cfg, b.door, j, state, extra, log); err != nil {
		t.Fatal(err)
	}
	routes = api.New(api.Config{Venue: venue, Auth: b.door, Till: till{b.Server}, Limits: b.Server, Log: log}).LAN()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	b.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("run: %v", err)
			}
		case <-time.After(patience):
			t.Error("run does not end")
		}
	})
	t.Cleanup(b.stop)
	return b
}

// mint makes a token.
func (b *box) mint(g auth.Grant) string {
	b.t.Helper()
	if g.Venue == "" {
		g.Venue = venue
	}
	if g.Org == "" {
		g.Org = "org_1"
	}
	token, err := b.door.Mint(g, time.Hour)
	if err != nil {
		b.t.Fatal(err)
	}
	return token
}

var errBroken = errors.New("disk is broken")

type (
	lanConfig = lan.Config
	grant     = auth.Grant
)
