package lan

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/avoqado/avoqado-edge/internal/lan/wire"
)

// holdTimeout bounds how long a read waits for the library, see [conn.hold].
const holdTimeout = 5 * time.Second

// conn is a TCP connection with a deadline on each write. The library has none:
// without it a client that stops reading would hold its buffers until the ping
// timeout, and a blocked one for ever.
type conn struct {
	net.Conn
	timeout  time.Duration // of a write
	closing  func()
	upgraded func()                         // carries a WebSocket from now on
	stalled  func()                         // a write met its deadline
	diverted atomic.Pointer[func(b []byte)] // takes what is written
	peeked   []byte                         // read, and not yet taken; owned by who reads
	held     atomic.Pointer[chan struct{}]
	since    atomic.Int64 // when the header of a request was begun to be waited for, Unix ms; 0: it is here
}

// Write implements [net.Conn].
func (c *conn) Write(b []byte) (int, error) {
	if to := c.diverted.Load(); to != nil {
		(*to)(b)
		return len(b), nil
	}
	if err := c.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.stalled()
	}
	return n, err
}

// peek returns the first byte, which stays to be read.
func (c *conn) peek() (byte, error) {
	first := make([]byte, 1)
	if _, err := io.ReadFull(c.Conn, first); err != nil {
		return 0, err
	}
	c.peeked = first
	return first[0], nil
}

// Read implements [net.Conn]. While the connection is held it keeps what it
// read until it is let go.
func (c *conn) Read(b []byte) (int, error) {
	if len(c.peeked) > 0 {
		n := copy(b, c.peeked)
		c.peeked = c.peeked[n:]
		return n, nil
	}
	n, err := c.Conn.Read(b)
	if held := c.held.Load(); held != nil && n > 0 {
		timer := time.NewTimer(holdTimeout)
		defer timer.Stop()
		select {
		case <-*held:
		case <-timer.C:
		}
	}
	return n, err
}

// SyscallConn implements [syscall.Conn]. What is written through it has no
// deadline from here.
func (c *conn) SyscallConn() (syscall.RawConn, error) {
	if inner, ok := c.Conn.(syscall.Conn); ok {
		return inner.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// Divert implements [wire.Diverter].
func (c *conn) Divert(to func(b []byte)) { c.diverted.Store(&to) }

// expect notes that the header of a request is waited for, until it is served.
func (c *conn) expect() { c.since.CompareAndSwap(0, time.Now().UnixMilli()) }

// served notes that the header is here.
func (c *conn) served() { c.since.Store(0) }

// expecting returns for how long a header has been waited for; 0: for none.
func (c *conn) expecting() time.Duration {
	since := c.since.Load()
	if since == 0 {
		return 0
	}
	return time.Since(time.UnixMilli(since))
}

// Close implements [net.Conn].
func (c *conn) Close() error {
	c.closing()
	return c.Conn.Close()
}

// hold keeps what the peer sends until the returned function is called. The
// library starts to read a WebSocket before it listens to what it reads, so
// that the CONNECT of a fast client is lost and the client hangs until the
// connect timeout. Held for the time of the upgrade, nothing can be lost.
func (c *conn) hold() (release func()) {
	held := make(chan struct{})
	c.held.Store(&held)
	return func() {
		c.held.Store(nil)
		close(held)
	}
}

var _ wire.Diverter = (*conn)(nil)

type connKey struct{}

// withConn keeps the connection where the handler finds it.
func withConn(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	return context.WithValue(ctx, connKey{}, c)
}

func connOf(ctx context.Context) (*conn, bool) {
	c, ok := ctx.Value(connKey{}).(*conn)
	return c, ok
}
