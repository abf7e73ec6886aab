package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/clock"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/uplink"
)

// cabinet is a store in memory that survives power cuts.
type cabinet struct {
	mu     sync.Mutex // guards below
	spaces map[string]map[string][]byte
}

func (c *cabinet) Put(space string, entries map[string][]byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.spaces[space] == nil {
		c.spaces[space] = map[string][]byte{}
	}
	for key, value := range entries {
		if c.spaces[space][key] = value; value == nil {
			delete(c.spaces[space], key)
		}
	}
	return nil
}

func (c *cabinet) All(space string) (map[string][]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.spaces[space]), nil
}

// ticket is a token and what it says.
type ticket struct {
	text                           string
	exp                            time.Time
	id, session, person, box, role string // box: the terminal; empty: none
	venue                          string
	out                            bool // logged out here
}

// venueLife is a box with its machine: what time it truly is, what the system's
// clock says, how the uplink stands, what the cloud has said.
type venueLife struct {
	t    *rapid.T
	path string

	truth, frozen time.Time // frozen: what the system's clock says for ever, if not zero
	up, by        time.Duration
	sync          clock.Sync
	clock         *clock.Clock
	kept          time.Time // the latest time that was kept

	store     *cabinet
	known     *auth.Known
	verifier  *auth.Verifier
	grace     time.Duration
	ceiling   event.Role
	link      uplink.Status
	unproven  bool // the link says nothing of the cloud
	policy    auth.Policy
	seen      map[string]bool // devices let in by a good token, as the box remembers them
	safe      map[string]bool // those on disk
	shown     []*ticket       // at most 6
	taken     int             // tokens made
	suspended bool
}

func (v *venueLife) draw(name string, n int) int { return rapid.IntRange(0, n-1).Draw(v.t, name) }

func (v *venueLife) reading() clock.Reading {
	r := clock.Reading{Wall: v.truth.Add(v.by), Up: v.up, Sync: v.sync}
	if !v.frozen.IsZero() {
		r.Wall = v.frozen
	}
	if v.sync == clock.Synced {
		r.Error = v.by.Abs() + time.Millisecond
	}
	return r
}

// start is a start of the box: of what was, it has what is on disk.
func (v *venueLife) start() {
	v.clock = clock.Open(clock.Config{
		Path: v.path, Built: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), System: v.reading,
		Boot: "00000000-0000-4000-8000-000000000001", Log: slog.New(slog.DiscardHandler),
	})
	var err1, err2, err3 error
	v.known, err1 = auth.OpenKnown(v.store, v.clock.Now, slog.New(slog.DiscardHandler))
	logouts, err2 := auth.OpenLogouts(v.store, slog.New(slog.DiscardHandler))
	v.verifier, err3 = auth.NewVerifier(auth.Config{
		Venue: "v1", Secret: []byte(testSecret), Logouts: logouts,
		Lease: auth.Lease{Grace: v.grace, Role: v.ceiling, Down: func() bool { return v.link.Unreachable() }, Known: v.known},
	}, v.clock.Now)
	if err := errors.Join(err1, err2, err3); err != nil {
		v.t.Fatal(err)
	}
	v.verifier.Enforce(v.policy) // the uplink keeps it
	v.seen = maps.Clone(v.safe)
}

// save has the box write down which devices it knows, as it does every two
// seconds.
func (v *venueLife) save() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := v.known.Run(ctx); err != nil {
		v.t.Fatal(err)
	}
	v.safe = maps.Clone(v.seen)
}

func (v *venueLife) keep() {
	if err := v.clock.Keep(); err != nil {
		v.t.Fatal(err)
	}
	var k struct{ Floor time.Time }
	if raw, err := os.ReadFile(v.path); err == nil && json.Unmarshal(raw, &k) == nil && k.Floor.After(v.kept) {
		v.kept = k.Floor
	}
}

// happen has one thing happen to the machine, its network, its cloud.
func (v *venueLife) happen() {
	switch what := rapid.SampledFrom([]string{
		"time", "time", "time", "jump", "freeze", "sync", "power cut", "restart", "server time", "keep", "link", "link", "policy", "log out",
	}).Draw(v.t, "happens"); what {
	case "time":
		d := time.Duration(v.draw("passes", 3*3600*1000)) * time.Millisecond
		v.truth, v.up = v.truth.Add(d), v.up+d
	case "jump": // somebody sets the system's clock
		v.by, v.frozen = rapid.SampledFrom([]time.Duration{
			0, time.Second, -time.Second, time.Hour, -time.Hour, 10 * year, -10 * year,
			time.Unix(0, 0).Sub(v.truth), time.Unix(1<<31-1, 0).Sub(v.truth),
		}).Draw(v.t, "by"), time.Time{}
	case "freeze":
		v.frozen = v.truth.Add(v.by)
	case "sync": // a time server comes or goes; with it a step, a leap second
		v.sync = clock.Sync(v.draw("sync", 3))
	case "power cut":
		v.up = 0
		v.start()
	case "restart":
		v.save()
		v.keep()
		v.start()
	case "server time":
		v.clock.Heard(v.truth.Add(-time.Duration(v.draw("old", 48*3600)) * time.Second))
	case "keep":
		v.keep()
		v.save()
	case "link":
		v.connect()
	case "policy":
		v.decide()
	case "log out":
		if len(v.shown) > 0 {
			one := v.shown[v.draw("which", len(v.shown))]
			_, err := v.verifier.Logout(one.text)
			if one.out = one.out || one.venue == "v1"; err != nil {
				v.t.Fatal(err)
			}
		}
	}
	if v.sync == clock.Synced { // that is what it means
		v.frozen = time.Time{}
		v.by = rapid.SampledFrom([]time.Duration{0, 0, -time.Second}).Draw(v.t, "leap")
	}
}

// connect puts the link into a state; those below unproven say nothing of the
// cloud.
func (v *venueLife) connect() {
	since := time.Unix(1_800_000_000, 0)
	failed := func(name string, after time.Duration) *uplink.Failure {
		return &uplink.Failure{Name: name, At: since.Add(after)}
	}
	proven := []uplink.Status{
		{State: uplink.Offline, Since: since, Failure: failed(uplink.NoInternet, time.Second)},
		{State: uplink.Connecting, Since: since, Failure: failed(uplink.BrokerDown, time.Second)},
		{State: uplink.Offline, Since: since, Failure: failed(uplink.DNS, time.Hour)},
	}
	unproven := []uplink.Status{
		{State: uplink.Online, Since: since},
		{State: uplink.Online, Since: since, Failure: failed(uplink.NoInternet, time.Second)},
		{State: uplink.Offline, Since: since},
		{State: uplink.Offline, Since: since, Failure: failed(uplink.NoInternet, -time.Second)},
		{State: uplink.Offline, Since: since, Failure: failed(uplink.Credentials, time.Second)},
		{State: uplink.Offline, Since: since, Failure: failed(uplink.Interrupted, time.Second)},
	}
	v.unproven = v.draw("proven", 3) == 0
	v.link = proven[v.draw("how", len(proven))]
	if v.unproven {
		v.link = unproven[v.draw("how", len(unproven))]
	}
}

// decide is the cloud's word about tokens.
func (v *venueLife) decide() {
	v.suspended = v.draw("suspended", 6) == 0
	v.policy = auth.Policy{VenueStatus: "ACTIVE"}
	if v.suspended {
		v.policy.VenueStatus = "SUSPENDED"
	}
	switch n := v.draw("revoke", 8); n {
	case 0:
		v.policy.Revoked = []auth.Revocation{{Token: fmt.Sprint("t", v.taken-1-v.draw("token", 4))}}
	case 1:
		v.policy.Revoked = []auth.Revocation{{Session: fmt.Sprint("s", v.draw("session", 3))}}
	case 2:
		v.policy.Revoked = []auth.Revocation{{Subject: fmt.Sprint("p", v.draw("person", 3))}}
	case 3:
		v.policy.Revoked = []auth.Revocation{{Device: fmt.Sprint("avqd-", v.draw("device", 3))}}
	}
	v.verifier.Enforce(v.policy)
}

// present draws a token: one that was shown before, or a new one that ends about
// now, about a lease's end before now, or anywhere.
func (v *venueLife) present(now time.Time) *ticket {
	if len(v.shown) > 0 && v.draw("again", 3) == 0 {
		return v.shown[v.draw("which", len(v.shown))]
	}
	exp := now.Add(time.Duration(v.draw("ends", 6*3600)-2*3600) * time.Second)
	if v.draw("near", 2) == 0 {
		edge := time.Duration(v.draw("edge", 5)-2) * time.Second
		exp = rapid.SampledFrom([]time.Time{now, now.Add(-auth.DefaultLeeway), now.Add(-v.grace)}).Draw(v.t, "at").Add(edge)
	}
	roles := event.Roles()
	one := &ticket{
		exp: exp.Truncate(time.Second), id: fmt.Sprint("t", v.taken), session: fmt.Sprint("s", v.draw("session", 3)),
		person: fmt.Sprint("p", v.draw("person", 3)), role: string(roles[v.draw("role", len(roles))]), venue: "v1",
	}
	if v.draw("terminal", 3) > 0 {
		one.box = fmt.Sprint(v.draw("device", 3))
	}
	if v.draw("abroad", 12) == 0 {
		one.venue = "v2"
	}
	v.taken++
	issuer, err := auth.NewVerifier(auth.Config{Venue: one.venue, Secret: []byte(testSecret)}, func() time.Time { return one.exp.Add(-time.Hour) })
	if err != nil {
		v.t.Fatal(err)
	}
	one.text, err = issuer.Mint(auth.Grant{
		Subject: one.person, Org: "o1", Role: event.Role(one.role), Terminal: one.box, TokenID: one.id, Session: one.session,
	}, time.Hour)
	if err != nil {
		v.t.Fatal(err)
	}
	v.shown = append(v.shown, one)
	v.shown = v.shown[max(0, len(v.shown)-6):]
	return one
}

// device names what a token is used on.
func (one *ticket) device() string {
	if one.box != "" {
		return "terminal " + one.box
	}
	return "token " + one.text
}

// rule is what must become of a token at a time of the box's clock, in plain
// words: fresh or leased, or neither.
func (v *venueLife) rule(one *ticket, now time.Time) (fresh, leased bool) {
	revoked := slices.ContainsFunc(v.policy.Revoked, func(r auth.Revocation) bool {
		return r.Token == one.id || r.Session == one.session || r.Subject == one.person || one.box != "" && r.Device == "avqd-"+one.box
	})
	if one.venue != "v1" || one.out || revoked || v.suspended && one.role != "SUPERADMIN" {
		return false, false
	}
	fresh = now.Before(one.exp.Add(auth.DefaultLeeway))
	leased = !fresh && !v.unproven && v.grace > 0 && v.seen[one.device()] && now.Before(one.exp.Add(v.grace))
	return fresh, leased
}

// TestTokensOverClocksAndOutages lets boxes live: their clocks jump, freeze and are
// put right, their power is cut, the cloud comes, goes and takes tokens back, and
// in between somebody shows a token. Each must be what the rule makes of it, by a
// clock that never runs behind what it kept, and is right where it is disciplined
// (invariant I10). rapid says the seed of a failure and makes the life shorter.
func TestTokensOverClocksAndOutages(t *testing.T) {
	dir, err := os.MkdirTemp("/dev/shm", "tokens") //nolint:usetesting // in memory: thousands of fsyncs
	if err != nil {
		dir = t.TempDir()
	}
	defer func() { _ = os.RemoveAll(dir) }()
	lives, of := 0, map[string]int{}
	rapid.Check(t, func(t *rapid.T) { // a hundred lives
		lives++
		v := &venueLife{
			t: t, path: filepath.Join(dir, fmt.Sprint(lives)), store: &cabinet{spaces: map[string]map[string][]byte{}}, safe: map[string]bool{}, sync: clock.Unsynced, unproven: true,
			truth:   rapid.SampledFrom([]time.Time{time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC), time.Unix(1<<31-3600, 0)}).Draw(t, "begins"),
			grace:   rapid.SampledFrom([]time.Duration{0, time.Minute, time.Hour, 24 * time.Hour, auth.MaxGrace}).Draw(t, "grace"),
			ceiling: rapid.SampledFrom(append(event.Roles(), "", "")).Draw(t, "ceiling"),
		}
		if v.by = 0; v.draw("boots in 1970", 2) == 0 {
			v.by = time.Unix(0, 0).Sub(v.truth)
		}
		v.start()
		for range 150 {
			v.happen()
			now := v.clock.Now()
			v.judge(v.present(now), now, of)
		}
	})
	all := of["fresh"] + of["leased"] + of["refused"]
	t.Logf("%d tokens in %d lives: %v", all, lives, of)
	if testing.Short() || t.Failed() { // rapid runs fewer then
		return
	}
	if all < 10_000 || min(of["fresh"], of["leased"], of["less by a lease"], of["refused, in an outage, of a known device"]) < 100 {
		t.Errorf("the cases are no cross-section: %v", of)
	}
}

// judge holds what becomes of a token against the rule.
func (v *venueLife) judge(one *ticket, now time.Time, of map[string]int) {
	where := fmt.Sprintf("box %s, truth %s, kept %s, sync %d; exp %s, grace %s, link %+v, token %+v, policy %+v, known %v",
		now, v.truth, v.kept, v.sync, one.exp, v.grace, v.link, one, v.policy, v.seen[one.device()])
	switch {
	case now.Before(v.kept):
		v.t.Fatalf("time runs behind what was kept: %s", where)
	case v.sync == clock.Synced && v.clock.Status().Problem == "" && now.Sub(v.truth).Abs() > 2*time.Second:
		v.t.Fatalf("a disciplined clock is off: %s", where)
	}
	fresh, leased := v.rule(one, now)
	less := auth.Shrink(event.Role(one.role), v.ceiling)
	g, err := v.verifier.Verify(one.text)
	switch {
	case (err == nil) != (fresh || leased):
		v.t.Fatalf("%v, want fresh %t, leased %t: %s", err, fresh, leased, where)
	case err != nil:
		of["refused"]++
		if !v.unproven && v.seen[one.device()] {
			of["refused, in an outage, of a known device"]++
		}
	case g.Subject != one.person || g.Terminal != one.box || g.Venue != "v1":
		v.t.Fatalf("taken for %+v: %s", g, where)
	case fresh && (string(g.Role) != one.role || !g.Lease.IsZero() || !g.Expires.Equal(one.exp.Add(auth.DefaultLeeway))):
		v.t.Fatalf("a good token is granted %+v: %s", g, where)
	case leased && (g.Role != less || !g.Lease.Equal(one.exp.Add(v.grace)) || !g.Expires.Equal(g.Lease)):
		v.t.Fatalf("a lease is granted %+v, want role %s: %s", g, less, where)
	case fresh:
		v.seen[one.device()] = true
		of["fresh"]++
	default:
		of["leased"]++
		if string(less) != one.role {
			of["less by a lease"]++
		}
	}
}
