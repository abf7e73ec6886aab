package discovery

import (
	"cmp"
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

	// knownFirst is how long known addresses are waited for before mDNS is
	// listened to besides, browseFirst how long that before the network is
	// scanned besides: together with a scan less than 3 s. browseFor is how long
	// an answer by mDNS is waited for at all, quietFor how long for another one
	// after the last.
	knownFirst  = 300 * time.Millisecond
	browseFirst = 1500 * time.Millisecond
	browseFor   = 3 * time.Second
	quietFor    = time.Second

	// lead is how much later the IPv6 addresses of a box are asked.
	lead = 100 * time.Millisecond

	// maxFound bounds what strangers can make a search remember, maxAsked how
	// many announcements it follows.
	maxFound = 256
	maxAsked = 1024
)

// Search says what is looked for.
type Search struct {
	Venue string   // empty: any
	Box   string   // empty: any
	Key   string   // fingerprint of the box's key; empty: any
	Known []string // host:port, as remembered or from a QR code

	Interfaces []string      // empty: all
	Browse     time.Duration // how long mDNS is listened to; 0: 3 s; negative: not at all
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
	Silent   bool          `json:"silent,omitempty"`   // that is since nobody answers there
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
	Found    []Found       `json:"found"`  // may be used, those with room first
	Refused  []Found       `json:"refused"`
	Attempts []Attempt     `json:"attempts"`
	Advice   string        `json:"advice,omitempty"` // what to do if no box was found, or one twice
}

// Find looks for boxes as a terminal would: first it asks the addresses it was
// given, then it listens to mDNS, last it asks each address of its own network.
// A way that has led to no box in its time gets company by the next, and no
// other is begun once one has led to a box. What answers is asked for its card,
// and used only if the card is signed and lists the address it came from. Find
// returns at the latest when ctx ends, with what it has.
func Find(ctx context.Context, s Search) Report {
	began := time.Now()
	f := &finder{search: s, client: newClient(), won: make(chan struct{}), seen: map[string]bool{}, met: map[netip.Addr]bool{}}
	var ways []*way
	for _, w := range []*way{
		{name: WayKnown, try: f.known, skip: len(s.Known) == 0, alone: knownFirst},
		{name: WayMDNS, try: f.browse, skip: s.Browse < 0, alone: browseFirst},
		{name: WayScan, try: f.scan, skip: !s.Scan},
	} {
		if !w.skip {
			ways = append(ways, w)
		}
	}
	started := f.run(ctx, ways)
	r := Report{Found: []Found{}, Refused: []Found{}, Attempts: []Attempt{}}
	for _, w := range started {
		r.Attempts = append(r.Attempts, w.Attempt)
	}
	if f.winner != nil {
		r.Way, r.Took = f.winner.name, f.first.Sub(began)
		r.TookMs = milliseconds(r.Took)
	}
	for _, one := range f.found {
		switch {
		case one.Refused == "":
			r.Found = append(r.Found, one)
		case !f.elsewhere(one):
			r.Refused = append(r.Refused, one)
		}
	}
	// One with room first: the others would turn a terminal away.
	slices.SortStableFunc(r.Found, func(a, b Found) int { return room(a) - room(b) })
	switch {
	case f.winner == nil:
		r.Advice = f.advice(&r)
	case posed(r.Found):
		r.Advice = adviceTwice
	}
	return r
}

// posed reports whether two that may be used say to be one box and are not:
// nobody said which key the box has.
func posed(list []Found) bool {
	for i, one := range list {
		if slices.ContainsFunc(list[:i], func(other Found) bool { return other.Box == one.Box && other.Key != one.Key }) {
			return true
		}
	}
	return false
}

func room(f Found) int {
	if f.State == StateOK {
		return 0
	}
	return 1
}

// elsewhere reports whether nobody answers at one address of what was found at
// another of its addresses.
func (f *finder) elsewhere(one Found) bool {
	return one.Silent && one.Instance != "" && slices.ContainsFunc(f.found, func(other Found) bool {
		return other.Refused == "" && other.Instance == one.Instance
	})
}

// way is one way to find a box, under way or done.
type way struct {
	Attempt
	name  string
	try   func(context.Context, *way)
	skip  bool
	alone time.Duration // before the next is tried beside it

	since  time.Time
	cancel context.CancelFunc
	done   chan struct{}
}

// run tries the ways and returns those that it began, when all have ended.
func (f *finder) run(ctx context.Context, ways []*way) (started []*way) {
	var all sync.WaitGroup
	for _, w := range ways {
		var own context.Context
		own, w.cancel = context.WithCancel(ctx)
		defer w.cancel()
		w.since, w.done = time.Now(), make(chan struct{})
		started = append(started, w)
		all.Go(func() {
			defer close(w.done)
			w.try(own, w)
			w.Way, w.Took = w.name, time.Since(w.since)
			w.TookMs = milliseconds(w.Took)
		})
		if !f.waitFor(ctx, w, w.alone) {
			break
		}
	}
	// The way that led to a box goes on for a moment: others may pose as it.
	for _, w := range started {
		select {
		case <-f.won:
		case <-w.done:
		}
	}
	for _, w := range started {
		if w != f.leads() {
			w.cancel()
		}
	}
	all.Wait()
	return started
}

// waitFor returns whether another way is to be begun: this one has ended, or
// has had its time, and no box is known.
func (f *finder) waitFor(ctx context.Context, w *way, alone time.Duration) bool {
	timer := time.NewTimer(alone)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-f.won:
		return false
	case <-w.done:
	case <-timer.C:
	}
	return ctx.Err() == nil && f.leads() == nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// finder is one search.
type finder struct {
	search Search
	client *client
	won    chan struct{} // closed when a box is known

	mu     sync.Mutex // guards below
	found  []Found
	first  time.Time           // when a box was known
	winner *way                // that led to it; nil: none did
	seen   map[string]bool     // box and address
	met    map[netip.Addr]bool // whoever answers there, box or not
}

// leads returns the way that led to a box, nil if none did yet.
func (f *finder) leads() *way {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.winner
}

// browse listens to mDNS until something useful was heard and it is quiet.
func (f *finder) browse(ctx context.Context, a *way) {
	limit := cmp.Or(f.search.Browse, browseFor)
	ifaces, err := multicastInterfaces(f.search.Interfaces)
	if err != nil {
		a.Error = err.Error()
		return
	}
	browse, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	announced := make(chan *zeroconf.ServiceEntry, maxFound) // closed by the library
	resolver, err := zeroconf.NewResolver(zeroconf.SelectIfaces(ifaces))
	if err == nil {
		err = resolver.Browse(browse, Service, strings.TrimSuffix(domain, "."), announced)
	}
	if err != nil { // another program may have the port; answers to our own come all the same
		a.Error, announced = "listen to mDNS: "+err.Error(), nil
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	answered := make(chan *zeroconf.ServiceEntry, maxFound)
	wg.Go(func() { askOnce(browse, ifaces, answered) })
	defer cancel() // before it is waited for
	h := hearing{finder: f, way: a, busy: map[string]bool{}, names: map[string]bool{}, quiet: time.NewTimer(limit)}
	defer h.quiet.Stop()
	for h.asked < maxAsked {
		var e *zeroconf.ServiceEntry
		select {
		case e = <-announced:
		case e = <-answered:
		case <-h.quiet.C:
			return
		case <-browse.Done():
			return
		}
		if e == nil {
			announced = nil // closed
			continue
		}
		h.take(ctx, &wg, e)
	}
}

// hearing is what was heard by mDNS so far. What is below mu is also used by
// those that ask.
type hearing struct {
	*finder
	way   *way
	quiet *time.Timer
	names map[string]bool // instances
	asked int             // announcements that were followed

	mu   sync.Mutex
	busy map[string]bool // announcements that are followed, or led to a box
}

// take follows an announcement, unless the same is being followed, or led to a
// box. What led nowhere is followed again when it is heard again: the box may
// have been about to get an address.
func (h *hearing) take(ctx context.Context, wg *sync.WaitGroup, e *zeroconf.ServiceEntry) {
	if len(h.names) < maxFound {
		h.names[e.Instance] = true
	}
	h.way.Heard = len(h.names)
	said := txt(e.Text)
	if h.search.Venue != "" && said["venue"] != "" && said["venue"] != h.search.Venue {
		return // another venue's, and it says so
	}
	key := fmt.Sprint(e.Instance, e.HostName, e.Port, e.AddrIPv4, e.AddrIPv6)
	h.mu.Lock()
	busy := h.busy[key]
	h.busy[key] = true
	h.mu.Unlock()
	if busy {
		return
	}
	h.asked++
	h.way.Asked += len(e.AddrIPv4) + len(e.AddrIPv6)
	wg.Go(func() {
		if h.resolve(ctx, h.way, e, said) {
			h.quiet.Reset(quietFor)
			return
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.busy, key)
	})
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

// resolve asks the addresses of an announcement, all at once, those of IPv4
// with a lead, and returns whether one is the box.
func (f *finder) resolve(ctx context.Context, w *way, e *zeroconf.ServiceEntry, said map[string]string) bool {
	var candidates []string
	for _, ip := range append(slices.Clone(e.AddrIPv4), e.AddrIPv6...) {
		if addr, ok := netip.AddrFromSlice(ip); ok {
			candidates = append(candidates, f.scoped(addr.Unmap(), e.Port)...)
		}
	}
	var all sync.WaitGroup
	defer all.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // the others need not end their questions
	answers := make(chan Found, len(candidates))
	for i, address := range candidates {
		all.Go(func() {
			if i >= len(e.AddrIPv4) && len(e.AddrIPv4) > 0 {
				_ = sleep(ctx, lead) // if it is cut short, so is the question
			}
			answers <- f.judge(ctx, e, said, address)
		})
	}
	last := Found{
		Box: said["box"], Venue: said["venue"], Instance: e.Instance, Address: net.JoinHostPort(strings.TrimSuffix(e.HostName, "."), fmt.Sprint(e.Port)),
		Refused: "it is announced without an address", Silent: true,
	}
	for range candidates {
		found := <-answers // each ends: askTimeout
		if found.Refused == "" {
			f.add(w, found)
			return true
		}
		if last.Key == "" { // who answered says more than who did not
			last = found
		}
	}
	f.add(w, last)
	return false
}

// judge asks an address that was announced.
func (f *finder) judge(ctx context.Context, e *zeroconf.ServiceEntry, said map[string]string, address string) Found {
	found := f.ask(ctx, address)
	found.Instance = e.Instance
	if found.Refused == "" && said["box"] != "" && said["box"] != found.Box {
		found.Refused = fmt.Sprintf("it is announced as box %s and says that it is %s", said["box"], found.Box)
	}
	if found.Box == "" {
		found.Box, found.Venue = said["box"], said["venue"]
	}
	return found
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
func (f *finder) known(ctx context.Context, a *way) {
	a.Asked = len(f.search.Known)
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		slot = make(chan struct{}, parallel)
	)
	defer wg.Wait()
	for _, address := range f.search.Known {
		slot <- struct{}{}
		wg.Go(func() {
			defer func() { <-slot }()
			found := f.ask(ctx, address)
			f.add(a, found)
			if found.Key != "" || found.Refused == "" {
				mu.Lock()
				defer mu.Unlock()
				a.Heard++
			}
		})
	}
}

// add notes what was found, once.
func (f *finder) add(w *way, one Found) {
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
	one.Way, one.Took = w.name, time.Since(w.since)
	one.TookMs = milliseconds(one.Took)
	if one.Refused == "" && f.winner == nil {
		f.first, f.winner = time.Now(), w
		close(f.won)
	}
	f.found = append(f.found, one)
}
