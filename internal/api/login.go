package api

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
)

const (
	// tokenCookie is the cookie of the existing system (contract §1.8): sockets
	// look into it, too.
	tokenCookie = "accessToken"

	codeLifetime = 10 * time.Minute
	codeTries    = 5
	codeSpace    = 1_000_000 // six digits

	// consoleSession is how long who has shown a code stays in, less if the box
	// restarts.
	consoleSession = 8 * time.Hour
	consoleRole    = event.Admin

	maxLogin = 16 << 10 // bytes of a body
)

// Logins makes tokens for people who have shown that the box is theirs, and ends
// tokens. Safe for concurrent use.
type Logins interface {
	MintConsole(role event.Role, lifetime time.Duration) (string, error)

	// Logout has a token refused from now on and ends its sessions; without an
	// error that is durable. A token that is not good changes nothing.
	Logout(token string) error
}

// code is the one that may be used now; making another one ends it.
type code struct {
	mu    sync.Mutex // guards below
	text  string     // empty: none
	ends  time.Time
	tries int // left
}

// renew makes a new code.
func (c *code) renew(now time.Time) (text string, ends time.Time, err error) {
	n, err := rand.Int(rand.Reader, big.NewInt(codeSpace))
	if err != nil {
		return "", time.Time{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text, c.ends, c.tries = fmt.Sprintf("%06d", n), now.Add(codeLifetime), codeTries
	return c.text, c.ends, nil
}

// use reports whether text is the code, which is then used up, and how many more
// tries there are.
func (c *code) use(text string, now time.Time) (ok bool, left int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.text == "" || !now.Before(c.ends) {
		c.text = ""
		return false, 0
	}
	ok = subtle.ConstantTimeCompare([]byte(text), []byte(c.text)) == 1
	if c.tries--; ok || c.tries <= 0 {
		c.text = ""
		return ok, 0
	}
	return false, c.tries
}

// newCode answers the operator with a code for the console page.
func (s *Server) newCode(w http.ResponseWriter, _ *http.Request, _ auth.Grant) {
	text, ends, err := s.code.renew(time.Now())
	if err != nil {
		writeRefusal(w, event.Refuse(http.StatusInternalServerError, "internal", "Internal error"))
		return
	}
	writeJSON(w, http.StatusOK, LoginCode{text, ends.UTC(), codeTries})
}

// login takes {token} or {code} and sets the cookie that the console page, and
// the sockets that it opens, are let in with. A page cannot read it, and no other
// site's page can use it.
func (s *Server) login(w http.ResponseWriter, r *http.Request, _ auth.Grant) {
	var asked struct {
		Token string `json:"token"`
		Code  string `json:"code"`
	}
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxLogin))
	dec.DisallowUnknownFields()
	// The error could repeat what was sent.
	if dec.Decode(&asked) != nil || dec.More() || (asked.Token == "") == (asked.Code == "") {
		writeRefusal(w, event.Refuse(http.StatusBadRequest, "bad_body", "The body must be {token} or {code}"))
		return
	}
	token := asked.Token
	if asked.Code != "" {
		var refusal *event.Refusal
		if token, refusal = s.redeem(r, asked.Code); refusal != nil {
			writeRefusal(w, refusal)
			return
		}
	}
	grant, refusal := s.verify(r, token)
	if refusal != nil {
		writeRefusal(w, refusal)
		return
	}
	cookie := newCookie(r, token)
	if !grant.Expires.IsZero() {
		now := s.cfg.Box.Status().Clock.Now // that of the machine may have jumped
		cookie.MaxAge = max(1, int(grant.Expires.Sub(now)/time.Second))
	}
	http.SetCookie(w, cookie)
	s.cfg.Log.Info("logged in", "user", grant.Subject, "role", grant.Role, "address", r.RemoteAddr, "code", asked.Code != "")
	writeJSON(w, http.StatusOK, sessionOf(grant))
}

// redeem turns a code into a token.
func (s *Server) redeem(r *http.Request, text string) (token string, refusal *event.Refusal) {
	ok, left := s.code.use(strings.ReplaceAll(text, " ", ""), time.Now())
	if !ok {
		if refusal := s.denied(r, errCode); refusal != nil {
			return "", refusal
		}
		return "", event.Refuse(http.StatusUnauthorized, "bad_code",
			fmt.Sprintf("The code is wrong or over, %d tries are left: avoqado-edge token code makes a new one", left))
	}
	token, err := s.cfg.Logins.MintConsole(consoleRole, consoleSession)
	if err != nil {
		return "", event.Refuse(http.StatusInternalServerError, "internal", "Internal error")
	}
	return token, nil
}

// logout ends the tokens that the request shows, also for whoever kept a copy, and
// takes the cookie away. Whether they were good is told nobody.
func (s *Server) logout(w http.ResponseWriter, r *http.Request, _ auth.Grant) {
	for _, token := range tokensOf(r) {
		if err := s.cfg.Logins.Logout(token); err != nil {
			s.cfg.Log.Error("logout cannot be kept", "address", r.RemoteAddr, "err", err)
			writeRefusal(w, event.RefuseForNow("logout_not_kept",
				"The logout cannot be kept and may end with a restart of the box: log out once more, or have the token revoked", time.Minute))
			return
		}
	}
	cookie := newCookie(r, "")
	cookie.MaxAge = -1
	http.SetCookie(w, cookie)
	writeJSON(w, http.StatusOK, map[string]bool{"success": true})
}

// session tells a page who it is.
func (s *Server) session(w http.ResponseWriter, _ *http.Request, g auth.Grant) {
	writeJSON(w, http.StatusOK, sessionOf(g))
}

// session is who is logged in, as JSON.
type session struct {
	Success  bool       `json:"success"`
	UserID   string     `json:"userId"`
	Role     event.Role `json:"role"`
	VenueID  string     `json:"venueId"`
	Terminal string     `json:"terminalId,omitempty"`
	Expires  time.Time  `json:"expiresAt,omitzero"`
	Lease    *leased    `json:"lease,omitempty"`
}

type leased struct {
	Until time.Time `json:"until"`
}

func sessionOf(g auth.Grant) session {
	out := session{Success: true, UserID: g.Subject, Role: g.Role, VenueID: g.Venue, Terminal: g.Terminal, Expires: g.Expires}
	if !g.Lease.IsZero() {
		out.Lease = &leased{g.Lease}
	}
	return out
}

// newCookie is strict: a link on another site that leads to the console is
// followed logged out. Secure where there is TLS; without it the browser would
// not keep the cookie at all.
func newCookie(r *http.Request, value string) *http.Cookie {
	return &http.Cookie{ //nolint:gosec // Secure as far as the listener is
		Name: tokenCookie, Value: value, Path: "/", HttpOnly: true,
		Secure: r.TLS != nil, SameSite: http.SameSiteStrictMode,
	}
}

// tokensOf returns the tokens that a request shows, in the order in which they
// are tried: as sockets do (contract §11 A8), so that an old cookie does not
// beat a good header. Not of the address: that one ends up in histories and logs.
func tokensOf(r *http.Request) []string {
	var tokens []string
	for _, c := range r.CookiesNamed(tokenCookie) {
		if c.Value != "" {
			tokens = append(tokens, c.Value)
			break
		}
	}
	if bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok && bearer != "" {
		tokens = append(tokens, strings.TrimSpace(bearer))
	}
	return tokens
}
