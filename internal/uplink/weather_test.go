package uplink

import (
	"bufio"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// weather is a line between box and broker with the faults that lines have. It
// is our own: toxiproxy (v2.5.0) knows no MQTT, so it cannot deliver a packet and
// drop the answer to it, and brings a web server, a logger and a metrics library.
type weather struct {
	between

	latency, jitter time.Duration
	rate            int         // bytes per second and direction; 0: as fast as it goes
	slice           int         // longest write; 0: as it comes
	still           atomic.Bool // nothing goes through, and nobody is told
	stuck           atomic.Bool // nothing is even taken from the box

	// drop sees the kind of each packet from the broker. True: the packet is
	// not delivered, and the connection is reset.
	drop func(kind byte) bool

	done chan struct{} // closed at the end of the test
}

func newWeather(t *testing.T, broker string, change func(*weather)) *weather {
	t.Helper()
	w := &weather{done: make(chan struct{})}
	change(w)
	small := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { // a line holds little; a kernel on loopback megabytes
			_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<10)
		})
	}}
	l, err := small.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.serve(t, l, broker, func(box, broker net.Conn) { w.carry(box, broker, nil) }, func(broker, box net.Conn) { w.carry(broker, box, w.drop) })
	t.Cleanup(func() { close(w.done) }) // before the one of serve, which joins
	return w
}

func (w *weather) wait(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-w.done:
		return false
	}
}

type piece struct {
	bytes []byte
	due   time.Time
}

// carry brings what comes from one side to the other, late, slowly, in pieces.
func (w *weather) carry(from, to net.Conn, drop func(byte) bool) {
	defer from.Close()
	defer to.Close()
	room := 256
	if w.rate > 0 {
		room = 2 // a slow line takes no more than it carries
	}
	way := make(chan piece, room)
	var late sync.WaitGroup
	defer late.Wait()
	defer close(way)
	late.Go(func() {
		for p := range way {
			if !w.wait(time.Until(p.due)) || !w.deliver(to, p.bytes) {
				_ = from.Close()
				for range way { // so that the reader can end
				}
				return
			}
		}
	})
	r := bufio.NewReader(from)
	buf := make([]byte, 1<<10)
	last := time.Time{}
	for {
		for w.stuck.Load() {
			if !w.wait(10 * time.Millisecond) {
				return
			}
		}
		var p []byte
		var err error
		if drop != nil {
			p, err = readPacket(r)
		} else {
			var n int
			n, err = from.Read(buf)
			p = append([]byte(nil), buf[:n]...)
		}
		if err != nil {
			return
		}
		if w.still.Load() {
			continue
		}
		if drop != nil && drop(p[0]>>4) {
			for _, c := range []net.Conn{from, to} {
				_ = c.(*net.TCPConn).SetLinger(0)
			}
			return
		}
		due := time.Now().Add(w.latency)
		if w.jitter > 0 {
			due = due.Add(rand.N(w.jitter))
		}
		if due.Before(last) {
			due = last // TCP keeps the order
		}
		last = due
		way <- piece{p, due}
	}
}

func (w *weather) deliver(to io.Writer, p []byte) bool {
	for len(p) > 0 {
		n := len(p)
		if w.slice > 0 {
			n = min(n, 1+rand.N(w.slice))
		}
		if w.rate > 0 {
			n = min(n, 256)
			if !w.wait(time.Duration(n) * time.Second / time.Duration(w.rate)) {
				return false
			}
		}
		if _, err := to.Write(p[:n]); err != nil {
			return false
		}
		p = p[n:]
	}
	return true
}

// first drops the first n answers of a kind.
func first(kind byte, n int64) func(*weather) {
	var seen atomic.Int64
	return func(w *weather) {
		w.drop = func(k byte) bool { return k == kind && seen.Add(1) <= n }
	}
}

// In every weather each event reaches the back-end once, in order, out of a
// real journal; and the status says what was wrong.
func TestEveryWeather(t *testing.T) {
	t.Parallel()
	const connack, publish, puback, suback = 2, 3, 4, 9
	broker := startBroker(t, "127.0.0.1:0")
	for name, c := range map[string]struct {
		set    func(*weather)
		storm  func(*weather) // while events flow
		events int            // default 1500
		change func(*Config)  // default: the tests' own
		failed []string       // one of them was the last failure; none: none was
	}{
		"latency":      {set: func(w *weather) { w.latency = 150 * time.Millisecond }},
		"jitter":       {set: func(w *weather) { w.latency, w.jitter = 20*time.Millisecond, 200*time.Millisecond }},
		"slices":       {set: func(w *weather) { w.slice = 7 }, events: 400},
		"20 kbit/s":    {set: func(w *weather) { w.rate = 2500 }, events: 100, change: func(c *Config) { c.KeepAlive = 30 * time.Second }},
		"reset":        {storm: (*weather).reset, failed: []string{Lost}},
		"half-open":    {storm: func(w *weather) { w.still.Store(true) }, failed: []string{Timeout}},
		"stuck":        {storm: func(w *weather) { w.stuck.Store(true) }, failed: []string{Timeout}},
		"no CONNACK":   {set: first(connack, 2), failed: []string{Lost}},
		"no SUBACK":    {set: first(suback, 2), failed: []string{Lost}},
		"no PUBACK":    {set: first(puback, 2), failed: []string{Lost}},
		"no 5 PUBACKs": {set: first(puback, 5), failed: []string{Takeover, Lost}},
		"no acks":      {set: first(publish, 2), failed: []string{Lost}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if testing.Short() && name == "20 kbit/s" {
				t.Skip("takes half a minute")
			}
			if c.set == nil {
				c.set = func(*weather) {}
			}
			if c.events == 0 {
				c.events = 1500
			}
			w := newWeather(t, broker.URL(), c.set)
			j := openJournal(t)
			prefix := "avoqado/v1/venues/" + strings.Map(func(r rune) rune {
				if r == ' ' || r == '/' {
					return '-'
				}
				return r
			}, name)
			backend := startBackendAt(t, broker.URL(), prefix)
			fillJournal(t, j, c.events/2, 100)
			u := newUplink(t, j, w.url(), func(cfg *Config) {
				cfg.Prefix, cfg.Box = prefix, strings.ReplaceAll(prefix[strings.LastIndex(prefix, "/")+1:], "/", "-")
				if c.change != nil {
					c.change(cfg)
				}
			})
			running(t, "uplink", u.Run)
			patiently(t, "some arrive", func() bool { return count(t, backend) > 0 })
			if c.storm != nil {
				c.storm(w)
				fillJournal(t, j, c.events/2, 100)
				patiently(t, "it notices", func() bool { return u.Status().Failure != nil })
				w.still.Store(false)
				w.stuck.Store(false)
				w.reset()
			} else {
				fillJournal(t, j, c.events/2, 100)
			}
			all := c.events / 2 * 2
			patiently(t, "all arrive", func() bool { return count(t, backend) >= all })
			patiently(t, "all is synced", func() bool { return u.Status().Synced == event.Seq(all) })
			checkEffects(t, backend, j)
			st := u.Status()
			if len(c.failed) == 0 {
				if st.Failure != nil || st.Connects != 1 {
					t.Errorf("failure %+v, %d links", st.Failure, st.Connects)
				}
				return
			}
			named := false
			for _, f := range c.failed {
				named = named || st.Failures[f] > 0
			}
			if !named {
				t.Errorf("failures %v, last %+v; want %v", st.Failures, st.Failure, c.failed)
			}
			t.Logf("failures %v, links %d, sent again %d", st.Failures, st.Connects, st.Resent)
		})
	}
}

// patiently waits as long as a line of 20 kbit/s needs.
func patiently(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("not within 3 min: %s", what)
		case <-tick.C:
		}
	}
}

// With the settings a box comes with, a link that died silently is found within
// 30 s, idle or with something to send, and whether or not anybody takes the
// bytes.
func TestHalfOpenIsFoundWithin30s(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes 26 s")
	}
	broker := startBroker(t, "127.0.0.1:0")
	for name, c := range map[string]struct {
		storm func(*weather)
		load  bool
	}{
		"idle":                      {func(w *weather) { w.still.Store(true) }, false},
		"sending":                   {func(w *weather) { w.still.Store(true) }, true},
		"sending, nothing is taken": {func(w *weather) { w.stuck.Store(true) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWeather(t, broker.URL(), func(*weather) {})
			j := newMemory()
			u := newUplink(t, j, w.url(), func(cfg *Config) {
				cfg.KeepAlive, cfg.Confirm, cfg.Box = 30*time.Second, Broker, strings.NewReplacer(" ", "", ",", "").Replace(name)
			})
			running(t, "uplink", u.Run)
			online(t, u)
			c.storm(w)
			began := time.Now()
			if c.load {
				fillJournal(t, j, 2000, 1000)
			}
			patiently(t, "it notices", func() bool { return u.Status().Failure != nil })
			if d := u.Status().Failure.At.Sub(began); d > 30*time.Second {
				t.Errorf("found after %s", d)
			} else {
				t.Logf("found after %s: %s", d.Round(100*time.Millisecond), u.Status().Failure.Text)
			}
			if n := u.Status().Failure.Name; n != Timeout {
				t.Errorf("named %s", n)
			}
		})
	}
}

// The rules of liveness, second by second.
func TestLiveness(t *testing.T) {
	start := time.Unix(1000, 0)
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	type tcp struct{ written, queued int64 }
	for name, c := range map[string]struct {
		heard func(second int) int
		line  func(second int) tcp
		dead  int // second; 0: never
	}{
		"idle and dead":                {func(int) int { return 0 }, func(int) tcp { return tcp{} }, 25},
		"idle and alive":               {func(s int) int { return s / 11 * 11 }, func(int) tcp { return tcp{} }, 0},
		"buffer full, nothing goes":    {func(int) int { return 0 }, func(int) tcp { return tcp{300_000, 200_000} }, 25},
		"slow, and going":              {func(int) int { return 0 }, func(s int) tcp { return tcp{300_000, 200_000 - int64(s)*2500} }, 0},
		"slow, went and stopped":       {func(int) int { return 0 }, func(s int) tcp { return tcp{300_000, 200_000 - int64(min(s, 20))*2500} }, 45},
		"a trickle that a proxy takes": {func(int) int { return 0 }, func(s int) tcp { return tcp{int64(s) * 600, 300} }, 25},
	} {
		v := liveness{keepAlive: 30 * time.Second}
		died := 0
		for s := 1; s <= 60 && died == 0; s++ {
			l := c.line(s)
			if _, dead := v.look(at(s), at(c.heard(s)), l.written, l.queued); dead {
				died = s
			}
		}
		if died != c.dead {
			t.Errorf("%s: dead at second %d, want %d", name, died, c.dead)
		}
	}
}

// A silence is as long as it is, wherever the system's clock is set meanwhile.
func TestSilenceIsNotByTheWallClock(t *testing.T) {
	near, far := net.Pipe()
	defer func() { _ = far.Close() }()
	p := newPipe(near)
	go func() { _, _ = far.Write([]byte{1}) }()
	if _, err := p.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if at := p.lastHeard(); !strings.Contains(at.String(), " m=") || at.Before(p.opened) || at.After(time.Now()) {
		t.Errorf("heard at %s", at)
	}
}
