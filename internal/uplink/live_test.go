package uplink

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/cloud"
	"github.com/avoqado/avoqado-edge/internal/event"
)

// What happens while a backlog drains comes first, unless something about the
// same order is still waiting: then it comes in its turn. The back-end has each
// event once, and those of one order in the order in which they happened.
func TestLiveOvertakesTheBacklog(t *testing.T) {
	broker := startBroker(t, "127.0.0.1:0")
	backend := startBackendOf(t, cloud.BackendConfig{Access: cloud.Access{Broker: broker.URL()}, Prefix: testPrefix})
	w := newWire(t, broker.URL())
	j := newMemory()
	const backlog = 6000
	for i := range backlog {
		about(t, j, fmt.Sprintf("old%d", i%1000), i)
	}
	u := newUplink(t, j, w.url(), func(c *Config) { c.Live = true })
	running(t, "uplink", u.Run)
	until(t, "it drains", func() bool { return u.Status().Confirmed > 0 })
	n := 0
	until(t, "live events go first", func() bool {
		about(t, j, fmt.Sprintf("new%d", n%7), n)
		about(t, j, fmt.Sprintf("old%d", n%1000), backlog+n)
		n++
		return u.Status().Early > 0 || u.Status().Synced >= backlog
	})
	until(t, "all is there", func() bool { return u.Status().Synced == j.Stored() })
	if u.Status().Early == 0 {
		t.Skip("the backlog was drained before anything could overtake it")
	}
	if got, want := count(t, backend), int(j.Stored()); got != want {
		t.Errorf("%d effects of %d events", got, want)
	}
	last := map[string]event.Seq{}
	var ahead int
	err := backend.Each(func(e cloud.Effect) error {
		if e.Live {
			ahead++
			if strings.HasPrefix(e.Subject, "old") {
				t.Errorf("%s overtook its order", e.ID)
			}
		}
		if e.Seq <= last[e.Subject] {
			t.Errorf("%s: %d after %d", e.Subject, e.Seq, last[e.Subject])
		}
		last[e.Subject] = e.Seq
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d of %d new events came early; back-end %+v", ahead, n, backend.Counts())
}

// A broker that ends the link on a topic it does not allow would end it for ever.
// The live lane gives way, not the line.
func TestForbiddenLiveLaneGivesWay(t *testing.T) {
	broker := startBroker(t, "127.0.0.1:0")
	backend := startBackend(t, broker.URL(), false)
	w := newWire(t, broker.URL())
	w.forbid = "/boxes/b1/events/live"
	j := newMemory()
	old := 0
	more := func(n int) {
		for range n {
			about(t, j, fmt.Sprintf("old%d", old), 1)
			old++
		}
		about(t, j, fmt.Sprintf("new%d", old), 1)
	}
	more(4 * behindBy)
	u := newUplink(t, j, w.url(), func(c *Config) { c.Live = true })
	running(t, "uplink", u.Run)
	until(t, "it is struck", func() bool {
		if !u.behind(j.Stored()) {
			more(4 * behindBy)
		}
		about(t, j, fmt.Sprintf("new%d", j.Stored()), 1)
		return w.ended.Load() == liveStrikes
	})
	for range 10 {
		more(2 * behindBy)
		about(t, j, fmt.Sprintf("new%d", j.Stored()), 1)
	}
	until(t, "all is there", func() bool { return u.Status().Synced == j.Stored() })
	if n := w.ended.Load(); n != liveStrikes {
		t.Errorf("the link was ended %d times, not %d", n, liveStrikes)
	}
	if got := count(t, backend); got != int(j.Stored()) {
		t.Errorf("%d effects of %d events", got, j.Stored())
	}
}

// A line that dies again and again under copies says nothing of the broker: the
// lane stays open.
func TestDeadLinesStrikeNoLane(t *testing.T) {
	w := newWire(t, startBroker(t, "127.0.0.1:0").URL())
	w.swallow.Store(true) // the backlog stays
	j := newMemory()
	for i := range 4 * behindBy {
		about(t, j, fmt.Sprintf("old%d", i), 1)
	}
	u := newUplink(t, j, w.url(), func(c *Config) { c.Live, c.Confirm, c.KeepAlive = true, Broker, time.Second })
	running(t, "uplink", u.Run)
	for i := range liveStrikes + 1 {
		early := u.Status().Early
		until(t, fmt.Sprintf("link %d takes copies", i+1), func() bool {
			about(t, j, fmt.Sprintf("new%d", j.Stored()), 1)
			return u.Status().Early > early
		})
		w.hold.Store(true)
		until(t, "it is found dead", func() bool { return u.Status().Failures[Timeout] > uint64(i) })
		w.hold.Store(false)
	}
}

// watching is a lookout over a journal while the backlog lane stands still.
type watching struct {
	t    *testing.T
	u    *Uplink
	j    *memory
	done chan error
}

func watch(t *testing.T, j *memory) *watching {
	t.Helper()
	w := &watching{t, newUplink(t, j, "tcp://127.0.0.1:1", nil), j, make(chan error, 1)}
	go func() { w.done <- newLookout(w.u, 0).run(t.Context()) }()
	return w
}

// offered returns what the link is offered, message by message, until there are
// as many events as that.
func (w *watching) offered(link uint64, want int) (messages [][]event.Seq) {
	w.t.Helper()
	for n := 0; n < want; {
		select {
		case m := <-w.u.live:
			if m.link != link {
				continue
			}
			var seqs []event.Seq
			for i := range m.events {
				seqs = append(seqs, m.events[i].Seq)
			}
			messages = append(messages, seqs)
			n += len(seqs)
		case <-time.After(10 * time.Second):
			w.t.Fatalf("offered %v", messages)
		}
	}
	return messages
}

// end has the backlog lane catch up.
func (w *watching) end() {
	w.t.Helper()
	w.u.mu.Lock()
	w.u.reached = w.j.Stored()
	w.u.mu.Unlock()
	w.u.opens(opening{99, 0, time.Now()})
	about(w.t, w.j, "end", 1) // it waits for the journal
	if err := <-w.done; err != nil {
		w.t.Error(err)
	}
}

// look returns what a link that came up at a position is offered.
func look(t *testing.T, j *memory, from event.Seq, want int) [][]event.Seq {
	t.Helper()
	w := watch(t, j)
	w.u.opens(opening{1, from, time.Now()})
	messages := w.offered(1, want)
	w.end()
	return messages
}

// A backlog is known before there is a link, but for what happened just now.
// What one link was offered is part of the backlog of the next: it may not have
// arrived.
func TestOfferedIsBacklogOfTheNextLink(t *testing.T) {
	j := newMemory()
	for i := range 1000 {
		about(t, j, fmt.Sprint("old", i), 1)
	}
	w := watch(t, j)
	about(t, j, "old1", 2)
	young := about(t, j, "young", 1)
	w.u.opens(opening{1, j.Stored(), time.Now()})
	if got := slices.Concat(w.offered(1, 1)...); !slices.Equal(got, []event.Seq{young}) {
		t.Fatalf("the first link is offered %v, not %d", got, young)
	}
	first := about(t, j, "first", 1)
	if got := slices.Concat(w.offered(1, 1)...); !slices.Equal(got, []event.Seq{first}) {
		t.Fatalf("the first link is offered %v, not %d", got, first)
	}
	w.u.opens(opening{})
	w.u.opens(opening{2, j.Stored(), time.Now()})
	about(t, j, "first", 1)
	about(t, j, "young", 1)
	second := about(t, j, "second", 1)
	if got := slices.Concat(w.offered(2, 1)...); !slices.Equal(got, []event.Seq{second}) {
		t.Errorf("the second link is offered %v, not %d", got, second)
	}
	w.end()
}

// A backlog that gathers while the link is up, for a back-end that says nothing, is
// overtaken too.
func TestLiveOvertakesWhatGathersOnALink(t *testing.T) {
	j := newMemory()
	u := newUplink(t, j, "tcp://127.0.0.1:1", nil)
	u.opens(opening{1, 0, time.Now()})
	for i := range 4 * behindBy {
		about(t, j, fmt.Sprint("old", i), 1)
	}
	w := &watching{t, u, j, make(chan error, 1)}
	go func() { w.done <- newLookout(u, j.Stored()).run(t.Context()) }()
	fresh := about(t, j, "fresh", 1)
	if got := slices.Concat(w.offered(1, 1)...); !slices.Equal(got, []event.Seq{fresh}) {
		t.Errorf("offered %v, not %d", got, fresh)
	}
	w.end()
}

// Money goes first, and what it belongs to before it.
func TestMoneyGoesFirst(t *testing.T) {
	j := newMemory()
	about(t, j, "old", 1)
	add := func(kind event.Kind, class event.Class, payload string) event.Seq {
		e := payment(1)
		e.Kind, e.Class, e.Payload, e.Subject = kind, class, []byte(payload), ""
		r, err := j.Append(t.Context(), e)
		if err != nil {
			t.Fatal(err)
		}
		return r.Seq
	}
	menu := add("menu_updated", event.Service, `{}`)
	alert := add(event.SystemAlert, event.Alerts, `{"title":"x","requestId":"r9"}`)
	order := add(event.OrderCreated, event.Orders, `{"orderId":"o1"}`)
	other := add(event.OrderCreated, event.Orders, `{"orderId":"o2"}`)
	paid := add(event.PaymentCompleted, event.Money, `{"orderId":"o1","paymentId":"p1"}`)
	waits := add(event.OrderUpdated, event.Orders, `{"orderId":"old"}`)
	got := look(t, j, 1, 5)
	want := []event.Seq{order, paid, other, alert, menu}
	if flat := slices.Concat(got...); !slices.Equal(flat, want) || slices.Contains(flat, waits) {
		t.Errorf("offered %v, want %v", got, want)
	}
}

// More than the queue holds goes with the backlog, and so does what follows on
// the same order.
func TestLiveQueueIsBounded(t *testing.T) {
	j := newMemory()
	about(t, j, "old", 1)
	for i := range liveQueue + 50 {
		about(t, j, fmt.Sprintf("o%d", i), 1)
	}
	for i := range liveQueue + 50 {
		about(t, j, fmt.Sprintf("o%d", i), 2)
	}
	seen := map[event.Seq]bool{}
	for _, m := range look(t, j, 1, liveQueue) {
		if len(m) > liveBatch {
			t.Errorf("%d events in a message", len(m))
		}
		for _, seq := range m {
			seen[seq] = true
		}
	}
	for i := range liveQueue + 50 {
		first, second := event.Seq(2+i), event.Seq(2+liveQueue+50+i)
		if seen[second] && !seen[first] {
			t.Errorf("the second event of o%d overtook the first", i)
		}
	}
}

func TestKeyFilter(t *testing.T) {
	f := newKeyFilter()
	const n = 300_000
	for i := range n {
		f.add([]string{fmt.Sprint("in", i)})
	}
	for i := range n {
		if !f.hasAny([]string{"no such key", fmt.Sprint("in", i)}) {
			t.Fatalf("%d is forgotten", i)
		}
	}
	wrong := 0
	for i := range n {
		if f.hasAny([]string{fmt.Sprint("out", i)}) {
			wrong++
		}
	}
	t.Logf("%d of %d keys are taken for others", wrong, n)
	if wrong > n/500 {
		t.Errorf("%d of %d keys are taken for others", wrong, n)
	}
}

// Counters go up at connect, for who listens then, and are not kept.
func TestTelemetry(t *testing.T) {
	broker := startBroker(t, "127.0.0.1:0")
	heard := listen(t, broker.URL())
	u := newUplink(t, newMemory(), broker.URL(), func(c *Config) {
		c.Telemetry = func() any { return map[string]any{"backlog": map[string]int{"events": 2}} }
	})
	running(t, "uplink", u.Run)
	until(t, "it is heard", func() bool { return heard.last("/boxes/b1/telemetry") == `{"backlog":{"events":2}}` })
	late := listenAs(t, broker.URL(), "late")
	until(t, "the retained status is there", func() bool { return late.last("/boxes/b1/status") != "" })
	if got := late.last("/boxes/b1/telemetry"); got != "" {
		t.Errorf("telemetry was kept: %s", got)
	}
}
