package simulate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

const (
	connectTimeout = 30 * time.Second // whole way to the CONNECT answer, as terminals have it
	writeTimeout   = 10 * time.Second // a peer that takes no bytes for so long is gone
	closeTimeout   = time.Second      // for the goodbye; the connection ends anyway
	readLimit      = 1 << 20          // bytes of one frame; the largest event is 120 KiB
)

// Why a connection ended, as far as callers act on it differently. Any other
// reason is a transport that broke, after which a client may connect again.
var (
	// ErrClosed is the end by [Client.Close].
	ErrClosed = errors.New("closed by this side")
	// ErrDisconnected is the end by a DISCONNECT packet: the server does not
	// want this client, and Socket.IO clients do not come back on their own.
	ErrDisconnected = errors.New("disconnected by the server")
	// ErrPingTimeout is a server that was silent for longer than it promised.
	ErrPingTimeout = errors.New("ping timeout")

	errDropped = errors.New("transport dropped by this side")
)

// ConnectError is the server's CONNECT_ERROR: it answered and refused.
type ConnectError struct{ Message string }

// Error returns the server's text.
func (e *ConnectError) Error() string { return "connection refused: " + e.Message }

// ClientConfig says where a client connects and who hears what comes in.
type ClientConfig struct {
	URL    string         // http://host:port, or https
	Auth   map[string]any // the auth object of CONNECT: token, terminalId
	Header http.Header    // of the WebSocket handshake; may be nil
	Log    *slog.Logger   // nil: silent

	// OnEvent gets every event in order; payload is nil if the event has none
	// and may be kept. It runs on the reader: while it does nothing else is
	// read, so it may Emit, but must not EmitAck, Close or wait. May be nil.
	OnEvent func(name string, payload json.RawMessage)

	// OnState is told of the connection (before the first event) and of its
	// end with the reason (after the last). The rules of OnEvent hold. May be nil.
	OnState func(connected bool, reason error)
}

// Client is one Socket.IO connection over WebSocket. It is made by [Dial] and
// does not reconnect. All methods may be called by several goroutines at once.
type Client struct {
	cfg       ClientConfig
	ws        *websocket.Conn
	sid       string
	heartbeat time.Duration // the longest silence between two pings

	turn   chan struct{} // held by whoever writes
	done   chan struct{} // closed when the reader has ended
	reader sync.WaitGroup

	mu     sync.Mutex // guards below
	cause  error      // why the connection ends; the first reason wins
	lastID uint64
	acks   map[uint64]chan json.RawMessage // one per EmitAck that waits
}

// Dial connects, sends CONNECT with the auth object and waits for the answer;
// it takes at most 30 s. A refusal is a [*ConnectError]. On success one
// goroutine reads until the connection ends; [Client.Close] ends it and waits
// for it, and must be called, also after Done.
func Dial(ctx context.Context, cfg ClientConfig) (*Client, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	target, host, err := socketURL(cfg.URL)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()

	// No proxy: a box is on the same LAN or the same machine.
	dialer := websocket.Dialer{HandshakeTimeout: connectTimeout}
	ws, resp, err := dialer.DialContext(ctx, target, cfg.Header)
	if err != nil {
		if resp != nil && errors.Is(err, websocket.ErrBadHandshake) {
			return nil, fmt.Errorf("connect to %s: HTTP status %d", host, resp.StatusCode)
		}
		return nil, fmt.Errorf("connect to %s: %w", host, err)
	}
	c := &Client{
		cfg: cfg, ws: ws,
		turn: make(chan struct{}, 1),
		done: make(chan struct{}),
		acks: make(map[uint64]chan json.RawMessage),
	}
	ws.SetReadLimit(readLimit)

	// Closing the transport is what wakes a read when ctx ends.
	disarm := context.AfterFunc(ctx, func() { _ = ws.Close() })
	err = c.greet(ctx)
	if !disarm() {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = ws.Close()
		return nil, fmt.Errorf("connect to %s: %w", host, err)
	}
	if cfg.OnState != nil {
		cfg.OnState(true, nil)
	}
	c.reader.Go(c.read)
	return c, nil
}

// socketURL turns the address of a box into that of its Socket.IO endpoint. A
// query is kept. The host comes apart because a query may hold a token, which
// belongs into no error.
func socketURL(address string) (target, host string, err error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", "", errors.New("box address is not a URL")
	}
	switch u.Scheme {
	case "http":
		u.Scheme = "ws"
	case "https":
		u.Scheme = "wss"
	default:
		return "", "", fmt.Errorf("box address begins with neither http:// nor https://: %q", u.Host)
	}
	q := u.Query()
	q.Set("EIO", "4")
	q.Set("transport", "websocket")
	u.RawQuery = q.Encode()
	u.Path = "/socket.io/"
	return u.String(), u.Host, nil
}

// greet plays the handshake: open, CONNECT, answer. Pings in between are
// answered, for a server may take longer than one to look at a token.
func (c *Client) greet(ctx context.Context) error {
	kind, body, err := c.frame()
	if err != nil {
		return err
	}
	if kind != engineOpen {
		return fmt.Errorf("server began with packet type %q", kind)
	}
	if c.heartbeat, err = parseOpen(body); err != nil {
		return err
	}
	if err := c.expectPing(); err != nil {
		return err
	}
	auth := []byte("{}")
	if c.cfg.Auth != nil {
		if auth, err = json.Marshal(c.cfg.Auth); err != nil {
			return fmt.Errorf("encode auth: %w", err)
		}
	}
	if err := c.write(ctx, append([]byte{engineMessage, socketConnect}, auth...)); err != nil {
		return err
	}
	for {
		p, err := c.next(ctx)
		if err != nil {
			return err
		}
		switch p.kind {
		case socketConnect:
			var answer struct {
				SID string `json:"sid"`
			}
			if err := json.Unmarshal(p.data, &answer); err != nil || answer.SID == "" {
				return errors.New("CONNECT answer has no sid")
			}
			c.sid = answer.SID
			return nil
		case socketConnectError:
			var answer struct {
				Message string `json:"message"`
			}
			if err := json.Unmarshal(p.data, &answer); err != nil {
				return fmt.Errorf("read CONNECT_ERROR: %w", err)
			}
			return &ConnectError{Message: answer.Message}
		case socketDisconnect:
			return ErrDisconnected
		default:
			return fmt.Errorf("server sent packet type %q before it answered CONNECT", p.kind)
		}
	}
}

// read is the one reader. It ends with the connection.
func (c *Client) read() {
	err := c.serve()
	c.end(err)
	if c.cfg.OnState != nil {
		c.cfg.OnState(false, c.reason())
	}
	close(c.done)
}

func (c *Client) serve() error {
	for {
		p, err := c.next(context.Background())
		if err != nil {
			return err
		}
		switch p.kind {
		case socketEvent:
			name, payload, err := p.event()
			if err != nil {
				return err
			}
			if c.cfg.OnEvent != nil {
				c.cfg.OnEvent(name, payload)
			}
		case socketAck:
			if err := c.deliver(p); err != nil {
				return err
			}
		case socketDisconnect:
			return ErrDisconnected
		default:
			return fmt.Errorf("server sent packet type %q on an open connection", p.kind)
		}
	}
}

// deliver hands an acknowledgement to whoever waits for it, if anyone does: a
// late one, given up on before, is dropped.
func (c *Client) deliver(p packet) error {
	answer, err := p.answer()
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	wait, ok := c.acks[p.id]
	if !ok || !p.hasID {
		c.cfg.Log.Debug("acknowledgement nobody waits for", "id", p.id)
		return nil
	}
	delete(c.acks, p.id)
	wait <- answer // has room for the one answer there can be
	return nil
}

// next returns the next Socket.IO packet and answers pings on the way.
func (c *Client) next(ctx context.Context) (packet, error) {
	for {
		kind, body, err := c.frame()
		if err != nil {
			return packet{}, err
		}
		switch kind {
		case enginePing:
			if err := c.expectPing(); err != nil {
				return packet{}, err
			}
			if err := c.write(ctx, append([]byte{enginePong}, body...)); err != nil {
				return packet{}, err
			}
		case engineMessage:
			p, err := parsePacket(body)
			if errors.Is(err, errOtherNamespace) {
				continue
			}
			return p, err
		case engineClose:
			return packet{}, errors.New("transport closed by the server")
		case enginePong, engineNoop:
		default:
			return packet{}, fmt.Errorf("engine packet type %q is not known", kind)
		}
	}
}

// frame returns the next Engine.IO packet.
func (c *Client) frame() (kind byte, body []byte, err error) {
	messageType, b, err := c.ws.ReadMessage()
	if err != nil {
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return 0, nil, ErrPingTimeout
		}
		return 0, nil, fmt.Errorf("read: %w", err)
	}
	if messageType != websocket.TextMessage {
		return 0, nil, errors.New("server sent a binary frame")
	}
	if len(b) == 0 {
		return 0, nil, errors.New("server sent an empty frame")
	}
	return b[0], b[1:], nil
}

// expectPing gives the server its time until the next ping. Only pings extend
// it, as in the clients this one stands for: a server that sends events but
// has forgotten its heartbeat is found out too.
func (c *Client) expectPing() error {
	return c.ws.SetReadDeadline(time.Now().Add(c.heartbeat))
}

func (c *Client) write(ctx context.Context, frame []byte) error {
	err := c.writeWithin(ctx, writeTimeout, frame)
	if err != nil && ctx.Err() == nil {
		return c.reason() // this error, or what ended the connection before it
	}
	return err
}

// writeWithin sends one frame. ctx bounds the wait for a turn; the write itself
// has a time of its own, since a frame cut short ends the connection.
func (c *Client) writeWithin(ctx context.Context, d time.Duration, frame []byte) error {
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-c.done:
		return c.reason()
	}
	defer func() { <-c.turn }()
	err := c.ws.SetWriteDeadline(time.Now().Add(d))
	if err == nil {
		err = c.ws.WriteMessage(websocket.TextMessage, frame)
	}
	if err != nil {
		err = fmt.Errorf("write: %w", err)
		c.end(err)
	}
	return err
}

// end closes the transport, which ends the reader. The first reason stays.
func (c *Client) end(reason error) {
	c.mu.Lock()
	if c.cause == nil {
		c.cause = reason
	}
	c.mu.Unlock()
	_ = c.ws.Close()
}

func (c *Client) reason() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

// Emit sends an event. When it returns nil the bytes are with the operating
// system, which says nothing about the server. See [Client.EmitAck].
func (c *Client) Emit(ctx context.Context, name string, payload any) error {
	frame, err := encodeEvent(0, name, payload)
	if err != nil {
		return err
	}
	if err := c.write(ctx, frame); err != nil {
		return fmt.Errorf("emit %s: %w", name, err)
	}
	return nil
}

// EmitAck sends an event and returns the first argument of its
// acknowledgement. Any number may wait at once. A json.RawMessage payload goes
// out byte for byte, valid or not. After an error the event may or may not
// have taken effect. When the connection ends first, the error wraps [Client.Err].
func (c *Client) EmitAck(ctx context.Context, name string, payload any) (json.RawMessage, error) {
	wait := make(chan json.RawMessage, 1)
	c.mu.Lock()
	c.lastID++
	id := c.lastID
	c.acks[id] = wait
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.acks, id)
		c.mu.Unlock()
	}()

	frame, err := encodeEvent(id, name, payload)
	if err != nil {
		return nil, err
	}
	if err := c.write(ctx, frame); err != nil {
		return nil, fmt.Errorf("emit %s: %w", name, err)
	}
	select {
	case answer := <-wait:
		return answer, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the answer to %s: %w", name, ctx.Err())
	case <-c.done:
	}
	select { // it may have come just before the end
	case answer := <-wait:
		return answer, nil
	default:
		return nil, fmt.Errorf("wait for the answer to %s: %w", name, c.reason())
	}
}

// Done is closed when the connection has ended.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err returns why the connection ended, nil while it has not.
func (c *Client) Err() error {
	select {
	case <-c.done:
		return c.reason()
	default:
		return nil
	}
}

// SID returns the server's id of this socket.
func (c *Client) SID() string { return c.sid }

// Close sends DISCONNECT, closes the transport and waits for the reader. The
// error says that the goodbye did not go out; the connection is closed
// regardless. Closing an ended connection does nothing more than wait.
func (c *Client) Close() error {
	defer c.reader.Wait()
	c.mu.Lock()
	ended := c.cause != nil
	if !ended {
		c.cause = ErrClosed // before the goodbye, which the server may answer by hanging up
	}
	c.mu.Unlock()
	if ended {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	err := c.writeWithin(ctx, closeTimeout, []byte{engineMessage, socketDisconnect})
	c.end(ErrClosed)
	return err
}

// Drop closes the transport without a word, as a terminal does that loses its
// power or its Wi-Fi, and waits for the reader.
func (c *Client) Drop() {
	c.end(errDropped)
	c.reader.Wait()
}
