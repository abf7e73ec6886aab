package auth_test

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/avoqado/avoqado-edge/internal/auth"
)

const header = `{"alg":"HS256","typ":"JWT"}`

// raw signs header and payload as they are with the good secret, so that a
// case shows what the content alone does.
func raw(header, payload string) string {
	return rawWith([]byte(secret), header, payload)
}

func rawWith(key []byte, header, payload string) string {
	enc := base64.RawURLEncoding
	text := enc.EncodeToString([]byte(header)) + "." + enc.EncodeToString([]byte(payload))
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return text + "." + enc.EncodeToString(mac.Sum(nil))
}

// with returns a good terminal payload with one claim replaced by raw JSON.
func with(name, value string) string {
	members := []string{
		`"sub":"staff_1"`, `"orgId":"org_1"`, `"venueId":"venue_1"`, `"role":"WAITER"`,
		`"iat":1795435200`, `"exp":1795438800`, // noon and an hour later
	}
	kept := members[:0]
	for _, m := range members {
		if !strings.HasPrefix(m, `"`+name+`":`) {
			kept = append(kept, m)
		}
	}
	if value != "" {
		kept = append(kept, `"`+name+`":`+value)
	}
	return "{" + strings.Join(kept, ",") + "}"
}

// TestAttacks feeds the verifier what a terminal, an attacker or a broken
// issuer may send. nil means the token is good.
func TestAttacks(t *testing.T) {
	good := raw(header, with("", ""))
	parts := strings.Split(good, ".")
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&rsaKey.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})

	ends := func(at string) string { return raw(header, with("exp", at)) }
	claim := func(name, value string) string { return raw(header, with(name, value)) }
	long := func(n int) string { return `"` + strings.Repeat("x", n) + `"` }

	cases := []struct {
		name  string
		token string
		want  error
	}{
		{"good", good, nil},
		{"no token", "", auth.ErrNoToken},

		// Form.
		{"garbage", "garbage", auth.ErrFormat},
		{"dots", "..", auth.ErrFormat},
		{"two parts", parts[0] + "." + parts[1], auth.ErrFormat},
		{"four parts", good + ".x", auth.ErrFormat},
		{"encrypted, five parts", good + ".x.y", auth.ErrFormat},
		{"a thousand dots", strings.Repeat(".", 1000), auth.ErrFormat},
		{"blank", " ", auth.ErrFormat},
		{"space around", " " + good, auth.ErrFormat},
		{"bearer left on", "Bearer " + good, auth.ErrFormat},
		{"quoted", `"` + good + `"`, auth.ErrFormat},
		{"line break in the signature", parts[0] + "." + parts[1] + "." + parts[2][:5] + "\n" + parts[2][5:], auth.ErrFormat},
		{"padding", good + "=", auth.ErrFormat},
		{"standard base64", strings.ReplaceAll(good, ".", "+"), auth.ErrFormat},
		{"NUL", good + "\x00", auth.ErrFormat},
		{"not UTF-8", "\xff\xfe", auth.ErrFormat},
		{"huge", good + strings.Repeat("A", 1<<20), auth.ErrFormat},
		{"just too long, rightly signed", claim("orgId", long(auth.MaxToken)), auth.ErrFormat},

		// Signature.
		{"no signature", parts[0] + "." + parts[1] + ".", auth.ErrFormat},
		{"cut signature", good[:len(good)-4], auth.ErrFormat},
		{"other bits behind the signature", good[:len(good)-1] + next(good[len(good)-1]), auth.ErrFormat},
		{"payload of another token", parts[0] + "." + strings.Split(claim("role", `"ADMIN"`), ".")[1] + "." + parts[2], auth.ErrFormat},
		{"wrong secret", rawWith([]byte("another-secret-of-the-length"), header, with("", "")), auth.ErrFormat},
		{"empty secret", rawWith(nil, header, with("", "")), auth.ErrFormat},
		{"wrong secret and expired", rawWith([]byte("another-secret-of-the-length"), header, with("exp", "1")), auth.ErrFormat},

		// Algorithm.
		{"none", sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, terminalClaims()), auth.ErrFormat},
		{"None", raw(`{"alg":"None"}`, with("", "")), auth.ErrFormat},
		{"lower case", raw(`{"alg":"hs256"}`, with("", "")), auth.ErrFormat},
		{"HS384", sign(t, jwt.SigningMethodHS384, []byte(secret), terminalClaims()), auth.ErrFormat},
		{"HS512", sign(t, jwt.SigningMethodHS512, []byte(secret), terminalClaims()), auth.ErrFormat},
		{"RS256", sign(t, jwt.SigningMethodRS256, rsaKey, terminalClaims()), auth.ErrFormat},
		{"public key as a secret", rawWith(public, header, with("", "")), auth.ErrFormat},
		{"RS256 said, HMAC done", raw(`{"alg":"RS256"}`, with("", "")), auth.ErrFormat},
		{"no algorithm", raw(`{"typ":"JWT"}`, with("", "")), auth.ErrFormat},
		{"algorithm is a number", raw(`{"alg":256}`, with("", "")), auth.ErrFormat},
		{"algorithm is a list", raw(`{"alg":["HS256"]}`, with("", "")), auth.ErrFormat},
		{"two algorithms, the last counts", raw(`{"alg":"HS256","alg":"none"}`, with("", "")), auth.ErrFormat},

		// Header.
		{"header null", raw(`null`, with("", "")), auth.ErrFormat},
		{"header array", raw(`[]`, with("", "")), auth.ErrFormat},
		{"header no JSON", raw(`{`, with("", "")), auth.ErrFormat},
		{"critical extension", raw(`{"alg":"HS256","crit":["b64"],"b64":false}`, with("", "")), auth.ErrFormat},
		{"key in the header is not used", rawWith([]byte("attacker"), `{"alg":"HS256","jwk":{"kty":"oct","k":"YXR0YWNrZXI"}}`, with("", "")), auth.ErrFormat},
		{"kid is not a path", raw(`{"alg":"HS256","kid":"../../dev/null"}`, with("", "")), nil},

		// Payload.
		{"payload null", raw(header, `null`), auth.ErrFormat},
		{"payload array", raw(header, `[]`), auth.ErrFormat},
		{"payload empty", raw(header, `{}`), auth.ErrFormat},
		{"payload no JSON", raw(header, `{"sub":`), auth.ErrFormat},
		{"payload with a tail", raw(header, with("", "")+"{}"), auth.ErrFormat},
		{"payload deep", raw(header, `{"a":`+strings.Repeat("[", 500)+strings.Repeat("]", 500)+`}`), auth.ErrFormat},
		{"duplicate claim, the last counts", raw(header, strings.Replace(with("", ""), `{`, `{"venueId":"venue_2",`, 1)), nil},
		{"duplicate claim, bad last", raw(header, strings.Replace(with("", ""), `}`, `,"venueId":"venue_2"}`, 1)), auth.ErrVenue},
		{"other case does not count", raw(header, strings.Replace(with("", ""), `}`, `,"ROLE":"ADMIN","Sub":"boss"}`, 1)), nil},

		// Who.
		{"no sub", claim("sub", ""), auth.ErrFormat},
		{"empty sub", claim("sub", `""`), auth.ErrFormat},
		{"numeric sub", claim("sub", `1`), auth.ErrFormat},
		{"null sub", claim("sub", `null`), auth.ErrFormat},
		{"sub too long", claim("sub", long(200)), auth.ErrFormat},
		{"sub with a line break", claim("sub", `"a\nb"`), auth.ErrFormat},
		{"no role", claim("role", ""), auth.ErrFormat},
		{"role unknown", claim("role", `"ROOT"`), auth.ErrFormat},
		{"role lower case", claim("role", `"admin"`), auth.ErrFormat},
		{"role list", claim("role", `["ADMIN"]`), auth.ErrFormat},
		{"terminal is a number", claim("terminalSerialNumber", `7`), auth.ErrFormat},
		{"terminal null", claim("terminalSerialNumber", `null`), nil},
		{"no organisation", claim("orgId", ""), nil},

		// Kind of token.
		{"refresh", claim("type", `"refresh"`), auth.ErrFormat},
		{"Refresh", claim("type", `"Refresh"`), auth.ErrFormat},
		{"customer", claim("type", `"customer"`), auth.ErrFormat},
		{"consumer", claim("type", `"consumer"`), auth.ErrFormat},
		{"type is a number", claim("type", `1`), auth.ErrFormat},
		{"aud mcp", claim("aud", `"avoqado-mcp"`), auth.ErrFormat},
		{"aud list with mcp", claim("aud", `["avoqado-clients","avoqado-mcp"]`), auth.ErrFormat},
		{"aud list", claim("aud", `["avoqado-clients"]`), nil},
		{"aud object", claim("aud", `{"a":"avoqado-clients"}`), auth.ErrFormat},
		{"aud list of numbers", claim("aud", `[1]`), auth.ErrFormat},

		// Venue.
		{"other venue", claim("venueId", `"venue_2"`), auth.ErrVenue},
		{"pending", claim("venueId", `"pending"`), auth.ErrVenue},
		{"pending invitation", claim("venueId", `"pending-invitation"`), auth.ErrVenue},
		{"venue in other case", claim("venueId", `"VENUE_1"`), auth.ErrVenue},
		{"venue with a space", claim("venueId", `"venue_1 "`), auth.ErrVenue},
		{"no venue", claim("venueId", ""), auth.ErrFormat},
		{"venue list", claim("venueId", `["venue_1"]`), auth.ErrFormat},
		{"SUPERADMIN of another venue", raw(header, strings.Replace(with("role", `"SUPERADMIN"`), "venue_1", "venue_2", 1)), auth.ErrVenue},
		{"SUPERADMIN", claim("role", `"SUPERADMIN"`), nil},

		// Time.
		{"no exp", claim("exp", ""), nil},
		{"expired", ends("1795435100"), auth.ErrExpired},
		{"expired within the leeway", ends("1795435171"), nil},
		{"expired at the leeway", ends("1795435170"), auth.ErrExpired},
		{"exp 0", ends("0"), auth.ErrExpired},
		{"exp negative", ends("-1"), auth.ErrExpired},
		{"exp in the year 1, which Go takes for no time", ends("-62135596800"), auth.ErrExpired},
		{"impersonation that ended in the year 1", claim("act", `{"expiresAt":-62135596800}`), auth.ErrExpired},
		{"exp with a fraction", ends("1795438800.5"), nil},
		{"exp overflows int64", ends("9223372036854775808"), auth.ErrFormat},
		{"exp overflows a float", ends("1e999"), auth.ErrFormat},
		{"exp far beyond time", ends("1e300"), auth.ErrFormat},
		{"exp is text", ends(`"1795438800"`), auth.ErrFormat},
		{"exp null", ends("null"), auth.ErrFormat},
		{"exp true", ends("true"), auth.ErrFormat},
		{"expired, of another venue", raw(header, strings.Replace(with("exp", "1"), "venue_1", "venue_2", 1)), auth.ErrExpired},
		{"not yet valid", claim("nbf", "1795435260"), auth.ErrFormat},
		{"valid within the leeway", claim("nbf", "1795435220"), nil},
		{"nbf is text", claim("nbf", `"now"`), auth.ErrFormat},
		{"issued tomorrow: our clock may be slow", claim("iat", "1795521600"), nil},
		{"iat is text", claim("iat", `"now"`), auth.ErrFormat},
		{"impersonation", claim("act", `{"sub":"boss","expiresAt":1795438800}`), nil},
		{"impersonation over", claim("act", `{"sub":"boss","expiresAt":1795435100}`), auth.ErrExpired},
		{"impersonation is text", claim("act", `"boss"`), auth.ErrFormat},
	}
	v := verifier(t, auth.Config{})
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			grant, err := v.Verify(c.token)
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if _, panics := auth.Inspect(c.token); panics != nil && c.want == nil {
				t.Errorf("inspect: %v", panics)
			}
			if c.want == nil {
				if grant.Subject != "staff_1" || grant.Venue != venue {
					t.Errorf("grant is %+v", grant)
				}
				return
			}
			var refusal *auth.Refusal
			if !errors.As(err, &refusal) || refusal.Reason == "" {
				t.Fatalf("no reason in %#v", err)
			}
			if err.Error() != c.want.Error() {
				t.Errorf("the client would read %q", err)
			}
			if grant != (auth.Grant{}) {
				t.Errorf("a refused token grants %+v", grant)
			}
			if len(c.token) > 20 && strings.Contains(refusal.Reason, c.token[:20]) {
				t.Errorf("the reason shows the token: %s", refusal.Reason)
			}
		})
	}
}

func TestImpersonationEndsFirst(t *testing.T) {
	v := verifier(t, auth.Config{})
	for _, act := range []int64{600, math.MaxInt32} {
		c := terminalClaims()
		c["act"] = map[string]any{"sub": "boss", "expiresAt": noon().Unix() + act}
		g, err := v.Verify(sign(t, jwt.SigningMethodHS256, []byte(secret), c))
		if err != nil {
			t.Fatal(err)
		}
		want := noon().Add(min(time.Hour, time.Duration(act)*time.Second) + auth.DefaultLeeway)
		if !g.Expires.Equal(want) {
			t.Errorf("expires %s, want %s", g.Expires, want)
		}
	}
}

// next returns the base64url character behind c: for the last character of an
// HS256 signature, one that differs in bits that are not part of it.
func next(c byte) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return string(alphabet[strings.IndexByte(alphabet, c)|1])
}
