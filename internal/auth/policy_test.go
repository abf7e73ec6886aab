package auth_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/avoqado/avoqado-edge/internal/auth"
)

// pair is a key that a back-end signs with, and its public half as a JWK.
type pair struct {
	method  jwt.SigningMethod
	private crypto.Signer
	jwk     map[string]string
}

func b64(raw []byte) string { return base64.RawURLEncoding.EncodeToString(raw) }

func pairs(t *testing.T) map[string]pair {
	t.Helper()
	r, err1 := rsa.GenerateKey(rand.Reader, 2048)
	e, err2 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	edPublic, ed, err3 := ed25519.GenerateKey(rand.Reader)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	point, err := e.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return map[string]pair{
		"r1": {jwt.SigningMethodRS256, r, map[string]string{"kty": "RSA", "kid": "r1", "alg": "RS256", "use": "sig", "n": b64(r.N.Bytes()), "e": "AQAB"}},
		"e1": {jwt.SigningMethodES256, e, map[string]string{"kty": "EC", "kid": "e1", "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:])}},
		"d1": {jwt.SigningMethodEdDSA, ed, map[string]string{"kty": "OKP", "kid": "d1", "crv": "Ed25519", "x": b64(edPublic)}},
	}
}

func jwks(t *testing.T, keys ...map[string]string) []byte {
	t.Helper()
	raw, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func signBy(t *testing.T, method jwt.SigningMethod, key any, kid any) string {
	t.Helper()
	token := jwt.NewWithClaims(method, terminalClaims())
	if kid != nil {
		token.Header["kid"] = kid
	}
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestPublicKeys(t *testing.T) {
	all := pairs(t)
	keys, err := auth.ParseKeys(jwks(t, all["r1"].jwk, all["e1"].jwk, all["d1"].jwk))
	if err != nil || len(keys) != 3 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	v := verifier(t, auth.Config{})
	good := sign(t, jwt.SigningMethodHS256, []byte(secret), terminalClaims())
	for kid, p := range all {
		if _, err := v.Verify(signBy(t, p.method, p.private, kid)); !errors.Is(err, auth.ErrFormat) {
			t.Errorf("%s, before there are keys: %v", kid, err)
		}
	}
	v.Enforce(auth.Policy{Keys: keys})
	for kid, p := range all {
		g, err := v.Verify(signBy(t, p.method, p.private, kid))
		if err != nil || g.Subject != "staff_1" {
			t.Errorf("%s: %+v, %v", kid, g, err)
		}
		if read, err := auth.Inspect(signBy(t, p.method, p.private, kid)); err != nil || len(read.Problems) != 0 {
			t.Errorf("%s: inspected %+v, %v", kid, read.Problems, err)
		}
		// Its public half in every form a secret could have.
		der, err := x509.MarshalPKIXPublicKey(p.private.Public())
		if err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(p.jwk)
		if err != nil {
			t.Fatal(err)
		}
		forms := [][]byte{der, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), raw}
		for name, text := range p.jwk {
			if part, err := base64.RawURLEncoding.DecodeString(text); err == nil && name != "kid" {
				forms = append(forms, part)
			}
		}
		if public, ok := p.private.Public().(ed25519.PublicKey); ok {
			forms = append(forms, public)
		}
		for i, form := range forms {
			for _, method := range []jwt.SigningMethod{jwt.SigningMethodHS256, jwt.SigningMethodHS384, jwt.SigningMethodHS512} {
				if _, err := v.Verify(signBy(t, method, form, kid)); !errors.Is(err, auth.ErrFormat) {
					t.Errorf("%s: form %d of the public key as a secret of %s: %v", kid, i, method.Alg(), err)
				}
			}
		}
	}
	if _, err := v.Verify(good); err != nil {
		t.Errorf("the secret: %v", err)
	}

	stranger := pairs(t)
	long, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{
		"no kid":                signBy(t, jwt.SigningMethodRS256, all["r1"].private, nil),
		"kid is a number":       signBy(t, jwt.SigningMethodRS256, all["r1"].private, 1),
		"unknown kid":           signBy(t, jwt.SigningMethodRS256, all["r1"].private, "r2"),
		"kid of another key":    signBy(t, jwt.SigningMethodRS256, all["r1"].private, "e1"),
		"kid of another, EdDSA": signBy(t, jwt.SigningMethodEdDSA, all["d1"].private, "r1"),
		"RS384":                 signBy(t, jwt.SigningMethodRS384, all["r1"].private, "r1"),
		"PS256":                 signBy(t, jwt.SigningMethodPS256, all["r1"].private, "r1"),
		"ES384":                 signBy(t, jwt.SigningMethodES384, long, "e1"),
		"forged RS256":          signBy(t, jwt.SigningMethodRS256, stranger["r1"].private, "r1"),
		"forged ES256":          signBy(t, jwt.SigningMethodES256, stranger["e1"].private, "e1"),
		"forged EdDSA":          signBy(t, jwt.SigningMethodEdDSA, stranger["d1"].private, "d1"),
		"none":                  signBy(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "r1"),
	} {
		if g, err := v.Verify(token); !errors.Is(err, auth.ErrFormat) || g != (auth.Grant{}) {
			t.Errorf("%s: %+v, %v", name, g, err)
		}
	}

	// A key that is taken out is not accepted any more.
	v.Enforce(auth.Policy{})
	if _, err := v.Verify(signBy(t, jwt.SigningMethodEdDSA, all["d1"].private, "d1")); !errors.Is(err, auth.ErrFormat) {
		t.Errorf("a key that was taken out: %v", err)
	}
}

func TestParseKeys(t *testing.T) {
	all := pairs(t)
	changed := func(kid, name, value string) map[string]string {
		k := maps.Clone(all[kid].jwk)
		if k[name] = value; value == "" {
			delete(k, name)
		}
		return k
	}
	for name, c := range map[string]struct {
		raw  []byte
		keys int // -1: refused
	}{
		"nothing":              {nil, 0},
		"null":                 {[]byte(`null`), 0},
		"empty":                {[]byte(`{"keys":[]}`), 0},
		"no member":            {[]byte(`{}`), -1},
		"a list":               {[]byte(`[]`), -1},
		"number for a kid":     {[]byte(`{"keys":[{"kty":"RSA","kid":1}]}`), -1},
		"for encryption":       {jwks(t, changed("r1", "use", "enc")), 0},
		"PS256":                {jwks(t, changed("r1", "alg", "PS256")), 0},
		"HS256 on an RSA key":  {jwks(t, changed("r1", "alg", "HS256")), 0},
		"P-384":                {jwks(t, changed("e1", "crv", "P-384")), 0},
		"X25519":               {jwks(t, changed("d1", "crv", "X25519")), 0},
		"unknown kind":         {jwks(t, changed("d1", "kty", "ML-DSA")), 0},
		"no kid":               {jwks(t, changed("r1", "kid", "")), -1},
		"long kid":             {jwks(t, changed("r1", "kid", strings.Repeat("k", 129))), -1},
		"twice":                {jwks(t, all["r1"].jwk, all["r1"].jwk), -1},
		"shared secret":        {jwks(t, map[string]string{"kty": "oct", "kid": "s", "k": "c2VjcmV0"}), -1},
		"private key":          {jwks(t, changed("d1", "d", "c2VjcmV0")), -1},
		"short modulus":        {jwks(t, changed("r1", "n", "AQAB")), -1},
		"long modulus":         {jwks(t, changed("r1", "n", b64(make256(2048)))), -1},
		"padded modulus":       {jwks(t, changed("r1", "n", all["r1"].jwk["n"]+"==")), -1},
		"no exponent":          {jwks(t, changed("r1", "e", "")), -1},
		"exponent 1":           {jwks(t, changed("r1", "e", "AQ")), -1},
		"even exponent":        {jwks(t, changed("r1", "e", "AQAA")), -1},
		"long exponent":        {jwks(t, changed("r1", "e", b64(make256(9)))), -1},
		"point off the curve":  {jwks(t, changed("e1", "y", all["e1"].jwk["x"])), -1},
		"short coordinate":     {jwks(t, changed("e1", "x", "AQAB")), -1},
		"short Ed25519":        {jwks(t, changed("d1", "x", "AQAB")), -1},
		"too many":             {jwks(t, make([]map[string]string, 65)...), -1},
		"good among the other": {jwks(t, changed("r1", "use", "enc"), all["d1"].jwk), 1},
	} {
		keys, err := auth.ParseKeys(c.raw)
		if c.keys < 0 != (err != nil) || c.keys >= 0 && len(keys) != c.keys {
			t.Errorf("%s: %d keys, %v", name, len(keys), err)
		}
		if err != nil && strings.Contains(err.Error(), "c2VjcmV0") {
			t.Errorf("%s: the error tells the secret: %v", name, err)
		}
	}
}

// make256 returns n bytes, all set.
func make256(n int) []byte {
	raw := make([]byte, n)
	for i := range raw {
		raw[i] = 0xff
	}
	return raw
}

func TestVenueGate(t *testing.T) {
	v := verifier(t, auth.Config{})
	waiter, superadmin := raw(header, with("", "")), raw(header, with("role", `"SUPERADMIN"`))
	for status, open := range map[string]bool{
		"": true, "LIVE_DEMO": true, "TRIAL": true, "ONBOARDING": true, "PENDING_ACTIVATION": true, "ACTIVE": true,
		"SUSPENDED": false, "ADMIN_SUSPENDED": false, "CLOSED": false, "active": false, "SOMETHING_NEW": false,
	} {
		v.Enforce(auth.Policy{VenueStatus: status})
		_, err := v.Verify(waiter)
		if open != (err == nil) || !open && (!errors.Is(err, auth.ErrVenue) || err.Error() != "Venue is not operational. Contact support for assistance.") {
			t.Errorf("%s: %v", status, err)
		}
		if _, err := v.Verify(superadmin); err != nil {
			t.Errorf("%s: a SUPERADMIN reads %v", status, err)
		}
		if _, err := v.Verify(raw(header, with("venueId", `"pending"`))); !errors.Is(err, auth.ErrVenue) {
			t.Errorf("%s: a token without a venue: %v", status, err)
		}
	}
}

func TestRevocation(t *testing.T) {
	iat := noon().Add(-time.Minute)
	token := func(change string, value any) string {
		c := terminalClaims()
		c["jti"], c["sid"], c["iat"] = "token_1", "session_1", iat.Unix()
		if c[change] = value; value == nil {
			delete(c, change)
		}
		return sign(t, jwt.SigningMethodHS256, []byte(secret), c)
	}
	v := verifier(t, auth.Config{})
	for name, c := range map[string]struct {
		revoked auth.Revocation
		token   string
		ends    bool
	}{
		"the token":                   {auth.Revocation{Token: "token_1"}, token("", 1), true},
		"another token":               {auth.Revocation{Token: "token_2"}, token("", 1), false},
		"a token without an id":       {auth.Revocation{Token: "token_1"}, token("jti", nil), false},
		"the session":                 {auth.Revocation{Session: "session_1"}, token("", 1), true},
		"a token's id as a session":   {auth.Revocation{Session: "token_1"}, token("", 1), false},
		"the person":                  {auth.Revocation{Subject: "staff_1"}, token("", 1), true},
		"the person, as SUPERADMIN":   {auth.Revocation{Subject: "staff_1"}, token("role", "SUPERADMIN"), true},
		"another person":              {auth.Revocation{Subject: "staff_2"}, token("", 1), false},
		"issued before":               {auth.Revocation{Subject: "staff_1", Before: iat.Add(time.Second)}, token("", 1), true},
		"issued at":                   {auth.Revocation{Subject: "staff_1", Before: iat}, token("", 1), false},
		"issued before, does not say": {auth.Revocation{Subject: "staff_1", Before: iat}, token("iat", nil), true},
		"nothing":                     {auth.Revocation{}, token("jti", ""), false},
	} {
		// The other entries of the list must not weaken it.
		v.Enforce(auth.Policy{Revoked: []auth.Revocation{c.revoked, {Subject: c.revoked.Subject, Before: time.Unix(1, 0)}, {Token: "x"}}})
		_, err := v.Verify(c.token)
		if c.ends != (err != nil) || c.ends && (!errors.Is(err, auth.ErrRevoked) || err.Error() != "Sesión cerrada. Inicia sesión de nuevo.") {
			t.Errorf("%s: %v", name, err)
		}
	}
	v.Enforce(auth.Policy{})
	if _, err := v.Verify(token("", 1)); err != nil {
		t.Errorf("taken off the list: %v", err)
	}
}
