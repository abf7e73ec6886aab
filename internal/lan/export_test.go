package lan

// Sweep runs what runs every minute.
func (s *Server) Sweep() { s.sweep() }
