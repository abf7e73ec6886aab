//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"
)

// network is one way in which a venue can be laid.
type network struct {
	name  string
	build func(*lab) error

	// upset does what happens right before the find number i; the find begins
	// when it returns. Nil: nothing happens.
	upset func(l *lab, i int) error

	// search returns where the terminal is, what it is told, and the venue that
	// it looks for. Nil: at "term", for venue v1.
	search func(l *lab, i int) (node, venue string, args []string)

	noWay bool // the terminal must be told what to do
}

const (
	firstAddress  = "10.91.0.1/24"
	secondAddress = "10.91.0.7/24"
	terminal      = "10.91.0.100/24"
)

// settle waits until the addresses that machines make for themselves are theirs
// (RFC 4862 §5.4): before that there is no way.
func (l *lab) settle() error {
	select {
	case <-l.ctx.Done():
		return l.ctx.Err()
	case <-time.After(3 * time.Second):
		return nil
	}
}

// all runs steps until one fails.
func all(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// simple is a box and a terminal at a switch.
func simple(l *lab) error {
	return all(
		func() error { return l.host("term", terminal) },
		func() error { return l.host("b1", firstAddress) },
		func() error { return l.serve("b1", "b1", "v1", false) },
	)
}

// dropped is simple, at a switch that lets no multicast through.
func dropped(l *lab) error {
	return all(
		func() error { return simple(l) },
		func() error {
			return l.ip("link set p-term-eth0 type bridge_slave mcast_flood off", "link set p-b1-eth0 type bridge_slave mcast_flood off")
		},
	)
}

func told(args ...string) func(*lab, int) (string, string, []string) {
	return func(*lab, int) (string, string, []string) { return "term", "v1", args }
}

func networks() []network {
	return slices.Concat([]network{
		{name: "one switch", build: simple},
		{name: "known address", build: simple, search: told("--address", "10.91.0.1:8080")},
		{name: "stale address", build: simple, search: told("--address", "10.91.0.77:8080")},
		{name: "multicast dropped", build: dropped},
		{name: "same, known address", build: dropped, search: told("--address", "10.91.0.77:8080", "--address", "10.91.0.1:8080")},
		{name: "same, stale address", build: dropped, search: told("--address", "10.91.0.77:8080")},
	}, changing(), crowded(), apart())
}

// changing lists networks in which something just happened.
func changing() []network {
	return []network{
		{name: "address change", build: simple, upset: func(l *lab, i int) error {
			from, to := firstAddress, secondAddress
			if i%2 == 1 {
				from, to = to, from
			}
			return l.on("b1", "addr del "+from+" dev eth0", "addr add "+to+" dev eth0")
		}},
		{name: "link flap", build: simple, upset: func(l *lab, _ int) error {
			for range 3 {
				if err := l.ip("link set p-b1-eth0 down", "link set p-b1-eth0 up"); err != nil {
					return err
				}
			}
			return nil
		}},
		{
			name: "late interface", build: func(l *lab) error {
				return all(func() error { return l.host("term", terminal) }, func() error { return l.node("b1") }, func() error { return l.serve("b1", "b1", "v1", false) })
			},
			upset: func(l *lab, i int) error {
				if i > 0 {
					if err := l.ip("link del p-b1-eth0"); err != nil {
						return err
					}
					if err := l.settle(); err != nil { // the box has noticed
						return err
					}
				}
				return l.plug("b1", "eth0", firstAddress)
			},
		},
		{
			name: "goodbye", build: func(l *lab) error {
				return all(func() error { return simple(l) }, func() error { return l.host("b2", "10.91.0.2/24") }, func() error { return l.serve("b2", "b2", "v1", false) })
			},
			upset: func(l *lab, i int) error {
				if i > 0 {
					if err := l.serve("b2", "b2", "v1", false); err != nil {
						return err
					}
				}
				l.stop("b2", syscall.SIGTERM)
				return nil
			},
			search: told("--box", "b1"),
		},
		{name: "restart", build: simple, upset: func(l *lab, _ int) error {
			l.stop("b1", syscall.SIGTERM)
			return l.launch("b1", "b1", "v1", false)
		}},
	}
}

// crowded lists networks with more than one box, or more than one network.
func crowded() []network {
	return []network{
		{name: "two NICs", build: twoNICs("sw2"), search: nearOrFar},
		{name: "two NICs, one switch", build: twoNICs("sw"), search: nearOrFar},
		{name: "two venues", build: boxes("b1", "b2"), search: alternating(2)},
		{name: "name clash", build: boxes("twin", "twin"), search: alternating(2)},
		{name: "20 boxes", build: boxes(slices.Repeat([]string{""}, 20)...), search: alternating(20)},
		{
			name: "spoofed announcer", build: boxes("b1", "b1"),
			// The second says to be of the venue too: it is the stranger.
			search: func(l *lab, _ int) (string, string, []string) {
				return "term", "v1", []string{"--key", l.status("n0").LAN.Key}
			},
		},
		{name: "IPv6 only", build: func(l *lab) error {
			return all(func() error { return l.host("term", "fd91::100/64") }, func() error { return l.host("b1", "fd91::1/64") }, func() error { return l.serve("b1", "b1", "v1", false) })
		}},
		{name: "IPv6 link-local only", build: func(l *lab) error {
			return all(func() error { return l.host("term") }, func() error { return l.host("b1") }, l.settle, func() error { return l.serve("b1", "b1", "v1", false) })
		}},
		{name: "avahi beside", build: func(l *lab) error {
			return all(func() error { return l.host("term", terminal) }, func() error { return l.host("b1", firstAddress) }, func() error { return l.serve("b1", "b1", "v1", true) })
		}},
	}
}

// twoNICs has a box in two networks, and a terminal in each; the second is at
// the given switch.
func twoNICs(second string) func(*lab) error {
	return func(l *lab) error {
		return all(
			func() error { return l.host("term", terminal) },
			func() error { return l.host("far", "10.92.0.100/24") },
			func() error { return l.host("b1", firstAddress) },
			func() error { return l.plug("b1", "eth1", "10.92.0.1/24") },
			func() error { return l.ip("link set p-far-eth0 master "+second, "link set p-b1-eth1 master "+second) },
			func() error { return l.serve("b1", "b1", "v1", false) },
		)
	}
}

func nearOrFar(_ *lab, i int) (node, venue string, args []string) {
	return []string{"term", "far"}[i%2], "v1", nil
}

// boxes has boxes with these ids at nodes n0, n1 …, each of a venue of its own,
// v1, v2 …; but two that are called b1 are of one venue.
func boxes(ids ...string) func(*lab) error {
	return func(l *lab) error {
		if err := l.host("term", terminal); err != nil {
			return err
		}
		for i, id := range ids {
			node, venue := fmt.Sprint("n", i), fmt.Sprint("v", i+1)
			if id == "b1" {
				venue = "v1"
			}
			if id == "" {
				id = fmt.Sprint("box", i)
			}
			if err := l.host(node, fmt.Sprintf("10.91.0.%d/24", i+1)); err != nil {
				return err
			}
			if err := l.serve(node, id, venue, false); err != nil {
				return err
			}
		}
		return nil
	}
}

func alternating(venues int) func(*lab, int) (string, string, []string) {
	return func(_ *lab, i int) (string, string, []string) { return "term", fmt.Sprint("v", i%venues+1), nil }
}

// apart lists access points that keep their clients apart.
func apart() []network {
	guests := func(l *lab, isolated ...string) error {
		return all(
			func() error { return simple(l) },
			func() error { return l.host("router", "10.91.0.254/24") },
			func() error { return l.host("guest", "10.91.0.50/24") },
			func() error {
				for _, node := range isolated {
					if err := l.ip("link set p-" + node + "-eth0 type bridge_slave isolated on"); err != nil {
						return err
					}
				}
				return nil
			},
		)
	}
	return []network{
		{name: "clients apart, box wired", build: func(l *lab) error { return guests(l, "term", "guest") }},
		{name: "clients apart, box on Wi-Fi", noWay: true, build: func(l *lab) error { return guests(l, "term", "guest", "b1") }},
	}
}

// measure lays the network and looks for the box again and again.
func (n network) measure(ctx context.Context, s settings) (r result, err error) {
	l, err := newLab(ctx, s)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	if err := n.build(l); err != nil {
		return r, err
	}
	r = result{network: n, ways: map[string]int{}}
	for i := range s.finds {
		if err := n.find(l, i, &r); err != nil {
			return r, err
		}
		if s.each && len(r.took) > 0 {
			fmt.Fprintf(os.Stderr, "%s %d: %.3f s, searches %d, %v\n", n.name, i, r.took[len(r.took)-1].Seconds(), r.tries, r.ways)
		}
		if n.noWay && i == 2 {
			break // it takes as long as it may, each time
		}
	}
	slices.Sort(r.took)
	return r, nil
}

func (n network) find(l *lab, i int, r *result) error {
	if n.upset != nil {
		if err := n.upset(l, i); err != nil {
			return err
		}
	}
	node, venue, args := "term", "v1", []string(nil)
	if n.search != nil {
		node, venue, args = n.search(l, i)
	}
	began := time.Now()
	for {
		search := time.Now()
		found, err := l.discover(node, append([]string{"--venue", venue}, args...)...)
		if err != nil {
			return err
		}
		r.tries++
		for _, f := range found.Found {
			if f.Venue != venue {
				r.wrong++
			}
		}
		switch {
		case n.noWay:
			if len(found.Found) > 0 {
				r.wrong++
			}
			if found.Advice != "" {
				r.said++
			}
			return nil
		case len(found.Found) > 0:
			r.took = append(r.took, search.Sub(began)+time.Duration(found.TookMs*float64(time.Millisecond)))
			r.ways[found.Way]++
			return nil
		case time.Since(began) > patience:
			return fmt.Errorf("find %d: nothing within %s: %+v", i, patience, found)
		}
	}
}
