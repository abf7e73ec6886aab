package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// Service is the DNS-SD service type of a box (RFC 6763).
	Service = "_avoqado-edge._tcp"

	// SocketPath is where the Socket.IO server answers, for clients that ask.
	SocketPath = "/socket.io/"

	// pollEvery is how often network and state are looked at. Where the kernel
	// tells of changes the network is looked at then, too.
	pollEvery = time.Second

	// settleFor is how long after a change the network is looked at: it changes
	// in several steps.
	settleFor = 100 * time.Millisecond

	// leaveFor is how long terminals have to hear that the box leaves, before the
	// goodbye makes them forget it: avahi takes up to 200 ms to say anything, and
	// says only the goodbye if that comes meanwhile.
	leaveFor = 600 * time.Millisecond

	// slowest is how long a refused announcement is left alone at most.
	slowest = time.Minute

	// maxRenames bounds the names that are tried, "avq-box1-2" to "-50".
	maxRenames = 50
)

// Mode says who answers for the box.
type Mode string

// The modes.
const (
	ModeAuto    Mode = "auto"    // avahi-daemon if the machine has one, else the box itself
	ModeAvahi   Mode = "avahi"   // avahi-daemon alone
	ModeBuiltin Mode = "builtin" // the box itself
)

// Config is what a box says of itself.
type Config struct {
	Mode    Mode   // empty: ModeAuto
	Box     string // its id: 1 to 64 letters, digits, _ or -
	Venue   string
	Name    string // for people; empty: not announced
	Port    int    // of the LAN listener, as bound
	TLS     bool   // the listener speaks TLS
	Version string // of the software
	Key     string // fingerprint of the box's key; empty: not announced

	// Fingerprint returns that of the box's CA, empty if it has none. Asked
	// every second, by one goroutine. Nil: there is none.
	Fingerprint func() string

	// POSHub also announces the box to the POS tablets, which look for
	// _avoqado-pos._tcp.
	POSHub bool

	// Interfaces are the network interfaces to announce on. Empty: every one
	// that can multicast and has an address, or the loopback interface if
	// there is none, so that a machine with no network works all the same.
	Interfaces []string

	// Address is the one that the LAN listener is bound to, and so the only one
	// that is announced. The zero Addr, or an unspecified one: all.
	Address netip.Addr

	// State returns what the box says of how it is, StateOK or StateFull. It
	// is asked every second, by one goroutine. Nil: always StateOK.
	State func() string
}

// The values of the TXT key "state".
const (
	StateOK      = "ok"
	StateFull    = "full"    // events or clients are refused for want of room
	StateLeaving = "leaving" // the box stops; said right before the goodbye
)

// Status is what an operator wants to know about the announcement.
type Status struct {
	Announced  bool      `json:"announced"`
	Since      time.Time `json:"since"`      // of Announced
	By         string    `json:"by"`         // "avahi" or "builtin"; empty: not announced
	Instance   string    `json:"instance"`   // such as avq-box1._avoqado-edge._tcp.local.
	Host       string    `json:"host"`       // such as avq-box1.local.
	Interfaces []string  `json:"interfaces"` // such as "eth0 192.168.1.10"
	Error      string    `json:"error,omitempty"`
}

// publisher says records by mDNS.
type publisher interface {
	// publish makes rec what is said, instead of what was. It returns once the
	// names are known to be free, or errTaken. It may take some seconds.
	publish(ctx context.Context, rec records) error
	// check is called every second and returns errTaken if another host turned
	// up with a name, or another error if the publisher is of no use any more.
	check() error
	// withdraw says goodbye and ends the publisher.
	withdraw()
	String() string
}

// Announcer announces one box.
type Announcer struct {
	cfg    Config
	boot   time.Time
	poll   time.Duration // pollEvery
	settle time.Duration // settleFor
	log    *slog.Logger

	// Owned by Run.
	publisher publisher // nil: none is open
	published records   // no label: nothing is
	renames   int       // how often another host had the name
	failures  int       // since something was announced
	retryAt   time.Time // of what failed

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
	if c.Mode == "" {
		c.Mode = ModeAuto
	}
	if c.State == nil {
		c.State = func() string { return StateOK }
	}
	if c.Fingerprint == nil {
		c.Fingerprint = func() string { return "" }
	}
	c.Interfaces, c.Address = slices.Clone(c.Interfaces), c.Address.Unmap().WithZone("")
	a := &Announcer{cfg: c, boot: time.Now(), poll: pollEvery, settle: settleFor, log: log}
	for _, s := range a.services(StateOK, nil) {
		for _, t := range s.txt {
			if len(t) > 255 {
				key, _, _ := strings.Cut(t, "=")
				return nil, fmt.Errorf("announce box: %s is %d bytes long, a TXT string holds 255", key, len(t))
			}
		}
	}
	a.status = a.named(Status{Since: time.Now(), Interfaces: []string{}})
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
	var wg sync.WaitGroup
	defer wg.Wait()
	changed := make(chan struct{}, 1)
	wg.Go(func() { watch(ctx, changed) })
	timer := time.NewTimer(0)
	defer timer.Stop()
	settling := false // a network that never rests is looked at all the same
	for {
		select {
		case <-ctx.Done():
			a.leave()
			return nil
		case <-changed:
			if !settling {
				timer.Reset(a.settle)
				settling = true
			}
			a.retryAt = time.Time{}
		case <-timer.C:
			settling = false
			a.set(a.look(ctx))
			timer.Reset(a.poll)
		}
	}
}

// leave tells terminals to look for another box, and then says goodbye.
func (a *Announcer) leave() {
	if a.published.label != "" {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		rec := a.published
		rec.services = a.services(StateLeaving, rec.nics)
		if a.publisher.publish(ctx, rec) == nil {
			_ = sleep(ctx, leaveFor)
		}
	}
	a.withdraw()
	a.set(nil)
}

// look compares what there is to say with what is said.
func (a *Announcer) look(ctx context.Context) error {
	nics, err := choose(a.cfg.Interfaces)
	if err != nil {
		return err // nothing is known of the network, so nothing is changed
	}
	if a.bound() {
		nics = serving(nics, a.cfg.Address)
	}
	if len(nics) == 0 {
		a.withdraw()
		if a.bound() {
			return fmt.Errorf("no network interface to announce on has the address %s, at which alone the box serves (lan.listen)", a.cfg.Address)
		}
		return errors.New("no network interface to announce on")
	}
	if time.Now().Before(a.retryAt) {
		return errors.New(a.Status().Error)
	}
	if err = a.say(ctx, nics); err == nil {
		a.failures = 0
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err() // Run says goodbye
	}
	a.withdraw() // a new one finds out whether avahi is there
	a.retryAt = time.Now().Add(min(a.poll<<min(a.failures, 8), slowest))
	a.failures++
	return fmt.Errorf("announce on %s: %w", names(nics), err)
}

// bound reports whether the box serves at one address alone.
func (a *Announcer) bound() bool { return a.cfg.Address.IsValid() && !a.cfg.Address.IsUnspecified() }

// say makes what is announced true, under another name if this one is taken.
func (a *Announcer) say(ctx context.Context, nics []nic) error {
	if err := a.open(ctx, nics); err != nil {
		return err
	}
	if a.published.label != "" {
		if err := a.publisher.check(); errors.Is(err, errTaken) {
			a.published = records{} // it is claimed again: one of the two defends it
		} else if err != nil {
			return err
		}
	}
	for {
		rec := records{label: a.label(), services: a.services(a.cfg.State(), nics), nics: nics}
		if rec.equal(a.published) {
			return nil
		}
		err := a.publisher.publish(ctx, rec)
		if !errors.Is(err, errTaken) {
			if err == nil {
				a.published = rec
			}
			return err
		}
		if a.renames++; a.renames >= maxRenames {
			a.renames = 0
			return err
		}
		a.log.Warn("another host has the box's name", "host", rec.host(), "next", a.label()+"."+domain)
	}
}

// open has a publisher. A machine without network is nothing for avahi, which
// leaves the loopback interface out.
func (a *Announcer) open(ctx context.Context, nics []nic) error {
	alone := nics[0].loopback()
	if _, is := a.publisher.(*avahi); is && alone && a.cfg.Mode == ModeAuto {
		a.withdraw()
	}
	if _, is := a.publisher.(*responder); is && !alone && a.cfg.Mode == ModeAuto && len(a.published.nics) > 0 && a.published.nics[0].loopback() {
		a.withdraw()
	}
	if a.publisher != nil {
		return nil
	}
	if a.cfg.Mode == ModeAvahi || (a.cfg.Mode == ModeAuto && !alone) {
		p, err := newAvahi(ctx)
		if err == nil {
			a.publisher = p
			return nil
		}
		if a.cfg.Mode == ModeAvahi {
			return err
		}
		if !errors.Is(err, errNoAvahi) {
			a.log.Warn("avahi does not take the box, it announces itself", "err", err)
		}
	}
	p, err := newResponder(a.log)
	if err != nil {
		return err
	}
	a.publisher = p
	return nil
}

// withdraw says goodbye, so that others forget the box at once.
func (a *Announcer) withdraw() {
	if a.publisher != nil {
		a.publisher.withdraw()
	}
	a.publisher, a.published = nil, records{}
}

// label returns the name the box goes by now: its own, or a numbered one if
// other hosts have that.
func (a *Announcer) label() string {
	label := Label(a.cfg.Box)
	if a.renames == 0 {
		return label
	}
	suffix := "-" + strconv.Itoa(a.renames+1)
	return label[:min(len(label), maxLabel-len(suffix))] + suffix
}

// services returns what the box offers.
func (a *Announcer) services(state string, nics []nic) []service {
	c := a.cfg
	port := uint16(c.Port) //nolint:gosec // checked by New
	list := []service{{kind: Service, label: a.label(), port: port, txt: pairs([][2]string{
		{"v", c.Version},
		{"venue", c.Venue},
		{"box", c.Box},
		{"name", c.Name},
		{"path", SocketPath},
		{"tls", bit(c.TLS)},
		{"fp", c.Fingerprint()},
		{"key", c.Key},
		{"state", state},
	})}}
	if c.POSHub {
		list = append(list, a.posService(port, nics))
	}
	return list
}

// pairs returns the strings of a TXT record (RFC 6763 §6), without empty ones.
func pairs(list [][2]string) []string {
	var txt []string
	for _, p := range list {
		if p[1] != "" {
			txt = append(txt, p[0]+"="+p[1])
		}
	}
	return txt
}

func bit(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

// named fills in the names the box goes by.
func (a *Announcer) named(s Status) Status {
	s.Host = a.label() + "." + domain
	s.Instance = a.label() + "." + Service + "." + domain
	return s
}

// set records what is announced now, and logs it if that is news.
func (a *Announcer) set(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	next := a.named(a.status)
	next.Announced, next.Error, next.Interfaces, next.By = a.published.label != "", "", []string{}, ""
	if err != nil {
		next.Error = err.Error()
	}
	if next.Announced {
		next.By = a.publisher.String()
	}
	for _, n := range a.published.nics {
		next.Interfaces = append(next.Interfaces, n.Name+" "+strings.Join(n.ips(), " "))
	}
	if next.Announced != a.status.Announced {
		next.Since = time.Now()
	}
	switch {
	case next.Error != a.status.Error && next.Error != "":
		a.log.Warn("box is not announced", "error", next.Error)
	case next.Announced && (!slices.Equal(next.Interfaces, a.status.Interfaces) || next.By != a.status.By || next.Host != a.status.Host):
		a.log.Info("box announced", "host", next.Host, "port", a.cfg.Port, "by", next.By, "interfaces", next.Interfaces)
	case !next.Announced && a.status.Announced:
		a.log.Info("box no longer announced")
	}
	a.status = next
}
