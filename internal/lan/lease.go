package lan

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
)

const (
	leaseTimeout = 5 * time.Second // for the record of a use to be on disk
	leaseSpell   = time.Minute     // of what is one use
	maxLeaseUses = 1024            // remembered at once
)

// leaseUses remembers who used a lease a moment ago, so that a program that asks
// each second, or a client that reconnects for ever, leaves one record a minute:
// a record is of class money, and must not fill the journal.
type leaseUses struct {
	mu   sync.Mutex // guards below
	last map[string]time.Time
}

// again reports whether the use belongs to one that was recorded.
func (u *leaseUses) again(who string, now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	at, ok := u.last[who]
	return ok && now.Sub(at) < leaseSpell
}

func (u *leaseUses) recorded(who string, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.last == nil || len(u.last) >= maxLeaseUses {
		u.last = make(map[string]time.Time)
	}
	u.last[who] = now
}

// Leased keeps a record of an HTTP request that is allowed by a lease alone (see
// [auth.Lease]), and returns nil once it is on disk; else how to refuse the
// request. A grant without a lease needs none. Safe for concurrent use.
func (s *Server) Leased(ctx context.Context, g auth.Grant, address string) *event.Refusal {
	if s.useLease(ctx, g, g.Terminal, address, "http") != nil {
		return event.RefuseForNow("lease_not_recorded", "The token has ended and its use cannot be recorded now, try again", leaseTimeout)
	}
	return nil
}

// useLease keeps a record of the use of a lease, if the grant is one, and returns
// nil once it is on disk. What one token does in one way from one address within a
// minute is one use, whatever terminal it says to be: else who makes names up could
// write without end.
func (s *Server) useLease(ctx context.Context, g auth.Grant, terminal, address, via string) error {
	if g.Lease.IsZero() {
		return nil
	}
	who, now := strings.Join([]string{via, networkOf(address), g.Subject, g.Terminal, g.TokenID}, "\x00"), time.Now()
	if s.leases.again(who, now) {
		return nil
	}
	if err := s.recordLease(ctx, g, terminal, address, via); err != nil {
		return err
	}
	s.leases.recorded(who, now)
	return nil
}

// recordLease stores the record that a token which had ended let somebody in. It
// returns once that is on disk: whoever cannot be recorded does not get in.
func (s *Server) recordLease(ctx context.Context, g auth.Grant, terminal, address, via string) error {
	ctx, cancel := context.WithTimeout(ctx, leaseTimeout)
	defer cancel()
	now := s.cfg.Now().UTC().Truncate(time.Millisecond)
	members := []event.Member{
		event.Text("userId", g.Subject), event.Text("role", string(g.Role)), event.Text("via", via),
		event.Text("address", address), event.Text("until", event.FormatTime(g.Lease)),
		event.Text("venueId", g.Venue), event.Text("timestamp", event.FormatTime(now)),
	}
	for _, m := range []struct{ key, value string }{
		{"tokenRole", string(g.Held)}, {"terminalId", terminal}, {"tokenId", g.TokenID},
	} {
		if m.value != "" {
			members = append(members, event.Text(m.key, m.value))
		}
	}
	e := &event.Event{
		ID: event.NewID(), Kind: event.LeaseUsed, Origin: event.Local, Class: event.Money, Time: now,
		Subject: g.Subject, Actor: g.Subject, Role: g.Role, Terminal: terminal,
		CorrelationID: event.NewCorrelationID(), Payload: object(members...),
	}
	stored := make(chan error, 1)
	err := s.journal.Enqueue(ctx, e, func(_ event.Receipt, err error) { stored <- err })
	if err == nil {
		select {
		case err = <-stored:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if err != nil {
		s.counters.refuse(reasonLease)
		s.log.Error("a lease cannot be recorded, so it is not given", "user", g.Subject, "terminal", terminal, "err", err)
		return err
	}
	s.counters.leases.Add(1)
	s.log.Warn("token has ended and is accepted, the cloud is out of reach", "user", g.Subject, "role", g.Role,
		"terminal", terminal, "address", address, "until", g.Lease)
	return nil
}

// leaseMember tells the client that its token has ended.
func leaseMember(g auth.Grant) []event.Member {
	if g.Lease.IsZero() {
		return nil
	}
	return []event.Member{{Key: "lease", Value: object(event.Text("until", event.FormatTime(g.Lease)))}}
}
