//go:build unix

package lan

import (
	"math"
	"syscall"
)

// descriptors returns how many files the process may have open.
func descriptors() (n int64, known bool) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, false
	}
	return int64(min(uint64(limit.Cur), math.MaxInt64)), true //nolint:gosec,unconvert // bounded; signed on some systems
}
