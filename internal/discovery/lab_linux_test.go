package discovery

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/grandcat/zeroconf"

	"github.com/avoqado/avoqado-edge/internal/needs"
)

// TestInALab runs the tests named TestLab in networks of their own.
func TestInALab(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes two minutes")
	}
	for _, program := range []string{"mount", "dbus-daemon", "avahi-daemon", "avahi-browse"} {
		needs.Program(t, program)
	}
	for _, part := range []string{"[A-M]", "[N-S]", "[T-Z]"} { // they mostly wait
		t.Run(part, func(t *testing.T) {
			t.Parallel()
			needs.Apart(t, "^TestLab"+part)
		})
	}
}

func lab(t *testing.T) {
	t.Helper()
	needs.OnlyApart(t)
}

// run runs a command of the lab, which must succeed.
func run(t *testing.T, command string) {
	t.Helper()
	words := strings.Fields(command)
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
}

// eventually waits for what becomes true within a generous time.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
		<-tick.C
	}
}

// announce runs an announcer until the test ends or stop is called.
func announce(t *testing.T, c Config) (a *Announcer, stop func()) {
	t.Helper()
	a, err := New(c, slog.New(slog.NewTextHandler(testLog{t}, nil)))
	if err != nil {
		t.Fatal(err)
	}
	a.poll, a.settle = 200*time.Millisecond, 100*time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("Run does not end")
		}
	}
	t.Cleanup(stop)
	return a, stop
}

type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Logf("%s", bytes.TrimSpace(p))
	return len(p), nil
}

// peer is another machine on a cable of its own, with avahi on it.
type peer struct {
	pid   int
	iface string
}

// plug connects a new peer to the interface of the given name. The box's end
// gets the address box/24, the peer's the address other/24.
func plug(t *testing.T, name, box, other string) peer {
	t.Helper()
	return plugTo(t, name, box, other)
}

// plugTo is plug; without an address for the box the cable goes to the switch.
func plugTo(t *testing.T, name, box, other string) peer {
	t.Helper()
	// A /run of its own, so that neither D-Bus nor avahi meets the machine's.
	script := `mount -t tmpfs none /run && mkdir -p /run/dbus /run/avahi-daemon && echo namespace && read plugged || exit 1
		dbus-daemon --system --nofork --nopidfile &
		until [ -S /run/dbus/system_bus_socket ]; do sleep 0.1; done
		exec avahi-daemon --no-drop-root --no-chroot --no-rlimits 2>&1`
	cmd := exec.Command("unshare", "--net", "--mount", "sh", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // dbus-daemon is in its group
		_ = cmd.Wait()                                      // it was killed
		// The kernel takes the cable away with the namespace, but not at once.
		eventually(t, name+" is unplugged", func() bool {
			_, err := net.InterfaceByName(name)
			return err != nil
		})
	})
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "namespace" {
		t.Fatalf("the peer does not start: %q", lines.Text())
	}

	far := "far-" + name
	run(t, fmt.Sprintf("ip link add %s type veth peer name %s netns %d", name, far, cmd.Process.Pid))
	inPeer := fmt.Sprintf("nsenter -t %d -n ", cmd.Process.Pid)
	run(t, inPeer+"ip addr add "+other+"/24 dev "+far)
	run(t, inPeer+"ip link set "+far+" up")
	if box == "" {
		run(t, "ip link set "+name+" addrgenmode none master br0 up")
	} else {
		run(t, "ip addr add "+box+"/24 dev "+name)
		run(t, "ip link set "+name+" up")
	}
	if _, err := fmt.Fprintln(in, "plugged"); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
		if strings.Contains(lines.Text(), "Server startup complete") {
			go func() { // keep the pipe empty until the peer dies
				for lines.Scan() {
				}
			}()
			return peer{cmd.Process.Pid, far}
		}
	}
	t.Fatal("avahi does not start")
	return peer{}
}

// browse returns what avahi-browse on the peer finds and resolves over IPv4.
func (p peer) browse(t *testing.T) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "nsenter", "-t", strconv.Itoa(p.pid), "-n", "-m",
		"avahi-browse", "-rpt", Service).Output()
	if err != nil && ctx.Err() == nil {
		t.Fatalf("avahi-browse: %v", err)
	}
	var found []string
	for line := range strings.SplitSeq(string(out), "\n") {
		if strings.HasPrefix(line, "=;"+p.iface+";IPv4;") {
			found = append(found, line)
		}
	}
	return found
}

func TestLabAvahiSeesTheBox(t *testing.T) {
	lab(t)
	p := plug(t, "eth0", "10.91.0.1", "10.91.0.2")
	c := good()
	c.Name = `Café "Doña Ana" \ caja 1`
	a, stop := announce(t, c)

	var found []string
	eventually(t, "avahi finds the box", func() bool { found = p.browse(t); return len(found) > 0 })
	t.Log(found)
	fields := strings.SplitN(found[0], ";", 10)
	if len(found) != 1 || fields[3] != "avq-box1" || fields[4] != Service || fields[6] != "avq-box1.local" ||
		fields[7] != "10.91.0.1" || fields[8] != "8080" {
		t.Errorf("found %q", found)
	}
	for _, txt := range []string{`"v=1.2.3"`, `"venue=venue_1"`, `"box=box1"`, `"path=/socket.io/"`, `"tls=0"`} {
		if !strings.Contains(fields[9], txt) {
			t.Errorf("TXT lacks %s: %s", txt, fields[9])
		}
	}
	if s := a.Status(); !s.Announced || len(s.Interfaces) != 1 || !strings.HasPrefix(s.Interfaces[0], "eth0 10.91.0.1") || s.Error != "" {
		t.Errorf("status is %+v", s)
	}

	// DHCP gives the box another address.
	run(t, "ip addr del 10.91.0.1/24 dev eth0")
	run(t, "ip addr add 10.91.0.7/24 dev eth0")
	eventually(t, "avahi finds the box at its new address", func() bool {
		found = p.browse(t)
		return len(found) == 1 && strings.Contains(found[0], ";10.91.0.7;")
	})

	stop()
	eventually(t, "avahi forgets the box after its goodbye", func() bool { return len(p.browse(t)) == 0 })
	if s := a.Status(); s.Announced || len(s.Interfaces) > 0 {
		t.Errorf("status is %+v", s)
	}
}

// TestLabStateChanges fills the box's disk and empties it again.
func TestLabStateChanges(t *testing.T) {
	lab(t)
	p := plug(t, "eth0", "10.91.0.1", "10.91.0.2")
	var full atomic.Bool
	c := good()
	c.State = func() string {
		if full.Load() {
			return StateFull
		}
		return StateOK
	}
	announce(t, c)
	says := func(state string) func() bool {
		return func() bool {
			found := p.browse(t)
			return len(found) == 1 && strings.Contains(found[0], `"state=`+state+`"`)
		}
	}
	eventually(t, "avahi finds a box with room", says(StateOK))
	full.Store(true)
	eventually(t, "avahi hears that it is full", says(StateFull))
	full.Store(false)
	eventually(t, "avahi hears that it has room again", says(StateOK))
}

func TestLabEachNetworkHearsItsOwnAddress(t *testing.T) {
	lab(t)
	near := plug(t, "eth0", "10.91.0.1", "10.91.0.2")
	far := plug(t, "eth1", "10.92.0.1", "10.92.0.2")
	announce(t, good())
	for p, address := range map[peer]string{near: ";10.91.0.1;", far: ";10.92.0.1;"} {
		var found []string
		eventually(t, "found", func() bool { found = p.browse(t); return len(found) > 0 })
		if len(found) != 1 || !strings.Contains(found[0], address) {
			t.Errorf("%s hears %q, want %s alone", p.iface, found, address)
		}
	}
}

func TestLabOnlyWantedInterfaces(t *testing.T) {
	lab(t)
	near := plug(t, "eth0", "10.91.0.1", "10.91.0.2")
	far := plug(t, "eth1", "10.92.0.1", "10.92.0.2")
	for name, change := range map[string]func(*Config){
		"interface": func(c *Config) { c.Interfaces = []string{"eth1"} },
		"address":   func(c *Config) { c.Address = netip.MustParseAddr("10.92.0.1") },
	} {
		c := good()
		change(&c)
		a, stop := announce(t, c)
		eventually(t, "found on eth1 by "+name, func() bool { return len(far.browse(t)) == 1 })
		if found := near.browse(t); len(found) > 0 {
			t.Errorf("%s: eth0 hears %q", name, found)
		}
		if s := a.Status(); name == "address" && (len(s.Interfaces) != 1 || s.Interfaces[0] != "eth1 10.92.0.1") {
			t.Errorf("status is %+v", s)
		}
		stop()
		eventually(t, "forgotten", func() bool { return len(far.browse(t)) == 0 })
	}
	c := good()
	c.Address = netip.MustParseAddr("127.0.0.1")
	a, _ := announce(t, c)
	eventually(t, "it says why it is not announced", func() bool { return strings.Contains(a.Status().Error, "lan.listen") })
	if found := far.browse(t); len(found) > 0 {
		t.Errorf("eth1 hears %q", found)
	}
}

// resolve browses from the box's own namespace, which works without avahi.
func resolve(t *testing.T, iface string) []*zeroconf.ServiceEntry {
	t.Helper()
	i, err := net.InterfaceByName(iface)
	if err != nil {
		t.Fatal(err)
	}
	resolver, err := zeroconf.NewResolver(zeroconf.SelectIfaces([]net.Interface{*i}), zeroconf.SelectIPTraffic(zeroconf.IPv4))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	entries := make(chan *zeroconf.ServiceEntry, 16)
	if err := resolver.Browse(ctx, Service, "local", entries); err != nil {
		t.Fatal(err)
	}
	var found []*zeroconf.ServiceEntry
	for e := range entries {
		found = append(found, e)
		cancel()
	}
	return found
}

// TestLabNoNetwork is a laptop with the cable out: only the loopback interface
// is there, and then not even that.
func TestLabNoNetwork(t *testing.T) {
	lab(t)
	a, _ := announce(t, good())
	eventually(t, "status says why", func() bool { return strings.Contains(a.Status().Error, "no network interface") })

	run(t, "ip link set lo up")
	defer run(t, "ip link set lo down")
	eventually(t, "announced on lo", func() bool { return a.Status().Announced })
	var found []*zeroconf.ServiceEntry
	eventually(t, "found on lo", func() bool { found = resolve(t, "lo"); return len(found) > 0 })
	e := found[0]
	if e.Instance != "avq-box1" || e.HostName != "avq-box1.local." || e.Port != 8080 || e.TTL != ttl ||
		len(e.AddrIPv4) != 1 || e.AddrIPv4[0].String() != "127.0.0.1" {
		t.Errorf("found %+v", e)
	}

	// The cable is plugged in, and pulled again.
	p := plug(t, "eth0", "10.91.0.1", "10.91.0.2")
	eventually(t, "found on eth0", func() bool { return len(p.browse(t)) == 1 })
	run(t, "ip link set eth0 down")
	eventually(t, "back on lo", func() bool {
		s := a.Status()
		return len(s.Interfaces) == 1 && strings.HasPrefix(s.Interfaces[0], "lo ")
	})
}

// TestLabPortTaken has another program on the mDNS port that does not share it.
func TestLabPortTaken(t *testing.T) {
	lab(t)
	run(t, "ip link set lo up")
	defer run(t, "ip link set lo down")
	var taken []net.PacketConn
	for _, network := range []string{"udp4", "udp6"} {
		conn, err := net.ListenPacket(network, ":5353")
		if err != nil {
			t.Fatal(err)
		}
		taken = append(taken, conn)
	}
	a, _ := announce(t, good())
	eventually(t, "status says why", func() bool { return strings.HasPrefix(a.Status().Error, "announce on lo: ") })
	for _, conn := range taken {
		_ = conn.Close()
	}
	eventually(t, "announced after all", func() bool { return a.Status().Announced && a.Status().Error == "" })
}

// TestLabGarbage throws broken packets at the box, which must go on answering.
func TestLabGarbage(t *testing.T) {
	lab(t)
	p := plug(t, "eth0", "10.91.0.1", "10.91.0.2")
	a, _ := announce(t, good())
	eventually(t, "announced", func() bool { return a.Status().Announced })
	conn, err := net.Dial("udp4", "10.91.0.1:5353")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	query := append([]byte{0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0},
		"\x0d_avoqado-edge\x04_tcp\x05local\x00\x00\x0c\x00\x01\xc0\x0c\x00\x0c\x00\x01\x00\x00\x00\x78\x00\x00"...)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 20_000 {
		packet := bytes.Clone(query)
		for range rng.IntN(6) {
			packet[rng.IntN(len(packet))] = byte(rng.Uint32())
		}
		packet = packet[:len(packet)-rng.IntN(2)*rng.IntN(len(packet))]
		if i%100 == 0 {
			packet = make([]byte, 60_000)
		}
		if _, err := conn.Write(packet); err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatal(err)
		}
	}
	eventually(t, "still answering", func() bool { return len(p.browse(t)) == 1 })
}
