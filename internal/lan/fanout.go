package lan

import (
	"context"
	"encoding/json"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zishang520/socket.io/servers/socket/v3"

	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/lan/recovery"
)

const (
	batchEvents = 256
	batchBytes  = 1 << 20

	// The events kept in memory for newcomers; older ones are given up first.
	maxWindowEvents = 1024
	maxWindowBytes  = 2 << 20

	rereadAfter = time.Second // when the journal could not be read
)

// fanout shows the journal to the venue. One goroutine does it all: it shows
// events in the order of their seq and lets sessions in between two of them, so
// that what a session was given by [followers] and what it hears live meet
// without gap or double.
//
//	journal ─ Wait ─► watch ─ woken ─► run ── show ──► rooms
//	                                    ▲
//	      followers ── admissions ──────┘ the last few events, join
type fanout struct {
	server *Server

	woken      chan struct{} // one entry while the journal may have more
	admissions chan admission

	shown atomic.Uint64 // the last seq shown

	// What was shown here and is another box's; see elsewhere.
	foreign atomic.Uint64 // the last seq shown before the latest of it
	relays  atomic.Uint64 // how often

	roles map[event.Role]*atomic.Int64

	crowds atomic.Bool // too much waits for somebody

	failing bool // the last read failed; owned by run

	mu          sync.Mutex    // guards below
	window      []event.Event // what newcomers may be told, oldest first
	windowBytes int
}

// admission asks for a follower to be let in; done says whether it was.
type admission struct {
	follower *follower
	done     chan bool
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
	f.foreign.Store(f.shown.Load()) // what others said while this box was down
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

// admit lets a follower in, if it is near enough, and reports whether it did.
func (f *fanout) admit(ctx context.Context, fol *follower) bool {
	a := admission{follower: fol, done: make(chan bool, 1)}
	select {
	case f.admissions <- a:
		return <-a.done // the goroutine that took it does not wait for anything
	case <-ctx.Done():
		return false
	}
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
		f.server.desk.wake()
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
	others := f.server.others()
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case a := <-f.admissions:
			in := false
			f.server.guard("admission", func() { in = f.enter(a.follower) })
			a.done <- in
			continue
		case m := <-others:
			f.server.guard("relay", func() { f.relay(m) })
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
	f.retire()
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
	for i := range events {
		e := &events[i]
		if seen := f.seen(); e.Seq > seen+1 {
			f.server.guard("fan-out", func() { f.missing(seen+1, e.Seq-1) })
		}
		f.server.guard("fan-out", func() { f.show(e) })
		f.shown.Store(uint64(e.Seq))
		f.retire()
	}
	return len(events) > 0 && f.seen() < f.server.journal.Stored(), nil
}

// show sends one event to everybody it is for, each socket once.
func (f *fanout) show(e *event.Event) {
	s := f.server
	if !s.visible(e) {
		return
	}
	if row, ok := event.Lookup(e.Kind); ok && row.Replay > 0 {
		f.remember(e)
		s.positions.shown(e.Seq, f.present(e))
	}
	to, except := s.rooms.of(e.Audience)
	if e.Sender != "" {
		except = append(except, socket.Room(e.Sender))
	}
	_ = s.about(e.Origin).To(to...).Except(except...).Emit(string(e.Kind), json.RawMessage(e.Payload), recovery.Offset(e.Epoch, e.Seq))
	s.counters.fannedOut.Add(1)
}

// visible reports whether clients may be shown an event at all.
func (s *Server) visible(e *event.Event) bool {
	if s.expired(e) {
		s.counters.expired.Add(1)
		return false
	}
	row, ok := event.Lookup(e.Kind)
	return !ok || row.Shown()
}

func (s *Server) expired(e *event.Event) bool {
	return !e.Expires.IsZero() && e.Expired(s.cfg.Trusted())
}

// missing tells everybody of events that were lost on disk before they were
// shown.
func (f *fanout) missing(from, through event.Seq) {
	f.server.log.Error("events lost before they were shown", "from", from, "to", through)
	_ = f.server.io.Local().To(f.server.rooms.everyone()).Emit(syncRequired, f.server.loss(lossOnDisk, from, through))
}

// present lists the roles that have somebody here to hear the event: its own
// sender does not count.
func (f *fanout) present(e *event.Event) []event.Role {
	senderHere := false
	if e.Sender != "" {
		sockets, ok := f.server.io.Sockets().Adapter().Rooms().Load(socket.Room(e.Sender))
		senderHere = ok && sockets.Len() > 0
	}
	var roles []event.Role
	for role, n := range f.roles {
		here := n.Load()
		if senderHere && e.Role == role {
			here--
		}
		if here > 0 {
			roles = append(roles, role)
		}
	}
	return roles
}

// remember keeps an event that a newcomer may be told: what the cloud said, and
// what names its reader.
func (f *fanout) remember(e *event.Event) {
	if e.Origin != event.Cloud && len(e.Audience.Users)+len(e.Audience.Terminals) == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.window = append(f.window, *e)
	f.windowBytes += len(e.Payload)
	for len(f.window) > maxWindowEvents || f.windowBytes > maxWindowBytes {
		f.windowBytes -= len(f.window[0].Payload)
		f.window = slices.Delete(f.window, 0, 1)
		f.server.counters.forgotten.Add(1)
	}
}

// remembered returns what newcomers may be told of what was stored up to a seq.
func (f *fanout) remembered(through event.Seq) []event.Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := sort.Search(len(f.window), func(i int) bool { return f.window[i].Seq > through })
	return slices.Clone(f.window[:n])
}

// recent returns the seq behind which the events of the last while begin. The
// journal has no index by time, but its times grow with its seqs near enough to
// search by halves.
func (s *Server) recent(while time.Duration, through event.Seq) event.Seq {
	begin := s.cfg.Now().Add(-while)
	return event.Seq(sort.Search(int(through), func(i int) bool {
		events, err := s.journal.Read(event.Seq(i), 1, 1)
		return err != nil || len(events) == 0 || !events[0].Time.Before(begin)
	}))
}

// longestReplay is for how long the kind lives that is replayed the longest.
func longestReplay() (longest time.Duration) {
	for _, row := range event.Catalogue() {
		longest = max(longest, row.Replay)
	}
	return longest
}

// load finds what newcomers may be told of the last hours.
func (f *fanout) load(ctx context.Context) {
	s := f.server
	through := f.seen()
	at := s.recent(longestReplay(), through)
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
		for i := range events {
			e := &events[i]
			if row, ok := event.Lookup(e.Kind); ok && row.Replay > 0 && e.Seq <= through {
				f.remember(e)
				s.positions.shown(e.Seq, nil)
			}
		}
		at = events[len(events)-1].Seq
	}
}

// enter gives a follower the few events it lacks, if they are few, and puts it
// into its rooms; false: it is not near enough yet.
func (f *fanout) enter(fol *follower) bool {
	sess, s := fol.sess, f.server
	if err := s.followers.step(fol, f.seen(), admitEvents); err != nil || f.seen() > fol.position() {
		return false
	}
	sess.mu.Lock()
	defer sess.mu.Unlock()
	if sess.gone {
		return true
	}
	sess.io.Join(sess.rooms()...)
	sess.admitted = true
	sess.behind.Store(nil)
	if fol.fell {
		f.caughtUp(sess)
	}
	if sess.relays != f.relays.Load() { // before it was in its rooms
		sess.emit(syncRequired, s.loss(lossElsewhere, 0, 0))
	}
	s.positions.prove(roleKey(sess.grant.Role), f.seen()) // it was told what its role lacked
	if n := f.roles[sess.grant.Role]; n != nil {
		n.Add(1)
	}
	if sess.link.waiting() > maxBacklog/2 { // which was said while it was no matter
		f.crowded()
	}
	return true
}

// rooms lists the rooms a session belongs to. sess.mu is held.
func (sess *session) rooms() []socket.Room {
	r := sess.server.rooms
	list := []socket.Room{
		r.everyone(), r.role(sess.grant.Role), r.user(sess.grant.Subject), socket.Room(sess.self),
	}
	if sess.terminal != "" {
		list = append(list, r.terminal(sess.terminal))
	}
	for p := range sess.places {
		list = append(list, sess.server.placeRoom(p))
	}
	return list
}

// hears reports whether a session belongs to an audience, and whether it is
// named there as itself.
func (sess *session) hears(a *event.Audience) (in, named bool) {
	if slices.Contains(a.Except, sess.grant.Role) {
		return false, false
	}
	named = slices.Contains(a.Users, sess.grant.Subject) || slices.ContainsFunc(a.Terminals, func(id string) bool {
		return sess.terminal != "" && sess.server.terminals.same(id, sess.terminal)
	})
	if named || a.Everyone() || slices.Contains(a.Roles, sess.grant.Role) {
		return true, named
	}
	sess.mu.Lock()
	defer sess.mu.Unlock()
	for _, id := range a.Tables {
		if _, at := sess.places[place{"table", id}]; at {
			return true, false
		}
	}
	for _, id := range a.Orders {
		if _, at := sess.places[place{"order", id}]; at {
			return true, false
		}
	}
	return false, false
}
