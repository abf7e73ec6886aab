package journal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const lockName = "LOCK"

// takeLock makes this process the only one that has the journal open, until
// the file is closed or the process ends, however it ends.
func takeLock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lock(f, true, dir); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	// The number only helps a human; the lock itself is the kernel's. So a full
	// disk, which may refuse these bytes, is no reason not to start.
	_ = f.Truncate(0)
	_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return f, nil
}

// shareLock keeps writers out while the journal is only read. It writes
// nothing; without a lock file there is nothing to hold and it returns nil.
func shareLock(dir string) (*os.File, error) {
	f, err := os.Open(filepath.Join(dir, lockName))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := lock(f, false, dir); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// errLocked is lockFile's: another process has the lock.
var errLocked = errors.New("locked")

func lock(f *os.File, alone bool, dir string) error {
	err := lockFile(f, alone)
	if errors.Is(err, errLocked) {
		text, _ := io.ReadAll(io.LimitReader(f, 32)) // unreadable: holder unknown
		pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
		return &LockedError{Dir: dir, PID: pid}
	}
	if err != nil {
		return fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return nil
}

// makeDir makes a directory and those missing above it, each durable before
// the next one is made in it.
func makeDir(dir string) error {
	parent := filepath.Dir(dir)
	if _, err := os.Stat(parent); errors.Is(err, os.ErrNotExist) {
		if err := makeDir(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return syncDir(parent)
}
