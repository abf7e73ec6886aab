package auth

import (
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	logoutSpace = "auth/logouts"
	maxLogouts  = 4096 // tokens that have not ended
)

// ErrManyLogouts says that no more logouts can be remembered: a token that was
// logged out is never forgotten before its end to make room.
var ErrManyLogouts = errors.New("too many tokens are logged out")

// Logouts remembers the tokens that were logged out here, each by its digest,
// until a lease on it could not be given any more. The zero value keeps nothing
// over a restart. Safe concurrently.
type Logouts struct {
	store Store // nil: none

	mu   sync.Mutex // guards below
	ends map[string]time.Time
}

// OpenLogouts reads the logouts from the store. A list that is damaged is logged,
// and what can be read of it is in force.
func OpenLogouts(store Store, log *slog.Logger) (*Logouts, error) {
	all, err := store.All(logoutSpace)
	switch {
	case err != nil && all == nil:
		return nil, fmt.Errorf("read logouts: %w", err)
	case err != nil:
		log.Error("some logouts cannot be read", "err", err)
	}
	l := &Logouts{store: store, ends: make(map[string]time.Time)}
	for token, raw := range all {
		at, err := strconv.ParseInt(string(raw), 10, 64)
		if err != nil {
			at = maxSeconds // it is one, whatever stands there
		}
		l.ends[token] = time.Unix(at, 0)
	}
	return l, nil
}

func (l *Logouts) has(token string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.ends) == 0 {
		return false
	}
	_, gone := l.ends[digest(token)]
	return gone
}

// add holds from its call on, and is durable on return without an error.
func (l *Logouts) add(token string, end, now time.Time) error {
	id := digest(token)
	entries := map[string][]byte{id: strconv.AppendInt(nil, end.Unix(), 10)}
	l.mu.Lock()
	if _, again := l.ends[id]; !again && len(l.ends) >= maxLogouts {
		for other, at := range l.ends {
			if !now.Before(at) {
				delete(l.ends, other)
				entries[other] = nil
			}
		}
		if len(l.ends) >= maxLogouts {
			l.mu.Unlock()
			return ErrManyLogouts
		}
	}
	if l.ends == nil {
		l.ends = make(map[string]time.Time)
	}
	l.ends[id] = end
	l.mu.Unlock()
	if l.store == nil {
		return nil
	}
	if err := l.store.Put(logoutSpace, entries); err != nil {
		return fmt.Errorf("save logout: %w", err)
	}
	return nil
}

// Logout ends a token here, for good: it is refused from now on, as revoked, also
// where a lease would let it in, and over restarts. ended is false for what is
// not let in anyway. Who keeps sessions open verifies theirs again. With an error
// the token is refused until the next start only, or, with [ErrManyLogouts], not
// at all. Safe concurrently.
func (v *Verifier) Logout(token string) (ended bool, err error) {
	if token == "" || checkForm(token) != nil {
		return false, nil //nolint:nilerr // no token: there is nothing to end
	}
	var c claims
	r := v.rules.Load()
	_, err = v.parser.ParseWithClaims(token, &c, func(t *jwt.Token) (any, error) { return v.key(r, t) })
	if err != nil && !errors.Is(err, jwt.ErrTokenExpired) {
		return false, nil // forged, or nobody's
	}
	if c.Venue != v.venue || len(c.refusals()) > 0 {
		return false, nil // never let in; what a gate holds up may be, later
	}
	end := time.Unix(maxSeconds, 0)
	if at := c.expiry(); !at.IsZero() {
		end = at.Add(MaxGrace)
	}
	return true, v.logouts.add(token, end, v.now())
}
