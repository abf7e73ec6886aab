package lan

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/zishang520/socket.io/v3/pkg/types"
)

// pollGrace is how much longer than a whole heartbeat a poll may wait.
const pollGrace = 10 * time.Second

// servePoll serves a poll request around three faults of the library.
//
// It leaves the poll hanging when it closes a polling connection, since it
// closes the queue before it queues the last answer: so the poll ends with the
// connection here.
//
// It forgets the pending poll twice, before it writes the answer and again a
// moment after: a client that polls again in between is forgotten too, which
// ends its session with the next event. So the answer is kept back until the
// second time is over.
//
// And it looks at a request whose context ends while it still sets it up: so it
// gets a context that ends only afterwards.
func (s *Server) servePoll(w http.ResponseWriter, r *http.Request, sid string) {
	limit := s.cfg.PingInterval + s.cfg.PingTimeout + pollGrace
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), limit)
	defer cancel()
	p := &poll{cancel: cancel}
	defer context.AfterFunc(r.Context(), p.end)()
	if conn, ok := s.io.Engine().Clients().Load(sid); ok {
		defer s.linkOf(conn).polling(p)()
	}
	answer := &pollAnswer{ResponseWriter: w, settled: make(chan struct{})}
	s.engine.ServeHTTP(answer, r.WithContext(ctx))

	status, body, settling := answer.taken()
	if status == 0 {
		turnAway(w, http.StatusBadRequest, "Session closed")
		return
	}
	if settling {
		select {
		case <-answer.settled:
		case <-ctx.Done():
		}
	}
	w.WriteHeader(status)
	_, _ = w.Write(body) // one that is lost shows in the next poll
}

// poll is a poll request that waits for something to send.
type poll struct {
	cancel context.CancelFunc

	mu    sync.Mutex // guards below
	waits bool       // the library has set it up
	ended bool
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

// pollAnswering runs when a transport is about to answer a request.
func (s *Server) pollAnswering(args []any) {
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
