package lan_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/boxtest"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/journal"
	"github.com/avoqado/avoqado-edge/internal/lan"
)

// hall is a box on a real journal, with a real dashboard (socket.io-client for
// JavaScript) at the other end of a radio link.
type hall struct {
	*box
	journal *journal.Journal
	wifi    *boxtest.Wifi
	sent    int
	clock   atomic.Int64 // nanoseconds that the box is ahead of the time
}

func open(t *testing.T, change ...func(*lan.Config)) *hall {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "journal")
	if err := journal.Create(dir, journal.Options{}); err != nil {
		t.Fatal(err)
	}
	h := &hall{}
	h.journal, _ = onDisk(t, dir)
	now := func(c *lan.Config) {
		c.Now = func() time.Time { return time.Now().Add(time.Duration(h.clock.Load())) }
	}
	h.box = serve(t, h.journal, h.journal, append(change, now)...)
	h.wifi = boxtest.StartWifi(t, h.Addr().String())
	return h
}

// dashboard starts one; it comes back quickly when it loses its connection.
func (h *hall) dashboard(who auth.Grant) *boxtest.Client {
	h.t.Helper()
	c := boxtest.StartJS(h.t, boxtest.ClientConfig{
		URL: h.wifi.URL(), Token: h.mint(who), Venue: venue,
		Options: map[string]any{"reconnectionDelay": 100, "reconnectionDelayMax": 100, "randomizationFactor": 0},
	})
	if got := c.Expect("connect", patience); got.Recovered {
		h.t.Error("a first connection was recovered")
	}
	c.ExpectAck(0, patience)
	return c
}

// happen stores n updates of orders.
func (h *hall) happen(n int) {
	h.t.Helper()
	for range n {
		h.sent++
		ack := h.Publish(h.t.Context(), auth.Grant{Subject: "api", Venue: venue, Role: event.Owner}, "order_updated",
			fmt.Appendf(nil, `{"orderId":"o%d","venueId":"venue_1","n":%d}`, h.sent, h.sent), nil, event.Local)
		if ack.Status != 200 {
			h.t.Fatalf("publish: %s", ack.Body)
		}
	}
}

// whole checks that a client has heard all that happened, once, in order, and
// nothing of it as a replay.
func (h *hall) whole(c *boxtest.Client) {
	h.t.Helper()
	boxtest.Eventually(h.t, 60*time.Second, "all is heard", func() bool { return len(c.Events("order_updated")) >= h.sent })
	heard := c.Events("order_updated")
	if len(heard) != h.sent {
		h.t.Errorf("heard %d events, want %d", len(heard), h.sent)
	}
	for i, line := range heard {
		var body struct {
			N        int
			Replayed bool
		}
		if err := json.Unmarshal(line.Payload(), &body); err != nil || body.N != i+1 || body.Replayed {
			h.t.Fatalf("event %d is %s", i+1, line.Raw)
		}
	}
	if asked := c.Events("sync_required"); len(asked) > 0 {
		h.t.Errorf("was told %s", asked[0].Raw)
	}
}

func (h *hall) back(c *boxtest.Client) {
	h.t.Helper()
	if !c.Expect("connect", patience).Recovered {
		h.t.Error("was not recovered")
	}
}

var manager = auth.Grant{Subject: "m1", Role: event.Manager}

func TestRecoverAfterABlip(t *testing.T) {
	h := open(t)
	c := h.dashboard(manager)
	h.happen(3)
	h.whole(c)
	h.wifi.Blip()
	c.Expect("disconnect", patience)
	h.happen(20)
	h.back(c)
	h.happen(1)
	h.whole(c)
}

func TestRecoverAfterRST(t *testing.T) {
	h := open(t)
	c := h.dashboard(manager)
	h.happen(1)
	h.whole(c)
	h.wifi.Reset()
	h.happen(5)
	h.back(c)
	h.whole(c)
}

// socket.io #4880: the client is back before the server has noticed that it was
// gone, and again.
func TestRecoverHalfOpenTwice(t *testing.T) {
	h := open(t)
	c := h.dashboard(manager)
	h.happen(1)
	h.whole(c)
	for range 3 {
		h.wifi.Lose()
		c.Expect("disconnect", patience)
		h.happen(7)
		h.back(c)
		h.whole(c)
	}
	until(t, "the dead connections are let go", func() bool { return h.Connections().ConnectionStats.Total == 1 })
}

// socket.io #4888, #5538: nothing was ever sent, so the client has no offset.
func TestRecoverBeforeTheFirstEvent(t *testing.T) {
	h := open(t)
	c := h.dashboard(manager)
	h.wifi.Blip()
	c.Expect("disconnect", patience)
	h.happen(4)
	h.back(c)
	h.whole(c)
}

// socket.io #5282: the last event is long ago.
func TestRecoverAfterHoursOfQuiet(t *testing.T) {
	h := open(t, quick)
	c := h.dashboard(manager)
	h.happen(1)
	h.whole(c)
	h.clock.Store(int64(30 * time.Hour)) // while it is there
	h.Sweep()
	h.happen(1)
	h.whole(c)
	h.wifi.Blip()
	c.Expect("disconnect", patience)
	h.clock.Store(int64(50 * time.Hour)) // while it is away
	h.happen(2)
	h.back(c)
	h.whole(c)
}

// socket.io #5539: the last packet was a volatile one.
func TestRecoverAfterAVolatilePacket(t *testing.T) {
	h := open(t)
	c := h.dashboard(manager)
	h.happen(2)
	h.whole(c)
	terminal := h.connect(auth.Grant{Subject: "w1", Role: event.Waiter}, "AVQD-1")
	terminal.ask("tpv:log", `{"level":"info","tag":"t","message":"m","terminalId":"AVQD-1","venueId":"venue_1"}`)
	c.ExpectEvent("terminal:log", patience)
	h.wifi.Blip()
	c.Expect("disconnect", patience)
	h.happen(2)
	h.back(c)
	h.whole(c)
}

// socket.io #5363: what the client sent and got no answer to it sends again.
func TestRecoverWhatTheClientSent(t *testing.T) {
	h := open(t)
	c := h.dashboard(manager)
	h.wifi.Lose()
	body := map[string]any{"paymentId": "p1", "amount": "1.50", "currency": "MXN", "venueId": venue, "idempotencyKey": "the-only-payment"}
	first := c.Post("payment_initiated", body, patience) // the client keeps it, or it is lost on the way
	h.back(c)
	second := c.Post("payment_initiated", body, patience)
	c.ExpectAck(second, patience)
	_ = first
	if n := h.journal.Stored(); n != 1 {
		t.Errorf("%d payments are stored", n)
	}
	if own := c.Events("payment_initiated"); len(own) > 0 {
		t.Errorf("heard its own: %s", own[0].Raw)
	}
}

// What a session sent itself it does not hear, over all its connections.
func TestRecoverWithoutItsOwn(t *testing.T) {
	h := open(t)
	c := h.dashboard(manager)
	c.EmitAck("order_updated", map[string]any{"orderId": "o1", "venueId": venue, "n": 0}, patience)
	h.wifi.Blip()
	c.Expect("disconnect", patience)
	h.happen(2)
	h.back(c)
	c.EmitAck("order_updated", map[string]any{"orderId": "o1", "venueId": venue, "n": 0}, patience)
	h.wifi.Blip()
	h.happen(2)
	h.back(c)
	h.whole(c)
}

// returns connects with what a client keeps of its session, and returns the pid
// it is answered.
func (b *box) returns(g auth.Grant, pid, offset string) (c *client, answer string) {
	b.t.Helper()
	c = b.dial("", nil)
	auth := map[string]string{"token": b.mint(g)}
	if pid != "" {
		auth["pid"] = pid
	}
	if offset != "" {
		auth["offset"] = offset
	}
	text, _ := json.Marshal(auth)
	c.raw("40" + string(text))
	f := c.take("the answer to CONNECT", func(f string) bool { return strings.HasPrefix(f, "4") })
	var reply struct{ Sid, Pid string }
	if !strings.HasPrefix(f, "40{") || json.Unmarshal([]byte(f[2:]), &reply) != nil || reply.Pid == "" {
		b.t.Fatalf("CONNECT was answered with %q", f)
	}
	return c, reply.Pid
}

func (c *client) wantOffset(name string) string {
	c.t.Helper()
	_, offset := withoutOffset(c.take(name, func(f string) bool { return strings.HasPrefix(f, fmt.Sprintf("42[%q", name)) }))
	return offset
}

// A pid is worth nothing to anybody but its owner, and nothing at all when the
// box cannot keep what it promises; then the client is told so.
func TestNotRecovered(t *testing.T) {
	h := open(t)
	c, pid := h.returns(manager, "", "")
	h.happen(1)
	offset := c.wantOffset("order_updated")
	if got := c.pending("sync_required"); len(got) > 0 {
		t.Errorf("a newcomer was told %s", got)
	}
	h.leave(c)
	for _, tt := range []struct {
		name, pid, offset, reason string
		who                       auth.Grant
	}{
		{"another person", pid, offset, "session_unknown", auth.Grant{Subject: "m2", Role: event.Manager}},
		{"another role", pid, offset, "session_unknown", auth.Grant{Subject: "m1", Role: event.Owner}},
		{"a terminal", pid, offset, "session_unknown", auth.Grant{Subject: "m1", Role: event.Manager, Terminal: "9"}},
		{"a guess", "AAAAAAAAAAAAAAAAAAAAAAAAAA", offset, "session_unknown", manager},
		{"another epoch", pid, "AAAAAAAAAAA.1", "offset_unknown", manager},
		{"the future", pid, strings.TrimSuffix(offset, "1") + "9", "offset_unknown", manager},
		{"nonsense", pid, "nonsense", "offset_unknown", manager},
	} {
		guest, answer := h.returns(tt.who, tt.pid, tt.offset)
		if answer == pid {
			t.Errorf("%s: recovered", tt.name)
		}
		if told := guest.want("sync_required"); field(t, told, "reason") != `"`+tt.reason+`"` {
			t.Errorf("%s: told %s", tt.name, told)
		}
		h.leave(guest)
	}
	c, got := h.returns(manager, pid, offset) // all this did it no harm
	if got != pid {
		t.Error("not recovered")
	}
	h.leave(c)
	h.clock.Store(int64(25 * time.Hour))
	c, got = h.returns(manager, pid, offset)
	if told := c.want("sync_required"); got == pid || field(t, told, "reason") != `"session_unknown"` {
		t.Errorf("after too long: told %s", told)
	}
}

// Two clients with one pid: the last one has it, the other one is cut off, and
// neither has a gap.
func TestRecoverADuplicatedPID(t *testing.T) {
	h := open(t)
	a, pid := h.returns(manager, "", "")
	h.happen(1)
	offset := a.wantOffset("order_updated")
	b, got := h.returns(manager, pid, offset)
	if got != pid {
		t.Error("not recovered")
	}
	until(t, "the first is cut off", a.closed)
	h.happen(1)
	if heard := b.want("order_updated"); field(t, heard, "n") != "2" {
		t.Errorf("the second heard %s", heard)
	}
	c, got := h.returns(manager, pid, offset)
	if got != pid {
		t.Error("not recovered")
	}
	if got := c.want("order_updated"); field(t, got, "n") != "2" {
		t.Errorf("the third heard %s", got)
	}
	until(t, "the second is cut off", b.closed)
}

// Rooms come back with the session.
func TestRecoverRooms(t *testing.T) {
	h := open(t)
	c, pid := h.returns(manager, "", "")
	c.ask("join_room", `{"roomType":"table","venueId":"venue_1","tableId":"t1"}`)
	c.ask("join_room", `{"roomType":"table","venueId":"venue_1","tableId":"t2"}`)
	c.ask("leave_room", `{"roomType":"table","venueId":"venue_1","tableId":"t2"}`)
	h.leave(c)
	tell := func(table string) {
		h.Publish(t.Context(), auth.Grant{Subject: "api", Venue: venue, Role: event.Owner}, "order_updated",
			fmt.Appendf(nil, `{"orderId":"o","venueId":"venue_1","table":%q}`, table), &event.Audience{Tables: []string{table}}, event.Local)
	}
	tell("t1")
	tell("t2")
	c, got := h.returns(manager, pid, "")
	if got != pid {
		t.Error("not recovered")
	}
	if got := c.want("order_updated"); field(t, got, "table") != `"t1"` {
		t.Errorf("heard %s", got)
	}
	until(t, "all is shown", func() bool { return h.Stats().Shown == h.journal.Stored() })
	c.ask("authenticate", "{}")
	tell("t2")
	tell("t1")
	if got := c.want("order_updated"); field(t, got, "table") != `"t1"` {
		t.Errorf("heard %s", got)
	}
}

// TestSpeaksAtOnce sends behind the CONNECT without waiting for its answer, as
// a client may that was answered and is quicker than the library.
func TestSpeaksAtOnce(t *testing.T) {
	b := start(t)
	for range 30 {
		c := b.dial("", nil)
		c.raw(`40{"token":"` + b.mint(manager) + `"}`)
		c.answer(c.post("authenticate", "{}"))
		b.leave(c)
	}
}

// TestRecoverAcrossAHole loses events on disk while a client is away and while
// another is there: both are told.
func TestRecoverAcrossAHole(t *testing.T) {
	b := start(t)
	c, pid := b.returns(manager, "", "")
	b.journal.append(alert(1, event.Audience{}))
	offset := c.wantOffset("system_alert")
	b.leave(c)
	witness := b.as(event.Owner)
	for n := range 5 {
		b.journal.append(alert(n+2, event.Audience{}))
	}
	until(t, "all is shown", func() bool { return b.Stats().Shown == 6 })
	b.journal.set(func() { b.journal.lost = [2]event.Seq{3, 4} })
	c, got := b.returns(manager, pid, offset)
	if got != pid {
		t.Error("not recovered, though it begins well")
	}
	for _, n := range []string{"2", "5", "6"} {
		if heard := c.want("system_alert"); field(t, heard, "n") != n {
			t.Errorf("heard %s, want %s", heard, n)
		}
	}
	if told := c.want("sync_required"); field(t, told, "from") != "3" || field(t, told, "through") != "4" {
		t.Errorf("told %s", told)
	}
	b.leave(c)

	b.journal.set(func() { b.journal.lost = [2]event.Seq{7, 7} })
	b.journal.append(alert(7, event.Audience{}))
	b.journal.append(alert(8, event.Audience{}))
	if told := witness.want("sync_required"); field(t, told, "from") != "7" || field(t, told, "through") != "7" {
		t.Errorf("told %s", told)
	}

	b.journal.set(func() { b.journal.lost = [2]event.Seq{1, 5} })
	c, got = b.returns(manager, pid, offset)
	if told := c.want("sync_required"); got == pid || field(t, told, "reason") != `"events_trimmed"` {
		t.Errorf("told %s", told)
	}
}
