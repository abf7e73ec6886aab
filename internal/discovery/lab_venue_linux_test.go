package discovery

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/avoqado/avoqado-edge/internal/identity"
)

// In these labs the test itself is the terminal: it stands at a switch, br0, to
// which boxes are plugged, each a process in a network namespace of its own.

const boxConfig = "AVOQADO_EDGE_TEST_BOX"

// labBox is a box in a process of its own.
type labBox struct {
	Config
	KeyDir string // of its key
	Relay  string // show the card of the box at this address instead of an own
	Silent bool   // it is not announced

	Addr  string // with prefix length; empty: link-local IPv6 alone
	Cable string // name of the switch's end
	Place int    // pid to share the namespaces of, avahi included; 0: own
}

// TestLabChild is the process of a labBox.
func TestLabChild(t *testing.T) {
	raw := os.Getenv(boxConfig)
	if raw == "" {
		t.Skip("runs as a box of another test")
	}
	var b labBox
	if err := json.Unmarshal([]byte(raw), &b); err != nil {
		t.Fatal(err)
	}
	key, err := identity.Open(b.KeyDir)
	if err != nil {
		t.Fatal(err)
	}
	b.Key = key.Fingerprint()
	l, err := net.Listen("tcp", ":8080")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+identity.Path, func(w http.ResponseWriter, r *http.Request) {
		if b.Relay != "" {
			resp, err := http.Get("http://" + b.Relay + r.URL.String())
			if err != nil {
				w.WriteHeader(http.StatusBadGateway)
				return
			}
			defer func() { _ = resp.Body.Close() }()
			_, _ = bufio.NewReader(resp.Body).WriteTo(w)
			return
		}
		c := identity.Card{Box: b.Box, Venue: b.Venue, State: StateOK, Nonce: r.URL.Query().Get("nonce")}
		addrs, _ := net.InterfaceAddrs()
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				c.Addresses = append(c.Addresses, netip.AddrPortFrom(p.Addr().WithZone(""), 8080).String())
			}
		}
		card, _ := key.Seal(c)
		_, _ = w.Write(card)
	})
	go func() { _ = http.Serve(l, mux) }() //nolint:gosec // dies with the process
	full, leave := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(full, syscall.SIGUSR1)
	signal.Notify(leave, syscall.SIGTERM)
	if b.Silent {
		_, _ = fmt.Fprintln(os.Stdout, "serving")
		select {} // until it is killed
	}
	var state atomic.Value
	state.Store(StateOK)
	b.State = func() string { return state.Load().(string) }
	announcer, err := New(b.Config, slog.New(slog.NewTextHandler(os.Stdout, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { _ = announcer.Run(ctx) })
	_, _ = fmt.Fprintln(os.Stdout, "serving")
	for {
		select {
		case <-full:
			state.Store(StateFull)
		case <-leave:
			cancel()
			return
		}
	}
}

// venue lays the switch, with the terminal at it.
func venue(t *testing.T, addresses ...string) {
	t.Helper()
	lab(t)
	// One for all tests: Go remembers the index of a zone by its name.
	if _, err := net.InterfaceByName("br0"); err != nil {
		run(t, "ip link add br0 type bridge")
	}
	t.Cleanup(func() {
		run(t, "ip addr flush dev br0")
		run(t, "ip link set br0 down addrgenmode eui64")
	})
	for _, a := range addresses {
		run(t, "ip addr add "+a+" dev br0 nodad")
	}
	run(t, "ip link set br0 up")
}

// start plugs a box to the switch. It dies with the test.
func start(t *testing.T, b labBox) *child {
	t.Helper()
	if b.KeyDir == "" {
		b.KeyDir = t.TempDir()
	}
	if b.Mode == "" {
		b.Mode = ModeBuiltin
	}
	b.Port = 8080
	raw, err := json.Marshal(struct {
		labBox
		State, Fingerprint *int `json:",omitempty"` // functions
	}{labBox: b})
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"unshare", "--net", "sh", "-c", `echo namespace; read plugged; exec "$0" -test.run=^TestLabChild$ -test.timeout=0`, os.Args[0]}
	if b.Place != 0 {
		args = []string{"nsenter", "-t", fmt.Sprint(b.Place), "-n", "-m", os.Args[0], "-test.run=^TestLabChild$", "-test.timeout=0"}
	}
	cmd := exec.Command(args[0], args[1:]...) //nolint:gosec // this program
	cmd.Env = append(os.Environ(), boxConfig+"="+string(raw))
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
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait() // it was killed
		if b.Cable != "" {
			// With its namespace, which the kernel takes down when it likes.
			_ = exec.Command("ip", "link", "del", b.Cable).Run() //nolint:gosec // ours; it may have gone
			eventually(t, b.Cable+" is unplugged", func() bool { _, err := net.InterfaceByName(b.Cable); return err != nil })
		}
	})
	lines := bufio.NewScanner(out)
	if b.Place == 0 {
		if !lines.Scan() || lines.Text() != "namespace" {
			t.Fatalf("box %s does not start: %q", b.Box, lines.Text())
		}
		inBox := fmt.Sprintf("nsenter -t %d -n ", cmd.Process.Pid)
		run(t, fmt.Sprintf("ip link add %s type veth peer name eth0 netns %d", b.Cable, cmd.Process.Pid))
		run(t, "ip link set "+b.Cable+" addrgenmode none master br0 up")
		if b.Addr != "" {
			run(t, inBox+"ip addr add "+b.Addr+" dev eth0 nodad")
		}
		run(t, inBox+"ip link set lo up")
		run(t, inBox+"ip link set eth0 up")
		if _, err := fmt.Fprintln(in, "plugged"); err != nil {
			t.Fatal(err)
		}
	}
	for lines.Scan() {
		if lines.Text() == "serving" {
			c := &child{Cmd: cmd}
			go func() {
				for lines.Scan() {
					c.mu.Lock()
					c.log = append(c.log, lines.Text())
					c.mu.Unlock()
				}
			}()
			return c
		}
	}
	t.Fatalf("box %s does not serve", b.Box)
	return nil
}

// child is a box that runs.
type child struct {
	*exec.Cmd

	mu  sync.Mutex // guards below
	log []string
}

func (c *child) said(words string) func() bool {
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return slices.ContainsFunc(c.log, func(line string) bool { return strings.Contains(line, words) })
	}
}

func box(id, venue, addr string) labBox {
	return labBox{Config: Config{Box: id, Venue: venue, Version: "1"}, Addr: addr, Cable: "p-" + id}
}

// find searches until pred holds, and returns the report for which it does.
func find(t *testing.T, s Search, what string, pred func(Report) bool) Report {
	t.Helper()
	var r Report
	eventually(t, what, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
		defer cancel()
		r = Find(ctx, s)
		if !pred(r) {
			t.Logf("%s: not yet: %+v", what, r)
			return false
		}
		return true
	})
	t.Logf("%s: by %s after %.0f ms", what, r.Way, r.TookMs)
	return r
}

func boxes(list []Found) string {
	ids := make([]string, len(list))
	for i, f := range list {
		ids[i] = f.Box + "/" + f.Venue
	}
	slices.Sort(ids)
	return strings.Join(ids, " ")
}

func TestLabTwoVenuesOnOneSwitch(t *testing.T) {
	venue(t, "10.91.0.100/24")
	start(t, box("b1", "v1", "10.91.0.1/24"))
	start(t, box("b2", "v2", "10.91.0.2/24"))
	find(t, Search{}, "both are found", func(r Report) bool { return boxes(r.Found) == "b1/v1 b2/v2" })
	for range 5 {
		r := find(t, Search{Venue: "v1"}, "the venue's own box is found", func(r Report) bool { return len(r.Found) > 0 })
		if boxes(r.Found) != "b1/v1" || r.Found[0].Address != "10.91.0.1:8080" || r.Way != WayMDNS {
			t.Errorf("found %+v", r)
		}
	}
}

// TestLabNameClash has two boxes with one id, as after a card was copied: both
// are found, by two names.
func TestLabNameClash(t *testing.T) {
	venue(t, "10.91.0.100/24")
	first, second := box("twin", "v1", "10.91.0.1/24"), box("twin", "v1", "10.91.0.2/24")
	second.Cable = "p-second"
	start(t, first)
	find(t, Search{}, "the first is found", func(r Report) bool { return len(r.Found) == 1 && r.Found[0].Instance == "avq-twin" })
	start(t, second)
	// If a probe or its answer is lost, both have the name for a moment, until one
	// hears the other announce it (RFC 6762 §9).
	find(t, Search{}, "both are found by two names", func(r Report) bool {
		names := []string{}
		for _, f := range r.Found {
			names = append(names, f.Instance)
		}
		slices.Sort(names)
		return slices.Equal(names, []string{"avq-twin", "avq-twin-2"})
	})
}

// TestLabTwinsAtOnce has them start at the same moment, after a power cut.
func TestLabTwinsAtOnce(t *testing.T) {
	venue(t, "10.91.0.100/24")
	first, second := box("twin", "v1", "10.91.0.1/24"), box("twin", "v1", "10.91.0.2/24")
	second.Cable = "p-second"
	start(t, first)
	start(t, second)
	find(t, Search{}, "both are found by two names", func(r Report) bool {
		return len(r.Found) == 2 && r.Found[0].Instance != r.Found[1].Instance
	})
}

// TestLabMulticastDropped has a switch that lets no mDNS through.
func TestLabMulticastDropped(t *testing.T) {
	venue(t)
	run(t, "ip link set br0 down addrgenmode none")
	run(t, "ip link set br0 up")
	run(t, "ip link add term type veth peer name p-term")
	t.Cleanup(func() { run(t, "ip link del term") })
	run(t, "ip link set p-term addrgenmode none master br0 up")
	run(t, "ip addr add 10.91.0.100/24 dev term")
	run(t, "ip link set term up")
	start(t, box("b1", "v1", "10.91.0.1/24"))
	for _, port := range []string{"p-term", "p-b1"} {
		run(t, "ip link set "+port+" type bridge_slave mcast_flood off")
	}
	s := Search{Venue: "v1", Browse: time.Second, Known: []string{"10.91.0.7:8080", "10.91.0.1:8080"}}
	r := find(t, s, "found at a known address", func(r Report) bool { return len(r.Found) == 1 })
	if r.Way != WayKnown || len(r.Attempts) != 1 || r.Attempts[0].Asked != 2 {
		t.Errorf("found %+v", r)
	}
	s.Known, s.Scan = nil, true
	r = find(t, s, "found by a scan", func(r Report) bool { return len(r.Found) == 1 })
	if r.Way != WayScan || r.Found[0].Address != "10.91.0.1:8080" || r.Attempts[1].Asked != 253 {
		t.Errorf("found %+v", r)
	}
}

func TestLabIPv6Only(t *testing.T) {
	venue(t, "fd91::100/64")
	start(t, box("b1", "v1", "fd91::1/64"))
	b := box("b2", "v1", "")
	start(t, b)
	r := find(t, Search{Venue: "v1"}, "both are found", func(r Report) bool { return len(r.Found) == 2 })
	for _, f := range r.Found {
		if f.Box == "b1" && f.Address != "[fd91::1]:8080" || f.Box == "b2" && !strings.HasPrefix(f.Address, "[fe80::") {
			t.Errorf("found %+v", f)
		}
	}
}

func TestLabNoIPv6(t *testing.T) {
	venue(t, "10.91.0.100/24")
	for _, is := range []string{"1", "0"} {
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte(is), 0o600); err != nil {
			t.Skipf("SKIPPED: IPv6 cannot be switched off here: %v", err)
		}
		if is == "0" {
			return
		}
		start(t, box("b1", "v1", "10.91.0.1/24"))
		find(t, Search{Venue: "v1"}, "found", func(r Report) bool { return len(r.Found) == 1 && r.Way == WayMDNS })
	}
}

// TestLabSpoofed has a stranger announce itself as the box: with a card of its
// own making, and with the box's own card, relayed.
func TestLabSpoofed(t *testing.T) {
	venue(t, "10.91.0.100/24")
	genuine := box("b1", "v1", "10.91.0.1/24")
	genuine.KeyDir = t.TempDir()
	start(t, genuine)
	key, err := identity.Open(genuine.KeyDir)
	if err != nil {
		t.Fatal(err)
	}
	liar := box("b1", "v1", "10.91.0.2/24")
	liar.Cable = "p-liar"
	start(t, liar)
	relay := box("b1", "v1", "10.91.0.3/24")
	relay.Cable, relay.Relay = "p-relay", "10.91.0.1:8080"
	start(t, relay)

	r := find(t, Search{Venue: "v1", Key: key.Fingerprint()}, "the box is found, the others are seen", func(r Report) bool {
		return len(r.Found) > 0 && len(r.Refused) == 2
	})
	if len(r.Found) != 1 || r.Found[0].Address != "10.91.0.1:8080" || !r.Found[0].Pinned {
		t.Errorf("found %+v", r.Found)
	}
	for _, why := range []string{"its key is not", "at another address"} {
		if !slices.ContainsFunc(r.Refused, func(f Found) bool { return strings.Contains(f.Refused, why) }) {
			t.Errorf("nobody is refused since %s: %+v", why, r.Refused)
		}
	}
}

// TestLabTwentyBoxes is a mall on one switch. Each terminal finds its own.
func TestLabTwentyBoxes(t *testing.T) {
	const n = 20
	venue(t, "10.91.0.100/24")
	for i := range n {
		start(t, box(fmt.Sprint("b", i), fmt.Sprint("v", i), fmt.Sprintf("10.91.0.%d/24", i+1)))
	}
	find(t, Search{}, "all are found", func(r Report) bool { return len(r.Found) == n })
	var took []float64
	wrong := 0
	for i := range n {
		v := fmt.Sprint("v", i)
		r := find(t, Search{Venue: v}, "found", func(r Report) bool { return len(r.Found) > 0 })
		took = append(took, r.TookMs)
		if boxes(r.Found) != fmt.Sprintf("b%d/v%d", i, i) {
			wrong++
		}
	}
	slices.Sort(took)
	t.Logf("time to find among %d boxes, %d searches: median %.0f ms, p99 %.0f ms, most %.0f ms; wrong venue: %d",
		n, len(took), took[len(took)/2], took[len(took)*99/100], took[len(took)-1], wrong)
	if wrong > 0 {
		t.Errorf("%d searches led to another venue", wrong)
	}
}

// TestLabFlap pulls the cable and plugs it in again, and gives IPv6 later.
func TestLabFlap(t *testing.T) {
	venue(t, "10.91.0.100/24", "fd91::100/64")
	cmd := start(t, box("b1", "v1", "10.91.0.1/24"))
	find(t, Search{Venue: "v1"}, "found", func(r Report) bool { return len(r.Found) == 1 })
	for range 3 {
		run(t, "ip link set p-b1 down")
		run(t, "ip link set p-b1 up")
	}
	find(t, Search{Venue: "v1"}, "found after the cable was out", func(r Report) bool { return len(r.Found) == 1 && r.Way == WayMDNS })

	run(t, fmt.Sprintf("nsenter -t %d -n ip addr add fd91::1/64 dev eth0 nodad", cmd.Process.Pid))
	began := time.Now()
	eventually(t, "its new address is said", func() bool {
		return slices.ContainsFunc(query(t, "10.91.0.1", "AVQ-B1.local.", dns.TypeAAAA), func(rr dns.RR) bool {
			return strings.HasSuffix(rr.String(), "fd91::1")
		})
	})
	t.Logf("a new address was said after %.0f ms", float64(time.Since(began).Milliseconds()))
}

// query asks a host as simple resolvers do (RFC 6762 §6.7).
func query(t *testing.T, host, name string, kind uint16) []dns.RR {
	t.Helper()
	m := new(dns.Msg).SetQuestion(name, kind)
	c := dns.Client{Timeout: 2 * time.Second}
	answer, _, err := c.Exchange(m, net.JoinHostPort(host, "5353"))
	if err != nil {
		t.Logf("ask for %s: %v", name, err)
		return nil
	}
	return answer.Answer
}

// TestLabQueries asks what dns-sd and simple resolvers ask, in any case.
func TestLabQueries(t *testing.T) {
	venue(t, "10.91.0.100/24")
	b := box("b1", "v1", "10.91.0.1/24")
	b.POSHub = true
	start(t, b)
	find(t, Search{Venue: "v1"}, "found", func(r Report) bool { return len(r.Found) == 1 })
	for name, c := range map[string]struct {
		kind uint16
		want string
	}{
		"avq-b1.local.":                    {dns.TypeA, "10.91.0.1"},
		"AVQ-b1.LOCAL.":                    {dns.TypeANY, "10.91.0.1"},
		"avq-B1._avoqado-edge._tcp.local.": {dns.TypeSRV, "8080 avq-b1.local."},
		"avq-b1._avoqado-edge._tcp.local.": {dns.TypeTXT, `"venue=v1"`},
		"_avoqado-EDGE._tcp.local.":        {dns.TypePTR, "avq-b1._avoqado-edge._tcp.local."},
		"_services._dns-sd._udp.local.":    {dns.TypePTR, "_avoqado-edge._tcp.local."},
		"_avoqado-pos._tcp.local.":         {dns.TypePTR, "Avoqado-POS-"},
		"avq-b1._avoqado-edge._TCP.local.": {dns.TypeA, "NSEC"},
	} {
		answers := query(t, "10.91.0.1", name, c.kind)
		if !slices.ContainsFunc(answers, func(rr dns.RR) bool { return strings.Contains(rr.String(), c.want) }) {
			t.Errorf("%s: %v, want %s", name, answers, c.want)
		}
	}
	for _, name := range []string{"avq-b2.local.", "local.", "_http._tcp.local."} {
		m := new(dns.Msg).SetQuestion(name, dns.TypeANY)
		client := dns.Client{Timeout: 200 * time.Millisecond}
		if answer, _, err := client.Exchange(m, "10.91.0.1:5353"); err == nil {
			t.Errorf("%s: answered %v", name, answer)
		}
	}
}

// TestLabBesideAvahi has a box on a machine with avahi-daemon: through it, and
// beside it. Another machine's avahi sees it either way.
func TestLabBesideAvahi(t *testing.T) {
	for _, c := range []struct {
		mode Mode
		by   string
	}{{ModeAuto, "avahi"}, {ModeAvahi, "avahi"}, {ModeBuiltin, "builtin"}} {
		t.Run(string(c.mode), func(t *testing.T) {
			venue(t, "10.91.0.100/24")
			host := plugSwitched(t, "host", "10.91.0.1")
			other := plugSwitched(t, "other", "10.91.0.2")
			b := labBox{Config: Config{Box: "b1", Venue: "v1", Version: "1", Mode: c.mode, POSHub: true}, Place: host.pid}
			started := start(t, b)
			eventually(t, "announced by "+c.by, started.said("by="+c.by+" "))
			eventually(t, "the other machine's avahi finds the box", func() bool {
				found := other.browse(t)
				return len(found) == 1 && strings.Contains(found[0], ";avq-b1;") && strings.Contains(found[0], ";10.91.0.1;8080;") && strings.Contains(found[0], `"venue=v1"`)
			})
			r := find(t, Search{Venue: "v1"}, "the terminal finds it", func(r Report) bool { return len(r.Found) == 1 })
			if r.Found[0].Address != "10.91.0.1:8080" || len(r.Refused) > 0 {
				t.Errorf("found %+v", r)
			}
			if c.mode == ModeAuto {
				defer func() {
					// avahi dies without a goodbye. The box's process keeps the namespaces.
					if err := syscall.Kill(host.pid, syscall.SIGKILL); err != nil {
						t.Fatal(err)
					}
					eventually(t, "the box announces itself", started.said("by=builtin "))
					find(t, Search{Venue: "v1"}, "found without avahi", func(r Report) bool { return len(r.Found) == 1 && r.Way == WayMDNS })
				}()
			}
			inHost := fmt.Sprintf("nsenter -t %d -n ip addr ", host.pid)
			run(t, inHost+"del 10.91.0.1/24 dev far-host")
			run(t, inHost+"add 10.91.0.9/24 dev far-host")
			eventually(t, "its new address is known", func() bool {
				found := other.browse(t)
				return len(found) == 1 && strings.Contains(found[0], ";10.91.0.9;8080;")
			})
		})
	}
}

// plugSwitched is plug with the cable at the switch.
func plugSwitched(t *testing.T, name, address string) peer {
	t.Helper()
	return plugTo(t, name, "", address)
}
