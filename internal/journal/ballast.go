package journal

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
)

const (
	ballastName = "ballast"

	// ballastShare bounds the ballast on a small disk.
	ballastShare = 16
)

// ballast is a file of no content that takes room while there is some, and
// gives it back when there is none: a copy-on-write store cannot even delete
// or move a cursor on a disk that is really full.
type ballast struct {
	path string
	want int64 // bytes; zero: none is kept

	mu   sync.Mutex // guards below
	size int64      // want, less on a small disk; zero: the disk was not measured yet
}

func newBallast(dir string, bytes int64) ballast {
	return ballast{path: filepath.Join(dir, ballastName), want: bytes}
}

// missing returns how much of the disk's free room is the ballast's. total is
// the size of the disk.
func (b *ballast) missing(total int64) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.size = min(b.want, total/ballastShare)
	return max(b.size-diskBytes(b.path), 0)
}

func (b *ballast) bytes() int64 { return diskBytes(b.path) }

// hold makes the ballast if it is not whole, of real blocks, and reports
// whether it did.
func (b *ballast) hold() (made bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.size == 0 || diskBytes(b.path) >= b.size {
		return false, nil
	}
	f, err := os.OpenFile(b.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return false, err
	}
	if err = reserve(f, b.size); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return false, errors.Join(err, os.Remove(b.path))
	}
	return true, nil
}

// release gives the room back and reports whether there was any.
func (b *ballast) release() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return diskBytes(b.path) > 0 && os.Remove(b.path) == nil
}

// writeZeros reserves room where the file system cannot do so by itself.
func writeZeros(f *os.File, size int64) error {
	zeros := make([]byte, 1<<20)
	for at := int64(0); at < size; at += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros[:min(int64(len(zeros)), size-at)], at); err != nil {
			return err
		}
	}
	return nil
}
