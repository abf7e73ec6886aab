package simulate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/avoqado/avoqado-edge/internal/testpart"
)

func dial(t *testing.T, f *fakeServer, rec *recorder) *Client {
	t.Helper()
	cfg := ClientConfig{URL: f.URL, Auth: map[string]any{"token": "t", "terminalId": "AVQD-1"}}
	if rec != nil {
		cfg.OnEvent, cfg.OnState = rec.event, rec.state
	}
	c, err := Dial(soon(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func ended(t *testing.T, c *Client) error {
	t.Helper()
	select {
	case <-c.Done():
	case <-soon(t).Done():
		t.Fatal("connection did not end")
	}
	return c.Err()
}

func TestDialSendsAuthAndTakesSID(t *testing.T) {
	rec := &recorder{}
	f := newFake(t, knobs{before: []byte("2")})
	c := dial(t, f, rec)
	if c.SID() != "s1" {
		t.Errorf("sid = %q, want s1", c.SID())
	}
	if want := `{"terminalId":"AVQD-1","token":"t"}`; f.auth() != want {
		t.Errorf("auth = %s, want %s", f.auth(), want)
	}
	if c.Err() != nil {
		t.Errorf("Err of a live connection = %v", c.Err())
	}
	testpart.Until(t, "pong to the ping before the answer", func() bool { return f.received("3") == 1 })
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(c.Err(), ErrClosed) {
		t.Errorf("Err after Close = %v", c.Err())
	}
	testpart.Until(t, "goodbye", func() bool { return f.received("41") == 1 })
	if got := rec.told(); !slices.Equal(got, []string{"up", "down: closed by this side"}) {
		t.Errorf("states = %q", got)
	}
	if err := c.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if err := c.Emit(soon(t), "x", nil); !errors.Is(err, ErrClosed) {
		t.Errorf("Emit after Close: %v", err)
	}
}

func TestDialRefused(t *testing.T) {
	f := newFake(t, knobs{connect: `44{"message":"Token has expired"}`})
	_, err := Dial(soon(t), ClientConfig{URL: f.URL})
	var refused *ConnectError
	if !errors.As(err, &refused) || refused.Message != "Token has expired" {
		t.Fatalf("err = %v, want a ConnectError with the server's text", err)
	}
	if f.auth() != "{}" {
		t.Errorf("auth without one = %q, want {}", f.auth())
	}
}

func TestDialFails(t *testing.T) {
	for name, c := range map[string]struct {
		knobs knobs
		want  string
	}{
		"http status":     {knobs{status: http.StatusServiceUnavailable}, "HTTP status 503"},
		"not an open":     {knobs{open: "2"}, "began with packet type '2'"},
		"open not json":   {knobs{open: "0nope"}, "open packet"},
		"no ping times":   {knobs{open: `0{"sid":"x"}`}, "no sane ping times"},
		"endless ping":    {knobs{open: `0{"sid":"x","pingInterval":9e15,"pingTimeout":1}`}, "open packet"},
		"sid missing":     {knobs{connect: "40"}, "no sid"},
		"error not json":  {knobs{connect: "44nope"}, "read CONNECT_ERROR"},
		"disconnect":      {knobs{connect: "41"}, "disconnected by the server"},
		"event too early": {knobs{connect: `42["x"]`}, "before it answered CONNECT"},
		"engine close":    {knobs{connect: "1"}, "transport closed by the server"},
		"unknown engine":  {knobs{connect: "9"}, "engine packet type '9'"},
		"unknown packet":  {knobs{connect: "49"}, "packet type '9'"},
		"binary packet":   {knobs{connect: `451-["x"]`}, "packet type '5'"},
		"empty packet":    {knobs{connect: "4"}, "empty packet"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, c.knobs)
			client, err := Dial(soon(t), ClientConfig{URL: f.URL + "?token=hush"})
			if err == nil {
				_ = client.Close()
				t.Fatal("connected")
			}
			if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hush") {
				t.Errorf("err = %v, want it to hold %q and no token", err, c.want)
			}
		})
	}
	for _, address := range []string{"", "127.0.0.1:80", "ftp://x", "http://[::1", "\x7f"} {
		if _, err := Dial(soon(t), ClientConfig{URL: address}); err == nil {
			t.Errorf("Dial(%q) connected", address)
		}
	}
}

func TestDialEndsWithContext(t *testing.T) {
	f := newFake(t, knobs{silent: true})
	ctx, cancel := context.WithCancel(soon(t))
	var dialing sync.WaitGroup
	dialing.Go(func() {
		if _, err := Dial(ctx, ClientConfig{URL: f.URL}); !errors.Is(err, context.Canceled) {
			t.Errorf("err = %v, want context.Canceled", err)
		}
	})
	testpart.Until(t, "CONNECT", func() bool { return f.received("40{}") == 1 })
	cancel()
	dialing.Wait()
}

func TestEmitIsByteForByte(t *testing.T) {
	f := newFake(t, knobs{})
	c := dial(t, f, nil)
	raw := `{ "amount":"120.50" ,"b":1e3,"n":9007199254740993,"<":"\u00e9&"}`
	for want, payload := range map[string]any{
		`42["e",` + raw + `]`: json.RawMessage(raw),
		`42["e",{"a":1}]`:     map[string]int{"a": 1},
		`42["e"]`:             nil,
		`42["e",nope]`:        json.RawMessage("nope"),
	} {
		if err := c.Emit(soon(t), "e", payload); err != nil {
			t.Fatal(err)
		}
		testpart.Until(t, want, func() bool { return f.received(want) == 1 })
	}
	if err := c.Emit(soon(t), "e", func() {}); err == nil {
		t.Error("a function was encoded")
	}
}

func TestEmitAckAnyNumberInFlight(t *testing.T) {
	const n = 200
	var mu sync.Mutex
	var held []string
	f := newFake(t, knobs{onEvent: func(s *fakeSocket, id, _ string, payload json.RawMessage) bool {
		mu.Lock()
		defer mu.Unlock()
		held = append(held, fmt.Sprintf("43%s[%s]", id, payload))
		if len(held) == n { // answers backwards, and some that nobody asked for
			s.send(`43999999[1]`)
			s.send(`43[1]`)
			slices.Reverse(held)
			for _, frame := range held {
				s.send("%s", frame)
			}
		}
		return true
	}})
	c := dial(t, f, nil)
	ctx := soon(t)
	var waiting sync.WaitGroup
	for i := range n {
		waiting.Go(func() {
			answer, err := c.EmitAck(ctx, "e", i)
			if err != nil || string(answer) != fmt.Sprint(i) {
				t.Errorf("answer to %d = %s, %v", i, answer, err)
			}
		})
	}
	waiting.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.acks) != 0 {
		t.Errorf("%d waits left behind", len(c.acks))
	}
}

func TestEmitAckGivesUp(t *testing.T) {
	f := newFake(t, knobs{onEvent: func(*fakeSocket, string, string, json.RawMessage) bool { return true }})
	c := dial(t, f, nil)
	ctx, cancel := context.WithCancel(soon(t))
	var waiting sync.WaitGroup
	waiting.Go(func() {
		if _, err := c.EmitAck(ctx, "e", 1); !errors.Is(err, context.Canceled) {
			t.Errorf("err = %v, want context.Canceled", err)
		}
	})
	testpart.Until(t, "event", func() bool { return f.received(`421["e",1]`) == 1 })
	cancel()
	waiting.Wait()
	c.mu.Lock()
	if len(c.acks) != 0 {
		t.Error("a wait that was given up is kept")
	}
	c.mu.Unlock()

	waiting.Go(func() {
		if _, err := c.EmitAck(soon(t), "e", 2); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("err = %v, want the end of the connection", err)
		}
	})
	testpart.Until(t, "event", func() bool { return f.received(`422["e",2]`) == 1 })
	f.dropAll()
	waiting.Wait()
	if err := ended(t, c); final(err) {
		t.Errorf("a broken transport is taken for final: %v", err)
	}
}

func TestEventsComeInOrder(t *testing.T) {
	f := newFake(t, knobs{after: func(s *fakeSocket) {
		s.send(`42/other,["no"]`)
		s.send("6")
		for i := range 50 {
			s.send(`42["e",{"n": %d}]`, i)
		}
		s.send(`4217["bare"]`)
	}})
	rec := &recorder{}
	dial(t, f, rec)
	testpart.Until(t, "all events", func() bool { return len(rec.heard()) == 51 })
	for i, got := range rec.heard()[:50] {
		if want := fmt.Sprintf(`e {"n": %d}`, i); got != want {
			t.Fatalf("event %d = %s, want %s", i, got, want)
		}
	}
	if got := rec.heard()[50]; got != "bare " {
		t.Errorf("event without payload = %q", got)
	}
}

// Whatever a server says, a client ends with a reason and nothing crashes.
func TestServerFaults(t *testing.T) {
	text := func(frame string) func(*fakeSocket) {
		return func(s *fakeSocket) { s.send("%s", frame) }
	}
	for name, fault := range map[string]struct {
		after func(*fakeSocket)
		want  string
	}{
		"disconnect packet": {text("41"), "disconnected by the server"},
		"engine close":      {text("1"), "transport closed by the server"},
		"binary garbage":    {func(s *fakeSocket) { s.sendFrame(websocket.BinaryMessage, []byte{0, 255, 7}) }, "binary frame"},
		"binary event":      {text(`451-["x",{"_placeholder":true,"num":0}]`), "packet type '5'"},
		"empty frame":       {text(""), "empty frame"},
		"empty packet":      {text("4"), "empty packet"},
		"event no json":     {text("42nope"), "not a JSON array"},
		"event no array":    {text(`42{"a":1}`), "not a JSON array"},
		"event empty":       {text("42[]"), "no name"},
		"event number name": {text("42[7]"), "not a string"},
		"ack no json":       {text("431{"), "not a JSON array"},
		"ack id too long":   {text("43" + strings.Repeat("9", 40) + "[]"), "out of range"},
		"second connect":    {text(`40{"sid":"x"}`), "on an open connection"},
		"late refusal":      {text(`44{"message":"x"}`), "on an open connection"},
		"frame too large":   {text(`42["x","` + strings.Repeat("x", readLimit) + `"]`), "limit exceeded"},
		"transport drop":    {func(s *fakeSocket) { _ = s.ws.Close() }, "read:"},
	} {
		t.Run(name, func(t *testing.T) {
			rec := &recorder{}
			c := dial(t, newFake(t, knobs{after: fault.after}), rec)
			err := ended(t, c)
			if err == nil || !strings.Contains(err.Error(), fault.want) {
				t.Fatalf("err = %v, want it to hold %q", err, fault.want)
			}
			if errors.Is(err, ErrDisconnected) != (name == "disconnect packet") {
				t.Errorf("final = %t for %v", final(err), err)
			}
			if states := rec.told(); len(states) != 2 || states[0] != "up" {
				t.Errorf("states = %q", states)
			}
			if _, err := c.EmitAck(soon(t), "e", nil); err == nil {
				t.Error("an ended connection answered")
			}
		})
	}
}

func TestPingIsAnswered(t *testing.T) {
	f := newFake(t, knobs{after: func(s *fakeSocket) {
		s.send("2")
		s.send("2probe")
	}})
	dial(t, f, nil)
	testpart.Until(t, "pongs", func() bool { return f.received("3") == 1 && f.received("3probe") == 1 })
}

func TestMissingPingEndsConnection(t *testing.T) {
	stop := make(chan struct{})
	f := newFake(t, knobs{
		open: `0{"sid":"e","upgrades":[],"pingInterval":20,"pingTimeout":10,"maxPayload":1}`,
		after: func(s *fakeSocket) { // events do not stand for a heartbeat
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
					s.send(`42["e"]`)
				case <-stop:
					return
				}
			}
		},
	})
	t.Cleanup(func() { close(stop) })
	c := dial(t, f, nil)
	if err := ended(t, c); !errors.Is(err, ErrPingTimeout) {
		t.Errorf("err = %v, want ErrPingTimeout", err)
	}
}

func TestDropSaysNothing(t *testing.T) {
	f := newFake(t, knobs{})
	c := dial(t, f, nil)
	c.Drop()
	if err := c.Err(); err == nil || final(err) {
		t.Errorf("err = %v, want one after which a client comes back", err)
	}
	testpart.Until(t, "end", func() bool { f.mu.Lock(); defer f.mu.Unlock(); return len(f.sockets) == 0 })
	if f.received("41") != 0 {
		t.Error("a dropped client said goodbye")
	}
}
