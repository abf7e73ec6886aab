package cloud

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/testpart"
)

// effectsOf returns what a back-end has, in committed order; * is early.
func effectsOf(t *testing.T, l *Ledger) string {
	t.Helper()
	var list []string
	if err := l.Each(func(e Effect) error {
		star := ""
		if e.Live {
			star = "*"
		}
		list = append(list, fmt.Sprintf("%d%s", e.Seq, star))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return strings.Join(list, " ")
}

// TestLiveLane sends early copies, over a broker, and the same events in their
// turn: each has its effect once, and what is confirmed is the main lane's.
func TestLiveLane(t *testing.T) {
	broker := startBroker(t)
	b := openBackend(t, BackendConfig{Access: Access{Broker: broker.URL()}})
	var printed []event.Seq
	stop := testpart.Run(t, "back-end", func(ctx context.Context) error {
		return b.Run(ctx, func(e Effect) { printed = append(printed, e.Seq) })
	})
	testpart.Until(t, "online", b.Online)
	x := newBox(t, broker.URL(), "b1")
	has := func(want string) {
		t.Helper()
		testpart.Until(t, "effects "+want, func() bool { return effectsOf(t, b.Ledger) == want })
	}
	early := func(seqs ...int) {
		t.Helper()
		var list []string
		for _, seq := range seqs {
			list = append(list, wireEvent("b1", seq, 0)) // without previous
		}
		x.send(t, "/events/live", []byte("["+strings.Join(list, ",")+"]"))
	}
	x.send(t, "/events", batchOf("b1", 1, 3))
	has("1 2 3")
	early(9, 10)
	has("1 2 3 9* 10*")
	early(3, 9, 12) // behind the position, known, new
	has("1 2 3 9* 10* 12*")
	if ack := x.heard(); ack != "3" {
		t.Errorf("the live lane was confirmed: %s", ack)
	}
	if p, err := b.Positions(); err != nil || len(p) != 1 || p[0] != (Position{"/venues/v1/boxes/b1", "e1", 3, 3}) {
		t.Errorf("positions %+v %v", p, err)
	}
	x.send(t, "/events", batchOf("b1", 4, 8))
	has("1 2 3 9* 10* 12* 4 5 6 7 8")
	x.send(t, "/events", batchOf("b1", 9, 11)) // two of them known, and passed over
	has("1 2 3 9* 10* 12* 4 5 6 7 8 11")
	x.send(t, "/events", batchOf("b1", 12, 12)) // nothing but known
	testpart.Until(t, "12 is confirmed", func() bool { return x.heard() == "3 8 11 12" })
	early(12, 10) // late
	x.send(t, "/events", batchOf("b1", 13, 13))
	has("1 2 3 9* 10* 12* 4 5 6 7 8 11 13")
	if c := b.Counts(); c != (Counts{Duplicates: 4, Early: 3}) {
		t.Errorf("counts %+v", c)
	}
	if p, err := b.Positions(); err != nil || p[0].Early != 0 || p[0].Through != 13 {
		t.Errorf("early positions are kept: %+v %v", p, err)
	}
	stop()
	if want := []event.Seq{1, 2, 3, 9, 10, 12, 4, 5, 6, 7, 8, 11, 13}; !slices.Equal(printed, want) {
		t.Errorf("printed %v", printed)
	}
}

// TestIgnoreLive: who leaves the live lane alone has all in total order, also
// with a session that had it subscribed before.
func TestIgnoreLive(t *testing.T) {
	broker := startBroker(t)
	cfg := BackendConfig{Access: Access{Broker: broker.URL()}, ClientID: "backend"}
	b := openBackend(t, cfg)
	stop := testpart.Run(t, "back-end", func(ctx context.Context) error { return b.Run(ctx, nil) })
	testpart.Until(t, "online", b.Online)
	stop()
	cfg.IgnoreLive = true
	b = openBackend(t, cfg)
	testpart.Run(t, "back-end", func(ctx context.Context) error { return b.Run(ctx, nil) })
	testpart.Until(t, "online", b.Online)
	x := newBox(t, broker.URL(), "b1")
	x.send(t, "/events/live", []byte("["+wireEvent("b1", 3, 0)+"]"))
	x.send(t, "/events", batchOf("b1", 1, 3))
	testpart.Until(t, "acks 3", func() bool { return x.heard() == "3" })
	if got := effectsOf(t, b.Ledger); got != "1 2 3" {
		t.Errorf("effects %s", got)
	}
}

// TestTakeFindsTheLane: also below a prefix that has its word in it.
func TestTakeFindsTheLane(t *testing.T) {
	b := openBackend(t, BackendConfig{})
	const box = "acme/events/live/boxes/b1"
	if _, word, err := b.Take(box+"/events/live", batchOf("b1", 3, 3), nil); err != nil || word != nil {
		t.Errorf("%s %v", word, err)
	}
	if acks, word, err := b.Take(box+"/events", batchOf("b1", 1, 3), nil); err != nil || acks != box+"/acks" || string(word) != `{"epoch":"e1","through":3}` {
		t.Errorf("%s %s %v", acks, word, err)
	}
	if got := effectsOf(t, b.Ledger); got != "3* 1 2" {
		t.Errorf("effects %s", got)
	}
}

// Early positions behind a hole that is accepted are not kept for ever, and
// those of another source and epoch stay.
func TestEarlyPositionsGo(t *testing.T) {
	b := openBackend(t, BackendConfig{AcceptHoles: true})
	live := func(source string, epoch event.Epoch, seq event.Seq) Effect {
		return Effect{Source: source, Epoch: epoch, Seq: seq}
	}
	for _, e := range []Effect{live("a", "e1", 5), live("a", "e1", 7), live("a", "e1", 9), live("a", "e11", 5), live("b", "e1", 5)} {
		if c, err := b.commitLive([]Effect{e}); err != nil || len(c.fresh) != 1 {
			t.Fatalf("%+v %v", c, err)
		}
	}
	if _, err := b.commit([]Effect{{Source: "a", Epoch: "e1", Seq: 8, Previous: 7}}); err != nil {
		t.Fatal(err)
	}
	for _, other := range []Effect{live("b", "e1", 5), live("a", "e11", 5), live("a", "e1", 9)} {
		if c, err := b.commit([]Effect{other}); err != nil || c.early != 1 {
			t.Errorf("%+v %v", c, err)
		}
	}
	if p, err := b.Positions(); err != nil || len(p) != 3 || p[0].Early+p[1].Early+p[2].Early > 0 {
		t.Errorf("%+v %v", p, err)
	}
}

// TestRefusing has a back-end that does not take everything.
func TestRefusing(t *testing.T) {
	broker := startBroker(t)
	path := filepath.Join(t.TempDir(), "backend.db")
	b := openBackend(t, BackendConfig{Access: Access{Broker: broker.URL()}, Path: path, Refuse: func(e Effect) string {
		if e.Seq == 2 || e.Seq == 5 {
			return "no such order"
		}
		return ""
	}})
	stop := testpart.Run(t, "back-end", func(ctx context.Context) error { return b.Run(ctx, nil) })
	testpart.Until(t, "online", b.Online)
	x := newBox(t, broker.URL(), "b1")
	hears := func(want string) {
		t.Helper()
		testpart.Until(t, want, func() bool {
			x.mu.Lock()
			defer x.mu.Unlock()
			return len(x.acks) > 0 && x.acks[len(x.acks)-1] == want
		})
	}
	x.send(t, "/events", batchOf("b1", 1, 3))
	hears(`{"epoch":"e1","through":3,"rejected":[{"sequence":2,"reason":"no such order"}]}`)
	x.send(t, "/events/live", batchOf("b1", 5, 5)) // its turn comes
	x.send(t, "/events", batchOf("b1", 4, 4))
	hears(`{"epoch":"e1","through":4}`)
	x.send(t, "/events", batchOf("b1", 2, 5)) // it names again what it is sent again
	hears(`{"epoch":"e1","through":5,"rejected":[{"sequence":2,"reason":"no such order"},{"sequence":5,"reason":"no such order"}]}`)
	if got := effectsOf(t, b.Ledger); got != "1 3 4" {
		t.Errorf("effects %s", got)
	}
	if c := b.Counts(); c != (Counts{Duplicates: 3, Refused: 3}) {
		t.Errorf("counts %+v", c)
	}

	// The file says it, once nobody writes to it.
	if _, err := OpenLedger(path); !errors.Is(err, ErrInUse) {
		t.Errorf("beside a back-end: %v", err)
	}
	stop()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := OpenLedger(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	var refused []string
	if err := l.Refusals(func(e Effect) error {
		refused = append(refused, fmt.Sprintf("%d %s %s", e.Seq, e.Refused, e.Data))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if want := `2 no such order { "amount":1e3, "t":"<&>" },5 no such order { "amount":1e3, "t":"<&>" }`; strings.Join(refused, ",") != want {
		t.Errorf("refused %q", refused)
	}
	if _, err := OpenLedger(path + "2"); err == nil {
		t.Error("a file that is not there is read")
	}
}
