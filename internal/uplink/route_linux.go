package uplink

import (
	"os"
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
