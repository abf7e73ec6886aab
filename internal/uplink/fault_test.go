package uplink

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"

	"github.com/avoqado/avoqado-edge/internal/needs"
)

// A broker that is killed, again and again, with and without its store, takes
// nothing away and adds nothing where the back-end confirms.
func TestBrokerKilledInBackendMode(t *testing.T) {
	for _, keep := range []bool{true, false} {
		t.Run(map[bool]string{true: "store kept", false: "store lost"}[keep], func(t *testing.T) {
			broker := newMosquitto(t)
			j := newMemory()
			backend := startBackend(t, broker.url(), false)
			u := newUplink(t, j, broker.url(), nil)
			running(t, "uplink", u.Run)
			const rounds, each = 3, 4000
			for i := range rounds {
				appendPayments(t, j, each/2)
				until(t, "some arrive", func() bool { return count(t, backend) >= i*each+each/8 })
				broker.kill()
				appendPayments(t, j, each/2)
				broker.restart(keep)
			}
			until(t, "all arrive", func() bool { return count(t, backend) >= rounds*each })
			until(t, "cursor follows", func() bool { return j.Cursor(cursorName) == rounds*each })
			checkEffects(t, backend, j)
			t.Logf("status %+v, back-end %+v", u.Status().Counts, backend.Counts())
		})
	}
}

// In Broker mode a broker that ends in order keeps what it has confirmed.
func TestBrokerRestartedInBrokerMode(t *testing.T) {
	broker := newMosquitto(t)
	j := newMemory()
	backend := startBackend(t, broker.url(), true)
	u := newUplink(t, j, broker.url(), func(c *Config) { c.Confirm = Broker })
	running(t, "uplink", u.Run)
	for i := range 3 {
		appendPayments(t, j, 2000)
		until(t, "some arrive", func() bool { return count(t, backend) >= i*4000+300 })
		broker.stop()
		appendPayments(t, j, 2000)
		broker.restart(true)
	}
	until(t, "all arrive", func() bool { return count(t, backend) >= 12000 })
	until(t, "cursor follows", func() bool { return j.Cursor(cursorName) == 12000 })
	checkEffects(t, backend, j)
}

// The library reports success for publishes that nobody confirmed. The cursor
// must not believe it.
func TestNoSuccessWithoutPuback(t *testing.T) {
	broker := startBroker(t, "127.0.0.1:0")
	w := newWire(t, broker.URL())
	w.swallow.Store(true)
	j := newMemory()
	appendPayments(t, j, 3000)
	u := newUplink(t, j, w.url(), func(c *Config) { c.Confirm = Broker })
	stop := running(t, "uplink", u.Run)
	for i := range uint64(4) {
		until(t, "it sends", func() bool { s := u.Status(); return s.Connects > i && s.InFlight > 0 })
		w.cut()
		until(t, "it notices", func() bool { return u.Status().Connects > i+1 })
	}
	stop()
	if c := j.Cursor(cursorName); c != 0 || u.Status().Synced != 0 || u.Status().Confirmed != 0 {
		t.Fatalf("cursor at %d, status %+v, without one PUBACK", c, u.Status())
	}
	w.swallow.Store(false)
	again := newUplink(t, j, w.url(), func(c *Config) { c.Confirm = Broker })
	running(t, "uplink", again.Run)
	until(t, "cursor moves on PUBACKs", func() bool { return j.Cursor(cursorName) == 3000 })
}

// A link that dies without a word is noticed and replaced.
func TestSilentLinkIsReplaced(t *testing.T) {
	broker := startBroker(t, "127.0.0.1:0")
	w := newWire(t, broker.URL())
	j := newMemory()
	u := newUplink(t, j, w.url(), func(c *Config) { c.Confirm = Broker; c.KeepAlive = time.Second })
	running(t, "uplink", u.Run)
	until(t, "online", func() bool { return u.Status().State == Online })
	w.hold.Store(true)
	appendPayments(t, j, 100)
	until(t, "it notices", func() bool { return u.Status().State != Online })
	w.cut()
	w.hold.Store(false)
	until(t, "all is confirmed", func() bool { return j.Cursor(cursorName) == 100 })
}

// A link that is lost while a publish waits for its turn is given up at once,
// not when the library's own patience ends: forty losses in thirty seconds.
func TestLossUnderLoadIsNoticed(t *testing.T) {
	broker := startBroker(t, "127.0.0.1:0")
	w := newWire(t, broker.URL())
	j := newMemory()
	fillJournal(t, j, 20_000, 1000)
	u := newUplink(t, j, w.url(), func(c *Config) { c.Confirm, c.RetryMax = Broker, 30*time.Millisecond })
	running(t, "uplink", u.Run)
	for i := range uint64(40) {
		until(t, "it sends", func() bool { s := u.Status(); return s.Connects > i && s.State == Online })
		w.cut()
		until(t, "it comes back", func() bool { return u.Status().Connects > i+1 })
	}
	until(t, "all is confirmed", func() bool { return j.Cursor(cursorName) == 20_000 })
}

func TestInterrupt(t *testing.T) {
	broker := startBroker(t, "127.0.0.1:0")
	backend := startBackend(t, broker.URL(), false)
	j := newMemory()
	u := newUplink(t, j, broker.URL(), nil)
	running(t, "uplink", u.Run)
	until(t, "online", func() bool { return u.Status().State == Online })
	u.Interrupt(time.Hour)
	until(t, "offline", func() bool { return u.Status().State == Offline })
	if f := u.Status().Failure; f == nil || f.Name != "interrupted" {
		t.Errorf("failure %+v", f)
	}
	appendPayments(t, j, 50)
	u.Interrupt(0)
	until(t, "backlog drains", func() bool { return count(t, backend) == 50 })
	if n := u.Status().Connects; n != 2 {
		t.Errorf("%d connects, want 2", n)
	}
	u.Interrupt(50 * time.Millisecond)
	until(t, "it comes back by itself", func() bool { return u.Status().Connects == 3 })
}

// Whoever notices first that the link is to end (the wait for the journal does,
// now and then), the failure has the name of what ended it.
func TestInterruptIsNamed(t *testing.T) {
	t.Parallel()
	broker := startBroker(t, "127.0.0.1:0")
	startBackend(t, broker.URL(), false)
	u := newUplink(t, newMemory(), broker.URL(), nil)
	running(t, "uplink", u.Run)
	for range 100 {
		until(t, "online", func() bool { return u.Status().State == Online })
		u.Interrupt(time.Hour)
		until(t, "offline", func() bool { return u.Status().State == Offline })
		if f := u.Status().Failure; f == nil || f.Name != Interrupted {
			t.Fatalf("failure %+v", f)
		}
		u.Interrupt(0)
	}
}

func TestFailuresAreNamed(t *testing.T) {
	broker := startBroker(t, "127.0.0.1:0")
	closed := newWire(t, broker.URL())
	_ = closed.Close()
	missing := t.TempDir() + "/none"
	for name, c := range map[string]struct {
		url    string
		change func(*Config)
	}{
		"broker_down": {closed.url(), nil},
		"dns":         {"tcp://no-such-host.invalid:1883", nil},
		"tls":         {"tls://" + broker.Addr(), nil},
		"credentials": {broker.URL(), func(c *Config) { c.Username, c.PasswordFile = "u", missing }},
	} {
		t.Run(name, func(t *testing.T) {
			u := newUplink(t, newMemory(), c.url, c.change)
			running(t, "uplink", u.Run)
			until(t, "it fails", func() bool { return u.Status().Failure != nil })
			if f := u.Status().Failure; f.Name != name {
				t.Errorf("named %s: %s", f.Name, f.Text)
			}
		})
	}
}

// A broker that refuses a subscription, or sends what would crash the library,
// costs a link and no more.
func TestHostileBroker(t *testing.T) {
	broker := startBroker(t, "127.0.0.1:0")
	for name, alter := range map[string]func([]byte) bool{
		"subscription": func(p []byte) bool {
			if p[0]>>4 == 9 {
				p[len(p)-2] = 0x80
			}
			return true
		},
		"protocol": func(p []byte) bool {
			if p[0]>>4 == 9 { // a packet of 256 MiB
				p[0], p[1], p[2], p[3], p[4] = 0x30, 0xff, 0xff, 0xff, 0x7f
			}
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWire(t, broker.URL())
			w.alter.Store(&alter)
			j := newMemory()
			u := newUplink(t, j, w.url(), func(c *Config) { c.Confirm = Broker })
			running(t, "uplink", u.Run)
			until(t, "it fails", func() bool { return u.Status().Failure != nil })
			if f := u.Status().Failure; f.Name != name {
				t.Errorf("named %s: %s", f.Name, f.Text)
			}
			w.alter.Store(nil)
			appendPayments(t, j, 10)
			until(t, "it recovers", func() bool { return j.Cursor(cursorName) == 10 })
		})
	}
}

// The password file is read anew at each attempt: who puts the right one there
// need not restart the box.
func TestPasswordIsReadAnew(t *testing.T) {
	users, secret := filepath.Join(t.TempDir(), "users"), filepath.Join(t.TempDir(), "password")
	// The broker's own format, of a password nobody else uses.
	if out, err := exec.Command(needs.Program(t, "mosquitto_passwd"), "-b", "-c", users, "box", "right").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.WriteFile(secret, []byte("wrong\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	broker := newMosquittoWith(t, "allow_anonymous false\npassword_file "+users+"\n")
	u := newUplink(t, newMemory(), broker.url(), func(c *Config) { c.Username, c.PasswordFile = "box", secret })
	running(t, "uplink", u.Run)
	until(t, "it is refused", func() bool { f := u.Status().Failure; return f != nil && f.Name == "credentials" })
	if err := os.WriteFile(secret, []byte("right\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	online(t, u)
}

// A message that makes our own code panic costs neither process nor link.
func TestPanicIsContained(t *testing.T) {
	broker := startBroker(t, "127.0.0.1:0")
	j := newMemory()
	j.refuse = func(e *event.Event) error {
		if e.ID == "p-1" {
			panic("on purpose")
		}
		return nil
	}
	u, err := New(Config{Brokers: []string{broker.URL()}, Venue: "v1", Box: "b1"}, j, j, j, &till{}, quietLog())
	if err != nil {
		t.Fatal(err)
	}
	running(t, "uplink", u.Run)
	online(t, u)
	for _, id := range []string{"p-1", "p-2"} {
		say(t, broker.URL(), "/broadcasts", false, `{"id":"`+id+`","event":"menu_updated","payload":{}}`)
	}
	// In any order: they are said by two clients.
	until(t, "one is rejected, the other stored", func() bool { s := u.Status(); return s.Broadcasts == 1 && s.Rejected == 1 })
	if s := u.Status(); s.Connects != 1 {
		t.Errorf("status %+v", s)
	}
}

func TestNextBrokerIsTried(t *testing.T) {
	broker := startBroker(t, "127.0.0.1:0")
	closed := newWire(t, broker.URL())
	_ = closed.Close()
	u := newUplink(t, newMemory(), closed.url(), func(c *Config) { c.Brokers = append(c.Brokers, broker.URL()) })
	running(t, "uplink", u.Run)
	until(t, "online", func() bool { return u.Status().State == Online })
	if got := u.Status().Broker; got != broker.Addr() {
		t.Errorf("broker %s", got)
	}
}

// Run returns promptly whatever the link does, and leaves nothing behind.
func TestShutdownLeavesNothing(t *testing.T) {
	broker := startBroker(t, "127.0.0.1:0")
	startBackend(t, broker.URL(), false)
	mine := func() (n int) {
		buf := make([]byte, 1<<20)
		stacks := string(buf[:runtime.Stack(buf, true)])
		for s := range strings.SplitSeq(stacks, "\n\n") {
			if strings.Contains(s, "internal/uplink.(*") && !strings.Contains(s, "TestShutdown") && !strings.Contains(s, "wire") {
				n++
			}
		}
		return n
	}
	total := runtime.NumGoroutine()
	for name, prepare := range map[string]func(*wire){
		"online": func(*wire) {},
		"silent": func(w *wire) { w.hold.Store(true) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWire(t, broker.URL())
			j := newMemory()
			appendPayments(t, j, 2000)
			u := newUplink(t, j, w.url(), nil)
			ctx, cancel := context.WithCancel(t.Context())
			var ended atomic.Bool
			go func() {
				if err := u.Run(ctx); err != nil {
					t.Error(err)
				}
				ended.Store(true)
			}()
			until(t, "events flow", func() bool { return u.Status().Confirmed > 0 })
			prepare(w)
			cancel()
			until(t, "Run returns", ended.Load)
			until(t, "no goroutine of ours is left", func() bool { return mine() == 0 })
			if s := u.Status(); s.State != Offline || j.Cursor(cursorName) != s.Synced {
				t.Errorf("cursor %d, status %+v", j.Cursor(cursorName), s)
			}
		})
	}
	until(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= total+2 })
}

func TestConfigIsChecked(t *testing.T) {
	j := newMemory()
	_, err := New(Config{
		Brokers: []string{"http://x", "tcp://user:secret@host"}, Venue: "a/b", Box: "#", Prefix: "a.b/+",
		Confirm: "maybe", KeepAlive: time.Millisecond, CertFile: "x", RetryMin: 2 * time.Second, RetryMax: time.Second,
	}, j, j, j, &till{}, quietLog())
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"http://x", "user name and password", `"a/b"`, `"#"`, `"a.b/+"`, "maybe", "keep-alive", "client certificate", "retry pause"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("nothing about %s in: %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "secret") {
		t.Error("the error tells the password")
	}
	if j.moves != 0 || j.Stored() != event.Seq(0) {
		t.Error("a refused config touched the journal")
	}
}
