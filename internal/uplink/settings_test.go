package uplink

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestConfigOfTheCloud(t *testing.T) {
	broker := startBroker(t, "127.0.0.1:0").URL()
	heard := listen(t, broker)
	w := newWire(t, broker)
	j := newMemory()
	box := &till{}
	u := newUplinkOf(t, box, j, w.url(), nil)
	stop := running(t, "uplink", u.Run)
	online(t, u)
	kept := func() string { all, _ := j.All(configSpace); return string(all[configKey]) }
	send := func(body string) { // and wait until it is worked off
		t.Helper()
		n := u.Status().Broadcasts
		say(t, broker, "/config", true, body)
		say(t, broker, "/broadcasts", false, fmt.Sprintf(`{"id":"b%d","event":"menu_updated","payload":{}}`, n))
		until(t, "it is handled", func() bool { return u.Status().Broadcasts == n+1 })
	}
	second := `{"version":2,"venueStatus":"ACTIVE","jwks":{"keys":[]},"revoked":["t1",{"sid":"s1"},{"sub":"u1","before":"2026-11-23T10:00:00Z"}],"serverTime":"2026-11-23T10:00:00Z","later":1}`
	send(second)
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	s := box.settings()
	if s.Version != 2 || s.VenueStatus != "ACTIVE" || string(s.JWKS) != `{"keys":[]}` || !s.ServerTime.Equal(at) || len(s.Revoked) != 3 ||
		s.Revoked[0] != (Revocation{Token: "t1"}) || s.Revoked[1] != (Revocation{Session: "s1"}) || s.Revoked[2] != (Revocation{Subject: "u1", Before: at}) {
		t.Errorf("in force: %+v", s)
	}
	until(t, "the back-end is told", func() bool { return strings.Contains(heard.last("/boxes/b1/status"), `"config":2,`) })

	// Older ones, and those that cannot be used, change nothing.
	send(`{"version":1,"venueStatus":"CLOSED"}`)
	send(`{"version":2,"venueStatus":"CLOSED"}`)
	if u.Status().Rejected != 0 {
		t.Error("an older configuration is no fault")
	}
	if kept() != second {
		t.Errorf("on disk %s", kept())
	}

	// Keys that cannot be used hold up nothing else, and the back-end is told.
	box.refuse = errors.New("key k1: too short")
	send(`{"version":3,"venueStatus":"CLOSED","jwks":{"keys":7},"revoked":["t1",{"device":"d1"}]}`)
	inForce := func(box *till, u *Uplink) {
		t.Helper()
		s := box.settings()
		if s.Version != 3 || s.VenueStatus != "CLOSED" || string(s.JWKS) != `{"keys":[]}` || len(s.Revoked) != 2 || s.Revoked[1] != (Revocation{Device: "d1"}) || u.Status().Config.Version != 3 {
			t.Errorf("in force: %+v", s)
		}
	}
	inForce(box, u)
	if st := u.Status(); st.Rejected != 1 || !strings.HasPrefix(st.RejectedFor, "bad_keys: ") || !strings.HasSuffix(st.RejectedFor, ": key k1: too short") {
		t.Errorf("status %+v", st)
	}
	rebooted := &till{}
	u2 := newUplinkOf(t, rebooted, j, "tcp://127.0.0.1:1", nil)
	inForce(rebooted, u2)
	// It is retained, and told of once.
	for i := range 3 {
		w.cut()
		until(t, "online again", func() bool { st := u.Status(); return int(st.Connects) == i+2 && st.State == Online })
		n := u.Status().Broadcasts
		say(t, broker, "/broadcasts", false, fmt.Sprintf(`{"id":"again%d","event":"menu_updated","payload":{}}`, i))
		until(t, "what comes behind is stored", func() bool { return u.Status().Broadcasts == n+1 })
	}
	if n := u.Status().Rejected; n != 2 { // once as it came, once retained
		t.Errorf("%d rejected", n)
	}
	box.refuse = nil

	// Nor does an entry that cannot be read hold up the other revocations.
	send(`{"version":3,"revoked":["of an older one"]}`)
	send(`{"version":4,"revoked":["t1",{"sub":"u1","after":"2026-11-23T10:00:00Z"},{"device":"d2"}]}`)
	spared := func(box *till) {
		t.Helper()
		if s := box.settings(); s.Version != 4 || len(s.Revoked) != 2 || s.Revoked[0] != (Revocation{Token: "t1"}) || s.Revoked[1] != (Revocation{Device: "d2"}) {
			t.Errorf("in force: %+v", s)
		}
	}
	spared(box)
	if st := u.Status(); !strings.HasPrefix(st.RejectedFor, "bad_revoked: the rest is in force: revoked 1: ") {
		t.Errorf("status %+v", st)
	}
	rebooted = &till{}
	newUplinkOf(t, rebooted, j, "tcp://127.0.0.1:1", nil)
	spared(rebooted)

	send(`{"version":5,"venueStatus":"SUSPENDED"}`)
	if s := box.settings(); s.Version != 5 || s.JWKS != nil || s.Revoked != nil {
		t.Errorf("in force: %+v", s)
	}
	stop()

	// In force again before there is a link.
	later := &till{}
	u = newUplinkOf(t, later, j, "tcp://127.0.0.1:1", nil)
	if s := later.settings(); s.Version != 5 || s.VenueStatus != "SUSPENDED" || u.Status().Config.Version != 5 {
		t.Errorf("after a restart: %+v", s)
	}

	// Retained: a box that connects later gets it.
	fresh := &till{}
	running(t, "uplink", newUplinkOf(t, fresh, newMemory(), broker, nil).Run)
	until(t, "retained config", func() bool { return fresh.settings().Version == 5 })
}

// What an older version kept, or a disk damaged, is no reason not to start.
func TestConfigOnDiskCannotBeUsed(t *testing.T) {
	for _, raw := range []string{``, `{`, `{}`, `{"version":1,"revoked":7}`} {
		j := newMemory()
		if err := j.Put(configSpace, map[string][]byte{configKey: []byte(raw)}); err != nil {
			t.Fatal(err)
		}
		u, err := New(Config{Brokers: []string{"tcp://127.0.0.1:1"}, Venue: "v1", Box: "b1"}, j, j, j, &till{}, quietLog())
		if err != nil || u.Status().Config != nil {
			t.Errorf("%s: %v", raw, err)
		}
	}
}
