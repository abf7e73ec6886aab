package lan_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/needs"
)

// TestOneMachineOfManyAddresses runs TestManyAddresses in a network of its own.
func TestOneMachineOfManyAddresses(t *testing.T) { needs.Apart(t, "^TestManyAddresses$") }

// TestManyAddresses: with IPv6 a machine has as many addresses as it likes, and gets
// no more places for them: there is room for somebody else.
func TestManyAddresses(t *testing.T) {
	needs.OnlyApart(t)
	const places = 20
	machine := func(prefix string, n int) *websocket.Dialer {
		return &websocket.Dialer{NetDialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(fmt.Sprintf("%s::%x", prefix, n))}}).DialContext}
	}
	for _, line := range []string{"link set lo up", "-6 route add local fd00::/32 dev lo"} {
		if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			needs.Missing(t, fmt.Sprintf("no IPv6 here: ip %s: %v %s", line, err, out))
		}
	}
	if err := os.WriteFile("/proc/sys/net/ipv6/ip_nonlocal_bind", []byte("1"), 0); err != nil {
		needs.Missing(t, err.Error())
	}
	b := start(t, func(c *lanConfig) {
		c.Listen, c.MaxConnections, c.ConnectTimeout = "[fd00:0:0:1::1]:0", places, time.Minute
	})
	url := "ws://" + b.Addr().String() + "/socket.io/?EIO=4&transport=websocket"
	for n := range 2 * places {
		ws, resp, err := machine("fd00:0:0:1", 0x100+n).Dial(url, nil)
		if resp != nil {
			_ = resp.Body.Close()
		}
		switch {
		case err == nil:
			t.Cleanup(func() { _ = ws.Close() })
		case resp == nil || resp.StatusCode != http.StatusServiceUnavailable:
			t.Fatalf("address %d: %v", n, err)
		}
	}
	ws, resp, err := machine("fd00:0:0:2", 1).Dial(url, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	c := b.on(ws)
	c.raw(`40{"token":"` + b.mint(auth.Grant{Subject: "w", Role: event.Waiter}) + `"}`)
	c.want("authentication_success")
}
