package daemon

import (
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
// uplink knows the link as a whole, and people ask where it ends. Safe for
// concurrent use.
type way struct {
	mu     sync.Mutex // guards below
	hops   [4]api.Hop
	synced event.Seq
	moved  time.Time // when the cloud confirmed something, or had all
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
	online := link.State == uplink.Online
	if !online || synced != w.synced || synced >= stored || link.Paused != nil || w.moved.IsZero() {
		w.synced, w.moved = synced, now
	}
	return w.set(hops(link, reachable, d.uplink != nil, now.Sub(w.moved) >= silentFor), now)
}

// set takes the states of the hops, and keeps since when they are that.
func (w *way) set(hops [4]api.Hop, now time.Time) []api.Hop {
	for i := range hops {
		hops[i].Since = w.hops[i].Since
		if hops[i].State != w.hops[i].State {
			hops[i].Since = now.UTC()
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
