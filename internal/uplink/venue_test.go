package uplink

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/net/dns/dnsmessage"
)

// What stands between a box and its broker in these tests: certificates, name
// servers, proxies, servers that end TLS and WebSocket.

// authority issues certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // its certificate as PEM
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, file: filepath.Join(t.TempDir(), "ca.pem")}
	var der []byte
	a.key, der = a.issue(&x509.Certificate{
		Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Unix(0, 0), NotAfter: time.Now().AddDate(100, 0, 0),
	})
	var err error
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	writePEM(t, a.file, "CERTIFICATE", der)
	return a
}

func (a *authority) issue(c *x509.Certificate) (*ecdsa.PrivateKey, []byte) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c.SerialNumber = big.NewInt(time.Now().UnixNano())
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	return key, der
}

// pair returns a certificate for a name, a server's and a client's.
func (a *authority) pair(name string, from, to time.Time) tls.Certificate {
	key, der := a.issue(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 9)},
		NotBefore: from, NotAfter: to, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a *authority) server(name string, from, to time.Time) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return &tls.Config{Certificates: []tls.Certificate{a.pair(name, from, to)}, ClientCAs: pool}
}

// put writes a pair where a box reads it, each file in one step.
func (a *authority) put(dir string, pair tls.Certificate) (cert, key string) {
	a.t.Helper()
	raw, err := x509.MarshalECPrivateKey(pair.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		a.t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "box.pem"), filepath.Join(dir, "box.key")
	writePEM(a.t, key, "EC PRIVATE KEY", raw)
	writePEM(a.t, cert, "CERTIFICATE", pair.Certificate[0])
	return cert, key
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

func soon() (from, to time.Time) { return time.Now().Add(-time.Hour), time.Now().Add(time.Hour) }

// serveConns accepts until the test ends and joins what it began.
func serveConns(t *testing.T, at string, handle func(net.Conn)) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			all.Go(func() {
				defer c.Close()
				handle(c)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return l
}

// bridge copies both ways until either side ends.
func bridge(a, b net.Conn) {
	var all sync.WaitGroup
	for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
		all.Go(func() {
			_, _ = io.Copy(way[0], way[1])
			_ = a.Close()
			_ = b.Close()
		})
	}
	all.Wait()
}

// front stands before a broker and ends TLS, if there is a config, and a
// WebSocket at the path /mqtt, if asked.
func front(t *testing.T, at, broker string, secure *tls.Config, web bool) net.Listener {
	t.Helper()
	broker = strings.TrimPrefix(broker, "tcp://")
	return serveConns(t, at, func(c net.Conn) {
		if secure != nil {
			c = tls.Server(c, secure)
		}
		if web {
			if c = acceptWebSocket(c); c == nil {
				return
			}
		}
		b, err := net.Dial("tcp", broker)
		if err != nil {
			return
		}
		bridge(c, b)
	})
}

// hijack answers one request on a connection that is there already.
type hijack struct {
	net.Conn
	r *bufio.Reader
	http.ResponseWriter
}

func (h hijack) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.Conn, bufio.NewReadWriter(h.r, bufio.NewWriter(h.Conn)), nil
}
func (h hijack) Write(p []byte) (int, error) { return h.Conn.Write(p) }

func acceptWebSocket(c net.Conn) net.Conn {
	r := bufio.NewReader(c)
	req, err := http.ReadRequest(r)
	if err != nil || req.URL.Path != "/mqtt" {
		_, _ = io.WriteString(c, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
		return nil
	}
	up := websocket.Upgrader{Subprotocols: []string{"mqtt"}}
	ws, err := up.Upgrade(hijack{Conn: c, r: r}, req, nil)
	if err != nil {
		return nil
	}
	return &stream{Conn: ws}
}

// httpProxy is a proxy that knows CONNECT, and finds every name on loopback.
type httpProxy struct {
	net.Listener
	user     string // "user:password" that it wants; empty: none
	connects atomic.Int64
}

func newProxy(t *testing.T, user string) *httpProxy {
	p := &httpProxy{user: user}
	p.Listener = serveConns(t, "127.0.0.1:0", func(c net.Conn) {
		r := bufio.NewReader(c)
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		auth := req.Header.Get("Proxy-Authorization")
		req.Header.Set("Authorization", auth)
		name, password, _ := req.BasicAuth()
		if p.user != "" && name+":"+password != p.user {
			_, _ = io.WriteString(c, "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
			return
		}
		_, port, _ := net.SplitHostPort(req.Host)
		b, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err != nil {
			_, _ = io.WriteString(c, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
			return
		}
		p.connects.Add(1)
		_, _ = io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n")
		bridge(c, b)
	})
	return p
}

// names is a name server. A name it does not know does not exist; while silent
// it answers nothing.
type names struct {
	conn   net.PacketConn
	silent atomic.Bool

	mu    sync.Mutex
	known map[string][]netip.Addr // "*" is every name
	asked map[string]int
}

func newNames(t *testing.T) *names {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &names{conn: c, known: map[string][]netip.Addr{}, asked: map[string]int{}}
	var all sync.WaitGroup
	all.Go(n.serve)
	t.Cleanup(func() {
		_ = c.Close()
		all.Wait()
	})
	return n
}

func (n *names) set(name string, addrs ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.known[name] = nil
	for _, a := range addrs {
		n.known[name] = append(n.known[name], netip.MustParseAddr(a))
	}
}

// resolver asks this server alone.
func (n *names) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", n.conn.LocalAddr().String())
	}}
}

func (n *names) serve() {
	buf := make([]byte, 1500)
	for {
		size, from, err := n.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buf[:size]) != nil || len(m.Questions) != 1 || n.silent.Load() {
			continue
		}
		q := m.Questions[0]
		name := strings.TrimSuffix(q.Name.String(), ".")
		n.mu.Lock()
		n.asked[name]++
		addrs, ok := n.known[name]
		if !ok {
			addrs, ok = n.known["*"]
		}
		n.mu.Unlock()
		m.Response, m.Additionals = true, nil
		if !ok {
			m.RCode = dnsmessage.RCodeNameError
		}
		for _, a := range addrs {
			h := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, Type: q.Type}
			if a.Is4() && q.Type == dnsmessage.TypeA {
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: a.As4()}})
			}
			if a.Is6() && q.Type == dnsmessage.TypeAAAA {
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
			}
		}
		if out, err := m.Pack(); err == nil {
			_, _ = n.conn.WriteTo(out, from)
		}
	}
}

// token is a JSON Web Token as a broker would check it, with no signature.
func token(exp time.Time) string {
	claims := base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"sub":"box","exp":%d}`, exp.Unix()))
	return "eyJhbGciOiJub25lIn0." + claims + ".x"
}

func writeAtOnce(path, text string) error {
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
