package discovery

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/ipv4"
)

// wire is what a terminal hears by mDNS that says nothing itself: whatever comes
// was said unasked.
type wire struct {
	conn *ipv4.PacketConn

	mu    sync.Mutex // guards below
	heard []heard
}

type heard struct {
	at time.Time
	rr dns.RR
}

func (h heard) gone() bool { return h.rr.Header().Ttl == 0 }

// listen hears what is said at the switch until the test ends.
func listen(t *testing.T) *wire {
	t.Helper()
	c, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp4", group4().String())
	if err != nil {
		t.Fatal(err)
	}
	br0, err := net.InterfaceByName("br0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{conn: ipv4.NewPacketConn(c)}
	if err := w.conn.JoinGroup(br0, group4()); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { _ = c.Close(); wg.Wait() })
	wg.Go(func() {
		buf := make([]byte, maxPacket)
		for {
			n, _, _, err := w.conn.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dns.Msg
			if m.Unpack(buf[:n]) != nil || !m.Response {
				continue
			}
			w.mu.Lock()
			for _, rr := range append(m.Answer, m.Extra...) {
				w.heard = append(w.heard, heard{time.Now(), rr})
			}
			w.mu.Unlock()
		}
	})
	return w
}

// since returns what was heard of the box from a moment on.
func (w *wire) since(at time.Time) (list []heard) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range w.heard {
		if h.at.After(at) && strings.Contains(strings.ToLower(h.rr.String()), "avq-b1") {
			list = append(list, h)
		}
	}
	return list
}

// first returns the first record that contains the words, goodbyes aside.
func first(list []heard, words string) (heard, bool) {
	for _, h := range list {
		if !h.gone() && strings.Contains(h.rr.String(), words) {
			return h, true
		}
	}
	return heard{}, false
}

// voiced is a box and who answers for it.
type voiced struct {
	*child
	inBox string // before a command that is run there
	dev   string // its end of the cable
	cable string // the switch's
}

// responders runs a test with a box that answers itself, and with one that avahi
// answers for.
func responders(t *testing.T, test func(*testing.T, *voiced, *wire)) {
	t.Run("builtin", func(t *testing.T) {
		venue(t, "10.91.0.100/24", "fd91::100/64")
		w := listen(t)
		b := start(t, box("b1", "v1", "10.91.0.1/24"))
		test(t, &voiced{b, fmt.Sprintf("nsenter -t %d -n ", b.Process.Pid), "eth0", "p-b1"}, w)
	})
	t.Run("avahi", func(t *testing.T) {
		venue(t, "10.91.0.100/24", "fd91::100/64")
		w := listen(t)
		host := plugSwitched(t, "host", "10.91.0.1")
		b := start(t, labBox{Config: Config{Box: "b1", Venue: "v1", Version: "1", Mode: ModeAvahi}, Place: host.pid})
		test(t, &voiced{b, fmt.Sprintf("nsenter -t %d -n ", host.pid), "far-host", "host"}, w)
	})
}

// hears waits for a record that is said unasked, and returns it.
func (w *wire) hears(t *testing.T, what string, since time.Time, words string) (found heard) {
	t.Helper()
	eventually(t, what, func() (is bool) { found, is = first(w.since(since), words); return is })
	if !since.IsZero() {
		t.Logf("%s: after %d ms", what, found.at.Sub(since).Milliseconds())
	}
	return found
}

// rests waits until nothing has been said for longer than news are repeated.
func (w *wire) rests(t *testing.T) {
	t.Helper()
	eventually(t, "the box is silent", func() bool { return len(w.since(time.Now().Add(-5*time.Second))) == 0 })
}

// TestLabNews: whatever changes is said at once to those who only listen, and
// what did not change is not taken back for it.
func TestLabNews(t *testing.T) {
	responders(t, func(t *testing.T, b *voiced, w *wire) {
		w.hears(t, "announced", time.Time{}, "10.91.0.1")
		change := func(what, words string, commands ...string) {
			t.Helper()
			began := time.Now()
			for _, c := range commands {
				if c == "" {
					if err := b.Process.Signal(syscall.SIGUSR1); err != nil {
						t.Fatal(err)
					}
					continue
				}
				run(t, c)
			}
			w.hears(t, what, began, words)
			for _, h := range w.since(began) {
				if srv, is := h.rr.(*dns.SRV); is && h.gone() {
					t.Errorf("%s: the box takes itself back: %s", what, srv)
				}
			}
		}
		change("IPv6 added", "fd91::1", b.inBox+"ip addr add fd91::1/64 dev "+b.dev+" nodad")
		change("second address", "10.91.0.8", b.inBox+"ip addr add 10.91.0.8/24 dev "+b.dev)
		change("DHCP renew", "10.91.0.7",
			b.inBox+"ip -4 addr flush dev "+b.dev, b.inBox+"ip addr add 10.91.0.7/24 dev "+b.dev)
		change("second NIC", "10.92.0.1",
			fmt.Sprintf("ip link add second type veth peer name eth1 netns %d", b.Process.Pid), "ip link set second addrgenmode none master br0 up",
			b.inBox+"ip addr add 10.92.0.1/24 dev eth1", b.inBox+"ip link set eth1 up")
		change("state", `"state=full"`, "")
		if b.dev == "eth0" { // avahi does not see it, and cannot be told to say all again
			w.rests(t)
			change("cable out and in too quickly to be seen", "\tSRV\t", "ip link set "+b.cable+" down", "ip link set "+b.cable+" up")
		}
		run(t, "ip link set "+b.cable+" down")
		w.rests(t)
		change("cable plugged in again", "\tSRV\t", "ip link set "+b.cable+" up")
	})
}

// TestLabLeaves: a box that stops says first that it leaves, then goodbye, with
// enough time between that a terminal hears both.
func TestLabLeaves(t *testing.T) {
	responders(t, func(t *testing.T, b *voiced, w *wire) {
		w.hears(t, "announced", time.Time{}, `"state=ok"`)
		eventually(t, "the box knows that it is", b.said("box announced"))
		began := time.Now()
		if err := b.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		leaving := w.hears(t, "leaving", began, `"state=leaving"`)
		var bye heard
		eventually(t, "goodbye", func() bool {
			for _, h := range w.since(began) {
				if _, is := h.rr.(*dns.SRV); is && h.gone() {
					bye = h
					return true
				}
			}
			return false
		})
		// avahi takes its time with the first.
		if between := bye.at.Sub(leaving.at); between < leaveFor/4 {
			t.Errorf("the goodbye comes %s after the leaving", between)
		}
		if _, err := b.Process.Wait(); err != nil {
			t.Error(err)
		}
	})
}

// TestLabRestlessNetwork: an interface that changes all the time, as a container's
// or a bad radio's does, keeps nobody from hearing of the others.
func TestLabRestlessNetwork(t *testing.T) {
	venue(t, "10.91.0.100/24")
	w := listen(t)
	b := start(t, box("b1", "v1", "10.91.0.1/24"))
	w.hears(t, "announced", time.Time{}, "10.91.0.1")
	inBox := fmt.Sprintf("nsenter -t %d -n ", b.Process.Pid)
	run(t, inBox+"ip link add restless type veth peer name other")
	restless := exec.Command("nsenter", "-t", fmt.Sprint(b.Process.Pid), "-n", "ip", "-batch", "-")
	in, err := restless.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := restless.Start(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(func() { stop(); wg.Wait(); _ = restless.Wait() })
	wg.Go(func() {
		defer func() { _ = in.Close() }()
		for i := 0; sleep(ctx, settleFor/5) == nil; i++ {
			_, _ = fmt.Fprintf(in, "addr %s 10.99.0.1/24 dev restless\n", []string{"add", "del"}[i%2])
		}
	})
	eventually(t, "the interface changes", func() bool {
		out, err := exec.Command("nsenter", "-t", fmt.Sprint(b.Process.Pid), "-n", "ip", "addr", "show", "restless").Output()
		return err == nil && strings.Contains(string(out), "10.99.0.1")
	})
	began := time.Now()
	run(t, inBox+"ip addr add 10.91.0.7/24 dev eth0")
	// Were it waited for the network to rest, this would take until it does by chance.
	if took := w.hears(t, "a new address", began, "10.91.0.7").at.Sub(began); took > 10*time.Second {
		t.Errorf("a new address is said after %s", took)
	}
}

// TestLabNameClashAtAvahi: another box has the name already when avahi is asked
// for it.
func TestLabNameClashAtAvahi(t *testing.T) {
	venue(t, "10.91.0.100/24")
	start(t, box("b1", "v1", "10.91.0.1/24"))
	find(t, Search{}, "the first is found", func(r Report) bool { return len(r.Found) == 1 })
	host := plugSwitched(t, "host", "10.91.0.2")
	start(t, labBox{Config: Config{Box: "b1", Venue: "v1", Version: "1", Mode: ModeAvahi}, Place: host.pid})
	find(t, Search{}, "both are found by two names", func(r Report) bool {
		return len(r.Found) == 2 && r.Found[0].Instance != r.Found[1].Instance
	})
}

// TestLabManyAddresses: a box in many networks, as one with containers is, is
// announced in all of them; avahi takes no more than 32 records at once.
func TestLabManyAddresses(t *testing.T) {
	responders(t, func(t *testing.T, b *voiced, w *wire) {
		w.hears(t, "announced", time.Time{}, "10.91.0.1")
		began := time.Now()
		for i := 101; i < 141; i++ {
			run(t, fmt.Sprintf("%sip addr add 10.91.0.%d/24 dev %s", b.inBox, i, b.dev))
		}
		w.hears(t, "the first", began, "10.91.0.101")
		w.hears(t, "the last", began, "10.91.0.140")
		find(t, Search{Venue: "v1"}, "found", func(r Report) bool { return len(r.Found) == 1 && r.Way == WayMDNS })
	})
}
