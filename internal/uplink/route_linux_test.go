package uplink

import (
	"fmt"
	"net/netip"
	"testing"
)

func TestGatewayIsRead(t *testing.T) {
	const table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n" +
		"eth0\t004DA8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\n" +
		"wwan0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\n" +
		"eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\n"
	if got := gatewayIn(table); got != netip.MustParseAddr("192.168.1.1") { // on the machines that run tests
		t.Errorf("%s", got)
	}
	if got := gatewayIn("eth0\t00000000\tzz\t0003\t0\t0\t0\t00000000\n"); got.IsValid() {
		t.Errorf("%s", got)
	}
}

func TestRouteIsRead(t *testing.T) {
	const head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
	const lan = "eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
	const out = "eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
	const six = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003 %s\n"
	if routeIn(head+lan, fmt.Sprintf(six, "lo")) || !routeIn(head+lan+out, "") || !routeIn(head, fmt.Sprintf(six, "eth0")) {
		t.Error("default routes are not told from others")
	}
}
