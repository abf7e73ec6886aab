package lan

import (
	"encoding/json"
	"sync"
	"time"

	"github.com/avoqado/avoqado-edge/internal/lan/packet"
)

// ask sends one event to this socket alone and calls done once: with what the
// client answers, or with nil when it has not in time, whether it is still there
// or not. done runs on a goroutine of its own or on the socket's queue, and must
// not block; it may run after the server has ended. Nothing waits in between.
//
// The ids are ours and the timer is too: the library's own acknowledgements
// panic in their timeout. Its table of who waits is used, since that is where
// its reader looks an answer up, per socket: no client answers for another.
func (sess *session) ask(name string, body json.RawMessage, timeout time.Duration, done func(answer json.RawMessage)) {
	id := sess.server.desk.bridge.asks.Add(1)
	waiting := sess.io.Acks()
	var once sync.Once
	finish := func(answer json.RawMessage) {
		once.Do(func() {
			waiting.Delete(id)
			sess.server.guard("answer to "+name, func() { done(answer) })
		})
	}
	timer := time.AfterFunc(timeout, func() { finish(nil) })
	waiting.Store(id, func(args []any, _ error) {
		timer.Stop()
		answer := json.RawMessage("null")
		if len(args) > 0 {
			if raw, ok := args[0].(json.RawMessage); ok {
				answer = raw
			}
		}
		finish(answer)
	})
	_ = sess.io.Emit(name, body, packet.AckID(id))
}
