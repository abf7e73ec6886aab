package boxtest

import (
	"maps"
	"net"
	"slices"
	"sync"
	"testing"
)

// Wifi stands between clients and a box, and can fail in the ways a radio link
// does. Its methods may be called concurrently.
type Wifi struct {
	listener  net.Listener
	accepting sync.WaitGroup
	relays    sync.WaitGroup

	mu     sync.Mutex // guards below
	target string
	held   bool
	muted  bool
	links  map[*wifiLink]struct{}
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
	w.accepting.Go(w.accept)
	t.Cleanup(func() {
		_ = l.Close()
		w.accepting.Wait() // no link comes after these
		w.each(func(k *wifiLink) { k.thaw(); k.close() })
		w.relays.Wait()
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

// Mute loses all that the box says until it is called with false; the box still
// hears its clients.
func (w *Wifi) Mute(muted bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.muted = muted
}

func (w *Wifi) mutes() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.muted
}

// Hold refuses new connections until it is called with false.
func (w *Wifi) Hold(held bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held = held
}

// Move relays new connections to another address: the box has moved, and its
// clients found it.
func (w *Wifi) Move(target string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.target = target
}

// leads returns where, and whether nobody gets there now.
func (w *Wifi) leads() (target string, held bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.target, w.held
}

// each acts on the links of now, without the lock: a link takes it under its own.
func (w *Wifi) each(f func(*wifiLink)) {
	w.mu.Lock()
	links := slices.Collect(maps.Keys(w.links))
	w.mu.Unlock()
	for _, k := range links {
		f(k)
	}
}

func (w *Wifi) accept() {
	for {
		c, err := w.listener.Accept()
		if err != nil {
			return
		}
		target, held := w.leads()
		if held {
			_ = c.Close()
			continue
		}
		b, err := net.Dial("tcp", target)
		if err != nil {
			_ = c.Close() // the box is down
			continue
		}
		k := &wifiLink{client: c.(*net.TCPConn), box: b.(*net.TCPConn)} //nolint:forcetypeassert // both are TCP
		w.mu.Lock()
		w.links[k] = struct{}{}
		w.mu.Unlock()
		w.relays.Go(func() { k.relay(k.box, k.client, func() bool { return false }) })
		w.relays.Go(func() {
			k.relay(k.client, k.box, w.mutes)
			w.mu.Lock()
			defer w.mu.Unlock()
			delete(w.links, k)
		})
	}
}

// relay copies until either side ends, which it then tells the other, unless
// the link was lost. What is read while it is lossy goes nowhere.
func (k *wifiLink) relay(to, from *net.TCPConn, lossy func() bool) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		k.mu.Lock()
		if n > 0 && err == nil && !lossy() {
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
