package redistest

import (
	"net"
	"testing"
	"time"
)

// TestPortTaken has somebody else take the port while the server is down, and let
// go of it.
func TestPortTaken(t *testing.T) {
	r := Start(t)
	r.Stop()
	other, err := net.Listen("tcp", r.Addr())
	if err != nil {
		t.Skip(err) // somebody else has
	}
	time.AfterFunc(200*time.Millisecond, func() { _ = other.Close() })
	r.Start()
	if got := r.Do("PING"); got != "PONG" {
		t.Errorf("answered %q", got)
	}
}
