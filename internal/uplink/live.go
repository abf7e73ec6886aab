package uplink

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

const (
	behindBy   = 2 * maxBatchEvents // events that make a backlog: two batches more than is sent
	liveQueue  = 256                // live events that wait for their turn
	liveBatch  = 32                 // of them in one message
	liveBytes  = 32 << 10
	liveWindow = 4 // live messages without a PUBACK
	livePause  = 5 * time.Millisecond
	livePatch  = 1 << 20          // bytes of the filter
	liveFor    = 10 * time.Second // what is younger when the backlog is found is live, too
)

// early are live events on their way to the sender: copies of what the backlog
// lane will bring in its turn. A copy that is lost is no loss.
type early struct {
	events []event.Event
}

// scout looks ahead while there is a backlog: what happens now is offered to
// send, before the backlog, unless something about the same order, payment,
// table or terminal is still in it. It ends with ctx, then perhaps with an error
// of the journal. Any other error ends the link.
func (u *Uplink) scout(ctx context.Context, live chan<- early) error {
	for ctx.Err() == nil {
		stored := u.marks.Stored()
		if !u.behind(stored) {
			if err := u.journal.Wait(ctx, stored); err != nil {
				return fmt.Errorf("%w: wait: %w", errJournal, err)
			}
			continue
		}
		if err := u.lookAhead(ctx, stored, live); err != nil {
			return fmt.Errorf("%w: look ahead: %w", errJournal, err)
		}
	}
	return nil
}

// behind reports whether what is sent is a backlog away from a position.
func (u *Uplink) behind(stored event.Seq) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return stored >= u.reached+behindBy
}

// overtaken reports whether the backlog lane has come to a position.
func (u *Uplink) overtaken(at event.Seq) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.reached >= at
}

// lookAhead learns what the backlog up to a position is about, then offers what
// comes behind it, until the backlog lane has caught up. What has happened just
// now is offered though it is part of the backlog.
func (u *Uplink) lookAhead(ctx context.Context, horizon event.Seq, live chan<- early) error {
	var (
		waiting = newKeyFilter()
		queue   []event.Event
		keys    []string
		pause   = time.NewTimer(0)
	)
	defer pause.Stop()
	old := time.Now().Add(-liveFor)
	for at := u.Status().Synced; ctx.Err() == nil; {
		if len(queue) == 0 && at >= horizon {
			if err := u.journal.Wait(ctx, at); err != nil {
				return err
			}
		}
		if u.overtaken(max(at, horizon)) {
			return nil
		}
		events, err := u.journal.Read(at, maxBatchEvents, maxBatchBytes)
		if hole, ok := errors.AsType[lost](err); ok {
			_, at = hole.Lost()
			continue
		}
		if err != nil {
			return err
		}
		for i := range events {
			e := &events[i]
			at = e.Seq
			if !travels(e) {
				continue
			}
			keys = appendKeys(keys[:0], e)
			if at <= horizon && e.Time.Before(old) || len(queue) >= liveQueue || waiting.hasAny(keys) || u.parking.holds(keys) {
				waiting.add(keys) // it goes with the backlog, and so does what follows on it
				continue
			}
			queue = append(queue, *e)
		}
		if len(events) == 0 {
			horizon = min(horizon, at) // there is less than was said: the rest is lost
		}
		if len(queue) == 0 {
			continue
		}
		slices.SortStableFunc(queue, byUrgency(queue))
		n := messageOf(queue)
		pause.Reset(livePause)
		select {
		case <-ctx.Done():
		case live <- early{slices.Clone(queue[:n])}:
			queue = slices.Delete(queue, 0, n)
		case <-pause.C:
		}
	}
	return nil
}

// messageOf returns how many of the events, at least one, fit into one message.
func messageOf(queue []event.Event) int {
	size := 0
	for n := range queue {
		if size += len(queue[n].Payload) + 512; n > 0 && (n == liveBatch || size > liveBytes) {
			return n
		}
	}
	return len(queue)
}

// byUrgency orders live events: money first, then orders, alerts and the rest,
// and each behind what was said before it about one of its keys.
func byUrgency(queue []event.Event) func(a, b event.Event) int {
	urgency := make(map[event.Seq]event.Class, len(queue))
	ofKey := make(map[string]event.Class, len(queue))
	order := slices.Clone(queue)
	slices.SortFunc(order, func(a, b event.Event) int { return int(int64(b.Seq) - int64(a.Seq)) }) //nolint:gosec // positions are small
	for i := range order {
		e := &order[i]
		class, keys := e.Class, appendKeys(nil, e)
		for _, key := range keys {
			class = max(class, ofKey[key])
		}
		for _, key := range keys {
			ofKey[key] = class
		}
		urgency[e.Seq] = class
	}
	return func(a, b event.Event) int {
		if d := int(urgency[b.Seq]) - int(urgency[a.Seq]); d != 0 {
			return d
		}
		return int(int64(a.Seq) - int64(b.Seq)) //nolint:gosec // positions are small
	}
}

// holds reports whether a refused event holds one of the keys.
func (p *parking) holds(keys []string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(keys, func(key string) bool { _, held := p.held[key]; return held })
}

// sendLive sends early copies.
func (u *Uplink) sendLive(l *link, copies early) (uint64, error) {
	body := []byte{'['}
	for i := range copies.events {
		if i > 0 {
			body = append(body, ',')
		}
		body = u.sender.enc.appendEvent(body, &copies.events[i], place{})
	}
	n, err := l.publish(u.topic.live, false, append(body, ']'))
	if err != nil {
		return 0, err
	}
	u.sender.note(n)
	u.tell(func(st *Status) { st.Early += uint64(len(copies.events)) })
	return n, nil
}

// keyFilter is a set of keys that takes 1 MiB whatever the backlog: a Bloom
// filter (Bloom, Space/Time Trade-offs in Hash Coding, CACM 1970). It may say of
// a key that it is in the set though it is not, of 1 in 50 with a million keys,
// of 1 in 3,000 with 300,000; then an event goes with the backlog.
type keyFilter struct {
	seed maphash.Seed
	bits []uint64
}

func newKeyFilter() *keyFilter {
	return &keyFilter{maphash.MakeSeed(), make([]uint64, livePatch/8)}
}

// each calls visit with the four places of a key, until it returns false.
func (f *keyFilter) each(key string, visit func(word int, bit uint64) bool) {
	sum := maphash.String(f.seed, key)
	step := sum>>32 | 1
	for range 4 {
		at := sum % (livePatch * 8)
		if !visit(int(at/64), 1<<(at%64)) { //nolint:gosec // below the length
			return
		}
		sum += step
	}
}

func (f *keyFilter) add(keys []string) {
	for _, key := range keys {
		f.each(key, func(word int, bit uint64) bool { f.bits[word] |= bit; return true })
	}
}

func (f *keyFilter) hasAny(keys []string) bool {
	return slices.ContainsFunc(keys, func(key string) bool {
		all := true
		f.each(key, func(word int, bit uint64) bool {
			all = f.bits[word]&bit != 0
			return all
		})
		return all
	})
}
