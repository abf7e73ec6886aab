package discovery

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// nic is a network interface with its addresses.
type nic struct {
	net.Interface
	addrs []netip.Addr
	nets  []netip.Prefix // those that the addresses are in
	flaps uint32         // how often its link came or went, as far as the system says
}

// facts are what a system says of its network beside interfaces and addresses.
type facts struct {
	flaps   map[int]uint32 // by index
	unready map[place]bool // addresses that may turn out to be another's (RFC 4862 §5.4), or did
}

type place struct {
	index int
	addr  netip.Addr
}

func (n nic) loopback() bool { return n.Flags&net.FlagLoopback != 0 }

// usable says whether somebody could reach the box through it. A cable that is
// pulled takes FlagRunning away, so that plugging it in announces the box anew.
func (n nic) usable() bool {
	return n.Flags&net.FlagUp != 0 && n.Flags&net.FlagRunning != 0 && len(n.addrs) > 0
}

// on reports whether an address is of a network that the interface is in. Every
// interface is in the link-local ones.
func (n nic) on(a netip.Addr) bool {
	return a.IsLinkLocalUnicast() || slices.ContainsFunc(n.nets, func(p netip.Prefix) bool { return p.Contains(a) })
}

func (n nic) ips() []string {
	ips := make([]string, len(n.addrs))
	for i, a := range n.addrs {
		ips[i] = a.String()
	}
	return ips
}

// choose returns the interfaces to announce on as the network is now.
func choose(wanted []string) ([]nic, error) {
	ifaces, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list network interfaces: %w", err)
	}
	all, known := make([]nic, 0, len(ifaces)), kernel()
	for _, i := range ifaces {
		n := nic{Interface: i, flaps: known.flaps[i.Index]}
		addrs, err := i.Addrs()
		if err != nil {
			continue // it vanished meanwhile
		}
		for _, a := range addrs {
			p, err := netip.ParsePrefix(a.String())
			if err == nil && !known.unready[place{i.Index, p.Addr().WithZone("")}] {
				n.addrs = append(n.addrs, p.Addr().WithZone(""))
				n.nets = append(n.nets, p.Masked())
			}
		}
		all = append(all, n)
	}
	return pick(all, wanted), nil
}

// pick chooses among all interfaces: those wanted, or every one that can
// multicast. A loopback interface is only ever chosen alone: a socket that
// hears both would tell the LAN that the box is at 127.0.0.1.
func pick(all []nic, wanted []string) []nic {
	var lan, loop []nic
	for _, n := range all {
		switch {
		case !n.usable():
		case len(wanted) > 0 && !slices.Contains(wanted, n.Name):
		case n.loopback():
			loop = append(loop, n)
		case n.Flags&net.FlagMulticast != 0:
			lan = append(lan, n)
		}
	}
	if len(lan) > 0 {
		return lan
	}
	return loop[:min(1, len(loop))]
}

// serving leaves of all interfaces the one with an address, and that alone.
func serving(all []nic, address netip.Addr) []nic {
	for _, n := range all {
		if slices.Contains(n.addrs, address) {
			n.addrs = []netip.Addr{address}
			return []nic{n}
		}
	}
	return nil
}

// stayed reports whether no link of two looks at the same interfaces came or
// went between them, be it too quickly to be seen.
func stayed(a, b []nic) bool {
	return slices.EqualFunc(a, b, func(x, y nic) bool { return x.flaps == y.flaps })
}

// fingerprint is equal for two looks at the network between which nothing
// happened that an announcement depends on.
func fingerprint(nics []nic) string {
	var b strings.Builder
	for _, n := range nics {
		addrs := slices.Clone(n.addrs)
		slices.SortFunc(addrs, netip.Addr.Compare)
		fmt.Fprintln(&b, n.Index, n.Name, addrs)
	}
	return b.String()
}

func names(nics []nic) string {
	list := make([]string, len(nics))
	for i, n := range nics {
		list[i] = n.Name
	}
	return strings.Join(list, ", ")
}

// maxLabel is the longest DNS label, in bytes (RFC 1035 §2.3.4).
const maxLabel = 63

// Label returns the DNS label of a box: the host is Label(box).local, and the
// instance has the same name. It is lower case without dots, spaces or
// underscores, which some resolvers, and the library, do not get right, and
// differs from the machine's own host name, which avahi answers for. Where that
// changes the id, a hash keeps two boxes apart.
func Label(box string) string {
	clean := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '-'
	}, box)
	clean = strings.Trim(clean, "-")
	label := "avq-" + clean
	if clean == box && len(label) <= maxLabel {
		return label
	}
	sum := sha256.Sum256([]byte(box))
	hash := "-" + hex.EncodeToString(sum[:3])
	if len(label)+len(hash) > maxLabel {
		label = label[:maxLabel-len(hash)]
	}
	return strings.TrimRight(label, "-") + hash
}
