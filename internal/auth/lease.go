package auth

import (
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// MaxGrace is the longest [Lease.Grace].
const MaxGrace = 7 * 24 * time.Hour

// Lease says for how long after its end a token is still accepted while nobody
// can get a new one, since the cloud is out of reach. The zero value: never.
//
// Everything else about the token must be in order, as on the day it ended:
// signature, venue, kind, and that it is not revoked. Besides, its device must
// be known: it was let in here with a token that had not ended.
type Lease struct {
	// Grace is counted from the token's own end, so that no number of uses
	// makes it longer. At most [MaxGrace].
	Grace time.Duration

	// Role, if set, is what a more powerful one counts as meanwhile; see
	// [Shrink].
	Role event.Role

	// Down reports whether the cloud is out of reach now, and proven to be:
	// not being known is not enough. Nil: never. Must not block; called
	// concurrently.
	Down func() bool

	// Known are the devices. Nil: there are none.
	Known *Known
}

// until returns when the lease on a token ends, and whether there is one now.
// The end of an impersonation is meant: nothing is added to it.
func (l Lease) until(c *claims, device string, now time.Time) (end time.Time, ok bool) {
	if l.Grace <= 0 || l.Down == nil || l.Known == nil || c.Impersonated || c.Expires.IsZero() {
		return time.Time{}, false
	}
	end = c.Expires.Add(l.Grace)
	return end, now.Before(end) && l.Known.has(device) && l.Down()
}

// Shrink returns the role that somebody has during a lease: the ceiling in the
// place of a more powerful role. WAITER, CASHIER, KITCHEN and HOST each may what
// the others may not, so below VIEWER's ceiling alone they stay what they are.
func Shrink(role, ceiling event.Role) event.Role {
	order := event.Roles()
	has, most := slices.Index(order, role), slices.Index(order, ceiling)
	leads := has <= slices.Index(order, event.Manager)
	if most < 0 || has >= most || !leads && ceiling != event.Viewer {
		return role
	}
	return ceiling
}

// deviceOf names what a token is used on: the terminal it was issued to, else
// the token itself.
func deviceOf(c *claims, token string) string {
	if serial := NormaliseTerminal(c.Terminal); serial != "" {
		return "terminal/" + serial
	}
	return "token/" + digest(token)
}

// digest names a token, without its signature, which could be written in many
// ways.
func digest(token string) string {
	sum := sha256.Sum256([]byte(token[:strings.LastIndexByte(token, '.')]))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
