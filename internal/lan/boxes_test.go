package lan_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/lan"
	"github.com/avoqado/avoqado-edge/internal/lan/span/redistest"
)

func spanning(r *redistest.Redis) func(*lanConfig) {
	return func(c *lanConfig) { c.Redis = r.URL() }
}

// joined waits until the box hears the others and they it.
func joined(t testing.TB, s *lan.Server, peers int) {
	t.Helper()
	until(t, "joined", func() bool { b := s.Boxes(); return b.State == "joined" && b.Peers == peers })
}

// twoBoxes starts two boxes of one venue.
func twoBoxes(t testing.TB, change ...func(*lanConfig)) (r *redistest.Redis, a, b *box) {
	t.Helper()
	r = redistest.Start(t)
	change = append(change, spanning(r))
	a, b = start(t, change...), start(t, change...)
	joined(t, a.Server, 1)
	joined(t, b.Server, 1)
	return r, a, b
}

// A payment at one box is seen by each client of both once, but not by its
// sender, in its very bytes.
func TestTwoBoxes(t *testing.T) {
	for _, transport := range []lan.Transport{lan.Fast, lan.Library} {
		t.Run(string(transport), func(t *testing.T) {
			_, a, b := twoBoxes(t, func(c *lanConfig) { c.Transport = transport })
			sender, beside := a.as(event.Cashier), a.as(event.Manager)
			there := []*client{b.as(event.Manager), b.as(event.Waiter), b.connect(auth.Grant{Subject: "cook", Role: event.Kitchen}, "T-2")}
			for _, c := range there { // in several of the rooms an event may name
				c.ask("join_room", `{"roomType":"order","venueId":"venue_1","orderId":"7"}`)
				c.ask("join_room", `{"roomType":"table","venueId":"venue_1","tableId":"4"}`)
				c.want("room_joined")
				c.want("room_joined")
			}
			payment := `{"paymentId":"p1","orderId":"7","tableId":"4","amount":120.50,"currency":"MXN","venueId":"venue_1","metadata":{"n":9007199254740993,"x":1e3,"t":"<b>&é"}}`
			if ack := sender.ask("payment_completed", payment); field(t, ack, "success") != "true" {
				t.Fatal(ack)
			}
			here := beside.want("payment_completed")
			for _, c := range there {
				if got := c.want("payment_completed"); got != here {
					t.Errorf("over there %s\nhere       %s", got, here)
				}
			}
			if !strings.Contains(here, `"amount":120.50`) || !strings.Contains(here, `"metadata":{"n":9007199254740993,"x":1e3,"t":"<b>&é"}`) {
				t.Errorf("changed: %s", here)
			}

			// Volatile events and presence.
			sender.ask("tpv:heartbeat", `{"terminalId":"T-1","venueId":"venue_1","health":{}}`)
			sender.ask("join_room", `{"roomType":"table","venueId":"venue_1","tableId":"4"}`)
			for _, c := range append(there, beside, sender) {
				c.want("terminal:heartbeat")
			}
			for _, c := range there {
				if got := field(t, c.want("table_status_change"), "type"); got != `"user_joined_table"` {
					t.Error(got)
				}
			}

			// Roles, and their exclusion.
			a.journal.append(event.Event{
				Kind: "system_alert", Origin: event.Local, Payload: []byte(`{"n":1}`),
				Audience: event.Audience{Roles: []event.Role{event.Manager, event.Kitchen}, Except: []event.Role{event.Kitchen}},
			})
			there[0].want("system_alert")

			// The cloud tells every box; each tells its own.
			for _, x := range []*box{a, b} {
				x.journal.append(event.Event{Kind: "system_alert", Payload: []byte(`{"n":2}`)})
			}
			for _, c := range append(there, beside, sender) {
				until(t, "alert", func() bool { return len(c.pending("system_alert")) > 0 })
			}
			// What was said later has come, so all else has.
			a.journal.append(event.Event{Kind: "venue_update", Origin: event.Local, Payload: []byte(`{"marker":true}`)})
			for i, c := range append(there, beside, sender) {
				c.want("venue_update")
				want := 1
				if c == beside { // of role manager, at a
					want = 2
				}
				if got := c.pending("system_alert"); len(got) != want {
					t.Errorf("client %d heard %v", i, got)
				}
				for _, name := range []string{"payment_completed", "terminal:heartbeat", "sync_required"} {
					if got := c.pending(name); len(got) > 0 {
						t.Errorf("client %d heard twice or for nothing: %v", i, got)
					}
				}
			}
			if s := b.Boxes(); s.Lost+s.Gaps+int64(len(s.Refused)) > 0 || s.Received == 0 {
				t.Errorf("stats: %+v", s)
			}
		})
	}
}

// Without the Redis each box serves on, and its clients are told of what they
// may have missed.
func TestBoxesApart(t *testing.T) {
	r, a, b := twoBoxes(t)
	at, bt := a.as(event.Cashier), b.as(event.Manager)
	here := a.as(event.Manager)
	r.Stop()
	for _, x := range []*box{a, b} {
		until(t, "alone", func() bool { s := x.Boxes(); return s.State == "alone" && s.Cause == "unreachable" })
	}
	for i := range 100 {
		at.ask("payment_completed", fmt.Sprintf(`{"paymentId":"p%d","amount":1,"currency":"MXN","venueId":"venue_1"}`, i))
		here.want("payment_completed")
	}
	b.quiet(bt, "payment_completed", "sync_required")
	r.Start()
	joined(t, a.Server, 1)
	joined(t, b.Server, 1)
	if got := field(t, bt.want("sync_required"), "reason"); got != `"other_box"` {
		t.Error(got)
	}
	at.ask("payment_completed", `{"paymentId":"last","amount":1,"currency":"MXN","venueId":"venue_1"}`)
	if got := field(t, bt.want("payment_completed"), "paymentId"); got != `"last"` {
		t.Error(got)
	}
	b.quiet(bt, "payment_completed", "sync_required")
	a.quiet(here, "sync_required")                                                      // b said nothing in between
	if n := strings.Count(a.logs.String(), "box serves its own clients alone"); n > 2 { // lost, then not found
		t.Errorf("said %d times that it is alone", n)
	}
}

// What another box said is not in this one's journal, so who may have missed it
// is not told that it was given all.
func TestRecoveryBesideAnotherBox(t *testing.T) {
	r := redistest.Start(t)
	h := open(t, spanning(r))
	other := start(t, spanning(r))
	joined(t, h.Server, 1)
	joined(t, other.Server, 1)

	c, pid := h.returns(manager, "", "")
	h.happen(1)
	offset := c.wantOffset("order_updated")
	h.leave(c)
	c, again := h.returns(manager, pid, offset)
	if again != pid {
		t.Error("not recovered, though nobody else said anything")
	}
	say := func() {
		t.Helper()
		before := h.Boxes().Received
		other.journal.append(event.Event{Kind: "venue_update", Origin: event.Local, Payload: []byte(`{}`)})
		until(t, "it is heard", func() bool { return h.Boxes().Received == before+1 })
	}
	say()
	if frame := c.take("from the other box", func(f string) bool { return strings.HasPrefix(f, `42["venue_update"`) }); frame != `42["venue_update",{}]` {
		t.Errorf("came as %s", frame) // another box's offset would mislead the client
	}
	h.happen(1) // shown after it: who has this one has that one
	offset = c.wantOffset("order_updated")
	h.leave(c)
	if c, again = h.returns(manager, pid, offset); again != pid {
		t.Error("not recovered, though it had all")
	}
	h.leave(c)
	say()
	c, again = h.returns(manager, pid, offset)
	if told := c.want("sync_required"); again == pid || field(t, told, "reason") != `"other_box"` {
		t.Errorf("told %s", told)
	}
}
