package wire

import (
	"errors"
	"net"
	"sync"
	"time"
)

// stream is one WebSocket connection. A goroutine reads it and hands what comes
// to its owner; what is sent leaves for the kernel at once or waits in its own
// bounded queue.
type stream struct {
	hub    *Hub
	conn   net.Conn // nil: it could not be taken over
	owner  owner
	decode decoder // owned by read, as first is
	first  int     // messages that are still among the first
	out    outbox
	end    sync.Once
}

// firstMessages is how many are the first of a client: CONNECT, join_room.
const firstMessages = 2

// owner is who a stream's messages are for. Both are called on the stream's
// reader, within [Config.Guard].
type owner interface {
	// message takes one message, which it may keep; idle says that the client
	// had nothing to say.
	message(op byte, data []byte) (idle bool)
	// ended is called once, when nothing more comes.
	ended()
}

// init makes a stream of a connection that speaks WebSocket; an error closes it.
func (s *stream) init(h *Hub, conn net.Conn, o owner) error {
	s.hub, s.owner = h, o
	raw, sealed, err := below(conn)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	_ = conn.SetDeadline(time.Time{}) // one of the handshake's; an error shows when reading
	s.conn, s.out = conn, outbox{hub: h, conn: conn, raw: raw, seal: sealed}
	s.first = firstMessages
	s.decode = decoder{source: newSource(raw, &h.readBuffers), max: h.cfg.MaxPayload}
	if sealed != nil {
		s.decode.source.tls = sealed.tls
	}
	return nil
}

// Backlog returns how many bytes wait because the client does not read.
func (s *stream) Backlog() int { return s.out.waiting() }

// begin starts to read.
func (s *stream) begin() {
	if s.conn == nil || !s.hub.start(s.read) {
		s.finish()
	}
}

// read serves the client and ends the connection after it, also if what was
// called for it panicked.
func (s *stream) read() {
	over := true
	s.hub.cfg.Guard(func() { over = s.serve() })
	if over {
		s.hub.cfg.Guard(s.finish)
	}
}

// serve hands over what the client sends until the connection is over; false: a
// new reader goes on.
//
// A client that has nothing to say but its pong is idle, and its reader gives
// way to a new one: what it read has made its stack grow, and none shrinks below
// 4 KiB again. So it does behind each of the first messages, with which a client
// logs in and says where it is, perhaps to say nothing more for a long time.
func (s *stream) serve() (over bool) {
	control := func(op byte, payload []byte) {
		if op == opPing {
			s.out.send(appendFrame(nil, opPong, payload))
		}
	}
	for {
		op, data, err := s.decode.next(control)
		if err != nil {
			s.farewell(err)
			return true
		}
		idle := s.owner.message(op, data) || s.first > 0
		s.first = max(s.first-1, 0)
		if idle && len(s.decode.source.bytes()) == 0 && s.hub.start(s.read) {
			return false
		}
	}
}

// farewell tells the client why its connection ends, if that is a question of
// the protocol.
func (s *stream) farewell(err error) {
	var status closeError
	switch {
	case errors.As(err, &status):
		if status == statusTooLarge {
			s.hub.large.Add(1)
		}
		s.out.send(closeFrame(uint16(status)))
	case errors.Is(err, errClosing):
		s.out.send(closeFrame(statusNormal))
	}
}

// finish ends the connection and tells its owner.
func (s *stream) finish() {
	s.end.Do(func() {
		if s.conn != nil {
			s.out.close()
		}
		s.owner.ended()
	})
}
