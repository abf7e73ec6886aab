package lan_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/lan"
)

// TestMalformed sends what no client should. Each case ends in a closed
// transport or is ignored; the box and the other clients go on.
func TestMalformed(t *testing.T) {
	b := start(t)
	witness := b.as(event.Viewer)
	deep := strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000)
	const goesOn, ends = true, false
	for _, c := range []struct {
		name  string
		frame string
		goes  bool
	}{
		{"empty frame", "", ends},
		{"unknown engine type", "9", ends},
		{"letter", "x", ends},
		{"engine ping from the client", "2", ends},
		{"engine open from the client", "0{}", goesOn},
		{"engine close", "1", goesOn},
		{"engine noop", "6", goesOn},
		{"stray upgrade", "5", goesOn},
		{"pong nobody asked for", "3", goesOn},
		{"pong with a tail", "3probe", goesOn},
		{"empty packet", "4", ends},
		{"unknown packet type", "47[]", ends},
		{"packet type letter", "4x", ends},
		{"CONNECT again", "40", ends},
		{"CONNECT_ERROR", `44{"message":"x"}`, ends},
		{"CONNECT with a list", "40[]", ends},
		{"CONNECT with text", `40"x"`, ends},
		{"CONNECT with an id", "405{}", ends},
		{"DISCONNECT with data", "41{}", ends},
		{"DISCONNECT with an id", "415", ends},
		{"binary event", `451-["x",{"_placeholder":true,"num":0}]`, ends},
		{"binary ack", `461-1[{"_placeholder":true,"num":0}]`, ends},
		{"binary without attachments", `450-["x"]`, ends},
		{"event without data", "42", ends},
		{"event with an object", `42{"a":1}`, ends},
		{"event with text", `42"x"`, ends},
		{"event null", "42null", ends},
		{"event true", "42true", ends},
		{"empty list", "42[]", ends},
		{"number as a name", "42[7]", ends},
		{"null as a name", "42[null]", ends},
		{"list as a name", "42[[]]", ends},
		{"object as a name", "42[{}]", ends},
		{"unclosed list", `42["x"`, ends},
		{"unclosed text", `42["x`, ends},
		{"no JSON", "42[x]", ends},
		{"trailing bytes", `42["x"]zzz`, ends},
		{"two lists", `42["x"]["y"]`, ends},
		{"trailing comma", `42["x",]`, ends},
		{"single quotes", `42['x']`, ends},
		{"NaN", `42["x",NaN]`, ends},
		{"control character", "42[\"x\x01\"]", ends},
		{"bad escape", `42["\x"]`, ends},
		{"reserved connect", `42["connect"]`, ends},
		{"reserved connect_error", `42["connect_error",{}]`, ends},
		{"reserved disconnect", `42["disconnect"]`, ends},
		{"reserved disconnecting", `42["disconnecting"]`, ends},
		{"reserved newListener", `42["newListener"]`, ends},
		{"reserved removeListener", `42["removeListener"]`, ends},
		{"id too long", "42" + strings.Repeat("9", 30) + `["x"]`, ends},
		{"id overflows", `4299999999999999999999["x"]`, ends},
		{"negative id", `42-1["x"]`, ends},
		{"other namespace", `42/admin,["x"]`, ends},
		{"namespace without end", "42/admin", ends},
		{"endless namespace", "40/" + strings.Repeat("n", 2000), ends},
		{"name too long", `42["` + strings.Repeat("n", 200) + `"]`, ends},
		{"deep list", `42["payment_initiated",` + deep + `]`, ends},
		{"deep instead of a list", "42" + deep, ends},
		{"1.2 MB", `42["payment_initiated",{"x":"` + strings.Repeat("x", 1_200_000) + `"}]`, ends},
		{"ack of nothing", "431[]", goesOn},
		{"ack of an unknown id", `4318446744073709551615[{"a":1}]`, goesOn},
		{"ack without an id", "43[]", ends},
		{"ack without data", "431", ends},
		{"ack with null", "431null", ends},
		{"ack with an object", "431{}", ends},
		{"unknown event", `42["no_such_event",{}]`, goesOn},
		{"unknown event with an ack", `427["no_such_event",{}]`, goesOn},
		{"event of the server", `427["terminal:log",{}]`, goesOn},
		{"event named error", `42["error",{"a":1}]`, goesOn},
		{"event named data", `42["data",{}]`, goesOn},
		{"event named connection", `42["connection",{}]`, goesOn},
		{"event named __proto__", `42["__proto__",{}]`, goesOn},
		{"empty name", `42[""]`, goesOn},
		{"many arguments", `42["payment_initiated",1,2,3,4,5,6,7,8]`, goesOn},
		{"deep payload", `42["payment_initiated",{"a":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}]`, goesOn},
		{"not UTF-8", "42[\"payment_initiated\",{\"a\":\"\xff\"}]", os.Getenv(transportEnv) == string(lan.Library)},
		{"lone surrogate", `42["payment_initiated",{"paymentId":"\ud800"}]`, goesOn},
		{"duplicate members", `42["payment_initiated",{"amount":1,"amount":"x"}]`, goesOn},
		{"escaped name", `42["\u0070ayment_initiated",{}]`, goesOn},
		{"number of a thousand digits", `42["payment_initiated",{"paymentId":"p","amount":` + strings.Repeat("9", 1000) + `}]`, goesOn},
		{"namespace said", `42/,["payment_initiated",{}]`, goesOn},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := b.as(event.Waiter)
			client.raw(c.frame)
			if c.goes {
				client.ask("authenticate", `{}`)
				return
			}
			until(t, "the transport is closed", client.closed)
		})
	}
	t.Run("binary frame", func(t *testing.T) {
		client := b.as(event.Waiter)
		_ = client.ws.WriteMessage(websocket.BinaryMessage, []byte{4, 2, 0})
		until(t, "the transport is closed", client.closed)
	})
	t.Run("before CONNECT", func(t *testing.T) {
		for _, frame := range []string{`42["x"]`, "41", "431[]", "40/admin,", `40{"token":`} {
			client := b.dial("", nil)
			client.raw(frame)
			if frame == "40/admin," {
				if got := client.frame(); got != `44/admin,{"message":"Invalid namespace"}` {
					t.Errorf("got %s", got)
				}
				continue
			}
			until(t, frame+": the transport is closed", client.closed)
		}
	})
	witness.ask("authenticate", `{}`)
	b.quiet(witness)
	until(t, "all are gone but the witness", func() bool {
		for _, sess := range []int{b.Connections().ConnectionStats.Total} {
			if sess <= 1 {
				return true
			}
		}
		b.CloseSockets(func(g grant) bool { return g.Role == event.Waiter })
		return false
	})
	if n := b.Stats().Panics; n != 0 {
		t.Errorf("%d panics:\n%s", n, b.logs)
	}
}

// TestStalledReader has a client ask and read no answer: it is dropped, and the
// others do not wait for it.
func TestStalledReader(t *testing.T) {
	b := start(t)
	witness := b.as(event.Viewer)
	stalled := b.as(event.Waiter)
	stalled.mu.Lock() // its reader waits for this
	join := `42["join_room",{"venueId":"venue_1","roomType":"` + strings.Repeat("x", 1000) + `"}]`
	for asked := 0; b.Stats().Refused["slow_reader"] == 0; asked++ {
		if asked == 300_000 {
			t.Fatal("60 MB are buffered for one client")
		}
		if stalled.ws.WriteMessage(websocket.TextMessage, []byte(join)) != nil {
			break
		}
	}
	until(t, "it is counted", func() bool { return b.Stats().Refused["slow_reader"] == 1 })
	stalled.mu.Unlock()
	until(t, "the client is dropped", stalled.closed)
	b.quiet(witness)
}

func TestSilentClient(t *testing.T) {
	b := start(t, func(c *lanConfig) { c.PingInterval, c.PingTimeout = 50*time.Millisecond, 2*time.Second })
	c := b.as(event.Waiter)
	until(t, "pings come", func() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.pings > 2 })
	c.mu.Lock()
	c.mute = true
	c.mu.Unlock()
	until(t, "it is dropped", c.closed)
}
