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
	behindBy    = 2 * maxBatchEvents // events that make a backlog: two batches more than is sent
	liveQueue   = 256                // live events that wait for their turn
	liveBatch   = 32                 // of them in one message
	liveBytes   = 32 << 10
	liveLargest = small // a larger payload goes with the backlog: a broker may refuse it
	liveWindow  = 4     // live messages without a PUBACK
	livePause   = 5 * time.Millisecond
	livePatch   = 1 << 20          // bytes of the filter
	liveStrikes = 3                // links in a row that ended with copies on their way and took none
	liveFor     = 10 * time.Second // what is younger when the backlog is found is live, too
)

// early are live events on their way to the sender: copies of what the backlog
// lane will bring in its turn. A copy that is lost is no loss.
type early struct {
	link   uint64 // that they are for
	events []event.Event
}

// scout looks ahead while there is a backlog: what happens now is offered to the
// link there is, before the backlog, unless something about the same order,
// payment, table or terminal is still in it. What a backlog is about is learnt
// while it grows, so that a link that comes up finds it known. It ends with ctx.
func (u *Uplink) scout(ctx context.Context) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for ctx.Err() == nil {
		stored := u.marks.Stored()
		var err error
		if !u.behind(stored) {
			err = u.journal.Wait(ctx, stored)
		} else {
			err = newLookout(u, stored).run(ctx)
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		u.log.Warn("what happens now waits for the backlog: it could not be read", "err", err)
		pause.Reset(watchAgain)
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
	}
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

// opening is the link that takes live events.
type opening struct {
	link  uint64    // 0: none is up
	from  event.Seq // what was stored when it came up
	since time.Time // when it came up
}

// opens tells the scout of the link that is up, by a number of its own; its end
// by none.
func (u *Uplink) opens(now opening) {
	u.mu.Lock()
	u.opening = now
	u.mu.Unlock()
	select {
	case u.opened <- struct{}{}:
	default:
	}
}

// lookout is one backlog as the scout knows it. One goroutine owns it.
type lookout struct {
	u       *Uplink
	to      opening
	horizon event.Seq     // the backlog reaches to here,
	found   time.Time     // since when; what was younger then is no backlog
	at      event.Seq     // read up to here
	waiting *keyFilter    // what the backlog is about
	offered *keyFilter    // what was offered to this link is about
	queue   []event.Event // not yet offered
}

func newLookout(u *Uplink, stored event.Seq) *lookout {
	return &lookout{u: u, waiting: newKeyFilter(), at: u.Status().Synced, horizon: stored, found: u.box.Now()}
}

// run goes on until the backlog lane has caught up.
func (l *lookout) run(ctx context.Context) error {
	u := l.u
	pause := time.NewTimer(0)
	defer pause.Stop()
	for ctx.Err() == nil {
		l.turn()
		if l.to.link != 0 && u.overtaken(max(l.at, l.horizon)) {
			return nil
		}
		young, err := l.read()
		switch {
		case err != nil:
			return err
		case len(l.queue) > 0:
			n := messageOf(l.queue)
			pause.Reset(livePause)
			select {
			case <-ctx.Done():
			case u.live <- early{l.to.link, slices.Clone(l.queue[:n])}:
				l.queue = slices.Delete(l.queue, 0, n)
			case <-pause.C:
			}
		case young: // they are not the backlog's yet
			pause.Reset(watchAgain)
			select {
			case <-ctx.Done():
			case <-u.opened:
			case <-pause.C:
			}
		case l.at >= u.marks.Stored():
			if err := u.journal.Wait(ctx, l.at); err != nil {
				return err
			}
		}
	}
	return nil
}

// turn takes another link. What the last one was offered may not have arrived:
// it is part of the backlog now.
func (l *lookout) turn() {
	l.u.mu.Lock()
	to := l.u.opening
	l.u.mu.Unlock()
	if to.link == l.to.link {
		return
	}
	if l.offered != nil {
		l.waiting.merge(l.offered)
	}
	l.to, l.offered, l.queue = to, nil, nil
	if to.link != 0 && to.from >= l.horizon {
		l.horizon, l.found = to.from, to.since
	}
}

// read takes more of the journal: what is old into the filter, what is new into
// the queue, if nothing about it is in the filter. While no link is up the newest
// are left for the next one; young says that it has come to them.
func (l *lookout) read() (young bool, err error) {
	u, up := l.u, l.to.link != 0
	now := l.found
	if !up {
		now = u.box.Now()
	}
	events, err := u.journal.Read(l.at, maxBatchEvents, maxBatchBytes)
	if hole, ok := errors.AsType[lost](err); ok {
		_, l.at = hole.Lost()
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("%w: look ahead: %w", errJournal, err)
	}
	var keys []string
	for i := range events {
		e := &events[i]
		old := (!up || e.Seq <= l.horizon) && e.Time.Before(now.Add(-liveFor))
		if !up && !old {
			return true, nil
		}
		l.at = e.Seq
		if !travels(e) {
			continue
		}
		keys = appendKeys(keys[:0], e)
		if old || len(e.Payload) > liveLargest || len(l.queue) >= liveQueue || l.waiting.hasAny(keys) || u.parking.holds(keys) {
			l.waiting.add(keys) // it goes with the backlog, and so does what follows on it
			continue
		}
		if l.offered == nil {
			l.offered = newKeyFilter()
			l.offered.seed = l.waiting.seed
		}
		l.offered.add(keys)
		l.queue = append(l.queue, *e)
	}
	if len(events) == 0 && l.at < l.horizon {
		l.horizon = l.at // there is less than was said: the rest is lost
	}
	slices.SortStableFunc(l.queue, byUrgency(l.queue))
	return false, nil
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

// strike enters the end of a link. A broker that forbids the live lane ends the
// link (RabbitMQ does), and would do so for as long as there is a backlog: after
// some of these the lane stays shut until the next start.
func (u *Uplink) strike(copies bool) {
	if !copies {
		return
	}
	if u.strikes++; u.strikes == liveStrikes {
		u.log.Warn("early copies of events are not sent any more: the broker ends the link on them; let it take the topic, or set uplink.live: false", "topic", u.topic.live)
	}
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

// merge adds the keys of a filter with the same seed.
func (f *keyFilter) merge(other *keyFilter) {
	for i, bits := range other.bits {
		f.bits[i] |= bits
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
