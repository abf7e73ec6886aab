package uplink

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// feeds are what send hears from the goroutines that read the journal.
type feeds struct {
	ask  chan<- event.Seq // wait for what comes behind this position
	more <-chan error     // there is something, or why not
}

// send is the life of a link that is up. It returns why it ended.
func (u *Uplink) send(ctx context.Context, l *link, d *downlink, in feeds) (ended error) {
	s := u.sender
	u.told = nil
	if err := u.tellBroker(l, Online); err != nil {
		return err
	}
	if err := u.startTrial(l, time.Now()); err != nil {
		return err
	}
	status := time.NewTicker(statusEvery)
	defer status.Stop()
	if err := u.measure(l); err != nil {
		return err
	}
	telemetry := time.NewTicker(telemetryEvery)
	defer telemetry.Stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	results := make(map[uint64]chan struct{}) // sent, by number; closed at their PUBACK
	ahead := make(map[uint64]bool)            // live messages without one
	defer func() { u.strike(byBroker(ended) && len(ahead) > 0) }()
	for asked := false; ; {
		if err := u.fill(ctx, l); err != nil {
			return err
		}
		if !s.more && (len(s.pending) == 0 || s.gathers) && !asked {
			in.ask <- s.read // has room: nothing was asked
			asked = true
		}
		u.observe()
		timer.Reset(time.Until(u.due()))
		answers, live := u.besides(d.results, ahead)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-l.gone:
			return l.err
		case n := <-l.book.acked:
			s.puback(n, time.Now())
			if u.replay != nil {
				u.replay.puback(n, time.Now())
			}
			if confirmed, ok := results[n]; ok {
				close(confirmed)
				delete(results, n)
			}
			if ahead[n] {
				delete(ahead, n)
				u.strikes = 0
			}
			u.trial.tried(n, time.Now())
		case <-d.heard:
			if err := u.hear(d.confirmations(), time.Now()); err != nil {
				return err
			}
		case err := <-in.more:
			asked = false
			if err != nil {
				return fmt.Errorf("%w: wait: %w", errJournal, err)
			}
			s.more = true
		case copies := <-live:
			if copies.link != l.number {
				break // of an earlier link: part of the backlog by now
			}
			n, err := u.sendLive(l, copies)
			ahead[n] = true // 0 if it failed
			if err != nil {
				return err
			}
		case r := <-answers:
			n, err := l.publish(u.topic.results, false, r.body)
			if err != nil {
				return err
			}
			s.note(n)
			results[n] = r.confirmed
		case <-status.C:
			u.noteReplay(false)
			if u.risking() {
				continue
			}
			if err := u.tellBroker(l, Online); err != nil {
				return err
			}
		case <-telemetry.C:
			if err := u.measure(l); err != nil {
				return err
			}
		case <-timer.C:
			if err := u.tickOn(l, time.Now()); err != nil {
				return err
			}
		}
		if err := u.saveAt(u.savedAt.Add(cursorEvery)); err != nil {
			return err
		}
	}
}

// besides returns what may be sent now besides the events: nil for what may not.
func (u *Uplink) besides(answers <-chan result, ahead map[uint64]bool) (<-chan result, <-chan early) {
	s, live := u.sender, u.live
	if len(s.open) >= maxOpen-1 || u.risking() {
		answers = nil // until a PUBACK makes room, or the link has ended for what is tried
	}
	if len(ahead) >= liveWindow || u.strikes >= liveStrikes || s.probing || s.doubts() || s.ceiling < liveBytes || u.lane() != s {
		live = nil // nobody is known to listen, events are held back, or the message may be too large
	}
	return answers, live
}

// hear takes what the back-end said.
func (u *Uplink) hear(words []place, now time.Time) error {
	s := u.sender
	for _, to := range words {
		s.through(to, now)
		if s.missed != nil {
			if err := u.unheard(s.missed, now); err != nil {
				return err
			}
		}
	}
	return nil
}

// measure sends the counters of now. They are never kept: who was away gets the
// next ones.
func (u *Uplink) measure(l *link) error {
	if u.cfg.Telemetry == nil {
		return nil
	}
	body, err := json.Marshal(u.cfg.Telemetry())
	if err != nil {
		return fmt.Errorf("encode telemetry: %w", err)
	}
	l.mention(u.topic.telemetry, body)
	return nil
}

// fill sends batches while the windows have room.
func (u *Uplink) fill(ctx context.Context, l *link) error {
	for s := u.lane(); s != nil && ctx.Err() == nil && s.maySend(); s = u.lane() {
		if s == u.sender {
			if wait, err := s.gather(time.Now()); wait || err != nil {
				return err
			}
		}
		b, err := s.next()
		if err != nil {
			return err
		}
		if b == nil {
			if s == u.replay && len(s.flight) == 0 && s.built == nil && s.cursor < s.limit {
				s.pass(s.limit) // nothing there travels, or can be read
				continue
			}
			return nil
		}
		topic, body := u.topic.events, b.body
		if u.cfg.Compress && len(body) > compressAbove && (u.marks.Stored() > b.pass || s.doubts() || s.silent > 0) {
			if body, err = u.compress(body); err != nil {
				return err
			}
			topic = u.topic.gzip
		}
		n, err := l.publish(topic, false, body)
		if err != nil {
			return err
		}
		b.size, b.body = len(body), nil // the client has it
		s.published(n, b, time.Now())
		if s == u.replay {
			u.tell(func(st *Status) { st.Replayed += uint64(len(b.seqs)) })
		}
	}
	return nil
}

func (u *Uplink) compress(body []byte) ([]byte, error) {
	var out bytes.Buffer
	u.zip.Reset(&out)
	if _, err := u.zip.Write(body); err != nil {
		return nil, fmt.Errorf("compress batch: %w", err)
	}
	if err := u.zip.Close(); err != nil {
		return nil, fmt.Errorf("compress batch: %w", err)
	}
	return out.Bytes(), nil
}
