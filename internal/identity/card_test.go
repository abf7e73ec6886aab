package identity

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func card() Card {
	return Card{
		Box: "box1", Venue: "venue_1", Name: "Caja", Version: "1.2.3", Host: "avq-box1.local", Addresses: []string{"192.168.1.10:8080"},
		Path: "/socket.io/", State: "ok", IssuedAt: time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC), Nonce: "n1",
	}
}

func TestSealAndUnseal(t *testing.T) {
	k := open(t, t.TempDir())
	raw, err := k.Seal(card())
	if err != nil {
		t.Fatal(err)
	}
	c, err := Unseal(raw, "n1")
	if err != nil || c.Box != "box1" || c.Venue != "venue_1" || c.Key != k.Fingerprint() || c.Addresses[0] != "192.168.1.10:8080" {
		t.Fatalf("%+v, %v", c, err)
	}
	// What is read without the signature says the same.
	var plain Card
	if err := json.Unmarshal(raw, &plain); err != nil || plain.Key != c.Key || plain.Venue != c.Venue {
		t.Errorf("%+v, %v", plain, err)
	}
	// What is not signed does not count.
	lied := strings.Replace(string(raw), `"venue":"venue_1"`, `"venue":"venue_2"`, 1)
	if c, err := Unseal([]byte(lied), "n1"); err != nil || c.Venue != "venue_1" {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := (Key{}).Seal(card()); err == nil {
		t.Error("sealed without a key")
	}
}

func TestUnsealRefuses(t *testing.T) {
	k, other := open(t, t.TempDir()), open(t, t.TempDir())
	seal := func(k Key, change func(*Card)) []string {
		c := card()
		change(&c)
		raw, err := k.Seal(c)
		if err != nil {
			t.Fatal(err)
		}
		var d document
		if err := json.Unmarshal(raw, &d); err != nil {
			t.Fatal(err)
		}
		return strings.Split(d.JWS, ".")
	}
	good, wrong := seal(k, func(*Card) {}), seal(other, func(c *Card) { c.Venue = "venue_2" })
	flip := func(s string) string { return "A" + s[1:] }
	headed := func(h string) string {
		signed := encode([]byte(h)) + "." + good[1]
		return signed + "." + encode(k.Sign([]byte(signed)))
	}
	x := encode(k.Public())
	for name, jws := range map[string]string{
		"no signature":            "",
		"two parts":               good[0] + "." + good[1],
		"empty signature":         good[0] + "." + good[1] + ".",
		"another's payload":       good[0] + "." + wrong[1] + "." + good[2],
		"another's key":           wrong[0] + "." + good[1] + "." + wrong[2],
		"a bit of the signature":  good[0] + "." + good[1] + "." + flip(good[2]),
		"padding":                 good[0] + "." + good[1] + "." + good[2] + "==",
		"alg none":                headed(`{"alg":"none","typ":"` + typ + `","jwk":{"kty":"OKP","crv":"Ed25519","x":"` + x + `"}}`),
		"alg HS256":               headed(`{"alg":"HS256","typ":"` + typ + `","jwk":{"kty":"OKP","crv":"Ed25519","x":"` + x + `"}}`),
		"a token's type":          headed(`{"alg":"EdDSA","typ":"JWT","jwk":{"kty":"OKP","crv":"Ed25519","x":"` + x + `"}}`),
		"short key":               headed(`{"alg":"EdDSA","typ":"` + typ + `","jwk":{"kty":"OKP","crv":"Ed25519","x":"AAAA"}}`),
		"for another question":    strings.Join(seal(k, func(c *Card) { c.Nonce = "n2" }), "."),
		"for no question":         strings.Join(seal(k, func(c *Card) { c.Nonce = "" }), "."),
		"header that is no JSON":  headed(`no`),
		"payload that is no JSON": good[0] + "." + encode([]byte("no")) + "." + encode(k.Sign([]byte(good[0]+"."+encode([]byte("no"))))),
	} {
		raw, err := json.Marshal(map[string]string{"jws": jws})
		if err != nil {
			t.Fatal(err)
		}
		if c, err := Unseal(raw, "n1"); err == nil {
			t.Errorf("%s: accepted as %+v", name, c)
		}
	}
	for _, raw := range []string{"", "null", "[]", "<html>", `{"jws":1}`} {
		if _, err := Unseal([]byte(raw), "n1"); err == nil {
			t.Errorf("%q: accepted", raw)
		}
	}
}

func FuzzUnseal(f *testing.F) {
	f.Add([]byte(`{"jws":"a.b.c"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if c, err := Unseal(raw, "n"); err == nil {
			t.Errorf("accepted as %+v", c)
		}
	})
}
