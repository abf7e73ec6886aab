package lan_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
)

func quick(c *lanConfig) { c.PingInterval, c.PingTimeout = 30*time.Millisecond, 10*time.Second }

func alert(n int, a event.Audience) event.Event {
	return event.Event{
		Kind: event.SystemAlert, Class: event.Alerts, Audience: a,
		Payload: fmt.Appendf(nil, `{"n":%d,"amount":"1.50"}`, n),
	}
}

var managers = event.Audience{Roles: []event.Role{event.Manager}}

// proven waits until a client's position covers all that is stored: a ping
// that was made after it was shown has been answered.
func (b *box) proven(c *client) {
	b.t.Helper()
	until(b.t, "all is shown", func() bool { return b.Stats().Shown == b.journal.Stored() })
	c.mu.Lock()
	seen := c.pings
	c.mu.Unlock()
	until(b.t, "two more pings", func() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.pings > seen+2 })
}

func (b *box) leave(c *client) {
	b.t.Helper()
	n := b.Connections().ConnectionStats.Total
	_ = c.ws.Close()
	until(b.t, "the client is gone", func() bool { return b.Connections().ConnectionStats.Total < n })
}

func replayed(n int) string { return fmt.Sprintf(`{"n":%d,"amount":"1.50","replayed":true}`, n) }

func TestReplayToWhoWasAway(t *testing.T) {
	b := start(t, quick)
	manager := b.as(event.Manager)
	b.journal.append(alert(1, managers))
	if got := manager.want("system_alert"); got != `{"n":1,"amount":"1.50"}` {
		t.Errorf("live: %s", got)
	}
	b.proven(manager)
	b.leave(manager)
	b.journal.append(alert(2, managers))
	b.journal.append(event.Event{Kind: "print_job_synced", Payload: []byte(`{"n":0}`)}) // not of a replayed kind
	b.journal.append(alert(3, event.Audience{Roles: []event.Role{event.Kitchen}}))      // not for it
	b.journal.append(alert(4, event.Audience{Except: []event.Role{event.Manager}}))     // not for it
	expired := alert(5, event.Audience{})
	expired.Expires = time.Now().Add(-time.Second)
	b.journal.append(expired)
	b.journal.append(alert(6, event.Audience{}))
	until(t, "all is shown", func() bool { return b.Stats().Shown == b.journal.Stored() })

	manager = b.as(event.Manager)
	for _, n := range []int{2, 6} {
		if got := manager.want("system_alert"); got != replayed(n) {
			t.Errorf("got %s, want %d", got, n)
		}
	}
	b.proven(manager)
	b.quiet(manager, "system_alert", "print_job_synced")
	b.leave(manager)

	manager = b.as(event.Manager) // once
	b.quiet(manager, "system_alert")
}

func TestReplayToNewcomers(t *testing.T) {
	b := start(t, quick)
	waiter := b.as(event.Waiter)
	b.journal.append(alert(1, managers)) // no manager was ever here
	until(t, "all is shown", func() bool { return b.Stats().Shown == 1 })
	first := b.connect(auth.Grant{Subject: "m1", Role: event.Manager}, "")
	if got := first.want("system_alert"); got != replayed(1) {
		t.Errorf("got %s", got)
	}
	b.journal.append(alert(2, event.Audience{}))
	first.want("system_alert")
	waiter.want("system_alert")
	second := b.connect(auth.Grant{Subject: "m2", Role: event.Manager}, "")
	b.quiet(second, "system_alert") // somebody of its role was there
	b.leave(first)
	b.leave(second)

	// Named receivers have nobody to stand in for them.
	b.journal.append(alert(3, event.Audience{Users: []string{"w2"}}))
	b.journal.append(alert(4, event.Audience{Terminals: []string{"AVQD-5"}}))
	until(t, "all is shown", func() bool { return b.Stats().Shown == b.journal.Stored() })
	b.quiet(waiter, "system_alert")
	if got := b.connect(auth.Grant{Subject: "w2", Role: event.Waiter}, "").want("system_alert"); got != replayed(3) {
		t.Errorf("got %s", got)
	}
	if got := b.connect(auth.Grant{Subject: "w3", Role: event.Waiter}, "avqd-5").want("system_alert"); got != replayed(4) {
		t.Errorf("got %s", got)
	}

	// What staff said to each other before is not for who was never here, but
	// for who is back.
	b.leave(waiter)
	local := alert(5, event.Audience{})
	local.Origin, local.Actor = event.Terminal, "m1"
	b.journal.append(local)
	until(t, "all is shown", func() bool { return b.Stats().Shown == b.journal.Stored() })
	cook := b.connect(auth.Grant{Subject: "k1", Role: event.Kitchen}, "")
	if got := cook.want("system_alert"); got != replayed(2) { // the cloud's
		t.Errorf("got %s", got)
	}
	b.quiet(cook, "system_alert")
	if got := b.as(event.Waiter).want("system_alert"); got != replayed(5) {
		t.Errorf("got %s", got)
	}
}

// TestSenderIsNoWitness has the only manager send an alert to managers.
func TestSenderIsNoWitness(t *testing.T) {
	b := start(t, quick)
	away := b.connect(auth.Grant{Subject: "m2", Role: event.Manager}, "")
	b.proven(away)
	b.leave(away)
	sender := b.connect(auth.Grant{Subject: "m1", Role: event.Manager}, "")
	sender.ask("system_alert", `{"level":"info","title":"t","message":"m","venueId":"venue_1","targetRoles":["MANAGER"]}`)
	until(t, "all is shown", func() bool { return b.Stats().Shown == 1 })
	b.leave(sender)
	if got := b.connect(auth.Grant{Subject: "m2", Role: event.Manager}, "").want("system_alert"); field(t, got, "replayed") != "true" {
		t.Errorf("got %s", got)
	}
	b.quiet(b.connect(auth.Grant{Subject: "m1", Role: event.Manager}, ""), "system_alert")
}

// TestUnansweredPing loses what was sent to a client that never answered.
func TestUnansweredPing(t *testing.T) {
	b := start(t, func(c *lanConfig) { c.PingInterval, c.PingTimeout = 30*time.Millisecond, 2*time.Second })
	for n, known := range []bool{true, false} { // is it from before?
		who := auth.Grant{Subject: fmt.Sprint("m", n), Role: event.Manager}
		manager := b.connect(who, "")
		if known {
			b.proven(manager)
		}
		manager.mu.Lock()
		manager.mute = true
		manager.mu.Unlock()
		b.journal.append(alert(n, managers)) // written, never proven
		until(t, "it is dropped", manager.closed)
		until(t, "it is gone", func() bool { return b.Connections().ConnectionStats.Total == 0 })
		manager = b.connect(who, "")
		if got := manager.want("system_alert"); got != replayed(n) {
			t.Errorf("got %s", got)
		}
		b.quiet(manager, "system_alert")
		b.leave(manager)
	}
}

func TestPositionsSurviveARestart(t *testing.T) {
	b := start(t, quick)
	manager := b.as(event.Manager)
	b.journal.append(alert(1, managers))
	manager.want("system_alert")
	b.proven(manager)
	b.stop()
	b.journal.append(alert(2, managers)) // the box was down

	b = startWith(t, b.journal, b.state, quick)
	manager = b.as(event.Manager)
	if got := manager.want("system_alert"); got != replayed(2) {
		t.Errorf("got %s", got)
	}
	b.quiet(manager, "system_alert")
	b.stop()

	b.journal.set(func() { b.journal.epoch = "epoch-2" }) // history was lost
	b = startWith(t, b.journal, b.state, quick)
	manager = b.as(event.Manager)
	for n := range 2 {
		if got := manager.want("system_alert"); got != replayed(n+1) {
			t.Errorf("got %s", got)
		}
	}
}

func TestReplayWindow(t *testing.T) {
	j := newMemory()
	for i := range 50 {
		old := alert(i, event.Audience{})
		old.Time = time.Now().Add(-25*time.Hour + time.Duration(i)*time.Millisecond)
		j.append(old)
	}
	for range 1000 {
		j.append(event.Event{Kind: "print_job_synced", Payload: []byte(`{}`)})
	}
	j.append(alert(99, event.Audience{}))
	b := startWith(t, j, &notes{}, quick)
	late := alert(100, event.Audience{}) // shown now, but too old to be shown again
	late.Time = time.Now().Add(-25 * time.Hour)
	j.append(late)
	until(t, "all is shown", func() bool { return b.Stats().Shown == j.Stored() })
	c := b.as(event.Viewer)
	if got := c.want("system_alert"); got != replayed(99) {
		t.Errorf("got %s", got)
	}
	b.quiet(c, "system_alert", "print_job_synced")
}

// TestNoGapNoDouble connects clients while alerts come in.
func TestNoGapNoDouble(t *testing.T) {
	b := start(t)
	const n = 300
	var group sync.WaitGroup
	group.Go(func() {
		for i := range n {
			b.journal.append(alert(i, event.Audience{}))
			if i%10 == 0 {
				until(t, "some are shown", func() bool { return int(b.Stats().Shown) > i-5 })
			}
		}
	})
	clients := map[event.Role]*client{}
	for _, role := range event.Roles() {
		c := b.dial("", nil)
		c.raw(`40{"token":"` + b.mint(auth.Grant{Subject: "s_" + string(role), Role: role}) + `"}`)
		c.want("authentication_success")
		clients[role] = c
	}
	for role, c := range clients {
		for i := range n {
			got := c.want("system_alert")
			if field(t, got, "n") != fmt.Sprint(i) {
				t.Fatalf("%s: got %s, want %d", role, got, i)
			}
		}
	}
	group.Wait()
}

func TestJournalNotReadable(t *testing.T) {
	b := start(t)
	c := b.as(event.Viewer)
	b.journal.set(func() { b.journal.readErr = errBroken })
	b.journal.append(event.Event{Kind: "menu_updated", Payload: []byte(`{}`)})
	until(t, "the error is counted", func() bool { return b.Stats().ReadErrors > 0 })
	b.journal.set(func() { b.journal.readErr = nil })
	c.want("menu_updated")
}

// TestBadPayloadOnDisk shows what no sender could have stored.
func TestBadPayloadOnDisk(t *testing.T) {
	b := start(t)
	c := b.as(event.Viewer)
	for _, payload := range []string{"", "{", "nonsense", `{"a":NaN}`} {
		b.journal.append(event.Event{Kind: event.SystemAlert, Payload: []byte(payload)})
	}
	b.journal.append(event.Event{Kind: "disconnect", Payload: []byte(`{}`)})
	b.journal.append(event.Event{Kind: "", Payload: []byte(`{}`)})
	b.quiet(c, "system_alert")
	b.quiet(b.as(event.Manager), "system_alert")
	if b.Stats().WriteErrors == 0 {
		t.Error("nothing was counted")
	}
}

func TestShutdown(t *testing.T) {
	b := start(t)
	waiter, viewer := b.as(event.Waiter), b.as(event.Viewer)
	p := b.poll(t)
	b.journal.set(func() { b.journal.hold = true })
	id := waiter.post("payment_initiated", payment)
	until(t, "the payment is taken", func() bool { return b.journal.Stored() == 1 })
	stopped := make(chan struct{})
	go func() { b.stop(); close(stopped) }()
	until(t, "no new connections", func() bool {
		ws, resp, err := websocket.DefaultDialer.Dial("ws://"+b.Addr().String()+"/socket.io/?EIO=4&transport=websocket", nil)
		if err == nil {
			_ = ws.Close()
		}
		if resp != nil {
			_ = resp.Body.Close()
		}
		return err != nil
	})
	b.journal.release()
	if ack := waiter.answer(id); field(t, ack, "durability") != `"stored"` {
		t.Errorf("ack is %s", ack)
	}
	select {
	case <-stopped:
	case <-time.After(patience):
		t.Fatal("run does not end")
	}
	for _, c := range []*client{waiter, viewer} {
		until(t, "transports are closed", c.closed)
		for _, f := range c.framesNow() {
			if strings.HasPrefix(f, "41") || strings.HasPrefix(f, "44") {
				t.Errorf("the client was sent %q and will not come back", f)
			}
		}
	}
	_ = p
}

func TestShutdownDoesNotWaitForEver(t *testing.T) {
	b := start(t)
	waiter := b.as(event.Waiter)
	b.journal.set(func() { b.journal.hold = true })
	waiter.post("payment_initiated", payment)
	until(t, "the payment is taken", func() bool { return b.journal.Stored() == 1 })
	b.stop()
	b.journal.release() // comes too late, and harms nobody
	if !strings.Contains(b.logs.String(), "events left unanswered") {
		t.Error("nothing was said")
	}
}

func TestEndedGrants(t *testing.T) {
	b := start(t)
	c := b.as(event.Waiter)
	b.door.fails.Store(true)
	b.Sweep()
	until(t, "the transport is closed", c.closed)
	b.door.fails.Store(false)
	b.as(event.Waiter)
}

func TestPublish(t *testing.T) {
	b := start(t)
	viewer, manager := b.as(event.Viewer), b.as(event.Manager)
	by := func(role event.Role) auth.Grant { return auth.Grant{Subject: "api", Venue: venue, Role: role} }
	for _, c := range []struct {
		role    event.Role
		kind    event.Kind
		payload string
		target  *event.Audience
		status  int
		text    string
	}{
		{"WAITER", "payment_initiated", payment, nil, 200, ""},
		{"KITCHEN", "payment_initiated", payment, nil, 401, "Role KITCHEN not authorized for payment events"},
		{"MANAGER", "table_status_change", `{"tableId":"t1","status":"OCCUPIED"}`, nil, 200, ""},
		{"WAITER", "table_status_change", `{"tableId":"t1"}`, nil, 401, "Role WAITER not authorized to send table_status_change"},
		{"WAITER", "payment_initiated", payment, &event.Audience{Venue: true}, 401, "Role WAITER not authorized to choose receivers"},
		{"MANAGER", "no_such", `{}`, nil, 400, "Unknown event: no_such"},
		{"MANAGER", "tpv:log", `{}`, nil, 400, "Unknown event: tpv:log"},
		{"MANAGER", "menu_updated", `[]`, nil, 400, "Payload must be a JSON object"},
		{"MANAGER", "menu_updated", `{"venueId":"venue_2"}`, nil, 401, "Access denied to specified venue"},
	} {
		ack := b.Publish(t.Context(), by(c.role), c.kind, []byte(c.payload), c.target, event.Local)
		if ack.Status != c.status {
			t.Errorf("%s %s: %d %s", c.role, c.kind, ack.Status, ack.Body)
			continue
		}
		if c.status != http.StatusOK {
			checkFailure(t, string(ack.Body), c.text, fmt.Sprint(c.status))
			continue
		}
		if field(t, string(ack.Body), "durability") != `"stored"` {
			t.Errorf("ack is %s", ack.Body)
		}
		if got := viewer.want(string(c.kind)); field(t, got, "userId") != `"api"` {
			t.Errorf("got %s", got)
		}
	}
	b.Publish(t.Context(), by(event.Owner), "tpv_message", []byte(`{"messageId":"m"}`), &managers, event.Local)
	manager.want("tpv_message")
	b.quiet(viewer, "tpv_message")

	if ack := b.Publish(t.Context(), auth.Grant{Venue: "venue_2", Role: event.Owner}, "menu_updated", []byte(`{}`), nil, event.Local); ack.Status != 401 {
		t.Errorf("another venue: %s", ack.Body)
	}
	b.journal.set(func() { b.journal.hold = true })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if ack := b.Publish(ctx, by(event.Owner), "menu_updated", []byte(`{}`), nil, event.Local); ack.Status != http.StatusServiceUnavailable {
		t.Errorf("cancelled: %s", ack.Body)
	}
	b.journal.release()
}
