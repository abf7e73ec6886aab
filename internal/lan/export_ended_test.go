package lan

// EndLogins ends the logins of all sessions and leaves their transports open,
// as it is for a moment when a token has ended.
func (s *Server) EndLogins() {
	for _, sess := range s.live() {
		sess.ended.Store(true)
	}
}
