package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/grandcat/zeroconf"
)

const (
	// Service is the DNS-SD service type of a box (RFC 6763).
	Service = "_avoqado-edge._tcp"

	// domain has no dot at its end: with one, the library appends it to the
	// host name a second time.
	domain = "local"

	// path is where the Socket.IO server answers, for clients that ask TXT.
	path = "/socket.io/"

	// ttl is how long others believe an announcement, in seconds: a box that
	// lost its power is forgotten after two minutes. It is what RFC 6762 §10
	// wants for addresses; the library's 3200 would leave the rest behind for
	// an hour.
	ttl = 120

	// pollEvery is how often the network is looked at. Polling works on every
	// system and costs a few system calls.
	pollEvery = 5 * time.Second

	// settleFor is how long the network must stay the same before a running
	// announcement is replaced: DHCP and IPv6 change it in several steps.
	settleFor = 2 * time.Second

	// slowest is how long a refused announcement is left alone at most.
	slowest = time.Minute

	// notYet is no fingerprint of any network.
	notYet = "not yet"
)

// Config is what a box says of itself.
type Config struct {
	Box     string // its id: 1 to 64 letters, digits, _ or -
	Venue   string
	Name    string // for people; empty: not announced
	Port    int    // of the LAN listener, as bound
	TLS     bool   // the listener speaks TLS
	Version string // of the software

	// Interfaces are the network interfaces to announce on. Empty: every one
	// that can multicast and has an address, or the loopback interface if
	// there is none, so that a machine with no network works all the same.
	Interfaces []string

	// State returns what the box says of how it is, StateOK or StateFull. It
	// is asked every few seconds, by one goroutine. Nil: always StateOK.
	State func() string
}

// The values of the TXT key "state".
const (
	StateOK      = "ok"
	StateFull    = "full"    // events are refused for want of room
	StateLeaving = "leaving" // the box stops; said right before the goodbye
)

// Status is what an operator wants to know about the announcement.
type Status struct {
	Announced  bool      `json:"announced"`
	Since      time.Time `json:"since"`      // of Announced
	Instance   string    `json:"instance"`   // such as avq-box1._avoqado-edge._tcp.local.
	Host       string    `json:"host"`       // such as avq-box1.local.
	Interfaces []string  `json:"interfaces"` // such as "eth0 192.168.1.10"
	Error      string    `json:"error,omitempty"`
}

// Announcer announces one box.
type Announcer struct {
	label  string
	port   int
	txt    []string // without the state
	state  func() string
	wanted []string
	poll   time.Duration // pollEvery
	settle time.Duration // settleFor
	log    *slog.Logger

	// Owned by Run.
	server    *zeroconf.Server // nil: nothing is announced
	nics      []nic            // what it announces on
	announced string           // the network it was made for, see fingerprint
	seen      string           // the network as last seen
	failures  int              // since something was announced
	said      string           // the state as last announced

	mu     sync.Mutex // guards below
	status Status
}

// New returns an announcer, or an error if the configuration cannot be
// announced by anybody. It sends nothing yet.
func New(c Config, log *slog.Logger) (*Announcer, error) {
	if c.Box == "" || c.Venue == "" {
		return nil, errors.New("announce box: no box or venue given")
	}
	if c.Port < 1 || c.Port > 65535 {
		return nil, fmt.Errorf("announce box: port %d is not within 1 and 65535", c.Port)
	}
	a := &Announcer{
		label:     Label(c.Box),
		port:      c.Port,
		wanted:    slices.Clone(c.Interfaces),
		poll:      pollEvery,
		settle:    settleFor,
		log:       log,
		announced: notYet,
		state:     c.State,
	}
	if a.state == nil {
		a.state = func() string { return StateOK }
	}
	tls := "0"
	if c.TLS {
		tls = "1"
	}
	for _, pair := range [][2]string{
		{"v", c.Version}, {"venue", c.Venue}, {"box", c.Box}, {"path", path}, {"tls", tls}, {"name", c.Name},
	} {
		text := pair[0] + "=" + pair[1]
		if len(text) > 255 {
			return nil, fmt.Errorf("announce box: %s is %d bytes long, a TXT string holds 255", pair[0], len(text))
		}
		if pair[1] != "" {
			// The DNS library reads what it sends as a zone file would be read.
			a.txt = append(a.txt, strings.ReplaceAll(text, `\`, `\\`))
		}
	}
	a.status = Status{
		Since:      time.Now(),
		Instance:   a.label + "." + Service + "." + domain + ".",
		Host:       a.label + "." + domain + ".",
		Interfaces: []string{},
	}
	return a, nil
}

// String names the part in logs.
func (a *Announcer) String() string { return "discovery" }

// Status returns what is announced now. It may be called at any time.
func (a *Announcer) Status() Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.status
	s.Interfaces = slices.Clone(s.Interfaces)
	return s
}

// Run announces the box until ctx ends, says goodbye, and returns nil. Trouble
// with the network is logged, shown in the status and tried again: a venue
// whose terminals know the box's address works without any announcement.
func (a *Announcer) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			a.say(StateLeaving)
			a.withdraw()
			a.set(nil)
			return nil
		case <-timer.C:
			timer.Reset(a.look())
		}
	}
}

// look compares the network with what is announced, and says when to look
// again.
func (a *Announcer) look() time.Duration {
	nics, err := choose(a.wanted)
	if err != nil {
		a.set(err) // nothing is known of the network, so nothing is changed
		return a.poll
	}
	now := fingerprint(nics)
	changed := now != a.seen
	a.seen = now
	switch {
	case now == a.announced && (a.server != nil || len(nics) == 0):
		a.say(a.state())
		a.set(noInterface(nics))
		return a.poll
	case changed && a.server != nil:
		return a.settle
	}
	a.withdraw()
	a.announced = now
	if len(nics) > 0 {
		if err = a.register(nics); err != nil {
			a.set(fmt.Errorf("announce on %s: %w", names(nics), err))
			a.failures++
			return min(a.poll<<min(a.failures, 8), slowest)
		}
	}
	a.failures = 0
	a.set(noInterface(nics))
	return a.poll
}

func noInterface(nics []nic) error {
	if len(nics) == 0 {
		return errors.New("no network interface to announce on")
	}
	return nil
}

// register starts answering for the box on the given interfaces.
func (a *Announcer) register(nics []nic) error {
	ifaces := make([]net.Interface, len(nics))
	for i, n := range nics {
		ifaces[i] = n.Interface
	}
	// With no addresses given, the library answers each question with the
	// addresses of the interface it came in on. Nothing else would do: every
	// socket on the mDNS port hears the questions of all interfaces, so one
	// server per interface would answer on the others' with its own address.
	// It leaves loopback addresses out, so those have to be given.
	var ips []string
	if nics[0].loopback() {
		ips = nics[0].ips()
	}
	state := a.state()
	server, err := zeroconf.RegisterProxy(a.label, Service, domain, a.port, a.label+"."+domain+".", ips, a.text(state), ifaces)
	if err != nil {
		return err
	}
	a.said = state
	shorten(server)
	a.server, a.nics = server, nics
	return nil
}

// text returns the TXT record with a state.
func (a *Announcer) text(state string) []string { return append(slices.Clone(a.txt), "state="+state) }

// say announces a state if it is news. The library keeps the record in a field
// that its own goroutines read without a lock; the new one is as long, and
// whole before it is put there, and a question answered at that moment gets
// one or the other.
//
//go:norace
func (a *Announcer) say(state string) {
	if a.server != nil && state != a.said {
		a.server.SetText(a.text(state))
		a.said = state
	}
}

// shorten sets the TTL of what the server says. The library has already
// started goroutines that read it and offers no earlier moment; it is one
// aligned word, so they see the old TTL or the new. The first announcement
// comes after the probes and has the new one.
//
//go:norace
func shorten(server *zeroconf.Server) { server.TTL(ttl) }

// withdraw says goodbye, so that others forget the box at once.
func (a *Announcer) withdraw() {
	if a.server != nil {
		a.server.Shutdown()
		a.server, a.nics = nil, nil
	}
}

// set records what is announced now, and logs it if that is news.
func (a *Announcer) set(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	next := a.status
	next.Announced, next.Error, next.Interfaces = a.server != nil, "", []string{}
	if err != nil {
		next.Error = err.Error()
	}
	for _, n := range a.nics {
		next.Interfaces = append(next.Interfaces, n.Name+" "+strings.Join(n.ips(), " "))
	}
	if next.Announced != a.status.Announced {
		next.Since = time.Now()
	}
	switch {
	case next.Error != a.status.Error && next.Error != "":
		a.log.Warn("box is not announced", "error", next.Error)
	case next.Announced && !slices.Equal(next.Interfaces, a.status.Interfaces):
		a.log.Info("box announced", "host", next.Host, "port", a.port, "interfaces", next.Interfaces)
	case !next.Announced && a.status.Announced:
		a.log.Info("box no longer announced")
	}
	a.status = next
}
