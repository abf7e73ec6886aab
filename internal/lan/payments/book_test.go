package payments

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// tester is what a test and a property have in common.
type tester interface {
	Helper()
	Errorf(format string, args ...any)
}

// venue is a book with the journal it is folded from and a clock.
type venue struct {
	t      tester
	book   *Book
	now    time.Time
	stored []event.Event
}

func same(a, b string) bool { return strings.TrimPrefix(a, "cuid-") == strings.TrimPrefix(b, "cuid-") }

func open(t tester) *venue {
	return &venue{t: t, book: New(same), now: time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)}
}

// store appends an event and shows it to the book.
func (v *venue) store(kind event.Kind, subject, payload string, terminal ...string) {
	e := event.Event{
		Seq: event.Seq(len(v.stored) + 1), Kind: kind, Subject: subject, Time: v.now, Origin: event.Local,
		Audience: event.Audience{Terminals: terminal}, Payload: []byte(payload),
	}
	v.stored = append(v.stored, e)
	v.book.Apply(&e, true)
}

func (v *venue) request(id, terminal, more string) {
	v.store(event.BridgeRequest, id, fmt.Sprintf(`{"requestId":%q,"amountCents":10000,"tipCents":1500%s}`, id, more), terminal)
}

func (v *venue) result(id, more string) {
	v.store(event.BridgeResult, id, fmt.Sprintf(`{"requestId":%q%s}`, id, more))
}

// restart makes the book anew from the journal.
func (v *venue) restart() {
	v.book = New(same)
	for i := range v.stored {
		v.book.Apply(&v.stored[i], false)
	}
}

// watch lets time pass, a second at a time, and stores what is due.
func (v *venue) watch(d time.Duration, here ...Terminal) {
	for end := v.now.Add(d); v.now.Before(end); v.now = v.now.Add(time.Second) {
		v.settle(here...)
	}
	v.settle(here...)
}

func (v *venue) settle(here ...Terminal) {
	for _, due := range v.book.Due(v.now, at(here)) {
		if due.Kind == event.BridgeProbe {
			v.store(due.Kind, due.ID, `{}`, due.Terminal)
			continue
		}
		v.store(due.Kind, due.ID, fmt.Sprintf(`{"status":%q,"reason":%q}`, due.To, due.Why))
		v.book.Told(due.ID, due.To)
	}
}

func at(here []Terminal) func(string) (Terminal, bool) {
	return func(id string) (Terminal, bool) {
		for _, t := range here {
			if same(t.ID, id) {
				return t, true
			}
		}
		return Terminal{}, false
	}
}

func (v *venue) is(id string, status Status, why Reason) {
	v.t.Helper()
	if r, _ := v.book.Get(id); r.Status != status || r.Reason != why {
		v.t.Errorf("%s is %s %s, want %s %s", id, r.Status, r.Reason, status, why)
	}
}

// outcomes lists the outcome events of a request.
func (v *venue) outcomes(id string) (list []string) {
	for _, e := range v.stored {
		if o, _ := event.ParseObject(e.Payload); e.Kind == event.BridgeOutcome && e.Subject == id {
			list = append(list, o.String("status"))
		}
	}
	return list
}

var ( //nolint:gochecknoglobals // three kinds of app in the field
	plain   = Terminal{ID: "t", Connection: "c1"}
	inbox   = Terminal{ID: "t", Connection: "c1", Inbox: true}
	probing = Terminal{ID: "t", Connection: "c1", Inbox: true, Probe: true}
)

const (
	marked    = `,"terminalPaymentAckVersion":1`
	proven    = `,"outcomeEvidence":"PRE_AUTHORIZATION"`
	declined  = `,"status":"failed","outcomeEvidence":"PROCESSOR_DECLINED","errorMessage":"no"`
	succeeded = `,"status":"success","paymentId":"p1","cardDetails":{"lastFour":"4242"}`
)

// TestResults: what each word of the terminal makes of a request that it has.
func TestResults(t *testing.T) {
	probe := func(disposition, more string) func(*venue) {
		return func(v *venue) {
			v.store(event.BridgeProbeResult, "r", fmt.Sprintf(`{"disposition":%q%s}`, disposition, more))
		}
	}
	result := func(more string) func(*venue) { return func(v *venue) { v.result("r", more) } }
	for name, c := range map[string]struct {
		words  []func(*venue)
		status Status
		why    Reason
		late   bool
	}{
		"success":                         {[]func(*venue){result(succeeded)}, Completed, FromTerminal, false},
		"declined":                        {[]func(*venue){result(declined)}, Failed, FromTerminal, false},
		"cancelled":                       {[]func(*venue){result(`,"status":"cancelled"` + proven)}, Cancelled, FromTerminal, false},
		"failed, it says":                 {[]func(*venue){result(`,"status":"failed"`)}, Unknown, NoEvidence, false},
		"cancelled, it says":              {[]func(*venue){result(`,"status":"cancelled","outcomeEvidence":"HEARSAY"`)}, Unknown, NoEvidence, false},
		"timeout":                         {[]func(*venue){result(`,"status":"timeout"`)}, Unknown, TerminalTimeout, false},
		"timeout, then declined":          {[]func(*venue){result(`,"status":"timeout"`), result(declined)}, Failed, FromTerminal, true},
		"declined, then charged":          {[]func(*venue){result(declined), result(succeeded)}, Completed, FromTerminal, true},
		"charged, then declined":          {[]func(*venue){result(succeeded), result(declined)}, Completed, FromTerminal, false},
		"charged twice":                   {[]func(*venue){result(succeeded), result(`,"status":"success","paymentId":"p2"`)}, Completed, FromTerminal, false},
		"asked, it has a result":          {[]func(*venue){probe("RESOLVED", `,"finalResult":{"status":"success","paymentId":"p1"}`)}, Completed, FromTerminal, false},
		"asked, it has one without proof": {[]func(*venue){probe("RESOLVED", `,"finalResult":{"status":"failed"}`)}, Unknown, NoEvidence, false},
		"asked, it has none":              {[]func(*venue){probe("RESOLVED", ``)}, Pending, "", false},
		"asked, it works on it":           {[]func(*venue){probe("ACTIVE", ``)}, Pending, "", false},
		"asked, it was cancelled":         {[]func(*venue){probe("RECEIVED_CANCELLED", ``)}, Cancelled, CancelAccepted, false},
		"asked, it never got it":          {[]func(*venue){probe("NOT_FOUND", ``)}, Failed, NotReceived, false},
		"in doubt, it never got it":       {[]func(*venue){result(`,"status":"timeout"`), probe("NOT_FOUND", ``)}, Failed, NotReceived, true},
	} {
		t.Run(name, func(t *testing.T) {
			v := open(t)
			v.request("r", "t", marked)
			v.book.Letters(inbox, v.now)
			for _, word := range c.words {
				word(v)
			}
			v.is("r", c.status, c.why)
			r, _ := v.book.Get("r")
			if r.Late != c.late || (r.Status == Completed) != (r.Payment == "p1") {
				t.Errorf("late %t, payment %q", r.Late, r.Payment)
			}
			v.settle(plain)
			if got := v.outcomes("r"); (len(got) == 1) != c.status.Settled() || len(got) > 1 {
				t.Errorf("outcomes %q", got)
			}
			v.restart()
			status := c.status
			if status == Pending { // perhaps written
				status = Sent
			}
			v.is("r", status, c.why)
			v.settle(plain)
			if got := v.outcomes("r"); len(got) > 1 {
				t.Errorf("told again: %q", got)
			}
		})
	}
}

func TestAdmission(t *testing.T) {
	v := open(t)
	ask := func(id, terminal, order string, amount int64) Verdict {
		verdict, _ := v.book.Admit(Request{ID: id, Terminal: terminal, Order: order, AmountCents: amount, TipCents: 1500, Stored: v.now})
		return verdict
	}
	want := func(what string, got, want Verdict) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %d, want %d", what, got, want)
		}
	}
	want("the first", ask("r1", "t", "", 10000), Admitted)
	want("a second at once", ask("r2", "cuid-t", "", 10000), Occupied)
	want("the first again", ask("r1", "t", "", 10000), Known)
	want("another terminal", ask("r3", "u", "", 10000), Admitted)
	v.book.Release("r3")
	want("given back", ask("r4", "u", "", 10000), Admitted)
	v.request("r1", "t", "")
	want("stored", ask("r2", "t", "", 10000), Occupied)
	want("stored, again", ask("r1", "cuid-t", "", 10000), Known)
	want("another amount", ask("r1", "t", "", 10001), Different)
	want("another terminal", ask("r1", "v", "", 10000), Different)
	v.result("r1", succeeded)
	want("ended", ask("r1", "t", "", 10000), Known)
	want("free", ask("r2", "t", "", 10000), Admitted)
	v.store(event.OrderUpdated, "o", `{"orderId":"o","paymentStatus":"PAID"}`)
	want("paid", ask("r5", "v", "o", 10000), Paid)
	v.store(event.OrderUpdated, "o", `{"orderId":"o","total":5}`)
	want("still paid", ask("r5", "v", "o", 10000), Paid)
	v.store(event.OrderUpdated, "o", `{"orderId":"o","paymentStatus":"PARTIAL"}`)
	want("something was added", ask("r5", "v", "o", 10000), Admitted)
	v.now = v.now.Add(Valid + time.Second)
	v.settle()
	want("a claim that never was seen", ask("r6", "v", "o", 10000), Admitted)
}

// TestFence: the order of the journal says who has the terminal, whoever sent it.
func TestFence(t *testing.T) {
	v := open(t)
	v.request("cloud", "t", "")
	v.request("late", "cuid-t", marked)
	v.request("cloud", "t", "") // the broker says it twice
	v.is("late", Failed, Busy)
	if r, _ := v.book.Get("late"); r.Blocking != "cloud" {
		t.Errorf("blocked by %q", r.Blocking)
	}
	if letters := v.book.Letters(inbox, v.now); len(letters) != 1 || letters[0].Request != "cloud" {
		t.Errorf("letters %v", letters)
	}
	v.restart()
	v.is("late", Failed, Busy)
	v.is("cloud", Sent, "")
	if v.book.Owns("cloud", "u") || !v.book.Owns("cloud", "cuid-t") || !v.book.Owns("unheard of", "u") {
		t.Error("who may speak of it")
	}
	v.store(event.BridgeRequest, "old", `{"timestamp":"2026-08-01T11:00:00.000Z"}`, "u")
	v.is("old", TimedOut, Stale)
	v.store(event.BridgeRequest, "", `{}`, "u")
	v.store(event.BridgeRequest, "nowhere", `{}`)
	if _, ok := v.book.Get("nowhere"); ok {
		t.Error("a request for nobody is kept")
	}
}

// TestMoneyRule counts what is written to which terminal, over reconnects and a
// restart of the box.
func TestMoneyRule(t *testing.T) {
	again := func(t Terminal) Terminal { t.Connection += "'"; return t }
	for name, c := range map[string]struct {
		mark string
		seq  []Terminal
		want string // 1: written; a bar: the box restarts
	}{
		"plain, once":                   {"", []Terminal{plain, plain, again(plain)}, "100"},
		"plain, updated in between":     {"", []Terminal{plain, again(inbox)}, "10"},
		"plain, restart":                {"", []Terminal{plain, {}, again(inbox)}, "1|0"},
		"never written, restart, plain": {"", []Terminal{{}, plain}, "|0"},
		"inbox, on each connection":     {marked, []Terminal{inbox, inbox, again(inbox)}, "101"},
		"inbox, restart":                {marked, []Terminal{inbox, {}, inbox}, "1|1"},
		"never written, restart, inbox": {marked, []Terminal{{}, inbox}, "|1"},
		"meant for an inbox":            {marked, []Terminal{plain, inbox}, "01"},
		"inbox that became plain":       {marked, []Terminal{inbox, again(plain)}, "10"},
		"of the cloud, inbox":           {"", []Terminal{inbox, again(inbox)}, "11"},
		"of the cloud, inbox, restart":  {"", []Terminal{inbox, {}, again(inbox)}, "1|0"},
	} {
		t.Run(name, func(t *testing.T) {
			v := open(t)
			v.request("r", "t", c.mark)
			got := ""
			for _, terminal := range c.seq {
				if terminal.ID == "" {
					v.restart()
					got += "|"
					continue
				}
				letters := v.book.Letters(terminal, v.now)
				got += fmt.Sprint(len(letters))
				for _, letter := range letters {
					if letter.Kind != event.BridgeRequest || letter.Ask != terminal.Inbox || strings.Contains(string(letter.Body), "AckVersion") {
						t.Errorf("letter %s %s", letter.Kind, letter.Body)
					}
				}
			}
			if got != c.want {
				t.Errorf("written %s, want %s", got, c.want)
			}
		})
	}
	v := open(t)
	v.request("r", "t", marked)
	if v.book.Letters(inbox, v.now.Add(Valid)) != nil {
		t.Error("written when nobody stands there any more")
	}
}

func TestDelivery(t *testing.T) {
	v := open(t)
	v.request("r", "t", marked)
	v.is("r", Pending, "")
	v.book.Letters(inbox, v.now)
	v.is("r", Pending, "")
	v.book.Confirmed("r")
	v.is("r", Sent, "")
	v.book.Doubted("r", AckTimeout) // of a second write
	v.settle(inbox)
	v.is("r", Sent, "")

	for _, why := range []Reason{AckTimeout, AckRejected} {
		v = open(t)
		v.request("r", "t", marked)
		v.book.Letters(inbox, v.now)
		v.book.Doubted("r", why)
		v.is("r", Pending, "")
		v.settle(inbox)
		v.is("r", Unknown, why)
		back := inbox
		back.Connection = "c2"
		if n := len(v.book.Letters(back, v.now)); (n == 1) != (why == AckTimeout) {
			t.Errorf("%s: %d letters to the terminal that is back", why, n)
		}
		v.result("r", succeeded)
		v.is("r", Completed, FromTerminal)
	}
}

// TestCancel asks for an end in each state.
func TestCancel(t *testing.T) {
	cancel := func(v *venue) { v.store(event.BridgeCancel, "r", `{"reason":"x"}`, "t") }
	says := func(v *venue, disposition string) {
		v.store(event.BridgeDisposition, "r", fmt.Sprintf(`{"disposition":%q}`, disposition))
	}
	told := func(v *venue, terminal Terminal) bool {
		letters := v.book.Letters(terminal, v.now)
		return len(letters) == 1 && letters[0].Kind == event.BridgeCancel
	}
	t.Run("before it was written", func(t *testing.T) {
		v := open(t)
		v.request("r", "t", marked)
		cancel(v)
		if v.book.Letters(inbox, v.now) != nil {
			t.Error("written after it was cancelled")
		}
		v.settle()
		v.is("r", Cancelled, NeverSent)
	})
	t.Run("without an id", func(t *testing.T) {
		v := open(t)
		v.request("r", "t", marked)
		v.book.Letters(inbox, v.now)
		v.store(event.BridgeCancel, "", `{}`, "cuid-t")
		v.is("r", CancelRequested, "")
	})
	t.Run("told once per connection, and after a restart", func(t *testing.T) {
		v := open(t)
		v.request("r", "t", marked)
		v.book.Letters(inbox, v.now)
		cancel(v)
		back := inbox
		back.Connection = "c2"
		if !told(v, inbox) || told(v, inbox) || !told(v, back) {
			t.Error("told wrongly")
		}
		v.restart()
		v.is("r", CancelRequested, "")
		if !told(v, back) {
			t.Error("not told after the restart")
		}
	})
	t.Run("taken", func(t *testing.T) {
		v := open(t)
		v.request("r", "t", marked)
		v.book.Letters(probing, v.now)
		cancel(v)
		says(v, "ACCEPTED")
		v.watch(29*time.Second, probing)
		v.is("r", CancelRequested, "")
		v.watch(2*time.Second, probing)
		v.is("r", Cancelled, CancelAccepted)
		v.result("r", succeeded) // all the same
		v.is("r", Completed, FromTerminal)
	})
	// What the terminal said last counts: it knows no more that nothing was charged.
	for _, last := range []string{`,"status":"timeout"`, `,"status":"failed"`} {
		t.Run("taken, and then in doubt"+last, func(t *testing.T) {
			v := open(t)
			v.request("r", "t", marked)
			v.book.Letters(probing, v.now)
			cancel(v)
			says(v, "ACCEPTED")
			v.result("r", last)
			v.watch(31*time.Second, probing)
			if r, _ := v.book.Get("r"); r.Status != Unknown {
				t.Errorf("it is %s %s", r.Status, r.Reason)
			}
		})
	}
	t.Run("not taken", func(t *testing.T) {
		v := open(t)
		v.request("r", "t", marked)
		v.book.Letters(probing, v.now)
		cancel(v)
		says(v, "ACTIVE")
		v.watch(Valid-time.Second, probing)
		v.is("r", CancelRequested, "")
		v.watch(2*time.Second, probing)
		v.is("r", Unknown, Overdue)
	})
	t.Run("nothing said", func(t *testing.T) {
		v := open(t)
		v.request("r", "t", "")
		v.book.Letters(plain, v.now)
		cancel(v)
		v.watch(time.Minute, plain)
		v.is("r", CancelRequested, "")
	})
	t.Run("resolved already", func(t *testing.T) {
		v := open(t)
		v.request("r", "t", marked)
		v.book.Letters(probing, v.now)
		cancel(v)
		says(v, "ALREADY_RESOLVED")
		v.watch(31*time.Second, probing)
		v.is("r", Unknown, Overdue)
	})
	t.Run("in doubt", func(t *testing.T) {
		v := open(t)
		v.request("r", "t", "")
		v.book.Letters(plain, v.now)
		v.result("r", `,"status":"timeout"`)
		cancel(v)
		v.is("r", Unknown, TerminalTimeout)
		if !told(v, plain) {
			t.Error("not told")
		}
	})
	t.Run("ended", func(t *testing.T) {
		v := open(t)
		v.request("r", "t", "")
		v.book.Letters(plain, v.now)
		v.result("r", succeeded)
		cancel(v)
		v.is("r", Completed, FromTerminal)
		if told(v, plain) {
			t.Error("told")
		}
	})
}
