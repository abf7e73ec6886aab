package uplink

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Facts are what a look around tells of the network when no broker can be
// reached. A look takes at most [probeTimeout].
type Facts struct {
	// LAN are the addresses of the box, without loopback and link-local ones.
	LAN []netip.Addr `json:"lan"`

	// Route reports whether there is a default route; Unknown where the system
	// does not say.
	Route Answer `json:"route"`

	// Router says whether where the default route leads takes or refuses a TCP
	// connection; No if not even its hardware address is told. Gateway is where
	// that is.
	Router  Answer     `json:"router"`
	Gateway netip.Addr `json:"gateway,omitzero"`

	// Names says what came of asking for a name beside the broker's that nobody
	// has asked for before, so that only a way to the internet can answer it: Yes
	// if it is said not to exist, No if nothing came, Unknown if there was
	// nothing to ask. Lies: it was given an address, as a portal does.
	Names Answer       `json:"names"`
	Lies  []netip.Addr `json:"lies,omitempty"`

	// Reached reports whether any broker, or where it was last, or the host of
	// the probe took a TCP connection.
	Reached Answer `json:"reached"`

	// Probe says whether uplink.probe answered 204; Portal that something else
	// came in its place.
	Probe  Answer `json:"probe"`
	Portal string `json:"portal,omitempty"`
}

// Answer is yes, no or not known.
type Answer string

// The answers.
const (
	Unknown Answer = "unknown"
	Yes     Answer = "yes"
	No      Answer = "no"
)

func toAnswer(yes bool) Answer {
	if yes {
		return Yes
	}
	return No
}

const (
	probeTimeout = 4 * time.Second
	probeAgain   = 20 * time.Second // a look is good for that long
)

// diagnose names a failed attempt by what it met and by what a look around
// tells. It decides nothing else: the box tries again all the same.
func diagnose(err error, f *Facts) (name, text string) {
	name, text = nameOf(err), ""
	if err != nil {
		text = err.Error()
	}
	at, known := errors.AsType[*attemptError](err)
	if !known || f == nil {
		return name, text
	}
	say := func(name, format string, args ...any) (string, string) {
		return name, fmt.Sprintf(format, args...) + ": " + text
	}
	near := allPrivate(at.addrs) // a broker in the venue, or a lie
	switch name {
	default:
		return name, text
	case DNS, NoRoute, Timeout, BrokerDown, NoAnswer, TLS, Lost, CaptivePortal, Proxy:
	}
	literal := isLiteral(at.broker.Hostname())
	loopback := len(at.addrs) > 0 && at.addrs[0].IsLoopback()
	switch {
	case loopback && (literal || at.broker.Hostname() == "localhost"):
		return name, text // needs no network
	case len(f.LAN) == 0 && !loopback:
		return say(NoLAN, "no network interface has an address")
	case name == Proxy:
		return name, text
	case f.Portal != "":
		return say(CaptivePortal, "%s", f.Portal)
	case name == CaptivePortal:
		return name, text
	case name == TLS && wrongName(err, at.broker.Hostname()) && near && !literal:
		return say(DNSLie, "the name server says %s is %s, where somebody else answers", at.broker.Hostname(), listed(at.addrs))
	case name == TLS && overlap(f.Lies, at.addrs):
		return say(DNSLie, "the name server gives every name the address %s", listed(f.Lies))
	case f.Route == No && (name == DNS || name == NoRoute || name == Timeout):
		return say(NoInternet, "there is no default route")
	}
	online := f.Reached == Yes || f.Names == Yes || f.Probe == Yes
	if f.Router == No && !near && !online && (name == DNS && !missing(err) || name == NoRoute || name == Timeout) {
		return say(NoRouter, "the router %s does not answer", f.Gateway)
	}
	switch name {
	case DNS:
		if missing(err) || online {
			return name, text
		}
		if f.Reached == No || f.Probe == No { // something else was tried, by address
			return say(NoInternet, "neither the name server nor anything else answers")
		}
	case NoRoute, Timeout:
		switch {
		case near || online:
			return say(BrokerDown, "the rest of the network answers")
		case f.Names == No || f.Probe == No:
			return say(NoInternet, "nothing outside the venue answers")
		}
	}
	return name, text
}

// wrongName reports whether the certificate that was shown is not the broker's.
func wrongName(err error, host string) bool {
	bad, ok := errors.AsType[*tls.CertificateVerificationError](err)
	return ok && len(bad.UnverifiedCertificates) > 0 && bad.UnverifiedCertificates[0].VerifyHostname(host) != nil
}

func missing(err error) bool {
	dns, ok := errors.AsType[*net.DNSError](err)
	return ok && dns.IsNotFound
}

func isLiteral(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

func allPrivate(addrs []netip.Addr) bool {
	for _, a := range addrs {
		if !a.IsPrivate() && !a.IsLoopback() && !a.IsLinkLocalUnicast() && !a.IsUnspecified() {
			return false
		}
	}
	return len(addrs) > 0
}

func overlap(a, b []netip.Addr) bool {
	for _, x := range a {
		if slices.Contains(b, x) {
			return true
		}
	}
	return false
}

func listed(addrs []netip.Addr) string {
	words := make([]string, len(addrs))
	for i, a := range addrs {
		words[i] = a.String()
	}
	return strings.Join(words, ", ")
}

// lookAround finds the facts about the way to the brokers.
func (d *dialer) lookAround(ctx context.Context, hosts []string) *Facts {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	f := &Facts{Route: defaultRoute(), Names: Unknown, Reached: Unknown, Probe: Unknown, LAN: lanAddresses(), Router: Unknown, Gateway: gateway()}
	var all sync.WaitGroup
	all.Go(func() { f.Router = askRouter(ctx, f.Gateway) })
	all.Go(func() { f.Names, f.Lies = d.askNames(ctx, hosts) })
	all.Go(func() { f.Probe, f.Portal = d.askProbe(ctx) })
	all.Go(func() { f.Reached = d.knock(ctx, hosts) })
	all.Wait()
	return f
}

func lanAddresses() []netip.Addr {
	cards, err := net.Interfaces()
	if err != nil {
		return nil
	}
	var list []netip.Addr
	for _, card := range cards {
		// An interface keeps its address while its cable is pulled.
		if card.Flags&net.FlagUp == 0 || card.Flags&net.FlagRunning == 0 {
			continue
		}
		found, err := card.Addrs()
		if err != nil {
			continue // it went away
		}
		for _, a := range found {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				if ip := p.Addr().Unmap(); !ip.IsLoopback() && !ip.IsLinkLocalUnicast() {
					list = append(list, ip)
				}
			}
		}
	}
	return list
}

// askNames looks up a name nobody has looked up before.
func (d *dialer) askNames(ctx context.Context, hosts []string) (Answer, []netip.Addr) {
	for _, hostport := range hosts {
		host, _, err := net.SplitHostPort(hostport)
		if err != nil || isLiteral(host) || !strings.Contains(host, ".") {
			continue
		}
		found, err := d.resolve(ctx, strings.ToLower(rand.Text()[:12])+"."+host+".")
		switch {
		case err == nil:
			return Yes, found
		case missing(err):
			return Yes, nil
		}
		return No, nil
	}
	return Unknown, nil
}

// askRouter knocks where routers listen. A port that is closed is an answer, too;
// silence is none, since some drop what they do not want.
func askRouter(ctx context.Context, router netip.Addr) Answer {
	if !router.IsValid() {
		return Unknown
	}
	verdict := Unknown
	for _, port := range []uint16{53, 80} {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", netip.AddrPortFrom(router, port).String())
		switch {
		case err == nil:
			_ = c.Close()
			return Yes
		case errors.Is(err, syscall.ECONNREFUSED):
			return Yes
		case errors.Is(err, syscall.EHOSTUNREACH):
			verdict = No
		}
	}
	return verdict
}

// askProbe asks the address that tells a portal from the internet.
func (d *dialer) askProbe(ctx context.Context) (Answer, string) {
	if d.cfg.Probe == "" {
		return Unknown, ""
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.cfg.Probe, nil)
	if err != nil {
		return Unknown, ""
	}
	client := http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
				c, _, err := d.connect(ctx, addr, false)
				if err != nil {
					return nil, err
				}
				return c, nil
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	res, err := client.Do(req)
	if err != nil {
		return No, ""
	}
	_, _ = io.CopyN(io.Discard, res.Body, 1<<10)
	_ = res.Body.Close()
	if res.StatusCode == http.StatusNoContent {
		return Yes, ""
	}
	text := fmt.Sprintf("%s answers %d", d.cfg.Probe, res.StatusCode)
	if to, err := res.Location(); err == nil {
		text += " and leads to " + to.Scheme + "://" + to.Host
	}
	if res.StatusCode >= http.StatusInternalServerError && res.StatusCode != http.StatusNetworkAuthenticationRequired {
		return Yes, "" // it is there, and in trouble of its own
	}
	return Yes, text
}

// knock tries where each broker was last, or where its name leads. Nothing is
// said to whoever answers.
func (d *dialer) knock(ctx context.Context, hosts []string) Answer {
	var all sync.WaitGroup
	answers := make(chan bool, len(hosts))
	for _, hostport := range hosts {
		host, port, err := net.SplitHostPort(hostport)
		if err != nil {
			continue
		}
		d.mu.Lock()
		last, known := d.last[host]
		d.mu.Unlock()
		if known {
			hostport = net.JoinHostPort(last.String(), port)
		}
		all.Go(func() {
			c, addrs, err := d.connect(ctx, hostport, false)
			if err == nil {
				_ = c.Close()
			}
			if len(addrs) > 0 { // else there was no address to try
				answers <- err == nil
			}
		})
	}
	all.Wait()
	close(answers)
	verdict := Unknown
	for yes := range answers {
		if verdict != Yes {
			verdict = toAnswer(yes)
		}
	}
	return verdict
}
