package lan

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// spareDescriptors is how many of the process's file descriptors clients
	// never get: the journal rolls its files with them, and the uplink, mDNS
	// and the command line go on.
	spareDescriptors = 64

	firstAcceptPause = 5 * time.Millisecond // after an accept that failed; doubles up to
	maxAcceptPause   = time.Second
)

// listener hands out connections with a write deadline and closes those beyond
// its limit at once, so that no client can use up the file descriptors. It
// outlives every failure to accept: until it is closed, there is none that does
// not pass.
type listener struct {
	net.Listener
	limit    int64
	beyond   string // reason given beyond the limit
	stall    time.Duration
	open     atomic.Int64
	plain    *crowd // connections that carry no WebSocket
	counters *counters
	log      *slog.Logger
	closed   chan struct{}
	closing  sync.Once
}

// newListener bounds inner to what sessions need and descriptors allow. Three
// times the sessions: a client may hold a polling and a WebSocket connection
// while it upgrades, and the HTTP API comes in here too.
//
// A third of it may be an address's, without its WebSockets: those are
// transports, which have bounds of their own. So a venue behind one router has
// room for all its devices, and nobody who opens connections and says nothing
// takes those of the others.
func newListener(inner net.Listener, sessions int, stall time.Duration, c *counters, log *slog.Logger) *listener {
	l := &listener{
		Listener: inner, stall: stall, limit: int64(3*sessions + 64), beyond: reasonFull,
		counters: c, log: log, closed: make(chan struct{}),
	}
	if n, known := descriptors(); known && n-spareDescriptors < l.limit {
		l.limit, l.beyond = max(n-spareDescriptors, 1), reasonDescriptors
		log.Warn("file descriptors allow fewer connections than configured", "descriptors", n, "connections", l.limit)
	}
	l.plain = newCrowd(int(l.limit / 3))
	return l
}

// Accept implements [net.Listener]. It returns an error only once the listener
// is closed. Without descriptors it waits, a second at most between two tries;
// who wants to connect waits in the kernel's queue meanwhile.
func (l *listener) Accept() (net.Conn, error) {
	wait := time.Duration(0)
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil, err
			}
			if wait == 0 {
				l.log.Error("no connection can be accepted", "err", err)
			}
			wait = min(max(2*wait, firstAcceptPause), maxAcceptPause)
			l.failed(err)
			l.pause(wait)
			continue
		}
		if wait > 0 {
			l.log.Info("connections are accepted again")
			wait = 0
		}
		if l.open.Add(1) > l.limit {
			l.open.Add(-1)
			l.turnAway(c)
			continue
		}
		host := hostOf(c.RemoteAddr().String())
		leave := sync.OnceFunc(func() { l.plain.leave(host) })
		if !l.plain.enter(host) {
			leave()
			l.open.Add(-1)
			_ = c.Close()
			l.counters.refuse(reasonAddress)
			continue
		}
		return &conn{
			Conn:     c,
			timeout:  l.stall,
			closing:  sync.OnceFunc(func() { l.open.Add(-1); leave() }),
			upgraded: leave,
			stalled:  sync.OnceFunc(func() { l.counters.refuse(reasonStalled) }),
		}, nil
	}
}

func (l *listener) failed(err error) {
	if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
		l.counters.starve(time.Now())
		return
	}
	l.counters.refuse(reasonAccept)
}

func (l *listener) turnAway(c net.Conn) {
	if l.beyond == reasonDescriptors {
		l.counters.starve(time.Now())
	} else {
		l.counters.refuse(l.beyond)
	}
	_ = c.Close()
}

func (l *listener) pause(d time.Duration) { l.wait(context.Background(), d) }

// wait waits until the time is over, ctx ends or the listener is closed.
func (l *listener) wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-l.closed:
	case <-timer.C:
	}
}

// Close implements [net.Listener].
func (l *listener) Close() error {
	l.closing.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// connState watches for connections whose peer never finishes the header of a
// request; net/http closes them after HeaderTimeout without a word.
func (s *Server) connState(c net.Conn, state http.ConnState) {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	peer, ok := c.(*conn)
	if !ok {
		return
	}
	switch state {
	case http.StateNew:
		peer.expect()
	case http.StateActive:
		peer.expect()
	case http.StateClosed:
		if peer.expecting() >= s.cfg.HeaderTimeout {
			s.counters.refuse(reasonHeader)
		}
	case http.StateHijacked:
		peer.upgraded()
	case http.StateIdle:
	}
}
