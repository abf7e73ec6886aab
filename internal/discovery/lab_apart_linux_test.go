package discovery

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// apart lays an access point that keeps the terminal and the named boxes apart
// from each other, as guest networks do: what is on cables reaches everybody.
func apart(t *testing.T, isolated ...string) {
	t.Helper()
	venue(t)
	run(t, "ip link set br0 down addrgenmode none")
	run(t, "ip link set br0 up")
	run(t, "ip link add term type veth peer name p-term")
	t.Cleanup(func() { run(t, "ip link del term") })
	run(t, "ip link set p-term addrgenmode none master br0 up")
	run(t, "ip addr add 10.91.0.100/24 dev term")
	run(t, "ip link set term up")
	router := box("router", "none", "10.91.0.254/24")
	router.Silent, router.Relay = true, "10.91.0.253:1" // it shows no card
	start(t, router)
	start(t, box("b1", "v1", "10.91.0.1/24"))
	for _, port := range append(isolated, "p-term") {
		run(t, "ip link set "+port+" type bridge_slave isolated on")
	}
}

// TestLabClientsApart: the box is on a cable, so isolation is in nobody's way.
func TestLabClientsApart(t *testing.T) {
	apart(t)
	find(t, Search{Venue: "v1", Scan: true}, "the wired box is found", func(r Report) bool { return len(r.Found) == 1 && r.Way == WayMDNS })
}

// TestLabNoWay: the box is a client of the same access point. There is no way,
// and whoever looks is told why and what to do.
func TestLabNoWay(t *testing.T) {
	apart(t, "p-b1")
	began := time.Now()
	r := Find(t.Context(), Search{Venue: "v1", Known: []string{"10.91.0.1:8080"}, Scan: true})
	t.Logf("given up after %s: %+v", time.Since(began), r)
	if len(r.Found) > 0 || r.Way != "" || !strings.Contains(r.Advice, "client isolation") || !strings.Contains(r.Advice, "cable") {
		t.Errorf("found %+v, told %q", r.Found, r.Advice)
	}
}

// TestLabStaleAddress: the box has another address than the terminal remembers,
// and no multicast passes. All ways together still take less than three seconds
// on a machine that has nothing else to do.
func TestLabStaleAddress(t *testing.T) {
	apart(t)
	for _, port := range []string{"p-term", "p-b1"} {
		run(t, "ip link set "+port+" type bridge_slave mcast_flood off")
	}
	s := Search{Venue: "v1", Known: []string{"10.91.0.77:8080"}, Scan: true}
	r := find(t, s, "found by a scan", func(r Report) bool { return len(r.Found) == 1 && r.Way == WayScan })
	if len(r.Attempts) != 3 || r.Advice != "" {
		t.Errorf("%+v", r)
	}
}

// TestLabTwoNetworksOnOneSwitch: each terminal is told the address that it can
// reach, although both cables of the box hear it.
func TestLabTwoNetworksOnOneSwitch(t *testing.T) {
	venue(t, "10.91.0.100/24")
	b := start(t, box("b1", "v1", "10.91.0.1/24"))
	addCable(t, b, "p-b1-2", "10.92.0.1/24")
	for range 5 {
		r := find(t, Search{Venue: "v1"}, "found", func(r Report) bool { return len(r.Found) == 1 })
		if r.Found[0].Address != "10.91.0.1:8080" || r.Way != WayMDNS {
			t.Errorf("found %+v", r)
		}
	}
}

// TestLabOthersAnswer: there are devices and no box, or one of another venue.
func TestLabOthersAnswer(t *testing.T) {
	venue(t, "10.91.0.100/24")
	for _, name := range []string{"tv", "phone"} {
		other := box(name, "none", map[string]string{"tv": "10.91.0.8/24", "phone": "10.91.0.9/24"}[name])
		other.Silent, other.Relay = true, "10.91.0.253:1"
		start(t, other)
	}
	r := Find(t.Context(), Search{Venue: "v1", Scan: true, Port: 9}) // where nobody serves
	if len(r.Found) > 0 || !strings.Contains(r.Advice, "no box does") {
		t.Errorf("told %q", r.Advice)
	}
	silent := box("b1", "v2", "10.91.0.1/24")
	silent.Silent = true
	start(t, silent)
	r = Find(t.Context(), Search{Venue: "v1", Scan: true})
	if len(r.Found) > 0 || r.Advice != adviceStrange || len(r.Refused) == 0 || !strings.Contains(r.Refused[0].Refused, "venue v2") {
		t.Errorf("found %+v, told %q", r, r.Advice)
	}
}

// addCable connects a box that runs to the switch once more.
func addCable(t *testing.T, b *child, cable, address string) {
	t.Helper()
	run(t, fmt.Sprintf("ip link add %s type veth peer name eth1 netns %d", cable, b.Process.Pid))
	run(t, "ip link set "+cable+" addrgenmode none master br0 up")
	inBox := fmt.Sprintf("nsenter -t %d -n ", b.Process.Pid)
	run(t, inBox+"ip addr add "+address+" dev eth1 nodad")
	run(t, inBox+"ip link set eth1 up")
}
