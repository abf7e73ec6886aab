package boxtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
	"maps"
	"strings"
	"testing"
	"time"
)

// forge makes tokens: good ones, with the keys of the back-end, and all others.
type forge struct {
	t   testing.TB
	rsa *rsa.PrivateKey
	ec  *ecdsa.PrivateKey
	ed  ed25519.PrivateKey
	mu  map[string]map[string]string // JWKs by kid
}

func b64(raw []byte) string { return base64.RawURLEncoding.EncodeToString(raw) }

func newForge(t testing.TB) *forge {
	t.Helper()
	f := &forge{t: t}
	var err1, err2, err3 error
	f.rsa, err1 = rsa.GenerateKey(rand.Reader, 2048)
	f.ec, err2 = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, f.ed, err3 = ed25519.GenerateKey(rand.Reader)
	point, err4 := f.ec.PublicKey.Bytes()
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	f.mu = map[string]map[string]string{
		"r1": {"kty": "RSA", "kid": "r1", "n": b64(f.rsa.N.Bytes()), "e": "AQAB"},
		"e1": {"kty": "EC", "kid": "e1", "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:])},
		"d1": {"kty": "OKP", "kid": "d1", "crv": "Ed25519", "x": b64(f.ed[32:])},
	}
	return f
}

// jwks is what the back-end publishes.
func (f *forge) jwks() []byte {
	raw, err := json.Marshal(map[string]any{"keys": []any{f.mu["r1"], f.mu["e1"], f.mu["d1"]}})
	if err != nil {
		f.t.Fatal(err)
	}
	return raw
}

// claims are good ones, each replaced by raw JSON, or left out where that is
// empty.
func claims(change map[string]string) string {
	now := time.Now().Unix()
	all := map[string]string{
		"sub": `"staff_1"`, "orgId": `"org1"`, "venueId": `"v1"`, "role": `"ADMIN"`,
		"iat": fmt.Sprint(now), "exp": fmt.Sprint(now + 3600), "aud": `"avoqado-clients"`,
	}
	maps.Copy(all, change)
	var members []string
	for name, value := range all {
		if value != "" {
			members = append(members, fmt.Sprintf("%q:%s", name, value))
		}
	}
	return "{" + strings.Join(members, ",") + "}"
}

func body(header, payload string) string { return b64([]byte(header)) + "." + b64([]byte(payload)) }

// mac signs with an HMAC.
func mac(key []byte, h func() hash.Hash, text string) string {
	m := hmac.New(h, key)
	m.Write([]byte(text))
	return text + "." + b64(m.Sum(nil))
}

// hs is a token that the secret signs.
func hs(header, payload string) string { return mac([]byte(Secret), sha256.New, body(header, payload)) }

func (f *forge) rs(key *rsa.PrivateKey, header, payload string) string {
	text := body(header, payload)
	sum := sha256.Sum256([]byte(text))
	sig, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		f.t.Fatal(err)
	}
	return text + "." + b64(sig)
}

func (f *forge) es(key *ecdsa.PrivateKey, header, payload string) string {
	text := body(header, payload)
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		f.t.Fatal(err)
	}
	return text + "." + b64(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))
}

func (f *forge) eddsa(key ed25519.PrivateKey, header, payload string) string {
	text := body(header, payload)
	return text + "." + b64(ed25519.Sign(key, []byte(text)))
}

const plainHeader = `{"alg":"HS256","typ":"JWT"}`

// good are tokens that must be let in, one of each kind, or the table proves
// nothing.
func (f *forge) good() map[string]string {
	return map[string]string{
		"HS256": hs(plainHeader, claims(nil)),
		"RS256": f.rs(f.rsa, `{"alg":"RS256","kid":"r1"}`, claims(nil)),
		"ES256": f.es(f.ec, `{"alg":"ES256","kid":"e1"}`, claims(nil)),
		"EdDSA": f.eddsa(f.ed, `{"alg":"EdDSA","kid":"d1"}`, claims(nil)),
	}
}

// forgeries are tokens that must not be let in, by class.
func (f *forge) forgeries() map[string]map[string]string {
	return map[string]map[string]string{
		"algorithm": f.algorithms(), "confusion": f.confusions(), "kid": f.kids(), "header": f.headers(),
		"signature": f.signatures(), "form": f.forms(), "who": f.people(), "kind": f.kinds(), "venue": f.venues(), "time": f.times(),
	}
}

func (f *forge) algorithms() map[string]string {
	out := map[string]string{"none with an HMAC": hs(`{"alg":"none"}`, claims(nil))}
	for _, alg := range []string{`"none"`, `"None"`, `"NONE"`, `"nOnE"`, `""`, `null`, `256`, `["none"]`, `{"a":1}`, `"none\u0000"`} {
		out["unsigned "+alg] = body(`{"alg":`+alg+`}`, claims(nil)) + "."
	}
	for _, alg := range []string{`"hs256"`, `"HS256 "`, `" HS256"`, `"RS256"`, `"ES256"`, `"EdDSA"`, `"PS256"`, `"HS257"`, `""`, `["HS256"]`, `"ＨＳ256"`} {
		out["HMAC as "+alg] = hs(`{"alg":`+alg+`,"kid":"r1"}`, claims(nil))
	}
	out["HMAC without an algorithm"] = hs(`{"typ":"JWT"}`, claims(nil))
	out["HS384"] = mac([]byte(Secret), sha512.New384, body(`{"alg":"HS384"}`, claims(nil)))
	out["HS512"] = mac([]byte(Secret), sha512.New, body(`{"alg":"HS512"}`, claims(nil)))
	out["two algorithms"] = body(`{"alg":"HS256","alg":"none"}`, claims(nil)) + "."
	return out
}

// confusions use what everybody can know of a key as a secret.
func (f *forge) confusions() map[string]string {
	out := make(map[string]string)
	for kid, key := range map[string]crypto.Signer{"r1": f.rsa, "e1": f.ec, "d1": f.ed} {
		der, err := x509.MarshalPKIXPublicKey(key.Public())
		if err != nil {
			f.t.Fatal(err)
		}
		raw, err := json.Marshal(f.mu[kid])
		if err != nil {
			f.t.Fatal(err)
		}
		block := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
		forms := map[string][]byte{
			"DER": der, "PEM": block, "PEM without its last line break": []byte(strings.TrimSpace(string(block))), "JWK": raw, "JWKS": f.jwks(),
		}
		for member, text := range f.mu[kid] {
			if part, err := base64.RawURLEncoding.DecodeString(text); err == nil && len(part) > 8 {
				forms["member "+member] = part
			}
		}
		for form, secret := range forms {
			out[kid+" as "+form] = mac(secret, sha256.New, body(`{"alg":"HS256","kid":"`+kid+`"}`, claims(nil)))
		}
	}
	return out
}

func (f *forge) kids() map[string]string {
	out := make(map[string]string)
	for _, kid := range []string{
		"../../../../../dev/null", "/dev/null", "state/jwks.json", "../jwks.json", "file:///dev/null", "https://evil.example/jwks.json",
		"' OR '1'='1", `x' UNION SELECT 'a`, "$(id)", "r1", "avoqado-edge-console", "",
	} {
		text, err := json.Marshal(kid)
		if err != nil {
			f.t.Fatal(err)
		}
		out["the empty secret of "+kid] = mac(nil, sha256.New, body(`{"alg":"HS256","kid":`+string(text)+`}`, claims(nil)))
	}
	out["the secret for the console"] = hs(`{"alg":"HS256","kid":"avoqado-edge-console"}`, claims(nil))
	for _, kid := range []string{`"R1"`, `"r1 "`, `"r1\u0000"`, `"r１"`, `"d1"`, `"e1"`, `""`, `null`, `1`, `["r1"]`, `{"r1":1}`, `"` + strings.Repeat("r", 4000) + `"`} {
		out["RS256 with kid "+kid[:min(len(kid), 20)]] = f.rs(f.rsa, `{"alg":"RS256","kid":`+kid+`}`, claims(nil))
	}
	out["RS256 without kid"] = f.rs(f.rsa, `{"alg":"RS256"}`, claims(nil))
	out["ES256 with kid r1"] = f.es(f.ec, `{"alg":"ES256","kid":"r1"}`, claims(nil))
	out["EdDSA with kid e1"] = f.eddsa(f.ed, `{"alg":"EdDSA","kid":"e1"}`, claims(nil))
	return out
}

// headers bring a key along, or say how to read the token.
func (f *forge) headers() map[string]string {
	mine := newForge(f.t)
	jwk := func(kid string) string {
		raw, err := json.Marshal(mine.mu[kid])
		if err != nil {
			f.t.Fatal(err)
		}
		return string(raw)
	}
	out := map[string]string{
		"jwk RSA":         mine.rs(mine.rsa, `{"alg":"RS256","kid":"r1","jwk":`+jwk("r1")+`}`, claims(nil)),
		"jwk EC":          mine.es(mine.ec, `{"alg":"ES256","kid":"e1","jwk":`+jwk("e1")+`}`, claims(nil)),
		"jwk OKP":         mine.eddsa(mine.ed, `{"alg":"EdDSA","jwk":`+jwk("d1")+`}`, claims(nil)),
		"jwk oct":         mac([]byte("mine"), sha256.New, body(`{"alg":"HS256","jwk":{"kty":"oct","k":"`+b64([]byte("mine"))+`"}}`, claims(nil))),
		"jku":             mine.rs(mine.rsa, `{"alg":"RS256","kid":"r1","jku":"http://127.0.0.1:9/jwks.json"}`, claims(nil)),
		"x5u":             mine.rs(mine.rsa, `{"alg":"RS256","kid":"r1","x5u":"http://127.0.0.1:9/c.pem"}`, claims(nil)),
		"x5c":             mine.rs(mine.rsa, `{"alg":"RS256","kid":"r1","x5c":["`+base64.StdEncoding.EncodeToString([]byte("x"))+`"]}`, claims(nil)),
		"crit b64":        hs(`{"alg":"HS256","crit":["b64"],"b64":false}`, claims(nil)),
		"crit unknown":    hs(`{"alg":"HS256","crit":["exp"],"exp":99999999999}`, claims(nil)),
		"crit empty":      hs(`{"alg":"HS256","crit":[]}`, claims(nil)),
		"not an object":   hs(`["HS256"]`, claims(nil)),
		"not JSON":        hs(`{"alg":"HS256"`, claims(nil)),
		"not UTF-8":       hs("{\"alg\":\"HS256\xff\"}", claims(nil)),
		"null":            hs(`null`, claims(nil)),
		"empty":           hs(``, claims(nil)),
		"nested, a token": hs(`{"alg":"HS256","cty":"JWT"}`, hs(plainHeader, claims(nil))),
	}
	return out
}

func (f *forge) signatures() map[string]string {
	mine := newForge(f.t)
	good := hs(plainHeader, claims(nil))
	parts := strings.Split(good, ".")
	text := body(`{"alg":"ES256","kid":"e1"}`, claims(nil))
	sum := sha256.Sum256([]byte(text))
	der, err := ecdsa.SignASN1(rand.Reader, f.ec, sum[:])
	if err != nil {
		f.t.Fatal(err)
	}
	n := elliptic.P256().Params().N
	return map[string]string{
		"none":                   parts[0] + "." + parts[1] + ".",
		"cut by a byte":          good[:len(good)-2],
		"longer by a byte":       parts[0] + "." + parts[1] + "." + b64(append(must(base64.RawURLEncoding.DecodeString(parts[2])), 0)),
		"all zero":               parts[0] + "." + parts[1] + "." + b64(make([]byte, 32)),
		"of another payload":     parts[0] + "." + strings.Split(hs(plainHeader, claims(map[string]string{"role": `"OWNER"`})), ".")[1] + "." + parts[2],
		"header and payload":     parts[1] + "." + parts[0] + "." + parts[2],
		"secret with line break": mac([]byte(Secret+"\n"), sha256.New, body(plainHeader, claims(nil))),
		"empty secret":           mac(nil, sha256.New, body(plainHeader, claims(nil))),
		"another secret":         mac([]byte("another-secret-of-that-length-01"), sha256.New, body(plainHeader, claims(nil))),
		"secret of the samples":  mac([]byte("secret"), sha256.New, body(plainHeader, claims(nil))),
		"ES256 of zeros":         text + "." + b64(make([]byte, 64)),
		"ES256 of r and s = n":   text + "." + b64(append(n.Bytes(), n.Bytes()...)),
		"ES256 as DER":           text + "." + b64(der),
		"RS256 of zeros":         body(`{"alg":"RS256","kid":"r1"}`, claims(nil)) + "." + b64(make([]byte, 256)),
		"RS256 of one":           body(`{"alg":"RS256","kid":"r1"}`, claims(nil)) + "." + b64(append(make([]byte, 255), 1)),
		"EdDSA of zeros":         body(`{"alg":"EdDSA","kid":"d1"}`, claims(nil)) + "." + b64(make([]byte, 64)),
		"RS256 of a stranger":    mine.rs(mine.rsa, `{"alg":"RS256","kid":"r1"}`, claims(nil)),
		"ES256 of a stranger":    mine.es(mine.ec, `{"alg":"ES256","kid":"e1"}`, claims(nil)),
		"EdDSA of a stranger":    mine.eddsa(mine.ed, `{"alg":"EdDSA","kid":"d1"}`, claims(nil)),
	}
}

func must(raw []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return raw
}

func (f *forge) forms() map[string]string {
	good := hs(plainHeader, claims(nil))
	parts := strings.Split(good, ".")
	return map[string]string{
		"padded": good + "=", "four parts": good + ".x", "five parts": good + "..", "two parts": parts[0] + "." + parts[1],
		"dots": "..", "a thousand dots": strings.Repeat(".", 1000), "a line break inside": parts[0] + ".\n" + parts[1] + "." + parts[2],
		"other full stops": strings.ReplaceAll(good, ".", "。"), "standard alphabet": parts[0] + "." + parts[1] + "." + strings.Repeat("+/", 21) + "A",
		"quoted": `"` + good + `"`, "Bearer twice": "Bearer " + good, "NUL": good + "\x00", "percent": strings.ReplaceAll(good, ".", "%2e"),
		"JSON":                       `{"protected":"` + parts[0] + `","payload":"` + parts[1] + `","signature":"` + parts[2] + `"}`,
		"9 KiB, rightly signed":      hs(plainHeader, claims(map[string]string{"x": `"` + strings.Repeat("x", 7<<10) + `"`})),
		"a thousand levels":          hs(plainHeader, claims(map[string]string{"x": strings.Repeat("[", 1000) + strings.Repeat("]", 1000)})),
		"something behind the claim": hs(plainHeader, claims(nil)+"{}"),
		"payload null":               hs(plainHeader, "null"), "payload array": hs(plainHeader, "["+claims(nil)+"]"), "payload empty": hs(plainHeader, ""),
	}
}

// with makes rightly signed tokens that differ in one claim each.
func with(claim string, values ...string) map[string]string {
	out := make(map[string]string)
	for _, value := range values {
		out[claim+" "+value[:min(len(value), 40)]] = hs(plainHeader, claims(map[string]string{claim: value}))
	}
	return out
}

func union(all ...map[string]string) map[string]string {
	out := make(map[string]string)
	for _, m := range all {
		maps.Copy(out, m)
	}
	return out
}

func (f *forge) people() map[string]string {
	good := claims(nil)
	return union(
		with("sub", "", `""`, `null`, `1`, `["staff_1"]`, `{"id":"staff_1"}`, `true`, `"a\r\nb"`, `"a\u0000b"`, `"`+strings.Repeat("s", 129)+`"`),
		with("role", "", `""`, `null`, `"admin"`, `"ADMIN "`, `"ROOT"`, `["ADMIN"]`, `"АDMIN"`, `"ＡＤＭＩＮ"`, `"ADMIN\u200b"`, `"ADMIN,VIEWER"`, `"SUPERADMIN\u0000"`, `1`),
		with("terminalSerialNumber", `7`, `["a"]`, `"a\nb"`, `"`+strings.Repeat("s", 129)+`"`),
		with("jti", `7`, `{"a":1}`), with("sid", `["x"]`), with("orgId", `7`),
		map[string]string{
			"two roles, the last unknown":  hs(plainHeader, good[:len(good)-1]+`,"role":"ROOT"}`),
			"two subs, the last a number":  hs(plainHeader, good[:len(good)-1]+`,"sub":1}`),
			"escaped name, the last wrong": hs(plainHeader, good[:len(good)-1]+`,"r\u006fle":"ROOT"}`),
		},
	)
}

func (f *forge) kinds() map[string]string {
	return union(
		with("type", `"refresh"`, `"REFRESH"`, `"customer"`, `"Consumer"`, `7`, `["access"]`),
		with("aud", `"avoqado-mcp"`, `["avoqado-clients","avoqado-mcp"]`, `"bank"`, `["bank"]`, `{"a":"avoqado-clients"}`, `[1]`, `"Avoqado-Clients"`, `"avoqado-clients "`),
		with("act", `"boss"`, `{"expiresAt":1}`, `{"expiresAt":-62135596800}`, `{"expiresAt":"never"}`, `[]`, `{"expiresAt":1e300}`),
	)
}

func (f *forge) venues() map[string]string {
	good := claims(nil)
	return union(
		with("venueId", "", `""`, `null`, `"v2"`, `"V1"`, `"v1 "`, `" v1"`, `"v１"`, `"v1\u0000"`, `"v1/../v2"`, `"*"`, `"#"`, `["v1"]`, `{"id":"v1"}`, `"pending"`, `"pending-invitation"`, `1`),
		map[string]string{
			"two venues, the last another":  hs(plainHeader, good[:len(good)-1]+`,"venueId":"v2"}`),
			"SUPERADMIN of another":         hs(plainHeader, claims(map[string]string{"role": `"SUPERADMIN"`, "venueId": `"v2"`})),
			"another by an escaped name":    hs(plainHeader, good[:len(good)-1]+`,"venue\u0049d":"v2"}`),
			"VENUEID does not count for it": hs(plainHeader, claims(map[string]string{"venueId": "", "VENUEID": `"v1"`})),
		},
	)
}

func (f *forge) times() map[string]string {
	now := time.Now().Unix()
	at := func(d int64) string { return fmt.Sprint(now + d) }
	return union(
		with("exp", at(-35), at(-86400), "0", "-1", "-62135596800", "-9223372036854775808", "9223372036854775807", "9223372036854775808", "1e300", "-1e300", "1e999", "253402300800",
			`"`+at(3600)+`"`, "null", "true", "[1]", "{}", "0x7fffffff", "NaN", "Infinity", "01"),
		with("nbf", at(120), "1e300", `"0"`, "true", "null", "253402300799"),
		with("iat", `"now"`, "1e999", "true", "[]"),
	)
}
