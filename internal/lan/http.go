package lan

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

const socketPath = "/socket.io/"

// dashboardOrigins are the existing dashboards (contract §1.7).
func dashboardOrigins() []string {
	return []string{
		"https://www.dashboard.avoqado.io", "https://dashboard.avoqado.io",
		"https://www.demo.avoqado.io", "https://demo.avoqado.io",
		"https://avoqado.io", "https://www.avoqado.io",
		"https://avo-demo.onrender.com",
	}
}

// originAllowed reports whether a browser page of the given origin may talk to
// the box: a known dashboard, a configured one, or a page of the box itself.
// Other clients send no origin.
func (s *Server) originAllowed(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" || s.origins[strings.ToLower(origin)] {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}

// serveHTTP stands in front of the library: it turns away what must not reach
// it and keeps two of its faults from showing.
func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	if c, ok := connOf(r.Context()); ok {
		c.served()
	}
	if r.ContentLength != 0 && !websocket.IsWebSocketUpgrade(r) {
		read := http.NewResponseController(w)
		_ = read.SetReadDeadline(time.Now().Add(s.cfg.BodyTimeout))
		r.Body = &body{
			ReadCloser: r.Body,
			late:       func() { s.counters.refuse(reasonBody) },
			whole:      func() { _ = read.SetReadDeadline(time.Time{}) },
		}
	}
	w.Header().Set("Server", "avoqado-edge/"+s.cfg.Version)
	w.Header().Set("Avoqado-Box", s.cfg.Box)
	if !s.hosts.Load().allows(r.Host) {
		s.counters.refuse(reasonHost)
		turnAway(w, http.StatusMisdirectedRequest, "Host not allowed: name it in lan.allowed_hosts")
		return
	}
	if r.URL.Path != socketPath {
		s.extra.ServeHTTP(w, r)
		return
	}
	query := r.URL.Query()
	handshake := query.Get("sid") == ""
	switch {
	case !s.originAllowed(r):
		s.counters.refuse(reasonOrigin)
		turnAway(w, http.StatusForbidden, "Origin not allowed")
		return
	case !handshake && s.stolen(r, query.Get("sid")):
		s.counters.refuse(reasonStolen)
		turnAwayUnknown(w)
		return
	case query.Has("j"):
		turnAway(w, http.StatusBadRequest, "JSONP not supported")
		return
	case s.closing.Load():
		turnAway(w, http.StatusServiceUnavailable, "Server is closing")
		return
	case r.ContentLength > maxFrame:
		s.counters.refuse(reasonTooLarge)
		turnAway(w, http.StatusRequestEntityTooLarge, "Payload too large")
		return
	case handshake && s.Full():
		s.counters.refuse(reasonFull)
		turnAway(w, http.StatusServiceUnavailable, "Too many connections")
		return
	case handshake && s.lonely.full(hostOf(r.RemoteAddr)):
		s.counters.refuse(reasonLonely)
		turnAway(w, http.StatusServiceUnavailable, "Too many connections without a session")
		return
	}
	if c, ok := connOf(r.Context()); ok && s.cfg.Transport == Library && websocket.IsWebSocketUpgrade(r) {
		if l, known := s.links.Load(query.Get("sid")); known {
			l.(*link).tcp.Store(c)
		}
		defer c.hold()()
	}
	s.engine.ServeHTTP(w, r)
}

// body counts the body of a request that does not come in time. The deadline
// ends with the body alone: of a request that was answered without reading it
// net/http still reads the rest, and would wait for it for ever.
type body struct {
	io.ReadCloser
	late, whole func()
}

// Read implements [io.Reader].
func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	switch {
	case errors.Is(err, io.EOF):
		b.whole()
	case errors.Is(err, os.ErrDeadlineExceeded):
		b.late()
	}
	return n, err
}

// turnAwayUnknown answers as to an id that nobody has: clients begin anew.
func turnAwayUnknown(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusBadRequest)
	_, _ = io.WriteString(w, `{"code":1,"message":"Session ID unknown"}`) // nobody to tell
}

// turnAway answers as an Engine.IO server does. Clients take any of these as a
// failed transport and try again by themselves.
func turnAway(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "application/json")
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, `{"code":3,"message":"`+text+`"}`) // nobody to tell
}
