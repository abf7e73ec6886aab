package clock

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

const (
	// keepEvery is how often the time is written down.
	keepEvery = 10 * time.Minute

	// leap is by how much time may be ahead of what was written down last before
	// it must hold for proof: a wrong hour of a time server shall not be kept.
	leap  = 24 * time.Hour
	proof = time.Hour

	// recent is how old the cloud's word may be and still confirm the time: the
	// configuration it comes with is kept by broker and box.
	recent = 24 * time.Hour

	// service is for how long after its making a program is used at most: the
	// cloud is not believed that it is later.
	service = 25 * 365 * 24 * time.Hour

	// slew is by how much a clock that runs freely, or that is being led back to
	// the right time, may be wrong per unit of time: the most that the kernel
	// does to it (adjtimex(2)).
	slew = 500e-6

	// visible is from which difference on it is said that the system's clock and
	// the box's do not agree.
	visible = 2 * time.Second
)

// Sync says whether a time source disciplines the system's clock.
type Sync int

// What can be known of it.
const (
	Unknown Sync = iota // the system does not say
	Unsynced
	Synced
)

// Reading is what the system says at one moment.
type Reading struct {
	Wall  time.Time     // its clock, which may say anything
	Up    time.Duration // since the boot; goes on evenly whatever is done to Wall
	Sync  Sync
	Error time.Duration // of Wall, at most, if Synced
}

// Disciplined reports whether a time source disciplines the system's clock, as
// far as the system says.
func Disciplined() bool { return system()().Sync == Synced }

// Source is what made the clock believe in its time.
type Source string

// The sources.
const (
	None  Source = "none"
	Cloud Source = "cloud" // it was not earlier when the box heard it
	NTP   Source = "ntp"
)

// Config says what a clock is made of.
type Config struct {
	Path   string         // of the file it keeps its times in
	Built  time.Time      // when the program was made; zero: unknown
	System func() Reading // the system's; nil: the real one
	Boot   string         // names the time since the last boot, a UUID; empty: the real one
	Log    *slog.Logger
}

// anchor ties a moment since the boot to a time.
type anchor struct {
	wall  time.Time
	up    time.Duration
	bound time.Duration // how far wall may be off; 0: unknown
}

func (a anchor) at(up time.Duration) time.Time { return a.wall.Add(up - a.up) }

// boundAt returns how far at may be off; 0: unknown.
func (a anchor) boundAt(up time.Duration) time.Duration {
	if a.bound == 0 {
		return 0
	}
	return a.bound + time.Duration(slew*float64((up-a.up).Abs()))
}

// Clock is a clock that never runs behind the last time it has written down, or
// behind the making of the program, and that follows the system's clock only as
// far as something disciplines it. All methods may be called concurrently.
type Clock struct {
	cfg   Config
	trust chan struct{} // something is to be written down

	mu     sync.Mutex // guards below
	floor  anchor     // time does not run behind it
	base   anchor     // time is counted on from it while the system's is not disciplined
	source Source
	word   time.Time      // the cloud's, as heard last
	stale  time.Time      // the cloud's word up to here was known before this start
	ahead  *time.Duration // since when time is a leap ahead of the floor; nil: it is not
	proved bool           // floor, or what it began from, was confirmed once
	boots  []known        // oldest first
	synced bool           // the system's clock is
}

// Open returns a clock that goes on from what is written down. What cannot be
// read there is logged and counts for nothing.
func Open(cfg Config) *Clock {
	if cfg.System == nil {
		cfg.System = system()
	}
	if cfg.Boot == "" {
		cfg.Boot = bootID()
	}
	c := &Clock{cfg: cfg, source: None, trust: make(chan struct{}, 1)}
	r := cfg.System()
	kept, err := load(cfg.Path)
	if err != nil {
		cfg.Log.Error("times that were kept cannot be read", "err", err)
	}
	c.floor, c.proved = anchor{wall: kept.floor, up: r.Up}, !kept.floor.IsZero()
	if c.floor.wall.Before(cfg.Built) {
		c.floor.wall = cfg.Built
	}
	c.boots, c.stale = kept.boots, c.floor.wall
	c.base = anchor{wall: r.Wall, up: r.Up}
	if c.floor.wall.After(r.Wall) {
		c.base.wall = c.floor.wall
	}
	c.tell(r)
	return c
}

// Now returns the time.
func (c *Clock) Now() time.Time {
	now, _ := c.read()
	return now
}

func (c *Clock) read() (now time.Time, r Reading) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r = c.cfg.System() // in order, so that time is
	now, _ = c.tell(r)
	return now, r
}

// tell returns the time at a reading and how far it may be off, 0: unknown. c.mu
// is held.
func (c *Clock) tell(r Reading) (now time.Time, bound time.Duration) {
	switch {
	case r.Sync == Synced:
		c.base = anchor{r.Wall, r.Up, max(r.Error, time.Millisecond)}
		if c.source != NTP {
			c.cfg.Log.Info("clock is synchronised", "now", r.Wall.UTC(), "error", r.Error.String())
			c.source = NTP
			c.wake()
		}
	case r.Sync == Unknown && c.source == None:
		c.base = anchor{r.Wall, r.Up, 0} // it may be right, nobody knows
	}
	c.synced = r.Sync == Synced
	now, bound = c.base.at(r.Up), c.base.boundAt(r.Up)
	least := c.floor.at(r.Up)
	if c.synced {
		least = c.floor.wall // it stands still until the right time has come up with it
	}
	behind := least.Sub(now)
	switch {
	case behind > visible: // one of the two is wrong, and nobody knows which
		if c.synced {
			c.forget()
		}
		return now.Add(behind).UTC(), 0
	case behind > 0: // a leap second, a small step
		now = now.Add(behind)
		if bound > 0 {
			bound += behind
		}
	}
	if c.synced && c.cfg.Boot != "" {
		c.learn(c.base)
	}
	return now.UTC(), bound
}

// Heard takes what the cloud says the time was before it was heard. Zero says
// nothing. Of two words the one that is heard later was said later. A time source
// of the system's knows better.
func (c *Clock) Heard(at time.Time) {
	if at.IsZero() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.cfg.Built.IsZero() && at.After(c.cfg.Built.Add(service)) {
		c.cfg.Log.Error("the cloud says a time that cannot be", "serverTime", at.UTC())
		return
	}
	r := c.cfg.System()
	now, bound := c.tell(r)
	said := c.word
	c.word = at
	switch {
	case c.synced:
	case at.After(now.Add(bound)):
		c.cfg.Log.Info("clock was behind the cloud", "by", at.Sub(now).Round(time.Millisecond).String())
		c.base, c.source = anchor{at, r.Up, 0}, Cloud
		c.wake()
	case c.source == Cloud && at.Before(said) && now.Sub(at) > recent:
		c.cfg.Log.Warn("the cloud takes back the time that it said", "said", said.UTC(), "says", at.UTC())
		c.base = anchor{at, r.Up, 0} // the floor holds all the same
	case c.source == None && now.Sub(at) <= recent && at.After(c.stale):
		c.base, c.source = anchor{now, r.Up, 0}, Cloud
		c.wake()
	}
}

// wake has what is known written down soon.
func (c *Clock) wake() {
	select {
	case c.trust <- struct{}{}:
	default:
	}
}

// Run writes the time down, every ten minutes, when it becomes known and at the
// end, until ctx ends.
func (c *Clock) Run(ctx context.Context) error {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return c.Keep()
		case <-tick.C:
		case <-c.trust:
		}
		err := c.Keep()
		if err != nil && !failing {
			c.cfg.Log.Error("the time cannot be written down", "err", err)
		}
		failing = err != nil
	}
}

// Keep writes down what may be; on return it is durable. [Clock.Run] does it. A time that nobody confirmed is not: were it
// wrong, no later start could get behind it.
func (c *Clock) Keep() error {
	c.mu.Lock()
	r := c.cfg.System()
	now, _ := c.tell(r)
	by := now.Sub(c.floor.at(r.Up))
	switch {
	case by <= leap, !c.proved: // it has to begin somewhere
		c.ahead = nil
	case c.ahead == nil:
		c.ahead = &r.Up
	}
	proven := c.ahead == nil || r.Up-*c.ahead >= proof
	if proven && (c.source != None || by == 0) {
		c.floor, c.ahead = anchor{wall: now, up: r.Up}, nil
		c.proved = c.proved || c.source != None
	}
	k := kept{boots: c.boots}
	if c.proved {
		// Also here: a synchronised clock must not lead behind what is on disk.
		c.floor = anchor{wall: c.floor.at(r.Up), up: r.Up}
		k.floor = c.floor.wall
	}
	c.mu.Unlock()
	return k.save(c.cfg.Path)
}

// Status is how the clock stands.
type Status struct {
	Now     time.Time
	Trusted bool // by a time source or the cloud
	Source  Source
	Error   time.Duration // how far Now may be off; 0: unknown
	Problem string        // what is wrong between the system's clock and this one
}

// Status returns how the clock stands.
func (c *Clock) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.cfg.System()
	now, bound := c.tell(r)
	st := Status{Now: now, Source: c.source, Trusted: c.source != None, Error: bound}
	system := r.Wall.UTC().Format(time.DateTime)
	switch off := r.Wall.Sub(now); {
	case c.synced && off < -visible:
		st.Trusted = false
		st.Problem = fmt.Sprintf("the system's clock is synchronised and says %s, which is before the last time that was kept: the box stands still until that is over. If the system is right and that would be long, stop the box, remove %s and start it",
			system, c.cfg.Path)
	case !c.synced && off > visible:
		st.Problem = fmt.Sprintf("the system's clock was set ahead to %s and nothing confirms it, so the box does not follow; let it be synchronised (timedatectl), or restart the box", system)
	case !c.synced && off < -visible:
		st.Problem = fmt.Sprintf("the system's clock is behind, at %s; let it be synchronised (timedatectl)", system)
	}
	return st
}

// Stamp says how a time is to be understood that this clock told a moment ago.
func (c *Clock) Stamp(taken time.Time) event.Clock {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.cfg.System()
	now, bound := c.tell(r)
	since := now.Sub(taken)
	if since < 0 || since > time.Minute { // it was set since
		since = 0
	}
	if bound > 0 {
		return event.Clock{Error: (bound + time.Millisecond - 1).Truncate(time.Millisecond)}
	}
	if c.cfg.Boot == "" {
		return event.Clock{}
	}
	return event.Clock{Boot: c.cfg.Boot, Up: (r.Up - since).Truncate(time.Millisecond)}
}

// When returns when an event happened, as well as is known by now.
func (c *Clock) When(e *event.Event) event.Timing {
	if e.Clock.Error > 0 {
		return event.Timing{Time: e.Time, Quality: event.TimeSynced, Error: e.Clock.Error}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range c.boots {
		if b.id == e.Clock.Boot {
			return event.Timing{
				Time: b.at(e.Clock.Up).UTC().Truncate(time.Millisecond), Quality: event.TimeCorrected, Error: b.boundAt(e.Clock.Up),
			}
		}
	}
	return event.Timing{Time: e.Time, Quality: event.TimeUnknown}
}

// known ties one boot of the machine to time.
type known struct {
	id string
	anchor
}

// forget takes back what learn noted of this boot. c.mu is held.
func (c *Clock) forget() {
	if i := slices.IndexFunc(c.boots, func(b known) bool { return b.id == c.cfg.Boot }); i >= 0 {
		c.boots = slices.Delete(slices.Clone(c.boots), i, i+1) // it may be being written down
		c.wake()
	}
}

// manyBoots is of how many boots it is kept when they were.
const manyBoots = 64

// learn notes when this boot was, by a synchronised clock. The first word stays,
// since it is closest to what happened before it, unless it proves wrong. c.mu
// is held.
func (c *Clock) learn(a anchor) {
	for i, b := range c.boots {
		if b.id != c.cfg.Boot {
			continue
		}
		if off := b.at(a.up).Sub(a.wall).Abs(); off > b.boundAt(a.up)+a.bound {
			c.boots = slices.Clone(c.boots) // it may be being written down
			c.boots[i].anchor = a
			c.wake()
		}
		return
	}
	c.boots = append(c.boots, known{c.cfg.Boot, a})
	c.boots = c.boots[max(0, len(c.boots)-manyBoots):]
	c.wake()
}
