package uplink

import (
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

var start = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

// bench drives a sender by hand: what it sends is numbered, and nothing is
// confirmed unless the test says so.
type bench struct {
	*testing.T
	j *memory
	*sender
	now  time.Time
	n    uint64
	sent []*batch
}

func newBench(t *testing.T, mode Confirmation, events ...*event.Event) *bench {
	t.Helper()
	j := newMemory()
	for _, e := range events {
		if _, err := j.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	b := &bench{T: t, j: j, now: start, sender: newSender(j, mode, 2*time.Second, encoder{source: "/venues/v1/boxes/b1"})}
	b.open16()
	return b
}

// open16 has the windows wide open, and batches whole: window_test.go tests how
// they become so.
func (b *bench) open16() {
	b.toBroker = window{size: 16, least: 16, most: 16, bytes: maxBatchBytes}
	b.toBackend = window{size: confirmWindow, least: confirmWindow, most: confirmWindow}
}

// pump sends all that may be sent and returns how many batches that were.
func (b *bench) pump() int {
	b.Helper()
	b.sender.more = true // as after the journal's Wait
	for i := 0; ; i++ {
		if !b.maySend() {
			return i
		}
		batch, err := b.next()
		if err != nil {
			b.Fatal(err)
		}
		if batch == nil {
			return i
		}
		b.published(b.n, batch, b.now)
		b.n++
		b.sent = append(b.sent, batch)
	}
}

func (b *bench) hear(through event.Seq) { b.through(place{b.j.epoch, through}, b.now) }

func (b *bench) wantCursor(want event.Seq) {
	b.Helper()
	if b.cursor != want {
		b.Fatalf("cursor %d, want %d", b.cursor, want)
	}
}

// payments returns events so small that 256 of them fit into a message.
func payments(n int) []*event.Event {
	list := make([]*event.Event, n)
	for i := range list {
		list[i] = &event.Event{
			ID: event.NewID(), Kind: event.PaymentCompleted, Origin: event.Terminal, Time: start, Payload: []byte("{}"),
		}
	}
	return list
}

func fromCloud(n int) []*event.Event {
	list := payments(n)
	for _, e := range list {
		e.Origin, e.Kind, e.Class = event.Cloud, "menu_updated", event.Service
	}
	return list
}

func join(lists ...[]*event.Event) (all []*event.Event) {
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

func TestBrokerModeMovesContiguously(t *testing.T) {
	b := newBench(t, Broker, payments(256*5)...)
	if n := b.pump(); n != 5 {
		t.Fatalf("%d batches, want 5", n)
	}
	b.puback(1, b.now)
	b.puback(2, b.now)
	b.wantCursor(0) // the first is open
	b.puback(0, b.now)
	b.wantCursor(256 * 3)
	b.puback(4, b.now)
	b.puback(3, b.now)
	b.wantCursor(256 * 5)
	b.puback(3, b.now) // a broker that repeats itself
	b.hear(9999)       // a back-end that confirms though nobody asked
	b.wantCursor(256 * 5)
}

func TestPublishWindow(t *testing.T) {
	b := newBench(t, Broker, payments(256*20)...)
	if n := b.pump(); n != 16 {
		t.Fatalf("%d batches, want 16", n)
	}
	b.puback(0, b.now)
	if n := b.pump(); n != 1 {
		t.Fatalf("%d more batches, want 1", n)
	}
}

func TestBackendModeProbesThenOpens(t *testing.T) {
	b := newBench(t, Backend, payments(256*(confirmWindow+36))...)
	if n := b.pump(); n != 1 {
		t.Fatalf("%d batches before the first confirmation, want 1", n)
	}
	b.puback(0, b.now)
	b.wantCursor(0) // a PUBACK says nothing of the back-end
	b.hear(256)
	b.wantCursor(256)
	total := b.pump()
	for i := uint64(1); i < b.n; i++ { // the broker confirms, the back-end does not
		b.puback(i, b.now)
		total += b.pump()
	}
	if total != confirmWindow {
		t.Fatalf("%d batches unconfirmed, want %d", total, confirmWindow)
	}
	b.wantCursor(256)
	b.hear(256*3 + 7) // in the middle of a batch
	b.wantCursor(256*3 + 7)
	b.hear(256 * 4)
	b.wantCursor(256 * 4)
	if got := b.count.Confirmed; got != 256*4 {
		t.Errorf("confirmed %d, want %d", got, 256*4)
	}
}

func TestWordsThatAreNotBelieved(t *testing.T) {
	b := newBench(t, Backend, payments(600)...)
	b.pump()
	b.through(place{event.NewEpoch(b.j.epoch), 256}, b.now)
	b.wantCursor(0) // another history
	b.hear(1 << 60)
	b.wantCursor(256) // what was sent, and no more
	b.pump()
	b.hear(100)
	b.wantCursor(256)
	if b.count.Stale != 2 || b.count.Beyond != 1 {
		t.Errorf("counts %+v", b.count)
	}
}

func TestSilentBackendIsAskedAgainMoreAndMoreRarely(t *testing.T) {
	b := newBench(t, Backend, payments(600)...)
	b.pump()
	if at := b.sendAgainAt(); !at.IsZero() {
		t.Fatal("sends again although the broker has not confirmed")
	}
	b.puback(0, b.now)
	for i, want := range []time.Duration{2, 4, 8, 16, 32, 60, 60} {
		at := b.due()
		if got := at.Sub(b.now); got != want*time.Second {
			t.Fatalf("attempt %d after %s, want %s", i, got, want*time.Second)
		}
		b.now = at
		if err := b.tick(b.now); err != nil {
			t.Fatal(err)
		}
		if n := b.pump(); n != 1 || b.sent[len(b.sent)-1].seqs[0] != 1 {
			t.Fatalf("attempt %d: %d batches from %d", i, n, b.sent[len(b.sent)-1].seqs[0])
		}
		b.puback(b.n-1, b.now)
	}
	b.hear(256)
	b.pump()
	b.puback(b.n-1, b.now)
	b.puback(b.n-2, b.now)
	if got := b.due().Sub(b.now); got != 2*time.Second {
		t.Errorf("patience %s after progress, want 2s", got)
	}
	if b.count.Sent != 600 || b.count.Resent != 7*256 {
		t.Errorf("sent %d, resent %d", b.count.Sent, b.count.Resent)
	}
}

func TestRepeatedWordRewindsOnceASecond(t *testing.T) {
	b := newBench(t, Backend, payments(256*10)...)
	b.pump()
	b.puback(0, b.now)
	b.hear(256)
	b.pump() // 2..10 in flight
	for i := uint64(1); i < b.n; i++ {
		b.puback(i, b.now)
	}
	b.hear(256) // it misses the second
	if n := b.pump(); n != 1 || b.sent[len(b.sent)-1].seqs[0] != 257 {
		t.Fatalf("%d batches, the last from %d; want one from 257", n, b.sent[len(b.sent)-1].seqs[0])
	}
	b.puback(b.n-1, b.now)
	b.hear(256) // its answer to the third
	if n := b.pump(); n != 0 {
		t.Fatalf("%d batches sent again at once", n)
	}
	b.now = b.now.Add(rewindEvery)
	b.hear(256)
	if n := b.pump(); n != 1 {
		t.Fatalf("%d batches, want 1", n)
	}
	b.hear(256 * 10) // it had kept the others after all
	b.wantCursor(256 * 10)
	if n := b.pump(); n != 0 {
		t.Fatalf("%d batches sent though all is confirmed", n)
	}
}

func TestCursorPassesWhatDoesNotTravel(t *testing.T) {
	b := newBench(t, Backend, join(fromCloud(3), payments(2), fromCloud(2), payments(1), fromCloud(300))...)
	b.pump()
	b.wantCursor(0) // they go with the batch behind them
	if got := b.sent[0].seqs; len(got) != 3 || got[0] != 4 || got[2] != 8 {
		t.Fatalf("sent %v", got)
	}
	b.hear(5)
	b.wantCursor(5)
	b.hear(8)
	b.pump()
	b.wantCursor(308)
	// The back-end repeats what it has: not stale, though the cursor is ahead.
	b.hear(8)
	if b.count.Stale != 0 {
		t.Error("the last event that travelled is called stale")
	}
}

func TestHoleAfterPassedEventsIsFollowed(t *testing.T) {
	b := newBench(t, Backend, join(payments(1), fromCloud(2))...)
	b.pump()
	b.puback(0, b.now)
	b.hear(1)
	b.pump()
	b.wantCursor(3)
	appendPayments(t, b.j, 1)
	b.pump()
	b.puback(1, b.now)
	b.hear(1) // it did not get 4
	if n := b.pump(); n != 1 {
		t.Fatal("the hint was not followed")
	}
}

func TestPreviousSkipsWhatDoesNotTravel(t *testing.T) {
	b := newBench(t, Broker, join(payments(1), fromCloud(2), payments(2))...)
	b.pump()
	if got := previousOf(t, b.sent[0].body); got != "-,1,4" {
		t.Fatalf("previous %s", got)
	}
	for n := range b.n {
		b.puback(n, b.now)
	}
	b.wantCursor(5)

	// A new process finds it by looking back over the broadcasts.
	for range 600 {
		if _, err := b.j.Append(t.Context(), fromCloud(1)[0]); err != nil {
			t.Fatal(err)
		}
	}
	appendPayments(t, b.j, 1)
	b.j.cursors[cursorName] = 605
	again := &bench{T: t, j: b.j, now: start, sender: newSender(b.j, Broker, time.Second, b.enc)}
	again.open16()
	again.pump()
	if got := previousOf(t, again.sent[0].body); got != "5" {
		t.Fatalf("previous %s after a restart", got)
	}
}

func TestLostEventsArePassed(t *testing.T) {
	b := newBench(t, Broker, payments(900)...)
	b.j.lostFrom, b.j.lostTo = 300, 500
	b.pump()
	for n := range b.n {
		b.puback(n, b.now)
	}
	b.wantCursor(900)
	if b.count.Lost != 201 || b.count.Sent != 900-201 {
		t.Errorf("counts %+v", b.count)
	}
}

func TestNextEpochWaitsForTheEarlierOne(t *testing.T) {
	b := newBench(t, Backend, payments(1)...)
	b.pump()
	b.hear(1) // the window is open
	old := b.j.epoch
	appendPayments(t, b.j, 1)
	b.j.epoch = event.NewEpoch(old)
	appendPayments(t, b.j, 3)
	b.pump()
	if n := len(b.sent); n != 2 || b.sent[1].epoch != old {
		t.Fatalf("%d batches sent before the earlier epoch is confirmed", n)
	}
	b.puback(1, b.now)
	b.hear(5)
	b.wantCursor(1) // of the new epoch nothing was sent
	b.through(place{old, 2}, b.now)
	b.wantCursor(2)
	b.pump()
	if last := b.sent[len(b.sent)-1]; len(b.sent) != 3 || last.epoch != b.j.epoch || last.seqs[0] != 3 {
		t.Fatalf("sent %d batches", len(b.sent))
	}
	if got := previousOf(t, b.sent[2].body); got != "-,3,4" {
		t.Errorf("previous %s: an epoch begins without", got)
	}
	b.hear(5)
	b.wantCursor(5)
}

func TestBrokerThatNeverConfirmsIsLeft(t *testing.T) {
	b := newBench(t, Broker, payments(1)...)
	b.pump()
	b.now = b.due()
	if err := b.tick(b.now); err == nil || b.now.Sub(start) != pubackTimeout {
		t.Fatalf("tick after %s: %v", b.now.Sub(start), err)
	}
}

func TestBackoffBounds(t *testing.T) {
	p := backoff{min: time.Second, max: 60 * time.Second}
	last, longest := p.min, time.Duration(0)
	seen := map[time.Duration]bool{}
	for range 10_000 {
		d := p.next()
		if d < p.min || d > p.max || d > 3*last {
			t.Fatalf("pause %s after %s", d, last)
		}
		seen[d], last, longest = true, d, max(longest, d)
	}
	if len(seen) < 5000 || longest < 50*time.Second {
		t.Errorf("%d different pauses, the longest %s: no jitter", len(seen), longest)
	}
	p.reset()
	if d := p.next(); d > 3*time.Second {
		t.Errorf("pause %s after a reset", d)
	}
}
