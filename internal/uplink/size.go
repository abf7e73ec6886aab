package uplink

import (
	"errors"
	"fmt"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

const (
	small        = 4 << 10 // no message up to this is taken to be too large for a broker
	refusedLinks = 5       // links in a row that the broker ended over one event
	refusedHoles = 2       // times on one link that the back-end proved not to have it
	steadier     = 3       // times as long must a link have stood as it then takes to end
	calmMax      = 30 * time.Second
	ceilingFor   = 15 * time.Minute // then a larger message is tried
	controlFrom  = 256              // positions behind the cursor, for an event to send once more
)

// sizes is what a sender knows of messages that do not come through because
// they are too large for a broker. Brokers have two ways to refuse them: to end
// the link, and to confirm them and let them fall. See DESIGN.md, Too large.
type sizes struct {
	ceiling int // bytes of a batch, at most

	// Of a broker that ends the link. Up to doubt, one message is sent at a
	// time, and one that is not small only when the link is steady.
	doubt  event.Seq
	steady bool
	built  *batch // waits for that

	// Of one that lets messages fall; Backend only.
	guessed bool      // ceiling was lowered without proof
	silent  int       // rewinds in a row without a word of the back-end
	about   *batch    // what the control is sent behind; nil: none is
	control event.Seq // an event that the back-end has; it answers that with how far it is. Zero: not sent yet
	missed  *batch    // what it has then proved not to have
	holes   int       // how often, on this link, without progress
}

// fresh begins a link.
func (s *sizes) fresh() {
	s.steady = false
	s.silent, s.holes = 0, 0
	s.about, s.missed = nil, nil
}

// heard notes progress by the back-end's word.
func (s *sizes) heard() {
	s.silent, s.holes, s.about = 0, 0, nil
	if s.guessed { // it was away; with what it took now, it can be asked
		s.ceiling, s.guessed = maxBatchBytes, false
	}
}

// doubts reports whether what is next may have ended a link.
func (s *sender) doubts() bool { return s.doubt > s.cursor }

// most is how large the next batch may be, if the window allows so much.
func (s *sender) most(window int) int {
	if s.doubts() && !s.steady {
		return small
	}
	return min(window, s.ceiling)
}

// lower halves the batches, as far as that can help.
func (s *sizes) lower(refused int) { s.ceiling = max(min(s.ceiling, refused/2), small) }

// goesUnheard notes that the back-end has been silent about what is in flight,
// which is about to be sent again. From the second time on, it is sent what it
// has before that: if it answers, it is there, hears us, and has not got what
// was sent before.
func (s *sender) goesUnheard() {
	s.silent++
	s.about = nil
	if s.silent > 1 && len(s.flight) == 1 && s.flight[0].raw > small {
		s.about, s.control = s.flight[0], 0
	}
}

// provesHole takes a word that brings no progress. It reports whether it is the
// answer to the control, by which the back-end proves that it has not got the
// batch that was sent, and confirmed by the broker, before it.
func (s *sender) provesHole(to event.Seq) bool {
	if s.about == nil || s.control == 0 || to < s.control {
		return false
	}
	s.about, s.missed = nil, s.about
	s.patience = s.wait // it is there
	return true
}

// trial finds out what is refused for its size over the links that it ends.
// Owned by Run.
type trial struct {
	calm    time.Duration // how long a link must have stood before it is sent what is in doubt
	cuts    int           // links in a row that the broker ended with more than a small message in flight
	event   event.Seq     // the one event that was in flight,
	links   int           // in so many links in a row
	lowered time.Time     // when a ceiling was

	// Of this link.
	control uint64    // its number
	asked   time.Time // when it was sent; zero: there is none, or it is confirmed
	took    bool      // it is confirmed
	ready   time.Time // when the link is steady; zero: it is, or not yet known when
}

// startTrial begins a link: if something is in doubt, the line, the broker and
// the topic are tried with an event that was taken before.
func (u *Uplink) startTrial(l *link, now time.Time) error {
	t := &u.trial
	t.asked, t.took, t.ready = time.Time{}, false, time.Time{}
	if !u.sender.doubts() && (u.replay == nil || !u.replay.doubts()) {
		return nil
	}
	n, sent, err := u.sendControl(l)
	if err != nil {
		return err
	}
	if sent.seq == 0 {
		t.ready = now.Add(t.calm)
		return nil
	}
	t.control, t.asked = n, now
	return nil
}

// tried takes a PUBACK.
func (t *trial) tried(n uint64, now time.Time) {
	if !t.asked.IsZero() && n == t.control {
		t.asked, t.took, t.ready = time.Time{}, true, now.Add(t.calm)
	}
}

// due is when tryOn has something to do; zero: nothing.
func (t *trial) due() time.Time {
	if !t.asked.IsZero() {
		return t.asked.Add(pubackTimeout)
	}
	return t.ready
}

// tryOn does what is due. An error ends the link.
func (u *Uplink) tryOn(now time.Time) error {
	t := &u.trial
	if !t.asked.IsZero() && !now.Before(t.asked.Add(pubackTimeout)) {
		return errNoPuback
	}
	if !t.ready.IsZero() && !now.Before(t.ready) {
		t.ready = time.Time{}
		u.sender.steady = true
		if u.replay != nil {
			u.replay.steady = true
		}
	}
	if s := u.sender; s.ceiling < maxBatchBytes && now.Sub(t.lowered) >= ceilingFor {
		s.ceiling, t.lowered = min(2*s.ceiling, maxBatchBytes), now
	}
	return nil
}

// sendControl sends an event once more that the cloud has, and returns its
// number and place. A back-end skips it, and says how far it is. The place is
// nowhere if there is no such event.
func (u *Uplink) sendControl(l *link) (n uint64, at place, err error) {
	e, err := u.lastTaken()
	if e == nil || err != nil {
		return 0, place{}, err
	}
	topic, body := u.topic.events, append(u.sender.enc.appendEvent([]byte{'['}, e, place{}), ']')
	if u.cfg.Compress { // as what is in doubt will be
		topic = u.topic.gzip
		if body, err = u.compress(body); err != nil {
			return 0, place{}, err
		}
	}
	if n, err = l.publish(topic, false, body); err != nil {
		return 0, place{}, err
	}
	u.sender.note(n)
	return n, place{e.Epoch, e.Seq}, nil
}

// askAgain sends the control behind a batch about which the back-end is silent,
// if that is due.
func (u *Uplink) askAgain(l *link) error {
	s := u.sender
	b := s.about
	if b == nil || s.control > 0 {
		return nil
	}
	_, at, err := u.sendControl(l)
	switch {
	case err != nil:
		return err
	case at.epoch == b.epoch:
		s.control = at.seq
		return nil
	case !b.alone:
		s.lower(b.raw) // there is nothing to ask with yet
		s.guessed, u.trial.lowered = true, time.Now()
	}
	s.about = nil
	return nil
}

// lastTaken returns the last small event that is confirmed, nil if there is
// none near the cursor.
func (u *Uplink) lastTaken() (found *event.Event, err error) {
	end := u.sender.cursor
	for at := end - min(end, controlFrom); at < end; {
		events, err := u.journal.Read(at, controlFrom, maxBatchBytes)
		if hole, ok := errors.AsType[lost](err); ok {
			_, at = hole.Lost()
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%w: read after %d: %w", errJournal, at, err)
		}
		if len(events) == 0 {
			break
		}
		for i := range events {
			e := &events[i]
			if at = e.Seq; at > end {
				break
			}
			if u.sender.enc.sends(e) && len(e.Payload) <= small/2 {
				found = e
			}
		}
	}
	return found, nil
}

// judge looks at how a link ended: whether the broker did that over the size of
// what it was sent. It parks an event for which that is proved.
func (u *Uplink) judge(err error, now time.Time) error {
	t, s := &u.trial, u.sender
	if u.replay != nil && u.replay.unacked > 0 {
		s = u.replay
	}
	links, cuts := t.links, t.cuts
	t.links, t.cuts = 0, 0
	mute := errors.Is(err, errNoPuback)
	if !byBroker(err) && !mute {
		return err
	}
	var last *batch
	for _, b := range s.flight {
		if b.raw > small && (last == nil || b.raw > last.raw) {
			last = b
		}
	}
	if last == nil {
		return err
	}
	t.cuts = cuts + 1
	trying := s.doubts()
	s.doubt = max(s.doubt, s.flight[len(s.flight)-1].last().seq)
	took := now.Sub(last.sent)
	switch {
	case mute && !t.took:
		return err // it confirms nothing
	case mute:
		took = 0 // it has answered pings since: it was not the line
	case !last.acked.IsZero():
		// One that confirms the message all the same does both in one moment.
		took = max(took, 3*now.Sub(last.acked))
	}
	switch {
	case !last.alone:
		if t.cuts < 2 || s.ceiling == small {
			return err
		}
		s.lower(last.raw)
		u.sender.lower(last.raw)
		t.lowered = now
		u.log.Info("smaller batches, since the broker ends the link over larger ones", "bytes", last.raw, "most", s.ceiling)
	case !trying:
		t.calm = u.cfg.calm
		return err
	case steadier*took >= t.calm:
		t.calm = min((steadier+1)*took, calmMax) // it may have been the line
		return err
	case len(s.open) > 1:
		return err
	default:
		if t.event != last.seqs[0] {
			t.event, links = last.seqs[0], 0
		}
		if t.links = links + 1; t.links < 2 {
			return err
		}
	}
	tooLarge := fmt.Errorf("%w: message of %d bytes: %w", errTooLarge, last.size, err)
	if t.links < refusedLinks || !t.took {
		return tooLarge // without a control it may be the topic
	}
	t.links = 0
	reason := fmt.Sprintf("too large for the broker: it did not take this event on %d links, a message of %d bytes", refusedLinks, last.size)
	if parked := u.parkUnsent(last, reason); parked != nil {
		return errors.Join(parked, err)
	}
	return tooLarge
}

// risking reports whether a message is open that may end the link: it is to be
// the only one. One that was confirmed long ago will not: see judge. It waits for
// the back-end, which may be away for days.
func (u *Uplink) risking() bool {
	s := u.sender
	if u.replay != nil {
		s = u.replay
	}
	if !s.doubts() || len(s.flight) == 0 || s.flight[0].raw <= small {
		return false
	}
	acked := s.flight[0].acked
	return acked.IsZero() || steadier*3*time.Since(acked) < u.trial.calm
}

// unheard deals with a batch that the back-end has proved not to have got.
func (u *Uplink) unheard(b *batch, now time.Time) error {
	s := u.sender
	s.missed = nil
	if !b.alone {
		s.lower(b.raw)
		u.trial.lowered = now
		u.log.Info("smaller batches, since larger ones do not reach the back-end", "bytes", b.raw, "most", s.ceiling)
		s.rewound = now
		s.count.Rewinds++
		s.rewind()
		return nil
	}
	if s.holes++; s.holes < refusedHoles {
		return nil
	}
	reason := fmt.Sprintf("too large for the broker: it confirmed this event, a message of %d bytes, and the back-end did not get it", b.size)
	if err := u.parkUnsent(b, reason); err != nil {
		return err
	}
	s.heard()
	s.rewind()
	return nil
}

// unsent notes that an event, which is about to be parked, may never have been
// sent from its place.
func (p *parking) unsent(s event.Seq) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.neverSent(s)
}

// parkUnsent takes the one event of a batch out of the line.
func (u *Uplink) parkUnsent(b *batch, reason string) error {
	seq := b.seqs[0]
	events, err := u.journal.Read(seq-1, 1, 1)
	if err != nil {
		return fmt.Errorf("%w: read event %d: %w", errJournal, seq, err)
	}
	if len(events) == 0 || events[0].Seq != seq {
		return nil // it is lost; the sender passes it
	}
	if err := u.parking.unsent(seq); err != nil {
		return err
	}
	if err := u.parking.park(&events[0], reason, 0); err != nil {
		return err
	}
	u.tell(func(st *Status) { st.Parked = u.parking.count() })
	u.log.Warn("event is parked", "seq", seq, "kind", events[0].Kind, "reason", reason)
	return nil
}
