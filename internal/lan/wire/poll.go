package wire

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/zishang520/socket.io/servers/engine/v3"
	"github.com/zishang520/socket.io/servers/engine/v3/transports"
	"github.com/zishang520/socket.io/v3/pkg/types"
)

// session is a connection of the engine that began with polling.
type session struct {
	conn engine.Socket

	mu     sync.Mutex         // guards below
	polls  map[*poll]struct{} // pending; more than one is a client's fault
	closed bool
}

// watch makes the hub know the polling connections of an engine, so that it can
// serve their requests.
func (h *Hub) watch(e engine.BaseServer) {
	_ = e.On("connection", func(args ...any) {
		conn, ok := args[0].(engine.Socket)
		if !ok || conn.Transport().Name() != transports.POLLING {
			return
		}
		s := &session{conn: conn, polls: make(map[*poll]struct{})}
		h.sessions.Store(conn.Id(), s)
		_ = conn.Transport().On("ready", func(...any) { s.ready() })
		_ = conn.On("close", func(...any) {
			h.sessions.Delete(conn.Id())
			s.close()
		})
		if conn.ReadyState() == "closed" { // before anybody listened
			h.sessions.Delete(conn.Id())
			s.close()
		}
	})
	_ = e.On("headers", func(args ...any) { answering(args) })
}

// Polls counts the poll requests that wait for something to send.
func (h *Hub) Polls() (n int) {
	h.sessions.Range(func(_, s any) bool {
		n += s.(*session).waiting()
		return true
	})
	return n
}

func (s *session) waiting() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.polls {
		if p.isWaiting() {
			n++
		}
	}
	return n
}

// add registers a poll, which ends with the connection.
func (s *session) add(p *poll) (remove func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		p.end()
		return func() {}
	}
	s.polls[p] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.polls, p)
	}
}

// ready runs when the polling transport has taken a poll.
func (s *session) ready() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.polls {
		p.take()
	}
}

// closeGrace is how long the library has to answer a poll of a session that is
// closed, which it does if the client closed it.
const closeGrace = 50 * time.Millisecond

func (s *session) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for p := range s.polls {
		time.AfterFunc(closeGrace, p.end)
	}
}

func (s *session) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

func (h *Hub) session(sid string) *session {
	if s, ok := h.sessions.Load(sid); ok {
		return s.(*session)
	}
	return nil
}

// servePoll serves a poll request around three faults of the library.
//
// It leaves the poll hanging when it closes a polling connection, since it
// closes the queue before it queues the last answer: so the poll ends with the
// connection here, with a close packet.
//
// It forgets the pending poll twice, before it writes the answer and again a
// moment after: a client that polls again in between is forgotten too, which
// ends its session with the next event. So the answer is kept back until the
// second time is over.
//
// And it looks at a request whose context ends while it still sets it up: so it
// gets a context that ends only afterwards.
func (h *Hub) servePoll(engine http.Handler, w http.ResponseWriter, r *http.Request, sid string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), h.cfg.PollTimeout)
	defer cancel()
	p := &poll{cancel: cancel}
	defer context.AfterFunc(r.Context(), p.end)()
	s := h.session(sid)
	if s != nil {
		defer s.add(p)()
	}
	answer := &pollAnswer{ResponseWriter: w, settled: make(chan struct{})}
	engine.ServeHTTP(answer, r.WithContext(ctx))

	status, body, settling := answer.taken()
	if settling {
		select {
		case <-answer.settled:
		case <-ctx.Done():
		}
	}
	if status == 0 {
		status, body = http.StatusBadRequest, []byte(`{"code":3,"message":"Session closed"}`)
		if s != nil && s.isClosed() {
			status, body = http.StatusOK, []byte("1")
		}
	}
	w.WriteHeader(status)
	_, _ = w.Write(body) // one that is lost shows in the next poll
}

// servePost serves what a polling client sends. The library passes over what it
// cannot read, takes a body that breaks off for a whole one, or answers it while
// it is at it, and says ok: so it is given a body that came whole and has the form
// of a payload. Any other is refused and ends the session.
func (h *Hub) servePost(engine http.Handler, w http.ResponseWriter, r *http.Request, sid string) {
	s := h.session(sid)
	if s == nil || r.Method != http.MethodPost {
		engine.ServeHTTP(w, r) // is answered without its body
		return
	}
	payload, err := io.ReadAll(io.LimitReader(r.Body, int64(h.cfg.MaxPayload)+1))
	if err == nil && len(payload) <= h.cfg.MaxPayload && isPayload(payload) {
		r.Body = io.NopCloser(bytes.NewReader(payload))
		engine.ServeHTTP(w, r)
		return
	}
	status := http.StatusBadRequest
	if len(payload) > h.cfg.MaxPayload {
		h.large.Add(1)
		status = http.StatusRequestEntityTooLarge
	}
	s.conn.Close(true)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, `{"code":3,"message":"Bad request"}`) // nobody to tell
}

// isPayload reports whether packets stand between separators: each begins with
// its type, or with b if it is binary (Engine.IO protocol 4, HTTP long-polling).
func isPayload(b []byte) bool {
	const separator = "\x1e"
	for packet := range bytes.SplitSeq(b, []byte(separator)) {
		if len(packet) == 0 || (packet[0] < '0' || packet[0] > '6') && packet[0] != 'b' {
			return false
		}
	}
	return true
}

// poll is a poll request that waits for something to send.
type poll struct {
	cancel context.CancelFunc

	mu    sync.Mutex // guards below
	waits bool       // the library has set it up
	ended bool
}

func (p *poll) isWaiting() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waits
}

// take notes that the request is set up; from now on it can be ended.
func (p *poll) take() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waits = true
	if p.ended {
		p.cancel()
	}
}

// end ends the request, now or as soon as it is set up.
func (p *poll) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	if p.waits {
		p.cancel()
	}
}

// pollAnswer keeps the answer to a poll until it may leave.
type pollAnswer struct {
	http.ResponseWriter
	settled chan struct{} // closed when the library is through with the request

	mu       sync.Mutex // guards below
	status   int
	body     []byte
	settling bool // it comes from the transport, so settled will be closed
}

func (a *pollAnswer) taken() (status int, body []byte, settling bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.status, a.body, a.settling
}

// WriteHeader implements [http.ResponseWriter].
func (a *pollAnswer) WriteHeader(status int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.status = status
}

// Write implements [http.ResponseWriter]; the library calls it once.
func (a *pollAnswer) Write(b []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.body = append(a.body, b...)
	return len(b), nil
}

// answering runs when a transport is about to answer a request.
func answering(args []any) {
	ctx, ok := args[1].(*types.HttpContext)
	if !ok {
		return
	}
	if a, ok := ctx.Response().(*pollAnswer); ok {
		a.mu.Lock()
		a.settling = true
		a.mu.Unlock()
		_ = ctx.Once("close", func(...any) { close(a.settled) })
	}
}
