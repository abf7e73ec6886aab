package payments

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

func (v *venue) probes() (n int) {
	for _, e := range v.stored {
		if e.Kind == event.BridgeProbe {
			n++
		}
	}
	return n
}

func TestNeverWritten(t *testing.T) {
	v := open(t)
	v.request("r", "t", marked)
	v.watch(Valid - time.Second)
	v.is("r", Pending, "")
	v.watch(time.Second)
	v.is("r", TimedOut, NeverSent)
}

func TestMissed(t *testing.T) {
	v := open(t)
	v.request("r", "t", "")
	v.book.Missed("r")
	if v.book.Letters(inbox, v.now) != nil {
		t.Error("written by the box that did not have the terminal")
	}
	v.settle()
	v.is("r", Failed, NotConnected)
	v.restart()
	v.is("r", Failed, NotConnected)

	v.request("r2", "t", "")
	v.book.Letters(inbox, v.now)
	v.book.Missed("r2") // not any more
	v.book.Confirmed("r2")
	v.settle(inbox)
	v.is("r2", Sent, "")
}

// TestAutoRelease: a terminal that cannot be asked gets its time once it is back.
func TestAutoRelease(t *testing.T) {
	v := open(t)
	v.request("r", "t", "")
	v.book.Letters(plain, v.now)
	v.watch(Valid)
	v.is("r", Unknown, Overdue)
	v.watch(time.Hour) // away
	v.is("r", Unknown, Overdue)
	v.watch(20*time.Minute-2*time.Second, plain)
	v.is("r", Unknown, Overdue)
	if verdict, _ := v.book.Admit(Request{ID: "r2", Terminal: "t"}); verdict != Occupied {
		t.Error("one in doubt does not hold its terminal")
	}
	v.watch(3*time.Second, plain)
	v.is("r", TimedOut, AutoReleased)
	if got := v.outcomes("r"); !slices.Equal(got, []string{"UNKNOWN", "TIMED_OUT"}) {
		t.Errorf("outcomes %q", got)
	}
	v.restart()
	v.is("r", TimedOut, AutoReleased)
	v.result("r", succeeded)
	v.is("r", Completed, FromTerminal)
	if r, _ := v.book.Get("r"); !r.Late {
		t.Error("not late")
	}
}

// TestProbes: one that can be asked is, until it says what proves something.
func TestProbes(t *testing.T) {
	v := open(t)
	v.request("r", "t", marked)
	v.book.Letters(probing, v.now)
	v.watch(Valid, probing)
	v.settle(probing)
	if n := v.probes(); n != 1 {
		t.Fatalf("%d probes at once", n)
	}
	v.watch(time.Minute, probing)
	if n := v.probes(); n != 3 {
		t.Errorf("%d probes in a minute", n)
	}
	back := probing
	back.Connection = "c2"
	v.settle(back)
	if n := v.probes(); n != 4 {
		t.Errorf("%d probes when it is back", n)
	}
	v.watch(2*time.Hour, back)
	v.is("r", Unknown, Overdue) // silence of this one proves nothing
	if n := v.probes(); n < 40 || n > 60 {
		t.Errorf("%d probes in two hours", n)
	}
	v.watch(22*time.Hour, back)
	v.is("r", TimedOut, TooOld)
}

// TestAppUpdatedInDoubt: the new app never heard of what the old one, which
// remembered no ids, was asked. That says nothing of the card.
func TestAppUpdatedInDoubt(t *testing.T) {
	v := open(t)
	v.request("r", "t", "")
	v.book.Letters(plain, v.now)
	v.result("r", `,"status":"timeout"`)
	updated := probing
	updated.Connection = "c2"
	v.settle(updated)
	if n := v.probes(); n != 1 {
		t.Fatalf("%d probes", n)
	}
	v.store(event.BridgeProbeResult, "r", `{"disposition":"NOT_FOUND"}`)
	v.is("r", Unknown, TerminalTimeout)
	v.restart()
	v.watch(20*time.Minute-time.Second, updated)
	v.is("r", Unknown, TerminalTimeout)
	v.watch(2*time.Second, updated) // as one that cannot be asked
	v.is("r", TimedOut, AutoReleased)
}

func TestRecordedPayment(t *testing.T) {
	pay := func(v *venue, payment, more string) {
		v.store(event.PaymentCompleted, payment, fmt.Sprintf(`{"paymentId":%q%s}`, payment, more))
	}
	const byCard, inCash = `,"orderId":"o","method":"CREDIT_CARD"`, `,"orderId":"o","method":"CASH"`
	t.Run("names its request", func(t *testing.T) {
		for _, before := range []string{"", `,"status":"timeout"`, declined, `,"status":"cancelled"` + proven} {
			v := open(t)
			v.request("r", "t", "")
			v.book.Letters(plain, v.now)
			if before != "" {
				v.result("r", before)
			}
			pay(v, "p1", `,"terminalPaymentRequestId":"r"`)
			v.is("r", Completed, Recorded)
			if r, _ := v.book.Get("r"); r.Payment != "p1" || r.Late != (before != "") {
				t.Errorf("payment %q, late %t", r.Payment, r.Late)
			}
		}
	})
	t.Run("of it by name, before its result", func(t *testing.T) {
		v := open(t)
		v.request("r", "t", "")
		v.book.Letters(plain, v.now)
		pay(v, "p1", `,"terminalPaymentRequestId":"r"`)
		v.result("r", succeeded)
		v.result("r", `,"status":"success","paymentId":"p2"`)
		v.is("r", Completed, Recorded)
		if r, _ := v.book.Get("r"); r.Payment != "p1" || string(r.Result.Raw("cardDetails")) != `{"lastFour":"4242"}` {
			t.Errorf("payment %q, the POS reads %s", r.Payment, r.Result.Bytes())
		}
	})
	t.Run("of it by name, after a result that was wrong", func(t *testing.T) {
		v := open(t)
		v.request("r", "t", "")
		v.book.Letters(plain, v.now)
		v.result("r", `,"status":"timeout","errorMessage":"no answer"`)
		pay(v, "p1", `,"terminalPaymentRequestId":"r"`)
		if r, _ := v.book.Get("r"); r.Status != Completed || r.Result.Raw("errorMessage") != nil {
			t.Errorf("%s, and the POS reads %s", r.Status, r.Result.Bytes())
		}
		v.result("r", succeeded)
		if r, _ := v.book.Get("r"); string(r.Result.Raw("cardDetails")) != `{"lastFour":"4242"}` {
			t.Errorf("the POS reads %s", r.Result.Bytes())
		}
	})
	t.Run("of the same order, in doubt", func(t *testing.T) {
		v := open(t)
		pay(v, "p0", byCard) // before it
		v.request("r", "t", `,"orderId":"o"`)
		v.book.Letters(plain, v.now)
		v.result("r", `,"status":"timeout"`)
		v.is("r", Unknown, TerminalTimeout)
		pay(v, "p1", inCash)
		pay(v, "p4", `,"orderId":"o","metadata":{"method":"CRYPTOCURRENCY","provider":"B4BIT"}`) // contract §3.2
		pay(v, "p2", `,"orderId":"other","method":"CREDIT_CARD"`)
		v.is("r", Unknown, TerminalTimeout)
		pay(v, "p3", byCard)
		v.is("r", Completed, Recorded)
	})
	t.Run("of the same order, before there is doubt", func(t *testing.T) {
		v := open(t)
		v.request("r", "t", `,"orderId":"o"`)
		v.book.Letters(plain, v.now)
		pay(v, "p1", byCard)
		v.is("r", Sent, "")
		v.watch(Valid)
		v.is("r", Completed, Recorded)
	})
	t.Run("of the same order, and declined", func(t *testing.T) {
		v := open(t)
		v.request("r", "t", `,"orderId":"o"`)
		v.book.Letters(plain, v.now)
		v.result("r", declined)
		pay(v, "p1", byCard)
		v.is("r", Failed, FromTerminal)
	})
	t.Run("claimed by another", func(t *testing.T) {
		v := open(t)
		v.request("r1", "t", `,"orderId":"o"`)
		v.request("r2", "u", `,"orderId":"o"`)
		v.book.Letters(plain, v.now)
		v.book.Letters(Terminal{ID: "u"}, v.now)
		v.result("r1", succeeded)
		v.result("r2", `,"status":"timeout"`)
		pay(v, "p1", byCard)
		v.is("r2", Unknown, TerminalTimeout)
	})
	t.Run("claimed by no other in the end", func(t *testing.T) {
		v := open(t)
		v.request("r1", "t", `,"orderId":"o"`)
		v.request("r2", "u", `,"orderId":"o"`)
		v.book.Letters(plain, v.now)
		v.book.Letters(Terminal{ID: "u"}, v.now)
		v.result("r1", `,"status":"timeout"`)
		pay(v, "p2", byCard)
		v.is("r1", Unknown, TerminalTimeout)
		v.result("r2", succeeded) // by p1
		v.watch(20*time.Minute+time.Second, plain)
		v.is("r1", Completed, Recorded)
		if r, _ := v.book.Get("r1"); r.Payment != "p2" {
			t.Errorf("payment %q", r.Payment)
		}
		v.restart()
		v.is("r1", Completed, Recorded)
	})
	// Two terminals have a part of one bill each, and the back-end, which does not
	// say at which one, is heard before the terminal.
	for name, first := range map[string]string{"claimed by another later": "", "claimed by another later, in doubt": `,"status":"timeout"`} {
		t.Run(name, func(t *testing.T) {
			v := open(t)
			v.request("r1", "t", `,"orderId":"o"`)
			v.request("r2", "u", `,"orderId":"o"`)
			v.book.Letters(plain, v.now)
			v.book.Letters(Terminal{ID: "u"}, v.now)
			if first != "" {
				v.result("r1", first)
			}
			pay(v, "p1", byCard)
			v.result("r2", succeeded)
			v.is("r2", Completed, FromTerminal)
			v.watch(Valid)
			if r, _ := v.book.Get("r1"); r.Status != Unknown || r.Payment != "" {
				t.Errorf("r1 is %s by payment %q, which is r2's", r.Status, r.Payment)
			}
		})
	}
}

// TestOutcomeOfOthers: the cloud, or who looked at the terminal, may end it.
func TestOutcomeOfOthers(t *testing.T) {
	v := open(t)
	v.request("r", "t", "")
	v.book.Letters(plain, v.now)
	v.result("r", `,"status":"timeout"`)
	v.store(event.BridgeOutcome, "r", `{"status":"CANCELLED","reason":"LOOKED"}`)
	v.is("r", Cancelled, "LOOKED")
	v.store(event.BridgeOutcome, "r", `{"status":"FAILED"}`)
	v.is("r", Cancelled, "LOOKED")
	v.store(event.BridgeOutcome, "r", `{"status":"UNKNOWN"}`)
	v.store(event.BridgeOutcome, "r", `{"status":"nonsense"}`)
	v.is("r", Cancelled, "LOOKED")
	v.store(event.BridgeOutcome, "r", `{"status":"COMPLETED","paymentId":"p"}`)
	v.is("r", Completed, "")
}

func TestForgets(t *testing.T) {
	v := open(t)
	for i := range maxRequests + 10 {
		id := fmt.Sprint("r", i)
		v.request(id, fmt.Sprint("t", i), "")
		if i > 0 {
			v.result(id, succeeded)
		}
		v.now = v.now.Add(time.Millisecond)
	}
	if n := len(v.book.requests); n != maxRequests {
		t.Errorf("%d requests are kept", n)
	}
	v.is("r0", Pending, "") // in flight: kept, though it is the oldest
	v.now = v.now.Add(3 * Longest)
	v.watch(2 * time.Minute)
	if n := len(v.book.requests); n != 0 {
		t.Errorf("%d requests are kept for ever", n)
	}
}
