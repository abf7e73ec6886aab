package lan

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zishang520/socket.io/servers/engine/v3"
	"github.com/zishang520/socket.io/servers/socket/v3"
	"github.com/zishang520/socket.io/v3/pkg/types"

	"github.com/avoqado/avoqado-edge/internal/lan/packet"
	"github.com/avoqado/avoqado-edge/internal/lan/recovery"
	"github.com/avoqado/avoqado-edge/internal/lan/span"
	"github.com/avoqado/avoqado-edge/internal/lan/wire"
)

// maxFrame is the largest message a client may send, in bytes; part of the
// Engine.IO handshake (contract §1.1).
const maxFrame = 1_000_000

const (
	answerTimeout = 3 * time.Second      // at the end, for what is being answered
	closeTimeout  = time.Second          // then, for the HTTP requests left
	saveEvery     = 3 * time.Second      // positions, if one changed
	sweepEvery    = time.Minute          // dead entries, and every token again
	lapseEvery    = time.Second          // grants that ended
	pollGrace     = 10 * time.Second     // longer than a whole heartbeat may a poll wait
	pollEvery     = 5 * time.Millisecond // while waiting for the end
	idleTimeout   = 120 * time.Second    // of a kept-alive HTTP connection
	maxHeader     = 32 << 10             // bytes
)

// Server serves the LAN. All exported methods may be called concurrently.
type Server struct {
	cfg      Config
	verifier Verifier
	journal  Journal
	log      *slog.Logger
	extra    http.Handler
	origins  map[string]bool       // lower case
	hosts    atomic.Pointer[hosts] // never nil
	rooms    rooms

	listener *listener
	secure   *bilingual // in front of listener; nil: no TLS
	http     *http.Server
	engine   http.Handler
	io       *socket.Server
	parser   packet.Parser
	wire     *wire.Hub
	span     *span.Span // nil: no other boxes

	counters  *counters
	jobs      *jobs
	fan       *fanout
	desk      *desk
	followers *followers
	syncer    *syncer
	recovery  *recovery.Store
	positions *positions
	terminals *terminals
	addresses *addresses
	devices   *addresses // the same for terminals that clients say to be
	leases    leaseUses
	verdicts  atomic.Int64 // how often what makes a token good has changed
	lonely    *crowd       // transports without a session

	serving  context.Context // ends when Run has answered what it could
	stop     context.CancelFunc
	closing  atomic.Bool  // nothing new is taken
	inflight atomic.Int64 // events taken and not answered
	panicked sync.Map     // place of a panic → logged

	links sync.Map // engine id → *link

	mu       sync.Mutex // guards below
	sessions map[string]*session
}

// Listen binds the address and reads the saved positions. Nothing is answered
// before [Server.Run]. extra serves every path but /socket.io/.
func Listen(cfg Config, v Verifier, j Journal, state State, extra http.Handler, log *slog.Logger) (*Server, error) {
	cfg = cfg.withDefaults()
	positions, err := loadPositions(state, j.Epoch, log)
	if err != nil {
		return nil, err
	}
	terminals, err := loadTerminals(state, log)
	if err != nil {
		return nil, err
	}
	v.KnownAs(terminals.cuidOf)
	sessions, err := recovery.Open(state, j.Epoch, cfg.Now, log)
	if err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, verifier: v, journal: j, log: log, extra: extra,
		origins: make(map[string]bool), rooms: rooms{cfg.Venue, terminals.serial},
		counters: newCounters(), jobs: newJobs(), positions: positions,
		terminals: terminals,
		addresses: &addresses{seen: make(map[string]*address)},
		devices:   &addresses{seen: make(map[string]*address)},
		lonely:    newCrowd(cfg.MaxConnections / 2),
		sessions:  make(map[string]*session),
	}
	s.SetHosts(cfg.Hosts)
	for _, origin := range append(dashboardOrigins(), cfg.CORS...) {
		s.origins[strings.ToLower(strings.TrimRight(origin, "/"))] = true
	}
	s.serving, s.stop = context.WithCancel(context.Background())
	s.fan, s.recovery = newFanout(s), sessions
	s.syncer = newSyncer(s, cfg.Cloud)
	s.followers = &followers{server: s, wake: make(chan struct{}, 1)}
	s.desk = newDesk(s, state)
	if err := s.openSpan(); err != nil {
		return nil, err
	}
	s.serveSocketIO()
	s.http = &http.Server{
		Handler:           http.HandlerFunc(s.serveHTTP),
		ReadHeaderTimeout: cfg.HeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ConnContext:       withConn,
		ConnState:         s.connState,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	inner, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", cfg.Listen, err)
	}
	s.listener = newListener(inner, cfg.MaxConnections, cfg.StallTimeout, s.counters, log)
	if cfg.TLS != nil {
		s.secure = newBilingual(s.listener, cfg.TLS, cfg.HeaderTimeout)
	}
	return s, nil
}

// serveSocketIO sets the library up.
func (s *Server) serveSocketIO() {
	s.wire = wire.New(wire.Config{
		MaxPayload:   maxFrame,
		MaxBacklog:   maxBacklog,
		WriteTimeout: s.cfg.StallTimeout,
		PollTimeout:  s.cfg.PingInterval + s.cfg.PingTimeout + pollGrace,
		OnBacklog:    func() { s.fan.crowded() },
		OnDrop: func(client net.Addr, why wire.Reason) {
			reason := reasonSlow
			if why == wire.Stalled {
				reason = reasonStalled
			}
			s.tooSlow(reason, client.String())
		},
		Guard: func(f func()) bool { return s.guard("message", f) },
	})
	o := socket.DefaultServerOptions()
	o.SetTransports(types.NewSet(socket.Polling, socket.WebSocket))
	if s.cfg.Transport == Fast {
		o.SetTransports(types.NewSet(socket.Polling, s.wire.Transport()))
	}
	o.SetAdapter(s.adapter())
	o.SetServeClient(false)
	o.SetPingInterval(s.cfg.PingInterval)
	o.SetPingTimeout(s.cfg.PingTimeout)
	o.SetConnectTimeout(2 * s.cfg.ConnectTimeout) // dropSilent comes before it, and counts
	o.SetMaxHttpBufferSize(maxFrame)
	o.SetIdleTimeout(max(idleTimeout, 2*(s.cfg.PingInterval+s.cfg.PingTimeout)))
	s.parser = packet.Parser{
		PidOf:      s.pidOf,
		Malformed:  func() { s.counters.refuse(reasonMalformed) },
		Waited:     func() { s.counters.waits.Add(1) },
		Unwritable: func() { s.counters.writeErrors.Add(1) },
	}
	o.SetParser(s.parser)
	// Origins are checked in serveHTTP, for both transports alike; here the
	// allowed one is only echoed.
	o.SetCors(&types.Cors{
		Origin:      func(string) bool { return true },
		Methods:     []string{"GET", "POST", "DELETE", "PATCH", "PUT"},
		Credentials: true,
	})
	s.io = socket.NewServer(nil, o)
	handler := s.io.ServeHandler(nil) // makes the engine
	s.io.Use(s.handshake)
	_ = s.io.On("connection", func(args ...any) {
		io := args[0].(*socket.Socket)
		if !s.guard("connection", func() { s.connected(io) }) {
			s.linkOf(io.Conn()).drop() // it would hear nothing
		}
	})
	_ = s.io.Engine().On("connection", func(args ...any) {
		s.guard("connection", func() { s.linkOf(args[0].(engine.Socket)) })
	})
	s.engine = s.wire.Front(s.io.Engine(), handler, s.cfg.Transport == Fast)
}

// Addr returns the address that is bound.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Close lets the address go. It is for a server that is never run; after
// [Server.Run] it does nothing.
func (s *Server) Close() error {
	s.stop()
	if err := s.listener.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// Run serves until ctx ends or the listener fails, and returns when all is
// over, at most about 5 s after ctx ended. It may be called once.
//
// At the end: no new connections or events; what was taken is answered, for
// answerTimeout at most; transports are closed without a DISCONNECT packet, so
// that clients reconnect by themselves; positions are saved. Nothing that was
// acknowledged depends on any of it.
func (s *Server) Run(ctx context.Context) error {
	var group sync.WaitGroup
	failed := make(chan error, 1)
	if s.secure == nil {
		group.Go(func() { failed <- s.http.Serve(s.listener) })
	} else {
		group.Go(func() { failed <- s.http.Serve(s.secure) })
		group.Go(func() { s.secure.run(s.serving) })
	}
	group.Go(func() { s.fan.watch(s.serving) })
	group.Go(func() { s.fan.run(s.serving) })
	group.Go(func() { s.desk.run(s.serving) })
	group.Go(func() { s.followers.run(s.serving) })
	group.Go(func() { s.syncer.run(s.serving) })
	group.Go(func() { s.recovery.Run(s.serving) })
	group.Go(func() { s.wire.Run(s.serving) })
	if s.span != nil {
		group.Go(func() { s.span.Run(s.serving) })
	}
	group.Go(func() { s.jobs.run(s.serving, func(where string, f func()) { s.guard(where, f) }) })
	group.Go(func() { s.upkeep(s.serving) })

	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
		err = fmt.Errorf("serve %s: %w", s.Addr(), err)
	}
	s.closing.Store(true)
	s.desk.bridge.close()
	_ = s.listener.Close() // no new connections; nothing else to do about an error
	s.settle()
	s.io.Close(nil)
	closed, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if s.http.Shutdown(closed) != nil {
		_ = s.http.Close() // what did not end in time is cut
	}
	s.stop()
	group.Wait()
	if saveErr := s.positions.save(true); saveErr != nil {
		s.counters.saveErrors.Add(1)
		err = errors.Join(err, saveErr)
	}
	return err
}

// settle waits until all that was taken is answered and the answers are out.
func (s *Server) settle() {
	deadline := time.NewTimer(answerTimeout)
	defer deadline.Stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		busy := s.inflight.Load() > 0
		s.links.Range(func(_, l any) bool {
			busy = busy || !l.(*link).idle()
			return !busy
		})
		if !busy {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			s.log.Warn("events left unanswered at the end", "events", s.inflight.Load())
			return
		}
	}
}

// upkeep saves positions and sweeps, until ctx ends.
func (s *Server) upkeep(ctx context.Context) {
	save, sweep, silent := time.NewTicker(saveEvery), time.NewTicker(sweepEvery), time.NewTicker(s.cfg.ConnectTimeout/5)
	lapse := time.NewTicker(lapseEvery)
	defer lapse.Stop()
	defer save.Stop()
	defer sweep.Stop()
	defer silent.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-save.C:
			err := s.positions.save(false)
			if err != nil {
				s.counters.saveErrors.Add(1)
			}
			if err != nil && !failing {
				s.log.Error("positions not saved", "err", err)
			}
			failing = err != nil
		case <-sweep.C:
			s.guard("sweep", s.sweep)
		case <-lapse.C:
			s.guard("lapse", s.endLapsed)
		case <-silent.C:
			s.guard("silent", s.dropSilent)
		}
	}
}

// sweep takes out what the library forgets to (connections that closed while
// they were being made) and closes the transports of sessions whose token is no
// longer good; they come back with a new one or are told why not.
func (s *Server) sweep() {
	clients := s.io.Engine().Clients()
	dead := make(map[string]bool)
	clients.Range(func(id string, c engine.Socket) bool {
		if l := s.linkOf(c); l.dead() {
			dead[id] = true
			clients.Delete(id)
			l.close()
			s.counters.swept.Add(1)
		}
		return true
	})
	s.io.Sockets().Sockets().Range(func(_ socket.SocketId, io *socket.Socket) bool {
		if c := io.Conn(); c.ReadyState() == "closed" || dead[c.Id()] {
			io.Disconnect(true)
			s.counters.swept.Add(1)
		}
		return true
	})
	s.VerifyAgain()
}

// live returns the sessions there are.
func (s *Server) live() []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*session, 0, len(s.sessions))
	for _, sess := range s.sessions {
		list = append(list, sess)
	}
	return list
}

// guard runs one of our callbacks so that a panic in it ends nothing but the
// call, and reports whether it came through. Each place is logged once.
func (s *Server) guard(where string, f func()) (ok bool) {
	defer func() {
		if r := recover(); r != nil {
			defer s.counters.panics.Add(1) // once it is said
			if _, logged := s.panicked.LoadOrStore(where, true); logged {
				return
			}
			what := fmt.Sprintf("%T", r) // a value could hold a payload
			if err, is := r.(runtime.Error); is {
				what = err.Error()
			}
			s.log.Error("panic contained", "where", where, "panic", what, "stack", string(debug.Stack()))
		}
	}()
	f()
	return true
}
