//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// loop is all clients of a run in one thread: they must cost less than what
// they measure, and a goroutine for each would not. Owned by one goroutine.
type loop struct {
	server  netip.AddrPort
	epoll   int
	clients []*client         // in the order of their connecting
	byFD    map[int32]*client // those that have a socket
	buf     []byte
	began   time.Time

	now       int64 // nanoseconds since began, as of the last read
	delivered int   // copies of events with a time in them
	acked     int
	ready     int     // clients that have connected, ever
	took      []int64 // nanoseconds of deliveries, while keep is set
	ackTook   []int64
	keep      bool
	onAck     func(*client) error // what a client does with an answer; may be nil
}

// The steps of connecting.
const (
	stepUpgrade = iota // waits for the answer to the HTTP request
	stepOpen           // waits for the Engine.IO handshake
	stepConnect        // waits for the answer to CONNECT
	stepJoin           // waits for the answer to join_room, as terminals send it
	stepReady
)

type client struct {
	n       int
	fd      int
	step    int
	rest    []byte // the beginning of a frame
	sentAt  int64
	message message
}

const (
	readBytes   = 256 << 10
	keptSamples = 4 << 20
)

func newLoop(server netip.AddrPort) (*loop, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make epoll: %w", err)
	}
	return &loop{
		server: server, epoll: epoll, byFD: make(map[int32]*client),
		buf: make([]byte, readBytes), began: time.Now(),
	}, nil
}

func (l *loop) close() error { return errors.Join(l.shrink(0), unix.Close(l.epoll)) }

func (l *loop) clock() int64 { return int64(time.Since(l.began)) }

// start begins to connect one more client.
func (l *loop) start() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make socket: %w", err)
	}
	c := &client{n: len(l.clients), fd: fd}
	l.clients = append(l.clients, c)
	l.byFD[int32(fd)] = c
	// On loopback this does not wait: the kernel itself answers.
	err = unix.Connect(fd, &unix.SockaddrInet4{Port: int(l.server.Port()), Addr: l.server.Addr().As4()})
	if err == nil {
		err = errors.Join(unix.SetNonblock(fd, true), unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
			unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}))
	}
	if err != nil {
		return fmt.Errorf("connect client %d: %w", c.n, err)
	}
	return l.write(c, []byte(upgrade(l.server.String())))
}

// shrink closes the youngest clients, until n are left.
func (l *loop) shrink(n int) error {
	var err error
	for len(l.clients) > n {
		c := l.clients[len(l.clients)-1]
		l.clients = l.clients[:len(l.clients)-1]
		delete(l.byFD, int32(c.fd))
		err = errors.Join(err, unix.Close(c.fd))
	}
	return err
}

// run serves the clients until a time has passed or done says so, and calls
// work, which may be nil, before each wait; work says how long it may last.
func (l *loop) run(limit time.Duration, done func() bool, work func() (time.Duration, error)) error {
	events := make([]unix.EpollEvent, 256)
	end := l.clock() + int64(limit)
	for {
		l.now = l.clock()
		if l.now >= end || (done != nil && done()) {
			return nil
		}
		wait := time.Duration(end - l.now)
		if work != nil {
			most, err := work()
			if err != nil {
				return err
			}
			wait = min(wait, most)
		}
		n, err := unix.EpollWait(l.epoll, events, int((wait+time.Millisecond-1)/time.Millisecond))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for servers: %w", err)
		}
		for _, e := range events[:max(n, 0)] {
			if c := l.byFD[e.Fd]; c != nil {
				if err := l.read(c); err != nil {
					return fmt.Errorf("client %d: %w", c.n, err)
				}
			}
		}
	}
}

func (l *loop) read(c *client) error {
	held := copy(l.buf, c.rest)
	n, err := unix.Read(c.fd, l.buf[held:])
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return nil
	case err != nil:
		return fmt.Errorf("read: %w", err)
	case n == 0:
		return errors.New("closed by the server")
	}
	l.now = l.clock()
	b := l.buf[:held+n]
	if c.step == stepUpgrade {
		end := bytes.Index(b, []byte("\r\n\r\n"))
		if end < 0 {
			c.rest = append(c.rest[:0], b...)
			return nil
		}
		if !bytes.HasPrefix(b, []byte("HTTP/1.1 101 ")) {
			return fmt.Errorf("upgrade refused: %.40q", b)
		}
		b = b[end+4:]
		c.step = stepOpen
	}
	for {
		head, size := header(b)
		if head == 0 || len(b) < head+size {
			break
		}
		if b[0] != 0x81 {
			return fmt.Errorf("frame of type %#x", b[0])
		}
		if err := l.packet(c, b[head:head+size]); err != nil {
			return err
		}
		b = b[head+size:]
	}
	c.rest = append(c.rest[:0], b...)
	return nil
}

// packet takes one packet of the server.
func (l *loop) packet(c *client, p []byte) error {
	switch {
	case len(p) > 1 && p[0] == '4' && p[1] == '2':
		if at := bytes.Index(p, []byte(stamp)); at >= 0 && at+len(stamp)+stampDigits <= len(p) {
			l.delivered++
			if l.keep && len(l.took) < keptSamples {
				at += len(stamp)
				l.took = append(l.took, l.now-hex(p[at:at+stampDigits]))
			}
		}
	case len(p) > 1 && p[0] == '4' && p[1] == '3':
		return l.answer(c, p)
	case len(p) == 1 && p[0] == '2':
		return l.write(c, clientFrame("3"))
	case len(p) > 1 && p[0] == '0' && c.step == stepOpen:
		c.step = stepConnect
		auth := `40{"token":` + strconv.Quote(token(c.n))
		if c.n < terminals {
			auth += `,"terminalId":` + strconv.Quote(terminalOf(c.n))
		}
		return l.write(c, clientFrame(auth+"}"))
	case len(p) > 1 && p[0] == '4' && p[1] == '0' && c.step == stepConnect:
		c.step = stepJoin
		return l.write(c, clientFrame(`420["join_room",{"roomType":"venue","venueId":"`+venue+`"}]`))
	default:
		return fmt.Errorf("unexpected packet %.60q", p)
	}
	return nil
}

func (l *loop) answer(c *client, p []byte) error {
	if !bytes.Contains(p, []byte(`"success":true`)) {
		return fmt.Errorf("refused: %.120q", p)
	}
	if c.step == stepJoin {
		c.step = stepReady
		l.ready++
		return nil
	}
	l.acked++
	if l.keep && len(l.ackTook) < keptSamples {
		l.ackTook = append(l.ackTook, l.now-c.sentAt)
	}
	if l.onAck != nil {
		return l.onAck(c)
	}
	return nil
}

// send writes the client's message once more.
func (l *loop) send(c *client, number int) error {
	c.sentAt = l.clock()
	c.message.set(c.sentAt, int64(number))
	return l.write(c, c.message.frame)
}

func (l *loop) write(c *client, b []byte) error {
	// Whole or not at all: clients send little, and socket buffers hold more.
	if n, err := unix.Write(c.fd, b); err != nil || n < len(b) {
		return fmt.Errorf("write %d of %d bytes: %w", max(n, 0), len(b), errors.Join(err, errStuck))
	}
	return nil
}

var errStuck = errors.New("server does not read")

// percentile returns that of what was kept, in milliseconds; it sorts.
func percentile(took []int64, of float64) float64 {
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	return float64(took[min(len(took)-1, int(of*float64(len(took))))]) / 1e6
}
