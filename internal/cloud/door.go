package cloud

import (
	"fmt"
	"log/slog"
	"net"
	"sync"

	"github.com/mochi-mqtt/server/v2/listeners"
)

// door lets connections in. The library's own listener begins to serve a
// connection behind the back of the one who closes the broker and waits for its
// connections to end, and waits for ever for one that has said nothing yet.
type door struct {
	listener net.Listener
	log      *slog.Logger
	inside   sync.WaitGroup

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]struct{}
}

func openDoor(addr string, log *slog.Logger) (*door, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for mqtt: %w", err)
	}
	return &door{listener: l, log: log, conns: make(map[net.Conn]struct{})}, nil
}

// ID names the listener.
func (*door) ID() string { return "tcp" }

// Protocol names the network.
func (*door) Protocol() string { return "tcp" }

// Address returns the host and port it is bound to.
func (d *door) Address() string { return d.listener.Addr().String() }

// Init has nothing to do: the door is bound from the start.
func (*door) Init(*slog.Logger) error { return nil }

// Serve lets connections in until Close.
func (d *door) Serve(establish listeners.EstablishFn) {
	for {
		conn, err := d.listener.Accept()
		if err != nil {
			return
		}
		if !d.enter(conn, establish) {
			_ = conn.Close()
			return
		}
	}
}

func (d *door) enter(conn net.Conn, establish listeners.EstablishFn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	d.conns[conn] = struct{}{}
	d.inside.Go(func() {
		if err := establish(d.ID(), conn); err != nil {
			d.log.Warn("mqtt connection ended", "err", err)
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.conns, conn)
	})
	return true
}

// Close takes leave of the clients and returns when all connections have ended.
func (d *door) Close(leave listeners.CloseFn) {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	_ = d.listener.Close()
	leave(d.ID())
	d.mu.Lock()
	for conn := range d.conns {
		_ = conn.Close()
	}
	d.mu.Unlock()
	d.inside.Wait()
}
