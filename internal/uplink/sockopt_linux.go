package uplink

import (
	"syscall"
	"time"
)

// userTimeout is how long sent bytes may stay unconfirmed by the peer's TCP
// before the kernel gives the connection up. Without it a link that died
// silently (a router switched off) is only noticed by the pings.
const userTimeout = 15 * time.Second

// tcpUserTimeout is TCP_USER_TIMEOUT, the same on every architecture.
const tcpUserTimeout = 18

// control prepares a socket before it connects. A kernel without the option is
// no reason not to connect.
func control(_, _ string, raw syscall.RawConn) error {
	return raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(userTimeout.Milliseconds()))
	})
}
