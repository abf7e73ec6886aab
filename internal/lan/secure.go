package lan

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// tlsRecord is the first byte of who wants TLS: a record of a handshake (RFC
// 8446 §5.1). No request of HTTP begins with it.
const tlsRecord = 22

// bilingual serves TLS and plain connections on one port: what a client sends
// first tells which it is. What names the port (the SRV record, a QR code, the
// terminals there are) stays true whether TLS is on or off.
//
//	listener ─► run ─► look, one goroutine per connection, until its first byte ─► Accept
type bilingual struct {
	*listener
	tls     *tls.Config
	patient time.Duration // with the first byte
	known   chan net.Conn
	over    chan struct{} // closed when known gets no more
}

func newBilingual(l *listener, t *tls.Config, patient time.Duration) *bilingual {
	t = t.Clone()
	t.NextProtos = []string{"http/1.1"} // a WebSocket has a connection of its own
	return &bilingual{listener: l, tls: t, patient: patient, known: make(chan net.Conn), over: make(chan struct{})}
}

// Accept implements [net.Listener].
func (b *bilingual) Accept() (net.Conn, error) {
	select {
	case c := <-b.known:
		return c, nil
	case <-b.over:
		return nil, net.ErrClosed
	}
}

// run accepts until the listener is closed; those whose first byte has not come
// by then are closed.
func (b *bilingual) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	var looking sync.WaitGroup
	for {
		c, err := b.listener.Accept()
		if err != nil {
			break
		}
		looking.Go(func() { b.look(ctx, c.(*conn)) })
	}
	cancel()
	close(b.over)
	looking.Wait()
}

func (b *bilingual) look(ctx context.Context, c *conn) {
	c.expect()
	_ = c.SetReadDeadline(time.Now().Add(b.patient)) // an error shows when reading
	defer context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })()
	first, err := c.peek()
	if ctx.Err() == nil && errors.Is(err, os.ErrDeadlineExceeded) {
		b.counters.refuse(reasonHeader)
	}
	if err != nil {
		_ = c.Close()
		return
	}
	_ = c.SetReadDeadline(time.Time{})
	var found net.Conn = c
	if first == tlsRecord {
		found = tls.Server(c, b.tls)
	}
	select {
	case b.known <- found:
	case <-b.over:
		_ = c.Close()
	}
}
