package lan

import "github.com/avoqado/avoqado-edge/internal/event"

// crowded says that too much waits for some client. It may be called on any
// goroutine and never blocks.
func (f *fanout) crowded() {
	f.crowds.Store(true)
	f.wake()
}

// retire takes the sessions for which too much waits out of their rooms. It
// runs on the fan-out's goroutine, between two events, so each goes on exactly
// behind what it was shown: what it is sent from then on it is sent by
// [followers], as fast as it reads, and it costs no more memory than it has.
func (f *fanout) retire() {
	if !f.crowds.Swap(false) {
		return
	}
	for _, sess := range f.server.live() {
		if sess.link.waiting() > maxBacklog/2 {
			f.server.guard("retirement", func() { f.fall(sess) })
		}
	}
}

// fall makes a follower of a session that is live.
func (f *fanout) fall(sess *session) {
	s := f.server
	sess.mu.Lock()
	defer sess.mu.Unlock()
	if !sess.admitted || sess.gone {
		return
	}
	for _, room := range sess.rooms() {
		sess.io.Leave(room)
	}
	f.absent(sess.grant.Role)
	sess.admitted = false
	sess.relays = f.relays.Load()
	fol := &follower{sess: sess, fell: true, flying: true}
	fol.moveTo(f.seen())
	sess.behind.Store(fol)
	s.counters.behind.Add(1)
	s.counters.fellBehind.Add(1)
	s.followers.add(fol)
	s.jobs.add(func() {
		s.log.Warn("client reads too slowly, goes on from the journal",
			"sid", sess.sid, "user", sess.grant.Subject, "terminal", sess.terminal, "address", sess.address)
	})
}

// isSlow reports whether the session fell behind and is not up to date yet.
func (sess *session) isSlow() bool {
	fol := sess.behind.Load()
	return fol != nil && fol.fell
}

// caughtUp notes that a session that fell behind is live again, and has its
// client fetch anew, as it would have been told to in the meantime. sess.mu is held.
func (f *fanout) caughtUp(sess *session) {
	s := f.server
	s.counters.behind.Add(-1)
	s.counters.caughtUp.Add(1)
	for _, kind := range []event.Kind{event.UpdateDashboard, event.ShiftUpdate} {
		sess.emit(string(kind), s.refreshBody(s.cfg.Now()))
	}
	s.jobs.add(func() {
		s.log.Info("client is up to date again", "sid", sess.sid, "user", sess.grant.Subject, "terminal", sess.terminal)
	})
}

// backlog returns how many bytes wait for the client for which most waits.
func (s *Server) backlog() int64 {
	most := 0
	s.links.Range(func(_, l any) bool {
		most = max(most, l.(*link).waiting())
		return true
	})
	return int64(most)
}
