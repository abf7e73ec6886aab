package daemon

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/avoqado/avoqado-edge/internal/api"
)

// diskStatus asks for the room on dir's file system; zero if it cannot be told.
func diskStatus(dir string) api.DiskStatus {
	var fs unix.Statfs_t
	if unix.Statfs(dir, &fs) != nil || fs.Bsize <= 0 {
		return api.DiskStatus{}
	}
	size := uint64(fs.Bsize) //nolint:gosec // checked above
	return api.DiskStatus{FreeBytes: fs.Bavail * size, TotalBytes: fs.Blocks * size}
}

// readOnly reports whether dir's file system is mounted so; a kernel does that
// to one that has errors.
func readOnly(dir string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(dir, &fs) == nil && int64(fs.Flags)&unix.ST_RDONLY != 0 //nolint:unconvert // narrower on 32 bits
}

// temperature returns that of the first thermal zone, the processor's on a
// Raspberry Pi, in °C; nil if there is none.
func temperature() *float64 {
	raw, err := os.ReadFile("/sys/class/thermal/thermal_zone0/temp")
	if err != nil {
		return nil
	}
	milli, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		return nil
	}
	celsius := float64(milli) / 1000
	return &celsius
}

// inodes returns how many files dir's file system may still get.
func inodes(dir string) (free, total uint64) {
	var fs unix.Statfs_t
	if unix.Statfs(dir, &fs) != nil {
		return 0, 0
	}
	return fs.Ffree, fs.Files
}
