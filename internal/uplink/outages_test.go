package uplink

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/cloud"
	"github.com/avoqado/avoqado-edge/internal/outages"
)

// Outages as they are recorded, held against what was done to the line.

// recording follows an uplink as the daemon has it followed, with less patience.
func recording(t *testing.T, u *Uplink, j outages.Journal, boot string) (r *outages.Recorder, stop func()) {
	t.Helper()
	r, err := outages.New(outages.Config{
		Journal: j, Cursor: cursorName, Boot: boot, Log: quietLog(),
		Look: 10 * time.Millisecond, Steady: time.Nanosecond, Stalled: time.Second, Alive: 50 * time.Millisecond,
		Repeats: func() outages.Repeats { return outages.Repeats{Resent: u.Status().Resent} },
		Link: func() outages.Link {
			st := u.Status()
			l := outages.Link{Up: st.State == Online, Since: st.Since, Broker: st.Broker, Connects: st.Connects, Waits: st.Confirm == Backend}
			if f := st.Failure; f != nil && f.Name != Renewed {
				l.Failure = outages.Stretch{From: f.At, Cause: f.Name, Evidence: f.Text, Remedy: f.Remedy}
			}
			return l
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return r, running(t, "outages", r.Run)
}

// held is what was done, to compare with what was recorded.
type held struct {
	cause       string
	cut, mended time.Time
	events      int
}

// check waits until the cloud has everything, and compares.
func (h held) check(t *testing.T, r *outages.Recorder, number int) {
	t.Helper()
	var o outages.Outage
	patiently(t, fmt.Sprintf("outage %d is over", number), func() bool {
		all := r.Outages()
		if len(all) > 0 {
			o = all[0]
		}
		return len(all) == number && !o.End.IsZero() && !o.Synced.IsZero()
	})
	const unsure = 2 * time.Second // clocks that are cut to milliseconds, and a busy machine
	if o.Cause != h.cause || o.Evidence == "" || o.Remedy == "" || o.Place != outages.PlaceOf(h.cause) {
		t.Errorf("outage %d is called %s (%s), it was %s: %+v", number, o.Cause, o.Evidence, h.cause, o.Causes)
	}
	if o.Start.Before(h.cut.Add(-unsure)) || o.Start.After(h.mended) || o.End.Before(h.mended.Add(-unsure)) {
		t.Errorf("outage %d: %s to %s, it was %s to %s", number, o.Start, o.End, h.cut, h.mended)
	}
	if o.Held.Events != uint64(h.events) || len(o.Terminals) != 1 || o.Terminals[0].Events != uint64(h.events) {
		t.Errorf("outage %d held %+v of %+v, it were %d events", number, o.Held, o.Terminals, h.events)
	} else if m := o.Held.Money; len(m) != 1 || m[0].Amount != fmt.Sprintf("%d.%d0", h.events*1205/10, h.events*1205%10) {
		t.Errorf("outage %d: money %+v of %d events of 120.50", number, m, h.events)
	}
}

// switchboard is where the box dials: it connects to the broker, or does what
// else a fault does, and drops all that are connected when it is switched.
type switchboard struct {
	mu     sync.Mutex
	l      net.Listener
	handle func(net.Conn)
	open   map[net.Conn]bool
	all    sync.WaitGroup
}

func newSwitchboard(t *testing.T, handle func(net.Conn)) *switchboard {
	t.Helper()
	s := &switchboard{handle: handle, open: map[net.Conn]bool{}}
	s.listen(t, "127.0.0.1:0")
	t.Cleanup(func() {
		s.turn(nil)
		_ = s.l.Close()
		s.all.Wait()
	})
	return s
}

func (s *switchboard) listen(t *testing.T, at string) {
	t.Helper()
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	s.l = l
	s.all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.open[c] = true
			handle := s.handle
			s.mu.Unlock()
			s.all.Go(func() {
				defer c.Close()
				if handle != nil {
					handle(c)
				}
			})
		}
	})
}

func (s *switchboard) turn(handle func(net.Conn)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handle = handle
	for c := range s.open {
		_ = c.Close()
	}
	clear(s.open)
}

// Twelve things that go wrong between a box and its back-end, five times each:
// the outage that is recorded has the cause, the times and the events. What a
// cable and a router do stands in TestRealCable.
func TestOutagesAgainstTheTruth(t *testing.T) {
	t.Parallel()
	runs := 5
	if testing.Short() {
		runs = 1
	}
	broker := startBroker(t, "127.0.0.1:0")
	ca := newAuthority(t)
	from, to := soon()
	good := ca.server("broker.test", from, to)
	expired := ca.server("broker.test", time.Now().AddDate(-1, 0, 0), time.Now().AddDate(0, 0, -1))
	future := ca.server("broker.test", time.Now().AddDate(50, 0, 0), time.Now().AddDate(51, 0, 0))
	stranger := newAuthority(t).server("other.test", from, to)
	secure := func(with *tls.Config, then func(net.Conn)) func(net.Conn) {
		return func(c net.Conn) { then(tls.Server(c, with)) }
	}
	mute := func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }
	says := func(answer string) func(net.Conn) {
		return func(c net.Conn) {
			_, _ = c.Read(make([]byte, 1500))
			_, _ = io.WriteString(c, answer)
			mute(c)
		}
	}
	pass := func(c net.Conn) {
		if b, err := net.Dial("tcp", strings.TrimPrefix(broker.URL(), "tcp://")); err == nil {
			bridge(c, b)
		}
	}
	plain := map[string]bool{DNS: true, CaptivePortal: true, BrokerDown: true, Interrupted: true}
	for cause, fault := range map[string]func(net.Conn){
		CaptivePortal: says("HTTP/1.1 302 Found\r\nLocation: http://login.hotel.example/\r\nContent-Length: 0\r\n\r\n"),
		Credentials:   secure(good, says("\x20\x02\x00\x05")),
		Protocol:      secure(good, says("\x20\x02\x00\x01")),
		NoAnswer:      secure(good, mute),
		DNSLie:        secure(stranger, mute),
		Clock:         secure(future, mute),
		TLS:           secure(expired, mute),
		DNS:           nil,
		BrokerDown:    nil,
		Interrupted:   pass,
	} {
		t.Run(cause, func(t *testing.T) {
			t.Parallel()
			dns, well, scheme := newNames(t), secure(good, pass), "tls"
			if plain[cause] {
				well, scheme = pass, "tcp"
			}
			dns.set("broker.test", "127.0.0.1")
			s, j := newSwitchboard(t, well), newMemory()
			at := s.l.Addr().String()
			u := newUplink(t, j, scheme+"://broker.test:"+port(s.l), func(c *Config) {
				c.Box, c.Confirm, c.CAFile, c.Resolver = strings.ReplaceAll(cause, "_", "-"), Broker, ca.file, dns.resolver()
			})
			running(t, "uplink", u.Run)
			r, _ := recording(t, u, j, "boot")
			for run := range runs {
				online(t, u)
				patiently(t, "all is in the cloud", func() bool { return u.Status().Synced == j.Stored() })
				h := held{cause: cause, cut: time.Now(), events: 3 + run}
				switch cause {
				case Interrupted:
					u.Interrupt(time.Hour)
				case DNS:
					dns.set("broker.test")
					s.turn(nil)
				case BrokerDown:
					_ = s.l.Close()
					s.turn(nil)
				default:
					s.turn(fault)
				}
				patiently(t, cause, func() bool { f := u.Status().Failure; return f != nil && f.Name == cause && f.At.After(h.cut) })
				appendPayments(t, j, h.events)
				patiently(t, "it is in the outage", func() bool {
					all := r.Outages()
					return len(all) == run+1 && all[0].Cause == cause && all[0].Held.Events == uint64(h.events)
				})
				h.mended = time.Now()
				dns.set("broker.test", "127.0.0.1")
				if cause == BrokerDown {
					s.listen(t, at)
				}
				s.turn(well)
				u.Interrupt(0)
				h.check(t, r, run+1)
			}
		})
	}
	t.Run(outages.Backend, func(t *testing.T) { backendAway(t, broker, runs) })
	t.Run(outages.Power, func(t *testing.T) { powerCuts(t, broker, runs) })
}

// backendAway stops the back-end, and starts one with the same ledger.
func backendAway(t *testing.T, broker *cloud.Broker, runs int) {
	t.Parallel()
	path := t.TempDir() + "/backend.db"
	start := func() (stop func()) {
		b, err := cloud.OpenBackend(cloud.BackendConfig{Access: cloud.Access{Broker: broker.URL()}, Prefix: "avoqado/v1/venues/v9", Path: path, IgnoreLive: true}, quietLog())
		if err != nil {
			t.Fatal(err)
		}
		end := running(t, "back-end", func(ctx context.Context) error { return errors.Join(b.Run(ctx, nil), b.Close()) })
		until(t, "back-end listens", b.Online)
		return end
	}
	j := newMemory()
	u := newUplink(t, j, broker.URL(), func(c *Config) { c.Box, c.Venue, c.Confirm = "b9", "v9", Backend })
	running(t, "uplink", u.Run)
	r, _ := recording(t, u, j, "boot")
	stop := start()
	for run := range runs {
		patiently(t, "all is in the cloud", func() bool { return u.Status().State == Online && u.Status().Synced == j.Stored() })
		stop()
		h := held{cause: outages.Backend, cut: time.Now(), events: 3 + run}
		appendPayments(t, j, h.events)
		patiently(t, "it is an outage", func() bool { return len(r.Outages()) == run+1 })
		h.mended = time.Now()
		stop = start()
		h.check(t, r, run+1)
	}
}

// unplugged is a journal whose machine may have no power.
type unplugged struct {
	*memory
	off atomic.Bool
}

func (j *unplugged) Put(space string, entries map[string][]byte) error {
	if j.off.Load() {
		return errors.New("no power")
	}
	return j.memory.Put(space, entries)
}

// powerCuts ends a box without an orderly stop, and starts the next one.
func powerCuts(t *testing.T, broker *cloud.Broker, runs int) {
	t.Parallel()
	j, cut := newMemory(), time.Time{}
	for run := range runs + 1 {
		born := time.Now()
		u := newUplink(t, j, broker.URL(), func(c *Config) { c.Box, c.Venue, c.Confirm = "b8", "v8", Broker })
		stopUplink := running(t, "uplink", u.Run)
		wired := &unplugged{memory: j}
		r, stop := recording(t, u, wired, fmt.Sprint("boot", run))
		if run > 0 {
			held{cause: outages.Power, cut: cut, mended: born, events: 2 + run}.check(t, r, run)
			if all := r.Outages(); !slices.IsSortedFunc(all, func(a, b outages.Outage) int { return cmp.Compare(b.ID, a.ID) }) {
				t.Errorf("%+v", all)
			}
		}
		patiently(t, "all is in the cloud", func() bool { return u.Status().State == Online && u.Status().Synced == j.Stored() })
		stopUplink()
		appendPayments(t, j, 3+run)
		cut = time.Now()
		wired.off.Store(true)
		stop()
	}
}
