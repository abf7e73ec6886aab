package discovery

import (
	"encoding/binary"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// kernel asks Linux what package net leaves out (rtnetlink(7)). What it does not
// say is not known, and keeps nobody from announcing.
func kernel() (k facts) {
	k = facts{flaps: map[int]uint32{}, unready: map[place]bool{}}
	dump(syscall.RTM_GETLINK, func(m *syscall.NetlinkMessage) {
		if m.Header.Type != syscall.RTM_NEWLINK || len(m.Data) < syscall.SizeofIfInfomsg {
			return
		}
		index := int(binary.NativeEndian.Uint32(m.Data[4:]))
		if v := attribute(m, unix.IFLA_CARRIER_CHANGES); len(v) == 4 {
			k.flaps[index] = binary.NativeEndian.Uint32(v)
		}
	})
	dump(syscall.RTM_GETADDR, func(m *syscall.NetlinkMessage) {
		if m.Header.Type != syscall.RTM_NEWADDR || len(m.Data) < syscall.SizeofIfAddrmsg {
			return
		}
		flags := uint32(m.Data[2])
		if v := attribute(m, unix.IFA_FLAGS); len(v) == 4 {
			flags = binary.NativeEndian.Uint32(v)
		}
		const claimed = unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED
		if flags&claimed == 0 || flags&unix.IFA_F_OPTIMISTIC != 0 {
			return
		}
		if a, ok := netip.AddrFromSlice(attribute(m, unix.IFA_ADDRESS)); ok {
			k.unready[place{int(binary.NativeEndian.Uint32(m.Data[4:])), a.Unmap()}] = true
		}
	})
	return k
}

func dump(what int, each func(*syscall.NetlinkMessage)) {
	raw, err := syscall.NetlinkRIB(what, syscall.AF_UNSPEC)
	if err != nil {
		return
	}
	list, err := syscall.ParseNetlinkMessage(raw)
	if err != nil {
		return
	}
	for i := range list {
		each(&list[i])
	}
}

func attribute(m *syscall.NetlinkMessage, kind uint16) []byte {
	list, err := syscall.ParseNetlinkRouteAttr(m)
	if err != nil {
		return nil
	}
	for _, a := range list {
		if a.Attr.Type == kind {
			return a.Value
		}
	}
	return nil
}
