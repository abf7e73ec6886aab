package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/clock"
	"github.com/avoqado/avoqado-edge/internal/config"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/logbook"
)

const (
	patience   = 60 * time.Second // for what should take no time, on a busy machine
	testSecret = "a-secret-for-tests-only-0123456789"
	year       = 365 * 24 * time.Hour
)

// wrong is a system clock that is off by something and may not know. The truth
// is this machine's.
type wrong struct {
	mu     sync.Mutex // guards below
	by     time.Duration
	synced bool
}

func (w *wrong) set(by time.Duration, synced bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.by, w.synced = by, synced
}

// system returns the clock of one boot.
func (w *wrong) system() func() clock.Reading {
	booted := time.Now()
	return func() clock.Reading {
		w.mu.Lock()
		defer w.mu.Unlock()
		r := clock.Reading{Wall: time.Now().Round(0).Add(w.by), Up: time.Since(booted), Sync: clock.Unsynced}
		if w.synced {
			r.Sync, r.Error = clock.Synced, 20*time.Millisecond
		}
		return r
	}
}

// runBox starts a whole box on a system clock and returns it and its end.
func runBox(t *testing.T, dir, broker string, system func() clock.Reading) (d *Daemon, stop func()) {
	t.Helper()
	file := filepath.Join(dir, "config.yaml")
	text := fmt.Sprintf("box: {id: b1, venue: v1}\nstate_dir: %q\nsocket: %q\nlan: {listen: \"127.0.0.1:0\"}\ndiscovery: {mode: off}\nuplink: {brokers: [%q]}\n",
		filepath.Join(dir, "state"), filepath.Join(dir, "box.sock"), broker)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(file, func(string) (string, bool) { return "", false }, map[string]string{"auth.access_token_secret": testSecret})
	if err != nil {
		t.Fatal(err)
	}
	if d, err = newDaemon(cfg, Host{Log: slog.New(slog.DiscardHandler), Level: new(slog.LevelVar), Book: logbook.New()}, system); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the box ended with %v", err)
		}
	})
	t.Cleanup(stop)
	return d, stop
}

// publish takes events in and notes in their payloads when that truly was.
func publish(t *testing.T, d *Daemon, n int) {
	t.Helper()
	manager := auth.Grant{Subject: "staff_1", Venue: "v1", Role: event.Manager}
	for range n {
		ack, status := door{d.lan}.Publish(t.Context(), manager, "menu_updated", fmt.Appendf(nil, `{"truth":%q}`, time.Now().UTC().Format(time.RFC3339Nano)), nil)
		if status != http.StatusOK {
			t.Fatalf("%d %s", status, ack)
		}
	}
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline, tick := time.After(patience), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("timed out: %s", what)
		case <-tick.C:
		}
	}
}

// TestTimeComesLate has a box wake in 1970 without a network, its clock jump
// about, and a time server step it while the backlog drains: nothing is lost,
// the order is that of seq, and whoever reads an event is told how good its time
// is, and told the truth.
func TestTimeComesLate(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	_ = free.Close()

	dir := t.TempDir()
	var w wrong
	w.set(time.Until(time.Unix(0, 0)), false)
	d, stop := runBox(t, dir, "tcp://"+address, w.system())
	publish(t, d, 200)
	for _, jump := range []time.Duration{10 * year, -10 * year, time.Hour} {
		w.set(jump, false)
		publish(t, d, 50)
	}
	if st := d.Status(); st.Clock.Trusted || st.Clock.Source != "none" {
		t.Errorf("clock is %+v", st.Clock)
	}

	// The back-end is asked before the first batch is confirmed, and nothing is
	// sent behind that before it is: the rest is sent after the step.
	effects, end := drain(t, dir, address, func() { w.set(0, true) })
	defer func() {
		if t.Failed() {
			t.Logf("%d of the events came; uplink %+v", len(effects()), d.Status().Uplink)
		}
		stop() // the broker waits for its clients
		end()
	}()
	seen := func() int { return len(effects()) }
	until(t, "the drain begins", func() bool { return seen() > 0 })
	publish(t, d, 100)
	until(t, "the drain ends", func() bool { return seen() == 450 })
	if st := d.Status(); !st.Clock.Trusted || st.Clock.Source != "ntp" || st.Clock.ErrorMs == 0 {
		t.Errorf("clock is %+v", st.Clock)
	}
	until(t, "the box knows", func() bool { return d.journal.Cursor("uplink") == 450 })
	stop()

	of := map[string]int{}
	for i, e := range effects() {
		if e.Seq != event.Seq(i+1) {
			t.Fatalf("event %d came in place %d", e.Seq, i+1)
		}
		of[e.Quality]++
		var payload struct{ Truth time.Time }
		told, err := time.Parse(time.RFC3339Nano, e.Time)
		if err != nil || json.Unmarshal(e.Data, &payload) != nil {
			t.Fatalf("%+v", e)
		}
		off := told.Sub(payload.Truth)
		// What passed between the two lines that took the time is no error of it.
		if known := e.Quality != "unknown"; known && off.Abs() > time.Duration(e.Error)*time.Millisecond+time.Second || !known && e.Error != 0 {
			t.Errorf("event %d, %s: off by %s, said to be %d ms at most", e.Seq, e.Quality, off, e.Error)
		}
	}
	if of["synced"] != 100 || of["corrected"] == 0 || of["unknown"] == 0 || len(of) != 3 {
		t.Errorf("qualities are %v", of)
	}

	// The power comes back without a network: time goes on behind what was, and
	// a token that ended stays ended.
	w.set(-56*year, false)
	before := time.Now()
	d, stop = runBox(t, dir, "tcp://"+address, w.system())
	if now := d.clock.Now(); now.Before(before.Add(-time.Minute)) {
		t.Errorf("after the power was cut it is %s", now)
	}
	old, err := auth.NewVerifier(auth.Config{Venue: "v1", Secret: []byte(testSecret)}, func() time.Time { return time.Now().Add(-2 * time.Hour) })
	if err != nil {
		t.Fatal(err)
	}
	for lifetime, want := range map[time.Duration]int{time.Hour: http.StatusUnauthorized, 3 * time.Hour: http.StatusOK} {
		token, err := old.Mint(auth.Grant{Subject: "staff_1", Venue: "v1", Org: "o1", Role: event.Manager}, lifetime)
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+d.LANAddr().String()+"/api/v1/status", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("a token of %s, two hours later: %s", lifetime, resp.Status)
		}
	}
}
