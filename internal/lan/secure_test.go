package lan_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/lan"
)

// testTLS shows a certificate that nobody vouches for.
func testTLS(t testing.TB) *tls.Config {
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
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// trusting believes any certificate: what is carried is tested here, and not
// who carries it.
func trusting() *tls.Config { return &tls.Config{InsecureSkipVerify: true} } //nolint:gosec // see above

// base is the URL of a box, dialer and client are what opens it.
func (b *box) base() string {
	if os.Getenv(tlsEnv) != "" {
		return "https://" + b.Addr().String()
	}
	return "http://" + b.Addr().String()
}

func (b *box) dialer() *websocket.Dialer {
	d := *websocket.DefaultDialer
	d.TLSClientConfig = trusting()
	return &d
}

func (b *box) client() *http.Client {
	transport := &http.Transport{TLSClientConfig: trusting(), ForceAttemptHTTP2: true}
	b.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// TestOnePort has clients with and without TLS on one port, over WebSockets,
// polling and plain requests, hear each other.
func TestOnePort(t *testing.T) {
	b := start(t)
	if _, err := tls.Dial("tcp", b.Addr().String(), trusting()); err == nil {
		t.Error("TLS is spoken without being configured")
	}
	b = start(t, func(c *lan.Config) { c.TLS = testTLS(t) })
	plain := b.as(event.Waiter)
	t.Setenv(tlsEnv, "1")
	secure := b.as(event.Waiter)

	p := b.poll(t)

	for _, c := range []*client{plain, secure} {
		c.ask("payment_initiated", payment)
	}
	plain.want("payment_initiated")
	secure.want("payment_initiated")
	p.until("payment_initiated")

	for _, scheme := range []string{"http", "https"} {
		resp, err := b.client().Get(scheme + "://" + b.Addr().String() + "/else")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusTeapot || resp.ProtoMajor != 1 || (resp.TLS != nil) != (scheme == "https") {
			t.Errorf("%s is answered %s with %s", scheme, resp.Status, resp.Proto)
		}
	}
}

// TestSilentBeforeTLS has peers that say nothing, so that it is never known
// what they would speak: they are let go in time, and at the end.
func TestSilentBeforeTLS(t *testing.T) {
	quick := start(t, func(c *lan.Config) { c.TLS, c.HeaderTimeout = testTLS(t), 50*time.Millisecond })
	slow := start(t, func(c *lan.Config) { c.TLS = testTLS(t) })
	for _, b := range []*box{quick, slow} {
		c, err := net.Dial("tcp", b.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		if b == slow {
			b.stop()
		}
		_ = c.SetReadDeadline(time.Now().Add(patience))
		if _, err := c.Read(make([]byte, 1)); err == nil || isTimeout(err) {
			t.Errorf("a silent peer is left alone: %v", err)
		}
	}
	until(t, "it is counted", func() bool { return quick.Stats().Refused["header_timeout"] == 1 })
	if n := slow.Stats().Refused["header_timeout"]; n != 0 {
		t.Errorf("%d counted at the end", n)
	}
}

// TestOverTLS repeats what depends on how frames are written and read.
func TestOverTLS(t *testing.T) {
	t.Setenv(tlsEnv, "1")
	t.Run("TestPolling", TestPolling)
	t.Run("TestUpgrade", TestUpgrade)
	t.Run("TestMalformed", TestMalformed)
	t.Run("TestStalledReader", TestStalledReader)
	t.Run("TestFrozenReader", TestFrozenReader)
	t.Run("TestFrozenForGood", TestFrozenForGood)
	t.Run("TestRecoverAfterABlip", TestRecoverAfterABlip)
	t.Run("TestRecoverAfterRST", TestRecoverAfterRST)
	t.Run("TestUnansweredPing", TestUnansweredPing)
	t.Run("TestWriteDeadline", TestWriteDeadline)
}
