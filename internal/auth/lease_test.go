package auth_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"pgregory.net/rapid"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
)

// shelf is a store in memory.
type shelf struct {
	mu      sync.Mutex
	entries map[string][]byte
	err     error
}

func (s *shelf) Put(_ string, entries map[string][]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	if s.entries == nil {
		s.entries = make(map[string][]byte)
	}
	for key, value := range entries {
		if s.entries[key] = value; value == nil {
			delete(s.entries, key)
		}
	}
	return nil
}

func (s *shelf) All(string) (map[string][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.entries), nil
}

// site is a verifier in a venue: what time it is and whether the cloud is out of
// reach are knobs.
type site struct {
	*auth.Verifier
	now  time.Time
	down bool
}

func newSite(t failer, store auth.Store, grace time.Duration, ceiling event.Role) *site {
	t.Helper()
	s := &site{now: noon()}
	clock := func() time.Time { return s.now }
	known, err := auth.OpenKnown(store, clock, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s.Verifier, err = auth.NewVerifier(auth.Config{
		Venue: venue, Secret: []byte(secret),
		Lease: auth.Lease{Grace: grace, Role: ceiling, Down: func() bool { return s.down }, Known: known},
	}, clock)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestLease(t *testing.T) {
	claims := func(change ...func(jwt.MapClaims)) string {
		c := terminalClaims()
		for _, f := range change {
			f(c)
		}
		return sign(t, jwt.SigningMethodHS256, []byte(secret), c)
	}
	set := func(name string, value any) func(jwt.MapClaims) {
		return func(c jwt.MapClaims) { c[name] = value }
	}
	const grace = 24 * time.Hour
	good := claims()
	end := noon().Add(time.Hour)
	for name, c := range map[string]struct {
		token  string
		first  string // shown while it was good; empty: the same
		at     time.Time
		up     bool
		policy auth.Policy
		want   error
	}{
		"an hour after its end":     {at: end.Add(time.Hour)},
		"at the last moment":        {at: end.Add(grace - time.Nanosecond)},
		"at the end of the grace":   {at: end.Add(grace), want: auth.ErrExpired},
		"a year later":              {at: end.Add(365 * grace), want: auth.ErrExpired},
		"the cloud can be reached":  {at: end.Add(time.Hour), up: true, want: auth.ErrExpired},
		"another terminal":          {token: claims(set("terminalSerialNumber", "other")), first: good, at: end.Add(time.Hour), want: auth.ErrExpired},
		"a later token of a device": {token: claims(set("jti", "later")), first: good, at: end.Add(time.Hour)},
		"a person, the same token":  {token: claims(set("terminalSerialNumber", nil)), at: end.Add(time.Hour)},
		"a person, another token":   {token: claims(set("terminalSerialNumber", nil), set("jti", "x")), first: claims(set("terminalSerialNumber", nil)), at: end.Add(time.Hour), want: auth.ErrExpired},
		"another venue":             {token: claims(set("venueId", "venue_2")), first: good, at: end.Add(time.Hour), want: auth.ErrExpired},
		"a refresh token":           {token: claims(set("type", "refresh")), first: good, at: end.Add(time.Hour), want: auth.ErrExpired},
		"another audience":          {token: claims(set("aud", "bank")), first: good, at: end.Add(time.Hour), want: auth.ErrExpired},
		"an impersonation":          {token: claims(set("act", map[string]any{"expiresAt": end.Unix()})), at: end.Add(time.Hour), want: auth.ErrExpired},
		"an impersonation, no end":  {token: claims(set("act", map[string]any{"sub": "boss"})), at: end.Add(time.Hour), want: auth.ErrExpired},
		"the device is revoked":     {at: end.Add(time.Hour), policy: auth.Policy{Revoked: []auth.Revocation{{Device: "AVQD-2841548417"}}}, want: auth.ErrExpired},
		"the person is revoked":     {at: end.Add(time.Hour), policy: auth.Policy{Revoked: []auth.Revocation{{Subject: "staff_1"}}}, want: auth.ErrExpired},
		"the venue is suspended":    {at: end.Add(time.Hour), policy: auth.Policy{VenueStatus: "SUSPENDED"}, want: auth.ErrExpired},
		"forged":                    {token: rawWith([]byte("another-secret-of-the-length"), header, with("exp", "1795438800")), first: good, at: end.Add(time.Hour), want: auth.ErrFormat},
		"not yet valid either":      {token: claims(set("nbf", end.Add(48*time.Hour).Unix())), first: good, at: end.Add(time.Hour), want: auth.ErrFormat},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, &shelf{}, grace, "")
			if c.token == "" {
				c.token = good
			}
			if c.first == "" {
				c.first = c.token
			}
			if g, err := s.Verify(c.first); err != nil || !g.Lease.IsZero() {
				t.Fatalf("before its end: %+v, %v", g, err)
			}
			s.now, s.down = c.at, !c.up
			s.Enforce(c.policy)
			g, err := s.Verify(c.token)
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if until := end.Add(grace); err == nil && (!g.Lease.Equal(until) || !g.Expires.Equal(until)) {
				t.Errorf("the lease ends at %s, the grant at %s, want %s", g.Lease, g.Expires, until)
			}
		})
	}
}

func TestLeaseNeedsAKnownDevice(t *testing.T) {
	for name, c := range map[string]struct {
		grace time.Duration
		seen  bool
		want  error
	}{
		"never seen": {24 * time.Hour, false, auth.ErrExpired},
		"seen":       {24 * time.Hour, true, nil},
		"no grace":   {0, true, auth.ErrExpired},
	} {
		s := newSite(t, &shelf{}, c.grace, "")
		token := sign(t, jwt.SigningMethodHS256, []byte(secret), terminalClaims())
		if c.seen {
			if _, err := s.Verify(token); err != nil {
				t.Fatal(err)
			}
		}
		s.now, s.down = noon().Add(2*time.Hour), true
		for range 2 { // having asked makes it known to nobody
			if _, err := s.Verify(token); !errors.Is(err, c.want) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// TestKnownDevicesSurviveARestart has the devices written by Run and read anew.
func TestKnownDevicesSurviveARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &shelf{err: errors.New("disk is full")}
		now := time.Now()
		clock := func() time.Time { return now }
		known, err := auth.OpenKnown(store, clock, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		v, err := auth.NewVerifier(auth.Config{Venue: venue, Secret: []byte(secret), Lease: auth.Lease{Known: known}}, clock)
		if err != nil {
			t.Fatal(err)
		}
		go func() { _ = known.Run(t.Context()) }()
		const devices = 4200 // more than are kept
		for n := range devices {
			token, err := v.Mint(auth.Grant{Subject: "s", Role: event.Waiter, Terminal: fmt.Sprint(n)}, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := v.Verify(token); err != nil {
				t.Fatal(err)
			}
			now = now.Add(time.Millisecond)
		}
		store.mu.Lock()
		store.err = nil
		store.mu.Unlock()
		<-time.After(5 * time.Second) // of the bubble
		again, err := auth.OpenKnown(store, time.Now, slog.New(slog.DiscardHandler))
		if err != nil || again.Len() != 4096 {
			t.Errorf("%d devices, %v", again.Len(), err)
		}
		if len(store.entries) != 4096 || store.entries["terminal/0"] != nil || store.entries["terminal/4199"] == nil {
			t.Errorf("%d entries, the first %q, the last %q", len(store.entries), store.entries["terminal/0"], store.entries["terminal/4199"])
		}
	})
}

// TestShrinkTakesAndNeverGives holds each role under each ceiling against the
// catalogue.
func TestShrinkTakesAndNeverGives(t *testing.T) {
	for _, role := range event.Roles() {
		for _, ceiling := range append(event.Roles(), "") {
			now := auth.Shrink(role, ceiling)
			if event.MayPublish(now) && !event.MayPublish(role) {
				t.Errorf("%s under %s may publish as %s", role, ceiling, now)
			}
			rows := event.Catalogue()
			for i := range rows {
				if rows[i].FromClients() && rows[i].MaySend(now) == nil && rows[i].MaySend(role) != nil {
					t.Errorf("%s under %s may send %s as %s", role, ceiling, rows[i].Kind, now)
				}
			}
		}
	}
	for _, c := range []struct{ role, ceiling, want event.Role }{
		{event.Owner, event.Manager, event.Manager},
		{event.Manager, event.Waiter, event.Waiter},
		{event.Waiter, event.Manager, event.Waiter},
		{event.Waiter, event.Cashier, event.Waiter},
		{event.Cashier, event.Viewer, event.Viewer},
		{event.SuperAdmin, "", event.SuperAdmin},
	} {
		if got := auth.Shrink(c.role, c.ceiling); got != c.want {
			t.Errorf("%s under %s is %s, want %s", c.role, c.ceiling, got, c.want)
		}
	}
}

// TestNoTokenOutsidePolicy draws a clock, an outage, a token's times, what is
// revoked, roles and whether the device was ever seen, and holds the verifier
// against the rule written down a second time (invariant I10).
func TestNoTokenOutsidePolicy(t *testing.T) {
	cases := 0
	rapid.Check(t, func(t *rapid.T) {
		for range 150 { // rapid runs a hundred of these
			cases++
			drawOne(t)
		}
	})
	if cases < 10_000 && !testing.Short() && !t.Failed() { // rapid runs fewer then
		t.Errorf("%d cases are too few", cases)
	}
}

func drawOne(t *rapid.T) {
	minutes := func(from, to int, name string) time.Duration {
		return time.Duration(rapid.IntRange(from, to).Draw(t, name)) * time.Minute
	}
	var (
		grace   = minutes(0, 2*24*60, "grace")
		ceiling = rapid.SampledFrom(append(event.Roles(), "")).Draw(t, "ceiling")
		role    = rapid.SampledFrom(append(event.Roles(), "ROOT")).Draw(t, "role")
		life    = minutes(-60, 24*60, "life")
		clock   = time.Duration(rapid.Int64Range(-11*365*24*60, 11*365*24*60).Draw(t, "jump")) * time.Minute
		near    = rapid.Bool().Draw(t, "near")
		edge    = time.Duration(rapid.IntRange(-2, 2).Draw(t, "edge")) * time.Second
		seen    = rapid.Bool().Draw(t, "seen")
		down    = rapid.Bool().Draw(t, "down")
		revoked = rapid.SampledFrom([]string{"", "", "", "token", "session", "person", "device", "other"}).Draw(t, "revoked")
		status  = rapid.SampledFrom([]string{"", "ACTIVE", "TRIAL", "SUSPENDED"}).Draw(t, "status")
		exp     = noon().Add(life)
	)
	s := newSite(t, &shelf{}, grace, ceiling)
	c := terminalClaims()
	c["role"], c["exp"], c["jti"], c["sid"], c["iat"] = string(role), exp.Unix(), "token_1", "session_1", noon().Add(-time.Hour).Unix()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	const leeway = auth.DefaultLeeway
	letIn := false
	if seen {
		_, err := s.Verify(token)
		letIn = role != "ROOT" && noon().Before(exp.Add(leeway))
		if letIn != (err == nil) {
			t.Fatalf("at first: %v, want %t", err, letIn)
		}
	}
	s.now, s.down = noon().Add(clock), down
	if near { // where it is decided
		s.now = rapid.SampledFrom([]time.Time{exp, exp.Add(leeway), exp.Add(grace)}).Draw(t, "at").Add(edge)
	}
	var gone auth.Revocation
	switch revoked {
	case "token":
		gone.Token = "token_1"
	case "session":
		gone.Session = "session_1"
	case "person":
		gone.Subject = "staff_1"
	case "device":
		gone.Device = "avqd-2841548417"
	case "other":
		gone.Subject, gone.Device = "staff_2", "AVQD-7"
	}
	s.Enforce(auth.Policy{VenueStatus: status, Revoked: []auth.Revocation{gone}})

	allowed := role != "ROOT" && (revoked == "" || revoked == "other") && (status != "SUSPENDED" || role == event.SuperAdmin)
	fresh := s.now.Before(exp.Add(leeway))
	leased := !fresh && letIn && down && s.now.Before(exp.Add(grace))
	g, err := s.Verify(token)
	switch {
	case (allowed && (fresh || leased)) != (err == nil):
		t.Fatalf("%v, %s after its end: allowed %t, fresh %t, leased %t", err, s.now.Sub(exp), allowed, fresh, leased)
	case err != nil && !fresh && !errors.Is(err, auth.ErrExpired):
		t.Fatalf("who has an old token is told %v", err)
	case err == nil && fresh && (!g.Lease.IsZero() || g.Role != role):
		t.Fatalf("a good token is granted %+v", g)
	case err == nil && !fresh && (!g.Lease.Equal(exp.Add(grace)) || g.Role != auth.Shrink(role, ceiling) || g.Expired(g.Lease.Add(-1)) || !g.Expired(g.Lease)):
		t.Fatalf("an old token is granted %+v", g)
	}
}

// failer is what a helper needs of a test, or of rapid.
type failer interface {
	Helper()
	Fatal(args ...any)
}

func TestConsoleTokens(t *testing.T) {
	here, there := newSite(t, &shelf{}, 24*time.Hour, ""), newSite(t, &shelf{}, 24*time.Hour, "")
	token, err := here.MintConsole(event.Admin, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if g, err := here.Verify(token); err != nil || g.Role != event.Admin || g.Subject != "console" || g.Venue != venue {
		t.Errorf("%+v, %v", g, err)
	}
	if _, err := there.Verify(token); !errors.Is(err, auth.ErrFormat) {
		t.Errorf("at another box, or after a restart: %v", err)
	}
	here.now, here.down = noon().Add(2*time.Hour), true
	if _, err := here.Verify(token); !errors.Is(err, auth.ErrExpired) {
		t.Errorf("after its end, in an outage: %v", err)
	}
	forged := jwt.NewWithClaims(jwt.SigningMethodHS256, terminalClaims())
	forged.Header["kid"] = "avoqado-edge-console"
	text, err := forged.SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := there.Verify(text); !errors.Is(err, auth.ErrFormat) {
		t.Errorf("signed with the shared secret: %v", err)
	}
	for _, ask := range []struct {
		role event.Role
		life time.Duration
	}{{"ROOT", time.Hour}, {event.Admin, 0}} {
		if _, err := here.MintConsole(ask.role, ask.life); err == nil {
			t.Errorf("%+v is minted", ask)
		}
	}
}

func TestIssuersAndAudiences(t *testing.T) {
	token := func(iss, aud string) string {
		set := with("iss", iss)
		if aud != "" {
			set = set[:len(set)-1] + `,"aud":` + aud + `}`
		}
		if !json.Valid([]byte(set)) {
			t.Fatal(set)
		}
		return raw(header, set)
	}
	asks := auth.Config{Issuers: []string{"avoqado-api", "venue-2"}, Audiences: []string{"avoqado-clients", "boxes"}}
	for _, c := range []struct {
		config   auth.Config
		iss, aud string
		good     bool
	}{
		{auth.Config{}, `"x"`, "", true},
		{auth.Config{}, "", `"avoqado-clients"`, true},
		{auth.Config{}, "", `"bank"`, false},
		{auth.Config{}, "", `["bank","avoqado-clients"]`, true},
		{auth.Config{}, "", `[]`, true},
		{auth.Config{}, "", `"AVOQADO-CLIENTS"`, false},
		{asks, `"avoqado-api"`, `"boxes"`, true},
		{asks, `"venue-2"`, `["avoqado-clients"]`, true},
		{asks, `"avoqado-api"`, "", false},
		{asks, "", `"boxes"`, false},
		{asks, `"avoqado-api "`, `"boxes"`, false},
		{asks, `"avoqado-api"`, `["bank"]`, false},
		{asks, `"avoqado-api"`, `["boxes","avoqado-mcp"]`, false},
	} {
		_, err := verifier(t, c.config).Verify(token(c.iss, c.aud))
		if c.good != (err == nil) || !c.good && !errors.Is(err, auth.ErrFormat) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if v, err := auth.NewVerifier(asksFor(venue), noon); err != nil {
		t.Error(err)
	} else if token, err := v.MintConsole(event.Admin, time.Hour); err != nil {
		t.Error(err)
	} else if _, err := v.Verify(token); err != nil {
		t.Errorf("a token of the console: %v", err)
	}
}

func asksFor(venue string) auth.Config {
	return auth.Config{Venue: venue, Issuers: []string{"a"}, Audiences: []string{"b"}}
}
