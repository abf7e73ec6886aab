package lan

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/lan/recovery"
)

const (
	followEvery  = 10 * time.Millisecond // while somebody is behind
	followEvents = 256                   // of one follower at a time
	followBytes  = 128 << 10             // of one follower at a time, well below maxBacklog
	admitEvents  = 32                    // what the fan-out itself may give a follower

	// A terminal's application holds eleven events and drops the oldest of more
	// (contract §1.9), so a replay comes in small bursts.
	burst      = 5
	burstEvery = 100 * time.Millisecond
	paceFor    = 30 * time.Second // then it gets what is left as fast as it reads

	// A replay waits for the client to say which rooms it is in.
	roomsWait  = time.Second
	roomsQuiet = 200 * time.Millisecond

	maxPlan = 4096 // replayed events looked for at once
)

// followers are the sessions that are behind, since they were away or read too
// slowly: each reads the journal from its own place until the fan-out takes it
// over. One goroutine serves them all in
// turn and waits for nobody: a follower gets more once its connection has
// written what it got, so a slow one costs one batch of memory.
//
//	recovered:  place the client names ──► every event of its rooms ──► fan-out
//	slow:       what it was shown last ──► every event of its rooms ──► fan-out
//	others:     proven position ─► survey ─► what is worth replaying, marked and
//	            paced ─► what came meanwhile ──► fan-out
type followers struct {
	server *Server
	wake   chan struct{} // one entry while there are newcomers

	mu       sync.Mutex // guards below
	arriving []*follower
}

// follower is one session that is behind. Its fields belong to the goroutine of
// followers, and to the fan-out during an admission.
type follower struct {
	sess *session
	at   atomic.Uint64 // it was sent all up to here, as far as it is for it
	fell bool          // it was live, and read too slowly; set once

	// Of one that was not recovered.
	own     bool      // it has a position of its own
	byRole  event.Seq // what its role has heard
	scanned event.Seq // looked at for the plan
	through event.Seq // the replay ends here
	plan    []event.Seq
	newest  map[string]int // while looking: of kinds where the latest counts, its place in the plan

	flying bool // was sent something that may not be written yet
	due    time.Time
	paced  time.Time // when the replay last sent something
}

func (fol *follower) position() event.Seq  { return event.Seq(fol.at.Load()) }
func (fol *follower) moveTo(seq event.Seq) { fol.at.Store(uint64(seq)) }

// shown returns the seq up to which all that is for the session has been handed
// to its transport.
func (sess *session) shown() event.Seq {
	seen := sess.server.fan.seen()
	if fol := sess.behind.Load(); fol != nil {
		return min(seen, fol.position())
	}
	return seen
}

// add takes a session in.
func (f *followers) add(fol *follower) {
	f.mu.Lock()
	f.arriving = append(f.arriving, fol)
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *followers) arrived() []*follower {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := f.arriving
	f.arriving = nil
	return list
}

// run serves followers until ctx ends.
func (f *followers) run(ctx context.Context) {
	var list []*follower
	for {
		var tick <-chan time.Time
		if len(list) > 0 {
			tick = time.After(followEvery)
		}
		select {
		case <-ctx.Done():
			return
		case <-f.wake:
		case <-tick:
		}
		for moved := true; moved && ctx.Err() == nil; {
			moved = false
			list = append(list, f.arrived()...)
			list = slices.DeleteFunc(list, func(fol *follower) bool {
				over, more := true, false
				if !f.server.guard("replay", func() { over, more = f.advance(ctx, fol) }) {
					f.server.jobs.add(fol.sess.link.drop)
				}
				if over {
					fol.sess.settle()
				}
				moved = moved || more
				return over
			})
		}
	}
}

// settle lets the session's own events be served.
func (sess *session) settle() { sess.settling.Do(func() { close(sess.settled) }) }

// advance takes a follower one step on. over says that it is in its rooms, or
// gone; more, that another step can follow at once.
func (f *followers) advance(ctx context.Context, fol *follower) (over, more bool) {
	select {
	case <-fol.sess.closed:
		return true, false
	default:
	}
	now := time.Now()
	if fol.flying && fol.sess.link.idle() {
		fol.flying = false
	}
	if fol.flying || now.Before(fol.due) {
		fol.sess.settle() // this may take a while
		return false, false
	}
	if fol.position() < fol.through {
		return false, f.replay(fol, now)
	}
	seen, limit, near := f.server.fan.seen(), followEvents, event.Seq(admitEvents)
	paced := now.Sub(fol.paced) < paceFor
	if paced {
		near = burst // what gathered meanwhile is no less a burst
	}
	if seen <= fol.position()+near && f.server.fan.admit(ctx, fol) {
		return true, false
	}
	if paced {
		// More as more gathers: it must come nearer.
		limit = burst + int(seen-min(seen, fol.position()))/50
		fol.due = now.Add(burstEvery)
	}
	if err := f.step(fol, seen, limit); err != nil {
		fol.due = now.Add(rereadAfter)
		return false, false
	}
	return false, true
}

// step sends a follower what is stored behind it, up to a limit of events.
func (f *followers) step(fol *follower, through event.Seq, limit int) error {
	s := f.server
	at := fol.position()
	if at >= through {
		return nil
	}
	events, err := s.journal.Read(at, limit, followBytes)
	if err != nil {
		s.counters.readErrors.Add(1)
		return err
	}
	if len(events) == 0 { // nothing behind it can be read
		events = []event.Event{{Seq: through + 1}}
	}
	for i := range events {
		e := &events[i]
		if e.Seq > at+1 {
			fol.sess.emit(syncRequired, s.loss(lossOnDisk, at+1, min(e.Seq-1, through)))
			fol.moveTo(min(e.Seq-1, through))
		}
		if e.Seq > through {
			break
		}
		at = e.Seq
		if in, _ := fol.sess.hears(&e.Audience); in && e.Sender != fol.sess.self && s.visible(e) {
			fol.sess.emit(string(e.Kind), e.Payload, event.Quote(recovery.Offset(e.Epoch, e.Seq)))
			s.counters.replayed.Add(1)
			fol.flying = true
		}
		fol.moveTo(at) // behind the emit: a ping between the two proves less, not more
	}
	return nil
}

// replay goes on with what a session missed that was not recovered: first it
// looks for what there is, then it sends it. more: it can go on at once.
func (f *followers) replay(fol *follower, now time.Time) (more bool) {
	if fol.newest != nil { // looking
		if err := f.survey(fol); err != nil {
			fol.due = now.Add(rereadAfter)
			return false
		}
		if fol.scanned < fol.through && len(fol.plan) < maxPlan {
			return true
		}
		f.planned(fol)
	}
	if len(fol.plan) == 0 {
		return f.replayed(fol)
	}
	if !fol.sess.roomsKnown(now) {
		fol.sess.settle() // or it could not say
		return false
	}
	for sent := 0; sent < burst && len(fol.plan) > 0; fol.plan = fol.plan[1:] {
		ok, err := f.again(fol, fol.plan[0])
		if err != nil {
			fol.due = now.Add(rereadAfter)
			return false
		}
		fol.moveTo(fol.plan[0])
		if ok {
			sent++
		}
	}
	fol.due, fol.paced = now.Add(burstEvery), now
	return false
}

// planned runs when enough has been looked at.
func (f *followers) planned(fol *follower) {
	fol.newest = nil
	fol.plan = slices.DeleteFunc(fol.plan, func(seq event.Seq) bool { return seq == 0 })
	first := fol.scanned
	if len(fol.plan) > 0 {
		first = fol.plan[0] - 1
	}
	if !fol.own {
		// From now on it speaks for itself: what it is sent and does not prove
		// it gets again, whatever its role has heard in the meantime.
		f.server.positions.prove(fol.sess.recipient(), first)
	}
	if first == fol.through { // nothing was missed
		fol.sess.rec.Prove(fol.through)
		f.server.recovery.Save(func() {})
	}
}

// replayed runs when all of the plan was sent.
func (f *followers) replayed(fol *follower) (more bool) {
	fol.moveTo(fol.scanned)
	if fol.scanned < fol.through {
		fol.newest = make(map[string]int) // there may be more
	}
	return true
}

// roomsKnown reports whether the client has said where it is.
func (sess *session) roomsKnown(now time.Time) bool {
	if now.Sub(sess.connectedAt) >= roomsWait {
		return true
	}
	last := sess.joined.Load()
	return last > 0 && now.Sub(time.UnixMilli(last)) >= roomsQuiet
}

// survey looks for what is worth replaying. Somebody who was here before gets
// what was stored behind its position. A recipient without a position, who was
// never here, is not told what staff said to each other before; what the cloud
// said it is told from the position of its role on, so that somebody hears it
// and not each newcomer again. What was for this one recipient by name the role
// cannot have heard in its place.
func (f *followers) survey(fol *follower) error {
	s := f.server
	now := s.cfg.Now()
	if !fol.own {
		for _, e := range s.fan.remembered(fol.through) {
			in, named := fol.sess.hears(&e.Audience)
			if in && (named || (e.Seq > fol.byRole && e.Origin == event.Cloud)) {
				f.consider(fol, &e, now, "")
			}
		}
		fol.scanned = fol.through
		return nil
	}
	events, err := s.journal.Read(fol.scanned, followEvents, batchBytes)
	if err != nil {
		s.counters.readErrors.Add(1)
		return err
	}
	if len(events) == 0 {
		events = []event.Event{{Seq: fol.through + 1, Time: now}}
	}
	for i := range events {
		e := &events[i]
		if e.Seq > fol.scanned+1 && now.Sub(e.Time) < longestReplay() {
			fol.sess.emit(syncRequired, s.loss(lossOnDisk, fol.scanned+1, min(e.Seq-1, fol.through)))
		}
		fol.scanned = min(e.Seq, fol.through)
		if e.Seq > fol.through {
			break
		}
		if in, _ := fol.sess.hears(&e.Audience); in {
			f.consider(fol, e, now, "")
		} else if len(e.Audience.Tables)+len(e.Audience.Orders) > 0 {
			f.consider(fol, e, now, "in a room") // which it may be about to join
		}
		if len(fol.plan) >= maxPlan {
			return nil
		}
	}
	return nil
}

// consider puts an event into the plan if it is worth it.
func (f *followers) consider(fol *follower, e *event.Event, now time.Time, where string) {
	sess := fol.sess
	row, ok := event.Lookup(e.Kind)
	if !ok || now.Sub(e.Time) > row.Replay || !f.server.visible(e) {
		return
	}
	if e.Origin == event.Terminal && e.Actor == sess.grant.Subject && e.Terminal == sess.terminal {
		return // its own
	}
	if row.Latest {
		key := row.ReplayKey(e) + where
		if i, older := fol.newest[key]; older {
			fol.plan[i] = 0
		}
		fol.newest[key] = len(fol.plan)
	}
	fol.plan = append(fol.plan, e.Seq)
}

// again sends one event of the plan, marked; ok says that it was for the
// session after all.
func (f *followers) again(fol *follower, seq event.Seq) (ok bool, err error) {
	s := f.server
	events, err := s.journal.Read(seq-1, 1, 1)
	if err != nil {
		s.counters.readErrors.Add(1)
		return false, err
	}
	if len(events) == 0 || events[0].Seq != seq {
		fol.sess.emit(syncRequired, s.loss(lossOnDisk, seq, seq))
		return false, nil
	}
	e := &events[0]
	if in, _ := fol.sess.hears(&e.Audience); !in || s.expired(e) {
		return false, nil
	}
	o, bad := event.ParseObject(e.Payload)
	if bad != nil {
		s.counters.writeErrors.Add(1)
		return false, nil //nolint:nilerr // counted; nobody was shown it live either
	}
	// Without an offset: it would take the client back to before it came.
	fol.sess.emit(string(e.Kind), o.With(event.Member{Key: "replayed", Value: []byte("true")}))
	s.counters.replayed.Add(1)
	fol.flying = true
	return true, nil
}
