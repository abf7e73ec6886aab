package payments

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// TestModel lets POS, cloud, terminals and time do what they like, with the box
// dying in between, and watches what must never happen: two requests that have
// one terminal, a second order to charge one id at a terminal that does not
// remember it, a charge that is forgotten.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{venue: open(t), here: map[string]Terminal{}, writes: map[string][]bool{}, charged: map[string]bool{}, proof: map[string]Status{}}
		t.Repeat(map[string]func(*rapid.T){
			"pos":      m.pos,
			"cloud":    m.cloud,
			"connect":  m.connect,
			"leave":    func(t *rapid.T) { delete(m.here, m.terminal(t)) },
			"confirm":  func(t *rapid.T) { m.book.Confirmed(m.id(t)) },
			"doubt":    func(t *rapid.T) { m.book.Doubted(m.id(t), AckTimeout) },
			"terminal": m.says,
			"cancel":   func(t *rapid.T) { m.store(event.BridgeCancel, m.id(t), `{}`, m.terminal(t)) },
			"payment":  m.payment,
			"time": func(t *rapid.T) {
				m.now = m.now.Add(time.Duration(rapid.IntRange(0, 500).Draw(t, "seconds")) * time.Second)
			},
			"work":  func(*rapid.T) { m.work() },
			"crash": func(*rapid.T) { m.restart() },
			"":      m.check,
		})
	})
}

type model struct {
	*venue
	here    map[string]Terminal
	writes  map[string][]bool // of each request: to one that remembers ids
	charged map[string]bool   // said to be charged
	proof   map[string]Status // proven not to be
	dials   int
	paid    int
}

func (m *model) id(t *rapid.T) string {
	return rapid.SampledFrom([]string{"r1", "r2", "r3", "r4"}).Draw(t, "id")
}

func (m *model) terminal(t *rapid.T) string {
	return rapid.SampledFrom([]string{"t", "u"}).Draw(t, "terminal")
}

func (m *model) pos(t *rapid.T) {
	id, terminal := m.id(t), m.terminal(t)
	verdict, _ := m.book.Admit(Request{ID: id, Terminal: terminal, AmountCents: 10000, TipCents: 1500, Stored: m.now})
	if verdict != Admitted {
		return
	}
	mark := ""
	if m.here[terminal].Inbox {
		mark = marked
	}
	if rapid.Bool().Draw(t, "cloud is first") {
		m.cloud(t)
	}
	m.request(id, terminal, mark+`,"orderId":"o"`)
	m.deliver(terminal)
}

func (m *model) cloud(t *rapid.T) {
	id, terminal := m.id(t), m.terminal(t)
	m.request(id, terminal, "")
	m.deliver(terminal)
	if rapid.Bool().Draw(t, "missed") {
		m.book.Missed(id)
	}
}

func (m *model) connect(t *rapid.T) {
	m.dials++
	kind := rapid.SampledFrom([]Terminal{plain, inbox, probing}).Draw(t, "kind")
	kind.ID, kind.Connection = m.terminal(t), fmt.Sprint(m.dials)
	m.here[kind.ID] = kind
	m.deliver(kind.ID)
}

func (m *model) deliver(terminal string) {
	to, ok := m.here[terminal]
	if !ok {
		return
	}
	for _, letter := range m.book.Letters(to, m.now) {
		if letter.Kind == event.BridgeRequest {
			m.writes[letter.Request] = append(m.writes[letter.Request], to.Inbox)
		}
	}
}

func (m *model) work() {
	var here []Terminal
	for _, to := range m.here {
		m.deliver(to.ID)
		here = append(here, to)
	}
	m.settle(here...)
}

func (m *model) says(t *rapid.T) {
	id := m.id(t)
	r, known := m.book.Get(id)
	if !known {
		return
	}
	switch rapid.IntRange(0, 5).Draw(t, "what") {
	case 0:
		m.paid++
		m.result(id, fmt.Sprintf(`,"status":"success","paymentId":"p%d"`, m.paid))
		m.charged[id] = true
	case 1:
		m.result(id, declined)
		if !r.Status.Ended() {
			m.proof[id] = Failed
		}
	case 2:
		m.result(id, `,"status":"failed"`)
	case 3:
		m.result(id, `,"status":"timeout"`)
	case 4:
		said := rapid.SampledFrom([]string{"ACTIVE", "ACCEPTED", "ALREADY_RESOLVED"}).Draw(t, "disposition")
		m.store(event.BridgeDisposition, id, fmt.Sprintf(`{"disposition":%q}`, said))
	case 5:
		m.store(event.BridgeProbeResult, id, `{"disposition":"NOT_FOUND"}`)
		if !r.Status.Ended() && r.marked {
			m.proof[id] = Failed
		}
	}
}

func (m *model) payment(t *rapid.T) {
	m.paid++
	more := `"orderId":"o","method":"CREDIT_CARD"`
	if rapid.Bool().Draw(t, "named") {
		id := m.id(t)
		if _, known := m.book.Get(id); known {
			more = fmt.Sprintf(`"terminalPaymentRequestId":%q`, id)
			m.charged[id] = true
		}
	}
	m.store(event.PaymentCompleted, "", fmt.Sprintf(`{"paymentId":"p%d",%s}`, m.paid, more))
}

func (m *model) check(t *rapid.T) {
	again := &venue{t: t, stored: m.stored}
	again.restart()
	holders := map[string]int{}
	for id, r := range m.book.requests {
		if !r.Status.Ended() {
			holders[r.Terminal]++
		}
		if folded := again.book.requests[id]; folded == nil || folded.Status != r.Status || folded.Payment != r.Payment {
			t.Fatalf("%s is %s, folded again %+v", id, r.Status, folded)
		}
		if m.charged[id] && r.Status != Completed {
			t.Fatalf("%s was charged and is %s", id, r.Status)
		}
		if proof := m.proof[id]; proof != "" && r.Status != proof && r.Status != Completed {
			t.Fatalf("%s was %s and is %s", id, proof, r.Status)
		}
		if r.Reason == Busy && len(m.writes[id]) > 0 {
			t.Fatalf("%s was refused and written", id)
		}
	}
	for terminal, n := range holders {
		if n > 1 {
			t.Fatalf("%d requests have terminal %s", n, terminal)
		}
	}
	for id, to := range m.writes {
		for _, remembers := range to {
			if !remembers && len(to) > 1 {
				t.Fatalf("%s was written %v", id, to)
			}
		}
	}
}
