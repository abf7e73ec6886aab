package lan

// Sweep runs what runs every minute.
func (s *Server) Sweep() { s.sweep() }

// Polls counts the poll requests that wait for something to send.
func (s *Server) Polls() (n int) {
	s.links.Range(func(_, l any) bool {
		l.(*link).mu.Lock()
		defer l.(*link).mu.Unlock()
		for p := range l.(*link).polls {
			p.mu.Lock()
			if p.waits {
				n++
			}
			p.mu.Unlock()
		}
		return true
	})
	return n
}
