package discovery

import (
	"bytes"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// read hands every message to handle until the socket is closed.
func (r *responder) read(from func([]byte) (n, iface int, who net.Addr, err error)) {
	buf := make([]byte, maxPacket)
	for {
		n, iface, who, err := from(buf)
		if err != nil {
			select {
			case <-r.done:
				return
			case <-time.After(100 * time.Millisecond): // an interface went away; never spin
				continue
			}
		}
		udp, ok := who.(*net.UDPAddr)
		var m dns.Msg
		if !ok || m.Unpack(buf[:n]) != nil {
			continue // anybody can send anything
		}
		r.handle(&m, iface, udp)
	}
}

// handle answers a question, or learns from what others say. The socket hears
// interfaces that other programs listen to; those are passed over.
func (r *responder) handle(m *dns.Msg, iface int, who *net.UDPAddr) {
	r.mu.Lock()
	rec, live := r.rec, r.live
	n, ok := rec.nic(iface)
	from, _ := netip.AddrFromSlice(who.IP)
	from = from.Unmap().WithZone("")
	ok = ok && n.near(from) && m.Opcode == dns.OpcodeQuery
	if ok && !r.own[from] {
		if m.Response && who.Port == mdnsPort {
			r.taken = r.taken || contradicts(rec, r.own, append(slices.Clone(m.Answer), m.Extra...))
		} else if !live && contradicts(rec, r.own, m.Ns) { // else it is the box's own, which a reflector repeats
			r.outrun = r.outrun || goesFirst(rec.named(m.Ns), rec.claims(n))
		}
	}
	r.mu.Unlock()
	if ok && live && !m.Response && !rec.betterOn(n, from) {
		r.answer(rec, n, m, who)
	}
}

// betterOn reports whether another interface is in the network of who asks and
// this one is not: both are at one switch, and an answer from here would give
// an address that cannot be reached from there.
func (r records) betterOn(n nic, from netip.Addr) bool {
	return !n.on(from) && slices.ContainsFunc(r.nics, func(other nic) bool { return other.on(from) })
}

// near reports whether an address is one of the network the interface is on: an
// answer is never sent away from it (§11).
func (n nic) near(from netip.Addr) bool {
	if from.IsPrivate() || from.IsLoopback() || n.on(from) {
		return true
	}
	bits := 24
	if from.Is6() {
		bits = 64
	}
	net, err := from.Prefix(bits)
	return err == nil && slices.ContainsFunc(n.addrs, net.Contains)
}

// contradicts reports whether another host says that a name of this box is its
// own (§9): another place for the service, or another address.
func contradicts(rec records, own map[netip.Addr]bool, said []dns.RR) bool {
	for _, rr := range rec.named(said) {
		if rr.Header().Ttl == 0 {
			continue // a goodbye
		}
		switch rr := rr.(type) {
		case *dns.SRV:
			for _, s := range rec.services {
				if equalName(rr.Hdr.Name, s.instance()) && (rr.Port != s.port || !equalName(rr.Target, rec.host())) {
					return true
				}
			}
		case *dns.A:
			if a, ok := netip.AddrFromSlice(rr.A.To4()); ok && !own[a] {
				return true
			}
		case *dns.AAAA:
			if a, ok := netip.AddrFromSlice(rr.AAAA.To16()); ok && !own[a] {
				return true
			}
		}
	}
	return false
}

// goesFirst decides between two that probe for a name at the same moment
// (§8.2): the records that sort later win.
func goesFirst(theirs, ours []dns.RR) bool {
	if len(theirs) == 0 {
		return false
	}
	a, b := sorted(theirs), sorted(ours)
	for i := range min(len(a), len(b)) {
		if c := bytes.Compare(a[i], b[i]); c != 0 {
			return c > 0
		}
	}
	return len(a) > len(b)
}

// sorted returns records as class, type and data without compression, in order.
func sorted(list []dns.RR) [][]byte {
	var out [][]byte
	for _, rr := range list {
		c := dns.Copy(rr)
		c.Header().Name, c.Header().Ttl, c.Header().Class = ".", 0, c.Header().Class&^flush
		raw := make([]byte, dns.Len(c)+1)
		n, err := dns.PackRR(c, raw, 0, nil, false)
		if err != nil || n < 11 {
			continue
		}
		// After the empty name: type, class, TTL, length, data.
		key := append([]byte{raw[3], raw[4], raw[1], raw[2]}, raw[11:n]...)
		out = append(out, key)
	}
	slices.SortFunc(out, bytes.Compare)
	return out
}

// answer says what there is to say to a message.
func (r *responder) answer(rec records, n nic, m *dns.Msg, who *net.UDPAddr) {
	legacy := who.Port != mdnsPort
	alone := true // all questions want it for themselves (§5.4)
	var answers, extra []dns.RR
	for _, q := range m.Question {
		a, e := rec.answer(q, n)
		answers, extra = append(answers, a...), append(extra, e...)
		alone = alone && (len(a) == 0 || q.Qclass&flush != 0)
	}
	answers = slices.DeleteFunc(answers, func(rr dns.RR) bool { return known(m.Answer, rr) })
	if len(answers) == 0 {
		return
	}
	answers = dns.Dedup(answers, nil)
	extra = slices.DeleteFunc(dns.Dedup(extra, nil), func(rr dns.RR) bool { return contains(answers, rr) })
	out := response(answers, extra)
	switch {
	case legacy: // §6.7
		out.Id, out.Question = m.Id, m.Question
		for _, rr := range append(slices.Clone(answers), extra...) {
			rr.Header().Ttl, rr.Header().Class = legacyTTL, rr.Header().Class&^flush
		}
		r.unicast(n, out, who)
	case alone:
		r.unicast(n, out, who)
	default:
		r.multicast(n, out)
	}
}

// known reports whether who asks has a record, and will for a while (§7.1).
func known(have []dns.RR, rr dns.RR) bool {
	return slices.ContainsFunc(have, func(h dns.RR) bool { return h.Header().Ttl >= ttl/2 && same(h, rr) })
}

func contains(list []dns.RR, rr dns.RR) bool {
	return slices.ContainsFunc(list, func(l dns.RR) bool { return same(l, rr) })
}

func same(a, b dns.RR) bool {
	a, b = dns.Copy(a), dns.Copy(b)
	a.Header().Class &^= flush
	b.Header().Class &^= flush
	return dns.IsDuplicate(a, b)
}

func equalName(a, b string) bool { return dns.CanonicalName(a) == dns.CanonicalName(b) }
