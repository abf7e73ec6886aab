package discovery

import (
	"errors"
	"net/netip"
	"syscall"
)

// meet notes that somebody is at an address, box or not: it answered, or said
// that it does not serve there.
func (f *finder) meet(address string, err error) {
	if errors.Is(err, errSilent) && !errors.Is(err, syscall.ECONNREFUSED) {
		return
	}
	if ap, err := netip.ParseAddrPort(address); err == nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.met) < maxFound {
			f.met[ap.Addr()] = true
		}
	}
}

// What can be told from a search that led to no box, or to one too many.
const (
	adviceOffline = "This device has no address on any network: join the venue's Wi-Fi, or plug its cable in."
	adviceStrange = "What answered is not the box that was looked for: see why above. Pair anew only if the box was replaced."
	adviceOthers  = "Other devices answer on this network, and no box does. Is the box on, and on this network? Has it another port (lan.listen; --port)? `avoqado-edge pair` there prints its addresses."
	adviceAlone   = "Nothing on this network answers, or its router alone: it may keep its devices apart (client isolation, guest Wi-Fi), or the box is on another one. " +
		"Put the box on a cable at the router, or switch isolation off for this Wi-Fi (not the guest network); until then no terminal here can reach it."
	adviceTwice  = "Two with different keys say to be one box: one is a copy, or poses as it. Compare with `avoqado-edge pair` on the box, and look again with --key or --qr."
	adviceHidden = "Is this device on the network of the box? `avoqado-edge pair` there prints its addresses and a QR code: try --address or --qr."
)

// advice says what to do after a search without a box.
func (f *finder) advice(r *Report) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	scanned := false
	for _, a := range r.Attempts {
		scanned = scanned || a.Way == WayScan && a.Asked > 0
	}
	nics, err := choose(f.search.Interfaces)
	switch {
	case err == nil && (len(nics) == 0 || nics[0].loopback()):
		return adviceOffline
	case len(f.met) > 0 && answered(r.Refused):
		return adviceStrange
	case !scanned:
		return adviceHidden
	case len(f.met) <= 1: // a router reaches everybody
		return adviceAlone
	}
	return adviceOthers
}

// answered reports whether a box is among what was refused.
func answered(list []Found) bool {
	for _, one := range list {
		if one.Key != "" {
			return true
		}
	}
	return false
}
