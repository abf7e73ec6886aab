package outages

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// truth is what was done to a venue, kept by whoever did it.
type truth struct {
	start, end time.Time
	unsure     time.Duration // how much earlier a recorder may believe it began

	events    uint64
	money     map[string]uint64 // events by currency, of 12.50 each
	terminals map[string]uint64
	late      uint64
	longest   time.Duration
	repeats   Repeats
}

// Fourteen causes, five seeds each: whatever the figures are that chance has
// dealt, the record has them all.
func TestTheWholeTruth(t *testing.T) {
	for _, cause := range []string{
		"no_lan", "no_router", "no_internet", "dns", "dns_lie", "captive_portal", "broker_down", "no_answer", "tls", "clock", "credentials",
		Backend, Power, Crash,
	} {
		for seed := range uint64(5) {
			t.Run(fmt.Sprintf("%s/%d", cause, seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { tryTruth(t, cause, rand.New(rand.NewPCG(seed, 1))) })
			})
		}
	}
}

// deal stores what chance deals: events of terminals, some of them money in one
// of two currencies, and beside them events of the cloud, which nothing holds.
func (h *truth) deal(v *venue, chance *rand.Rand) {
	for range 1 + chance.IntN(30) {
		terminal := fmt.Sprintf("T%d", chance.IntN(4))
		switch chance.IntN(4) {
		case 0:
			v.sell(1, event.OrderCreated, terminal, `{"orderId":"o"}`)
		case 1:
			v.sell(1, event.SystemAlert, "", `{"title":"from the cloud"}`)
			v.set(func() { v.events[len(v.events)-1].Origin = event.Cloud })
			continue
		default:
			currency := []string{"MXN", "USD"}[chance.IntN(2)]
			v.sell(1, event.PaymentCompleted, terminal, `{"paymentId":"p","amount":"12.50","currency":"`+currency+`"}`)
			h.money[currency]++
		}
		h.events++
		h.terminals[terminal]++
	}
}

func tryTruth(t *testing.T, cause string, chance *rand.Rand) {
	t.Helper()
	some := func(most time.Duration) time.Duration { return time.Second + time.Duration(chance.Int64N(int64(most))) }
	h := truth{money: map[string]uint64{}, terminals: map[string]uint64{}}
	v := newVenue()
	v.sell(chance.IntN(5), event.PaymentCompleted, "before", paid)
	v.drain()
	r, stop := v.start(t, "boot1")
	pass(some(10 * time.Minute))
	first := time.Now()

	switch cause {
	case Backend: // it is one from its first event on that nobody confirms
		h.start = first
		h.deal(v, chance)
		h.unsure = time.Minute
		pass(2*time.Minute + some(10*time.Minute))
		h.deal(v, chance)
		h.end = time.Now()
	case Power, Crash:
		h.deal(v, chance)
		stop(false)
		h.start, h.unsure = time.Now(), time.Minute
		pass(20*time.Second + some(10*time.Minute))
		v.set(func() { v.link, v.repeats = Link{Since: time.Now(), Waits: true}, Repeats{} })
		r, stop = v.start(t, map[string]string{Power: "boot2", Crash: "boot1"}[cause])
		pass(some(2 * time.Second))
		v.connect()
		h.end = time.Now()
	default:
		h.start = time.Now()
		v.fail("lost")
		pass(some(3 * time.Second))
		for range 2 + chance.IntN(20) {
			v.fail(cause)
			h.deal(v, chance)
			pass(some(time.Minute))
		}
		v.connect()
		h.end = time.Now()
	}
	defer func() { stop(true) }()
	h.repeats = Repeats{Terminals: chance.Uint64N(9), Broadcasts: chance.Uint64N(9), Resent: chance.Uint64N(9)}
	v.set(func() { v.repeats = h.repeats })
	pass(time.Second)
	n := chance.IntN(3)
	v.sell(n, event.OrderCreated, "after", `{"orderId":"o"}`) // which it does not hold, unless it is not over
	if cause == Backend && n > 0 {
		h.events += uint64(n)
		h.terminals["after"] = uint64(n)
	}
	pass(some(9 * time.Second))
	took := time.Now()
	v.set(func() {
		for _, e := range v.events {
			if waited := took.Sub(e.Time); e.Seq > v.cursor && e.Origin != event.Cloud && waited >= LateAfter {
				h.late++
				h.longest = max(h.longest, waited)
			}
		}
	})
	if cause == Backend { // it ends with its first word
		h.end = took
	}
	v.drain()
	pass(5 * time.Minute)
	h.compare(t, only(t, r), cause)
}

func (h *truth) compare(t *testing.T, o Outage, cause string) {
	t.Helper()
	if o.Cause != cause || o.Place != PlaceOf(cause) {
		t.Errorf("it was %s, and is called %s (%s)", cause, o.Cause, o.Place)
	}
	if before := h.start.Sub(o.Start); before > h.unsure+time.Second || before < -time.Second-h.unsure {
		t.Errorf("it began at %s, not %s", h.start, o.Start)
	}
	if o.End.Sub(h.end).Abs() > 2*time.Second {
		t.Errorf("it ended at %s, not %s", h.end, o.End)
	}
	if o.Held.Events != h.events || o.Synced.IsZero() {
		t.Errorf("it held %d events, not %d, all there at %s", h.events, o.Held.Events, o.Synced)
	}
	told := map[string]uint64{}
	for _, m := range o.Held.Money {
		told[m.Currency] += m.Events
		if want := fmt.Sprintf("%d.%02d", m.Events*1250/100, m.Events*1250%100); m.Amount != want || m.Unreadable != 0 {
			t.Errorf("%d payments of 12.50 %s are %s, not %s", m.Events, m.Currency, want, m.Amount)
		}
	}
	if fmt.Sprint(told) != fmt.Sprint(h.money) {
		t.Errorf("payments by currency: %v, not %v", h.money, told)
	}
	clear(told)
	for _, one := range o.Terminals {
		told[one.ID] = one.Events
	}
	if fmt.Sprint(told) != fmt.Sprint(h.terminals) || !slices.IsSortedFunc(o.Terminals, func(a, b Terminal) int { return int(b.Events) - int(a.Events) }) {
		t.Errorf("by terminal: %v, not %+v", h.terminals, o.Terminals)
	}
	if o.Late.Events != h.late || time.Duration(o.Late.LongestMs)*time.Millisecond < h.longest-time.Second ||
		time.Duration(o.Late.LongestMs)*time.Millisecond > h.longest+2*time.Second {
		t.Errorf("late were %d events, by up to %s, not %+v", h.late, h.longest, o.Late)
	}
	if o.Repeats != h.repeats {
		t.Errorf("repeats: %+v, not %+v", h.repeats, o.Repeats)
	}
}
