package outages

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// venue is a journal in memory, with the link that empties it.
type venue struct {
	mu      sync.Mutex
	events  []event.Event
	cursor  event.Seq
	notes   map[string][]byte
	link    Link
	repeats Repeats
	putErr  error
	puts    int
}

func newVenue() *venue {
	return &venue{notes: map[string][]byte{}, link: Link{Up: true, Since: time.Now(), Connects: 1, Broker: "mqtt.example:8883", Waits: true}}
}

func (v *venue) Read(after event.Seq, n, _ int) ([]event.Event, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	rest := v.events[min(int(after), len(v.events)):]
	return rest[:min(len(rest), n, 7)], nil
}

func (v *venue) Stored() event.Seq {
	v.mu.Lock()
	defer v.mu.Unlock()
	return event.Seq(len(v.events))
}

func (v *venue) Cursor(string) event.Seq {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.cursor
}

func (v *venue) Put(_ string, entries map[string][]byte) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.putErr != nil {
		return v.putErr
	}
	v.puts++
	for key, value := range entries {
		v.notes[key] = value
		if value == nil {
			delete(v.notes, key)
		}
	}
	return nil
}

func (v *venue) All(string) (map[string][]byte, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return maps.Clone(v.notes), nil
}

// sell stores n events of a terminal.
func (v *venue) sell(n int, kind event.Kind, terminal, payload string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	row, _ := event.Lookup(kind)
	for range n {
		v.events = append(v.events, event.Event{
			Seq: event.Seq(len(v.events) + 1), Kind: kind, Class: row.Class, Origin: event.Terminal,
			Terminal: terminal, Time: time.Now().UTC(), Payload: []byte(payload),
		})
	}
}

func (v *venue) drain() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.cursor = event.Seq(len(v.events))
}

// fail is an attempt that failed, or the loss of the link.
func (v *venue) fail(cause string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.link.Up {
		v.link.Up, v.link.Since = false, time.Now()
	}
	v.link.Failure = Stretch{From: time.Now(), Cause: cause, Evidence: "it met " + cause, Remedy: "do something"}
}

func (v *venue) connect() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.link.Up, v.link.Since = true, time.Now()
	v.link.Connects++
}

// set changes the venue under its lock.
func (v *venue) set(change func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	change()
}

func (v *venue) config(boot string) Config {
	return Config{
		Journal: v, Cursor: "uplink", Boot: boot, Log: slog.New(slog.DiscardHandler),
		Link: func() Link {
			v.mu.Lock()
			defer v.mu.Unlock()
			return v.link
		},
		Repeats: func() Repeats {
			v.mu.Lock()
			defer v.mu.Unlock()
			return v.repeats
		},
	}
}

// start runs a recorder until stop is called: in order, or as a power cut ends it.
func (v *venue) start(t *testing.T, boot string) (r *Recorder, stop func(inOrder bool)) {
	t.Helper()
	r, err := New(v.config(boot))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = r.Run(ctx) })
	return r, func(inOrder bool) {
		v.mu.Lock()
		if !inOrder {
			v.putErr = errors.New("no power")
		}
		v.mu.Unlock()
		cancel()
		wg.Wait()
		v.mu.Lock()
		v.putErr = nil
		v.mu.Unlock()
	}
}

func only(t *testing.T, r *Recorder) Outage {
	t.Helper()
	all := r.Outages()
	if len(all) != 1 {
		t.Fatalf("%d outages: %+v", len(all), all)
	}
	return all[0]
}

// pass lets time go by, in a bubble.
func pass(d time.Duration) { <-time.After(d) }

const paid = `{"paymentId":"p","amount":120.50,"currency":"MXN"}`

// An outage as a venue has it: what caused it, when, what was held, whose, and
// what came late.
func TestOutageIsRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVenue()
		v.sell(3, event.PaymentCompleted, "A1", paid)
		v.drain()
		r, stop := v.start(t, "boot1")
		defer stop(true)
		pass(10 * time.Minute)
		if got := r.Outages(); len(got) != 0 {
			t.Fatalf("nothing happened: %+v", got)
		}

		began := time.Now()
		v.fail("lost")
		v.sell(2, event.PaymentCompleted, "A1", paid)
		pass(10 * time.Second)
		v.fail("no_internet")
		v.sell(1, event.PaymentCompleted, "B2", `{"paymentId":"q","amount":"1e99","currency":"USD"}`)
		v.sell(4, event.OrderCreated, "B2", `{"orderId":"o"}`)
		v.set(func() { v.repeats.Terminals = 5 })
		pass(5 * time.Minute)
		if o := only(t, r); !o.End.IsZero() || o.Cause != "no_internet" || o.Held.Events != 7 || o.Lasted(time.Now()) < 5*time.Minute {
			t.Errorf("while it lasts: %+v", o)
		}
		v.connect()
		ended := time.Now()
		pass(time.Second)
		v.sell(1, event.PaymentCompleted, "C3", paid) // after the end: not held by it
		pass(20 * time.Second)
		v.drain()
		drained := time.Now()
		pass(time.Second) // at once, and not when it is sure that the link stays
		if o := only(t, r); o.Synced.IsZero() {
			t.Error("the cloud has all that was held, and it is not said")
		}
		pass(time.Minute)
		o := only(t, r)
		if o.Synced.Sub(drained).Abs() > time.Second {
			t.Errorf("synced %s, want %s", o.Synced, drained)
		}
		if o.Cause != "no_internet" || o.Place != PlaceInternet || o.Evidence != "it met no_internet" || len(o.Causes) != 2 {
			t.Errorf("cause: %+v", o)
		}
		if o.Start.Sub(began).Abs() > time.Second || o.End.Sub(ended).Abs() > time.Second {
			t.Errorf("from %s to %s, want %s to %s", o.Start, o.End, began, ended)
		}
		if o.Held.Events != 7 || o.Held.Classes["money"] != 3 || o.Held.Classes["orders"] != 4 {
			t.Errorf("held: %+v", o.Held)
		}
		want := []Money{
			{Kind: "payment_completed", Currency: "MXN", Events: 2, Amount: "241.00"},
			{Kind: "payment_completed", Currency: "USD", Events: 1, Amount: "0", Unreadable: 1},
		}
		if !slices.Equal(o.Held.Money, want) {
			t.Errorf("money: %+v", o.Held.Money)
		}
		if len(o.Terminals) != 2 || o.Terminals[0].ID != "B2" || o.Terminals[0].Events != 5 || o.Terminals[1].Money != 2 {
			t.Errorf("terminals: %+v", o.Terminals)
		}
		if o.Late.Events != 7 || o.Late.LongestMs < (5*time.Minute).Milliseconds() || o.Synced.IsZero() || o.Repeats.Terminals != 5 {
			t.Errorf("late: %+v, synced %s, repeats %+v", o.Late, o.Synced, o.Repeats)
		}
	})
}

// A power cut is told from a crash and from an orderly stop, and an outage in
// which it happens goes on.
func TestHowTheProcessEnded(t *testing.T) {
	for _, tt := range []struct {
		name      string
		inOrder   bool
		boot      string
		away      time.Duration
		cause     string
		noOutages bool
	}{
		{name: "power cut", boot: "boot2", away: 10 * time.Minute, cause: Power},
		{name: "crash", boot: "boot1", away: 5 * time.Second, cause: Crash},
		{name: "restart", inOrder: true, boot: "boot1", away: 5 * time.Second, noOutages: true},
		{name: "switched off", inOrder: true, boot: "boot2", away: time.Hour, cause: Stopped},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := newVenue()
				_, stop := v.start(t, "boot1")
				pass(5*time.Minute + 20*time.Second)
				v.sell(3, event.PaymentCompleted, "A1", paid)
				stop(tt.inOrder)
				ended := time.Now()
				v.set(func() { v.link = Link{Since: time.Now(), Waits: true} })
				pass(tt.away)
				r, stop := v.start(t, tt.boot)
				defer stop(true)
				v.set(func() { v.link.Since = time.Now() })
				pass(3 * time.Second)
				v.connect()
				v.drain()
				pass(2 * time.Minute)
				if tt.noOutages {
					if got := r.Outages(); len(got) != 0 {
						t.Errorf("%+v", got)
					}
					return
				}
				o := only(t, r)
				if o.Cause != tt.cause || o.Held.Events != 3 || o.Synced.IsZero() {
					t.Errorf("%+v", o)
				}
				if late := ended.Sub(o.Start); late < 0 || late > time.Minute {
					t.Errorf("it began %s before the end of the process", late)
				}
				if lasted := o.Lasted(time.Now()); lasted < tt.away || lasted > tt.away+time.Minute+5*time.Second {
					t.Errorf("lasted %s", lasted)
				}
			})
		})
	}
}

// The power goes in the middle of an outage: it is one, with both in it, and
// what it held is counted once.
func TestPowerCutDuringAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVenue()
		_, stop := v.start(t, "boot1")
		pass(time.Minute)
		v.fail("no_internet")
		v.sell(20, event.PaymentCompleted, "A1", paid)
		pass(time.Second)
		v.set(func() { v.repeats.Terminals = 2 })
		pass(time.Hour)
		stop(false)
		v.set(func() { v.link, v.repeats = Link{Since: time.Now(), Waits: true}, Repeats{} })
		pass(10 * time.Minute)
		v.set(func() { v.link.Since = time.Now() })
		r, stop := v.start(t, "boot2")
		defer stop(true)
		v.fail("no_internet")
		v.sell(5, event.PaymentCompleted, "A1", paid)
		v.set(func() { v.repeats.Terminals = 1 })
		pass(time.Minute)
		v.connect()
		v.drain()
		pass(time.Minute)
		o := only(t, r)
		if o.Cause != "no_internet" || len(o.Causes) != 3 || o.Causes[1].Cause != Power {
			t.Errorf("causes: %+v", o.Causes)
		}
		if o.Held.Events != 25 || o.Held.Money[0].Amount != "3012.50" || o.Repeats.Terminals != 3 {
			t.Errorf("held %+v, repeats %+v", o.Held, o.Repeats)
		}
		if o.Late.Events != 25 {
			t.Errorf("late: %+v", o.Late)
		}
	})
}

// A back-end that confirms nothing is an outage although the link is up, and
// one that has nothing to confirm, or is paused, is none.
func TestBackendAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVenue()
		r, stop := v.start(t, "boot1")
		defer stop(true)
		pass(time.Hour)
		v.set(func() { v.link.Waits = false })
		v.sell(1, event.PaymentCompleted, "A1", paid)
		pass(time.Hour)
		if got := r.Outages(); len(got) != 0 {
			t.Fatalf("%+v", got)
		}
		v.set(func() { v.link.Waits = true })
		began := time.Now()
		pass(10 * time.Minute)
		v.drain()
		ended := time.Now()
		pass(time.Minute)
		o := only(t, r)
		if o.Cause != Backend || o.Place != PlaceBackend || o.Start.Sub(began).Abs() > time.Second || o.End.Sub(ended).Abs() > time.Second {
			t.Errorf("%+v", o)
		}
	})
}

// A link that comes up for a moment again and again is one outage, one that is
// lost for less than a look is one too, and a planned reconnection is none.
func TestShortOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVenue()
		r, stop := v.start(t, "boot1")
		defer stop(true)
		pass(time.Minute)
		for range 200 {
			v.fail("client_id_takeover")
			pass(20 * time.Second)
			v.connect()
			pass(5 * time.Second)
			if o := only(t, r); o.Synced.IsZero() {
				t.Fatal("nothing was held, and it is not said")
			}
		}
		v.fail("client_id_takeover")
		pass(time.Second)
		if o := only(t, r); !o.Synced.IsZero() {
			t.Errorf("it goes on, and all is said to be there: %+v", o)
		}
		v.connect()
		pass(time.Minute)
		if o := only(t, r); o.Cause != "client_id_takeover" || o.Lasted(time.Now()) < time.Hour {
			t.Errorf("%+v", o)
		}
		v.fail("lost")
		pass(time.Millisecond)
		v.connect()
		pass(2 * time.Minute)
		if all := r.Outages(); len(all) != 2 || all[0].Cause != "lost" || all[0].Lasted(time.Now()) > time.Second {
			t.Errorf("%+v", all)
		}
	})
}

// What is kept is bounded, and a quiet day writes once a minute.
func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVenue()
		r, stop := v.start(t, "boot1")
		pass(time.Hour)
		v.mu.Lock()
		puts := v.puts
		v.mu.Unlock()
		if puts > 62 {
			t.Errorf("%d commits in a quiet hour", puts)
		}
		for range keepMost + 10 {
			v.fail("dns")
			v.sell(1, "payment_completed", strings.Repeat("T", 8), paid)
			pass(time.Minute)
			v.connect()
			v.drain()
			pass(time.Minute)
		}
		stop(true)
		if all := r.Outages(); len(all) != keepMost || all[0].ID != keepMost+10 {
			t.Errorf("%d outages, the newest is %d", len(all), all[0].ID)
		}
		if len(v.notes) != keepMost+1 {
			t.Errorf("%d notes", len(v.notes))
		}
		pass(91 * 24 * time.Hour)
		v.set(func() { v.link.Since = time.Now() })
		r, stop = v.start(t, "boot1")
		pass(time.Minute)
		stop(true)
		if all := r.Outages(); len(all) != 1 || all[0].Cause != Stopped {
			t.Errorf("after 91 days: %d outages", len(all))
		}
	})
}

func TestSums(t *testing.T) {
	var s sum
	for _, text := range []string{"120.50", "1e3", "9007199254740993", "0.1", "-5", "1E-3"} {
		s.add(text)
	}
	if s.String() != "9007199254742108.601" || s.unreadable != 0 {
		t.Errorf("%s, %d unreadable", s.String(), s.unreadable)
	}
	for _, text := range []string{"", "1e999999999", "NaN", "Infinity", "0x10", "1/3", strings.Repeat("9", 40), "1e", "e5", "1_0"} {
		s.add(text)
	}
	if s.String() != "9007199254742108.601" || s.unreadable != 10 {
		t.Errorf("%s, %d unreadable", s.String(), s.unreadable)
	}
}

// Every cause has words in both languages, and no page lets a payload's text
// become markup.
func TestReport(t *testing.T) {
	o := Outage{
		ID: 7, Start: time.Date(2026, 3, 6, 20, 0, 0, 0, time.UTC), End: time.Date(2026, 3, 6, 21, 30, 0, 0, time.UTC),
		Cause: "no_internet", Place: PlaceInternet, Evidence: "<script>alert(1)</script>", After: 100, Through: 140,
		Held:      Held{Events: 40, Classes: map[string]uint64{"money": 40}, Money: []Money{{Kind: "payment_completed", Currency: "MXN", Events: 40, Amount: "4820.00"}}},
		Terminals: []Terminal{{ID: "<b>A1</b>", Events: 40}, {Events: 1}},
		Causes:    []Stretch{{Cause: "lost"}, {Cause: "no_internet"}},
	}
	for lang, words := range map[Language][]string{
		Spanish: {"Interrupción 7", "Sin internet", "Dinero en lo retenido", "4820.00", "1 h 30 min", "Reinicie el router", "otros", "pagos"},
		English: {"Outage 7", "No internet", "Money in what was held", "4820.00", "1 h 30 min", "others"},
	} {
		r := Report{Outage: o, Venue: "v1", Box: "b1", Now: o.End, Zone: time.UTC, In: lang}
		var html, text bytes.Buffer
		if err := errors.Join(r.HTML(&html), r.Text(&text)); err != nil {
			t.Fatal(err)
		}
		for _, word := range words {
			if !strings.Contains(html.String(), word) || !strings.Contains(text.String(), word) {
				t.Errorf("%s: no %q", lang, word)
			}
		}
		if strings.Contains(html.String(), "<script") || strings.Contains(html.String(), "<b>A1") || strings.Contains(html.String(), "http") {
			t.Errorf("%s: %s", lang, html.String())
		}
	}
	for _, cause := range []string{
		"no_lan", "no_router", "no_route", "no_internet", "dns", "dns_lie", "captive_portal", "proxy", "broker_down", "no_answer", "tls", "clock",
		"certificate", "credentials", "client_id_takeover", "subscription", "protocol", "timeout", "overflow", "journal", "parked_full",
		"interrupted", "lost", Power, Crash, Stopped, Backend,
	} {
		for _, phrase := range []string{"cause " + cause, "do " + cause, "place " + PlaceOf(cause)} {
			if spanish(phrase) == "" {
				t.Errorf("no Spanish for %q", phrase)
			}
		}
	}
}
