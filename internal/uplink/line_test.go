package uplink

import (
	"testing"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// The whole line, in both confirmations: what is stored arrives once, in
// order, byte for byte, and the cursor follows.
func TestEventsArriveOnceInOrder(t *testing.T) {
	for _, mode := range []Confirmation{Broker, Backend} {
		t.Run(string(mode), func(t *testing.T) {
			j := newMemory()
			appendPayments(t, j, 1500)
			broker := startBroker(t, "127.0.0.1:0")
			backend := startBackend(t, broker.URL(), false)
			u := newUplink(t, j, broker.URL(), func(c *Config) { c.Confirm = mode })
			stop := running(t, "uplink", u.Run)
			until(t, "backlog arrives", func() bool { return count(t, backend) == 1500 })
			appendPayments(t, j, 10) // live
			until(t, "live events arrive", func() bool { return count(t, backend) == 1510 })
			until(t, "cursor follows", func() bool { return j.Cursor(cursorName) == 1510 })
			stop()
			checkEffects(t, backend, j)
			st := u.Status()
			if st.Sent != 1510 || st.Confirmed != 1510 || st.Synced != event.Seq(1510) || st.State != Offline {
				t.Errorf("status %+v", st)
			}
		})
	}
}

// A journal that has more but gives nothing is not asked without end.
func TestMuteJournalIsNotHammered(t *testing.T) {
	broker := startBroker(t, "127.0.0.1:0")
	j := newMemory()
	j.mute = true
	appendPayments(t, j, 5)
	u := newUplink(t, j, broker.URL(), func(c *Config) { c.Confirm = Broker })
	stop := running(t, "uplink", u.Run)
	until(t, "it asks again", func() bool { j.mu.Lock(); defer j.mu.Unlock(); return j.reads > 3 })
	j.mu.Lock()
	j.mute = false
	reads := j.reads
	j.mu.Unlock()
	until(t, "it goes on", func() bool { return j.Cursor(cursorName) == 5 })
	stop()
	if reads > 50 {
		t.Errorf("read %d times", reads)
	}
}
