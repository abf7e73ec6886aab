package lan

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/zishang520/socket.io/servers/socket/v3"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/lan/wire"
)

// errTerminal refuses a terminal that says it is another one than its token
// was issued to. The text holds none of the words (token, expired, …) on which
// terminals fetch a new token and try again: a new one would be for the same
// serial.
var errTerminal = errors.New("Terminal ID does not match the registered terminal")

// errClosing is never read: the transport is closed before it could be sent.
var errClosing = errors.New("server is closing")

// handshake is the middleware in front of every session. It runs on the
// client's reader. next is called in any case: a client whose next is never
// called hangs.
func (s *Server) handshake(io *socket.Socket, next func(*socket.ExtendedError)) {
	err := errClosing
	if !s.guard("handshake", func() { err = s.admitHandshake(io) }) {
		s.linkOf(io.Conn()).drop()
	}
	if err == nil {
		next(nil)
		s.awaitStart(io)
		return
	}
	next(socket.NewExtendedError(err.Error(), nil))
}

// awaitStart keeps the client's reader until the library has entered its
// session. It answers the CONNECT before that, on another goroutine, and closes
// a client whose next packet comes in between.
func (s *Server) awaitStart(io *socket.Socket) {
	sess, ok := io.Data().(*session)
	if !ok {
		return
	}
	timeout := time.NewTimer(holdTimeout)
	defer timeout.Stop()
	select {
	case <-sess.started:
	case <-timeout.C: // it closed before it was entered
	case <-s.serving.Done():
	}
}

// admitHandshake makes the session, or says in the client's words why not. A
// CONNECT_ERROR makes clients stop trying, so what a retry can cure closes the
// transport instead.
func (s *Server) admitHandshake(io *socket.Socket) error {
	l := s.linkOf(io.Conn())
	address := hostOf(io.Conn().RemoteAddress())

	switch {
	case s.closing.Load():
		l.drop()
		return errClosing
	case !l.busy.CompareAndSwap(false, true):
		// A second CONNECT while the first one lives would make a second
		// session the library then forgets.
		s.counters.refuse(reasonTwice)
		l.drop()
		return errClosing
	}
	presented, verdict := io.Handshake().Auth, s.verdicts.Load()
	grant, token, guess, err := s.authenticate(l, presented)
	if err == nil && grant.Venue != s.cfg.Venue {
		err = auth.ErrVenue
	}
	claimed, terminal := claimedTerminal(presented), ""
	if err != nil {
		s.counters.refuse(reasonAuth)
	} else if terminal, err = s.identify(grant, claimed); err != nil {
		s.counters.refuse(reasonTerminal)
	}
	if err != nil {
		s.refuseHandshake(l, address, claimed, guess, err)
		return err
	}
	if s.useLease(s.serving, grant, terminal, address, "socket") != nil {
		l.drop() // a retry may find the disk well
		return errClosing
	}
	sess := newSession(s, io, l, grant, token, terminal)
	sess.verdict, sess.capabilities = verdict, capabilities(presented)
	s.recall(sess, presented)
	io.SetData(sess)
	l.lonely(false)
	l.letGo(io.Handshake())
	return nil
}

// identify returns the terminal that a client is, empty if none: that of its
// token, else the one that it says to be. A terminal that shows tokens of its
// own is not believed without one; who says so is let in as a person alone.
func (s *Server) identify(g auth.Grant, claimed string) (terminal string, err error) {
	terminal = g.Terminal
	if claimed != "" {
		if len(claimed) > event.MaxKey || (terminal != "" && !s.terminals.same(terminal, claimed)) {
			return "", errTerminal
		}
		terminal = s.terminals.serial(claimed)
	}
	switch {
	case terminal == "":
	case s.verifier.DeviceRevoked(terminal):
		return "", auth.ErrRevoked
	case g.Terminal == "" && s.verifier.Proven(terminal):
		s.counters.refuse(reasonTerminal)
		s.log.Warn("terminal is not believed without a token of its own", "terminal", terminal, "user", g.Subject)
		return "", nil
	}
	return terminal, nil
}

// refuseHandshake holds the client's answer back for as long as its address, or
// the terminal it says to be, has earned by failing before. Every token is looked at first, so a good one is
// let in at once whatever the others at its address do: a shift may come to work
// behind one router in which a stale terminal knocks all day. Nor is an answer
// withheld from who guesses nothing: it says to fetch a new token.
func (s *Server) refuseHandshake(l *link, address, claimed string, guess bool, err error) {
	defer l.vacate()
	network := networkOf(address)
	delay, answer, first := s.addresses.fail(network, time.Now())
	if delay > 0 {
		defer s.addresses.done(network)
	}
	if claimed != "" && len(claimed) <= event.MaxKey {
		longer, may, _ := s.devices.fail(claimed, time.Now())
		if longer > 0 {
			defer s.devices.done(claimed)
		}
		delay, answer = max(delay, longer), answer && may
	}
	level := slog.LevelDebug // a client that tries for ever fills no log
	if first {
		level = slog.LevelInfo
	}
	s.log.Log(s.serving, level, "handshake refused", "address", address, "reason", err.Error())
	switch {
	case !answer && guess:
		s.counters.refuse(reasonFailures)
		l.drop()
	case delay > 0:
		s.counters.delayed.Add(1)
		pause(s.serving, delay)
	}
}

func claimedTerminal(handshake map[string]any) string {
	id, _ := handshake["terminalId"].(string)
	return auth.NormaliseTerminal(id)
}

// authenticate tries the token sources in the order of the existing system
// (contract §1.3), but goes on to the next when one fails: a stale cookie must
// not beat a good token. If none is good, an expired one decides what the
// client reads, since fetching a new token then helps; else the first source. guess
// says that something else was shown than tokens which were good once.
func (s *Server) authenticate(l *link, handshake map[string]any) (g auth.Grant, token string, guess bool, err error) {
	var first error
	expired := false
	try := func(token string) (auth.Grant, bool) {
		grant, err := s.verifier.Verify(token)
		if err == nil {
			return grant, true
		}
		ended := errors.Is(err, auth.ErrExpired)
		expired, guess = expired || ended, guess || !ended
		if first == nil {
			first = err
		}
		return auth.Grant{}, false
	}
	for _, source := range []any{l.request.cookie, handshake["token"], l.request.query, l.request.bearer} {
		token, given := tokenFrom(source)
		if !given {
			continue
		}
		if grant, ok := try(token); ok {
			return grant, token, false, nil
		}
	}
	switch {
	case expired:
		return auth.Grant{}, "", guess, auth.ErrExpired
	case first != nil:
		return auth.Grant{}, "", guess, first
	}
	return auth.Grant{}, "", true, auth.ErrNoToken
}

// requestTokens are the tokens in the request that began a connection. They
// outlive it: a client may CONNECT again.
type requestTokens struct{ cookie, query, bearer string }

func tokensIn(r *http.Request) requestTokens {
	bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		bearer = "" // another scheme
	}
	return requestTokens{
		cookie: cookie(r.Header.Values("Cookie"), "accessToken"),
		query:  r.URL.Query().Get("token"),
		bearer: bearer,
	}
}

// letGo drops what the library would keep of the handshake for as long as the
// connection lives: headers and query, three times over. A polling request may
// still be being answered and is left alone.
func (l *link) letGo(h *socket.Handshake) {
	h.Headers, h.Query, h.Auth = nil, nil, nil
	if l.wired != nil {
		l.wired.LetGo()
		return
	}
	if _, ours := l.conn.Transport().(*wire.Transport); !ours || l.conn.Upgraded() {
		return
	}
	ctx := l.conn.Request()
	ctx.Headers().Replace(nil)
	ctx.Query().Replace(nil)
	ctx.ResponseHeaders().Replace(nil)
	*ctx.Request() = http.Request{URL: new(url.URL)} // one that may still be asked
}

// tokenFrom returns the token of a source, and whether JavaScript would say that
// there is one. What is there and no text is a token that cannot be read.
func tokenFrom(source any) (token string, given bool) {
	switch source := source.(type) {
	case nil:
		return "", false
	case string:
		return source, source != ""
	case bool:
		return "not a text", source
	case float64:
		return "not a text", source != 0
	}
	return "not a text", true
}

// cookie returns a cookie's value as the existing server reads it: no decoding,
// and only up to a second '='.
func cookie(headers []string, name string) string {
	for _, header := range headers {
		for part := range strings.SplitSeq(header, ";") {
			pieces := strings.Split(strings.TrimSpace(part), "=")
			if len(pieces) > 1 && pieces[0] == name {
				return pieces[1]
			}
		}
	}
	return ""
}

func hostOf(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return address
}
