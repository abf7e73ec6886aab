package boxtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/spec"
)

// TestTheAnswerOfATerminal: what the document has a terminal answer to a charge
// is what the box waits for.
func TestTheAnswerOfATerminal(t *testing.T) {
	t.Parallel()
	s, err := spec.Load()
	if err != nil {
		t.Fatal(err)
	}
	schemas := ReadSchemas(t, s.Document(""))
	var charge spec.Event
	for _, e := range s.Events {
		if e.Row.Kind == event.BridgeRequest {
			charge = e
		}
	}
	box := StartBox(t, BoxConfig{})
	ws, resp, err := websocket.DefaultDialer.DialContext(t.Context(), "ws://"+box.Addr()+"/socket.io/?EIO=4&transport=websocket", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = resp.Body.Close(), ws.Close() }()
	_ = ws.SetReadDeadline(time.Now().Add(30 * time.Second))
	say := func(frame string) {
		t.Helper()
		if err := ws.WriteMessage(websocket.TextMessage, []byte(frame)); err != nil {
			t.Fatal(err)
		}
	}
	hear := func(pattern string) []string {
		t.Helper()
		for {
			_, frame, err := ws.ReadMessage()
			if err != nil {
				t.Fatalf("waiting for %s: %v", pattern, err)
			}
			if m := regexp.MustCompile(pattern).FindStringSubmatch(string(frame)); m != nil {
				return m
			}
		}
	}
	hear(`^0\{`)
	say(fmt.Sprintf(`40{"token":%q,"terminalId":%q,"terminalPaymentAckVersion":1}`, box.Token(event.Waiter, "w1", serial), serial))
	hear(`authentication_success`)

	cashier := box.Token(event.Cashier, "c1", "")
	const path = "/api/v1/mobile/venues/" + Venue + "/terminal-payment"
	var charged atomic.Int64 // the status of the charge, once it is over
	var wg sync.WaitGroup
	wg.Go(func() {
		status, _ := box.Do(http.MethodPost, path, cashier, string(charge.Example))
		charged.Store(int64(status))
	})
	t.Cleanup(wg.Wait) // when the test's context has ended, and with it the request
	asked := hear(`^42(\d+)\["terminal:payment_request",(.*)\]$`)
	if err := schemas.Check(charge.Key()+".heard", []byte(asked[2])); err != nil {
		t.Error(err)
	}
	say("43" + asked[1] + "[" + string(charge.Answer) + "]")
	var id struct{ RequestID string }
	if err := json.Unmarshal(charge.Example, &id); err != nil {
		t.Fatal(err)
	}
	Eventually(t, 20*time.Second, "the box knows that the terminal has it", func() bool {
		_, body := box.Do(http.MethodGet, path+"/"+id.RequestID, cashier, "")
		return strings.Contains(body, `"status":"SENT"`)
	})
	say(`42["terminal:payment_result",{"requestId":"` + id.RequestID + `","status":"success"}]`)
	Eventually(t, 20*time.Second, "the charge is over", func() bool { return charged.Load() == http.StatusOK })
}
