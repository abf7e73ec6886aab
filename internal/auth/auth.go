package auth

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/avoqado/avoqado-edge/internal/event"
)

const (
	// MinSecret is the shortest secret accepted, in bytes, as in the existing
	// system.
	MinSecret = 16

	// MaxToken is the longest token looked at, in bytes. The existing issuers
	// stay below 1 KiB; anything longer is refused before it costs a parse.
	MaxToken = 8 << 10

	// DefaultLeeway is how far the clocks of issuer and box may differ.
	DefaultLeeway = 30 * time.Second

	// maxLeeway keeps a mistyped leeway from turning expiry off.
	maxLeeway = 5 * time.Minute
)

const hs256 = "HS256"

// The issuer and audience the existing system writes into terminal tokens.
const (
	issuer   = "avoqado-api"
	audience = "avoqado-clients"
)

// The reasons a token is refused. Their texts go to the client as they are:
// terminals in the field look for the words "token" and "expired" in them to
// decide whether to fetch a new token (contract §1.6).
//
//nolint:staticcheck // The texts are the wire contract, capitals and stop included.
var (
	ErrNoToken = errors.New("No authentication token provided")
	ErrExpired = errors.New("Token has expired")
	ErrFormat  = errors.New("Invalid token format")
	ErrVenue   = errors.New("Venue is not operational. Contact support for assistance.")
	ErrRevoked = errors.New("Sesión cerrada. Inicia sesión de nuevo.")
)

// Refusal is the error of [Verifier.Verify]. Its text is what the client must
// read and says no more than the contract does; Reason is for the log of the
// box and never holds any part of the token.
type Refusal struct {
	Kind   error  // ErrNoToken, ErrExpired, ErrFormat, ErrVenue or ErrRevoked
	Reason string // such as "signature is invalid"
}

// Error returns the text for the client.
func (r *Refusal) Error() string { return r.Kind.Error() }

// Unwrap lets errors.Is find the kind.
func (r *Refusal) Unwrap() error { return r.Kind }

// Grant is what a verified token allows: who acts, as what, and until when.
type Grant struct {
	Subject  string // staff id
	Org      string // organisation id; may be empty
	Venue    string
	Role     event.Role
	Terminal string // normalised serial, see [NormaliseTerminal]; may be empty
	TokenID  string // jti; may be empty
	Session  string // sid, the login session; may be empty

	// Lease is until when the token is accepted though it has ended, since the
	// cloud is out of reach; see [Lease]. Zero: it has not ended. Whoever lets
	// somebody in by it keeps a record of that.
	Lease time.Time

	// Held is the role of the token, where the lease gives less; else empty.
	Held event.Role

	// Expires is from when on the box refuses the token: its exp plus the
	// leeway, so that a session lives as long as its token would be let in
	// again. The end of the lease, if there is one. Zero: never.
	Expires time.Time
}

// Expired reports whether the grant has run out at the given time.
func (g Grant) Expired(now time.Time) bool {
	return !g.Expires.IsZero() && !now.Before(g.Expires)
}

// Config is what a [Verifier] needs to know.
type Config struct {
	Venue          string        // the box's venue; tokens of any other are refused
	Secret         []byte        // shared with the issuer, at least MinSecret bytes; empty: none is
	PreviousSecret []byte        // also accepted while a secret is replaced; may be empty
	Leeway         time.Duration // zero: DefaultLeeway; at most 5 minutes

	// Issuers and Audiences, if there are any, must hold the iss and one aud of
	// each token. Without them a token need not have these; an aud that it has
	// must be the existing system's all the same (RFC 7519 §4.1.3).
	Issuers, Audiences []string

	Lease   Lease
	Logouts *Logouts // nil: they are remembered until the next start
}

// Verifier checks and makes tokens. All its methods may be called concurrently.
type Verifier struct {
	venue   string
	leeway  time.Duration
	parser  *jwt.Parser
	now     func() time.Time
	logouts *Logouts
	rules   atomic.Pointer[rules]  // never nil
	policy  atomic.Pointer[policy] // never nil

	console [32]byte // signs what a console code gives, until the next start

	mu      sync.Mutex      // guards below
	sources map[string]Keys // replaced whole
	missed  func()          // nil: nobody wants to know
	alias   func(string) string
}

// rules are what of a Config may change while the box runs.
type rules struct {
	secret             []byte                 // signs; empty: there is none
	secrets            jwt.VerificationKeySet // check
	issuers, audiences []string
	lease              Lease
}

// NewVerifier returns a verifier, or an error that names what is wrong with
// the configuration. now is the wall clock: a box without a battery-backed
// clock boots in the past, so its owner decides what time it is.
func NewVerifier(c Config, now func() time.Time) (*Verifier, error) {
	if c.Leeway == 0 {
		c.Leeway = DefaultLeeway
	}
	switch {
	case c.Venue == "":
		return nil, errors.New("verify tokens: no venue given")
	case c.Leeway < 0 || c.Leeway > maxLeeway:
		return nil, fmt.Errorf("verify tokens: leeway %s is not within 0s and %s", c.Leeway, maxLeeway)
	case now == nil:
		return nil, errors.New("verify tokens: no clock given")
	}
	r, err := newRules(c)
	if err != nil {
		return nil, err
	}
	if c.Logouts == nil {
		c.Logouts = &Logouts{}
	}
	v := &Verifier{venue: c.Venue, leeway: c.Leeway, now: now, logouts: c.Logouts, sources: make(map[string]Keys)}
	rand.Read(v.console[:])
	v.rules.Store(r)
	v.policy.Store(&policy{})
	v.parser = jwt.NewParser(
		// Pinned, so that "none" gets nowhere. Which key an algorithm may be
		// checked with is for key to say.
		jwt.WithValidMethods([]string{hs256, "RS256", "ES256", "EdDSA"}),
		jwt.WithStrictDecoding(),
		jwt.WithLeeway(c.Leeway),
		jwt.WithTimeFunc(now),
		// No WithIssuedAt: a box whose clock is behind would refuse every
		// token made since.
	)
	return v, nil
}

func newRules(c Config) (*rules, error) {
	switch {
	case len(c.Secret) > 0 && len(c.Secret) < MinSecret:
		return nil, fmt.Errorf("verify tokens: secret is %d bytes long, %d are needed", len(c.Secret), MinSecret)
	case len(c.PreviousSecret) > 0 && len(c.PreviousSecret) < MinSecret:
		return nil, fmt.Errorf("verify tokens: previous secret is %d bytes long, %d are needed", len(c.PreviousSecret), MinSecret)
	case c.Lease.Grace < 0 || c.Lease.Grace > MaxGrace:
		return nil, fmt.Errorf("verify tokens: grace %s is not within 0s and %s", c.Lease.Grace, MaxGrace)
	case c.Lease.Role != "" && !c.Lease.Role.Known():
		return nil, fmt.Errorf("verify tokens: role %q is unknown", c.Lease.Role)
	}
	r := &rules{secret: c.Secret, issuers: c.Issuers, audiences: c.Audiences, lease: c.Lease}
	for _, secret := range [][]byte{c.Secret, c.PreviousSecret} {
		if len(secret) > 0 {
			r.secrets.Keys = append(r.secrets.Keys, secret)
		}
	}
	return r, nil
}

// Change puts the secrets, issuers, audiences and the lease of c in the place of
// those before; an error changes nothing. What else is in c is not looked at.
// Tokens verified from now on are judged by it; who keeps sessions open verifies
// theirs again.
func (v *Verifier) Change(c Config) error {
	r, err := newRules(c)
	if err != nil {
		return err
	}
	v.rules.Store(r)
	return nil
}

// Verify returns the grant of a token. The error is a [*Refusal], whose text
// the client must read; errors.Is tells [ErrNoToken], [ErrExpired],
// [ErrFormat], [ErrVenue] and [ErrRevoked] apart.
//
// A token without exp is accepted, as in the existing system.
func (v *Verifier) Verify(token string) (Grant, error) {
	if token == "" {
		return Grant{}, &Refusal{ErrNoToken, "no token"}
	}
	if err := checkForm(token); err != nil {
		return Grant{}, &Refusal{ErrFormat, err.Error()}
	}
	var c claims
	r := v.rules.Load()
	read, err := v.parser.ParseWithClaims(token, &c, func(t *jwt.Token) (any, error) { return v.key(r, t) })
	expired := errors.Is(err, jwt.ErrTokenExpired) // then the signature is good
	if err != nil && (!expired || errors.Is(err, jwt.ErrTokenNotValidYet)) {
		return Grant{}, &Refusal{ErrFormat, err.Error()}
	}
	g, refusal := v.judge(r, &c)
	if refusal == nil && v.logouts.has(token) {
		refusal = &Refusal{ErrRevoked, "token was logged out"}
	}
	device := deviceOf(&c, token)
	if expired {
		// What else is wrong with it makes no difference to who must fetch a
		// new one, and tells nobody what a lease would need.
		until, leased := r.lease.until(&c, device, v.now())
		if refusal != nil || !leased || read.Header["kid"] == consoleKey {
			return Grant{}, &Refusal{ErrExpired, "token has expired"}
		}
		if less := Shrink(g.Role, r.lease.Role); less != g.Role {
			g.Role, g.Held = less, g.Role
		}
		g.Lease, g.Expires = until, until
		return g, nil
	}
	if refusal != nil {
		return Grant{}, refusal
	}
	if r.lease.Known != nil {
		r.lease.Known.remember(device)
	}
	return g, nil
}

// judge returns the grant of claims whose signature is good, whatever the time
// is.
func (v *Verifier) judge(r *rules, c *claims) (Grant, *Refusal) {
	p := v.policy.Load()
	if problems := c.refusals(); len(problems) > 0 {
		return Grant{}, &Refusal{ErrFormat, problems[0].Error()}
	}
	if why := r.foreign(c); why != "" {
		return Grant{}, &Refusal{ErrFormat, why}
	}
	if c.Venue != v.venue {
		// Also the "pending" venue of staff who have not joined one yet, and
		// also for SUPERADMIN: a box serves its own venue alone.
		return Grant{}, &Refusal{ErrVenue, "token is for another venue"}
	}
	if what := p.revokes(c, v.knownAs()); what != "" {
		return Grant{}, &Refusal{ErrRevoked, what + " is revoked"}
	}
	if !p.operational() && event.Role(c.Role) != event.SuperAdmin {
		return Grant{}, &Refusal{ErrVenue, "venue is " + p.status}
	}
	g := c.grant()
	if !g.Expires.IsZero() {
		g.Expires = g.Expires.Add(v.leeway)
	}
	return g, nil
}

// foreign says why a token was not made by or for whom it must be, empty if it
// was.
func (r *rules) foreign(c *claims) string {
	if len(r.issuers) > 0 && !slices.Contains(r.issuers, c.Issuer) {
		return "token is of another issuer"
	}
	meant := r.audiences
	if len(meant) == 0 {
		if len(c.Audience) == 0 {
			return ""
		}
		meant = []string{audience}
	}
	if !slices.ContainsFunc(c.Audience, func(aud string) bool { return slices.Contains(meant, aud) }) {
		return "token is for another audience"
	}
	return ""
}

// Lapsed reports whether the time of a grant is over by the clock that tokens
// are judged by. Safe concurrently.
func (v *Verifier) Lapsed(g Grant) bool { return g.Expired(v.now()) }

// Proven reports whether a terminal has shown a token that names it within the
// last month. Safe concurrently.
func (v *Verifier) Proven(serial string) bool {
	known := v.rules.Load().lease.Known
	return known != nil && known.seenWithin("terminal/"+NormaliseTerminal(serial), provenFor)
}

// key returns what to check a signature with: the secrets for HS256 and for
// nothing else, so that no public key is ever used as a secret; else the keys of
// the token's kid that are for its algorithm. It also sees the header, whose
// "crit" lists what a verifier must understand (RFC 7515 §4.1.11); this one
// understands none of it, and looks at no key that a token brings along.
func (v *Verifier) key(r *rules, t *jwt.Token) (any, error) {
	if _, ok := t.Header["crit"]; ok {
		return nil, errors.New("critical header is not supported")
	}
	kid, _ := t.Header["kid"].(string)
	switch {
	case t.Method.Alg() != hs256:
		return v.publicKeys(kid, t.Method.Alg())
	case kid == consoleKey:
		return v.console[:], nil
	case len(r.secrets.Keys) == 0:
		return nil, errors.New("there is no secret for HS256")
	}
	return r.secrets, nil
}

// checkForm refuses what cannot be a token before anything is decoded. The
// base64 decoder skips line breaks, so a token could otherwise be written in
// many ways.
func checkForm(token string) error {
	if len(token) > MaxToken {
		return fmt.Errorf("token is %d bytes long, %d are allowed", len(token), MaxToken)
	}
	for i := range len(token) {
		c := token[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case c == '-', c == '_', c == '.':
		default:
			return fmt.Errorf("token holds byte %#02x at %d", c, i)
		}
	}
	return nil
}

// Mint returns a token for g that is valid for the given lifetime, which must
// be positive, counted in whole seconds from now. It is signed as the existing
// issuer does for terminals. An empty g.Venue means the verifier's own; an
// empty g.TokenID a fresh one; g.Expires is not looked at.
func (v *Verifier) Mint(g Grant, lifetime time.Duration) (string, error) {
	if g.Venue == "" {
		g.Venue = v.venue
	}
	if g.TokenID == "" {
		g.TokenID = uuid.NewString()
	}
	secret := v.rules.Load().secret
	switch {
	case len(secret) == 0:
		return "", errors.New("mint token: there is no secret")
	case g.Subject == "":
		return "", errors.New("mint token: no subject given")
	case !g.Role.Known():
		return "", fmt.Errorf("mint token: role %q is unknown", g.Role)
	case lifetime < time.Second:
		return "", fmt.Errorf("mint token: lifetime %s is below 1s", lifetime)
	}
	now := v.now()
	set := jwt.MapClaims{
		"sub":     g.Subject,
		"orgId":   g.Org,
		"venueId": g.Venue,
		"role":    string(g.Role),
		"iat":     now.Unix(),
		"exp":     now.Add(lifetime).Unix(),
		"iss":     issuer,
		"aud":     audience,
		"jti":     g.TokenID,
	}
	if g.Terminal != "" {
		set["terminalSerialNumber"] = g.Terminal
	}
	if g.Session != "" {
		set["sid"] = g.Session
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, set).SignedString(secret)
	if err != nil {
		return "", fmt.Errorf("mint token: %w", err)
	}
	return token, nil
}

// NormaliseTerminal returns a terminal's serial as it is compared everywhere:
// without the AVQD- prefix and in lower case, since the existing clients write
// it either way.
func NormaliseTerminal(id string) string {
	id = strings.ToLower(strings.TrimSpace(id))
	return strings.TrimPrefix(id, "avqd-")
}
