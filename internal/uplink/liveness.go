package uplink

import (
	"context"
	"errors"
	"time"
)

// A link is dead when nothing has come for a while, though something was asked
// for, and nothing goes either. With keep-alive K, 30 s by default:
//
//	0          K/3 (10 s)             5/6 K (25 s)      K (30 s)
//	last byte  we ask (PINGREQ)       the link is cut   the promise
//
// The looks are a second apart at most, so that 26 s are the worst. Bytes that
// the other side's TCP has taken count as life as long as there is a queue of
// them: on a line of 20 kbit/s the answer comes behind a minute of data.

// liveness is what [link.watch] remembers between two looks.
type liveness struct {
	keepAlive time.Duration
	asked     time.Time // when we asked last
	busy      time.Time // when a queue was last seen to shrink
	queued    int64     // bytes the kernel held at the last look
	taken     int64     // bytes the other side's TCP had taken then
}

// busyQueue is what must be waiting in the kernel for a line to count as busy:
// more than the trickle of a quiet venue, which a proxy would take although the
// way behind it is dead.
const busyQueue = 4 << 10

func (v *liveness) askAfter() time.Duration  { return v.keepAlive / 3 }
func (v *liveness) deadAfter() time.Duration { return v.keepAlive * 5 / 6 }

// look says whether to ask now, and whether the link is dead.
func (v *liveness) look(now, heard time.Time, written, queued int64) (ask, dead bool) {
	taken := written - queued
	if taken > v.taken && min(queued, v.queued) >= busyQueue {
		v.busy = now
	}
	v.taken, v.queued = taken, queued
	alive := heard
	if v.busy.After(alive) {
		alive = v.busy
	}
	if now.Sub(alive) >= v.deadAfter() && v.asked.After(heard) && now.Sub(v.asked) >= v.askAfter()/2 {
		return false, true
	}
	if now.Sub(heard) >= v.askAfter() && !v.asked.After(heard) { // TCP loses no ping: one is enough
		v.asked = now
		return true, false
	}
	return false, false
}

// watch cuts the link when it is dead, until ctx ends.
func (l *link) watch(ctx context.Context, keepAlive time.Duration) {
	bottom := l.conn.bottom
	v := liveness{keepAlive: keepAlive}
	tick := time.NewTicker(min(time.Second, keepAlive/12))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.gone:
			return
		case now := <-tick.C:
			ask, dead := v.look(now, bottom.lastHeard(), bottom.written.Load(), bottom.queued())
			busy := v.busy
			l.moved.Store(&busy)
			if dead {
				l.cut(errSilent)
				return
			}
			if ask {
				l.conn.ping()
			}
		}
	}
}

// moving reports whether the line was carrying a queue of data lately: then
// what is late is not lost.
func (l *link) moving(now time.Time) bool {
	at := l.moved.Load()
	return at != nil && now.Sub(*at) < l.patience
}

// tickOn does what is due, and does not take a slow line for a silent broker.
func (u *Uplink) tickOn(l *link, now time.Time) error {
	err := u.tick(now)
	if err == nil {
		return u.askAgain(l)
	}
	if !errors.Is(err, errNoPuback) || !l.moving(now) {
		return err
	}
	u.sender.pubacked = now // what is open is still on its way
	if u.replay != nil {
		u.replay.pubacked = now
	}
	return nil
}
