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

// wire is a TCP proxy between box and broker that can do what networks do.
type wire struct {
	net.Listener
	to string

	swallow atomic.Bool                       // drop the broker's PUBACKs
	hold    atomic.Bool                       // let nothing through, silently
	alter   atomic.Pointer[func([]byte) bool] // sees each packet from the broker; false drops it

	forbid string       // ends a connection on which the box says this; set before use
	ended  atomic.Int64 // times it did

	mu    sync.Mutex
	pairs map[net.Conn]net.Conn
	all   sync.WaitGroup
}

func newWire(t *testing.T, broker string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{Listener: l, to: strings.TrimPrefix(broker, "tcp://"), pairs: map[net.Conn]net.Conn{}}
	w.all.Go(w.accept)
	t.Cleanup(func() {
		_ = l.Close()
		w.cut()
		w.all.Wait()
	})
	return w
}

func (w *wire) url() string { return "tcp://" + w.Addr().String() }

// cut closes all connections through the wire.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for a, b := range w.pairs {
		_ = a.Close()
		_ = b.Close()
		delete(w.pairs, a)
	}
}

func (w *wire) accept() {
	for {
		box, err := w.Accept()
		if err != nil {
			return
		}
		broker, err := net.Dial("tcp", w.to)
		if err != nil {
			_ = box.Close()
			continue
		}
		w.mu.Lock()
		w.pairs[box] = broker
		w.mu.Unlock()
		w.all.Go(func() { w.up(box, broker) })
		w.all.Go(func() { w.down(broker, box) })
	}
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
