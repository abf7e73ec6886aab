package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

const (
	mdnsPort = 5353

	// maxPacket is the largest message that is read, in bytes (RFC 6762 §17).
	maxPacket = 9000

	// probes are sent, so far apart, before a name is used (§8.1).
	probes     = 3
	probeEvery = 250 * time.Millisecond

	// yieldFor is how long the loser of two that probe at once waits (§8.2).
	yieldFor = time.Second

	// maxYields is how often it does before it takes another name.
	maxYields = 5
)

// errTaken says that another host has the name.
var errTaken = errors.New("another host has this name")

func group4() *net.UDPAddr { return &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: mdnsPort} }
func group6() *net.UDPAddr { return &net.UDPAddr{IP: net.ParseIP("ff02::fb"), Port: mdnsPort} }

// responder answers for the box itself (RFC 6762), on one socket for each IP
// version, beside other responders of the machine. publish, check and withdraw
// are called by one goroutine.
type responder struct {
	log   *slog.Logger
	v4    *ipv4.PacketConn // nil: the machine has no IPv4
	v6    *ipv6.PacketConn // likewise
	wg    sync.WaitGroup   // readers
	done  chan struct{}    // closed by withdraw
	turns int              // calls of check since the last announcement

	mu     sync.Mutex // guards below
	rec    records
	live   bool                // answers are given
	joined map[string]bool     // interface and IP version
	own    map[netip.Addr]bool // every address the box ever had: who says something from there is itself
	taken  bool                // another host was heard to have a name of rec
	outrun bool                // another host probes for it and goes first
}

// newResponder opens the sockets. One IP version is enough.
func newResponder(log *slog.Logger) (*responder, error) {
	r := &responder{log: log, done: make(chan struct{}), joined: map[string]bool{}, own: map[netip.Addr]bool{}}
	// Listening on a group's address shares the port with other responders, and
	// binds to all addresses.
	var lc net.ListenConfig
	c4, err4 := lc.ListenPacket(context.Background(), "udp4", group4().String())
	if err4 == nil {
		r.v4 = ipv4.NewPacketConn(c4)
		_ = r.v4.SetControlMessage(ipv4.FlagInterface, true) // checked by its absence
		_ = r.v4.SetMulticastTTL(255)                        // §11
		_ = r.v4.SetTTL(255)
		r.wg.Go(func() {
			r.read(func(b []byte) (int, int, net.Addr, error) {
				n, cm, from, err := r.v4.ReadFrom(b)
				if cm == nil {
					return n, 0, from, err
				}
				return n, cm.IfIndex, from, err
			})
		})
	}
	c6, err6 := lc.ListenPacket(context.Background(), "udp6", group6().String())
	if err6 == nil {
		r.v6 = ipv6.NewPacketConn(c6)
		_ = r.v6.SetControlMessage(ipv6.FlagInterface, true)
		_ = r.v6.SetMulticastHopLimit(255)
		_ = r.v6.SetHopLimit(255)
		r.wg.Go(func() {
			r.read(func(b []byte) (int, int, net.Addr, error) {
				n, cm, from, err := r.v6.ReadFrom(b)
				if cm == nil {
					return n, 0, from, err
				}
				return n, cm.IfIndex, from, err
			})
		})
	}
	if err4 != nil && err6 != nil {
		return nil, errors.Join(err4, err6)
	}
	return r, nil
}

func (r *responder) String() string { return "builtin" }

// publish makes rec what is said, or fails with errTaken if a name in it is
// another host's. A name that is in use already is not probed for again: new
// addresses or texts are known at once.
func (r *responder) publish(ctx context.Context, rec records) error {
	r.mu.Lock()
	same := r.live && r.rec.label == rec.label && len(r.rec.services) == len(rec.services)
	r.rec, r.live = rec, same
	for _, n := range rec.nics {
		for _, a := range n.addrs {
			r.own[a] = true
		}
	}
	r.mu.Unlock()
	if err := r.join(rec.nics); err != nil {
		return err
	}
	if !same {
		if err := r.claim(ctx); err != nil {
			return err
		}
	}
	r.announce()
	r.turns = 0
	return nil
}

// join has the sockets hear the interfaces. That needs no route, so it works in
// a venue without a router. An interface that cannot be joined on one IP
// version is used on the other.
func (r *responder) join(nics []nic) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := map[string]bool{}
	var errs []error
	for _, n := range nics {
		for _, family := range []string{"4", "6"} {
			if !n.speaks(family == "4") || (family == "4" && r.v4 == nil) || (family == "6" && r.v6 == nil) {
				continue
			}
			key := fmt.Sprint(n.Index, " ", n.Name, " ", family)
			if !r.joined[key] {
				var err error
				if family == "4" {
					_ = r.v4.LeaveGroup(&n.Interface, group4()) // a cable that was out
					err = r.v4.JoinGroup(&n.Interface, group4())
				} else {
					_ = r.v6.LeaveGroup(&n.Interface, group6())
					err = r.v6.JoinGroup(&n.Interface, group6())
				}
				if err != nil {
					errs = append(errs, fmt.Errorf("hear IPv%s multicast on %s: %w", family, n.Name, err))
					continue
				}
			}
			now[key] = true
		}
	}
	r.joined = now
	if len(now) == 0 {
		return errors.Join(errs...)
	}
	return nil
}

// claim probes for the names (§8.1).
func (r *responder) claim(ctx context.Context) error {
	for range maxYields {
		r.mu.Lock()
		r.taken, r.outrun = false, false
		rec := r.rec
		r.mu.Unlock()
		for range probes {
			for _, n := range rec.nics {
				r.multicast(n, r.probe(rec, n))
			}
			if err := sleep(ctx, probeEvery); err != nil {
				return err
			}
		}
		r.mu.Lock()
		taken, outrun := r.taken, r.outrun
		r.live = !taken && !outrun
		r.mu.Unlock()
		switch {
		case taken:
			return errTaken
		case !outrun:
			return nil
		}
		if err := sleep(ctx, yieldFor); err != nil {
			return err
		}
	}
	return errTaken // who goes first that often never comes to use it
}

func (r *responder) probe(rec records, n nic) *dns.Msg {
	m := &dns.Msg{Ns: rec.claims(n), Compress: true}
	ask := func(name string) {
		m.Question = append(m.Question, dns.Question{Name: name, Qtype: dns.TypeANY, Qclass: dns.ClassINET | flush})
	}
	ask(rec.host())
	for _, s := range rec.services {
		ask(s.instance())
	}
	for _, rr := range m.Ns {
		rr.Header().Class = dns.ClassINET // no cache is to be flushed yet
	}
	return m
}

// check says whether the names are still this box's. It also repeats a fresh
// announcement, since Wi-Fi loses multicast; it is called about every second.
func (r *responder) check() error {
	r.turns++
	if r.turns == 1 || r.turns == 3 {
		r.announce()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.taken {
		r.live, r.taken = false, false // probed for again: who has it by right defends it (§9)
		return errTaken
	}
	return nil
}

// announce tells everybody (§8.3).
func (r *responder) announce() {
	r.mu.Lock()
	rec := r.rec
	r.mu.Unlock()
	for _, n := range rec.nics {
		r.multicast(n, response(rec.all(n), nil))
	}
}

// withdraw says goodbye (§10.1), so that others forget the box at once, and
// closes everything.
func (r *responder) withdraw() {
	r.mu.Lock()
	rec, live := r.rec, r.live
	r.live = false
	r.mu.Unlock()
	if live {
		for _, n := range rec.nics {
			bye := rec.all(n)
			for _, rr := range bye {
				rr.Header().Ttl = 0
			}
			// The type of service may be another box's too.
			bye = slices.DeleteFunc(bye, func(rr dns.RR) bool { return rr.Header().Name == enumeration })
			r.multicast(n, response(bye, nil))
		}
	}
	close(r.done)
	if r.v4 != nil {
		_ = r.v4.Close()
	}
	if r.v6 != nil {
		_ = r.v6.Close()
	}
	r.wg.Wait()
}

func response(answers, extra []dns.RR) *dns.Msg {
	m := &dns.Msg{Answer: answers, Extra: extra, Compress: true}
	m.Response, m.Authoritative = true, true
	return m
}

// multicast sends a message to all on an interface's network. What cannot be
// sent is said again with the next change, question or announcement.
func (r *responder) multicast(n nic, m *dns.Msg) {
	raw, err := m.Pack()
	if err != nil {
		r.log.Error("mDNS message cannot be written", "err", err)
		return
	}
	if r.v4 != nil && n.speaks(true) {
		_, _ = r.v4.WriteTo(raw, &ipv4.ControlMessage{IfIndex: n.Index}, group4())
	}
	if r.v6 != nil && n.speaks(false) {
		_, _ = r.v6.WriteTo(raw, &ipv6.ControlMessage{IfIndex: n.Index}, group6())
	}
}

func (r *responder) unicast(n nic, m *dns.Msg, to *net.UDPAddr) {
	raw, err := m.Pack()
	if err != nil {
		return
	}
	if to.IP.To4() != nil {
		_, _ = r.v4.WriteTo(raw, &ipv4.ControlMessage{IfIndex: n.Index}, to)
	} else {
		_, _ = r.v6.WriteTo(raw, &ipv6.ControlMessage{IfIndex: n.Index}, to)
	}
}

// speaks reports whether an interface has an address of an IP version.
func (n nic) speaks(v4 bool) bool {
	return slices.ContainsFunc(n.addrs, func(a netip.Addr) bool { return a.Is4() == v4 })
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
