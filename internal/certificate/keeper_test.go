package certificate

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// place is where a box of a test is: what it would find out, and when it is.
type place struct {
	Config
	found     []string
	addresses []netip.Addr
	err       error
	now       time.Time
	log       bytes.Buffer
}

func newPlace(t *testing.T) *place {
	t.Helper()
	p := &place{
		found: []string{"avq-b1.local"}, addresses: []netip.Addr{netip.MustParseAddr("192.168.1.10"), netip.MustParseAddr("fd00::1")},
		now: time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC),
	}
	p.Config = Config{
		StateDir: t.TempDir(), Box: "b1", Built: p.now.Add(-90 * 24 * time.Hour),
		Found:     func() []string { return p.found },
		Addresses: func() ([]netip.Addr, error) { return p.addresses, p.err },
		Now:       func() time.Time { return p.now },
		Log:       slog.New(slog.NewTextHandler(&p.log, nil)),
	}
	return p
}

// shake makes a handshake with a client that trusts the given CA alone, and
// asks for a name. It returns what the client was shown.
func shake(k *Keeper, ca []byte, name string, now time.Time) (*x509.Certificate, error) {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	client, server := net.Pipe()
	defer func() { _ = client.Close() }()
	go func() {
		_ = tls.Server(server, k.TLS()).Handshake()
		_ = server.Close()
	}()
	c := tls.Client(client, &tls.Config{RootCAs: pool, ServerName: name, Time: func() time.Time { return now }, MinVersion: tls.VersionTLS12})
	if err := c.Handshake(); err != nil {
		return nil, err
	}
	return c.ConnectionState().PeerCertificates[0], nil
}

func TestAuto(t *testing.T) {
	p := newPlace(t)
	p.Names = []string{"box.example.com"}
	k := New(p.Config)
	for _, name := range []string{"avq-b1.local", "box.example.com", "192.168.1.10", "fd00::1"} {
		leaf, err := shake(k, k.CA(), name, p.now)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if life := leaf.NotAfter.Sub(leaf.NotBefore); life > 825*24*time.Hour || leaf.NotBefore.After(p.Built) {
			t.Errorf("good from %s for %s", leaf.NotBefore, life)
		}
	}
	for _, name := range []string{"other.local", "example.com", "192.168.1.11"} {
		if _, err := shake(k, k.CA(), name, p.now); err == nil {
			t.Errorf("%s is believed", name)
		}
	}
	// Whoever only knows the fingerprint finds the CA in what is shown.
	chain := k.shown.Certificate
	if st := k.Status(); len(chain) != 2 || st.Fingerprint != k.Fingerprint() || len(st.Fingerprint) != 64 || st.Error != "" ||
		st.Mode != "auto" || !st.Expires.Equal(k.shown.Leaf.NotAfter) || !slices.Equal(st.Addresses, p.addresses) {
		t.Errorf("%d certificates, status %+v", len(chain), st)
	}

	// Only the owner can read the key, and the next start shows the same CA,
	// whatever its files say by then.
	info, err := os.Stat(filepath.Join(p.StateDir, caFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("CA has mode %v, %v", info.Mode(), err)
	}
	p.now = p.now.Add(100 * time.Hour)
	if again := New(p.Config); again.Fingerprint() != k.Fingerprint() || !bytes.Equal(again.CA(), k.CA()) {
		t.Error("the next start made another CA")
	}
	if bytes.Contains(k.CA(), []byte("PRIVATE")) || strings.Contains(p.log.String(), "PRIVATE") {
		t.Error("the key is told")
	}
}

// TestStolenBox has the CA sign what it has no right to.
func TestStolenBox(t *testing.T) {
	p := newPlace(t)
	k := New(p.Config)
	forged, err := k.ca.issue("b1", []string{"bank.example"}, nil, p.now, p.Built)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(k.ca.cert)
	_, err = forged.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: "bank.example", CurrentTime: p.now})
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); !ok || invalid.Reason != x509.CANotAuthorizedForThisName {
		t.Errorf("verified with %v", err)
	}
}

func TestRenewal(t *testing.T) {
	p := newPlace(t)
	k := New(p.Config)
	renewed := func() bool {
		before := k.shown
		k.look()
		return k.shown != before
	}
	if renewed() {
		t.Error("renewed without a reason")
	}
	p.now = p.now.Add(leafLife/3 - time.Second)
	if renewed() {
		t.Error("renewed before a third of its life is over")
	}
	if p.now = p.now.Add(time.Second); !renewed() {
		t.Error("not renewed though a third of its life is over")
	}
	p.addresses = p.addresses[:1]
	if renewed() {
		t.Error("renewed for an address that went")
	}
	p.addresses = append(p.addresses, netip.MustParseAddr("10.0.0.7"))
	if !renewed() || !slices.Equal(k.Status().Addresses, p.addresses) {
		t.Errorf("an address came, and it is good for %v", k.Status().Addresses)
	}
	p.found = []string{"avq-b1-2.local"}
	if !renewed() || !slices.Equal(k.Status().Names, p.found) {
		t.Errorf("the box was renamed, and it is good for %v", k.Status().Names)
	}
	if p.now = p.now.Add(-time.Hour); !renewed() {
		t.Error("not renewed though the clock was set back")
	}
	p.err = errors.New("no interfaces")
	if renewed() || k.Status().Error != "no interfaces" {
		t.Errorf("status says %q", k.Status().Error)
	}
	p.err = nil
	if renewed() || k.Status().Error != "" {
		t.Errorf("status says %q", k.Status().Error)
	}
}

// TestClockOfTheFirstStart: a box that has no idea of the time is believed by
// devices that have.
func TestClockOfTheFirstStart(t *testing.T) {
	p := newPlace(t)
	today := p.now
	p.now = p.Built // where the box's clock begins
	k := New(p.Config)
	if _, err := shake(k, k.CA(), "avq-b1.local", today); err != nil {
		t.Error(err)
	}
	p.now = today.Add(200 * 24 * time.Hour) // ahead
	k = New(p.Config)
	if _, err := shake(k, k.CA(), "avq-b1.local", today); err != nil {
		t.Error(err)
	}
}

// TestCAOnDisk: what is there and is no CA is never replaced, and keeps nothing
// from starting.
func TestCAOnDisk(t *testing.T) {
	whole, err := os.ReadFile(filepath.Join(func() string { p := newPlace(t); New(p.Config); return p.StateDir }(), caFile))
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(filepath.Join(func() string { p := newPlace(t); New(p.Config); return p.StateDir }(), caFile))
	if err != nil {
		t.Fatal(err)
	}
	cert, key := pemBlock(whole, "CERTIFICATE"), pemBlock(other, "PRIVATE KEY")
	for name, content := range map[string][]byte{
		"empty": {}, "half": whole[:len(whole)/2], "no key": cert, "another's key": append(cert, key...), "rubbish": []byte("\x00\x01rubbish"),
	} {
		p := newPlace(t)
		path := filepath.Join(p.StateDir, caFile)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		k := New(p.Config)
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: the file was touched: %v", name, err)
		}
		if st := k.Status(); !strings.Contains(st.Error, path) || !strings.Contains(st.Error, "move it away") || k.Fingerprint() != "" || k.CA() != nil {
			t.Errorf("%s: status is %+v", name, st)
		}
		if _, err := shake(k, whole, "avq-b1.local", p.now); err == nil {
			t.Errorf("%s: TLS is spoken", name)
		}
		if err := os.WriteFile(path, whole, 0o644); err != nil {
			t.Fatal(err)
		}
		k.look()
		if _, err := shake(k, whole, "avq-b1.local", p.now); err != nil || k.Status().Error != "" {
			t.Errorf("%s: brought back, and: %v, %s", name, err, k.Status().Error)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: left at mode %v, %v", name, info.Mode(), err)
		}
		if n := strings.Count(p.log.String(), "level=ERROR"); n != 1 {
			t.Errorf("%s: said %d times", name, n)
		}
	}
}

func pemBlock(raw []byte, kind string) []byte {
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == kind {
			return pem.EncodeToMemory(block)
		}
	}
	return nil
}

// TestCAGone: a CA that vanishes under a running box goes on being shown, and is
// missed before the next start makes another. Who opens its key to others is
// undone.
func TestCAGone(t *testing.T) {
	p := newPlace(t)
	k := New(p.Config)
	path := filepath.Join(p.StateDir, caFile)
	copied, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	k.look()
	p.addresses = append(p.addresses, netip.MustParseAddr("10.0.0.7"))
	k.look()
	if st := k.Status(); !strings.Contains(st.Error, path) || !strings.Contains(st.Error, "next start makes a new one") || len(st.Addresses) != 3 {
		t.Errorf("status is %+v", st)
	}
	if _, err := shake(k, copied, "avq-b1.local", p.now); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(path, copied, 0o644); err != nil { //nolint:gosec // what the test is about
		t.Fatal(err)
	}
	k.look()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 || k.Status().Error != "" {
		t.Errorf("brought back: %v, %v, %q", info.Mode(), err, k.Status().Error)
	}
	if again := New(p.Config); again.Fingerprint() != k.Fingerprint() {
		t.Error("the next start has another CA")
	}
}

// TestClockJumps: whatever the clock said meanwhile, once it is right devices
// believe what is shown.
func TestClockJumps(t *testing.T) {
	p := newPlace(t)
	truth := p.now
	p.now = p.Built
	k := New(p.Config)
	for _, now := range []time.Time{truth, truth.Add(10 * 365 * 24 * time.Hour), truth, truth.Add(30 * 365 * 24 * time.Hour), truth, p.Built, truth.Add(leafLife)} {
		p.now = now
		k.look()
		if now.Sub(truth).Abs() > leafLife {
			continue // nobody can help that
		}
		if _, err := shake(k, k.CA(), "avq-b1.local", truth.Add(max(0, now.Sub(truth)))); err != nil {
			t.Errorf("at %s: %v", now, err)
		}
	}
}

// TestAddressOfTheClient: a client that comes to an address which is new is shown
// a certificate for it, be it before the box next looks.
func TestAddressOfTheClient(t *testing.T) {
	p := newPlace(t)
	k := New(p.Config)
	p.addresses = append(p.addresses, netip.MustParseAddr("127.0.0.1"))
	l, err := tls.Listen("tcp", "127.0.0.1:0", k.TLS())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.(*tls.Conn).Handshake()
			_ = c.Close()
		}
	}()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(k.CA())
	for range 2 {
		before := k.shown
		c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: pool, Time: func() time.Time { return p.now }, MinVersion: tls.VersionTLS12})
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
		if before != k.shown && slices.Contains(addressesOf(before.Leaf), p.addresses[2]) {
			t.Error("made anew for each client")
		}
	}
}

// TestForeignName: a name that devices would not believe is left out and said.
func TestForeignName(t *testing.T) {
	p := newPlace(t)
	New(p.Config)
	p.Names = []string{"later.example"}
	k := New(p.Config)
	if st := k.Status(); !strings.Contains(st.Error, "later.example") || slices.Contains(st.Names, "later.example") {
		t.Errorf("status is %+v", st)
	}
	if _, err := shake(k, k.CA(), "avq-b1.local", p.now); err != nil {
		t.Error(err)
	}
	p.Names, p.now = nil, p.now.Add(caLife-leafLife/2)
	if st := New(p.Config).Status(); !strings.Contains(st.Error, "ends on") || !strings.Contains(st.Error, "restart") || st.Expires.After(st.CAExpires) {
		t.Errorf("near its end the status is %+v", st)
	}
}

// TestFiles has certificate files change under a running box, as whoever renews
// them writes them: one after the other.
func TestFiles(t *testing.T) {
	p := newPlace(t)
	p.CertFile, p.KeyFile = filepath.Join(p.StateDir, "cert.pem"), filepath.Join(p.StateDir, "key.pem")
	writePart := func(path string, raw []byte) {
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, p.Built, p.Built); err != nil { // as out of an archive: the time tells nothing
			t.Fatal(err)
		}
	}
	pair := func(name string) (ca, cert, key []byte) {
		a, err := newAuthority(name, nil, p.now, p.Built)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := a.issue(name, []string{name + ".local"}, nil, p.now, p.Built)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(leaf.PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		return a.pem(), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Certificate[0]}),
			pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	}
	k := New(p.Config)
	if st := k.Status(); st.Error == "" || st.Mode != "files" || k.CA() != nil || k.Fingerprint() != "" {
		t.Errorf("without files the status is %+v", st)
	}
	ca1, cert1, key1 := pair("one")
	ca2, cert2, key2 := pair("two")
	works := func(ca []byte, name string) {
		t.Helper()
		k.look()
		if _, err := shake(k, ca, name, p.now); err != nil {
			t.Error(err)
		}
	}
	writePart(p.CertFile, cert1)
	writePart(p.KeyFile, key1)
	works(ca1, "one.local")
	if k.Status().Error != "" {
		t.Error(k.Status().Error)
	}
	writePart(p.CertFile, cert2)
	works(ca1, "one.local") // the last that was whole
	if k.Status().Error == "" {
		t.Error("half of a renewal is not said")
	}
	writePart(p.KeyFile, key2)
	works(ca2, "two.local")
	if k.Status().Error != "" {
		t.Error(k.Status().Error)
	}
	if err := os.Remove(p.KeyFile); err != nil {
		t.Fatal(err)
	}
	works(ca2, "two.local")
	writePart(p.KeyFile, key2)
	p.now = p.now.Add(leafLife)
	if k.look(); !strings.Contains(k.Status().Error, "ended on") {
		t.Errorf("after its end the status says %q", k.Status().Error)
	}
	if _, err := os.Stat(filepath.Join(p.StateDir, caFile)); err == nil {
		t.Error("a CA was made that nobody wants")
	}
}

// TestRun has a box get an address while it runs.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlace(t)
		var moved atomic.Bool
		p.Addresses = func() ([]netip.Addr, error) {
			if moved.Load() {
				return []netip.Addr{netip.MustParseAddr("10.0.0.7")}, nil
			}
			return p.addresses, nil
		}
		k := New(p.Config)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- k.Run(ctx) }()
		moved.Store(true)
		<-time.After(lookEvery + time.Millisecond)
		synctest.Wait()
		if got := k.Status().Addresses; len(got) != 1 || got[0] != netip.MustParseAddr("10.0.0.7") {
			t.Errorf("good for %v", got)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestInterfaces asks for the real ones.
func TestInterfaces(t *testing.T) {
	p := newPlace(t)
	p.Addresses = nil
	k := New(p.Config)
	if _, err := shake(k, k.CA(), "127.0.0.1", p.now); err != nil {
		t.Error(err)
	}
}
