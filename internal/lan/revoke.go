package lan

import "github.com/avoqado/avoqado-edge/internal/auth"

// VerifyAgain closes the transports of the sessions whose token is no longer
// good, and returns how many they are: for when what makes a token good has
// changed. Their clients reconnect by themselves and are told why not.
func (s *Server) VerifyAgain() int {
	s.verdicts.Add(1) // first: who is on the way in looks at it once among the sessions
	return s.endSessions(func(sess *session) bool { return !s.allowed(sess) })
}

// CloseSockets closes the transports of the sessions that match and returns
// how many they are. Their clients reconnect by themselves and are then told
// what their token is worth.
func (s *Server) CloseSockets(match func(auth.Grant) bool) int {
	return s.endSessions(func(sess *session) bool { return match(sess.grant) })
}

// endLapsed runs each second. A session ends with its token, also where a lease
// lets the token in again: that one is given, told and recorded anew. A lease
// ends as soon as the cloud can be reached.
func (s *Server) endLapsed() {
	s.endSessions(func(sess *session) bool {
		return s.verifier.Lapsed(sess.grant) || !sess.grant.Lease.IsZero() && !s.allowed(sess)
	})
}

// allowed reports whether a session would be let in again as it is: a lease may
// give less by now.
func (s *Server) allowed(sess *session) bool {
	if s.verifier.Lapsed(sess.grant) || s.verifier.DeviceRevoked(sess.terminal) {
		return false
	}
	g, err := s.verifier.Verify(sess.token)
	return err == nil && g.Role == sess.grant.Role
}

func (s *Server) endSessions(match func(*session) bool) int {
	n := 0
	for _, sess := range s.live() {
		if match(sess) {
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
