package uplink

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// between stands between box and broker.
type between struct {
	net.Listener

	mu   sync.Mutex
	open map[net.Conn]bool
	all  sync.WaitGroup
}

// serve has up and down carry what the box and the broker say, each connection
// on goroutines of its own, until the end of the test.
func (b *between) serve(t *testing.T, l net.Listener, broker string, up, down func(from, to net.Conn)) {
	b.Listener, b.open = l, map[net.Conn]bool{}
	b.all.Go(func() {
		for {
			box, err := l.Accept()
			if err != nil {
				return
			}
			broker, err := net.Dial("tcp", strings.TrimPrefix(broker, "tcp://"))
			if err != nil {
				_ = box.Close()
				continue
			}
			b.mu.Lock()
			b.open[box], b.open[broker] = true, true
			b.mu.Unlock()
			b.all.Go(func() { up(box, broker) })
			b.all.Go(func() { down(broker, box) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		b.cut()
		b.all.Wait()
	})
}

func (b *between) url() string { return "tcp://" + b.Addr().String() }

// cut closes all connections.
func (b *between) cut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.open {
		_ = c.Close()
		delete(b.open, c)
	}
}

// reset ends all connections as a router that forgot them does.
func (b *between) reset() {
	b.mu.Lock()
	for c := range b.open {
		_ = c.(*net.TCPConn).SetLinger(0)
	}
	b.mu.Unlock()
	b.cut()
}

// wire is a TCP proxy that can do what networks do to MQTT packets.
type wire struct {
	between

	swallow atomic.Bool                       // drop the broker's PUBACKs
	hold    atomic.Bool                       // let nothing through, silently
	alter   atomic.Pointer[func([]byte) bool] // sees each packet from the broker; false drops it

	forbid string       // ends a connection on which the box says this; set before use
	ended  atomic.Int64 // times it did
}

func newWire(t *testing.T, broker string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{}
	w.serve(t, l, broker, w.up, w.down)
	return w
}

func (w *wire) up(box, broker net.Conn) {
	buf := make([]byte, 32<<10)
	var tail []byte // of what the box said
	for {
		n, err := box.Read(buf)
		if w.forbid != "" {
			if tail = append(tail, buf[:n]...); bytes.Contains(tail, []byte(w.forbid)) {
				w.ended.Add(1)
				err = io.ErrUnexpectedEOF
			}
			tail = tail[max(0, len(tail)-len(w.forbid)):]
		}
		if err == nil && !w.hold.Load() {
			_, err = broker.Write(buf[:n])
		}
		if err != nil {
			_ = broker.Close()
			_ = box.Close()
			return
		}
	}
}

// down passes whole MQTT packets.
func (w *wire) down(broker, box net.Conn) {
	defer box.Close()
	defer broker.Close()
	r := bufio.NewReader(broker)
	for {
		packet, err := readPacket(r)
		if err != nil {
			return
		}
		if w.hold.Load() || w.swallow.Load() && packet[0]>>4 == 4 {
			continue
		}
		if f := w.alter.Load(); f != nil && !(*f)(packet) {
			continue
		}
		if _, err := box.Write(packet); err != nil {
			return
		}
	}
}

func readPacket(r *bufio.Reader) ([]byte, error) {
	first, err := r.ReadByte()
	if err != nil {
		return nil, err
	}
	packet, length := []byte{first}, 0
	for shift := 0; ; shift += 7 {
		b, err := r.ReadByte()
		if err != nil {
			return nil, err
		}
		packet = append(packet, b)
		length |= int(b&0x7f) << shift
		if b&0x80 == 0 {
			break
		}
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, err
	}
	return append(packet, body...), nil
}
