package lan

import (
	"context"
	"net"
	"time"

	"github.com/zishang520/socket.io/servers/socket/v3"
)

// Sweep runs what runs every minute, as [Server.Run] does.
func (s *Server) Sweep() { s.guard("sweep", s.sweep) }

// Disconnect says that a socket is gone, as the library does.
func (s *Server) Disconnect(sid string) {
	if io, ok := s.io.Sockets().Sockets().Load(socket.SocketId(sid)); ok {
		io.EmitReserved("disconnect", "transport close")
	}
}

// WithDeadline returns a connection as the listener hands it out, which calls
// stalled when a write takes longer than timeout.
func WithDeadline(c net.Conn, timeout time.Duration, stalled func()) net.Conn {
	return &conn{Conn: c, timeout: timeout, closing: func() {}, stalled: stalled}
}

// DeskRound does once what the desk of a server that does not run would do.
func (s *Server) DeskRound() {
	s.desk.follow(context.Background())
	s.desk.work(context.Background())
}

// Polls counts the poll requests that wait for something to send.
func (s *Server) Polls() int { return s.wire.Polls() }

// Left counts what is kept per connection: in the library connections and
// sockets, here sessions and links.
func (s *Server) Left() [4]int {
	links := 0
	s.links.Range(func(any, any) bool { links++; return true })
	return [4]int{s.io.Engine().Clients().Len(), s.io.Sockets().Sockets().Len(), len(s.live()), links}
}
