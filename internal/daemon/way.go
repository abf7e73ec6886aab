package daemon

import (
	"fmt"
	"sync"
	"time"

	"github.com/avoqado/avoqado-edge/internal/api"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/history"
	"github.com/avoqado/avoqado-edge/internal/outages"
	"github.com/avoqado/avoqado-edge/internal/uplink"
)

// silentFor is how long a back-end may confirm nothing of what it has.
const silentFor = 30 * time.Second

// States of a hop.
const (
	hopOK      = "ok"
	hopDown    = "down"
	hopUnknown = "unknown"
	hopOff     = "off"
)

// way remembers since when each hop of the way to the cloud is as it is. The
// uplink knows the link as a whole, and people ask where it ends. It is looked
// at once a second, by the history. Safe for concurrent use.
type way struct {
	mu     sync.Mutex // guards below
	hops   [4]api.Hop
	seen   [4]api.Hop // as they were when that was last known
	looked time.Time
	synced event.Seq
	moved  time.Time // when the cloud confirmed something, or had all
	silent bool      // it has confirmed nothing since, for too long
}

// look brings the hops up to date and returns them.
func (w *way) look(d *Daemon, now time.Time) []api.Hop {
	link := uplink.Status{}
	stored, synced := d.journal.Stored(), d.journal.Cursor(api.UplinkCursor)
	if d.uplink != nil {
		link = d.uplink.Status()
	}
	reachable := len(d.lanAddresses()) > 0

	w.mu.Lock()
	defer w.mu.Unlock()
	w.listen(&link, synced, stored, now)
	return w.set(hops(link, reachable, d.uplink != nil, w.silent), w.changed(&link, now))
}

// listen follows whether the back-end confirms what it has. A link that goes
// and comes does not change what is known of it.
func (w *way) listen(link *uplink.Status, synced, stored event.Seq, now time.Time) {
	online := link.State == uplink.Online
	if synced != w.synced || synced >= stored || link.Paused != nil || w.moved.IsZero() || !online && !w.silent {
		w.synced, w.moved, w.silent = synced, now, false
	}
	w.silent = w.silent || now.Sub(w.moved) >= silentFor
}

// changed is when what this look sees first came about: as the uplink has it, or
// now.
func (w *way) changed(link *uplink.Status, now time.Time) time.Time {
	at := now
	if link.Since.After(w.looked) && link.Since.Before(now) {
		at = link.Since
	}
	w.looked = now
	return at
}

// set takes the states of the hops, and keeps since when they are that. An
// attempt to connect sees only as far as it comes. So a hop that is found as it
// was last seen has been that all the time, and one that is found broken has
// been so since it was out of sight.
func (w *way) set(hops [4]api.Hop, now time.Time) []api.Hop {
	for i := range hops {
		h, was, seen := &hops[i], w.hops[i], w.seen[i]
		switch {
		case h.State == was.State:
			h.Since = was.Since
		case was.State == hopUnknown && h.State == seen.State:
			h.Since = seen.Since
		case was.State == hopUnknown && h.State == hopDown:
			h.Since = was.Since
		case i == 3 && h.State == hopDown && w.silent:
			h.Since = w.moved.UTC()
		default:
			h.Since = now.UTC()
		}
		if h.State != hopUnknown {
			w.seen[i] = *h
		}
	}
	w.hops = hops
	return append([]api.Hop(nil), hops[:]...)
}

// hops says what the state of the link means for each hop.
func hops(link uplink.Status, reachable, cloud, silent bool) [4]api.Hop {
	h := [4]api.Hop{{Name: "lan", State: hopOK}, {Name: "internet"}, {Name: "broker"}, {Name: "backend"}}
	rest := func(state string) {
		for i := range h {
			if h[i].State == "" {
				h[i].State = state
			}
		}
	}
	down := func(i int) {
		h[i].State = hopDown
		if link.Failure != nil {
			h[i].Cause = link.Failure.Name
		}
	}
	if !reachable {
		down(0)
		h[0].Cause = uplink.NoLAN
	}
	switch {
	case !cloud:
		rest(hopOff)
	case !reachable && link.State != uplink.Online:
		rest(hopUnknown)
	case link.State == uplink.Online:
		rest(hopOK)
		switch {
		case link.Confirm == uplink.Broker:
			h[3].State = hopOff // it is not asked
		case silent:
			h[3].State, h[3].Cause = hopDown, "silent"
		}
	case link.Failure == nil:
		rest(hopUnknown)
	default:
		at, sure := brokenAt(link.Failure.Name)
		for i := range at {
			switch {
			case h[i].State != "":
			case i == 0 || sure:
				h[i].State = hopOK
			default:
				h[i].State = hopUnknown
			}
		}
		down(at)
		rest(hopUnknown)
	}
	return h
}

// brokenAt is the hop at which a failure of the uplink is, and whether the way
// up to there was seen to be good.
func brokenAt(failure string) (hop int, sure bool) {
	switch failure {
	case uplink.Lost, uplink.Timeout, uplink.Interrupted:
		return 2, false
	}
	switch outages.PlaceOf(failure) {
	case outages.PlaceLAN:
		return 0, true
	case outages.PlaceRouter, outages.PlaceInternet, outages.PlaceDNS:
		return 1, true
	}
	return 2, true
}

// downFor is how long a hop may be down before somebody should look, whether or
// not events wait.
const downFor = 5 * time.Minute

// longDown says which hops have been down for too long.
func longDown(way []api.Hop, now time.Time) (problems []string) {
	for _, h := range way {
		if h.State != hopDown || now.Sub(h.Since) < downFor {
			continue
		}
		what := map[string]string{
			"lan": "the box has no address on the LAN", "internet": "the internet is out of reach",
			"broker": "the broker is out of reach", "backend": "the back-end confirms nothing",
		}[h.Name]
		problems = append(problems, fmt.Sprintf("%s since %s (%s)", what, h.Since.Local().Format(time.DateTime), h.Cause))
	}
	return problems
}

// sample is what the history remembers of this moment.
func (d *Daemon) sample() history.Sample {
	hops := d.way.look(d, time.Now())
	if d.uplink == nil {
		return history.Sample{}
	}
	s := history.Sample{Down: hops[2].State != hopOK || hops[3].State == hopDown}
	if stored, synced := d.journal.Stored(), d.journal.Cursor(api.UplinkCursor); stored > synced {
		s.Waiting = int(min(stored-synced, 1<<30)) //nolint:gosec // bounded
	}
	return s
}
