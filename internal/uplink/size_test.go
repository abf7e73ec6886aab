package uplink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/cloud"
	"github.com/avoqado/avoqado-edge/internal/event"
)

// sized appends an event of a size about an order.
func sized(t *testing.T, j appender, order string, n, size int) event.Seq {
	t.Helper()
	e := payment(n)
	e.Kind, e.Class, e.Subject = event.OrderUpdated, event.Orders, order
	e.ID = event.ID(fmt.Sprintf("%s-%d", order, n))
	e.Payload = fmt.Appendf(nil, `{"orderId":%q,"pad":%q}`, order, strings.Repeat("x", size))
	r, err := j.Append(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	return r.Seq
}

// impatient has the sender wait for as little as a test can bear.
func impatient(mode Confirmation) func(*Config) {
	return func(c *Config) {
		c.Confirm, c.calm, c.RetryMax = mode, 100*time.Millisecond, 60*time.Millisecond
	}
}

// relimit restarts the broker with another line of configuration in the place
// of one.
func (m *mosquitto) relimit(was, now string) {
	m.t.Helper()
	m.stop()
	file := filepath.Join(m.dir, "mosquitto.conf")
	raw, err := os.ReadFile(file)
	if err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(file, bytes.Replace(raw, []byte(was), []byte(now), 1), 0o600); err != nil {
		m.t.Fatal(err)
	}
	m.restart(true)
}

// What a real broker does not take for its size leaves the line, over a restart
// of the box too; all else arrives, in batches that it takes. When the broker
// takes more, so does what was kept aside.
func TestTooLargeForTheBroker(t *testing.T) {
	t.Parallel()
	const cuts, drops = "max_packet_size 20000\n", "message_size_limit 20000\n"
	for name, c := range map[string]struct {
		limit string
		mode  Confirmation
	}{
		"the broker ends the link, backend": {cuts, Backend},
		"the broker ends the link, broker":  {cuts, Broker},
		"the broker lets it fall, backend":  {drops + "max_queued_messages 100000\n", Backend},
		"the broker does both, backend":     {drops, Backend},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if testing.Short() && c.mode == Backend && c.limit == drops {
				t.Skip("much like the others")
			}
			broker := newMosquittoWith(t, "allow_anonymous true\n"+c.limit)
			backend := startBackendOf(t, cloud.BackendConfig{
				Access: cloud.Access{Broker: broker.url()}, Prefix: testPrefix, AcceptHoles: c.mode == Broker, IgnoreLive: true,
			})
			j := newMemory()
			u := newUplink(t, j, broker.url(), impatient(c.mode))
			stop := running(t, "uplink", u.Run)
			want := 0
			for n := range 5 {
				about(t, j, "o1", n)
				want++
			}
			until(t, "the line is good", func() bool { return count(t, backend) == want })
			bad := sized(t, j, "o2", 1, 60_000)
			behind := about(t, j, "o2", 2)
			for n := range 200 {
				sized(t, j, fmt.Sprintf("o3-%d", n%7), n, 1000)
				want++
			}
			until(t, "it is parked", func() bool { return u.Status().Parked == 2 })
			stop()

			u = newUplink(t, j, broker.url(), impatient(c.mode))
			list := u.Parked()
			if len(list) != 2 || list[0].Event.Seq != bad || list[1].Event.Seq != behind || list[1].Behind != bad ||
				!strings.Contains(list[0].Reason, "too large for the broker") || len(list[0].Event.Payload) < 60_000 {
				t.Fatalf("parked %+v", list)
			}
			running(t, "uplink", u.Run)
			until(t, "the rest arrives", func() bool { return count(t, backend) == want })
			worse := sized(t, j, "o4", 1, 100_000)
			for n := range 100 {
				sized(t, j, "o5", n, 1000)
				want++
			}
			until(t, "the rest arrives again", func() bool { return count(t, backend) == want && u.Status().Parked == 3 })
			until(t, "the cursor passes it", func() bool { return u.Status().Synced == j.Stored() })
			for _, id := range taken(t, backend) {
				if strings.HasPrefix(id, "o2") || strings.HasPrefix(id, "o4") {
					t.Errorf("%s was taken", id)
				}
			}

			broker.relimit(c.limit, "")
			until(t, "the back-end is back", backend.Online)
			online(t, u)
			for _, seq := range []event.Seq{bad, worse} {
				if _, err := u.Settle(t.Context(), seq, Retry, nil, "limit raised"); err != nil {
					t.Fatal(err)
				}
			}
			until(t, "all is there", func() bool { return count(t, backend) == want+3 })
			ids := taken(t, backend)
			if last := ids[len(ids)-3:]; !slices.Equal(last, []string{"o2-1", "o2-2", "o4-1"}) {
				t.Errorf("at last %v", last)
			}
			if s := u.Status(); s.Parked != 0 {
				t.Errorf("status %+v", s)
			}
			t.Logf("status %+v, back-end %+v", u.Status().Counts, backend.Counts())
		})
	}
}

// A network that ends links at any moment parks nothing, however large the
// events are and however long they take.
func TestFlakyNetworkParksNothing(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("loses a hundred links")
	}
	for name, c := range map[string]struct {
		mode Confirmation
		slow bool // an event takes about as long as a link lasts
	}{
		"answers lost":              {Backend, false},
		"answers lost, broker":      {Broker, false},
		"links that do not last":    {Broker, true},
		"nor for the back-end long": {Backend, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broker := startBroker(t, "127.0.0.1:0")
			backend := startBackend(t, broker.URL(), false)
			j := newMemory()
			about(t, j, "o1", 1)
			const n = 20
			for i := range n {
				sized(t, j, fmt.Sprintf("o%d", i), i+2, 100_000)
			}
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			chance := rand.New(rand.NewPCG(seed, 1))
			var url string
			var mend func()
			if c.slow {
				w := newWeather(t, broker.URL(), func(w *weather) { w.rate = 1 << 20 })
				url = w.url()
				mend = running(t, "resets", func(ctx context.Context) error {
					for {
						select {
						case <-ctx.Done():
							return nil
						case <-time.After(time.Duration(chance.ExpFloat64() * float64(200*time.Millisecond))):
							w.reset()
						}
					}
				})
			} else {
				// Four answers of five are lost with the link: what a broker does
				// that refuses what it was sent, but at random.
				w := newWire(t, broker.URL())
				url = w.url()
				lose := func(p []byte) bool {
					if p[0]>>4 == 4 && chance.IntN(5) > 0 {
						w.cut()
						return false
					}
					return true
				}
				w.alter.Store(&lose)
				mend = func() { w.alter.Store(nil) }
			}
			u := newUplink(t, j, url, impatient(c.mode))
			running(t, "uplink", u.Run)
			until(t, "links are lost", func() bool { return u.Status().Connects > 50 || u.Status().Synced > n })
			mend()
			until(t, "all arrives", func() bool { return count(t, backend) == n+1 && u.Status().Synced == n+1 })
			if s := u.Status(); s.Parked > 0 {
				t.Errorf("parked %+v", u.Parked())
			}
			checkEffects(t, backend, j)
			t.Logf("%d links, %v", u.Status().Connects, u.Status().Failures)
		})
	}
}

// What fits once it is compressed is not parked.
func TestTooLargeUnlessCompressed(t *testing.T) {
	for _, limit := range []string{"max_packet_size 20000\n", "message_size_limit 20000\nmax_queued_messages 100000\n"} {
		broker := newMosquittoWith(t, "allow_anonymous true\n"+limit)
		backend := startBackend(t, broker.url(), false)
		j := newMemory()
		u := newUplink(t, j, broker.url(), func(c *Config) {
			impatient(Backend)(c)
			c.Compress = true
		})
		running(t, "uplink", u.Run)
		about(t, j, "o1", 1)
		until(t, "the line is good", func() bool { return count(t, backend) == 1 })
		sized(t, j, "o2", 1, 60_000)
		until(t, "it arrives", func() bool { return count(t, backend) == 2 && u.Status().Synced == 2 })
		if n := u.Status().Parked; n > 0 {
			t.Errorf("%d parked", n)
		}
		checkEffects(t, backend, j)
	}
}

// A back-end that is away proves nothing: what it has not confirmed is sent
// again until it is there.
func TestAbsentBackendParksNothing(t *testing.T) {
	broker := startBroker(t, "127.0.0.1:0")
	j := newMemory()
	quick := func(c *Config) { c.ConfirmWait = time.Millisecond }
	backend := startBackend(t, broker.URL(), false)
	u := newUplink(t, j, broker.URL(), quick)
	stop := running(t, "uplink", u.Run)
	about(t, j, "o1", 1)
	until(t, "it is taken", func() bool { return u.Status().Synced == 1 })
	stop()

	u = newUplink(t, j, startBroker(t, "127.0.0.1:0").URL(), quick) // nobody listens there
	running(t, "uplink", u.Run)
	sized(t, j, "o2", 1, 60_000)
	sized(t, j, "o3", 1, 60_000)
	until(t, "it is sent again and again", func() bool { return u.Status().Rewinds > 8 })
	if s := u.Status(); s.Parked > 0 || s.Synced != 1 {
		t.Errorf("status %+v", s)
	}
	if n := count(t, backend); n != 1 {
		t.Errorf("%d effects", n)
	}
}

// After a restart nothing is said to follow on an event that the back-end may
// never have got.
func TestParkedForItsSizeIsNobodysPrevious(t *testing.T) {
	j := newMemory()
	about(t, j, "o1", 1)
	bad := sized(t, j, "o2", 1, 60_000)
	j.cursors[cursorName] = bad
	u := newUplink(t, j, "tcp://127.0.0.1:1", nil)
	if err := u.parkUnsent(&batch{seqs: []event.Seq{bad}}, "too large"); err != nil {
		t.Fatal(err)
	}
	about(t, j, "o3", 1)
	b, err := newUplink(t, j, "tcp://127.0.0.1:1", nil).sender.next()
	if err != nil || b == nil || !bytes.Contains(b.body, []byte(`"o3-1"`)) || bytes.Contains(b.body, []byte(`"previous"`)) {
		t.Errorf("%+v: %v", b, err)
	}
}

// A broker that confirms the control and then nothing, though it answers pings,
// does not take the event. One that confirms not even the control may be ill,
// and a silent one may be a line.
func TestUnconfirmedEventIsParked(t *testing.T) {
	for name, c := range map[string]struct {
		why     error
		control bool // confirmed
		want    int
	}{
		"the control alone is confirmed": {errNoPuback, true, 1},
		"nothing is confirmed":           {errNoPuback, false, 0},
		"nobody is there":                {errSilent, true, 0},
		"the box ends it":                {errRenewed, true, 0},
	} {
		j := newMemory()
		about(t, j, "o1", 1)
		bad := sized(t, j, "o2", 1, 60_000)
		j.cursors[cursorName] = 1
		u := newUplink(t, j, "tcp://127.0.0.1:1", nil)
		for range 2 * refusedLinks {
			u.sender.connected()
			u.sender.steady, u.trial.took = true, c.control
			b, err := u.sender.next()
			if err != nil {
				t.Fatal(err)
			}
			if b == nil {
				break // it is parked
			}
			u.sender.published(1, b, time.Now().Add(-time.Minute))
			if err := u.judge(c.why, time.Now()); !errors.Is(err, c.why) {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if list := u.Parked(); len(list) != c.want || c.want > 0 && list[0].Event.Seq != bad {
			t.Errorf("%s: parked %+v", name, list)
		}
	}
}

// Batches that were halved grow again: the limit may have been raised, or it was
// the line.
func TestBatchesGrowAgain(t *testing.T) {
	u := newUplink(t, newMemory(), "tcp://127.0.0.1:1", nil)
	s := u.sender
	s.lower(maxBatchBytes / 4)
	s.lower(maxBatchBytes)
	u.trial.lowered = start
	for i, want := range []int{maxBatchBytes / 8, maxBatchBytes / 4, maxBatchBytes / 2, maxBatchBytes, maxBatchBytes} {
		at := start.Add(time.Duration(i) * ceilingFor)
		for _, now := range []time.Time{at, at.Add(ceilingFor - 1)} {
			if err := u.tryOn(now); err != nil || s.ceiling != want {
				t.Errorf("%s: %d bytes, want %d: %v", now.Sub(start), s.ceiling, want, err)
			}
		}
	}
	if s.lower(small); s.ceiling != small {
		t.Errorf("%d bytes: nothing below %d is suspected", s.ceiling, small)
	}
}

// A back-end that is away when the first events of a box are sent has not refused
// them: what it takes at last comes in messages of full size again.
func TestAbsenceAtFirstKeepsNoMessageSmall(t *testing.T) {
	broker := startBroker(t, "127.0.0.1:0")
	j := newMemory()
	appendPayments(t, j, 500)
	u := newUplink(t, j, broker.URL(), func(c *Config) { c.ConfirmWait = 20 * time.Millisecond })
	stop := running(t, "uplink", u.Run)
	until(t, "nobody answers", func() bool { return u.Status().Rewinds > 4 })
	startBackend(t, broker.URL(), false)
	until(t, "all is there", func() bool { return u.Status().Synced == j.Stored() })
	stop()
	if got := u.sender.ceiling; got != maxBatchBytes {
		t.Errorf("messages have at most %d bytes", got)
	}
}

// While what may have ended a link is with a broker that has confirmed it, and the
// back-end that is to take it is away, commands are answered and alerts arrive.
func TestWhatWaitsForTheBackEndHoldsUpNothingElse(t *testing.T) {
	broker := startBroker(t, "127.0.0.1:0")
	heard := listen(t, broker.URL())
	w := newWire(t, broker.URL())
	j := newMemory()
	sized(t, j, "o1", 1, 60_000)
	u := newUplink(t, j, w.url(), impatient(Backend))
	running(t, "uplink", u.Run)
	until(t, "it is sent", func() bool { return u.Status().Sent == 1 })
	w.cut()
	until(t, "it is sent again", func() bool { st := u.Status(); return st.Connects > 1 && st.State == Online && st.Resent > 0 })
	ask(t, broker.URL(), heard, `{"id":"c1","type":"status.report"}`)
	say(t, broker.URL(), "/broadcasts", false, `{"id":"b1","event":"menu_updated","payload":{}}`)
	until(t, "the alert is here", func() bool { return u.Status().Broadcasts == 1 })
}

// Only the answer to the control proves that a batch is missing: a word that was
// on its way when the control was to be sent, or that is about less, does not.
func TestWhatProvesAHole(t *testing.T) {
	b := &batch{}
	s := &sender{wait: time.Second}
	for _, tt := range []struct {
		about       *batch
		control, to event.Seq
		want        bool
	}{
		{nil, 5, 7, false}, // nothing is in doubt
		{b, 0, 7, false},   // the control is not sent yet
		{b, 5, 4, false},   // of before
		{b, 5, 5, true},
		{b, 5, 9, true},
	} {
		s.about, s.missed, s.control = tt.about, nil, tt.control
		if got := s.provesHole(tt.to); got != tt.want || got != (s.missed == b) || got && s.about != nil {
			t.Errorf("control %d, word of %d, in doubt %t: %t", tt.control, tt.to, tt.about != nil, got)
		}
	}
}
