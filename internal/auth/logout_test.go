package auth_test

import (
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
)

// lobby is a site that keeps logouts.
func lobby(t *testing.T, store auth.Store) *site {
	t.Helper()
	s := &site{now: noon()}
	clock := func() time.Time { return s.now }
	known, err1 := auth.OpenKnown(&shelf{}, clock, slog.New(slog.DiscardHandler))
	logouts, err2 := auth.OpenLogouts(store, slog.New(slog.DiscardHandler))
	var err3 error
	s.Verifier, err3 = auth.NewVerifier(auth.Config{
		Venue: venue, Secret: []byte(secret), Logouts: logouts,
		Lease: auth.Lease{Grace: 24 * time.Hour, Down: func() bool { return s.down }, Known: known},
	}, clock)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	return s
}

func logout(t *testing.T, s *site, token string, want bool) {
	t.Helper()
	if ended, err := s.Logout(token); ended != want || err != nil {
		t.Errorf("logout: %t, %v", ended, err)
	}
}

func TestLogout(t *testing.T) {
	store := &shelf{}
	s := lobby(t, store)
	token := func(id string) string {
		c := terminalClaims()
		c["jti"] = id
		return sign(t, jwt.SigningMethodHS256, []byte(secret), c)
	}
	refused := func(what, token string, want error) {
		t.Helper()
		if _, err := s.Verify(token); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	one, other := token("1"), token("2")
	refused("before", one, nil)
	logout(t, s, one, true)
	refused("logged out", one, auth.ErrRevoked)
	refused("another token of the same person and terminal", other, nil)
	logout(t, s, one, true) // once more does no harm

	s = lobby(t, store) // a restart
	refused("after a restart", one, auth.ErrRevoked)
	refused("another, after a restart", other, nil)

	// Nothing brings it back: neither a lease, nor its end, nor the cloud's list.
	s.Enforce(auth.Policy{Revoked: []auth.Revocation{{Token: "2"}}})
	refused("beside a list of the cloud", one, auth.ErrRevoked)
	s.Enforce(auth.Policy{})
	s.now, s.down = noon().Add(2*time.Hour), true
	refused("in an outage, after its end", one, auth.ErrExpired)
	refused("another token of its device", other, nil)

	// One that has ended already could come back by a lease.
	s.down = false
	refused("ended", other, auth.ErrExpired)
	logout(t, s, other, true)
	s.down = true
	refused("ended, logged out, in an outage", other, auth.ErrExpired)

	// What a gate holds up now is let in later.
	s.now, s.down = noon(), false
	third := token("3")
	s.Enforce(auth.Policy{VenueStatus: "SUSPENDED"})
	logout(t, s, third, true)
	s.Enforce(auth.Policy{})
	refused("logged out while the venue was suspended", third, auth.ErrRevoked)

	// What is no token of this box takes no place.
	before := len(store.entries)
	for name, junk := range map[string]string{
		"empty": "", "no token": "a.b", "long": strings.Repeat("a", 9000), "forged": one[:len(one)-3] + "abc",
		"of another venue": raw(header, with("venueId", `"venue_2"`)), "refresh": raw(header, with("type", `"refresh"`)),
		"unsigned": signBy(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil),
	} {
		if ended, err := s.Logout(junk); ended || err != nil || len(store.entries) != before {
			t.Errorf("%s: %t, %v, %d entries", name, ended, err, len(store.entries))
		}
	}
	console, err := s.MintConsole(event.Admin, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	logout(t, s, console, true)
	refused("a token by a code", console, auth.ErrRevoked)
}

// TestLogoutOfAnySignature: of an ES256 signature anybody can make a second one
// that is good as well (r, n-s).
func TestLogoutOfAnySignature(t *testing.T) {
	e := pairs(t)["e1"]
	keys, err := auth.ParseKeys(jwks(t, e.jwk))
	if err != nil {
		t.Fatal(err)
	}
	s := lobby(t, &shelf{})
	s.Enforce(auth.Policy{Keys: keys})
	one := signBy(t, e.method, e.private, "e1")
	dot := strings.LastIndexByte(one, '.') + 1
	sig, err := base64.RawURLEncoding.DecodeString(one[dot:])
	if err != nil {
		t.Fatal(err)
	}
	n := elliptic.P256().Params().N
	other := one[:dot] + b64(append(sig[:32:32], new(big.Int).Sub(n, new(big.Int).SetBytes(sig[32:])).FillBytes(make([]byte, 32))...))
	if _, err := s.Verify(other); err != nil || other == one {
		t.Fatalf("the second signature: %v", err)
	}
	logout(t, s, one, true)
	if _, err := s.Verify(other); !errors.Is(err, auth.ErrRevoked) {
		t.Errorf("logged out, by another signature: %v", err)
	}
}

func TestLogoutsAreKeptOrSaid(t *testing.T) {
	store := &shelf{}
	s := lobby(t, store)
	one := raw(header, with("jti", `"1"`))
	store.err = errors.New("disk is full")
	if ended, err := s.Logout(one); !ended || !errors.Is(err, store.err) {
		t.Errorf("on a full disk: %t, %v", ended, err)
	}
	if _, err := s.Verify(one); !errors.Is(err, auth.ErrRevoked) {
		t.Errorf("what is not kept is refused until the next start all the same: %v", err)
	}
	store.err = nil
	logout(t, s, one, true)
	if _, err := lobby(t, store).Verify(one); !errors.Is(err, auth.ErrRevoked) {
		t.Errorf("after the second try, and a restart: %v", err)
	}
}

// TestManyLogouts: none is forgotten before its token is worth nothing.
func TestManyLogouts(t *testing.T) {
	store := &shelf{}
	s := lobby(t, store)
	token := func(n int, life time.Duration) string {
		return raw(header, with("jti", fmt.Sprintf(`%q,"exp":%d`, fmt.Sprint("n", n), s.now.Add(life).Unix())))
	}
	soon, late := token(0, time.Hour), token(1, 365*24*time.Hour)
	logout(t, s, soon, true)
	logout(t, s, late, true)
	for n := 2; n < 4096; n++ {
		logout(t, s, token(n, time.Hour), true)
	}
	if ended, err := s.Logout(token(5000, time.Hour)); !ended || !errors.Is(err, auth.ErrManyLogouts) {
		t.Errorf("beyond all: %t, %v", ended, err)
	}
	s.now = s.now.Add(time.Hour + auth.MaxGrace + time.Second) // no lease brings those of an hour back
	next := token(6000, time.Hour)
	logout(t, s, next, true)
	if n := len(store.entries); n != 2 {
		t.Errorf("%d are kept, want the late and the last", n)
	}
	for name, gone := range map[string]string{"late": late, "last": next} {
		if _, err := lobby(t, store).Verify(gone); !errors.Is(err, auth.ErrRevoked) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDamagedLogouts are in force all the same.
func TestDamagedLogouts(t *testing.T) {
	one := raw(header, with("jti", `"1"`))
	sum := sha256.Sum256([]byte(one[:strings.LastIndexByte(one, '.')]))
	s := lobby(t, &shelf{entries: map[string][]byte{b64(sum[:]): []byte("\xffjunk")}})
	if _, err := s.Verify(one); !errors.Is(err, auth.ErrRevoked) {
		t.Errorf("%v", err)
	}
}

func TestChange(t *testing.T) {
	s := newSite(t, &shelf{}, 24*time.Hour, "")
	good := raw(header, with("", ""))
	if _, err := s.Verify(good); err != nil {
		t.Fatal(err)
	}
	for name, wrong := range map[string]auth.Config{
		"secret": {Secret: []byte("short")}, "previous": {PreviousSecret: []byte("short")},
		"grace": {Lease: auth.Lease{Grace: -1}}, "long grace": {Lease: auth.Lease{Grace: auth.MaxGrace + 1}}, "role": {Lease: auth.Lease{Role: "ROOT"}},
	} {
		if err := s.Change(wrong); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if _, err := s.Verify(good); err != nil {
		t.Errorf("after what was refused: %v", err)
	}
	if err := s.Change(auth.Config{Secret: []byte("another-secret-of-32-bytes-012345"), PreviousSecret: []byte(secret), Issuers: []string{"x"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Verify(good); !errors.Is(err, auth.ErrFormat) {
		t.Errorf("of another issuer: %v", err)
	}
	if err := s.Change(auth.Config{Secret: []byte("another-secret-of-32-bytes-012345"), PreviousSecret: []byte(secret)}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Verify(good); err != nil {
		t.Errorf("by the previous secret: %v", err)
	}
	if token, err := s.Mint(auth.Grant{Subject: "s", Role: event.Waiter}, time.Hour); err != nil {
		t.Error(err)
	} else if _, err := s.Verify(token); err != nil {
		t.Errorf("by the new secret: %v", err)
	}
	if err := s.Change(auth.Config{Secret: []byte("another-secret-of-32-bytes-012345")}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Verify(good); !errors.Is(err, auth.ErrFormat) {
		t.Errorf("by a secret that is gone: %v", err)
	}
}
