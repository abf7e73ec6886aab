package lan_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/journal"
)

// onDisk opens a journal and runs it; stop ends it and may be called twice.
func onDisk(t testing.TB, dir string) (j *journal.Journal, stop func()) {
	t.Helper()
	return run(t, dir, journal.Options{})
}

// run is onDisk with options.
func run(t testing.TB, dir string, o journal.Options) (j *journal.Journal, stop func()) {
	t.Helper()
	j, err := journal.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() {
		if err := j.Run(ctx); err != nil {
			t.Errorf("journal: %v", err)
		}
	})
	stop = sync.OnceFunc(func() {
		cancel()
		group.Wait()
		if err := j.Close(); err != nil {
			t.Errorf("close journal: %v", err)
		}
	})
	t.Cleanup(stop)
	return j, stop
}

// TestOnDisk runs the server on the real journal, over a restart of both.
func TestOnDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	if err := journal.Create(dir, journal.Options{}); err != nil {
		t.Fatal(err)
	}
	const senders, each = 4, 100
	pay := func(sender, n int) string {
		return fmt.Sprintf(`{"paymentId":"p%d-%d","amount":"1.50","currency":"MXN","venueId":"venue_1","idempotencyKey":"key-%d-%d--"}`, sender, n, sender, n)
	}
	for round, duplicate := range []string{"", "true"} {
		j, stop := onDisk(t, dir)
		b := serve(t, j, j)
		viewer := b.as(event.Viewer)
		var group sync.WaitGroup
		for s := range senders {
			c := b.connect(auth.Grant{Subject: fmt.Sprint("staff_", s), Role: event.Cashier}, "")
			group.Go(func() {
				ids := make([]int, each)
				for n := range ids {
					ids[n] = c.post("payment_completed", pay(s, n))
				}
				for _, id := range ids {
					if ack := c.answer(id); field(t, ack, "success") != "true" || field(t, ack, "duplicate") != duplicate {
						t.Errorf("round %d: %s", round, ack)
					}
				}
			})
		}
		group.Wait()
		if got := j.Stored(); got != event.Seq(senders*each+round) { // and the alert
			t.Fatalf("%d stored", got)
		}
		if duplicate == "" {
			stored, err := j.Read(0, senders*each, 1<<30)
			for after := event.Seq(len(stored)); err == nil && after < senders*each; after = event.Seq(len(stored)) {
				var more []event.Event
				more, err = j.Read(after, senders*each, 1<<30)
				stored = append(stored, more...)
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range stored { // in this order, these bytes
				if got := viewer.want("payment_completed"); got != string(e.Payload) {
					t.Fatalf("seq %d was shown as %s, stored is %s", e.Seq, got, e.Payload)
				}
			}
		}
		b.connect(auth.Grant{Subject: "boss", Role: event.Owner}, "").
			ask("system_alert", `{"level":"info","title":"t","message":"m","venueId":"venue_1","idempotencyKey":"the-alert"}`)
		if round == 0 {
			viewer.want("system_alert")
		} else {
			b.quietFor(t, viewer)
		}
		b.stop()
		stop()
	}
}

// quietFor checks that a client of a server on disk heard nothing of repeats.
func (b *box) quietFor(t *testing.T, c *client) {
	t.Helper()
	b.Publish(t.Context(), auth.Grant{Subject: "api", Venue: venue, Role: event.Owner}, "menu_updated", []byte(`{}`), nil, event.Local)
	c.want("menu_updated")
	for _, got := range c.pending("payment_completed") {
		if !strings.Contains(got, `"replayed":true`) { // what it never proved that it has comes again, marked
			t.Errorf("shown again: %s", got)
		}
	}
}

// BenchmarkPayment measures a payment's way to its ack and to another client,
// with an fsync, one at a time and many at once.
func BenchmarkPayment(b *testing.B) {
	for _, window := range []int{1, 64} {
		b.Run(fmt.Sprint(window, "InFlight"), func(b *testing.B) {
			dir := filepath.Join(b.TempDir(), "journal")
			if err := journal.Create(dir, journal.Options{}); err != nil {
				b.Fatal(err)
			}
			j, _ := onDisk(b, dir)
			box := serve(b, j, j)
			c := box.connect(auth.Grant{Subject: "staff_1", Role: event.Cashier}, "")
			b.ResetTimer()
			ids := make(chan int, window)
			var group sync.WaitGroup
			group.Go(func() {
				for range b.N {
					ids <- c.post("payment_completed", payment)
				}
				close(ids)
			})
			for id := range ids {
				c.answer(id)
			}
			group.Wait()
			b.StopTimer()
			box.stop()
		})
	}
}
