package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// maxSeconds is the last second of the year 9999. A larger exp would overflow
// on its way into a time, and to which side depends on the processor.
const maxSeconds = 253402300799

// claims is a token's payload as the existing issuers write it (contract
// §1.4). Reading it never fails: what is wrong is collected, so that the
// signature is judged before the content.
type claims struct {
	Subject, Org, Venue      string
	Role, Kind               string
	Terminal                 string
	TokenID, Session, Issuer string
	Audience                 []string

	// Zero where the claim is absent.
	Expires, NotBefore, IssuedAt time.Time

	// Acting is when an impersonation ends; the token may say a later exp. One
	// that does not say when is Impersonated all the same.
	Acting       time.Time
	Impersonated bool

	problems []error
}

// UnmarshalJSON reads the claims by their exact names. encoding/json would
// also take SUB for sub.
func (c *claims) UnmarshalJSON(raw []byte) error {
	o, err := event.ParseObject(raw)
	if err != nil {
		return err
	}
	for _, text := range []struct {
		name string
		into *string
	}{
		{"sub", &c.Subject},
		{"orgId", &c.Org},
		{"venueId", &c.Venue},
		{"role", &c.Role},
		{"type", &c.Kind},
		{"terminalSerialNumber", &c.Terminal},
		{"jti", &c.TokenID},
		{"sid", &c.Session},
		{"iss", &c.Issuer},
	} {
		*text.into = c.text(o, text.name)
	}
	c.Audience = c.audience(o)
	c.Expires = c.seconds(o, "exp")
	c.NotBefore = c.seconds(o, "nbf")
	c.IssuedAt = c.seconds(o, "iat")
	c.Impersonated, c.Acting = c.acting(o)
	return nil
}

func (c *claims) wrong(format string, args ...any) {
	c.problems = append(c.problems, fmt.Errorf(format, args...))
}

// text returns a claim that must be a string if it is there at all.
func (c *claims) text(o event.Object, name string) string {
	raw := o.Raw(name)
	if raw == nil || string(raw) == "null" {
		return ""
	}
	if raw[0] != '"' {
		c.wrong("claim %s is not a string", name)
		return ""
	}
	s := o.String(name)
	if len(s) > event.MaxKey {
		c.wrong("claim %s is %d bytes long, %d are allowed", name, len(s), event.MaxKey)
		return ""
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		c.wrong("claim %s holds a control character", name)
		return ""
	}
	return s
}

// seconds returns a claim that must be a number of seconds if it is there at
// all; null is no number, as in the existing verifier.
func (c *claims) seconds(o event.Object, name string) time.Time {
	raw := o.Raw(name)
	if raw == nil {
		return time.Time{}
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	switch {
	case errors.Is(err, strconv.ErrSyntax):
		c.wrong("claim %s is not a number", name)
		return time.Time{}
	case err != nil || math.Abs(f) > maxSeconds:
		c.wrong("claim %s is out of range", name)
		return time.Time{}
	}
	// What ended before 1970 has ended: the year 1 must not pass for no time at all.
	return time.Unix(max(0, int64(math.Floor(f))), 0).UTC()
}

// audience returns aud, which RFC 7519 allows to be one string or several.
func (c *claims) audience(o event.Object) []string {
	raw := o.Raw("aud")
	if raw == nil {
		return nil
	}
	var one string
	if json.Unmarshal(raw, &one) == nil {
		return []string{one}
	}
	var several []string
	if json.Unmarshal(raw, &several) != nil {
		c.wrong("claim aud is neither a string nor a list of strings")
	}
	return several
}

// acting reports whether somebody acts for another, and act.expiresAt, the end of
// that.
func (c *claims) acting(o event.Object) (is bool, end time.Time) {
	raw := o.Raw("act")
	if raw == nil || string(raw) == "null" {
		return false, time.Time{}
	}
	act, err := event.ParseObject(raw)
	if err != nil {
		c.wrong("claim act is not an object")
		return true, time.Time{}
	}
	return true, c.seconds(act, "expiresAt")
}

// refusals returns everything that keeps the claims from being a grant. The
// time and the venue are the verifier's matter.
func (c *claims) refusals() []error {
	problems := c.problems
	for _, need := range []struct{ name, value string }{
		{"sub", c.Subject}, {"venueId", c.Venue}, {"role", c.Role},
	} {
		if need.value == "" {
			problems = append(problems, fmt.Errorf("claim %s is missing", need.name))
		}
	}
	if c.Role != "" && !event.Role(c.Role).Known() {
		problems = append(problems, errors.New("claim role is not a staff role"))
	}
	switch strings.ToLower(c.Kind) {
	case "refresh", "customer", "consumer":
		problems = append(problems, fmt.Errorf("token is a %s token", strings.ToLower(c.Kind)))
	}
	if slices.Contains(c.Audience, "avoqado-mcp") {
		problems = append(problems, errors.New("token is for audience avoqado-mcp"))
	}
	return problems
}

func (c *claims) grant() Grant {
	return Grant{
		Subject:  c.Subject,
		Org:      c.Org,
		Venue:    c.Venue,
		Role:     event.Role(c.Role),
		Terminal: NormaliseTerminal(c.Terminal),
		TokenID:  c.TokenID,
		Session:  c.Session,
		Expires:  c.expiry(),
	}
}

// expiry is the earlier of exp and the end of an impersonation, zero if
// neither is given.
func (c *claims) expiry() time.Time {
	if c.Expires.IsZero() || (!c.Acting.IsZero() && c.Acting.Before(c.Expires)) {
		return c.Acting
	}
	return c.Expires
}

func numericDate(t time.Time) *jwt.NumericDate {
	if t.IsZero() {
		return nil
	}
	return jwt.NewNumericDate(t)
}

// The methods below are how the jwt library asks for what it checks.

// GetExpirationTime returns the earlier of exp and the end of an
// impersonation.
func (c *claims) GetExpirationTime() (*jwt.NumericDate, error) { return numericDate(c.expiry()), nil }

// GetNotBefore returns nbf.
func (c *claims) GetNotBefore() (*jwt.NumericDate, error) { return numericDate(c.NotBefore), nil }

// GetIssuedAt returns iat, which is not checked.
func (c *claims) GetIssuedAt() (*jwt.NumericDate, error) { return numericDate(c.IssuedAt), nil }

// GetIssuer returns iss, which is not checked.
func (c *claims) GetIssuer() (string, error) { return c.Issuer, nil }

// GetSubject returns sub.
func (c *claims) GetSubject() (string, error) { return c.Subject, nil }

// GetAudience returns aud.
func (c *claims) GetAudience() (jwt.ClaimStrings, error) { return c.Audience, nil }
