package discovery

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
)

// deaf returns a responder with two interfaces and no socket, and what it says.
func deaf(t *testing.T) (*responder, records) {
	t.Helper()
	a, err := New(good(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	card := func(index int, prefix string) nic {
		p := netip.MustParsePrefix(prefix)
		return nic{Interface: net.Interface{Index: index}, addrs: []netip.Addr{p.Addr()}, nets: []netip.Prefix{p.Masked()}}
	}
	nics := []nic{card(2, "192.168.1.10/24"), card(3, "192.168.2.10/24")}
	rec := records{label: a.label(), services: a.services(StateOK, nics), nics: nics}
	r := &responder{log: a.log, own: map[netip.Addr]bool{}, joined: map[string]bool{}, rec: rec}
	for _, n := range nics {
		r.own[n.addrs[0]] = true
	}
	return r, rec
}

func from(ip string) *net.UDPAddr { return &net.UDPAddr{IP: net.ParseIP(ip), Port: mdnsPort} }

// TestReflector: a router that repeats in one network what it hears in another
// gives the box its own probes and announcements back, from an address of the
// router's. The box neither yields to itself nor takes another name.
func TestReflector(t *testing.T) {
	r, rec := deaf(t)
	for i, n := range rec.nics {
		other := rec.nics[1-i]
		router := from(netip.MustParseAddr([]string{"192.168.2.1", "192.168.1.1"}[i]).String())
		r.handle(r.probe(rec, n), other.Index, router)
		r.handle(response(rec.all(n), nil), other.Index, router)
	}
	if r.outrun || r.taken {
		t.Errorf("outrun %t, taken %t", r.outrun, r.taken)
	}

	// A twin, which has another address, is none of that.
	twin := rec
	twin.nics = []nic{rec.nics[0]}
	twin.nics[0].addrs = []netip.Addr{netip.MustParseAddr("192.168.1.99")}
	r.handle(r.probe(twin, twin.nics[0]), rec.nics[0].Index, from("192.168.1.99"))
	if !r.outrun { // .99 sorts behind .10
		t.Error("both go first")
	}
	r.handle(response(twin.all(twin.nics[0]), nil), rec.nics[0].Index, from("192.168.1.99"))
	if !r.taken {
		t.Error("both have the name")
	}
}

// TestYieldsNotForEver: who probes all the time and never comes to use the name
// costs the box that name, not its announcement.
func TestYieldsNotForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, rec := deaf(t)
		rival := rec
		rival.nics = slices.Clone(rec.nics[:1])
		rival.nics[0].addrs = []netip.Addr{netip.MustParseAddr("192.168.1.99")}
		go func() {
			for sleep(t.Context(), probeEvery/2) == nil {
				r.handle(r.probe(rival, rival.nics[0]), 2, from("192.168.1.99"))
			}
		}()
		if err := r.claim(t.Context()); !errors.Is(err, errTaken) {
			t.Errorf("claimed with %v", err)
		}
	})
}

// TestNear: whoever is in a network of the interface is answered, be the network
// a public one and large, and nobody else.
func TestNear(t *testing.T) {
	n := nic{}
	for _, p := range []string{"200.1.4.10/16", "2001:db8::10/128"} {
		prefix := netip.MustParsePrefix(p)
		n.addrs, n.nets = append(n.addrs, prefix.Addr()), append(n.nets, prefix.Masked())
	}
	for who, want := range map[string]bool{
		"200.1.4.11": true, "200.1.77.1": true, "200.2.0.1": false, "8.8.8.8": false, "10.1.2.3": true, "169.254.7.7": true,
		"2001:db8::11": true, "2001:db8:1::1": false, "fe80::1": true, "fd00::1": true,
	} {
		if n.near(netip.MustParseAddr(who)) != want {
			t.Errorf("%s: %t", who, !want)
		}
	}
}
