package cli

import (
	"fmt"
	"io"
	"strings"
	"time"
)

const (
	progressAfter = time.Second            // what is done by then needs no bar
	progressEvery = 200 * time.Millisecond // how often it is drawn
	progressWidth = 30
)

// progress draws a bar for what takes longer than a second, on a terminal
// only. Used by one goroutine.
type progress struct {
	live  *liveLine
	what  string
	began time.Time
	drawn time.Time
	now   func() time.Time
}

func newProgress(w io.Writer, what string) *progress {
	return &progress{live: newLiveLine(w), what: what, began: time.Now(), now: time.Now}
}

// show is told how much of how much is done; a total of zero is unknown.
func (p *progress) show(done, total uint64) {
	now := p.now()
	if !p.live.tty || now.Sub(p.began) < progressAfter || now.Sub(p.drawn) < progressEvery {
		return
	}
	p.drawn = now
	if total == 0 {
		p.live.show(fmt.Sprintf("%s  %d events", p.what, done))
		return
	}
	done = min(done, total)
	full := int(progressWidth * done / total) //nolint:gosec // at most progressWidth
	p.live.show(fmt.Sprintf("%s  [%s%s] %3d %%  %d of %d events", p.what,
		strings.Repeat("=", full), strings.Repeat(" ", progressWidth-full), 100*done/total, done, total))
}

// end leaves the line, so that what is printed next begins one.
func (p *progress) end() { p.live.end() }
