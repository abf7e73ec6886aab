package wire

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zishang520/socket.io/servers/engine/v3/transports"
	"github.com/zishang520/socket.io/v3/pkg/types"
)

// Config says how to carry. All of it has a default; the callbacks may be called
// on any goroutine, must not block and must not send.
type Config struct {
	MaxPayload   int           // bytes of a message a client may send; 1,000,000
	MaxBacklog   int           // bytes that may wait for one client to read them; 1 MiB
	WriteTimeout time.Duration // how long a client may take nothing of them; 30 s
	PollTimeout  time.Duration // how long a poll may wait; 60 s

	// OnBacklog is called when more than half of MaxBacklog comes to wait for a
	// client; what it would be sent from now on may better be kept elsewhere.
	OnBacklog func()
	// OnDrop is called when a client is given up, once, before its connection is
	// closed.
	OnDrop func(client net.Addr, why Reason)
	// Guard calls f, contains a panic of it and reports whether there was none.
	// What a client sends is decoded and dispatched within; a panic there ends
	// its connection alone. By default a panic is not contained.
	Guard func(f func()) (ok bool)
}

// Reason is why a client was given up.
type Reason int

// The reasons.
const (
	Overflow Reason = iota // more waits for it than MaxBacklog
	Stalled                // it took nothing for WriteTimeout
)

// Stats counts what happened since the start. All counters only grow.
type Stats struct {
	Frames  int64 // frames of broadcasts, one per receiver; what the library wrote is not in it
	Stalls  int64 // times a client did not read and a goroutine waited for it
	Dropped int64 // clients given up, for either [Reason]
	Large   int64 // clients dropped for a message beyond MaxPayload
}

// Hub makes transports and adapters and writes for them. All methods may be
// called concurrently.
type Hub struct {
	cfg Config

	frames, stalls, dropped, large atomic.Int64

	readBuffers sync.Pool // of *readBuffer
	scratch     sync.Pool // of *[]byte, writeSize

	sessions sync.Map // engine id → *session, of those that poll

	wake chan struct{} // an entry per flusher that has something to do

	mu         sync.Mutex // guards below
	head, tail *outbox    // those a flusher has to come by, in turn
	over       bool       // Run has ended or is ending: no goroutine starts any more
	group      sync.WaitGroup
}

// maxFlushers is how many goroutines write what was broadcast, at most: more do
// not help, since all write into the same kernel.
const maxFlushers = 4

// flushStep is how many connections a flusher takes at once, and for how many
// one more of them is woken.
const flushStep = 32

// New returns a hub. It writes by itself, but evenly only while [Hub.Run] runs.
func New(cfg Config) *Hub {
	if cfg.MaxPayload == 0 {
		cfg.MaxPayload = 1_000_000
	}
	if cfg.MaxBacklog == 0 {
		cfg.MaxBacklog = 1 << 20
	}
	if cfg.WriteTimeout == 0 {
		cfg.WriteTimeout = 30 * time.Second
	}
	if cfg.PollTimeout == 0 {
		cfg.PollTimeout = time.Minute
	}
	if cfg.OnBacklog == nil {
		cfg.OnBacklog = func() {}
	}
	if cfg.OnDrop == nil {
		cfg.OnDrop = func(net.Addr, Reason) {}
	}
	if cfg.Guard == nil {
		cfg.Guard = func(f func()) bool { f(); return true }
	}
	h := &Hub{cfg: cfg, wake: make(chan struct{}, min(runtime.GOMAXPROCS(0), maxFlushers))}
	h.readBuffers.New = func() any { return new(readBuffer) }
	h.scratch.New = func() any {
		b := make([]byte, 0, writeSize)
		return &b
	}
	return h
}

// Run writes what is broadcast until ctx ends, and returns when no goroutine of
// a connection is left: close all connections before ctx ends, or with it. It
// may be called once.
func (h *Hub) Run(ctx context.Context) {
	var flushers sync.WaitGroup
	for range cap(h.wake) {
		flushers.Go(func() { h.flushers(ctx) })
	}
	flushers.Wait()
	h.mu.Lock()
	h.over = true
	h.mu.Unlock()
	h.flushScheduled()
	h.group.Wait()
}

// Stats returns the counters.
func (h *Hub) Stats() Stats {
	return Stats{Frames: h.frames.Load(), Stalls: h.stalls.Load(), Dropped: h.dropped.Load(), Large: h.large.Load()}
}

// start runs f on a goroutine of its own that Run waits for; false: it is too
// late for that.
func (h *Hub) start(f func()) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over {
		return false
	}
	h.group.Go(f)
	return true
}

// drop says that a client is given up.
func (h *Hub) drop(conn net.Conn, why Reason) {
	h.dropped.Add(1)
	h.cfg.OnDrop(conn.RemoteAddr(), why)
}

func (h *Hub) flushers(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.wake:
			h.flushScheduled()
		}
	}
}

// flushScheduled writes for all that are scheduled.
func (h *Hub) flushScheduled() {
	for {
		h.mu.Lock()
		first := h.head
		last := first
		for range flushStep - 1 {
			if last == nil || last.next == nil {
				break
			}
			last = last.next
		}
		if last == nil {
			h.mu.Unlock()
			return
		}
		h.head = last.next
		if h.head == nil {
			h.tail = nil
		}
		last.next = nil
		h.mu.Unlock()
		for o := first; o != nil; {
			next := o.next
			o.next = nil // before it may be scheduled again
			o.scheduledFlush()
			o = next
		}
	}
}

// batch collects those that have to be flushed after a broadcast.
type batch struct {
	head, tail *outbox
	n          int
}

func (b *batch) add(o *outbox) {
	if b.tail == nil {
		b.head = o
	} else {
		b.tail.next = o
	}
	b.tail = o
	b.n++
}

// fewReceivers is up to how many receivers are written to at once by the
// broadcaster: waking a flusher costs more than they do.
const fewReceivers = 2

// schedule has a batch written soon. What comes until then is written with it:
// the more there is to do, the more goes out in one write.
func (h *Hub) schedule(b *batch) {
	if b.n == 0 {
		return
	}
	h.mu.Lock()
	if b.n > fewReceivers && !h.over {
		if h.tail == nil {
			h.head = b.head
		} else {
			h.tail.next = b.head
		}
		h.tail = b.tail
		h.mu.Unlock()
		for range min(cap(h.wake), 1+b.n/flushStep) {
			select {
			case h.wake <- struct{}{}:
			default:
				return
			}
		}
		return
	}
	h.mu.Unlock()
	for o := b.head; o != nil; {
		next := o.next
		o.next = nil
		o.scheduledFlush()
		o = next
	}
}

type upgradeKey struct{}

// upgrade is a WebSocket request on its way through the library. It is also that
// request's context: the library keeps it as long as the connection, and net/http's
// own would keep the request.
type upgrade struct {
	transport *Transport
	answered  chan struct{}
}

// Deadline implements [context.Context].
func (*upgrade) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done implements [context.Context].
func (u *upgrade) Done() <-chan struct{} { return u.answered }

// Err implements [context.Context].
func (u *upgrade) Err() error {
	select {
	case <-u.answered:
		return context.Canceled
	default:
		return nil
	}
}

// Value implements [context.Context].
func (u *upgrade) Value(key any) any {
	if key == (upgradeKey{}) {
		return u
	}
	return nil
}

// serveUpgrade starts to read a WebSocket when its request has been answered and
// there is somebody to listen: nothing that a fast client sends is lost. Nothing
// of the request's buffers is kept.
func (h *Hub) serveUpgrade(engine http.Handler, w http.ResponseWriter, r *http.Request) {
	up := &upgrade{answered: make(chan struct{})}
	defer close(up.answered)
	answer := &answer{ResponseWriter: w}
	engine.ServeHTTP(answer, r.WithContext(up))
	if answer.hijacked {
		answer.ResponseWriter = gone{}
	}
	if t := up.transport; t != nil {
		t.begin()
	}
}

// answer lets the library take the connection over. The library keeps it as
// long as the connection, and net/http's own would keep two buffers of 4 KiB.
type answer struct {
	http.ResponseWriter
	hijacked bool
}

// Hijack implements [http.Hijacker].
func (a *answer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffers, err := http.NewResponseController(a.ResponseWriter).Hijack()
	a.hijacked = err == nil
	return conn, buffers, err
}

var errGone = errors.New("connection was taken over")

// gone is the answer to a request whose connection is a WebSocket by now.
type gone struct{}

// Header implements [http.ResponseWriter].
func (gone) Header() http.Header { return make(http.Header) }

// Write implements [http.ResponseWriter].
func (gone) Write([]byte) (int, error) { return 0, errGone }

// WriteHeader implements [http.ResponseWriter].
func (gone) WriteHeader(int) {}

// Transport returns what makes transports, for the library's SetTransports. It
// takes the place of the library's "websocket"; requests must come through a
// [Front].
func (h *Hub) Transport() transports.TransportCtor { return maker{h} }

type maker struct{ hub *Hub }

// Name implements [transports.TransportCtor].
func (maker) Name() string { return transports.WEBSOCKET }

// HandlesUpgrades implements [transports.TransportCtor].
func (maker) HandlesUpgrades() bool { return true }

// UpgradesTo implements [transports.TransportCtor].
func (maker) UpgradesTo() []string { return nil }

// New implements [transports.TransportCtor].
func (m maker) New(ctx *types.HttpContext) transports.Transport { return newTransport(m.hub, ctx) }
