//go:build !linux

package uplink

import "net/netip"

// defaultRoute is not known here.
func defaultRoute() Answer { return Unknown }

// gateway is not known here.
func gateway() netip.Addr { return netip.Addr{} }
