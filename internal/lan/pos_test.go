package lan_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/lan"
)

// till is the server as the HTTP API sees it.
type till struct{ lan *lan.Server }

func (d till) Charge(ctx context.Context, g auth.Grant, device string, payload []byte) ([]byte, int) {
	a := d.lan.Charge(ctx, g, device, payload)
	return a.Body, a.Status
}

func (d till) CancelCharge(ctx context.Context, g auth.Grant, payload []byte) ([]byte, int) {
	a := d.lan.CancelCharge(ctx, g, payload)
	return a.Body, a.Status
}

func (d till) ChargeStatus(ctx context.Context, g auth.Grant, request string) ([]byte, int) {
	a := d.lan.ChargeStatus(ctx, g, request)
	return a.Body, a.Status
}

func (d till) OnlineTerminals(ctx context.Context, g auth.Grant) ([]byte, int) {
	a := d.lan.OnlineTerminals(ctx, g)
	return a.Body, a.Status
}

func (d till) PrintReceipt(ctx context.Context, g auth.Grant, terminal string, payload []byte) ([]byte, int) {
	a := d.lan.PrintReceipt(ctx, g, terminal, payload)
	return a.Body, a.Status
}

// pos is an app that asks terminals for payments, over HTTP.
type pos struct {
	t     testing.TB
	url   string
	token string
}

func (b *box) pos() *pos {
	return &pos{b.t, "http://" + b.Addr().String() + "/api/v1/mobile/venues/" + venue, b.mint(auth.Grant{Subject: "cashier_1", Role: event.Cashier})}
}

// answer is what a POS reads.
type answer struct {
	status int
	body   string
	err    error
}

func (p *pos) ask(ctx context.Context, method, path, body string) answer {
	req, err := http.NewRequestWithContext(ctx, method, p.url+path, strings.NewReader(body))
	if err != nil {
		return answer{err: err}
	}
	req.Header.Set("X-Device-Name", "Caja 1")
	if p.token != "" {
		req.Header.Set("Authorization", "Bearer "+p.token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, string(bytes.TrimSpace(raw)), err}
}

func (p *pos) post(path, body string) answer { return p.ask(context.Background(), "POST", path, body) }
func (p *pos) get(path string) answer        { return p.ask(context.Background(), "GET", path, "") }

// charge asks for 100.00 and 15.00 tip, and returns where the answer will be.
func (p *pos) charge(id, terminal string, more ...string) <-chan answer {
	answers := make(chan answer, 1)
	body := fmt.Sprintf(`{"requestId":%q,"terminalId":%q,"amountCents":10000,"tipCents":1500%s}`, id, terminal, strings.Join(more, ""))
	go func() { answers <- p.post("/terminal-payment", body) }()
	return answers
}

// state returns the status of a request.
func (p *pos) state(id string) string {
	a := p.get("/terminal-payment/" + id)
	if a.status != http.StatusOK {
		return fmt.Sprint(a.status, a.err)
	}
	return strings.Trim(field(p.t, a.body, "status"), `"`)
}

func (p *pos) reaches(id, status string) {
	p.t.Helper()
	until(p.t, id+" becomes "+status+", it is "+p.state(id), func() bool { return p.state(id) == status })
}

func (p *pos) wait(answers <-chan answer) answer {
	p.t.Helper()
	select {
	case a := <-answers:
		if a.err != nil {
			p.t.Fatal(a.err)
		}
		return a
	case <-time.After(patience):
		p.t.Fatal("no answer")
	}
	return answer{}
}

// want checks the answer: its status, and members by their JSON text.
func (p *pos) want(a answer, status int, members ...string) {
	p.t.Helper()
	if a.err != nil || a.status != status {
		p.t.Fatalf("answer %d %s %v, want %d", a.status, a.body, a.err, status)
	}
	for i := 0; i < len(members); i += 2 {
		if got := field(p.t, a.body, members[i]); got != members[i+1] {
			p.t.Errorf("%s is %s, want %s in %s", members[i], got, members[i+1], a.body)
		}
	}
}

// What the three generations of the terminal's app declare.
const (
	appPlain = ""
	appInbox = `,"terminalPaymentAckVersion":1`
	appProbe = appInbox + `,"terminalPaymentCancelDispositionVersion":1,"terminalPaymentProbeVersion":1`
)

// reader is a terminal with a card reader, of one of the generations.
func (b *box) reader(id, app string) *client {
	b.t.Helper()
	c := b.dial("", nil)
	token := b.mint(auth.Grant{Subject: "staff_" + id, Role: event.Waiter, Terminal: id})
	c.raw(fmt.Sprintf(`40{"token":%q,"terminalId":"AVQD-%s"%s}`, token, id, app))
	c.take("CONNECT", func(f string) bool { return strings.HasPrefix(f, "40{") })
	c.want("authentication_success")
	c.ask("authenticate", "{}")
	return c
}

// asked returns the next event of that name that asks for an answer, and the id
// to answer under.
func (c *client) asked(name string) (id, payload string) {
	c.t.Helper()
	shape := regexp.MustCompile(fmt.Sprintf(`^42(\d+)\[%q,(.*)\]$`, name))
	parts := shape.FindStringSubmatch(c.take("question "+name, shape.MatchString))
	return parts[1], parts[2]
}

// accepts confirms the next request.
func (c *client) accepts(request string) string {
	c.t.Helper()
	id, payload := c.asked("terminal:payment_request")
	c.raw(fmt.Sprintf(`43%s[{"accepted":true,"requestId":%q}]`, id, request))
	return payload
}

// questions counts the requests that came and were not taken, in either shape.
func (c *client) questions() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.frames {
		if strings.Contains(f, `["terminal:payment_request"`) {
			n++
		}
	}
	return n
}

func (c *client) result(request, more string) {
	c.t.Helper()
	if ack := c.askFor("terminal:payment_result", request, more); ack != `{"success":true}` {
		c.t.Errorf("the result was answered with %s", ack)
	}
}

func (c *client) askFor(name, request, more string) string {
	c.t.Helper()
	return c.ask(name, fmt.Sprintf(`{"requestId":%q%s}`, request, more))
}

// away closes a terminal's connection and waits until the box knows.
func (b *box) away(c *client) {
	b.t.Helper()
	before := b.Connections().ConnectionStats.Total
	_ = c.ws.Close()
	until(b.t, "it is gone", func() bool { return b.Connections().ConnectionStats.Total < before })
}

// clock is a wall clock that can be set.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time       { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) pass(d time.Duration) { c.ahead.Add(int64(d)) }
func (c *clock) set(cfg *lan.Config)  { cfg.Now = c.now }
func kinds(j *memory) (list []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range j.events {
		name := strings.TrimPrefix(string(e.Kind), "terminal:payment_")
		if e.Kind == event.BridgeOutcome {
			var o struct{ Status, Reason string }
			_ = json.Unmarshal(e.Payload, &o)
			name += " " + o.Status + " " + o.Reason
		}
		list = append(list, name)
	}
	return list
}
