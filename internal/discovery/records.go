package discovery

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

const (
	// domain is that of multicast DNS (RFC 6762 §3).
	domain = "local."

	// enumeration asks which types of service there are (RFC 6763 §9).
	enumeration = "_services._dns-sd._udp." + domain

	// ttl is how long others believe what is said, in seconds: a box that lost
	// its power is forgotten after two minutes (RFC 6762 §10).
	ttl = 120

	// legacyTTL is for those who ask as if this were unicast DNS (§6.7).
	legacyTTL = 10

	// flush is the bit in a class that says: these are all there are (§10.2).
	flush = 1 << 15
)

// service is one service of the box (RFC 6763 §4.1).
type service struct {
	kind  string // such as _avoqado-edge._tcp
	label string // of the instance
	port  uint16
	txt   []string
}

func (s service) browsed() string  { return s.kind + "." + domain }
func (s service) instance() string { return s.label + "." + s.browsed() }

func (s service) equal(o service) bool {
	return s.kind == o.kind && s.label == o.label && s.port == o.port && slices.Equal(s.txt, o.txt)
}

// records is all that the box says by mDNS. It is not changed once it is made.
type records struct {
	label    string // of the host
	services []service
	nics     []nic
}

func (r records) host() string { return r.label + "." + domain }

// equal is true for two between which there is nothing to be said anew.
func (r records) equal(o records) bool {
	return r.label == o.label && slices.EqualFunc(r.services, o.services, service.equal) && fingerprint(r.nics) == fingerprint(o.nics) &&
		stayed(r.nics, o.nics)
}

// nic returns the interface with an index.
func (r records) nic(index int) (nic, bool) {
	for _, n := range r.nics {
		if n.Index == index {
			return n, true
		}
	}
	return nic{}, false
}

func shared(name string, kind uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET, Ttl: ttl}
}

func unique(name string, kind uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET | flush, Ttl: ttl}
}

func pointer(from, to string) dns.RR {
	return &dns.PTR{Hdr: shared(from, dns.TypePTR), Ptr: to}
}

func (r records) srv(s service) dns.RR {
	return &dns.SRV{Hdr: unique(s.instance(), dns.TypeSRV), Port: s.port, Target: r.host()}
}

func text(s service) dns.RR {
	strings := make([]string, len(s.txt))
	for i, t := range s.txt {
		strings[i] = escape(t)
	}
	return &dns.TXT{Hdr: unique(s.instance(), dns.TypeTXT), Txt: strings}
}

// escape writes a text for the DNS library, which reads what it sends as a zone
// file would be read.
func escape(t string) string { return strings.ReplaceAll(t, `\`, `\\`) }

// addresses returns the A and AAAA records of an interface: others on its
// network are told the addresses that they can reach.
func (r records) addresses(n nic) []dns.RR {
	var list []dns.RR
	for _, a := range n.announced() {
		if a.Is4() {
			list = append(list, &dns.A{Hdr: unique(r.host(), dns.TypeA), A: a.AsSlice()})
		} else {
			list = append(list, &dns.AAAA{Hdr: unique(r.host(), dns.TypeAAAA), AAAA: a.AsSlice()})
		}
	}
	return list
}

// none says of a name which types it has, and so that it has no other (§6.1).
func none(name string, types ...uint16) dns.RR {
	return &dns.NSEC{Hdr: unique(name, dns.TypeNSEC), NextDomain: name, TypeBitMap: types}
}

func (r records) noOther(n nic) dns.RR {
	var types []uint16
	for _, a := range n.announced() {
		kind := dns.TypeAAAA
		if a.Is4() {
			kind = dns.TypeA
		}
		if !slices.Contains(types, kind) {
			types = append(types, kind)
		}
	}
	slices.Sort(types)
	return none(r.host(), types...)
}

// claims returns the records whose names must be nobody else's.
func (r records) claims(n nic) []dns.RR {
	var list []dns.RR
	for _, s := range r.services {
		list = append(list, r.srv(s), text(s))
	}
	return append(list, r.addresses(n)...)
}

// all returns everything that is announced on an interface (§8.3).
func (r records) all(n nic) []dns.RR {
	var list []dns.RR
	for _, s := range r.services {
		list = append(list, pointer(enumeration, s.browsed()), pointer(s.browsed(), s.instance()))
	}
	return append(list, r.claims(n)...)
}

// answer returns what there is to say to a question that came in on an
// interface: the answer, and what will be asked next. Names are compared
// without regard to case (§16).
func (r records) answer(q dns.Question, n nic) (answers, extra []dns.RR) {
	asks := func(kind uint16) bool { return q.Qtype == kind || q.Qtype == dns.TypeANY }
	if strings.EqualFold(q.Name, r.host()) {
		for _, a := range r.addresses(n) {
			if asks(a.Header().Rrtype) {
				answers = append(answers, a)
			} else {
				extra = append(extra, a)
			}
		}
		if len(answers) == 0 {
			answers = append(answers, r.noOther(n))
		}
		return answers, extra
	}
	for _, s := range r.services {
		switch {
		case strings.EqualFold(q.Name, enumeration) && asks(dns.TypePTR):
			answers = append(answers, pointer(enumeration, s.browsed()))
		case strings.EqualFold(q.Name, s.browsed()) && asks(dns.TypePTR):
			answers = append(answers, pointer(s.browsed(), s.instance()))
			extra = append(append(extra, r.srv(s), text(s)), r.addresses(n)...)
		case strings.EqualFold(q.Name, s.instance()):
			if asks(dns.TypeSRV) {
				answers = append(answers, r.srv(s))
			}
			if asks(dns.TypeTXT) {
				answers = append(answers, text(s))
			}
			if len(answers) == 0 {
				answers = append(answers, none(s.instance(), dns.TypeTXT, dns.TypeSRV))
			}
			extra = append(extra, r.addresses(n)...)
		}
	}
	return answers, extra
}

// named returns those records of a message whose names this box claims.
func (r records) named(list []dns.RR) []dns.RR {
	var ours []dns.RR
	for _, rr := range list {
		name := rr.Header().Name
		if strings.EqualFold(name, r.host()) || slices.ContainsFunc(r.services, func(s service) bool { return strings.EqualFold(name, s.instance()) }) {
			ours = append(ours, rr)
		}
	}
	return ours
}

// announced returns the addresses that are worth telling: of IPv6 those that
// need no scope, or else the link-local one.
func (n nic) announced() []netip.Addr {
	var list, local []netip.Addr
	wide := false
	for _, a := range n.addrs {
		if a.Is6() && a.IsLinkLocalUnicast() {
			local = append(local, a)
			continue
		}
		wide = wide || a.Is6()
		list = append(list, a)
	}
	if !wide {
		list = append(list, local...)
	}
	return list
}
