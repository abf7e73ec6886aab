package uplink

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// pipe is the TCP connection at the bottom, below TLS and WebSocket. It bounds
// writes by progress, not by size: a packet of 128 KiB takes a minute on a line
// of 20 kbit/s, which is slow, not dead.
type pipe struct {
	net.Conn

	early []byte // read with a proxy's answer; used by the one reader

	opened  time.Time
	heard   atomic.Int64 // when bytes came last, in nanoseconds after opened
	written atomic.Int64 // bytes given to the kernel

	writing sync.Mutex // one write at a time, with its deadline
}

// writeChunk is what must go within [writeTimeout].
const writeChunk = 8 << 10

func newPipe(c net.Conn) *pipe {
	return &pipe{Conn: c, opened: time.Now()}
}

// lastHeard returns when bytes came last. It bears a monotonic reading: where the
// system's clock was set back, the Unix time would hide a silence until it is
// reached again.
func (p *pipe) lastHeard() time.Time { return p.opened.Add(time.Duration(p.heard.Load())) }

// Read notes that something came.
func (p *pipe) Read(b []byte) (int, error) {
	if len(p.early) > 0 {
		n := copy(b, p.early)
		p.early = p.early[n:]
		return n, nil
	}
	n, err := p.Conn.Read(b)
	if n > 0 {
		p.heard.Store(int64(time.Since(p.opened)))
	}
	return n, err
}

// Write fails if [writeTimeout] passes without progress.
func (p *pipe) Write(b []byte) (int, error) {
	p.writing.Lock()
	defer p.writing.Unlock()
	done := 0
	for {
		if err := p.Conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return done, err
		}
		n, err := p.Conn.Write(b[done:min(len(b), done+writeChunk)])
		done += n
		p.written.Add(int64(n))
		if err != nil || done == len(b) {
			return done, err
		}
	}
}

// SetWriteDeadline does nothing: Write sets its own, and that of a layer above
// would lift it from a write of another goroutine.
func (p *pipe) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline bounds the reads; see Write for the other half.
func (p *pipe) SetDeadline(t time.Time) error { return p.SetReadDeadline(t) }
