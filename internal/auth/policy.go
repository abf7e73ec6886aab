package auth

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"
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
// those of a person, or those of a device. What is empty takes back nothing.
type Revocation struct {
	Token   string // jti
	Session string // sid
	Subject string // sub

	// Device is a terminal's serial, in any spelling, or its other id; see
	// [Verifier.KnownAs]. It also keeps out who says to be that terminal with a
	// token that names none.
	Device string

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
	devices          map[string]bool // normalised serials
}

// Enforce puts a policy in the place of the one before. Tokens verified from
// now on are judged by it; who keeps sessions open verifies theirs again.
func (v *Verifier) Enforce(p Policy) {
	in := &policy{
		status: p.VenueStatus, keys: p.Keys, tokens: map[string]bool{}, sessions: map[string]bool{},
		subjects: map[string]time.Time{}, everything: map[string]bool{}, devices: map[string]bool{},
	}
	for _, r := range p.Revoked {
		if r.Token != "" {
			in.tokens[r.Token] = true
		}
		if r.Session != "" {
			in.sessions[r.Session] = true
		}
		if device := NormaliseTerminal(r.Device); device != "" {
			in.devices[device] = true
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
func (p *policy) revokes(c *claims, alias func(string) string) string {
	switch before, some := p.subjects[c.Subject]; {
	case p.tokens[c.TokenID]:
		return "token"
	case p.sessions[c.Session]:
		return "session"
	case p.everything[c.Subject]:
		return "subject"
	case p.revokesDevice(c.Terminal, alias):
		return "device"
	case some && (c.IssuedAt.IsZero() || c.IssuedAt.Before(before)):
		return "subject"
	}
	return ""
}

// revokesDevice asks for the other id at each look: it may be learnt later.
func (p *policy) revokesDevice(serial string, alias func(string) string) bool {
	if len(p.devices) == 0 {
		return false
	}
	serial = NormaliseTerminal(serial)
	return p.devices[serial] || alias != nil && p.devices[alias(serial)]
}

// DeviceRevoked reports whether the terminal with this serial is taken back,
// whatever token comes with it. Safe concurrently.
func (v *Verifier) DeviceRevoked(serial string) bool {
	return v.policy.Load().revokesDevice(serial, v.knownAs())
}

// KnownAs has alias asked by which other id, in lower case, the terminal with a
// normalised serial is known, so that a revocation by that reaches it; without one
// it returns what it was given. It is called on any goroutine and must not block.
func (v *Verifier) KnownAs(alias func(serial string) string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.alias = alias
}

func (v *Verifier) knownAs() func(string) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.alias
}

// Trust puts the keys of one source, such as a file, in the place of those that
// it gave before. A key is good as long as any source, or the policy, holds it.
// Who keeps sessions open verifies theirs again. Safe concurrently.
func (v *Verifier) Trust(source string, keys Keys) {
	v.mu.Lock()
	defer v.mu.Unlock()
	changed := maps.Clone(v.sources)
	changed[source] = keys
	v.sources = changed
}

// publicKeys returns the keys of a kid that are for an algorithm.
func (v *Verifier) publicKeys(kid, algorithm string) (jwt.VerificationKeySet, error) {
	v.mu.Lock()
	sources, missed := v.sources, v.missed
	v.mu.Unlock()
	var set jwt.VerificationKeySet
	known := false
	look := func(keys Keys) {
		k, ok := keys[kid]
		known = known || ok
		if ok && k.algorithm == algorithm {
			set.Keys = append(set.Keys, k.public)
		}
	}
	look(v.policy.Load().keys)
	for _, keys := range sources {
		look(keys)
	}
	switch {
	case !known:
		if missed != nil {
			missed()
		}
		return set, errors.New("key of the token is not known")
	case len(set.Keys) == 0:
		return set, errors.New("key of the token is for another algorithm")
	}
	return set, nil
}

// OnUnknownKey has f called, on any goroutine, when a token names a key that no
// source holds. f must not block.
func (v *Verifier) OnUnknownKey(f func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.missed = f
}
