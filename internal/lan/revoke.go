package lan

import "github.com/avoqado/avoqado-edge/internal/auth"

// VerifyAgain closes the transports of the sessions whose token is no longer
// good, and returns how many they are: for when what makes a token good has
// changed. Their clients reconnect by themselves and are told why not.
func (s *Server) VerifyAgain() int {
	n := 0
	for _, sess := range s.live() {
		if _, err := s.verifier.Verify(sess.token); err != nil {
			s.end(sess)
			n++
		}
	}
	return n
}

// CloseSockets closes the transports of the sessions that match and returns
// how many they are. Their clients reconnect by themselves and are then told
// what their token is worth.
func (s *Server) CloseSockets(match func(auth.Grant) bool) int {
	n := 0
	for _, sess := range s.live() {
		if match(sess.grant) {
			s.end(sess)
			n++
		}
	}
	return n
}

func (s *Server) end(sess *session) {
	if sess.ended.CompareAndSwap(false, true) {
		s.counters.refuse(reasonRevoked)
		s.jobs.add(sess.link.drop)
	}
}
