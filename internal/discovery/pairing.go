package discovery

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
)

// Pairing is what the QR code of a box holds: enough to find it where multicast
// is dropped, and to know it for what it is.
type Pairing struct {
	Box, Venue  string
	Addresses   []string // host:port, at most [MaxPaired]
	TLS         bool
	Fingerprint string // of the box's CA; empty: it has none
	Key         string // of the box's key
}

// MaxPaired is how many addresses a QR code holds: more would make it too fine
// for the camera of an old terminal.
const MaxPaired = 4

const pairScheme = "avoqado-edge"

// URI returns the pairing as the text of the QR code:
//
//	avoqado-edge://pair?v=1&box=..&venue=..&a=192.168.1.10:8080&tls=1&fp=..&key=..
//
// with "a" once for each address.
func (p Pairing) URI() string {
	var b strings.Builder
	b.WriteString(pairScheme + "://pair?v=1&box=" + url.QueryEscape(p.Box) + "&venue=" + url.QueryEscape(p.Venue))
	for _, a := range p.Addresses[:min(len(p.Addresses), MaxPaired)] {
		b.WriteString("&a=" + a) // digits, colons and brackets stand in a query as they are (RFC 3986 §3.4), but for brackets, which readers take
	}
	b.WriteString("&tls=" + bit(p.TLS))
	if p.Fingerprint != "" {
		b.WriteString("&fp=" + p.Fingerprint)
	}
	b.WriteString("&key=" + p.Key)
	return b.String()
}

// ParsePairing reads the text of a QR code. Members it does not know are passed
// over.
func ParsePairing(uri string) (Pairing, error) {
	u, err := url.Parse(strings.TrimSpace(uri))
	if err != nil || u.Scheme != pairScheme || u.Host != "pair" {
		return Pairing{}, errors.New("read QR code: it does not begin with " + pairScheme + "://pair?")
	}
	q := u.Query()
	if v := q.Get("v"); v != "1" {
		return Pairing{}, fmt.Errorf("read QR code: its version is %q, not 1: use a newer avoqado-edge", v)
	}
	p := Pairing{
		Box: q.Get("box"), Venue: q.Get("venue"), TLS: q.Get("tls") == "1",
		Fingerprint: strings.ToLower(q.Get("fp")), Key: strings.ToLower(q.Get("key")),
	}
	if p.Box == "" || p.Venue == "" || len(p.Key) != 64 {
		return Pairing{}, errors.New("read QR code: box, venue or key is missing")
	}
	for _, a := range q["a"] {
		if _, err := netip.ParseAddrPort(a); err != nil {
			return Pairing{}, fmt.Errorf("read QR code: %q is no address with a port", a)
		}
		p.Addresses = append(p.Addresses, a)
	}
	return p, nil
}
