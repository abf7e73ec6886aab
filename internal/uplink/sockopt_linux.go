package uplink

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// unsentLimit bounds what the kernel holds back beyond what is on its way, so
// that a ping does not stand behind megabytes.
const unsentLimit = 32 << 10

// control prepares a socket before it connects. A kernel without the option is
// no reason not to connect. TCP_USER_TIMEOUT is not set: it ends a slow line whose
// other end is full, and [link.watch] finds a dead one.
func control(_, _ string, raw syscall.RawConn) error {
	return raw.Control(func(fd uintptr) {
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
