package auth

import (
	"slices"
	"time"
)

// Policy is what the cloud says of this venue's tokens. The zero value gates
// nothing.
type Policy struct {
	// VenueStatus is the venue's status in the existing system. Unless it is
	// one of those that work, only a SUPERADMIN is let in. Empty: not known,
	// and everybody is.
	VenueStatus string

	Keys    Keys // for tokens that are not signed with the secret
	Revoked []Revocation
}

// Revocation takes back tokens: the one with an id, those of a login session,
// or those of a person. What is empty takes back nothing.
type Revocation struct {
	Token   string // jti
	Session string // sid
	Subject string // sub

	// Before spares a person's tokens that were issued at or after it, so that
	// a new login helps. Zero spares none. A token that does not say when it
	// was issued is not spared.
	Before time.Time
}

// policy is a Policy made for looking things up.
type policy struct {
	status           string
	keys             Keys
	tokens, sessions map[string]bool
	subjects         map[string]time.Time // spared from this time on
	everything       map[string]bool
}

// Enforce puts a policy in the place of the one before. Tokens verified from
// now on are judged by it; who keeps sessions open verifies theirs again.
func (v *Verifier) Enforce(p Policy) {
	in := &policy{
		status: p.VenueStatus, keys: p.Keys, tokens: map[string]bool{}, sessions: map[string]bool{},
		subjects: map[string]time.Time{}, everything: map[string]bool{},
	}
	for _, r := range p.Revoked {
		if r.Token != "" {
			in.tokens[r.Token] = true
		}
		if r.Session != "" {
			in.sessions[r.Session] = true
		}
		switch {
		case r.Subject == "":
		case r.Before.IsZero():
			in.everything[r.Subject] = true
		case r.Before.After(in.subjects[r.Subject]):
			in.subjects[r.Subject] = r.Before
		}
	}
	v.policy.Store(in)
}

// operational is the venue gate of the existing system (contract §1.5).
func (p *policy) operational() bool {
	return p.status == "" ||
		slices.Contains([]string{"LIVE_DEMO", "TRIAL", "ONBOARDING", "PENDING_ACTIVATION", "ACTIVE"}, p.status)
}

// revokes returns what of a token is revoked, empty if nothing is.
func (p *policy) revokes(c *claims) string {
	switch before, some := p.subjects[c.Subject]; {
	case p.tokens[c.TokenID]:
		return "token"
	case p.sessions[c.Session]:
		return "session"
	case p.everything[c.Subject]:
		return "subject"
	case some && (c.IssuedAt.IsZero() || c.IssuedAt.Before(before)):
		return "subject"
	}
	return ""
}
