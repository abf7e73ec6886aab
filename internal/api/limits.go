package api

import (
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// addressOf returns the address a request comes from; none on the unix socket,
// where nobody is counted.
func addressOf(r *http.Request) (address string, lan bool) {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	return host, err == nil
}

// spend counts one event of who asks, or returns why it must wait.
func (s *Server) spend(r *http.Request, telemetry bool) *event.Refusal {
	if address, lan := addressOf(r); lan {
		return s.cfg.Limits.Spend(address, telemetry)
	}
	return nil
}

// denied returns when a request with a bad token may be answered, or what to
// answer it instead.
//
// What is left of the body is read before: only then does the request's context
// end when the caller hangs up.
func (s *Server) denied(r *http.Request, why error) *event.Refusal {
	address, lan := addressOf(r)
	if !lan {
		return nil
	}
	_, _ = io.CopyN(io.Discard, r.Body, maxBody) // a caller that sends more waits for its time
	return s.cfg.Limits.Denied(r.Context(), address, why)
}

// retryAfter puts into the header when to try again, in whole seconds as it can
// only be there.
func retryAfter(w http.ResponseWriter, r *event.Refusal) {
	if r.RetryAfter > 0 {
		seconds := (r.RetryAfter + time.Second - 1) / time.Second
		w.Header().Set("Retry-After", strconv.FormatInt(int64(seconds), 10))
	}
}

// refusalBody is the error object a socket gets.
type refusalBody struct {
	Success    bool   `json:"success"`
	Error      string `json:"error"`
	StatusCode int    `json:"statusCode"`
	Code       string `json:"code"`
	Retryable  bool   `json:"retryable,omitempty"`
	RetryAfter int64  `json:"retryAfterMs,omitempty"`
}

func said(r *event.Refusal) refusalBody {
	return refusalBody{false, r.Text, r.Status, r.Code, r.Retryable, r.RetryAfter.Milliseconds()}
}
