package wire

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/avoqado/avoqado-edge/internal/testpart"
)

// eachWay runs a test without and with TLS.
func eachWay(t *testing.T, f func(t *testing.T, secure bool)) {
	t.Helper()
	t.Run("plain", func(t *testing.T) { f(t, false) })
	t.Run("tls", func(t *testing.T) { f(t, true) })
}

// diverting is a connection that can be told to divert what is written.
type diverting struct {
	*net.TCPConn
	to func(b []byte)
}

func (d *diverting) Write(b []byte) (int, error) {
	if d.to == nil {
		return d.TCPConn.Write(b)
	}
	d.to(b)
	return len(b), nil
}

func (d *diverting) Divert(to func(b []byte)) { d.to = to }

type divertingListener struct{ net.Listener }

func (l divertingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &diverting{TCPConn: c.(*net.TCPConn)}, nil
}

// tlsOver makes TLS of a connection, both ends.
func tlsOver(t *testing.T, client, server net.Conn) (*tls.Conn, *tls.Conn) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	s := tls.Server(&diverting{TCPConn: server.(*net.TCPConn)}, &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
	})
	c := tls.Client(client, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // a test of what is carried
	shaken := make(chan error, 1)
	go func() { shaken <- s.Handshake() }()
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-shaken; err != nil {
		t.Fatal(err)
	}
	return c, s
}

// TestSealedLarge has messages of many records cross in both directions, the
// client's in pieces that end anywhere.
func TestSealedLarge(t *testing.T) {
	f := newFront(t, true, Config{}, time.Hour, time.Hour, all)
	client, e := f.dial(t)
	big := strings.Repeat("0123456789abcdef", 50_000)
	for _, size := range []int{0, 1, 100, 8<<10 - 1, 8 << 10, 16 << 10, 17 << 10, len(big)} {
		write(t, client, "4"+big[:size])
		e.conn.SendText([]byte(big[:size]))
		if got := read(t, client); got != "4"+big[:size] {
			t.Fatalf("%d bytes came, want %d", len(got), size+1)
		}
	}
	testpart.Until(t, "all is heard", func() bool {
		return strings.Count(e.heard(), "message:") == 8 && strings.HasSuffix(e.heard(), "message:"+big)
	})
}

// TestSealedNeedsDiverter: TLS over anything else is refused, not carried with
// writes that wait.
func TestSealedNeedsDiverter(t *testing.T) {
	_, server := pipe(t)
	var s stream
	if err := s.init(New(Config{}), tls.Server(server, &tls.Config{}), nil); err == nil {
		t.Error("it is carried")
	}
}

// TestSealedGoodbye: a close frame is the last that a client hears, over TLS
// too.
func TestSealedGoodbye(t *testing.T) {
	f := newFront(t, true, Config{MaxPayload: 1000}, time.Hour, time.Hour, all)
	client, _ := f.dial(t)
	write(t, client, strings.Repeat("4", 1001))
	_ = client.SetReadDeadline(time.Now().Add(testpart.Patience))
	if _, _, err := client.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseMessageTooBig) {
		t.Errorf("ends with %v, want status 1009", err)
	}
}

// TestSealedLittle: what is less than the records are longer than what is in
// them is not forgotten behind something large that waited.
func TestSealedLittle(t *testing.T) {
	client, o, _ := newOutbox(t, true, Config{MaxBacklog: 64 << 20})
	sent := 0
	for o.hub.Stats().Stalls == 0 {
		o.send([]byte(strings.Repeat("x", 100_000)))
		sent += 100_000
	}
	o.send([]byte(strings.Repeat("x", 100_000))) // sealed while others wait
	sent += 100_000
	o.send([]byte("end"))
	b := make([]byte, sent+3)
	_ = client.SetReadDeadline(time.Now().Add(testpart.Patience))
	if _, err := io.ReadFull(client, b); err != nil || string(b[sent:]) != "end" {
		t.Fatalf("it ends with %q, %v", b[sent:], err)
	}
	testpart.Until(t, "nothing waits", func() bool { return o.waiting() == 0 })
}
