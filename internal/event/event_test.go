package event

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/uuid"
)

func TestNewEpochGrows(t *testing.T) {
	for _, before := range []Epoch{
		"", "x", "zzz", "0190f5e2-1234-7abc-8def-0123456789ab",
		"ffffffff-0000-7000-8000-000000000000", // a clock from the future
		"ffffffff-ffff-7fff-bfff-ffffffffffff",
		"FFFFFFFF-0000-7000-8000-0000000000FF",
		"ffffffff-ffff-ffff-ffff-ffffffffffff",          // nothing to count up to
		"fffffffff00070008000000000000000",              // other ways to write a UUID,
		"urn:uuid:0190f5e2-1234-7abc-8def-0123456789ab", // which sort differently
		"{ffffffff-1234-7abc-8def-0123456789ab}",
	} {
		e := before
		for range 300 { // over the carry of the last byte
			next := NewEpoch(e)
			if next <= e {
				t.Fatalf("epoch after %q is %q", e, next)
			}
			if before == "ffffffff-0000-7000-8000-000000000000" && len(next) != 36 {
				t.Fatalf("epoch after %q is no UUID: %q", e, next)
			}
			e = next
		}
	}
	// Two machines made of one backup, both with a clock that stands still.
	const future = "ffffff00-0000-7000-8000-000000000000"
	if one, other := NewEpoch(future), NewEpoch(future); one == other {
		t.Error("two boxes have one epoch")
	}
}

func TestIDs(t *testing.T) {
	last := ID("")
	for range 100 {
		id := NewID()
		parsed, err := uuid.Parse(string(id))
		if err != nil || parsed.Version() != 7 || id <= last {
			t.Fatalf("id %q after %q: %v", id, last, err)
		}
		last = id
	}
	if id, err := uuid.Parse(NewCorrelationID()); err != nil || id.Version() != 4 {
		t.Errorf("correlation id is version %d, %v", id.Version(), err)
	}
	if DedupKey("a", "") != "" || DedupKey("a", "k") == DedupKey("b", "k") {
		t.Error("DedupKey does not scope its key")
	}
}

func TestWords(t *testing.T) {
	for o, want := range map[Origin]string{Terminal: "terminal", Local: "local", Cloud: "cloud", 0: "unknown", 9: "unknown"} {
		if o.String() != want {
			t.Errorf("origin %d is %q", o, o)
		}
	}
	for c, want := range map[Class]string{Telemetry: "telemetry", Service: "service", Alerts: "alerts", Orders: "orders", Money: "money", 0: "unknown"} {
		if c.String() != want {
			t.Errorf("class %d is %q", c, c)
		}
	}
	for _, r := range Roles() {
		if !r.Known() {
			t.Errorf("%s is not known", r)
		}
	}
	if Role("manager").Known() || Role("").Known() {
		t.Error("an unknown role is known")
	}
}

func TestExpired(t *testing.T) {
	now := time.Now()
	for expires, want := range map[time.Time]bool{{}: false, now.Add(1): false, now: true, now.Add(-1): true} {
		if e := (&Event{Expires: expires}); e.Expired(now) != want {
			t.Errorf("expires %v: %t", expires.Sub(now), !want)
		}
	}
}

func TestAudience(t *testing.T) {
	for raw, want := range map[string]bool{
		`{}`: true, `{"venue":true,"tables":["t"]}`: true, `{"excludeRoles":["VIEWER"]}`: true,
		`{"tables":["t"]}`: false, `{"orders":["o"]}`: false, `{"roles":["ADMIN"]}`: false, `{"users":["u"]}`: false, `{"terminals":["x"]}`: false,
	} {
		var a Audience
		if err := json.Unmarshal([]byte(raw), &a); err != nil {
			t.Fatal(err)
		}
		if a.Everyone() != want {
			t.Errorf("%s is everyone: %t", raw, !want)
		}
		if back, err := json.Marshal(a); err != nil || string(back) != raw {
			t.Errorf("%s comes back as %s, %v", raw, back, err)
		}
	}
}
