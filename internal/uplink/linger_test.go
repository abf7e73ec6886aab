package uplink

import (
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// menu returns events of which nobody waits for the next one.
func menu(n int) []*event.Event {
	list := payments(n)
	for _, e := range list {
		e.Kind, e.Class = "menu_updated", event.Service
	}
	return list
}

// gathering says whether what is read waits, and sends it if not.
func (b *bench) gathering() (waits bool, sent int) {
	b.Helper()
	b.sender.more = true // as after the journal's Wait
	waits, err := b.gather(b.now)
	if err != nil {
		b.Fatal(err)
	}
	if !waits {
		sent = b.pump()
	}
	return waits, sent
}

func (b *bench) want(waits bool, sent int) {
	b.Helper()
	if w, n := b.gathering(); w != waits || n != sent {
		b.Errorf("waits %t, %d messages; want %t, %d", w, n, waits, sent)
	}
}

// What nobody waits for gathers for 200 ms, also what comes in meanwhile, and
// goes in one message.
func TestLowClassesGather(t *testing.T) {
	b := newBench(t, Broker, menu(3)...)
	b.want(true, 0)
	if at := b.gatheredAt(); !at.Equal(start.Add(200 * time.Millisecond)) {
		t.Errorf("goes at %s", at)
	}
	b.now = b.now.Add(150 * time.Millisecond)
	for _, e := range menu(4) {
		if _, err := b.j.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	b.want(true, 0)
	b.now = b.now.Add(50 * time.Millisecond) // by the first one's age
	b.want(false, 1)
	if n := len(b.sent[0].seqs); n != 7 {
		t.Errorf("%d events in the message", n)
	}
	if at := b.gatheredAt(); !at.IsZero() {
		t.Errorf("nothing waits, and goes at %s", at)
	}
}

// Money, orders and alerts take at once with them what has gathered before.
func TestUrgentClassesDoNotWait(t *testing.T) {
	for _, class := range []event.Class{event.Money, event.Orders, event.Alerts, 0} {
		b := newBench(t, Broker, menu(2)...)
		b.want(true, 0)
		e := payments(1)[0]
		e.Class = class
		if _, err := b.j.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		b.want(false, 1)
		if n := len(b.sent[0].seqs); n != 3 {
			t.Errorf("%s: %d events in the message", class, n)
		}
	}
}

// A full message goes, and nothing waits while there is a backlog.
func TestBacklogDoesNotGather(t *testing.T) {
	b := newBench(t, Broker, menu(2*maxBatchEvents)...)
	b.want(false, 2)
	b = newBench(t, Broker, menu(maxBatchEvents)...)
	b.want(false, 1)

	// What does not travel never waits.
	b = newBench(t, Broker, fromCloud(3)...)
	b.want(false, 0)
	b.wantCursor(3)
}
