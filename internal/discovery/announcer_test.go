package discovery

import (
	"log/slog"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func good() Config {
	return Config{Mode: ModeBuiltin, Box: "box1", Venue: "venue_1", Name: "Caja", Port: 8080, Version: "1.2.3"}
}

func TestNewRefuses(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no box":       func(c *Config) { c.Box = "" },
		"no venue":     func(c *Config) { c.Venue = "" },
		"no port":      func(c *Config) { c.Port = 0 },
		"port too big": func(c *Config) { c.Port = 65536 },
		"long name":    func(c *Config) { c.Name = strings.Repeat("x", 251) },
	} {
		c := good()
		change(&c)
		if _, err := New(c, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	a, err := New(good(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"v=1.2.3", "venue=venue_1", "box=box1", "name=Caja", "path=/socket.io/", "tls=0", "state=ok"}
	if got := a.services(StateOK, nil); len(got) != 1 || !slices.Equal(got[0].txt, want) {
		t.Errorf("announces %v, want %q", got, want)
	}
	if s := a.Status(); s.Announced || s.Instance != "avq-box1._avoqado-edge._tcp.local." || s.Host != "avq-box1.local." {
		t.Errorf("status is %+v", s)
	}
}

// TestServiceName holds the service type to RFC 6335 §5.1, which some
// resolvers enforce and others do not.
func TestServiceName(t *testing.T) {
	name := strings.TrimSuffix(strings.TrimPrefix(Service, "_"), "._tcp")
	if len(name) > 15 || !regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`).MatchString(name) {
		t.Errorf("%q is no service name", name)
	}
}

func TestLabel(t *testing.T) {
	valid := regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)
	seen := map[string]string{}
	for _, box := range []string{
		"box1", "BOX1", "Box1", "box_1", "box-1", "_", "-", "--", "box-", strings.Repeat("x", 59), strings.Repeat("x", 60),
		strings.Repeat("x", 64), strings.Repeat("x", 63) + "y", strings.Repeat("_", 64), "018f2f6e-7b1c-7000-8000-000000000001",
	} {
		label := Label(box)
		if len(label) > maxLabel || !valid.MatchString(label) || !strings.HasPrefix(label, "avq-") {
			t.Errorf("Label(%q) = %q", box, label)
		}
		if other, ok := seen[label]; ok {
			t.Errorf("%q and %q are both %q", box, other, label)
		}
		seen[label] = box
	}
	if got := Label("box1"); got != "avq-box1" {
		t.Errorf("Label(box1) = %q", got)
	}
}

func TestPick(t *testing.T) {
	const up = net.FlagUp | net.FlagRunning
	address := []netip.Addr{netip.MustParseAddr("192.168.1.10")}
	lo := nic{Interface: net.Interface{Index: 1, Name: "lo", Flags: up | net.FlagLoopback}, addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}
	eth := nic{Interface: net.Interface{Index: 2, Name: "eth0", Flags: up | net.FlagMulticast}, addrs: address}
	wlan := nic{Interface: net.Interface{Index: 3, Name: "wlan0", Flags: up | net.FlagMulticast}, addrs: address}
	unplugged := nic{Interface: net.Interface{Index: 2, Name: "eth0", Flags: net.FlagUp | net.FlagMulticast}, addrs: address}
	down := nic{Interface: net.Interface{Index: 2, Name: "eth0", Flags: net.FlagMulticast}, addrs: address}
	bare := nic{Interface: net.Interface{Index: 2, Name: "eth0", Flags: up | net.FlagMulticast}, addrs: nil}
	tunnel := nic{Interface: net.Interface{Index: 4, Name: "tun0", Flags: up | net.FlagPointToPoint}, addrs: address}

	for name, c := range map[string]struct {
		all    []nic
		wanted []string
		want   string
	}{
		"all that can":            {[]nic{lo, eth, wlan, tunnel}, nil, "eth0, wlan0"},
		"one is wanted":           {[]nic{lo, eth, wlan}, []string{"wlan0"}, "wlan0"},
		"wanted is missing":       {[]nic{lo, eth}, []string{"wlan0"}, ""},
		"no network":              {[]nic{lo}, nil, "lo"},
		"unplugged":               {[]nic{lo, unplugged}, nil, "lo"},
		"down":                    {[]nic{lo, down}, nil, "lo"},
		"no address":              {[]nic{lo, bare}, nil, "lo"},
		"only a tunnel":           {[]nic{tunnel}, nil, ""},
		"loopback is wanted":      {[]nic{lo, eth}, []string{"lo"}, "lo"},
		"loopback never in a mix": {[]nic{lo, eth}, []string{"lo", "eth0"}, "eth0"},
		"nothing":                 {nil, nil, ""},
	} {
		if got := names(pick(c.all, c.wanted)); got != c.want {
			t.Errorf("%s: picked %q, want %q", name, got, c.want)
		}
	}
}

func TestFingerprint(t *testing.T) {
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fe80::1")
	base := []nic{{Interface: net.Interface{Index: 2, Name: "eth0"}, addrs: []netip.Addr{a, b}}}
	if fingerprint(base) != fingerprint([]nic{{Interface: net.Interface{Index: 2, Name: "eth0"}, addrs: []netip.Addr{b, a}}}) {
		t.Error("the order of addresses matters")
	}
	for name, other := range map[string][]nic{
		"address gone":  {{Interface: net.Interface{Index: 2, Name: "eth0"}, addrs: []netip.Addr{a}}},
		"replugged USB": {{Interface: net.Interface{Index: 3, Name: "eth0"}, addrs: []netip.Addr{a, b}}},
		"other name":    {{Interface: net.Interface{Index: 2, Name: "wlan0"}, addrs: []netip.Addr{a, b}}},
		"nothing":       nil,
	} {
		if fingerprint(base) == fingerprint(other) {
			t.Errorf("%s: not noticed", name)
		}
	}
}
