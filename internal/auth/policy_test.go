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
	"fmt"
	"maps"
	"math/big"
	"slices"
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

// TestKeyOperations (RFC 7517 §4.3): a key that is for something else is left out.
func TestKeyOperations(t *testing.T) {
	for ops, want := range map[string]int{`["verify"]`: 1, `["sign","verify"]`: 1, `null`: 1, `["encrypt"]`: 0, `["sign"]`: 0, `[]`: 0} {
		keys, err := auth.ParseKeys([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"d1","x":"` + pairs(t)["d1"].jwk["x"] + `","key_ops":` + ops + `}]}`))
		if err != nil || len(keys) != want {
			t.Errorf("%s: %d keys, %v", ops, len(keys), err)
		}
	}
}

// TestKeysThatAnybodySignsFor makes signatures without a private key for all the
// points of small order that Ed25519 has, in all their spellings.
func TestKeysThatAnybodySignsFor(t *testing.T) {
	identity := make([]byte, ed25519.PublicKeySize)
	identity[0] = 1
	forged := append(slices.Clone(identity), make([]byte, 32)...) // R is the identity, and S is 0
	works := func(x []byte) bool {
		for n := range 256 { // one text in eight, or more
			if ed25519.Verify(x, fmt.Append(nil, n), forged) {
				return true
			}
		}
		return false
	}
	n := 0
	for _, height := range []string{
		"00", "01", "05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826", "7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd83d3d706a17c7",
		"7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffec", "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffed",
		"7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffee",
	} {
		for _, sign := range []byte{0, 0x80} {
			y, _ := new(big.Int).SetString(height, 16)
			x := y.FillBytes(make([]byte, 32))
			slices.Reverse(x)
			x[31] |= sign
			if !works(x) {
				continue // the library does not take it for a point
			}
			n++
			if keys, err := auth.ParseKeys(jwks(t, map[string]string{"kty": "OKP", "crv": "Ed25519", "kid": "d1", "x": b64(x)})); err == nil {
				t.Errorf("%x is a key for which anybody signs: %v", x, keys)
			}
		}
	}
	if n < 8 {
		t.Errorf("%d points of small order, and there are 8", n)
	}
	good, err := base64.RawURLEncoding.DecodeString(pairs(t)["d1"].jwk["x"])
	if err != nil || works(good) {
		t.Errorf("a good key is one, too: %v", err)
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
		"the device":                  {auth.Revocation{Device: "AVQD-2841548417"}, token("", 1), true},
		"the device, spelled freely":  {auth.Revocation{Device: " avqd-2841548417"}, token("", 1), true},
		"another device":              {auth.Revocation{Device: "AVQD-1"}, token("", 1), false},
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

// TestMendKeys: one key that cannot be used takes nobody's but its own place.
func TestMendKeys(t *testing.T) {
	all, newer := pairs(t), pairs(t)
	spoilt := func(kid, member string) map[string]string {
		k := maps.Clone(newer[kid].jwk)
		k[member] = "AQAB"
		return k
	}
	before := jwks(t, all["r1"].jwk, all["e1"].jwk)
	for name, c := range map[string]struct {
		raw, before []byte
		good        map[string]map[string]pair // kid of the token → whose keys sign it
		wrong       string
	}{
		"all usable":         {jwks(t, newer["e1"].jwk), before, map[string]map[string]pair{"e1": newer}, ""},
		"none":               {nil, before, nil, ""},
		"one of two":         {jwks(t, spoilt("d1", "x"), newer["e1"].jwk), nil, map[string]map[string]pair{"e1": newer}, `key "d1": x has`},
		"the one in force":   {jwks(t, spoilt("r1", "n"), newer["e1"].jwk), before, map[string]map[string]pair{"r1": all, "e1": newer}, `key "r1": modulus`},
		"private by mistake": {jwks(t, spoilt("r1", "d")), before, map[string]map[string]pair{"r1": all}, `key "r1": it is a secret`},
		"twice":              {jwks(t, spoilt("e1", "x"), newer["e1"].jwk), before, map[string]map[string]pair{"e1": newer}, `key "e1": coordinates`},
		"no set":             {[]byte(`[]`), before, map[string]map[string]pair{"r1": all, "e1": all}, "read keys"},
		"nothing was good":   {jwks(t, spoilt("d1", "x")), []byte(`{`), nil, `key "d1": x has`},
	} {
		keys, set, err := auth.MendKeys(c.raw, c.before)
		if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%s: %v", name, err)
		}
		if again, err := auth.ParseKeys(set); err != nil || len(again) != len(keys) || len(keys) != len(c.good) {
			t.Errorf("%s: %d keys, and %d after a restart, %v", name, len(keys), len(again), err)
		}
		v := verifier(t, auth.Config{})
		v.Enforce(auth.Policy{Keys: keys})
		for kid, whose := range c.good {
			if _, err := v.Verify(signBy(t, whose[kid].method, whose[kid].private, kid)); err != nil {
				t.Errorf("%s: a token of %s: %v", name, kid, err)
			}
		}
	}
}
