package lan_test

import (
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// TestPongs answers many pings as fast as can be: none of the clients is taken
// for dead. (A pong lost by the engine is noticed only if the next ping comes
// after the timeout.)
func TestPongs(t *testing.T) {
	b := start(t, func(c *lanConfig) { c.PingInterval, c.PingTimeout = 2100*time.Millisecond, 2*time.Second })
	clients := make([]*client, 50)
	for i := range clients {
		clients[i] = b.as(event.Waiter)
	}
	for _, c := range clients {
		until(t, "pings come", func() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.pings > 2 || c.ended != nil })
		if c.closed() {
			t.Fatal("a client that answers is dropped")
		}
	}
}
