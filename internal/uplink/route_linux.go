package uplink

import (
	"encoding/binary"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// defaultRoute reads the kernel's tables.
func defaultRoute() Answer {
	four, err := os.ReadFile("/proc/net/route")
	if err != nil {
		return Unknown
	}
	six, _ := os.ReadFile("/proc/net/ipv6_route") // a kernel without IPv6 has none
	return toAnswer(routeIn(string(four), string(six)))
}

// routeIn finds a default route that leads through an interface other than
// loopback: destination and mask of zeros.
func routeIn(four, six string) bool {
	for line := range strings.Lines(four) {
		if f := strings.Fields(line); len(f) > 7 && f[1] == "00000000" && f[7] == "00000000" && f[0] != "lo" {
			return true
		}
	}
	for line := range strings.Lines(six) {
		if f := strings.Fields(line); len(f) == 10 && strings.Trim(f[0], "0") == "" && f[1] == "00" && f[9] != "lo" {
			return true
		}
	}
	return false
}

// gateway returns where the IPv4 default route leads; invalid if there is none.
func gateway() netip.Addr {
	four, _ := os.ReadFile("/proc/net/route") // without it nothing is known
	return gatewayIn(string(four))
}

// gatewayIn reads the kernel's table: addresses are in the order of the
// machine's bytes.
func gatewayIn(four string) netip.Addr {
	for line := range strings.Lines(four) {
		f := strings.Fields(line)
		if len(f) < 8 || f[1] != "00000000" || f[7] != "00000000" || f[0] == "lo" {
			continue
		}
		n, err := strconv.ParseUint(f[2], 16, 32)
		if err != nil || n == 0 {
			continue // a line without a router, as of a modem
		}
		var raw [4]byte
		binary.NativeEndian.PutUint32(raw[:], uint32(n))
		return netip.AddrFrom4(raw)
	}
	return netip.Addr{}
}
