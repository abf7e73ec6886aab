package cli

import (
	"fmt"
	"io"
	"time"
)

// liveLine keeps one line up to date on a terminal, and elsewhere prints a new
// line every few seconds. Used by one goroutine.
type liveLine struct {
	w     io.Writer
	tty   bool
	last  time.Time
	drawn bool
}

// plainEvery is how often a line is printed where it cannot be redrawn.
const plainEvery = 2 * time.Second

func newLiveLine(w io.Writer) *liveLine {
	return &liveLine{w: w, tty: isTerminal(w)}
}

// show draws the text; a failing writer is not worth stopping for.
func (l *liveLine) show(text string) {
	if l.tty {
		_, _ = fmt.Fprintf(l.w, "\r\033[K%s", text)
		l.drawn = true
		return
	}
	if now := time.Now(); now.Sub(l.last) >= plainEvery {
		l.last = now
		_, _ = fmt.Fprintln(l.w, text)
	}
}

// say prints a line of its own above the live one.
func (l *liveLine) say(format string, args ...any) {
	l.end()
	_, _ = fmt.Fprintf(l.w, format+"\n", args...)
}

// end leaves the last text standing and goes to the next line.
func (l *liveLine) end() {
	if l.drawn {
		_, _ = fmt.Fprintln(l.w)
		l.drawn = false
	}
}
