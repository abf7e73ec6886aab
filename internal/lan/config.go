package lan

import (
	"context"
	"crypto/tls"
	"time"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/lan/wire"
)

// Config says how to serve. Zero durations and counts mean the default.
type Config struct {
	Listen  string   // host:port; port 0 takes a free one
	Venue   string   // the box's venue; tokens of any other are refused
	Box     string   // id of the box
	Version string   // of the program; both stand in the header of every answer
	CORS    []string // origins allowed besides the dashboards' and the box's own
	Hosts   []string // names of the box, besides localhost and its addresses

	// TLS is for clients that want it, on the same port as those that do not;
	// nil: none may.
	TLS *tls.Config

	PingInterval time.Duration // 25 s
	PingTimeout  time.Duration // 20 s

	Transport Transport // Fast

	// Redis is where the other boxes of the venue are met:
	// redis[s]://[[user]:password@]host[:port]; empty: this one is alone.
	Redis string

	MaxConnections      int           // 500; beyond it transports are closed
	MaxEventsPerWindow  int           // events of one socket per window; 0: no limit
	MaxEventsPerAddress int           // events of all sockets of one address per window; 0: no limit
	RateWindow          time.Duration // 15 min

	HeaderTimeout  time.Duration // 10 s, for the header of a request
	BodyTimeout    time.Duration // 30 s, for its body
	ConnectTimeout time.Duration // 5 s, from the transport to the session
	StallTimeout   time.Duration // 30 s, without taking any of what waits for it; also of a write of HTTP

	Waits Waits // for terminals that a POS asked for something

	Cloud Cloud // nil: none is configured

	// Now is the wall clock by which events and sessions grow old.
	Now func() time.Time // time.Now

	// Trusted is the clock by which events expire; default Now.
	Trusted func() time.Time
}

// Transport names who carries WebSocket connections and broadcasts.
type Transport string

// The transports.
const (
	Fast    Transport = "fast"    // our own, internal/lan/wire
	Library Transport = "library" // the library's, slower, in case ours is at fault
)

func (c Config) withDefaults() Config {
	if c.Transport == "" {
		c.Transport = Fast
	}
	if !wire.Direct {
		c.Transport = Library
	}
	if c.PingInterval == 0 {
		c.PingInterval = 25 * time.Second
	}
	if c.PingTimeout == 0 {
		c.PingTimeout = 20 * time.Second
	}
	if c.MaxConnections == 0 {
		c.MaxConnections = 500
	}
	if c.RateWindow == 0 {
		c.RateWindow = 15 * time.Minute
	}
	if c.HeaderTimeout == 0 {
		c.HeaderTimeout = 10 * time.Second
	}
	if c.BodyTimeout == 0 {
		c.BodyTimeout = 30 * time.Second
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = 5 * time.Second
	}
	if c.StallTimeout == 0 {
		c.StallTimeout = 30 * time.Second
	}
	c.Waits = c.Waits.withDefaults()
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Trusted == nil {
		c.Trusted = c.Now
	}
	return c
}

// Verifier turns a token into a grant. The text of its error is what the
// client reads. Safe for concurrent use.
type Verifier interface {
	Verify(token string) (auth.Grant, error)
	// Lapsed reports whether the time of a grant is over.
	Lapsed(g auth.Grant) bool
	// DeviceRevoked reports whether a terminal is taken back, whoever says to be
	// it; Proven, whether it has shown a token of its own lately, so that it
	// need not be believed without one.
	DeviceRevoked(serial string) bool
	Proven(serial string) bool
	// KnownAs has alias asked for the other id of a terminal, by which it may be
	// taken back, too.
	KnownAs(alias func(serial string) string)
}

// Journal is where events are kept. Safe for concurrent use.
type Journal interface {
	// Enqueue hands an event over to be stored. If it returns nil, done is
	// called exactly once, on any goroutine and possibly before Enqueue
	// returns: with a receipt once the event is on disk, or with an error. It
	// waits for room until ctx ends. An error that is an *event.Refusal goes
	// to the sender as it is; any other means: not stored, try again.
	Enqueue(ctx context.Context, e *event.Event, done func(event.Receipt, error)) error
	// Read returns stored events behind after, in order, at least one if there
	// is one, and none is an end. They must not be changed.
	Read(after event.Seq, maxEvents, maxBytes int) ([]event.Event, error)
	// Wait returns nil once something behind after is stored.
	Wait(ctx context.Context, after event.Seq) error
	Stored() event.Seq
	Epoch() event.Epoch
}

// State keeps small values under names. Put is durable on return, keeps the
// entries it does not name, and takes nil as a removal. All returns what is
// sound besides its error, if it can read anything.
type State interface {
	Put(space string, entries map[string][]byte) error
	All(space string) (map[string][]byte, error)
}
