package tasks

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/avoqado/avoqado-edge/internal/event"
)

func same(a, b string) bool { return strings.TrimPrefix(a, "AVQD-") == strings.TrimPrefix(b, "AVQD-") }

var start = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

// Command returns what is known of a command.
func (b *Book) Command(id string) (Command, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.commands[id]; c != nil {
		return *c, true
	}
	return Command{}, false
}

func stored(kind event.Kind, subject, payload string, at time.Time) *event.Event {
	return &event.Event{Kind: kind, Subject: subject, Payload: []byte(payload), Time: at, Actor: "staff_1"}
}

func TestPayload(t *testing.T) {
	for _, c := range []struct{ raw, want string }{
		{
			`{"terminalId":"AVQD-1","type":"FACTORY_RESET"}`,
			`{"terminalId":"AVQD-1","type":"FACTORY_RESET","commandId":"c","commandType":"FACTORY_RESET","payload":{},"requiresPin":true,"priority":"CRITICAL","requestedBy":"staff_1","expiresAt":"2026-11-23T10:30:00.000Z"}`,
		},
		{ // what the back-end says stands
			`{"commandType":"LOCK","requiresPin":true,"priority":"HIGH","payload":{"a":1.50},"requestedBy":"x","terminalId":"1","expiresAt":"z"}`,
			`{"commandType":"LOCK","requiresPin":true,"priority":"HIGH","payload":{"a":1.50},"requestedBy":"x","terminalId":"1","expiresAt":"2026-11-23T11:00:00.000Z","commandId":"c","type":"LOCK"}`,
		},
	} {
		b := New(same)
		b.Apply(stored(event.TPVCommand, "c", c.raw, start))
		command := b.Try("c", "sid")
		if got := string(command.Payload()); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.raw, got, c.want)
		}
	}
}

// Every type of contract §3.8 with its validity in minutes; p: asks for a PIN.
func TestTypes(t *testing.T) {
	const contract = `LOCK 60, UNLOCK 60 p, MAINTENANCE_MODE 120, EXIT_MAINTENANCE 120, REACTIVATE 120 p, REMOTE_ACTIVATE 1440,
		RESTART 1440, SHUTDOWN 30 p, CLEAR_CACHE 60, FORCE_UPDATE 60 p, REQUEST_UPDATE 1440, INSTALL_VERSION 60 p, SYNC_DATA 30,
		FACTORY_RESET 30 p, EXPORT_LOGS 60, UPDATE_CONFIG 60, REFRESH_MENU 30, UPDATE_MERCHANT 60 p, FETCH_ANGELPAY_MERCHANTS 5,
		SCHEDULE 1440, GEOFENCE_TRIGGER 60, TIME_RULE 60`
	var names []string
	for text := range strings.SplitSeq(contract, ",") {
		var name, pin string
		var minutes int
		if n, _ := fmt.Sscan(text, &name, &minutes, &pin); n < 2 {
			t.Fatal(text)
		}
		names = append(names, name)
		got := typeOf(name)
		if got.Valid != time.Duration(minutes)*time.Minute || got.PIN != (pin == "p") {
			t.Errorf("%s is valid for %v, PIN %t", name, got.Valid, got.PIN)
		}
	}
	if slices.Sort(names); !slices.Equal(names, slices.Sorted(maps.Keys(types()))) {
		t.Errorf("types are %v", slices.Sorted(maps.Keys(types())))
	}
	if unknown := typeOf("SING"); !unknown.Once || unknown.Valid != Longest {
		t.Errorf("unknown: %+v", unknown)
	}
}

func TestReports(t *testing.T) {
	result := func(more string) *event.Event {
		return stored(event.TPVCommandResult, "c", `{`+more+`}`, start.Add(time.Minute))
	}
	report := func(kind event.Kind) *event.Event { return stored(kind, "c", `{}`, start.Add(time.Minute)) }
	ack, began, cancel := report(event.TPVCommandAck), report(event.TPVCommandStarted), report(event.TPVCommandCancelled)
	for i, c := range []struct {
		said []*event.Event
		want Status
		to   string // the terminal's state afterwards
	}{
		{nil, Sent, ""},
		{[]*event.Event{ack}, Received, ""},
		{[]*event.Event{ack, began}, Executing, ""},
		{[]*event.Event{began, ack}, Executing, ""}, // a late ack
		{[]*event.Event{result(`"resultStatus":"SUCCESS"`)}, Completed, "MAINTENANCE"},
		{[]*event.Event{result(`"resultStatus":"PARTIAL_SUCCESS"`)}, Completed, "MAINTENANCE"},
		{[]*event.Event{result(`"success":true`)}, Completed, "MAINTENANCE"},
		{[]*event.Event{result(`"success":false`)}, Failed, ""},
		{[]*event.Event{result(`"resultStatus":"ERROR"`)}, Failed, ""},
		{[]*event.Event{result(`"resultStatus":"TIMEOUT"`)}, Failed, ""},
		{[]*event.Event{result(`"resultStatus":"REJECTED"`)}, Failed, "MAINTENANCE"}, // it is in it already
		{[]*event.Event{result(`"success":true`), result(`"success":false`), ack, began, cancel}, Completed, "MAINTENANCE"},
		{[]*event.Event{cancel}, Cancelled, ""},
		{[]*event.Event{cancel, ack, began}, Cancelled, ""},
		{[]*event.Event{cancel, result(`"success":true`)}, Completed, "MAINTENANCE"},
		{[]*event.Event{began, cancel}, Executing, ""},
	} {
		b := New(same)
		b.Live(true)
		b.Apply(stored(event.TPVCommand, "c", `{"terminalId":"1","type":"MAINTENANCE_MODE"}`, start))
		b.Try("c", "sid")
		b.Delivered("c", start)
		for _, e := range c.said {
			b.Apply(e)
		}
		got, _ := b.Command("c")
		if state, _, _ := got.Outcome(); got.Status != c.want || state != c.to {
			t.Errorf("case %d: %s and terminal %q, want %s and %q", i, got.Status, state, c.want, c.to)
		}
	}
}

func TestBounds(t *testing.T) {
	b := New(same)
	b.Live(true)
	for i := range 2 * maxEach {
		id := fmt.Sprint("c", i)
		b.Apply(stored(event.TPVCommand, id, `{"terminalId":"1","type":"RESTART"}`, start.Add(time.Duration(i))))
		b.Apply(stored(event.TPVMessage, id, `{"title":"t"}`, start))
		if i%4 > 0 {
			b.Apply(stored(event.TPVCommandCancelled, id, `{}`, start))
		}
	}
	if len(b.commands) != maxEach || len(b.messages) != maxEach {
		t.Errorf("%d commands and %d messages are remembered", len(b.commands), len(b.messages))
	}
	if _, ok := b.Command("c0"); !ok {
		t.Error("one that waits went before those that have ended")
	}
	b.Expire(start.Add(3 * Longest))
	if len(b.commands)+len(b.messages) > 0 {
		t.Error("old tasks are remembered for ever")
	}
}

// A command that ended and is then acknowledged stays acknowledged, and a new
// box reads the same from the journal.
func TestLateWordStands(t *testing.T) {
	w := &world{tries: make(map[string]int), now: start, book: New(same)}
	w.book.Live(true)
	w.append(event.TPVCommand, "c", `{"terminalId":"1","type":"LOCK"}`)
	w.tries["c"] = w.book.Try("c", "sid").Tries
	w.book.Delivered("c", start)
	w.now = start.Add(time.Hour)
	w.book.Expire(w.now)
	w.append(event.TPVCommandAck, "c", `{}`)
	for _, when := range []string{"at the next look", "after a restart"} {
		w.book.Expire(w.now.Add(time.Second))
		if c, _ := w.book.Command("c"); c.Status != Received {
			t.Errorf("%s it is %s", when, c.Status)
		}
		w.crash()
	}
}

// world is a box and a terminal around a book: a journal, tries on disk, and
// what the terminal was told. A crash loses all but the first two.
type world struct {
	journal []event.Event
	tries   map[string]int
	told    map[string]int // by the terminal
	sid     int
	here    bool
	now     time.Time
	book    *Book
}

func (w *world) append(kind event.Kind, subject, payload string) {
	e := stored(kind, subject, payload, w.now)
	e.Seq = event.Seq(len(w.journal) + 1)
	w.journal = append(w.journal, *e)
	w.book.Apply(e)
}

// crash starts a new box on the same disk.
func (w *world) crash() {
	w.book = New(same)
	for i := range w.journal {
		w.book.Apply(&w.journal[i])
	}
	w.book.Live(true)
	for id, n := range w.tries {
		w.book.Tried(id, n)
	}
	w.book.Expire(w.now)
	w.sid++
}

// TestAtMostOneEffect cuts the power between any two steps of the box and of
// the terminal: a command that may be told once is told once at most; any
// other is told under one id, never after a word of its terminal; and a new
// box knows what the old one did.
func TestAtMostOneEffect(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{tries: make(map[string]int), told: make(map[string]int), now: start, here: true}
		w.book = New(same)
		w.book.Live(true)
		spoke := make(map[string]bool)
		n := 0
		pick := func() string {
			if n == 0 {
				t.Skip("no command yet")
			}
			return fmt.Sprint("c", rapid.IntRange(0, n-1).Draw(t, "command"))
		}
		t.Repeat(map[string]func(*rapid.T){
			"ask": func(t *rapid.T) {
				kind := rapid.SampledFrom([]string{"RESTART", "LOCK"}).Draw(t, "type")
				w.append(event.TPVCommand, fmt.Sprint("c", n), fmt.Sprintf(`{"terminalId":"AVQD-1","type":%q}`, kind))
				n++
			},
			"deliver": func(t *rapid.T) {
				if !w.here {
					return
				}
				due, _ := w.book.Due("1", fmt.Sprint(w.sid), w.now)
				for _, c := range due {
					c = w.book.Try(c.ID, fmt.Sprint(w.sid))
					w.tries[c.ID] = c.Tries
					if rapid.Bool().Draw(t, "crash before it is written") {
						w.crash()
						return
					}
					if spoke[c.ID] {
						t.Fatalf("%s told after its terminal spoke of it", c.ID)
					}
					w.told[c.ID]++
					if w.told[c.ID] > 1 && c.Type == "RESTART" {
						t.Fatalf("%s told %d times", c.ID, w.told[c.ID])
					}
					if w.told[c.ID] > maxTries {
						t.Fatalf("%s told for ever", c.ID)
					}
					if rapid.Bool().Draw(t, "crash after it is written") {
						w.crash()
						return
					}
					w.book.Delivered(c.ID, w.now)
				}
			},
			"tell the venue": func(t *rapid.T) {
				for _, step := range w.book.Steps() {
					w.append(event.TPVCommandStatusChanged, step.ID, fmt.Sprintf(`{"newStatus":%q}`, step.Status))
					if rapid.Bool().Draw(t, "crash before it is noted") {
						w.crash()
						return
					}
					w.book.Told(step)
				}
			},
			"reconnect": func(*rapid.T) { w.sid++; w.here = true },
			"leave":     func(*rapid.T) { w.here = false },
			"speak": func(t *rapid.T) {
				if id := pick(); w.told[id] > 0 {
					spoke[id] = true
					w.append(rapid.SampledFrom([]event.Kind{event.TPVCommandAck, event.TPVCommandStarted, event.TPVCommandResult}).Draw(t, "word"),
						id, `{"success":true}`)
				}
			},
			"cancel": func(t *rapid.T) { w.append(event.TPVCommandCancelled, pick(), `{}`) },
			"wait": func(t *rapid.T) {
				w.now = w.now.Add(time.Duration(rapid.IntRange(1, 90).Draw(t, "minutes")) * time.Minute)
				w.book.Expire(w.now)
			},
			"crash": func(*rapid.T) { w.crash() },
			"": func(t *rapid.T) { // once all is told, a new box knows the same
				if len(w.book.Steps()) > 0 {
					return
				}
				before := statuses(w.book)
				twin := *w
				twin.crash()
				if after := statuses(twin.book); !reflect.DeepEqual(before, after) {
					t.Fatalf("knew %v, knows %v", before, after)
				}
			},
		})
	})
}

func statuses(b *Book) map[string]Status {
	all := make(map[string]Status)
	for id, c := range b.commands {
		all[id] = c.Status
	}
	return all
}
