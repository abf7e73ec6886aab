package auth

import (
	"errors"
	"fmt"
	"strings"
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
	// Expires is from when on the box refuses the token: its exp plus the
	// leeway, so that a session lives as long as its token would be let in
	// again. Zero: never.
	Expires time.Time
}

// Expired reports whether the grant has run out at the given time.
func (g Grant) Expired(now time.Time) bool {
	return !g.Expires.IsZero() && !now.Before(g.Expires)
}

// Config is what a [Verifier] needs to know.
type Config struct {
	Venue          string        // the box's venue; tokens of any other are refused
	Secret         []byte        // shared with the issuer, at least MinSecret bytes
	PreviousSecret []byte        // also accepted while a secret is replaced; may be empty
	Leeway         time.Duration // zero: DefaultLeeway; at most 5 minutes
}

// Verifier checks and makes tokens. All its methods may be called concurrently.
type Verifier struct {
	venue  string
	secret []byte
	leeway time.Duration
	keys   jwt.VerificationKeySet
	parser *jwt.Parser
	now    func() time.Time
	policy atomic.Pointer[policy] // never nil
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
	case len(c.Secret) < MinSecret:
		return nil, fmt.Errorf("verify tokens: secret is %d bytes long, %d are needed", len(c.Secret), MinSecret)
	case len(c.PreviousSecret) > 0 && len(c.PreviousSecret) < MinSecret:
		return nil, fmt.Errorf("verify tokens: previous secret is %d bytes long, %d are needed", len(c.PreviousSecret), MinSecret)
	case c.Leeway < 0 || c.Leeway > maxLeeway:
		return nil, fmt.Errorf("verify tokens: leeway %s is not within 0s and %s", c.Leeway, maxLeeway)
	case now == nil:
		return nil, errors.New("verify tokens: no clock given")
	}
	v := &Verifier{venue: c.Venue, secret: c.Secret, leeway: c.Leeway, now: now}
	v.policy.Store(&policy{})
	v.keys.Keys = append(v.keys.Keys, c.Secret)
	if len(c.PreviousSecret) > 0 {
		v.keys.Keys = append(v.keys.Keys, c.PreviousSecret)
	}
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
	if _, err := v.parser.ParseWithClaims(token, &c, v.key); err != nil {
		if errors.Is(err, jwt.ErrTokenExpired) {
			return Grant{}, &Refusal{ErrExpired, "token has expired"}
		}
		return Grant{}, &Refusal{ErrFormat, err.Error()}
	}
	p := v.policy.Load()
	if problems := c.refusals(); len(problems) > 0 {
		return Grant{}, &Refusal{ErrFormat, problems[0].Error()}
	}
	if c.Venue != v.venue {
		// Also the "pending" venue of staff who have not joined one yet, and
		// also for SUPERADMIN: a box serves its own venue alone.
		return Grant{}, &Refusal{ErrVenue, "token is for another venue"}
	}
	if what := p.revokes(&c); what != "" {
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

// key returns what to check a signature with: the secrets for HS256 and for
// nothing else, so that no public key is ever used as a secret; the one key of
// the token's kid for the algorithm that belongs to the key. It also sees the header, whose "crit" lists
// what a verifier must understand (RFC 7515 §4.1.11); this one understands
// none of it.
func (v *Verifier) key(t *jwt.Token) (any, error) {
	if _, ok := t.Header["crit"]; ok {
		return nil, errors.New("critical header is not supported")
	}
	if t.Method.Alg() == hs256 {
		return v.keys, nil
	}
	kid, _ := t.Header["kid"].(string)
	k, known := v.policy.Load().keys[kid]
	switch {
	case !known:
		return nil, errors.New("key of the token is not known")
	case k.algorithm != t.Method.Alg():
		return nil, errors.New("key of the token is for another algorithm")
	}
	return k.public, nil
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
	switch {
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
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, set).SignedString(v.secret)
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
