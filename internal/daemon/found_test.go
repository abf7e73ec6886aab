package daemon

import (
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/identity"
)

// TestCardByTheClockOfTheBox: a card is dated by the clock that judges tokens,
// not by the system's, which anything may set.
func TestCardByTheClockOfTheBox(t *testing.T) {
	var w wrong
	w.set(time.Hour, false)
	d, _ := runBox(t, t.TempDir(), "tcp://127.0.0.1:1", w.system())
	raw, err := d.card("n")
	if err != nil {
		t.Fatal(err)
	}
	c, err := identity.Unseal(raw, "n")
	if off := c.IssuedAt.Sub(d.clock.Now()).Abs(); err != nil || off > time.Minute {
		t.Errorf("%s off, %v", off, err)
	}
}
