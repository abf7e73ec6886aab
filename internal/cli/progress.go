package cli

import (
	"fmt"
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
	unit  string // of what is counted
	began time.Time
	drawn time.Time
	now   func() time.Time
}

func newProgress(s Streams, what string) *progress {
	now := s.now
	if now == nil {
		now = time.Now
	}
	return &progress{live: newLiveLine(s.Err), what: what, unit: "events", began: now(), now: now}
}

// show is told how much of how much is done; a total of zero is unknown.
func (p *progress) show(done, total uint64) {
	now := p.now()
	if !p.live.tty || now.Sub(p.began) < progressAfter || now.Sub(p.drawn) < progressEvery {
		return
	}
	p.drawn = now
	if total == 0 {
		p.live.show(fmt.Sprintf("%s  %d %s", p.what, done, p.unit))
		return
	}
	done = min(done, total)
	full := int(progressWidth * done / total) //nolint:gosec // at most progressWidth
	p.live.show(fmt.Sprintf("%s  [%s%s] %3d %%  %d of %d %s", p.what,
		strings.Repeat("=", full), strings.Repeat(" ", progressWidth-full), 100*done/total, done, total, p.unit))
}

// Write lets a log share the terminal with the bar: its lines begin at the left.
func (p *progress) Write(b []byte) (int, error) {
	p.live.end()
	return p.live.w.Write(b)
}

// end leaves the line, so that what is printed next begins one.
func (p *progress) end() { p.live.end() }
