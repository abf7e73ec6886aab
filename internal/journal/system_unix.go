//go:build unix

package journal

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// lockFile locks a file until it is closed, for this process alone or together
// with others that only read. It does not wait: errLocked says that another has it.
func lockFile(f *os.File, alone bool) error {
	how := syscall.LOCK_SH
	if alone {
		how = syscall.LOCK_EX
	}
	err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return errLocked
	}
	return err
}

// unlockFile takes bbolt's lock from a file.
func unlockFile(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_UN) }

// openFile opens a file that may be renamed and removed while it is open.
func openFile(name string, flag int, perm os.FileMode) (*os.File, error) {
	return os.OpenFile(name, flag, perm)
}

// syncDir makes names created, renamed or removed in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// ownerOf returns the user whose a file is; empty: unknown.
func ownerOf(info fs.FileInfo) string {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return userName(int(stat.Uid))
}

// onDisk returns what a file takes on disk, which is less than its length while
// bbolt has not used all of it.
func onDisk(info fs.FileInfo) int64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return stat.Blocks * 512
	}
	return info.Size()
}

// noRoom are what the kernel says when a disk is full.
func noRoom() []error { return []error{syscall.ENOSPC, syscall.EDQUOT} }
