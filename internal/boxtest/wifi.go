package boxtest

import (
	"net"
	"sync"
	"testing"
)

// Wifi stands between clients and a box, and can fail in the ways a radio link
// does. Its methods may be called concurrently.
type Wifi struct {
	listener net.Listener
	target   string

	mu    sync.Mutex // guards below
	held  bool
	links map[*wifiLink]struct{}
	group sync.WaitGroup
}

type wifiLink struct {
	client, box *net.TCPConn

	mu   sync.Mutex // held while frozen: nothing passes
	lost sync.Once
}

// StartWifi relays to an address, host:port, until the end of the test.
func StartWifi(t testing.TB, target string) *Wifi {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	w := &Wifi{listener: l, target: target, links: make(map[*wifiLink]struct{})}
	w.group.Go(w.accept)
	t.Cleanup(func() {
		_ = l.Close()
		w.each(func(k *wifiLink) { k.thaw(); k.close() })
		w.group.Wait()
	})
	return w
}

// URL is where clients connect.
func (w *Wifi) URL() string { return "http://" + w.listener.Addr().String() }

// Blip closes all connections, as a client does that changes networks.
func (w *Wifi) Blip() { w.each((*wifiLink).close) }

// Reset cuts all connections with RST on both sides.
func (w *Wifi) Reset() {
	w.each(func(k *wifiLink) {
		_ = k.client.SetLinger(0)
		_ = k.box.SetLinger(0)
		k.close()
	})
}

// Lose loses the clients' side of all connections: the clients see them closed,
// the box hears nothing more of them and is not told. New ones work.
func (w *Wifi) Lose() {
	w.each(func(k *wifiLink) {
		k.lost.Do(k.mu.Lock)
		_ = k.client.Close()
	})
}

// Hold refuses new connections until it is called with false.
func (w *Wifi) Hold(held bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held = held
}

func (w *Wifi) holds() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.held
}

func (w *Wifi) each(f func(*wifiLink)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for k := range w.links {
		f(k)
	}
}

func (w *Wifi) accept() {
	for {
		c, err := w.listener.Accept()
		if err != nil {
			return
		}
		if w.holds() {
			_ = c.Close()
			continue
		}
		b, err := net.Dial("tcp", w.target)
		if err != nil {
			_ = c.Close() // the box is down
			continue
		}
		k := &wifiLink{client: c.(*net.TCPConn), box: b.(*net.TCPConn)} //nolint:forcetypeassert // both are TCP
		w.mu.Lock()
		w.links[k] = struct{}{}
		w.mu.Unlock()
		w.group.Go(func() { k.relay(k.box, k.client) })
		w.group.Go(func() {
			k.relay(k.client, k.box)
			w.mu.Lock()
			defer w.mu.Unlock()
			delete(w.links, k)
		})
	}
}

// relay copies until either side ends, which it then tells the other, unless
// the link was lost.
func (k *wifiLink) relay(to, from *net.TCPConn) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		k.mu.Lock()
		if n > 0 && err == nil {
			_, err = to.Write(b[:n])
		}
		k.mu.Unlock()
		if err != nil {
			break
		}
	}
	k.close()
}

func (k *wifiLink) close() {
	_ = k.client.Close()
	_ = k.box.Close()
}

// thaw lets the relays of a lost link see their end.
func (k *wifiLink) thaw() {
	was := true
	k.lost.Do(func() { was = false })
	if was {
		k.mu.Unlock()
	}
}
