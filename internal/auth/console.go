package auth

import (
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// consoleKey is the kid of tokens that the box makes for its own console page.
// They are good until its next start at most, and at this box alone.
const consoleKey = "avoqado-edge-console"

// MintConsole returns a token of the given role for whoever has shown that the
// box is theirs, good for the lifetime, at least a second, or until the box
// starts anew. It needs no secret and no cloud.
func (v *Verifier) MintConsole(role event.Role, lifetime time.Duration) (string, error) {
	switch {
	case !role.Known():
		return "", fmt.Errorf("mint console token: role %q is unknown", role)
	case lifetime < time.Second:
		return "", errors.New("mint console token: lifetime is below 1s")
	}
	iss, aud, r := consoleKey, audience, v.rules.Load()
	if len(r.issuers) > 0 {
		iss = r.issuers[0]
	}
	if len(r.audiences) > 0 {
		aud = r.audiences[0]
	}
	now := v.now()
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"sub": "console", "venueId": v.venue, "role": string(role), "jti": uuid.NewString(),
		"iat": now.Unix(), "exp": now.Add(lifetime).Unix(), "iss": iss, "aud": aud,
	})
	token.Header["kid"] = consoleKey
	signed, err := token.SignedString(v.console[:])
	if err != nil {
		return "", fmt.Errorf("mint console token: %w", err)
	}
	return signed, nil
}
