package auth_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
)

const (
	venue  = "venue_1"
	secret = "sixteen-or-more-characters"
)

func noon() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) }

func verifier(t *testing.T, c auth.Config) *auth.Verifier {
	t.Helper()
	if c.Venue == "" {
		c.Venue = venue
	}
	if c.Secret == nil {
		c.Secret = []byte(secret)
	}
	v, err := auth.NewVerifier(c, noon)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// sign makes a token the way a back-end with the given secret would.
func sign(t *testing.T, method jwt.SigningMethod, key any, c jwt.MapClaims) string {
	t.Helper()
	token, err := jwt.NewWithClaims(method, c).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// terminalClaims are those of a terminal token of the existing system.
func terminalClaims() jwt.MapClaims {
	return jwt.MapClaims{
		"sub": "staff_1", "orgId": "org_1", "venueId": venue, "role": "WAITER",
		"terminalSerialNumber": "AVQD-2841548417",
		"iat":                  noon().Unix(), "exp": noon().Add(time.Hour).Unix(),
		"iss": "avoqado-api", "aud": "avoqado-clients",
	}
}

func TestVerifyTerminalToken(t *testing.T) {
	got, err := verifier(t, auth.Config{}).Verify(sign(t, jwt.SigningMethodHS256, []byte(secret), terminalClaims()))
	if err != nil {
		t.Fatal(err)
	}
	want := auth.Grant{
		Subject: "staff_1", Org: "org_1", Venue: venue, Role: event.Waiter,
		Terminal: "2841548417", Expires: noon().Add(time.Hour + auth.DefaultLeeway),
	}
	if got != want {
		t.Fatalf("got  %+v\nwant %+v", got, want)
	}
}

func TestMintIsVerified(t *testing.T) {
	v := verifier(t, auth.Config{})
	in := auth.Grant{
		Subject: "staff_1", Org: "org_1", Role: event.Manager, Terminal: "AVQD-Ab1",
		TokenID: "token_1", Session: "session_1",
	}
	token, err := v.Mint(in, 30*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	got, err := v.Verify(token)
	if err != nil {
		t.Fatal(err)
	}
	want := in
	want.Venue, want.Terminal = venue, "ab1"
	want.Expires = noon().Add(30*time.Minute + auth.DefaultLeeway)
	if got != want {
		t.Fatalf("got  %+v\nwant %+v", got, want)
	}

	read, err := auth.Inspect(token)
	if err != nil {
		t.Fatal(err)
	}
	if read.Issuer != "avoqado-api" || len(read.Audience) != 1 || read.Audience[0] != "avoqado-clients" ||
		read.Algorithm != "HS256" || read.Terminal != "AVQD-Ab1" || !read.IssuedAt.Equal(noon()) ||
		!read.Expires.Equal(noon().Add(30*time.Minute)) {
		t.Fatalf("minted token reads %+v", read)
	}
}

func TestMintGivesEachTokenAnID(t *testing.T) {
	v := verifier(t, auth.Config{})
	seen := map[string]bool{}
	for range 3 {
		token, err := v.Mint(auth.Grant{Subject: "s", Role: event.Viewer}, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		g, err := v.Verify(token)
		if err != nil {
			t.Fatal(err)
		}
		if g.TokenID == "" || seen[g.TokenID] {
			t.Fatalf("token id %q is empty or not fresh", g.TokenID)
		}
		seen[g.TokenID] = true
	}
}

func TestMintRefuses(t *testing.T) {
	v := verifier(t, auth.Config{})
	for name, try := range map[string]struct {
		grant    auth.Grant
		lifetime time.Duration
	}{
		"no subject":   {auth.Grant{Role: event.Waiter}, time.Hour},
		"unknown role": {auth.Grant{Subject: "s", Role: "COOK"}, time.Hour},
		"no role":      {auth.Grant{Subject: "s"}, time.Hour},
		"no lifetime":  {auth.Grant{Subject: "s", Role: event.Waiter}, 0},
		"past":         {auth.Grant{Subject: "s", Role: event.Waiter}, -time.Hour},
	} {
		if token, err := v.Mint(try.grant, try.lifetime); err == nil {
			t.Errorf("%s: minted %s", name, token)
		}
	}
}

func TestBothSecretsWorkWhileOneIsReplaced(t *testing.T) {
	const old = "the-previous-secret-of-the-box"
	token := sign(t, jwt.SigningMethodHS256, []byte(old), terminalClaims())

	if _, err := verifier(t, auth.Config{}).Verify(token); !errors.Is(err, auth.ErrFormat) {
		t.Fatalf("a token of an unknown secret: %v", err)
	}
	v := verifier(t, auth.Config{PreviousSecret: []byte(old)})
	if _, err := v.Verify(token); err != nil {
		t.Fatalf("a token of the previous secret: %v", err)
	}
	minted, err := v.Mint(auth.Grant{Subject: "s", Role: event.Waiter}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verifier(t, auth.Config{}).Verify(minted); err != nil {
		t.Fatalf("new tokens are not signed with the new secret: %v", err)
	}
}

func TestNewVerifierRefuses(t *testing.T) {
	good := []byte(secret)
	for name, c := range map[string]auth.Config{
		"no venue":              {Secret: good},
		"grace too long":        {Venue: venue, Secret: []byte(secret), Lease: auth.Lease{Grace: auth.MaxGrace + 1}},
		"unknown role":          {Venue: venue, Secret: []byte(secret), Lease: auth.Lease{Role: "ROOT"}},
		"short secret":          {Venue: venue, Secret: good[:auth.MinSecret-1]},
		"short previous secret": {Venue: venue, Secret: good, PreviousSecret: []byte("short")},
		"negative leeway":       {Venue: venue, Secret: good, Leeway: -time.Second},
		"endless leeway":        {Venue: venue, Secret: good, Leeway: time.Hour},
	} {
		_, err := auth.NewVerifier(c, noon)
		if err == nil {
			t.Errorf("%s: accepted", name)
		} else if strings.Contains(err.Error(), secret[:8]) {
			t.Errorf("%s: the error shows the secret: %v", name, err)
		}
	}
	if _, err := auth.NewVerifier(auth.Config{Venue: venue, Secret: good}, nil); err == nil {
		t.Error("no clock: accepted")
	}
}

func TestTextsAreTheContract(t *testing.T) {
	for err, text := range map[error]string{
		auth.ErrNoToken: "No authentication token provided",
		auth.ErrExpired: "Token has expired",
		auth.ErrFormat:  "Invalid token format",
		auth.ErrVenue:   "Venue is not operational. Contact support for assistance.",
	} {
		refusal := &auth.Refusal{Kind: err, Reason: "why"}
		if refusal.Error() != text || !errors.Is(refusal, err) {
			t.Errorf("refusal reads %q, want %q", refusal, text)
		}
	}
}

func TestVerifyIsSafeConcurrently(t *testing.T) {
	v := verifier(t, auth.Config{})
	token := sign(t, jwt.SigningMethodHS256, []byte(secret), terminalClaims())
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				if _, err := v.Verify(token); err != nil {
					t.Error(err)
				}
				if _, err := v.Verify("x" + token); !errors.Is(err, auth.ErrFormat) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestNormaliseTerminal(t *testing.T) {
	for in, want := range map[string]string{
		"AVQD-2841548417": "2841548417",
		"avqd-2841548417": "2841548417",
		"AvQd-AB12":       "ab12",
		"2841548417":      "2841548417",
		" AVQD-1 ":        "1",
		"AVQD":            "avqd",
		"AVQD-AVQD-1":     "avqd-1",
		"":                "",
	} {
		if got := auth.NormaliseTerminal(in); got != want {
			t.Errorf("NormaliseTerminal(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestInspect(t *testing.T) {
	c := terminalClaims()
	c["type"] = "refresh"
	c["role"] = "COOK"
	delete(c, "sub")
	// Signed by somebody else with another algorithm: still readable.
	read, err := auth.Inspect(sign(t, jwt.SigningMethodHS384, []byte("another secret of some length"), c))
	if err != nil {
		t.Fatal(err)
	}
	if read.Verified {
		t.Error("an unverified reading says it is verified")
	}
	all := strings.Join(read.Problems, "\n")
	for _, want := range []string{"HS384", "sub is missing", "not a staff role", "refresh token"} {
		if !strings.Contains(all, want) {
			t.Errorf("problems lack %q:\n%s", want, all)
		}
	}
	if !strings.Contains(string(read.Payload), `"venueId":"venue_1"`) || read.Venue != venue {
		t.Errorf("read %+v", read)
	}

	c = terminalClaims()
	if read, err = auth.Inspect(sign(t, jwt.SigningMethodHS256, []byte(secret), c)); err != nil || len(read.Problems) > 0 {
		t.Errorf("a good token: %v %v", err, read.Problems)
	}
}

func FuzzTokens(f *testing.F) {
	v, err := auth.NewVerifier(auth.Config{Venue: venue, Secret: []byte(secret)}, noon)
	if err != nil {
		f.Fatal(err)
	}
	good, err := v.Mint(auth.Grant{Subject: "s", Role: event.Waiter, TokenID: "same in every run"}, time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{"", ".", "..", "...", good, good + ".", "e30.e30.", "bnVsbA.bnVsbA.", "W10.W10.", "{}.{}.{}"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		if _, err := v.Verify(token); err == nil && token != good {
			t.Fatalf("accepted %q", token)
		}
		_, _ = auth.Inspect(token) // must not panic
	})
}

// TestLongTokens: what is longer than any token costs no parse, however good it is.
func TestLongTokens(t *testing.T) {
	v := verifier(t, auth.Config{})
	padded := func(n int) string { return raw(header, with("pad", `"`+strings.Repeat("x", n)+`"`)) }
	most := 0
	for n := range auth.MaxToken {
		if len(padded(n)) <= auth.MaxToken {
			continue
		}
		most = n - 1
		break
	}
	if _, err := v.Verify(padded(most)); err != nil {
		t.Errorf("%d bytes: %v", len(padded(most)), err)
	}
	if _, err := v.Verify(padded(most + 1)); !errors.Is(err, auth.ErrFormat) {
		t.Errorf("%d bytes: %v", len(padded(most+1)), err)
	}
}
