package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Claims is what a token says of itself. Nobody has checked that it is true.
type Claims struct {
	// Verified is always false: reading a token proves nothing about it.
	Verified bool `json:"verified"`

	Algorithm string    `json:"algorithm"`
	Subject   string    `json:"subject,omitempty"`
	Org       string    `json:"org,omitempty"`
	Venue     string    `json:"venue,omitempty"`
	Role      string    `json:"role,omitempty"`
	Terminal  string    `json:"terminal,omitempty"` // as written, not normalised
	Type      string    `json:"type,omitempty"`
	Issuer    string    `json:"issuer,omitempty"`
	Audience  []string  `json:"audience,omitempty"`
	TokenID   string    `json:"tokenId,omitempty"`
	Session   string    `json:"session,omitempty"`
	IssuedAt  time.Time `json:"issuedAt,omitzero"`
	NotBefore time.Time `json:"notBefore,omitzero"`
	Expires   time.Time `json:"expires,omitzero"` // zero: none

	// Problems lists what a box would refuse the token for, whoever signed it.
	// Venue and expiry are not among them: they depend on where and when.
	Problems []string `json:"problems,omitempty"`

	// Header and Payload are the token's parts as they stand in it.
	Header  json.RawMessage `json:"header"`
	Payload json.RawMessage `json:"payload"`
}

// Inspect reads a token without checking its signature, for people who want to
// know what they hold. It fails only on what is no token at all.
func Inspect(token string) (Claims, error) {
	if token == "" {
		return Claims{}, errors.New("inspect token: it is empty")
	}
	if err := checkForm(token); err != nil {
		return Claims{}, fmt.Errorf("inspect token: %w", err)
	}
	parser := jwt.NewParser(jwt.WithStrictDecoding())
	var c claims
	read, parts, err := parser.ParseUnverified(token, &c)
	// An unknown algorithm is no reason not to read the rest.
	if err != nil && !errors.Is(err, jwt.ErrTokenUnverifiable) {
		return Claims{}, fmt.Errorf("inspect token: %w", err)
	}
	algorithm, _ := read.Header["alg"].(string)
	out := Claims{
		Algorithm: algorithm,
		Subject:   c.Subject, Org: c.Org, Venue: c.Venue, Role: c.Role, Terminal: c.Terminal,
		Type: c.Kind, Issuer: c.Issuer, Audience: c.Audience, TokenID: c.TokenID, Session: c.Session,
		IssuedAt: c.IssuedAt, NotBefore: c.NotBefore, Expires: c.expiry(),
	}
	if out.Header, err = parser.DecodeSegment(parts[0]); err != nil {
		return Claims{}, fmt.Errorf("inspect token: %w", err)
	}
	if out.Payload, err = parser.DecodeSegment(parts[1]); err != nil {
		return Claims{}, fmt.Errorf("inspect token: %w", err)
	}
	switch algorithm {
	case hs256, "RS256", "ES256", "EdDSA":
	default:
		out.Problems = append(out.Problems, fmt.Sprintf("algorithm %q is not HS256, RS256, ES256 or EdDSA", algorithm))
	}
	for _, problem := range c.refusals() {
		out.Problems = append(out.Problems, problem.Error())
	}
	return out, nil
}
