package journal

import (
	"slices"
	"sync"
)

// maxOpen is how many sealed segments are mapped at a time: a 32-bit box has
// not the address space for all of them.
const maxOpen = 4

// pool keeps the sealed segments used last open, and closes the others.
type pool struct {
	mu   sync.Mutex
	open []*segment // least lately opened first
}

// opened notes that s was just opened, and closes whichever is too many. It
// waits for readers of that one, whose transactions are short.
func (p *pool) opened(s *segment) {
	p.mu.Lock()
	p.open = append(p.drop(s), s)
	var over []*segment
	if n := len(p.open) - maxOpen; n > 0 {
		over = slices.Clone(p.open[:n])
		p.open = slices.Clone(p.open[n:])
	}
	p.mu.Unlock()
	for _, old := range over {
		_ = old.release() // opened for reading: nothing can be lost
	}
}

// forget takes a segment out that its owner closes itself.
func (p *pool) forget(s *segment) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open = p.drop(s)
}

func (p *pool) drop(s *segment) []*segment {
	return slices.DeleteFunc(p.open, func(have *segment) bool { return have == s })
}
