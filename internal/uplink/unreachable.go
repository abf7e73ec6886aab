package uplink

import "slices"

// Unreachable reports whether the cloud is proven to be out of reach; see
// [Status.Unreachable]. Safe concurrently.
func (u *Uplink) Unreachable() bool {
	st := u.Status()
	return st.Unreachable()
}

// Unreachable reports whether the cloud is proven to be out of reach: there is no
// link, a try to make one has failed since there was, and what it met is the
// network or a broker that is not there. A broker that answers and does not let
// the box in, a lost link that was not tried anew, or a link that was cut on
// request prove nothing: one that fell silent, or was ended since nothing was
// confirmed on it, failed at the moment it was lost.
func (st *Status) Unreachable() bool {
	return st.State != Online && st.Failure != nil && st.Failure.At.After(st.Since) &&
		slices.Contains([]string{NoLAN, NoRouter, NoInternet, NoRoute, DNS, DNSLie, CaptivePortal, BrokerDown, NoAnswer, Timeout}, st.Failure.Name)
}
