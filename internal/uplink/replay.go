package uplink

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// Replay is a part of the journal that is sent again because the back-end
// asked for it. It outlives a restart.
type Replay struct {
	Command string    `json:"command"`
	Since   time.Time `json:"since"`
	From    event.Seq `json:"from"` // the first position asked for
	Next    event.Seq `json:"next"` // everything before it is with the broker
}

// journalReplay prepares to send again everything from a position.
func (u *Uplink) journalReplay(c *command) (any, effect, *unreadable, error) {
	var p struct {
		From event.Seq `json:"from"`
	}
	if c.Params != nil {
		if bad := decodeStrict(c.Params, &p); bad != nil {
			return nil, effect{}, bad, nil
		}
	}
	stored := u.marks.Stored()
	if p.From < 1 || p.From > stored {
		return nil, effect{}, unread("bad_params", "from %d is not within 1 and %d, the last event", p.From, stored), nil
	}
	r := &Replay{Command: c.ID, Since: u.box.Now().UTC().Truncate(time.Millisecond), From: p.From, Next: p.From}
	if was := u.Status().Replay; was != nil {
		r.Next = min(r.Next, was.Next) // what it has not sent yet stays promised
	}
	first := p.From // what is still kept of it
	events, err := u.journal.Read(p.From-1, 1, 1)
	if hole, ok := errors.AsType[lost](err); ok {
		_, to := hole.Lost()
		first, err = to+1, nil
	}
	if err != nil {
		return nil, effect{}, nil, fmt.Errorf("read journal: %w", err)
	}
	if len(events) > 0 {
		first = events[0].Seq
	}
	result := map[string]any{"epoch": u.marks.Epoch(), "from": p.From, "first": first, "through": stored}
	return result, effect{replayKey, r, func() { u.tell(func(st *Status) { st.Replay = r }) }}, nil, nil
}

// lane returns whose turn it is to send; nil: nobody's. Called by send alone.
//
// A replay has a sender of its own, which stops where the uplink's begins. The
// uplink's cursor is not touched by it, so "synced" stays what it was; new
// events wait until it is through, so that a back-end which lost its store gets
// everything in order.
func (u *Uplink) lane() *sender {
	st := u.Status()
	switch {
	case st.Paused != nil:
		return nil
	case st.Replay == nil:
		u.replay = nil
		return u.sender
	}
	if u.replay == nil || u.replayOf != st.Replay.Command {
		if u.replay != nil && u.replay.unacked > 0 {
			return nil // the window is its until then
		}
		u.replay, u.replayOf = newReplay(u, st.Replay.Next), st.Replay.Command
	}
	r := u.replay
	if u.sender.unacked > 0 {
		return nil // the two share the window
	}
	r.limit, r.more = u.sender.cursor, true
	if r.cursor >= r.limit && len(r.flight) == 0 {
		u.endReplay()
		return u.sender
	}
	return r
}

// newReplay returns a sender for what lies between a position and the uplink's
// cursor. The broker's word is enough for it: a back-end that still misses
// something asks again.
func newReplay(u *Uplink, next event.Seq) *sender {
	s := &sender{journal: u.journal, enc: u.sender.enc, mode: Broker, cursor: next - 1, sizes: sizes{ceiling: u.sender.ceiling}}
	s.anchor = s.enc.before(lastTravelled(u.journal, s.cursor))
	s.sent = place{s.anchor.epoch, s.cursor}
	s.connected()
	return s
}

// endReplay lets new events go on. What was in flight before is sent once more:
// a back-end that lost its store could not take it.
func (u *Uplink) endReplay() {
	u.log.Info("replay done", "command", u.replayOf, "through", u.replay.cursor)
	u.noteReplay(true)
	u.sender.patience = u.sender.wait
	u.sender.rewind()
}

// noteReplay keeps how far the replay is, so that a restart goes on there. If
// that fails more is sent again, which is what a replay is anyway.
func (u *Uplink) noteReplay(over bool) {
	if u.replay == nil {
		return
	}
	u.writing.Lock()
	defer u.writing.Unlock()
	at := u.Status().Replay
	if at == nil || at.Command != u.replayOf {
		return // a later command has taken its place
	}
	var now *Replay
	if !over {
		moved := *at
		moved.Next = u.replay.cursor + 1
		if now = &moved; now.Next == at.Next {
			return
		}
	}
	u.tell(func(st *Status) { st.Replay = now })
	if over {
		u.replay, u.replayOf = nil, ""
	}
	raw, err := json.Marshal(now)
	if err == nil {
		err = u.notes.Put(commandSpace, map[string][]byte{replayKey: raw})
	}
	if err != nil {
		u.log.Warn("progress of the replay not kept", "err", err)
	}
}

// due is when send has to look again though nothing happened.
func (u *Uplink) due() time.Time {
	at := u.sender.due()
	if u.replay != nil {
		if again := u.replay.due(); !again.IsZero() && (at.IsZero() || again.Before(at)) {
			at = again
		}
	}
	for _, look := range [...]time.Time{u.trial.due(), u.sender.gatheredAt()} {
		if !look.IsZero() && (at.IsZero() || look.Before(at)) {
			at = look
		}
	}
	if u.sender.cursor != u.saved {
		if save := u.savedAt.Add(cursorEvery); at.IsZero() || save.Before(at) {
			at = save
		}
	}
	if at.IsZero() {
		at = time.Now().Add(time.Minute)
	}
	return at
}

// tick does what is due. An error ends the link.
func (u *Uplink) tick(now time.Time) error {
	if err := u.tryOn(now); err != nil {
		return err
	}
	if u.replay != nil {
		if err := u.replay.tick(now); err != nil {
			return err
		}
	}
	return u.sender.tick(now)
}
