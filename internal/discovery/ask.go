package discovery

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/avoqado/avoqado-edge/internal/identity"
)

const (
	// askTimeout is how long one address has to answer, dialTimeout to be there
	// at all.
	askTimeout  = 3 * time.Second
	dialTimeout = time.Second

	// parallel bounds how many addresses are asked at once.
	parallel = 256

	// maxCard is the largest card that is read, in bytes.
	maxCard = 64 << 10

	// scanBits is the longest stretch around an own address that is scanned:
	// a /24, since that is what venues have.
	scanBits = 24
)

// errSilent says that nobody is at an address, as far as one can tell.
var errSilent = errors.New("nobody answers")

type client struct{ http http.Client }

// newClient returns a client that goes straight to an address: through no
// proxy, which would answer for addresses of its own network, and after no
// redirect.
func newClient() *client {
	return &client{http.Client{
		Timeout: askTimeout,
		Transport: &http.Transport{
			DialContext:       (&net.Dialer{Timeout: dialTimeout}).DialContext,
			DisableKeepAlives: true, DisableCompression: true,
			ResponseHeaderTimeout: askTimeout, MaxResponseHeaderBytes: 16 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// card asks an address for its card, and returns who answered: what a name led
// to. The answer holds for this question alone.
func (c *client) card(ctx context.Context, address string) (card identity.Card, from netip.AddrPort, err error) {
	nonce := rand.Text()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		if tcp, ok := info.Conn.RemoteAddr().(*net.TCPAddr); ok {
			from = tcp.AddrPort()
		}
	}})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+escapeZone(address)+identity.Path+"?nonce="+nonce, http.NoBody)
	if err != nil {
		return identity.Card{}, from, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return identity.Card{}, from, fmt.Errorf("%w: %w", errSilent, plain(err))
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return identity.Card{}, from, fmt.Errorf("it answers with status %d: no box, or one without a key", resp.StatusCode)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxCard))
	if err != nil {
		return identity.Card{}, from, err
	}
	card, err = identity.Unseal(raw, nonce)
	return card, from, err
}

// plain leaves the question out of an error.
func plain(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	if timeout, ok := err.(interface{ Timeout() bool }); ok && timeout.Timeout() {
		return errors.New("timed out; where clients are isolated from each other only a wired box can be reached")
	}
	return err
}

// escapeZone writes the zone of an address for a URL (RFC 6874).
func escapeZone(address string) string {
	ap, err := netip.ParseAddrPort(address)
	if err != nil || ap.Addr().Zone() == "" {
		return address
	}
	return "[" + ap.Addr().WithZone("").String() + "%25" + ap.Addr().Zone() + "]:" + strconv.Itoa(int(ap.Port()))
}

// ask finds out who is at an address, and whether that is whom one wants.
func (f *finder) ask(ctx context.Context, address string) Found {
	c, from, err := f.client.card(ctx, address)
	f.meet(address, err)
	if err != nil {
		return Found{Address: address, Refused: err.Error(), Silent: errors.Is(err, errSilent)}
	}
	found := Found{
		Address: address, Box: c.Box, Venue: c.Venue, Name: c.Name, Version: c.Version, State: c.State,
		TLS: c.TLS, CA: c.Fingerprint, Key: c.Key, Pinned: f.search.Key != "" && c.Key == f.search.Key,
	}
	switch s := f.search; {
	case !lists(c.Addresses, from):
		found.Refused = "it shows the card of a box at another address"
	case s.Venue != "" && c.Venue != s.Venue:
		found.Refused = "it is of venue " + c.Venue
	case s.Box != "" && c.Box != s.Box:
		found.Refused = "it is box " + c.Box
	case s.Key != "" && c.Key != s.Key:
		found.Refused = "its key is not the one that was looked for: pair anew only if the box was replaced"
	}
	return found
}

// lists reports whether a box says that it serves where it answered.
func lists(addresses []string, from netip.AddrPort) bool {
	return slices.Contains(addresses, netip.AddrPortFrom(from.Addr().Unmap().WithZone(""), from.Port()).String())
}

// scan asks each address of the own networks, of private ones alone.
func (f *finder) scan(ctx context.Context, a *way) {
	port := f.search.Port
	if port == 0 {
		port = DefaultPort
	}
	targets, err := scanTargets(f.search.Interfaces)
	if err != nil {
		a.Error = err.Error()
		return
	}
	if len(targets) == 0 {
		a.Error = "no interface has a private IPv4 address"
		return
	}
	a.Asked = len(targets)
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		slot = make(chan struct{}, parallel)
	)
	defer wg.Wait()
	for _, ip := range targets {
		select {
		case slot <- struct{}{}:
		case <-ctx.Done():
			return
		}
		wg.Go(func() {
			defer func() { <-slot }()
			found := f.ask(ctx, netip.AddrPortFrom(ip, uint16(port)).String()) //nolint:gosec // a flag, checked
			if found.Key == "" {
				return // nobody, or no box
			}
			f.add(a, found)
			mu.Lock()
			defer mu.Unlock()
			a.Heard++
		})
	}
}

// scanTargets lists the addresses beside the own private ones, without those.
func scanTargets(wanted []string) ([]netip.Addr, error) {
	ifaces, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list network interfaces: %w", err)
	}
	var nets []netip.Prefix
	for _, i := range ifaces {
		if len(wanted) > 0 && !slices.Contains(wanted, i.Name) || i.Flags&net.FlagUp == 0 || i.Flags&net.FlagLoopback != 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue // it vanished
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && p.Addr().IsPrivate() {
				nets = append(nets, p)
			}
		}
	}
	return spread(nets), nil
}

// spread lists the host addresses of networks, each once, of a large network
// the /24 around the own address.
func spread(nets []netip.Prefix) []netip.Addr {
	var list []netip.Addr
	seen := map[netip.Addr]bool{}
	for _, p := range nets {
		own := p.Addr()
		seen[own] = true
		net := netip.PrefixFrom(own, max(p.Bits(), scanBits)).Masked()
		for a := net.Addr(); net.Contains(a); a = a.Next() {
			edge := net.Bits() < 31 && (a == net.Addr() || !net.Contains(a.Next()))
			if !edge && !seen[a] {
				seen[a] = true
				list = append(list, a)
			}
		}
	}
	return list
}
