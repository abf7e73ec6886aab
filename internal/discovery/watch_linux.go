package discovery

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// watch sends to changed whenever the kernel reports a change of a network
// interface or an address (rtnetlink(7)), until ctx ends. Where that cannot be
// had the announcer looks by itself.
func watch(ctx context.Context, changed chan<- struct{}) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return
	}
	f := os.NewFile(uintptr(fd), "netlink") //nolint:gosec // a descriptor
	defer func() { _ = f.Close() }()
	groups := uint32(unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		return
	}
	defer context.AfterFunc(ctx, func() { _ = f.Close() })()
	buf := make([]byte, 16<<10)
	for {
		// What it says does not matter. An error is a queue that ran over,
		// which says as much, or the end.
		if _, err := f.Read(buf); ctx.Err() != nil || (err != nil && !errors.Is(err, unix.ENOBUFS)) {
			return
		}
		select {
		case changed <- struct{}{}:
		default: // one is waiting
		}
	}
}
