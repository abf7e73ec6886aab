package uplink

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// previousOf returns the previous attributes of a batch, "-" where absent.
func previousOf(t *testing.T, body []byte) string {
	t.Helper()
	var list []struct{ Previous string }
	if err := json.Unmarshal(body, &list); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	var out []string
	for _, e := range list {
		out = append(out, strings.TrimLeft(e.Previous, "0"))
		if e.Previous == "" {
			out[len(out)-1] = "-"
		} else if len(e.Previous) != 20 {
			t.Errorf("previous %q has not 20 digits", e.Previous)
		}
	}
	return strings.Join(out, ",")
}

func TestEventOnTheWire(t *testing.T) {
	e := payment(7)
	e.ID, e.Epoch, e.Seq, e.CorrelationID = "id-1", "01JC", 12345, "corr"
	e.Time = start
	e.Subject = "pay \"7\"\\\n\x01é\xff"
	got := string((&encoder{source: "/venues/v1/boxes/b1"}).appendEvent(nil, e, place{"01JC", 12340}))
	want := `{"specversion":"1.0","id":"id-1","source":"/venues/v1/boxes/b1","type":"io.avoqado.payment_completed",` +
		`"subject":"pay \"7\"\\\u000a\u0001é` + "\uFFFD" + `","time":"2026-11-23T10:00:00.000Z","datacontenttype":"application/json",` +
		`"epoch":"01JC","sequence":"00000000000000012345","previous":"00000000000000012340","origin":"terminal",` +
		`"actor":"staff_1","role":"CASHIER","terminal":"2841548417","correlationid":"corr","data":` + string(e.Payload) + `}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for _, at := range []struct {
		event.Timing
		want string
	}{
		{event.Timing{Time: start.Add(time.Hour), Quality: event.TimeCorrected, Error: 1500 * time.Microsecond}, `"time":"2026-11-23T11:00:00.000Z","timequality":"corrected","timeerror":2,`},
		{event.Timing{Time: start, Quality: event.TimeSynced, Error: 100 * 365 * 24 * time.Hour}, `"time":"2026-11-23T10:00:00.000Z","timequality":"synced","timeerror":2147483647,`},
		{event.Timing{Time: start, Quality: event.TimeUnknown}, `"time":"2026-11-23T10:00:00.000Z","timequality":"unknown","datacontenttype"`},
	} {
		c := encoder{source: "s", when: func(*event.Event) event.Timing { return at.Timing }}
		if said := string(c.appendEvent(nil, e, place{})); !strings.Contains(said, at.want) || !json.Valid([]byte(said)) {
			t.Errorf("got %s, want %s", said, at.want)
		}
	}
	bare := &event.Event{ID: "i", Kind: "k", Origin: event.Local, Epoch: "e", Seq: 1, Time: start, Payload: []byte(`{}`)}
	got = string((&encoder{source: "s"}).appendEvent(nil, bare, place{"other", 9}))
	for _, absent := range []string{"subject", "previous", "actor", "role", "terminal", "correlationid"} {
		if strings.Contains(got, absent) {
			t.Errorf("empty %s is written: %s", absent, got)
		}
	}
}

// Whatever identifiers hold, a batch is JSON within its limits, and no event is
// lost or doubled between batches.
func TestBatchesAreWholeAndBounded(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	junk := func(n int) string {
		b := make([]byte, r.IntN(n))
		for i := range b {
			b[i] = byte(r.IntN(256))
		}
		return string(b)
	}
	for range 200 {
		var events []event.Event
		for i := range 1 + r.IntN(600) {
			e := payment(i)
			e.Seq, e.Epoch = event.Seq(i+1), "e"
			e.Subject, e.Actor, e.Terminal = junk(40), junk(40), junk(40)
			e.Payload = []byte(`{"x":"` + strings.Repeat("x", r.IntN(1<<r.IntN(17))) + `"}`)
			if r.IntN(5) == 0 {
				e.Origin = event.Cloud
			}
			events = append(events, *e)
		}
		c := encoder{source: "/venues/v1/boxes/b1"}
		var previous place
		want := event.Seq(1)
		for len(events) > 0 {
			b, used := c.take(events, previous, maxBatchBytes)
			if used == 0 {
				t.Fatal("nothing used")
			}
			if len(b.seqs) > maxBatchEvents || len(b.body) > maxBatchBytes && len(b.seqs) > 1 {
				t.Fatalf("batch of %d events, %d bytes", len(b.seqs), len(b.body))
			}
			var list []json.RawMessage
			if err := json.Unmarshal(b.body, &list); err != nil || len(list) != len(b.seqs) || !utf8.Valid(b.body) {
				t.Fatalf("%d events: %v", len(list), err)
			}
			seqs := b.seqs
			for _, e := range events[:used] {
				if e.Seq != want {
					t.Fatalf("seq %d, want %d", e.Seq, want)
				}
				want++
				if travels(&e) {
					if seqs[0] != e.Seq {
						t.Fatalf("batch has %d, want %d", seqs[0], e.Seq)
					}
					seqs = seqs[1:]
				}
			}
			if len(b.seqs) > 0 {
				previous = b.last()
			}
			events = events[used:]
		}
	}
}

func BenchmarkTake(b *testing.B) {
	events := make([]event.Event, maxBatchEvents)
	for i := range events {
		e := payment(i)
		e.Seq, e.Epoch = event.Seq(i+1), "e"
		e.Payload = []byte(`{"x":"` + strings.Repeat("x", 290) + `"}`)
		events[i] = *e
	}
	c := encoder{source: "/venues/v1/boxes/b1"}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		_, used := c.take(events, place{}, maxBatchBytes)
		n += used
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
}
