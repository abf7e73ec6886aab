package uplink

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/gorilla/websocket"
)

// scatter is what the first pause after a link that the broker ended is drawn
// from: it ended all its boxes' links at that moment, and 1,000 of them are not
// to come back in one second. A box that lost its line alone, by a silence, a
// router or a cable, has nobody to scatter from and begins with the shortest
// pause.
const scatter = 15 * time.Second

// Links that the broker ends again and again soon after they came up, without a
// cause of ours, are those of two boxes with one id: each throws the other out.
// The pauses then grow until a link has lasted long enough to show that the
// other one is gone.
const (
	twinLinks  = 3
	twinWithin = 20 * time.Second
)

// returns spaces the attempts to connect.
type returns struct {
	pause   backoff
	scatter time.Duration
	thrown  int // links in a row that the broker ended soon
}

// after takes how an attempt, or a link that was up for a while, ended. It
// returns the pause before the next one, and the error, with what the links
// before this one add to it.
func (r *returns) after(err error, up bool, lasted time.Duration) (time.Duration, error) {
	steady := steadyAfter
	if r.thrown >= twinLinks {
		steady = 2*r.pause.max + steadyAfter // the twin pauses, too
	}
	if up {
		switch {
		case errors.Is(err, errRenewed):
			return 0, err
		case errors.Is(err, errTooLarge):
			// Of our own doing: no twin, and no crowd to scatter from.
			r.thrown = 0
			r.pause.reset()
			return r.pause.next(), err
		case lasted >= steady || !byBroker(err):
			r.thrown = 0
		case lasted < twinWithin || r.thrown >= twinLinks:
			r.thrown++
		}
	}
	if r.thrown >= twinLinks && up {
		return r.pause.next(), errors.Join(errTakeover, err)
	}
	if up && lasted >= steady {
		r.pause.reset()
		if byBroker(err) && r.scatter > 0 {
			r.pause.last = r.scatter / 3 // whoever comes too early stays scattered
			return rand.N(r.scatter), err
		}
	}
	return r.pause.next(), err
}

// byBroker reports whether a link that was up was ended from the other side.
func byBroker(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || isType[*websocket.CloseError](err)
}

// retry makes rounds for ever, until ctx ends. A round makes a link, serves it
// until it ends, and says why it did.
func (u *Uplink) retry(ctx context.Context, round func(context.Context) error) {
	for pause := time.Duration(0); u.await(ctx, pause); {
		before := u.Status().Connects
		err := round(ctx)
		if ctx.Err() != nil {
			return
		}
		up := u.Status().Connects != before
		lasted := time.Since(u.upAt)
		pause, err = u.returns.after(err, up, lasted)
		u.wentDown(err)
	}
}
