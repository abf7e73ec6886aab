package uplink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// upgrade makes a WebSocket of a connection to the broker.
func upgrade(ctx context.Context, c net.Conn, broker *url.URL) (net.Conn, error) {
	given := func(context.Context, string, string) (net.Conn, error) { return c, nil }
	d := websocket.Dialer{
		NetDialContext: given, NetDialTLSContext: given, // it is there, TLS and all
		Subprotocols: []string{"mqtt"},
	}
	ws, res, err := d.DialContext(ctx, broker.String(), nil)
	switch {
	case err == nil:
		return &stream{Conn: ws}, nil
	case ctx.Err() != nil || timedOut(err): // whichever of the two clocks rings first
		return nil, fmt.Errorf("%w: websocket: %w", errNoAnswer, err)
	case res == nil:
		return nil, fmt.Errorf("websocket: %w", err)
	}
	refused := fmt.Errorf("websocket: the answer is %d %s", res.StatusCode, http.StatusText(res.StatusCode))
	switch code := res.StatusCode; {
	case code == http.StatusNetworkAuthenticationRequired:
		return nil, fmt.Errorf("%w: %w", errPortal, refused)
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return nil, fmt.Errorf("%w: %w", errCredentials, refused)
	case code == http.StatusBadGateway, code == http.StatusServiceUnavailable, code == http.StatusGatewayTimeout:
		return nil, fmt.Errorf("%w: %w", errUnavailable, refused)
	case broker.Scheme == "ws" && code < http.StatusBadRequest: // a page, or the way to one
		return nil, fmt.Errorf("%w: %w", errPortal, refused)
	}
	return nil, fmt.Errorf("%w: %w", errUpgrade, refused)
}

// stream reads and writes the bytes in a WebSocket's messages. Read and Write
// may be called at the same time, each by one goroutine at a time.
type stream struct {
	*websocket.Conn
	message io.Reader  // being read; nil: between two
	writing sync.Mutex // the library's control answers and ours
}

// Read reads on in the message, or in the next one.
func (s *stream) Read(p []byte) (int, error) {
	for {
		if s.message == nil {
			var err error
			if _, s.message, err = s.NextReader(); err != nil {
				return 0, err
			}
		}
		n, err := s.message.Read(p)
		if errors.Is(err, io.EOF) {
			s.message, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// Write sends one message.
func (s *stream) Write(p []byte) (int, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// SetDeadline bounds the reads; the pipe below bounds the writes.
func (s *stream) SetDeadline(t time.Time) error { return s.SetReadDeadline(t) }
