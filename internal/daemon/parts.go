package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"time"

	"github.com/avoqado/avoqado-edge/internal/api"
	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/buildinfo"
	"github.com/avoqado/avoqado-edge/internal/clock"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/journal"
	"github.com/avoqado/avoqado-edge/internal/lan"
	"github.com/avoqado/avoqado-edge/internal/uplink"
)

// The parts do not know each other. What stands between two of them, because
// their words differ, is here.

// store is the journal as its writers see it: its errors become refusals a
// sender can read. What it stores bears how the clock stood.
type store struct {
	*journal.Journal
	clock *clock.Clock
}

func (s store) Append(ctx context.Context, e *event.Event) (event.Receipt, error) {
	r, err := s.Journal.Append(ctx, s.stamped(e))
	return r, refusalOf(err)
}

func (s store) Enqueue(ctx context.Context, e *event.Event, answer func(event.Receipt, error)) error {
	return refusalOf(s.Journal.Enqueue(ctx, s.stamped(e), func(r event.Receipt, err error) {
		answer(r, refusalOf(err))
	}))
}

// shown is the store as the LAN and the API read it: a range that was lost,
// which the journal has counted and logged, is passed over. The uplink reads
// the store itself, since it tells the cloud.
type shown struct{ store }

func (s shown) Read(after event.Seq, maxEvents, maxBytes int) ([]event.Event, error) {
	for {
		events, err := s.store.Read(after, maxEvents, maxBytes)
		var lost *journal.LostError
		if !errors.As(err, &lost) || lost.To <= after {
			return events, err
		}
		after = lost.To
	}
}

func (s store) Find(id string) (event.Event, error) {
	e, err := s.Journal.Find(id)
	if errors.Is(err, journal.ErrNotFound) {
		err = fs.ErrNotExist
	}
	return e, err
}

// refusalOf says in the sender's words why an event was not stored. Errors it
// does not know stay as they are; senders are told to try again.
func refusalOf(err error) error {
	if full, ok := errors.AsType[*journal.FullError](err); ok {
		return event.RefuseForNow("storage_full", fmt.Sprintf("The box has no room for %s events, try again", full.Class), fullRetry)
	}
	switch {
	case errors.Is(err, journal.ErrKeyReuse):
		return event.Refuse(http.StatusConflict, "idempotency_key_reused",
			"This idempotencyKey was used for another event")
	case errors.Is(err, journal.ErrTooLarge):
		return event.Refuse(http.StatusRequestEntityTooLarge, "too_large", "The event is too large to be stored")
	case errors.Is(err, journal.ErrClosed):
		return event.RefuseForNow("shutting_down", "The box is restarting, try again", 2*time.Second)
	}
	return err
}

// fullRetry is when a sender should try again that was refused for want of
// room: room comes back as the cloud takes events, not at once.
const fullRetry = 30 * time.Second

// door lets the HTTP API in where sockets come in.
type door struct{ lan *lan.Server }

func (d door) Publish(ctx context.Context, g auth.Grant, kind event.Kind, payload []byte, target *event.Audience) (ack []byte, status int) {
	a := d.lan.Publish(ctx, g, kind, payload, target, event.Local)
	return a.Body, a.Status
}

func (d door) CommandResult(ctx context.Context, g auth.Grant, payload []byte) (ack []byte, status int) {
	a := d.lan.CommandResult(ctx, g, payload)
	return a.Body, a.Status
}

func (d door) Heartbeat(g *auth.Grant, payload []byte) (ack []byte, status int) {
	a := d.lan.Heartbeat(g, payload)
	return a.Body, a.Status
}

func (d door) Charge(ctx context.Context, g auth.Grant, device string, payload []byte) (answer []byte, status int) {
	a := d.lan.Charge(ctx, g, device, payload)
	return a.Body, a.Status
}

func (d door) CancelCharge(ctx context.Context, g auth.Grant, payload []byte) (answer []byte, status int) {
	a := d.lan.CancelCharge(ctx, g, payload)
	return a.Body, a.Status
}

func (d door) ChargeStatus(ctx context.Context, g auth.Grant, request string) (answer []byte, status int) {
	a := d.lan.ChargeStatus(ctx, g, request)
	return a.Body, a.Status
}

func (d door) OnlineTerminals(ctx context.Context, g auth.Grant) (answer []byte, status int) {
	a := d.lan.OnlineTerminals(ctx, g)
	return a.Body, a.Status
}

func (d door) PrintReceipt(ctx context.Context, g auth.Grant, terminal string, payload []byte) (answer []byte, status int) {
	a := d.lan.PrintReceipt(ctx, g, terminal, payload)
	return a.Body, a.Status
}

// logins lets people in and out, here and on the sockets.
type logins struct {
	*auth.Verifier
	lan *lan.Server
}

func (l logins) Logout(token string) error {
	ended, err := l.Verifier.Logout(token)
	if ended {
		l.lan.VerifyAgain()
	}
	return err
}

// cloudLink is what terminals are told of the way to the cloud.
type cloudLink struct{ d *Daemon }

// cloud returns nil if there is none.
func (d *Daemon) cloud() lan.Cloud {
	if len(d.cfg.Uplink.Brokers) == 0 {
		return nil
	}
	return cloudLink{d}
}

func (c cloudLink) Synced() event.Seq { return c.d.journal.Cursor(api.UplinkCursor) }

func (c cloudLink) Online() (online bool, since time.Time) {
	st := c.d.uplink.Status() // made after the LAN, and before it runs
	return st.State == uplink.Online, st.Since
}

// keeper lets an operator handle the journal as a whole.
type keeper struct {
	*journal.Journal
	id boxID
}

func (k keeper) Export(ctx context.Context, w io.Writer, after event.Seq, kind event.Kind) error {
	return k.Journal.Export(ctx, w, journal.Selection{After: after, Kind: kind})
}

func (k keeper) Backup(ctx context.Context, w io.Writer) error {
	return k.Journal.Backup(ctx, w, k.id.source())
}

func (k keeper) Compact(keep time.Duration) (any, error) { return k.Journal.Compact(keep) }

func (id boxID) source() journal.Source {
	return journal.Source{Box: id.Box, Venue: id.Venue, Version: buildinfo.Read().Version}
}

// SourceOf says whose journal lies in a state directory: what its backup is
// marked with. A directory of no box gives a version alone.
func SourceOf(stateDir string) journal.Source {
	id, _ := readIdentity(stateDir) // a journal alone can be backed up too
	return id.source()
}
