package journal

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// diskSpace returns the bytes that this process may still write to dir's file
// system, and its size.
func diskSpace(dir string) (free, total int64, err error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, 0, err
	}
	size := int64(fs.Bsize)                                      //nolint:unconvert // narrower on 32-bit boxes
	return int64(fs.Bavail) * size, int64(fs.Blocks) * size, nil //nolint:gosec // no disk has 2^63 bytes
}

// reserve gives a file real blocks without writing them.
func reserve(f *os.File, size int64) error {
	err := unix.Fallocate(int(f.Fd()), 0, 0, size)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return writeZeros(f, size)
	}
	return err
}
