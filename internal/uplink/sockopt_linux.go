package uplink

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// userTimeout is how long sent bytes may stay unconfirmed by the peer's TCP
// before the kernel gives the connection up. Without it a link that died
// silently (a router switched off) is only noticed by the pings.
const userTimeout = 15 * time.Second

// unsentLimit bounds what the kernel holds back beyond what is on its way, so
// that a ping does not stand behind megabytes.
const unsentLimit = 32 << 10

// control prepares a socket before it connects. A kernel without the options is
// no reason not to connect.
func control(_, _ string, raw syscall.RawConn) error {
	return raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds()))
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsentLimit)
	})
}

// queued returns the bytes that the other side's TCP has not taken yet.
func (p *pipe) queued() int64 {
	n := 0
	c, ok := p.Conn.(syscall.Conn)
	if !ok {
		return 0
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	return int64(n)
}
