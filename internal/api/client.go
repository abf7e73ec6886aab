package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"syscall"
	"time"
)

// ErrNotRunning says that no box answers on the socket.
var ErrNotRunning = errors.New("no box is running")

// Client asks a running box over its unix socket. Safe for concurrent use.
type Client struct {
	path string
	http http.Client
}

// NewClient returns a client for the socket at path. It does not connect yet.
func NewClient(path string) *Client {
	return &Client{path: path, http: http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
	}}}
}

// Status returns what the box says of itself.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var st Status
	return st, c.get(ctx, "/api/v1/status", &st)
}

// Ready returns nil if the box takes events, else an error with its reason.
func (c *Client) Ready(ctx context.Context) error {
	var answer struct{}
	return c.get(ctx, "/readyz", &answer)
}

// LoginCode is what lets somebody into the console page once.
type LoginCode struct {
	Code    string    `json:"code"` // six digits
	Expires time.Time `json:"expiresAt"`
	Tries   int       `json:"tries"`
}

// LoginCode makes a new code, which ends the one before.
func (c *Client) LoginCode(ctx context.Context) (LoginCode, error) {
	var code LoginCode
	return code, c.ask(ctx, http.MethodPost, "/api/v1/login/code", &code)
}

// Journal returns the journal's figures as the box gives them.
func (c *Client) Journal(ctx context.Context) (json.RawMessage, error) {
	var raw json.RawMessage
	return raw, c.get(ctx, "/api/v1/journal/stats", &raw)
}

// Metrics returns what /metrics says.
func (c *Client) Metrics(ctx context.Context) ([]byte, error) {
	body, err := c.open(ctx, http.MethodGet, "/metrics")
	if err != nil {
		return nil, err
	}
	defer func() { _ = body.Close() }()
	return io.ReadAll(io.LimitReader(body, 4<<20))
}

// Events returns up to limit events after a sequence number, oldest first;
// with after < 0 the newest ones.
func (c *Client) Events(ctx context.Context, after int64, limit int) ([]Record, error) {
	q := url.Values{"limit": {strconv.Itoa(limit)}}
	if after >= 0 {
		q.Set("after", strconv.FormatInt(after, 10))
	}
	var answer struct {
		Events []Record `json:"events"`
	}
	return answer.Events, c.get(ctx, "/api/v1/events?"+q.Encode(), &answer)
}

// Event returns one event by id or sequence number.
func (c *Client) Event(ctx context.Context, id string) (Record, error) {
	var r Record
	return r, c.get(ctx, "/api/v1/events/"+url.PathEscape(id), &r)
}

// Tail calls each with every event stored from now on, or after the given
// sequence number if that is not negative, until ctx ends (which is no error),
// the box goes away or each returns an error.
func (c *Client) Tail(ctx context.Context, after int64, each func(Record) error) error {
	path := "/api/v1/events/tail"
	if after >= 0 {
		path += "?after=" + strconv.FormatInt(after, 10)
	}
	body, err := c.open(ctx, http.MethodGet, path)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	for dec := json.NewDecoder(body); ; {
		var r Record
		if err := dec.Decode(&r); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return fmt.Errorf("%w any more: it closed the connection", ErrNotRunning)
			}
			return err
		}
		if err := each(r); err != nil {
			return err
		}
	}
}

func (c *Client) get(ctx context.Context, path string, into any) error {
	return c.ask(ctx, http.MethodGet, path, into)
}

func (c *Client) ask(ctx context.Context, method, path string, into any) error {
	return c.read(ctx, method, path, nil, into)
}

func (c *Client) post(ctx context.Context, path string, body []byte, into any) error {
	return c.read(ctx, http.MethodPost, path, bytes.NewReader(body), into)
}

func (c *Client) read(ctx context.Context, method, path string, said io.Reader, into any) error {
	body, err := c.send(ctx, method, path, said)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	if err := json.NewDecoder(body).Decode(into); err != nil {
		return fmt.Errorf("read the answer to %s: %w", path, err)
	}
	return nil
}

func (c *Client) open(ctx context.Context, method, path string) (io.ReadCloser, error) {
	return c.send(ctx, method, path, nil)
}

// wsaRefused is what Windows says for ECONNREFUSED, and of a socket that is not there.
const wsaRefused = syscall.Errno(10061)

func (c *Client) send(ctx context.Context, method, path string, said io.Reader) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://box"+path, said)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, wsaRefused):
		return nil, fmt.Errorf("%w: nothing answers on %s", ErrNotRunning, c.path)
	case errors.Is(err, os.ErrPermission):
		return nil, fmt.Errorf("open %s: needs root or membership of the service's group", c.path)
	case err != nil:
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer func() { _ = resp.Body.Close() }()
	var refusal struct {
		Error  string `json:"error"`
		Reason string `json:"reason"` // of /readyz
	}
	if json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&refusal) == nil {
		if why := cmp.Or(refusal.Error, refusal.Reason); why != "" {
			return nil, errors.New(why)
		}
	}
	return nil, fmt.Errorf("the box answers %s with %s", path, resp.Status)
}
