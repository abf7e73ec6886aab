package lan_test

import (
	"strings"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/lan"
)

// TestPolicyEndsSessions takes tokens back while their sessions are open.
func TestPolicyEndsSessions(t *testing.T) {
	b := start(t)
	for _, g := range []auth.Grant{
		{Subject: "waiter", Role: event.Waiter, Session: "s1"},
		{Subject: "manager", Role: event.Manager, Session: "s2"},
		{Subject: "boss", Role: event.SuperAdmin},
	} {
		b.connect(g, "")
	}
	for _, c := range []struct {
		policy     auth.Policy
		ended, are int
	}{
		{auth.Policy{VenueStatus: "ACTIVE"}, 0, 3},
		{auth.Policy{VenueStatus: "ACTIVE", Revoked: []auth.Revocation{{Session: "s1"}}}, 1, 2},
		{auth.Policy{VenueStatus: "SUSPENDED"}, 1, 1},
		{auth.Policy{Revoked: []auth.Revocation{{Subject: "boss"}}}, 1, 0},
	} {
		b.door.Enforce(c.policy)
		if n := b.VerifyAgain(); n != c.ended {
			t.Errorf("%+v ended %d sessions, want %d", c.policy, n, c.ended)
		}
		until(t, "they are gone", func() bool { return b.Connections().ConnectionStats.Total == c.are })
	}
}

// TestRevokedOnTheWayIn: a token that is taken back between its check and the
// session lets nobody stay.
func TestRevokedOnTheWayIn(t *testing.T) {
	b := start(t)
	b.door.passed.Store(new(func() {
		b.door.Enforce(auth.Policy{Revoked: []auth.Revocation{{Subject: "late"}}})
		if n := b.VerifyAgain(); n != 0 {
			t.Errorf("%d sessions end, and nobody is in", n)
		}
	}))
	c, _ := b.knock(`{"token":"` + b.mint(auth.Grant{Subject: "late", Role: event.Waiter}) + `"}`)
	wait(t, c)

	// Who is allowed all the same stays.
	b.door.passed.Store(new(func() { b.VerifyAgain() }))
	if c, answer := b.knock(`{"token":"` + b.mint(auth.Grant{Subject: "other", Role: event.Waiter}) + `"}`); !strings.HasPrefix(answer, "40{") || c.closed() {
		t.Errorf("answer %q", answer)
	}
	until(t, "it is in", func() bool { return b.Connections().ConnectionStats.Total == 1 })
}

// TestEventsExpireByTheTrustedClock has a system clock that is a day behind.
func TestEventsExpireByTheTrustedClock(t *testing.T) {
	b := start(t, func(c *lan.Config) {
		c.Trusted = func() time.Time { return time.Now().Add(24 * time.Hour) }
	})
	waiter := b.as(event.Waiter)
	for n, expires := range []time.Duration{time.Hour, 25 * time.Hour} {
		e := alert(n, event.Audience{})
		e.Expires = time.Now().Add(expires)
		b.journal.append(e)
	}
	if got := waiter.want("system_alert"); got != `{"n":1,"amount":"1.50"}` {
		t.Errorf("shown: %s", got)
	}
}
