package uplink

import (
	"crypto/tls"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func port(l net.Listener) string {
	_, p, _ := net.SplitHostPort(l.Addr().String())
	return p
}

func failsAs(t *testing.T, u *Uplink, name string) *Failure {
	t.Helper()
	until(t, "it is named "+name, func() bool { f := u.Status().Failure; return f != nil && f.Name == name || t.Failed() })
	f := u.Status().Failure
	if f.Remedy == "" || f.Text == "" {
		t.Errorf("%+v", f)
	}
	return f
}

// Every scheme works directly, through a proxy that wants a password, and not
// through one that gets another.
func TestSchemesAndProxies(t *testing.T) {
	broker := startBroker(t, "127.0.0.1:0")
	ca := newAuthority(t)
	secure := ca.server("broker.test", time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	dns := newNames(t)
	dns.set("broker.test", "127.0.0.1")
	for scheme, at := range map[string]net.Listener{
		"tcp": front(t, "127.0.0.1:0", broker.URL(), nil, false),
		"tls": front(t, "127.0.0.1:0", broker.URL(), secure, false),
		"ws":  front(t, "127.0.0.1:0", broker.URL(), nil, true),
		"wss": front(t, "127.0.0.1:0", broker.URL(), secure, true),
	} {
		broker := scheme + "://broker.test:" + port(at)
		if strings.HasPrefix(scheme, "ws") {
			broker += "/mqtt"
		}
		change := func(proxy string) func(*Config) {
			return func(c *Config) { c.CAFile, c.Proxy, c.Resolver = ca.file, proxy, dns.resolver() }
		}
		t.Run(scheme, func(t *testing.T) {
			j := newMemory()
			u := newUplink(t, j, broker, change(NoProxy))
			running(t, "uplink", u.Run)
			online(t, u)
		})
		t.Run(scheme+" through a proxy", func(t *testing.T) {
			p := newProxy(t, "box:secret word")
			j := newMemory()
			u := newUplink(t, j, broker, change("http://box:secret%20word@"+p.Addr().String()))
			running(t, "uplink", u.Run)
			online(t, u)
			if p.connects.Load() != 1 {
				t.Errorf("%d connections through the proxy", p.connects.Load())
			}
		})
		t.Run(scheme+" and the wrong password", func(t *testing.T) {
			p := newProxy(t, "box:right")
			u := newUplink(t, newMemory(), broker, change("http://box:geheim@"+p.Addr().String()))
			running(t, "uplink", u.Run)
			f := failsAs(t, u, Proxy)
			if strings.Contains(f.Text, "geheim") || !strings.Contains(f.Text, "407") {
				t.Errorf("text %s", f.Text)
			}
		})
	}
}

// The environment's proxy is used where none is set, and not for what NO_PROXY
// names.
func TestProxyOfTheEnvironment(t *testing.T) {
	broker := startBroker(t, "127.0.0.1:0")
	ca := newAuthority(t)
	from, to := soon()
	at := front(t, "127.0.0.1:0", broker.URL(), ca.server("broker.test", from, to), false)
	p := newProxy(t, "")
	t.Setenv("HTTPS_PROXY", "http://"+p.Addr().String())
	u := newUplink(t, newMemory(), "tls://broker.test:"+port(at), func(c *Config) { c.CAFile = ca.file })
	running(t, "uplink", u.Run)
	online(t, u)
	if p.connects.Load() == 0 {
		t.Error("not through the proxy")
	}
	t.Setenv("NO_PROXY", "broker.test")
	there, err := (&Config{}).proxyFor(&url.URL{Scheme: "tls", Host: "broker.test:8883"})
	if there != nil || err != nil {
		t.Errorf("NO_PROXY: %v, %v", there, err)
	}
	t.Setenv("NO_PROXY", "")
	t.Setenv("HTTPS_PROXY", "socks5://127.0.0.1:1080")
	if _, err := (&Config{}).proxyFor(&url.URL{Scheme: "tls", Host: "broker.test:8883"}); nameOf(err) != Proxy {
		t.Errorf("socks: %v", err)
	}
	for _, bad := range []string{"proxy:3128", "https://x", "http://", "http://u:geheim@x:y:z"} {
		if _, err := parseProxy(bad); err == nil || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestIPv6Broker(t *testing.T) {
	if l, err := net.Listen("tcp", "[::1]:0"); err != nil {
		t.Skip("SKIP: this machine has no IPv6 on loopback")
	} else {
		_ = l.Close()
	}
	broker := startBroker(t, "[::1]:0")
	u := newUplink(t, newMemory(), broker.URL(), nil)
	running(t, "uplink", u.Run)
	online(t, u)
	if b := u.Status().Broker; !strings.HasPrefix(b, "[::1]:") {
		t.Errorf("broker %s", b)
	}
}

// Of several addresses the first that answers is taken; a dead one costs
// [raceStep], not the patience for all.
func TestDeadAddressesCostLittle(t *testing.T) {
	broker := startBroker(t, "127.0.0.1:0")
	_, p, _ := net.SplitHostPort(broker.Addr())
	dns := newNames(t)
	// A network for documentation: nobody answers there, or at once with a no.
	dns.set("broker.test", "2001:db8::1", "192.0.2.1", "192.0.2.2", "127.0.0.1")
	u := newUplink(t, newMemory(), "tcp://broker.test:"+p, func(c *Config) { c.Resolver = dns.resolver() })
	running(t, "uplink", u.Run)
	online(t, u)
	if s := u.Status(); s.Failure != nil {
		t.Errorf("failed before: %+v", s.Failure)
	}
	d := newDialer(&Config{Resolver: dns.resolver()}, time.Now)
	addrs, err := d.resolve(t.Context(), "broker.test")
	if err != nil || len(addrs) != 4 || addrs[0] != netip.MustParseAddr("2001:db8::1") || !addrs[1].Is4() {
		t.Errorf("%v, %v: families do not take turns", addrs, err)
	}
}

// A broker that moves is found at its new address, and one whose name server
// died is found where it was, if TLS checks that it is the one.
func TestNameChangesAndDies(t *testing.T) {
	t.Parallel()
	broker := startBroker(t, "127.0.0.1:0")
	ca := newAuthority(t)
	from, to := soon()
	secure := ca.server("broker.test", from, to)
	dns := newNames(t)
	dns.set("broker.test", "127.0.0.1")
	old := newWire(t, broker.URL())
	first := front(t, "127.0.0.1:0", old.url(), secure, false)
	j := newMemory()
	change := func(c *Config) { c.CAFile, c.Resolver = ca.file, dns.resolver() }
	u := newUplink(t, j, "tls://broker.test:"+port(first), change)
	stop := running(t, "uplink", u.Run)
	online(t, u)
	front(t, "127.0.0.2:"+port(first), broker.URL(), secure, false)
	_ = old.Close() // the old one takes no more connections
	dns.set("broker.test", "127.0.0.2")
	old.cut()
	until(t, "it follows the name", func() bool { s := u.Status(); return s.Connects == 2 && s.State == Online })
	stop()

	dns.silent.Store(true)
	again := newUplink(t, j, "tls://broker.test:"+port(first), change)
	running(t, "uplink", again.Run)
	online(t, again)
	// Without TLS nothing would tell a stranger at the old address.
	plain := newUplink(t, j, "tcp://broker.test:"+port(first), change)
	running(t, "uplink", plain.Run)
	failsAs(t, plain, DNS)
}

// A client certificate that is renewed on disk is shown at the next connection,
// a link is renewed before its certificate ends, and a half-written file is
// named while the link lives on.
func TestClientCertificateIsRenewed(t *testing.T) {
	broker := startBroker(t, "127.0.0.1:0")
	ca := newAuthority(t)
	from, to := soon()
	secure := ca.server("broker.test", from, to)
	secure.ClientAuth = tls.RequireAndVerifyClientCert
	at := front(t, "127.0.0.9:0", broker.URL(), secure, false)
	dir := t.TempDir()
	cert, key := ca.put(dir, ca.pair("box", from, time.Now().Add(50*time.Second))) // ends within renewAhead
	u := newUplink(t, newMemory(), "tls://"+at.Addr().String(), func(c *Config) {
		c.CAFile, c.CertFile, c.KeyFile, c.renewEvery = ca.file, cert, key, 20*time.Millisecond
	})
	running(t, "uplink", u.Run)
	online(t, u)

	writePEM(t, cert, "CERTIFICATE", []byte("half"))
	until(t, "half a file is named", func() bool { w := u.Status().Warning; return w != nil && w.Name == Certificate })
	if s := u.Status(); s.State != Online || s.Connects != 1 {
		t.Errorf("the old link did not stay: %+v", s)
	}
	u.Interrupt(time.Millisecond)
	until(t, "the last whole one serves meanwhile", func() bool { s := u.Status(); return s.Connects == 2 && s.State == Online })
	ca.put(dir, ca.pair("box", from, to))
	until(t, "the link is renewed", func() bool { s := u.Status(); return s.Connects == 3 && s.State == Online && s.Warning == nil })
	if f := u.Status().Failure; f == nil || f.Name != Renewed {
		t.Errorf("failure %+v", f)
	}

	// One that the broker does not want.
	other := newAuthority(t)
	other.put(dir, other.pair("box", from, to))
	u.Interrupt(time.Millisecond)
	failsAs(t, u, Certificate)
	ca.put(dir, ca.pair("box", from, to))
	online(t, u)
}

// A token is renewed likewise, from the file it is put into.
func TestTokenIsRenewed(t *testing.T) {
	for text, want := range map[string]int64{
		"eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjEyMzR9.x": 1234, "a.b.c": 0, "password": 0,
		"a.eyJleHAiOi0xfQ.c": 0, "a.e30.c": 0,
	} {
		if got := tokenExpiry(text); want == 0 && !got.IsZero() || want != 0 && got.Unix() != want {
			t.Errorf("%s ends at %v", text, got)
		}
	}
	broker := startBroker(t, "127.0.0.1:0")
	file := filepath.Join(t.TempDir(), "token")
	put := func(text string) {
		t.Helper()
		if err := writeAtOnce(file, text); err != nil {
			t.Fatal(err)
		}
	}
	put(token(time.Now().Add(30 * time.Second)))
	u := newUplink(t, newMemory(), broker.URL(), func(c *Config) {
		c.Username, c.PasswordFile, c.renewEvery = "box", file, 10*time.Millisecond
	})
	running(t, "uplink", u.Run)
	online(t, u)
	put(token(time.Now().Add(time.Hour)))
	until(t, "the link is renewed", func() bool { s := u.Status(); return s.Connects == 2 && s.State == Online })
	put(token(time.Now().Add(2 * time.Hour))) // early: no reason to leave
	until(t, "nothing happens", func() bool { return time.Since(u.Status().Since) > 100*time.Millisecond })
	if s := u.Status(); s.Connects != 2 {
		t.Errorf("%d links", s.Connects)
	}
}
