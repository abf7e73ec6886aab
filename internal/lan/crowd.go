package lan

import "sync"

// crowd counts what each address, and with IPv6 each /64, has open, so that one of
// them cannot take what all need. Other than what [addresses] remembers, a count is never forgotten to
// make room: there are no more of them than things that are open.
type crowd struct {
	most int // of one address

	mu   sync.Mutex // guards below
	open map[string]int
}

func newCrowd(most int) *crowd { return &crowd{most: max(1, most), open: make(map[string]int)} }

// enter counts one more, also beyond the limit, and reports whether it is within.
func (c *crowd) enter(host string) (within bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	network := networkOf(host)
	c.open[network]++
	return c.open[network] <= c.most
}

// leave undoes one enter.
func (c *crowd) leave(host string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	network := networkOf(host)
	if c.open[network]--; c.open[network] <= 0 {
		delete(c.open, network)
	}
}

// full reports whether one more would be beyond the limit.
func (c *crowd) full(host string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open[networkOf(host)] >= c.most
}

// lonely counts a transport among those of its address that have no session, or
// takes it out of them. It is false for one too many.
func (l *link) lonely(is bool) (within bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.countLonely(is && !l.closed)
}

// countLonely is lonely; mu is held.
func (l *link) countLonely(is bool) (within bool) {
	if l.counted == is {
		return true
	}
	l.counted = is
	host := hostOf(l.conn.RemoteAddress())
	if is {
		return l.server.lonely.enter(host)
	}
	l.server.lonely.leave(host)
	return true
}

// crowdOut closes a new transport that is one too many of its address. Most are
// turned away before they are made; this is for those made at the same time.
func (l *link) crowdOut() {
	if l.busy.CompareAndSwap(false, true) {
		l.server.counters.refuse(reasonLonely)
		l.server.jobs.add(l.drop)
	}
}
