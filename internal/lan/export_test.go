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

// Left counts what is kept per connection: links, connections and sockets in
// the library, sessions.
func (s *Server) Left() int {
	n := s.io.Engine().Clients().Len() + s.io.Sockets().Sockets().Len() + len(s.live())
	s.links.Range(func(any, any) bool { n++; return true })
	return n
}
