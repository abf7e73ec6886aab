package lan_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/lan"
)

const (
	charged  = `,"status":"success","paymentId":"p1","transactionId":null,"cardDetails":{"lastFour":"4242"},"completedAt":"2026-08-01T00:00:00.000Z"`
	declined = `,"status":"failed","errorMessage":"Fondos insuficientes","outcomeEvidence":"PROCESSOR_DECLINED"`
	unproven = `,"status":"cancelled"`
	noIdea   = `,"status":"timeout"`
)

// TestCharge is a payment as it should be, with each generation of the app.
func TestCharge(t *testing.T) {
	for name, app := range map[string]string{"plain": appPlain, "inbox": appInbox, "probe": appProbe} {
		t.Run(name, func(t *testing.T) {
			b := start(t)
			reader, other, p := b.reader(serial, app), b.reader("77", app), b.pos()
			screen := b.as(event.Waiter)
			answers := p.charge("r1", "AVQD-"+serial, `,"rating":5,"orderId":"o1","customerId":"c1"`)
			var got string
			if app == appPlain {
				got = reader.want("terminal:payment_request")
			} else {
				got = reader.accepts("r1")
			}
			want := `{"requestId":"r1","terminalId":"AVQD-` + serial + `","amountCents":10000,"tipCents":1500,"rating":5,"skipReview":true,` +
				`"orderId":"o1","senderDeviceName":"Caja 1","processedByStaffId":"cashier_1","venueId":"venue_1","timestamp":"`
			if !strings.HasPrefix(got, want) || strings.Count(got, ":") != strings.Count(want, ":")+2 {
				t.Errorf("the terminal reads %s", got)
			}
			p.reaches("r1", "SENT")
			p.want(p.get("/terminals/online"), http.StatusOK, "success", "true")
			if list := p.get("/terminals/online").body; !strings.Contains(list, `"terminalId":"`+serial+`","name":"Terminal `+serial+`","isOnline":true,"hasSocket":true,"busy":true,"lastHeartbeat":"`) {
				t.Errorf("online: %s", list)
			}
			if ack := other.askFor("terminal:payment_result", "r1", charged); ack != `{"success":false,"error":"Terminal socket not registered for venue"}` {
				t.Errorf("another terminal may say what came of it: %s", ack)
			}
			reader.result("r1", charged)
			a := p.wait(answers)
			p.want(a, http.StatusOK, "success", "true", "requestId", `"r1"`, "status", `"success"`, "paymentId", `"p1"`,
				"cardDetails", `{"lastFour":"4242"}`, "completedAt", `"2026-08-01T00:00:00.000Z"`, "transactionId", "", "code", "")
			again := p.wait(p.charge("r1", serial))
			if again.status != a.status || again.body != a.body {
				t.Errorf("again: %d %s", again.status, again.body)
			}
			p.want(p.get("/terminal-payment/r1"), http.StatusOK, "success", "true", "inProgress", "false", "requestId", `"r1"`,
				"venueId", `"venue_1"`, "terminalId", `"`+serial+`"`, "status", `"COMPLETED"`, "amount", "100", "tip", "15",
				"orderId", `"o1"`, "paymentId", `"p1"`, "senderDevice", `"Caja 1"`, "lateResult", "false")
			outcome := screen.want("terminal:payment_outcome")
			if field(t, outcome, "requestId") != `"r1"` || field(t, outcome, "status") != `"COMPLETED"` || field(t, outcome, "paymentId") != `"p1"` {
				t.Errorf("outcome %s", outcome)
			}
			b.quiet(reader)
			if n := reader.questions() + other.questions(); n != 0 {
				t.Errorf("%d more requests", n)
			}
			if got := kinds(b.journal)[:3]; !slices.Equal(got, []string{"request", "result", "outcome COMPLETED TERMINAL_REPORTED"}) {
				t.Errorf("stored: %q", got)
			}
		})
	}
}

// TestChargeFails: what does not end in a charge, or may have.
func TestChargeFails(t *testing.T) {
	b := start(t)
	reader, p := b.reader(serial, appInbox), b.pos()
	for i, c := range []struct {
		result  string
		status  int
		members []string
		state   string
	}{
		{declined, 422, []string{"status", `"failed"`, "errorMessage", `"Fondos insuficientes"`}, "FAILED"},
		{`,"status":"cancelled","outcomeEvidence":"PRE_AUTHORIZATION"`, 409, []string{"status", `"cancelled"`, "errorMessage", `"Cancelado"`}, "CANCELLED"},
		{unproven, 504, []string{"status", `"timeout"`, "code", `"NO_EVIDENCE"`}, "UNKNOWN"},
	} {
		id := fmt.Sprint("r", i)
		answers := p.charge(id, serial)
		reader.accepts(id)
		reader.result(id, c.result)
		a := p.wait(answers)
		p.want(a, c.status, append(c.members, "success", "false", "requestId", `"`+id+`"`)...)
		if c.state != p.state(id) {
			t.Errorf("%s is %s", id, p.state(id))
		}
		p.want(p.wait(p.charge(id, serial)), c.status, c.members...)
	}
	// In doubt, it holds the terminal.
	p.want(p.wait(p.charge("next", serial)), 409, "code", `"TERMINAL_BUSY"`, "status", `"failed"`)
}

func TestChargeRefused(t *testing.T) {
	b := start(t)
	reader, p := b.reader(serial, appPlain), b.pos()
	b.Heartbeat(&auth.Grant{Subject: "s", Venue: venue, Role: event.Waiter, Terminal: "88"}, []byte(`{"terminalId":"88"}`))
	b.journal.append(event.Event{Kind: event.OrderUpdated, Subject: "paid", Payload: []byte(`{"orderId":"paid","paymentStatus":"PAID"}`)})
	bad := func(body, text string) {
		t.Helper()
		p.want(p.post("/terminal-payment", body), 400, "success", "false", "message", fmt.Sprintf("%q", text))
	}
	const needs = "terminalId y amountCents son requeridos"
	bad(`x`, needs)
	bad(`{"amountCents":1}`, needs)
	bad(`{"terminalId":"1"}`, needs)
	for _, amount := range []string{"0", "-1", "1.5", `"100"`, "1e3", "100000001", "99999999999999999999", "true"} {
		bad(`{"terminalId":"1","amountCents":`+amount+`}`, "El monto debe ser un entero entre 1 y 100000000 centavos")
	}
	bad(`{"terminalId":"1","amountCents":1,"tipCents":-1}`, "La propina debe ser un entero entre 0 y 100000000 centavos")
	bad(`{"terminalId":"1","amountCents":1,"rating":6}`, "La calificación debe ser un entero entre 1 y 5")
	bad(`{"terminalId":"1","amountCents":1,"skipReview":1}`, "skipReview debe ser booleano")
	bad(`{"terminalId":"1","amountCents":1,"requestId":7}`, "requestId debe ser un texto")
	bad(`{"terminalId":"1","amountCents":1,"requestId":"`+strings.Repeat("x", 200)+`"}`, "requestId es demasiado largo")

	p.want(p.wait(p.charge("r1", "99")), 404, "success", "false", "message", `"La terminal 99 no está conectada"`)
	p.want(p.wait(p.charge("r1", "88")), 422, "success", "false")
	p.want(p.wait(p.charge("r1", serial, `,"orderId":"paid"`)), 409, "code", `"ORDER_ALREADY_PAID"`, "status", `"failed"`)
	p.want(p.get("/terminal-payment/r1"), 404, "status", `"NOT_FOUND"`) // so the same id may be sent again

	answers := p.charge("r1", serial)
	reader.want("terminal:payment_request")
	a := p.wait(p.charge("r2", serial))
	p.want(a, 409, "success", "false", "code", `"TERMINAL_BUSY"`, "status", `"failed"`)
	if blocking := field(t, a.body, "blockingRequest"); !strings.HasPrefix(blocking, `{"requestId":"r1","amountCents":10000,"senderDevice":"Caja 1","ageSeconds":`) {
		t.Errorf("blocked by %s", blocking)
	}
	p.want(p.wait(p.charge("r1", serial)), 409, "code", `"TERMINAL_BUSY"`) // the same, in flight
	p.want(p.post("/terminal-payment", `{"requestId":"r1","terminalId":"`+serial+`","amountCents":1}`), 409, "code", `"REQUEST_ID_REUSED"`)
	p.want(p.get("/terminal-payment/r2"), 404)
	reader.result("r1", charged)
	p.want(p.wait(answers), 200)

	elsewhere := *p
	elsewhere.url = strings.Replace(p.url, venue, "venue_2", 1)
	elsewhere.want(elsewhere.wait(elsewhere.charge("r3", serial)), 403, "success", "false", "message", `"La terminal no pertenece a este establecimiento"`)
	for role, status := range map[event.Role]int{event.Kitchen: 403, event.Viewer: 403, event.Host: 403, event.Owner: 404, event.Waiter: 404} {
		p.token = b.mint(auth.Grant{Subject: "x", Role: role})
		p.want(p.wait(p.charge("r4", "99")), status)
	}
	p.token = ""
	p.want(p.wait(p.charge("r5", serial)), 401)
	if n := reader.questions(); n != 0 {
		t.Errorf("%d requests after a refusal", n)
	}
}

// TestChargeAck: what a terminal with an inbox does not confirm is in doubt.
func TestChargeAck(t *testing.T) {
	for name, c := range map[string]struct{ answer, code string }{
		"silence":   {"", "ACK_TIMEOUT"},
		"no":        {`[{"accepted":false,"requestId":"r1"}]`, "ACK_REJECTED"},
		"another":   {`[{"accepted":true,"requestId":"r2"}]`, "ACK_REJECTED"},
		"nothing":   {`[]`, "ACK_REJECTED"},
		"no object": {`["yes"]`, "ACK_REJECTED"},
		"other id":  {"9", "ACK_TIMEOUT"}, // of a question nobody asked
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t, func(cfg *lan.Config) {
				if cfg.Waits.Ack = time.Minute; c.code == "ACK_TIMEOUT" {
					cfg.Waits.Ack = 100 * time.Millisecond
				}
			})
			reader, p := b.reader(serial, appInbox), b.pos()
			answers := p.charge("r1", serial)
			id, _ := reader.asked("terminal:payment_request")
			switch c.answer {
			case "":
			case "9":
				reader.raw(`43999[{"accepted":true,"requestId":"r1"}]`)
			default:
				reader.raw("43" + id + c.answer)
			}
			a := p.wait(answers)
			p.want(a, 504, "success", "false", "status", `"timeout"`, "code", fmt.Sprintf("%q", c.code))
			p.want(p.get("/terminal-payment/r1"), 200, "status", `"UNKNOWN"`, "inProgress", "false")
			reader.result("r1", charged) // it had it after all
			p.reaches("r1", "COMPLETED")
			p.want(p.get("/terminal-payment/r1"), 200, "lateResult", "true")
			p.want(p.wait(p.charge("r1", serial)), 200, "paymentId", `"p1"`)
			if n := reader.questions(); n != 0 {
				t.Errorf("%d more requests", n)
			}
		})
	}
}

// TestChargeReconnect: the terminal's connection breaks behind the request.
func TestChargeReconnect(t *testing.T) {
	for name, c := range map[string]struct {
		app, then string
		again     bool
	}{
		"plain": {appPlain, appPlain, false}, "plain, updated": {appPlain, appProbe, false},
		"inbox": {appInbox, appInbox, true}, "probe": {appProbe, appProbe, true}, "inbox, gone": {appInbox, appPlain, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t)
			reader, p := b.reader(serial, c.app), b.pos()
			answers := p.charge("r1", serial)
			until(t, "it is written", func() bool { return reader.questions() == 1 })
			b.away(reader)
			reader = b.reader(serial, c.then)
			if c.again {
				reader.accepts("r1")
			}
			b.quiet(reader)
			if n := reader.questions(); n != 0 {
				t.Errorf("written again: %d", n)
			}
			reader.result("r1", charged)
			p.want(p.wait(answers), 200, "paymentId", `"p1"`)
		})
	}
}

// TestChargeCancel: the POS thinks better of it.
func TestChargeCancel(t *testing.T) {
	b := start(t)
	reader, p := b.reader(serial, appProbe), b.pos()
	cancel := func(more string) answer {
		return p.post("/terminal-payment/cancel", `{"terminalId":"AVQD-`+serial+`"`+more+`}`)
	}
	p.want(p.post("/terminal-payment/cancel", `{}`), 400, "message", `"terminalId is required"`)
	p.want(p.post("/terminal-payment/cancel", `{"terminalId":"99"}`), 200, "success", "false", "message", `"Terminal no conectada"`)

	answers := p.charge("r1", serial)
	reader.accepts("r1")
	p.want(cancel(`,"requestId":"r1"`), 200, "success", "true", "message", `"Cancelación enviada a la terminal"`)
	got := reader.want("terminal:payment_cancel")
	if field(t, got, "requestId") != `"r1"` || field(t, got, "reason") != `"Cancelado por el usuario"` || field(t, got, "terminalId") != `"AVQD-`+serial+`"` {
		t.Errorf("cancel: %s", got)
	}
	p.want(p.get("/terminal-payment/r1"), 200, "status", `"CANCEL_REQUESTED"`, "inProgress", "true")
	if ack := reader.askFor("terminal:payment_cancel_disposition", "r1", `,"disposition":"ACCEPTED"`); ack != `{"success":true}` {
		t.Errorf("disposition: %s", ack)
	}
	reader.result("r1", `,"status":"cancelled","outcomeEvidence":"PRE_AUTHORIZATION"`)
	p.want(p.wait(answers), 409, "status", `"cancelled"`)
	p.want(cancel(`,"requestId":"r1"`), 200, "success", "false")

	// It has charged already, and says so.
	answers = p.charge("r2", serial)
	reader.accepts("r2")
	p.want(cancel(`,"reason":"Mesa equivocada"`), 200, "success", "true")
	if got := reader.want("terminal:payment_cancel"); field(t, got, "requestId") != `"r2"` || field(t, got, "reason") != `"Mesa equivocada"` {
		t.Errorf("cancel: %s", got)
	}
	reader.result("r2", charged)
	p.want(p.wait(answers), 200)

	// It is away: told when it is back, and not asked to charge.
	p.charge("r3", serial)
	reader.accepts("r3")
	p.reaches("r3", "SENT")
	b.away(reader)
	p.want(cancel(`,"requestId":"r3"`), 200, "success", "false", "message", `"Terminal no conectada; se le avisará cuando regrese"`)
	reader = b.reader(serial, appProbe)
	if got := reader.want("terminal:payment_cancel"); field(t, got, "requestId") != `"r3"` {
		t.Errorf("cancel: %s", got)
	}
	b.quiet(reader, "terminal:payment_cancel")
	if n := reader.questions(); n != 0 {
		t.Errorf("%d requests", n)
	}
	// What the box does not know may be the cloud's.
	p.want(cancel(`,"requestId":"of-the-cloud"`), 200, "success", "true")
	if got := reader.want("terminal:payment_cancel"); field(t, got, "requestId") != `"of-the-cloud"` {
		t.Errorf("cancel: %s", got)
	}
}

// TestChargeRestart lets the box die at each cut, and looks at what the terminal
// and the POS hear of it afterwards.
func TestChargeRestart(t *testing.T) {
	type cut struct {
		name  string
		reach func(b *box, reader *client, p *pos)
		again bool // the request is written once more, to an inbox
	}
	for _, app := range []string{appPlain, appInbox} {
		confirm := func(c *client) {
			if app == appInbox {
				c.accepts("r1")
			} else {
				c.want("terminal:payment_request")
			}
		}
		for _, c := range []cut{
			{"written, not confirmed", func(b *box, reader *client, p *pos) {
				p.charge("r1", serial)
				until(b.t, "it is written", func() bool { return reader.questions() == 1 })
			}, true},
			{"confirmed", func(_ *box, reader *client, p *pos) {
				p.charge("r1", serial)
				confirm(reader)
				p.reaches("r1", "SENT")
			}, true},
			{"result stored, not told", func(_ *box, reader *client, p *pos) {
				p.charge("r1", serial)
				confirm(reader)
				reader.result("r1", charged)
			}, false},
			{"told", func(_ *box, reader *client, p *pos) {
				answers := p.charge("r1", serial)
				confirm(reader)
				reader.result("r1", charged)
				p.want(p.wait(answers), 200)
			}, false},
		} {
			t.Run(fmt.Sprint(c.name, app), func(t *testing.T) {
				j, state := newMemory(), &notes{}
				b := startWith(t, j, state)
				c.reach(b, b.reader(serial, app), b.pos())
				b.stop()
				b = startWith(t, j, state)
				p, reader := b.pos(), b.reader(serial, app)
				if c.again {
					p.want(p.wait(p.charge("r1", serial)), 409, "code", `"TERMINAL_BUSY"`)
					if app == appInbox {
						reader.accepts("r1")
					}
					p.reaches("r1", "SENT")
					reader.result("r1", charged)
					p.reaches("r1", "COMPLETED")
				}
				p.want(p.wait(p.charge("r1", serial)), 200, "paymentId", `"p1"`)
				b.quiet(reader)
				if n := reader.questions(); n != 0 {
					t.Errorf("written again: %d", n)
				}
			})
		}
	}
}

// TestChargeStoredOnly: the box died between the disk and the socket.
func TestChargeStoredOnly(t *testing.T) {
	for app, writes := range map[string]int{appPlain: 0, appInbox: 1} {
		j := newMemory()
		j.append(event.Event{
			Kind: event.BridgeRequest, Origin: event.Local, Subject: "r1", Audience: event.Audience{Terminals: []string{serial}},
			Payload: []byte(`{"requestId":"r1","terminalId":"` + serial + `","amountCents":10000,"tipCents":1500` + app + `}`),
		})
		var now clock
		b := startWith(t, j, &notes{}, now.set)
		p, reader := b.pos(), b.reader(serial, app)
		p.want(p.wait(p.charge("r1", serial)), 409, "code", `"TERMINAL_BUSY"`)
		b.quiet(reader)
		until(t, "it is written, or not", func() bool { return reader.questions() == writes })
		if app == appInbox {
			continue
		}
		now.pass(6 * time.Minute)
		p.reaches("r1", "UNKNOWN")
		now.pass(19 * time.Minute)
		if got := p.state("r1"); got != "UNKNOWN" {
			t.Errorf("is %s", got)
		}
		now.pass(2 * time.Minute)
		// The time counts from the box's next look at one in doubt, and on a slow
		// machine the clock was ahead before that came.
		passed := time.Now()
		until(t, "it is released", func() bool {
			if time.Since(passed) > 3*time.Second {
				now.pass(20 * time.Minute)
				passed = time.Now()
			}
			return p.state("r1") == "TIMED_OUT"
		})
		p.want(p.wait(p.charge("r1", serial)), 504, "code", `"AUTO_RELEASED"`)
		p.charge("r2", serial)
		reader.want("terminal:payment_request")
	}
}

// TestChargeProbe: one in doubt is asked about until there is an answer.
func TestChargeProbe(t *testing.T) {
	for name, c := range map[string]struct{ said, state string }{
		"charged":   {`,"disposition":"RESOLVED","finalResult":{"requestId":"r1"` + charged + `}`, "COMPLETED"},
		"cancelled": {`,"disposition":"RECEIVED_CANCELLED"`, "CANCELLED"},
		"never got": {`,"disposition":"NOT_FOUND"`, "FAILED"},
		"works":     {`,"disposition":"ACTIVE"`, "UNKNOWN"},
	} {
		t.Run(name, func(t *testing.T) {
			var now clock
			b := start(t, now.set)
			reader, p := b.reader(serial, appProbe), b.pos()
			answers := p.charge("r1", serial)
			reader.accepts("r1")
			reader.result("r1", noIdea)
			p.want(p.wait(answers), 504, "code", `"TERMINAL_TIMEOUT"`)
			probe := reader.want("terminal:payment_probe")
			if !strings.HasPrefix(probe, `{"requestId":"r1","terminalId":"`+serial+`","venueId":"venue_1","amountCents":10000,"tipCents":1500,"timestamp":"`) {
				t.Errorf("probe %s", probe)
			}
			now.pass(31 * time.Second)
			reader.want("terminal:payment_probe")
			b.away(reader)
			reader = b.reader(serial, appProbe)
			reader.want("terminal:payment_probe")
			if ack := reader.askFor("terminal:payment_probe_result", "r1", c.said); ack != `{"success":true}` {
				t.Errorf("answered with %s", ack)
			}
			p.reaches("r1", c.state)
			if c.state == "COMPLETED" {
				p.want(p.wait(p.charge("r1", serial)), 200, "paymentId", `"p1"`)
			}
		})
	}
}

// TestChargeRecorded: the payment itself comes by another way.
func TestChargeRecorded(t *testing.T) {
	b := start(t)
	reader, p := b.reader(serial, appPlain), b.pos()
	answers := p.charge("r1", serial, `,"orderId":"o1"`)
	reader.want("terminal:payment_request")
	b.journal.append(event.Event{
		Kind: event.PaymentCompleted, Subject: "p9",
		Payload: []byte(`{"paymentId":"p9","orderId":"o1","amount":"100.00","terminalPaymentRequestId":"r1"}`),
	})
	p.want(p.wait(answers), 200, "paymentId", `"p9"`, "status", `"success"`)
	reader.result("r1", declined) // too late
	p.want(p.wait(p.charge("r1", serial)), 200, "paymentId", `"p9"`)
}

// TestChargeFromCloud: what the cloud asks for takes its turn, and is told.
func TestChargeFromCloud(t *testing.T) {
	b := start(t)
	reader, p := b.reader(serial, appInbox), b.pos()
	cloud := func(id string) {
		b.journal.append(event.Event{
			Kind: event.BridgeRequest, Subject: id, Audience: event.Audience{Terminals: []string{"AVQD-" + serial}},
			Payload: []byte(`{ "requestId":"` + id + `","terminalId":"AVQD-` + serial + `","amountCents":500,"attemptLinkVersion":1}`),
		})
	}
	cloud("c1")
	if got := reader.accepts("c1"); got != `{ "requestId":"c1","terminalId":"AVQD-`+serial+`","amountCents":500,"attemptLinkVersion":1}` {
		t.Errorf("the terminal reads %s", got)
	}
	a := p.wait(p.charge("r1", serial))
	p.want(a, 409, "code", `"TERMINAL_BUSY"`)
	if !strings.Contains(a.body, `"blockingRequest":{"requestId":"c1","amountCents":500,"ageSeconds":`) {
		t.Errorf("blocked: %s", a.body)
	}
	cloud("c1") // the broker says it twice
	reader.result("c1", charged)
	p.reaches("c1", "COMPLETED")

	p.charge("r1", serial)
	reader.accepts("r1")
	cloud("c2")
	p.reaches("c2", "FAILED")
	until(t, "the cloud is told", func() bool { return slices.Contains(kinds(b.journal), "outcome FAILED TERMINAL_BUSY") })
	reader.result("r1", charged)
	p.reaches("r1", "COMPLETED")

	// Its terminal is elsewhere: the cloud is told at once, and it is not asked later.
	b.away(reader)
	cloud("c3")
	p.reaches("c3", "FAILED")
	p.want(p.wait(p.charge("c3", serial, `,"amountCents":500,"tipCents":0`)), 422, "code", `"TERMINAL_NOT_CONNECTED"`)
	reader = b.reader(serial, appInbox)
	b.quiet(reader)
	if n := reader.questions(); n != 0 {
		t.Errorf("%d requests", n)
	}
}

// TestChargeTwoPOS has many ask for one terminal at once, again and again.
func TestChargeTwoPOS(t *testing.T) {
	b := start(t)
	reader, p := b.reader(serial, appInbox), b.pos()
	for round := range 5 {
		var group sync.WaitGroup
		answers := make(chan answer, 16)
		for n := range 8 {
			group.Go(func() { answers <- <-p.charge(fmt.Sprintf("r%d-%d", round, n/2), serial) }) // each id twice
		}
		id, payload := reader.asked("terminal:payment_request")
		request := strings.Trim(field(t, payload, "requestId"), `"`)
		reader.raw(fmt.Sprintf(`43%s[{"accepted":true,"requestId":%q}]`, id, request))
		until(t, "all others were refused", func() bool { return len(answers) == 7 })
		reader.result(request, charged)
		group.Wait()
		close(answers)
		good := 0
		for a := range answers {
			switch a.status {
			case 200:
				good++
			case 409:
			default:
				t.Errorf("answer %d %s %v", a.status, a.body, a.err)
			}
		}
		if good != 1 || reader.questions() != 0 {
			t.Errorf("%d of 8 were charged, %d more requests", good, reader.questions())
		}
	}
}

// TestChargeHangUp: the POS goes, the payment goes on.
func TestChargeHangUp(t *testing.T) {
	b := start(t)
	reader, p := b.reader(serial, appPlain), b.pos()
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan answer, 1)
	go func() {
		gone <- p.ask(ctx, "POST", "/terminal-payment", `{"requestId":"r1","terminalId":"`+serial+`","amountCents":10000,"tipCents":1500}`)
	}()
	reader.want("terminal:payment_request")
	cancel()
	if a := <-gone; a.err == nil {
		t.Fatalf("answered %d", a.status)
	}
	p.want(p.get("/terminal-payment/r1"), 200, "status", `"SENT"`, "inProgress", "true")
	reader.result("r1", charged)
	p.reaches("r1", "COMPLETED")
	p.want(p.wait(p.charge("r1", serial)), 200)
}

// TestChargeWait: a card takes longer than the body of a request may, and the
// end of the wait is not the end of the payment.
func TestChargeWait(t *testing.T) {
	b := start(t, func(c *lan.Config) { c.BodyTimeout, c.Waits.Charge = 50*time.Millisecond, 500*time.Millisecond })
	reader, p := b.reader(serial, appPlain), b.pos()
	began := time.Now()
	a := p.wait(p.charge("r1", serial))
	p.want(a, 504, "success", "false", "status", `"timeout"`)
	if took := time.Since(began); took < 500*time.Millisecond {
		t.Errorf("answered after %s", took)
	}
	p.want(p.get("/terminal-payment/r1"), 200, "inProgress", "true")
	reader.result("r1", charged)
	p.reaches("r1", "COMPLETED")
}

// TestChargeClosing: who waits is told that it is not known, and at once.
func TestChargeClosing(t *testing.T) {
	b := start(t)
	reader, p := b.reader(serial, appPlain), b.pos()
	answers := p.charge("r1", serial)
	reader.want("terminal:payment_request")
	b.stop()
	p.want(p.wait(answers), 504, "status", `"timeout"`)
}

// TestChargeNotStored: what is not on disk is not written to a socket.
func TestChargeNotStored(t *testing.T) {
	b := start(t)
	reader, p := b.reader(serial, appPlain), b.pos()
	b.journal.set(func() { b.journal.refuse = errBroken })
	p.want(p.wait(p.charge("r1", serial)), 503, "code", `"not_stored"`, "retryable", "true")
	p.want(p.post("/terminal-payment/cancel", `{"terminalId":"`+serial+`","requestId":"r1"}`), 503)
	p.want(p.get("/terminal-payment/r1"), 404, "status", `"NOT_FOUND"`)
	b.journal.set(func() { b.journal.refuse = nil })
	b.quiet(reader, "terminal:payment_request", "terminal:payment_cancel")

	b.journal.set(func() { b.journal.hold = true })
	answers := p.charge("r1", serial)
	until(t, "it is being stored", func() bool { return p.state("r1") != "404 <nil>" })
	b.journal.release()
	reader.want("terminal:payment_request")
	reader.result("r1", charged)
	p.want(p.wait(answers), 200)
}

// TestChargeLongAgo: an id that only the journal remembers is not charged again.
func TestChargeLongAgo(t *testing.T) {
	j, state := newMemory(), &notes{}
	var now clock
	b := startWith(t, j, state, now.set)
	reader, p := b.reader(serial, appPlain), b.pos()
	answers := p.charge("r1", serial)
	reader.want("terminal:payment_request")
	reader.result("r1", charged)
	p.want(p.wait(answers), 200)
	b.stop()
	now.pass(49 * time.Hour)
	j.append(event.Event{Kind: "venue_update", Payload: []byte(`{}`), Time: now.now()})
	b = startWith(t, j, state, now.set)
	reader, p = b.reader(serial, appPlain), b.pos()
	p.want(p.get("/terminal-payment/r1"), 404)
	p.want(p.wait(p.charge("r1", serial)), 504, "code", `"TOO_OLD"`, "status", `"timeout"`)
	p.want(p.wait(p.charge("r1", serial, `,"amountCents":7`)), 409, "code", `"REQUEST_ID_REUSED"`)
	p.charge("r2", serial)
	if got := reader.want("terminal:payment_request"); field(t, got, "requestId") != `"r2"` {
		t.Errorf("charged %s", got)
	}
}

func TestPrintReceipt(t *testing.T) {
	b := start(t, func(c *lan.Config) { c.Waits.Print = 3 * time.Second })
	reader, p := b.reader(serial, appPlain), b.pos()
	b.Heartbeat(&auth.Grant{Subject: "s", Venue: venue, Role: event.Waiter, Terminal: "88"}, []byte(`{"terminalId":"88"}`))
	printed := func(terminal, body string) <-chan answer {
		answers := make(chan answer, 1)
		go func() { answers <- p.post("/terminals/"+terminal+"/print-receipt", body) }()
		return answers
	}
	const receipt = `{"requestId":"x","receipt":{"total":1.50}}`
	for i, c := range []struct {
		result  string
		status  int
		members []string
	}{
		{`,"status":"success"`, 200, []string{"success", "true", "requestId", `"x"`, "status", `"success"`}},
		{`,"status":"failed","errorMessage":"Sin papel"`, 422, []string{"success", "false", "status", `"failed"`, "errorMessage", `"Sin papel"`}},
		{"", 504, []string{"success", "false", "status", `"timeout"`}},
	} {
		answers := printed("AVQD-"+serial, receipt)
		if got := reader.want("terminal:print_receipt_request"); field(t, got, "receipt") != `{"total":1.50}` || field(t, got, "requestId") != `"x"` {
			t.Errorf("%d: the terminal reads %s", i, got)
		}
		if c.result != "" {
			reader.askFor("terminal:print_receipt_result", "x", c.result)
		}
		p.want(p.wait(answers), c.status, c.members...)
	}
	p.want(p.wait(printed(serial, `{}`)), 400, "message", `"terminalId y receipt son requeridos"`)
	p.want(p.wait(printed("99", receipt)), 404, "message", `"La terminal 99 no está conectada"`)
	p.want(p.wait(printed("88", receipt)), 422)
	p.url = strings.Replace(p.url, venue, "venue_2", 1)
	p.want(p.wait(printed(serial, receipt)), 403)
}
