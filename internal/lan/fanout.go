package lan

import (
	"context"
	"encoding/json"
	"slices"
	"sort"
	"sync/atomic"
	"time"

	"github.com/zishang520/socket.io/servers/socket/v3"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
)

const (
	batchEvents = 256
	batchBytes  = 1 << 20

	// The replayable events kept in memory; older ones are given up first.
	maxWindowEvents = 1024
	maxWindowBytes  = maxBacklog / 2 // so that a replay fits

	rereadAfter = time.Second // when the journal could not be read
)

// fanout shows the journal to the venue. One goroutine does it all: it shows
// events in the order of their seq and lets new sessions in between two of
// them, so that what a session is replayed and what it hears live meet without
// gap or double.
//
//	journal ─ Wait ─► watch ─ woken ─► run ── show ──► rooms
//	                                    ▲
//	        session ── admissions ──────┘ replay, join
type fanout struct {
	server *Server

	woken      chan struct{} // one entry while the journal may have more
	admissions chan admission

	shown atomic.Uint64 // the last seq shown
	roles map[event.Role]*atomic.Int64

	// Owned by run.
	window      []event.Event // replayable, oldest first
	windowBytes int
	failing     bool // the last read failed
}

type admission struct {
	sess *session
	done chan struct{}
}

func newFanout(s *Server) *fanout {
	f := &fanout{
		server:     s,
		woken:      make(chan struct{}, 1),
		admissions: make(chan admission),
		roles:      make(map[event.Role]*atomic.Int64),
	}
	for _, role := range event.Roles() {
		f.roles[role] = new(atomic.Int64)
	}
	f.shown.Store(uint64(s.journal.Stored()))
	return f
}

// seen returns the last seq shown: all up to it has been handed to the
// transports of the sessions it was for.
func (f *fanout) seen() event.Seq { return event.Seq(f.shown.Load()) }

func (f *fanout) absent(role event.Role) {
	if n := f.roles[role]; n != nil {
		n.Add(-1)
	}
}

// admit lets a session in and waits until it is; false: it did not get in.
func (f *fanout) admit(sess *session) bool {
	timeout := time.NewTimer(admissionTimeout)
	defer timeout.Stop()
	a := admission{sess: sess, done: make(chan struct{})}
	select {
	case f.admissions <- a:
	case <-sess.closed:
		return true
	case <-timeout.C:
		return false
	}
	<-a.done // the goroutine that took it does not wait for anything
	return true
}

// watch tells run when the journal has more.
func (f *fanout) watch(ctx context.Context) {
	after := f.seen()
	for ctx.Err() == nil {
		if err := f.server.journal.Wait(ctx, after); err != nil {
			if ctx.Err() == nil {
				f.server.counters.readErrors.Add(1)
			}
			pause(ctx, rereadAfter)
			continue
		}
		after = f.server.journal.Stored()
		f.wake()
	}
}

func (f *fanout) wake() {
	select {
	case f.woken <- struct{}{}:
	default:
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// run shows events until ctx ends.
func (f *fanout) run(ctx context.Context) {
	f.load(ctx)
	f.wake()
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case a := <-f.admissions:
			f.server.guard("admission", func() { f.enter(a) })
			close(a.done)
			continue
		case <-f.woken:
		case <-retry.C:
		}
		switch more, err := f.batch(); {
		case err != nil:
			retry.Reset(rereadAfter)
		case more:
			f.wake() // after whoever waits to be let in
		}
	}
}

// batch shows the next events; more says that there may be others.
func (f *fanout) batch() (more bool, err error) {
	events, err := f.server.journal.Read(f.seen(), batchEvents, batchBytes)
	if err != nil {
		f.server.counters.readErrors.Add(1)
		if !f.failing {
			f.server.log.Error("journal not readable, venue waits", "after", f.seen(), "err", err)
		}
		f.failing = true
		return false, err
	}
	if f.failing {
		f.server.log.Info("journal readable again")
		f.failing = false
	}
	now := time.Now()
	for i := range events {
		e := &events[i]
		f.server.guard("fan-out", func() { f.show(e, now) })
		f.shown.Store(uint64(e.Seq))
	}
	return len(events) > 0 && f.seen() < f.server.journal.Stored(), nil
}

// show sends one event to everybody it is for, each socket once.
func (f *fanout) show(e *event.Event, now time.Time) {
	s := f.server
	if e.Expired(now) {
		s.counters.expired.Add(1)
		return
	}
	row, ok := event.Lookup(e.Kind)
	if ok && !row.Shown() {
		return
	}
	if ok && replayed(row) {
		f.remember(*e)
		s.positions.shown(e.Seq, f.present(e))
	}
	to, except := s.rooms.of(e.Audience)
	if e.Sender != "" {
		except = append(except, socket.Room(e.Sender))
	}
	_ = s.io.To(to...).Except(except...).Emit(string(e.Kind), json.RawMessage(e.Payload))
	s.counters.fannedOut.Add(1)
}

// replayed reports whether a kind is replayed: alerts so far. The catalogue
// has a window for more, which want a replay that is paced.
func replayed(row *event.Row) bool { return row.Replay > 0 && row.Family == event.Alert }

// present lists the roles that have somebody here to hear the event: its own
// sender does not count.
func (f *fanout) present(e *event.Event) []event.Role {
	sender := f.server.session(e.Sender)
	var roles []event.Role
	for role, n := range f.roles {
		here := n.Load()
		if sender != nil && sender.grant.Role == role {
			here--
		}
		if here > 0 {
			roles = append(roles, role)
		}
	}
	return roles
}

// remember keeps a replayable event for those who come back.
func (f *fanout) remember(e event.Event) {
	f.window = append(f.window, e)
	f.windowBytes += len(e.Payload)
	for len(f.window) > maxWindowEvents || f.windowBytes > maxWindowBytes {
		f.windowBytes -= len(f.window[0].Payload)
		f.window = slices.Delete(f.window, 0, 1)
		f.server.counters.forgotten.Add(1)
	}
}

// load finds the replayable events of the last hours. The journal has no index
// by time, but its times grow with its seqs near enough to search by halves.
func (f *fanout) load(ctx context.Context) {
	s := f.server
	var longest time.Duration
	for _, row := range event.Catalogue() {
		longest = max(longest, row.Replay)
	}
	since := time.Now().Add(-longest)
	through := f.seen()
	at := event.Seq(sort.Search(int(through), func(i int) bool {
		events, err := s.journal.Read(event.Seq(i), 1, 1)
		return err != nil || len(events) == 0 || !events[0].Time.Before(since)
	}))
	for at < through && ctx.Err() == nil {
		events, err := s.journal.Read(at, batchEvents, batchBytes)
		if err != nil {
			s.counters.readErrors.Add(1)
			s.log.Error("journal not readable, older alerts are not replayed", "after", at, "err", err)
			return
		}
		if len(events) == 0 {
			return
		}
		for _, e := range events {
			if row, ok := event.Lookup(e.Kind); ok && replayed(row) && e.Seq <= through {
				f.remember(e)
				s.positions.shown(e.Seq, nil)
			}
		}
		at = events[len(events)-1].Seq
	}
}

// enter replays what the session missed and puts it into its rooms.
func (f *fanout) enter(a admission) {
	sess, s := a.sess, f.server
	f.replay(sess, time.Now())

	sess.mu.Lock()
	defer sess.mu.Unlock()
	if sess.gone {
		return
	}
	list := []socket.Room{s.rooms.everyone(), s.rooms.role(sess.grant.Role), s.rooms.user(sess.grant.Subject)}
	if sess.terminal != "" {
		list = append(list, s.rooms.terminal(sess.terminal))
	}
	sess.io.Join(list...)
	sess.admitted = true
	sess.link.session.Store(sess)
	if n := f.roles[sess.grant.Role]; n != nil {
		n.Add(1)
	}
}

// replay sends the replayable events behind the session's position, marked.
// A recipient without a position, who was never here, is not told what staff
// said to each other before; what the cloud said it is told from the position
// of its role on, so that somebody hears it and not each newcomer again. What
// was for this one recipient by name the role cannot have heard in its place.
func (f *fanout) replay(sess *session, now time.Time) {
	s := f.server
	after, own := s.positions.of(sess.recipient())
	byRole := after
	if !own {
		byRole, _ = s.positions.of(roleKey(sess.grant.Role))
	}
	from := f.seen() // what it is taken to have heard
	for i := range f.window {
		e := &f.window[i]
		row, ok := event.Lookup(e.Kind)
		if !ok || e.Expired(now) || !replayed(row) || now.Sub(e.Time) > row.Replay {
			continue
		}
		mine, named := sess.hears(e.Audience)
		if !mine || (e.Seq <= byRole && !named) || e.Seq <= after {
			continue
		}
		if !own && !named && e.Origin != event.Cloud {
			continue
		}
		if e.Origin == event.Terminal && e.Actor == sess.grant.Subject && e.Terminal == sess.terminal {
			continue // its own
		}
		o, err := event.ParseObject(e.Payload)
		if err != nil {
			continue
		}
		sess.emit(string(e.Kind), o.With(event.Member{Key: "replayed", Value: []byte("true")}))
		s.counters.replayed.Add(1)
		from = min(from, e.Seq-1)
	}
	if !own {
		// From now on it speaks for itself: what it is sent and does not prove
		// it gets again, whatever its role has heard in the meantime.
		s.positions.prove(sess.recipient(), from)
	}
}

// hears reports whether a session that is in no table or order yet belongs to
// an audience, and whether it is named there as itself.
func (sess *session) hears(a event.Audience) (in, named bool) {
	if slices.Contains(a.Except, sess.grant.Role) {
		return false, false
	}
	named = slices.Contains(a.Users, sess.grant.Subject) || slices.ContainsFunc(a.Terminals, func(id string) bool {
		return sess.terminal != "" && auth.NormaliseTerminal(id) == sess.terminal
	})
	return named || a.Everyone() || slices.Contains(a.Roles, sess.grant.Role), named
}
