package uplink

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// Confirmation says whose word the cursor believes.
type Confirmation string

// The two confirmations. Only Backend makes "synced" mean that the back-end
// has committed the event; Broker means that a broker has taken it.
const (
	Broker  Confirmation = "broker"  // a PUBACK
	Backend Confirmation = "backend" // the back-end's message on acks
)

// Config is what an uplink needs to know. The zero value of a field means its
// default where one is named.
type Config struct {
	// Brokers are tried in order at each attempt: tcp://, tls://, ws:// or
	// wss:// URLs without user information. At least one.
	Brokers []string

	// Venue and Box match [A-Za-z0-9_-]{1,64}. Version goes into the status.
	Venue, Box, Version string

	// Prefix is the topic prefix; default avoqado/v1/venues/<Venue>.
	Prefix string

	// Confirm is what moves the cursor; default Backend.
	Confirm Confirmation

	// Username and Password are sent if Username is set. PasswordFile, if set,
	// is read anew at each connection and wins over Password, so that a
	// password or token may be rotated under a running box.
	Username, Password string
	PasswordFile       string

	// CAFile holds the PEM certificates to trust besides none other; default:
	// the system's. CertFile and KeyFile hold a client certificate. All are
	// read anew at each connection.
	CAFile, CertFile, KeyFile string

	// Proxy is an HTTP proxy on the way to every broker, asked by CONNECT:
	// http://[user:password@]host[:port]. [NoProxy] goes without; empty takes
	// what HTTPS_PROXY, HTTP_PROXY and NO_PROXY say.
	Proxy string

	// Resolver looks up names; nil: the system's.
	Resolver *net.Resolver

	// Probe is an http:// URL that answers 204 where there is internet, and
	// something else behind a captive portal. Asked only when no broker can be
	// reached; empty: never.
	Probe string

	// Built is when this program was made: no clock that says less is right.
	// ClockSynced reports whether something disciplines the clock; nil: unknown,
	// and it is believed.
	Built       time.Time
	ClockSynced func() bool

	// Compress sends large batches of a backlog gzipped.
	Compress bool

	// Live sends what happens now before the backlog, as early copies on a topic
	// of its own.
	Live bool

	// KeepAlive is how soon a dead link is noticed, 1 s to 1 h; default 30 s. A
	// silent one is asked for a sign of life after a third of it.
	KeepAlive time.Duration

	// RetryMin and RetryMax bound the pause between two attempts to connect;
	// defaults 1 s and 60 s.
	RetryMin, RetryMax time.Duration

	// ConfirmWait is how long the back-end's first confirmation is waited for
	// before sending again; doubled each time up to 60 s. Default 2 s.
	ConfirmWait time.Duration

	// Telemetry returns the counters that go up every minute; it encodes to
	// JSON. May be nil; must not block for long.
	Telemetry func() any

	// When returns when an event happened, as well as is known when it is sent.
	// Nil: at the time it has, and nobody knows how far off that is. Must not
	// block.
	When func(*event.Event) event.Timing

	// Key is the fingerprint of the box's key, for the status topic. Empty: it
	// has none.
	Key string

	// LANAddrs returns the addresses at which terminals reach the box, for the
	// status. May be nil; must not block for long.
	LANAddrs func() []string

	renewEvery time.Duration // how often a live link looks for new certificates
	calm       time.Duration // how long a link must have stood before it is sent what may have ended the last one
}

// The times and sizes that the contract or the protocol fixes.
const (
	maxBatchEvents = 256       // contract: events in a message
	maxBatchBytes  = 128 << 10 // contract: bytes of a message
	compressAbove  = 16 << 10  // smaller batches do not repay the CPU

	connectTimeout   = 10 * time.Second // TCP, TLS and CONNACK together
	resolveTimeout   = 5 * time.Second  // the name server, in it
	subscribeTimeout = 10 * time.Second
	writeTimeout     = 10 * time.Second // no byte of a packet goes
	handover         = time.Second      // one try to pass a packet to the library
	pubackTimeout    = 30 * time.Second // no PUBACK at all, with publishes open
	farewellTimeout  = 1500 * time.Millisecond
	stopTimeout      = 5 * time.Second // for the library to end its goroutines

	cursorEvery    = 100 * time.Millisecond // a cursor move costs an fsync
	statusEvery    = 2 * time.Second
	telemetryEvery = time.Minute
	rewindEvery    = time.Second // on a hint from the back-end
	watchAgain     = time.Second // if the journal has more and gives nothing
	confirmMax     = 60 * time.Second
	steadyAfter    = 30 * time.Second // a link this old resets the retry pause
	cursorName     = "uplink"
	clientPrefix   = "avoqado-edge-"
)

var (
	idPattern     = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	prefixPattern = regexp.MustCompile(`^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$`)
)

// withDefaults returns the config with defaults filled in, or every problem it
// has in one error.
func (c Config) withDefaults() (Config, []*url.URL, error) {
	var problems []error
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }

	if !idPattern.MatchString(c.Venue) {
		bad("venue id %q does not match %s", c.Venue, idPattern)
	}
	if !idPattern.MatchString(c.Box) {
		bad("box id %q does not match %s", c.Box, idPattern)
	}
	if c.Prefix == "" {
		c.Prefix = "avoqado/v1/venues/" + c.Venue
	}
	if !prefixPattern.MatchString(c.Prefix) {
		bad("topic prefix %q does not match %s", c.Prefix, prefixPattern)
	}
	if c.Confirm == "" {
		c.Confirm = Backend
	}
	if c.Confirm != Broker && c.Confirm != Backend {
		bad("confirmation %q is neither broker nor backend", c.Confirm)
	}
	setDefault(&c.KeepAlive, 30*time.Second)
	setDefault(&c.RetryMin, time.Second)
	setDefault(&c.RetryMax, 60*time.Second)
	setDefault(&c.ConfirmWait, 2*time.Second)
	setDefault(&c.renewEvery, 10*time.Second)
	setDefault(&c.calm, time.Second)
	if _, err := parseProxy(c.Proxy); err != nil {
		problems = append(problems, err)
	}
	if u, err := url.Parse(c.Probe); c.Probe != "" && (err != nil || u.Scheme != "http" || u.Host == "") {
		bad("probe %q is not an http:// URL", c.Probe)
	}
	if c.KeepAlive < time.Second || c.KeepAlive > time.Hour {
		bad("keep-alive %s is not between 1s and 1h", c.KeepAlive)
	}
	if c.RetryMin < 0 || c.RetryMax < c.RetryMin {
		bad("retry pause %s to %s is not a range", c.RetryMin, c.RetryMax)
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		bad("client certificate and key are not both set")
	}
	brokers := make([]*url.URL, 0, len(c.Brokers))
	for _, raw := range c.Brokers {
		u, err := parseBroker(raw)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		brokers = append(brokers, u)
	}
	if len(c.Brokers) == 0 {
		bad("no broker is named")
	}
	return c, brokers, errors.Join(problems...)
}

func setDefault(d *time.Duration, value time.Duration) {
	if *d == 0 {
		*d = value
	}
}

// parseBroker never puts the URL itself into an error if it may hold a secret.
func parseBroker(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("broker is not a URL")
	}
	if u.User != nil {
		return nil, fmt.Errorf("broker %s: user name and password belong into their own settings", u.Redacted())
	}
	// Other tools write the schemes so.
	if same := map[string]string{"mqtt": "tcp", "mqtts": "tls", "ssl": "tls"}[u.Scheme]; same != "" {
		u.Scheme = same
	}
	port := map[string]string{"tcp": "1883", "tls": "8883", "ws": "80", "wss": "443"}[u.Scheme]
	switch {
	case port == "":
		return nil, fmt.Errorf("broker %s: scheme is not tcp, tls, ws or wss", raw)
	case u.Hostname() == "":
		return nil, fmt.Errorf("broker %s: no host", raw)
	case u.Port() == "":
		u.Host += ":" + port
	}
	return u, nil
}

// password returns what to send as password now.
func (c *Config) password() (string, error) {
	if c.PasswordFile == "" {
		return c.Password, nil
	}
	raw, err := os.ReadFile(c.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("read password file: %w", err)
	}
	return strings.TrimRight(string(raw), "\r\n"), nil
}

// topics are the names of one box's topics.
type topics struct {
	events, gzip, live, acks, status, telemetry, commands, results string // of this box
	broadcasts, config                                             string // of the venue
}

// down returns the topics that a box listens to.
func (t *topics) down() [subscriptions]string {
	return [...]string{t.acks, t.commands, t.broadcasts, t.config}
}

func (c *Config) topics() topics {
	box := c.Prefix + "/boxes/" + c.Box
	return topics{
		events: box + "/events", gzip: box + "/events/gzip", live: box + "/events/live", acks: box + "/acks",
		status: box + "/status", telemetry: box + "/telemetry", commands: box + "/commands", results: box + "/commands/results",
		broadcasts: c.Prefix + "/broadcasts", config: c.Prefix + "/config",
	}
}
