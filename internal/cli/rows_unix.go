//go:build unix

package cli

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// rows is how many lines a terminal shows; 0: it does not say.
func rows(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return int(size.Row)
}
