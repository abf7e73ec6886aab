package discovery

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/grandcat/zeroconf"
)

// The ways to find a box, in the order in which they are tried.
const (
	WayKnown = "known" // an address that was given, or from a QR code
	WayMDNS  = "mdns"  // it announces itself
	WayScan  = "scan"  // each address of the network was asked
)

const (
	// DefaultPort is the one that is asked in a scan unless another is given.
	DefaultPort = 8080

	// browseFor is how long an answer by mDNS is waited for, browseFirst how long
	// if there is another way after it, so that all of them take less than 3 s;
	// quietFor how long for another answer after the last.
	browseFor   = 3 * time.Second
	browseFirst = 1500 * time.Millisecond
	quietFor    = time.Second

	// maxFound bounds what strangers can make a search remember.
	maxFound = 256
)

// Search says what is looked for.
type Search struct {
	Venue string   // empty: any
	Box   string   // empty: any
	Key   string   // fingerprint of the box's key; empty: any
	Known []string // host:port, as remembered or from a QR code

	Interfaces []string      // empty: all
	Browse     time.Duration // how long mDNS is listened to; 0: 3 s, 1.5 s before a scan; negative: not at all
	Scan       bool          // ask each address of the network if nothing else helps
	Port       int           // to scan; 0: DefaultPort
}

// Found is one box, or what poses as one.
type Found struct {
	Way      string        `json:"way"`
	Took     time.Duration `json:"-"`
	TookMs   float64       `json:"tookMs"`            // from the beginning of this way until it was known
	Box      string        `json:"box"`               // as it says, signed unless Refused
	Venue    string        `json:"venue"`             // likewise
	Name     string        `json:"name,omitempty"`    // likewise
	Version  string        `json:"version,omitempty"` // likewise
	State    string        `json:"state,omitempty"`   // likewise
	Address  string        `json:"address"`           // host:port where it answered
	TLS      bool          `json:"tls"`
	CA       string        `json:"fingerprint,omitempty"`
	Key      string        `json:"key,omitempty"`      // fingerprint of the key it signed with
	Pinned   bool          `json:"pinned"`             // that is the key that was looked for
	Instance string        `json:"instance,omitempty"` // of mDNS
	Refused  string        `json:"refused,omitempty"`  // why it must not be used; empty: it may
}

// Attempt is one way that was tried.
type Attempt struct {
	Way    string        `json:"way"`
	Took   time.Duration `json:"-"`
	TookMs float64       `json:"tookMs"`
	Asked  int           `json:"asked"`           // addresses
	Heard  int           `json:"heard"`           // answers, of any kind
	Error  string        `json:"error,omitempty"` // why it could not be tried as it should
}

// Report is the outcome of a search.
type Report struct {
	Way      string        `json:"way"` // the first that led to a box; empty: none did
	Took     time.Duration `json:"-"`
	TookMs   float64       `json:"tookMs"` // until the first box was known
	Found    []Found       `json:"found"`  // may be used
	Refused  []Found       `json:"refused"`
	Attempts []Attempt     `json:"attempts"`
}

// Find looks for boxes as a terminal would: first it asks the addresses it was
// given, then it listens to mDNS, last it asks each address of its own network; the
// first way that leads to a box is the last that is tried. What answers is asked
// for its card, and used only if the card is signed and lists the address it
// came from. Find returns at the latest when ctx ends, with what it has.
func Find(ctx context.Context, s Search) Report {
	began := time.Now()
	f := &finder{search: s, began: began, client: newClient(), seen: map[string]bool{}}
	r := Report{Found: []Found{}, Refused: []Found{}, Attempts: []Attempt{}}
	for _, way := range []struct {
		name string
		try  func(context.Context) Attempt
		skip bool
	}{
		{WayKnown, f.known, len(s.Known) == 0},
		{WayMDNS, f.browse, s.Browse < 0},
		{WayScan, f.scan, !s.Scan},
	} {
		if way.skip || ctx.Err() != nil {
			continue
		}
		f.way, f.since, f.first = way.name, time.Now(), time.Time{}
		a := way.try(ctx)
		a.Way, a.Took = way.name, time.Since(f.since)
		a.TookMs = milliseconds(a.Took)
		r.Attempts = append(r.Attempts, a)
		if !f.first.IsZero() {
			r.Way, r.Took = way.name, f.first.Sub(began)
			r.TookMs = milliseconds(r.Took)
			break
		}
	}
	for _, one := range f.found {
		if one.Refused == "" {
			r.Found = append(r.Found, one)
		} else {
			r.Refused = append(r.Refused, one)
		}
	}
	return r
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// finder is one search.
type finder struct {
	search Search
	began  time.Time
	client *client
	way    string
	since  time.Time

	mu    sync.Mutex // guards below
	found []Found
	first time.Time       // when this way led to a box
	seen  map[string]bool // box and address
}

// browse listens to mDNS until something useful was heard and it is quiet.
func (f *finder) browse(ctx context.Context) (a Attempt) {
	limit := f.search.Browse
	switch {
	case limit == 0 && f.search.Scan:
		limit = browseFirst
	case limit == 0:
		limit = browseFor
	}
	ifaces, err := multicastInterfaces(f.search.Interfaces)
	if err != nil {
		a.Error = err.Error()
		return a
	}
	browse, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	entries := make(chan *zeroconf.ServiceEntry, maxFound)
	resolver, err := zeroconf.NewResolver(zeroconf.SelectIfaces(ifaces))
	if err == nil {
		err = resolver.Browse(browse, Service, strings.TrimSuffix(domain, "."), entries)
	}
	if err != nil {
		a.Error = "listen to mDNS: " + err.Error()
		return a
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	quiet := time.NewTimer(limit)
	defer quiet.Stop()
	for a.Heard < maxFound {
		select {
		case e, ok := <-entries:
			if !ok {
				return a
			}
			a.Heard++
			wg.Go(func() {
				f.resolve(ctx, e)
				f.mu.Lock()
				defer f.mu.Unlock()
				if !f.first.IsZero() {
					quiet.Reset(quietFor)
				}
			})
			a.Asked += len(e.AddrIPv4) + len(e.AddrIPv6)
		case <-quiet.C:
			return a
		case <-browse.Done():
			return a
		}
	}
	return a
}

// multicastInterfaces returns those to listen on. It asks for no route.
func multicastInterfaces(wanted []string) ([]net.Interface, error) {
	nics, err := choose(wanted)
	if err != nil {
		return nil, err
	}
	if len(nics) == 0 {
		return nil, fmt.Errorf("no network interface that can multicast has an address")
	}
	list := make([]net.Interface, len(nics))
	for i, n := range nics {
		list[i] = n.Interface
	}
	return list, nil
}

// resolve asks the addresses of an announcement, IPv4 first, until one answers.
func (f *finder) resolve(ctx context.Context, e *zeroconf.ServiceEntry) {
	said := txt(e.Text)
	if f.search.Venue != "" && said["venue"] != "" && said["venue"] != f.search.Venue {
		return // another venue's, and it says so
	}
	var candidates []string
	for _, ip := range append(slices.Clone(e.AddrIPv4), e.AddrIPv6...) {
		addr, ok := netip.AddrFromSlice(ip)
		if !ok {
			continue
		}
		candidates = append(candidates, f.scoped(addr.Unmap(), e.Port)...)
	}
	last := Found{
		Box: said["box"], Venue: said["venue"], Instance: e.Instance, Address: net.JoinHostPort(strings.TrimSuffix(e.HostName, "."), fmt.Sprint(e.Port)),
		Refused: "it is announced without an address",
	}
	for _, address := range candidates {
		found := f.ask(ctx, address)
		found.Instance = e.Instance
		if found.Refused == "" && said["box"] != "" && said["box"] != found.Box {
			found.Refused = fmt.Sprintf("it is announced as box %s and says that it is %s", said["box"], found.Box)
		}
		if found.Box == "" {
			found.Box, found.Venue = said["box"], said["venue"]
		}
		if found.Refused == "" {
			last = found
			break
		}
		if last.Key == "" { // who answered says more than who did not
			last = found
		}
	}
	f.add(last)
}

// scoped returns an address as it can be dialled: a link-local one of IPv6 once
// for each interface.
func (f *finder) scoped(addr netip.Addr, port int) []string {
	if !addr.Is6() || !addr.IsLinkLocalUnicast() {
		return []string{netip.AddrPortFrom(addr, uint16(port)).String()} //nolint:gosec // of a DNS record
	}
	var list []string
	nics, _ := choose(f.search.Interfaces)
	for _, n := range nics {
		list = append(list, netip.AddrPortFrom(addr.WithZone(n.Name), uint16(port)).String()) //nolint:gosec // likewise
	}
	return list
}

// txt reads a TXT record (RFC 6763 §6.4): the first of each key counts.
func txt(list []string) map[string]string {
	m := map[string]string{}
	for _, t := range list {
		key, value, _ := strings.Cut(t, "=")
		key = strings.ToLower(key)
		if _, ok := m[key]; !ok {
			m[key] = value
		}
	}
	return m
}

// known asks the addresses that were given, all at once.
func (f *finder) known(ctx context.Context) (a Attempt) {
	a.Asked = len(f.search.Known)
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		slot = make(chan struct{}, parallel)
	)
	for _, address := range f.search.Known {
		slot <- struct{}{}
		wg.Go(func() {
			defer func() { <-slot }()
			found := f.ask(ctx, address)
			f.add(found)
			if found.Key != "" || found.Refused == "" {
				mu.Lock()
				defer mu.Unlock()
				a.Heard++
			}
		})
	}
	wg.Wait()
	return a
}

// add notes what was found, once.
func (f *finder) add(one Found) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := one.Box + " " + one.Key + " " + one.Address
	if one.Refused == "" {
		key = one.Box + " " + one.Key // one box, at whichever address was first
	}
	if f.seen[key] || len(f.found) >= maxFound {
		return
	}
	f.seen[key] = true
	one.Way, one.Took = f.way, time.Since(f.since)
	one.TookMs = milliseconds(one.Took)
	if one.Refused == "" && f.first.IsZero() {
		f.first = time.Now()
	}
	f.found = append(f.found, one)
}
