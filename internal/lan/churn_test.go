package lan_test

import (
	"runtime"
	"sync"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
)

// TestChurn connects and vanishes at every stage of a connection, many at once,
// and looks for what stays behind.
func TestChurn(t *testing.T) {
	b := start(t)
	witness := b.as(event.Viewer)
	login := []byte(`40{"token":"` + b.mint(auth.Grant{Subject: "s", Role: event.Waiter}) + `"}`)
	const rounds, atOnce = 40, 8
	goroutines := runtime.NumGoroutine()
	for round := range rounds {
		var group sync.WaitGroup
		for i := range atOnce {
			group.Go(func() {
				ws, resp, err := websocket.DefaultDialer.Dial("ws://"+b.Addr().String()+"/socket.io/?EIO=4&transport=websocket", nil)
				if err != nil {
					t.Errorf("dial: %v", err)
					return
				}
				_ = resp.Body.Close()
				defer ws.Close()
				stage := (round + i) % 5
				if stage > 0 {
					_ = ws.WriteMessage(websocket.TextMessage, login)
				}
				for range stage - 1 { // open, CONNECT, greeting
					if _, _, err := ws.ReadMessage(); err != nil {
						t.Errorf("stage %d: %v", stage, err)
					}
				}
				if stage == 4 {
					_ = ws.WriteMessage(websocket.TextMessage, []byte("42[\"join_room\",{\"roomType\":\"table\",\"venueId\":\"venue_1\",\"tableId\":\"t\"}]"))
				}
			})
		}
		group.Wait()
	}
	defer func() {
		if t.Failed() {
			t.Logf("left are %v of connections, sockets, sessions, links", b.Left())
		}
	}()
	until(t, "only the witness is left", func() bool {
		b.Sweep() // what the library forgot
		return b.Left() == [4]int{1, 1, 1, 1}
	})
	until(t, "goroutines end", func() bool { return runtime.NumGoroutine() < goroutines+20 })
	b.quiet(witness)
	if n := b.Stats().Panics; n != 0 {
		t.Errorf("%d panics:\n%s", n, b.logs)
	}
}
