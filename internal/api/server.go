package api

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
)

// Verifier turns a token into a grant. Its error's text is what the caller
// reads. Safe for concurrent use.
type Verifier interface {
	Verify(token string) (auth.Grant, error)
}

// Publisher is the door every event of the LAN comes in by.
type Publisher interface {
	// Publish applies the rules a socket's event goes through, and returns the
	// ack object the socket would get with its HTTP status. On status 200 the
	// event is on disk. Safe for concurrent use.
	Publish(ctx context.Context, g auth.Grant, kind event.Kind, payload []byte, target *event.Audience) (ack []byte, status int)

	// CommandResult and Heartbeat take what a terminal says over HTTP. g is nil
	// for a heartbeat without a good token. Safe for concurrent use.
	CommandResult(ctx context.Context, g auth.Grant, payload []byte) (ack []byte, status int)
	Heartbeat(g *auth.Grant, payload []byte) (ack []byte, status int)
}

// Limits bounds what one address may ask for. Safe for concurrent use.
type Limits interface {
	// Spend counts one event of an address and returns nil, or a refusal that
	// says when to try again. A share of what an address has is kept from
	// telemetry.
	Spend(address string, telemetry bool) *event.Refusal
	// Denied notes that a request showed a bad token and returns once it may be
	// answered: with nil, or with a refusal to answer instead. The more of them
	// an address sends the longer it takes, some seconds at most, less if ctx
	// ends or the box stops.
	Denied(ctx context.Context, address string, why error) *event.Refusal
	// Leased keeps a record of a request that a lease alone allows, and returns
	// nil once it is on disk, or how to refuse the request.
	Leased(ctx context.Context, g auth.Grant, address string) *event.Refusal
}

// Till is how a POS has a terminal of the venue take a payment. All answers are
// JSON objects with their HTTP status; all are safe for concurrent use.
type Till interface {
	// Charge waits for the result, up to some minutes or until ctx ends; the
	// payment goes on all the same. The same requestId is charged once.
	Charge(ctx context.Context, g auth.Grant, device string, payload []byte) (answer []byte, status int)
	CancelCharge(ctx context.Context, g auth.Grant, payload []byte) (answer []byte, status int)
	ChargeStatus(ctx context.Context, g auth.Grant, request string) (answer []byte, status int)
	OnlineTerminals(ctx context.Context, g auth.Grant) (answer []byte, status int)
	// PrintReceipt waits for the printer, up to half a minute.
	PrintReceipt(ctx context.Context, g auth.Grant, terminal string, payload []byte) (answer []byte, status int)
}

// Box tells about the running box; every call is a cheap snapshot, safe for
// concurrent use.
type Box interface {
	Status() Status
	Stats() Stats
	Terminals() []Terminal
	// Ready returns nil when the box takes events, else why it does not.
	Ready() error
}

// Events reads the journal. Safe for concurrent use.
type Events interface {
	Read(after event.Seq, maxEvents, maxBytes int) ([]event.Event, error)
	Wait(ctx context.Context, after event.Seq) error
	Find(id string) (event.Event, error)
	Stored() event.Seq
	Cursor(name string) event.Seq
}

// Config is what the API needs.
type Config struct {
	Venue   string // the box's
	Auth    Verifier
	Publish Publisher
	Limits  Limits
	Logins  Logins
	Origins []string // of pages that may post, besides the box's own
	Till    Till
	Box     Box
	Events  Events
	Parking Parking    // nil: there is no cloud
	Outages Outages    // likewise
	Journal func() any // the journal's figures, as JSON can hold them
	Keeper  Keeper
	CA      func() []byte                           // certificate of the box's own CA in PEM; nil: it has none
	Reload  func(context.Context) (Reloaded, error) // the error of a configuration with problems names them all
	Cut     func(time.Duration)                     // the link to the cloud, to practise an outage; nil: there is no cloud
	// Card returns what the box says of itself under its signature, as JSON,
	// with a nonce of at most 64 characters that the caller chose.
	Card    func(nonce string) ([]byte, error)
	Metrics http.Handler
	Spec    http.Handler // serves /asyncapi.yaml and /docs
	Page    http.Handler // serves / to browsers, and /console/

	// Pairing draws the QR code by which a device finds and knows the box, as
	// SVG.
	Pairing func() ([]byte, error)

	// History returns what is known of the last minutes, as JSON can hold it.
	History   func(of time.Duration) any
	Diagnosis func() Diagnosis
	Log       *slog.Logger
}

// access says who may call a route over the LAN. On the unix socket whoever
// may open the file may call everything.
type access uint8

const (
	public   access = iota // anyone who reaches the port
	loopback               // without a token from this machine, else as office
	staff                  // any valid token; the handler looks at the role
	office                 // a token of SUPERADMIN, OWNER, ADMIN or MANAGER
	operator               // the unix socket only
)

// Server serves the routes; it holds no state of its own but the code that lets
// somebody into the console page.
type Server struct {
	cfg     Config
	foreign *http.CrossOriginProtection
	code    code
}

// New returns the API of one box.
func New(cfg Config) *Server {
	s := &Server{cfg: cfg, foreign: http.NewCrossOriginProtection()}
	for _, origin := range cfg.Origins {
		if err := s.foreign.AddTrustedOrigin(origin); err != nil {
			cfg.Log.Warn("origin cannot be trusted", "origin", origin, "err", err)
		}
	}
	return s
}

type route struct {
	pattern string
	access  access
	handle  func(http.ResponseWriter, *http.Request, auth.Grant)
}

// routes is the whole API: each path with who may call it.
func (s *Server) routes() []route {
	return []route{
		{"GET /healthz", public, s.healthz},
		{"GET /readyz", public, s.readyz},
		{"GET /metrics", loopback, s.metrics},
		{"POST /api/v1/login", public, s.login},
		{"POST /api/v1/login/code", operator, s.newCode},
		{"POST /api/v1/logout", public, s.logout},
		{"GET /api/v1/session", staff, s.session},
		{"POST /api/v1/events", staff, s.publish},
		{"POST /api/v1/tpv/command-ack", staff, s.commandResult},
		{"POST /api/v1/tpv/heartbeat", public, s.heartbeat},
		{"POST " + mobile + "/terminal-payment", staff, s.charge},
		{"POST " + mobile + "/terminal-payment/cancel", staff, s.cancelCharge},
		{"GET " + mobile + "/terminal-payment/{requestId}", staff, s.chargeStatus},
		{"GET " + mobile + "/terminals/online", staff, s.onlineTerminals},
		{"POST " + mobile + "/terminals/{terminalId}/print-receipt", staff, s.printReceipt},
		{"GET /api/v1/stats", office, s.stats},
		{"GET /api/v1/terminals", office, s.terminals},
		{"GET /api/v1/status", office, s.status},
		{"GET /api/v1/history", office, s.history},
		{"GET /api/v1/pairing.svg", office, s.pairing},
		{"GET /api/v1/events", office, s.list},
		{"GET /api/v1/events/tail", office, s.tail},
		{"GET /api/v1/events/{id}", office, s.show},
		{"GET /api/v1/events/parked", office, s.parked},
		{"GET /api/v1/events/settled", office, s.settled},
		{"POST /api/v1/events/parked/{seq}/{decision}", operator, s.settle},
		{"GET /api/v1/outages", office, s.outages},
		{"GET /api/v1/outages/{id}", office, s.outage},
		{"GET /api/v1/journal/stats", operator, s.journal},
		{"GET /api/v1/journal/export", operator, s.export},
		{"GET /api/v1/journal/backup", operator, s.backup},
		{"POST /api/v1/journal/compact", operator, s.compact},
		{"POST /api/v1/reload", operator, s.reload},
		{"GET /api/v1/diagnosis", operator, s.diagnosis},
		{"POST /api/v1/uplink/cut", operator, s.cut},
		{"GET /debug/pprof/", operator, func(w http.ResponseWriter, r *http.Request, _ auth.Grant) { pprof.Index(w, r) }},
		{"GET /debug/pprof/profile", operator, func(w http.ResponseWriter, r *http.Request, _ auth.Grant) { pprof.Profile(w, r) }},
		{"GET /ca.crt", public, s.ca},
		{"GET /.well-known/avoqado-edge", public, s.card},
		{"GET /asyncapi.yaml", public, s.spec},
		{"GET /docs", public, s.spec},
		{"GET /docs/{page}", public, s.spec},
		{"GET /console/", public, func(w http.ResponseWriter, r *http.Request, _ auth.Grant) { s.cfg.Page.ServeHTTP(w, r) }},
		{"GET /", public, s.root},
	}
}

// LAN returns the handler for the LAN listener, where callers show a token.
func (s *Server) LAN() http.Handler { return s.mux(s.checkToken) }

// Socket returns the handler for the unix socket, where the file's mode is the
// access rule.
func (s *Server) Socket() http.Handler {
	operator := auth.Grant{Subject: "operator", Venue: s.cfg.Venue, Role: event.SuperAdmin}
	return s.mux(func(access, *http.Request) (auth.Grant, *event.Refusal) { return operator, nil })
}

func (s *Server) mux(check func(access, *http.Request) (auth.Grant, *event.Refusal)) http.Handler {
	mux := http.NewServeMux()
	for _, r := range s.routes() {
		mux.HandleFunc(r.pattern, func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("X-Content-Type-Options", "nosniff") // some answers repeat what was asked for
			grant, refusal := check(r.access, req)
			if refusal != nil {
				writeRefusal(w, refusal)
				return
			}
			r.handle(w, req, grant)
		})
	}
	return mux
}

var errOperatorOnly = event.Refuse(http.StatusForbidden, "operator_only",
	"This route answers on the box's own unix socket only")

var errCode = errors.New("code is wrong or over")

var errForeign = event.Refuse(http.StatusForbidden, "foreign_page",
	"A page of another site must not do this; name its origin in lan.cors_origins if it may")

func (s *Server) checkToken(rule access, r *http.Request) (auth.Grant, *event.Refusal) {
	switch {
	case s.foreign.Check(r) != nil: // only of what changes something
		return auth.Grant{}, errForeign
	case rule == public, rule == loopback && fromLoopback(r):
		return auth.Grant{}, nil
	case rule == operator:
		return auth.Grant{}, errOperatorOnly
	}
	grant, refusal := s.verify(r, tokensOf(r)...)
	if refusal != nil {
		return auth.Grant{}, refusal
	}
	if rule != staff && !event.MayPublish(grant.Role) {
		return auth.Grant{}, event.Refuse(http.StatusForbidden, "role_not_allowed",
			"Role "+string(grant.Role)+" may not read this; ADMIN, MANAGER, OWNER or SUPERADMIN may")
	}
	return grant, nil
}

// verify returns the grant of the first good token. Without one the caller reads
// that it has expired if any has, since fetching a new one then helps.
func (s *Server) verify(r *http.Request, tokens ...string) (auth.Grant, *event.Refusal) {
	if len(tokens) == 0 {
		return auth.Grant{}, event.Refuse(http.StatusUnauthorized, "no_token", auth.ErrNoToken.Error())
	}
	var why, noted error // told, and counted: a guess beside a token that has ended is one
	for _, token := range tokens {
		grant, err := s.cfg.Auth.Verify(token)
		if err == nil {
			address, _ := addressOf(r)
			return grant, s.cfg.Limits.Leased(r.Context(), grant, address)
		}
		if why == nil || errors.Is(err, auth.ErrExpired) {
			why = err
		}
		if noted == nil || !errors.Is(err, auth.ErrExpired) {
			noted = err
		}
	}
	if refusal := s.denied(r, noted); refusal != nil {
		return auth.Grant{}, refusal
	}
	return auth.Grant{}, event.Refuse(http.StatusUnauthorized, "bad_token", why.Error())
}

func fromLoopback(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	// A proxy on this machine speaks for somebody else, and mostly says so.
	proxied := slices.ContainsFunc([]string{"X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "Forwarded", "Via"},
		func(name string) bool { return len(r.Header.Values(name)) > 0 })
	return ip != nil && ip.IsLoopback() && !proxied
}

// writeRefusal answers with the same error object a socket gets.
func writeRefusal(w http.ResponseWriter, r *event.Refusal) {
	if r.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="avoqado-edge"`)
	}
	retryAfter(w, r)
	writeJSON(w, r.Status, said(r))
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // a caller that went away needs no answer
}

// ListenSocket binds the operator's unix socket, readable and writable by the
// owner and group of the process. A socket file left behind by a dead process
// is replaced; one that answers is not.
func ListenSocket(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, err
	}
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
		_ = conn.Close()
		return nil, errors.New("listen on " + path + ": another box answers there")
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() == os.ModeSocket {
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o660); err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

// ServeSocket serves the unix socket until ctx ends, then lets running answers
// finish for a second.
func (s *Server) ServeSocket(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler:           s.Socket(),
		ReadHeaderTimeout: 5 * time.Second,
		ErrorLog:          slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	stopped := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if srv.Shutdown(grace) != nil {
			_ = srv.Close()
		}
	})
	defer stopped()
	err := srv.Serve(l)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// sortedTerminals keeps the list steady between calls, so that a person can
// follow a line and a script can compare.
func sortedTerminals(list []Terminal) []Terminal {
	slices.SortFunc(list, func(a, b Terminal) int { return strings.Compare(a.TerminalID, b.TerminalID) })
	return list
}
