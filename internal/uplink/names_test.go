package uplink

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Each fault is seeded, named, and gone when the fault is: the box comes up by
// itself.
func TestFaultsHaveNames(t *testing.T) {
	t.Parallel()
	broker := startBroker(t, "127.0.0.1:0")
	ca := newAuthority(t)
	from, to := soon()
	good := ca.server("broker.test", from, to)
	dns := newNames(t)
	dns.set("broker.test", "127.0.0.1")
	says := func(text string) func(net.Conn) {
		return func(c net.Conn) {
			_, _ = c.Read(make([]byte, 1))
			_, _ = io.WriteString(c, text)
			_, _ = io.Copy(io.Discard, c)
		}
	}
	portal := says("HTTP/1.1 302 Found\r\nLocation: http://login.hotel.example/\r\nContent-Length: 0\r\n\r\n")
	mute := func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }
	tlsSays := func(answer func(net.Conn), with *tls.Config) func(net.Conn) {
		return func(c net.Conn) { answer(tls.Server(c, with)) }
	}
	for _, c := range []struct {
		name, scheme string
		handle       func(net.Conn)
		want         string // in the text
	}{
		{CaptivePortal, "tcp", portal, "HTTP came"},
		{CaptivePortal, "tls", portal, "HTTP came"},
		{CaptivePortal, "ws", portal, "302"},
		{CaptivePortal, "ws", says("HTTP/1.1 511 Network Authentication Required\r\nContent-Length: 0\r\n\r\n"), "511"},
		{Credentials, "ws", says("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"), "403"},
		{BrokerDown, "ws", says("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"), "503"},
		{Protocol, "wss", tlsSays(says("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), good), "404"},
		{NoAnswer, "tcp", mute, "does not answer"},
		{NoAnswer, "tls", mute, "does not answer"},
		{NoAnswer, "ws", mute, "does not answer"},
		{NoAnswer, "tls", tlsSays(mute, good), "does not answer"},
		{DNSLie, "tls", tlsSays(mute, newAuthority(t).server("other.test", from, to)), "127.0.0.1"},
		{Clock, "tls", tlsSays(mute, ca.server("broker.test", time.Now().AddDate(50, 0, 0), time.Now().AddDate(51, 0, 0))), "clock says"},
		{Clock, "tls", tlsSays(mute, ca.server("broker.test", time.Now().AddDate(-20, 0, 0), time.Now().AddDate(-10, 0, 0))), "clock says"},
		{TLS, "tls", tlsSays(mute, ca.server("broker.test", time.Now().AddDate(-1, 0, 0), time.Now().AddDate(0, 0, -1))), "expired"},
	} {
		t.Run(c.name+" "+c.scheme+" "+c.want, func(t *testing.T) {
			t.Parallel()
			at := serveConns(t, "127.0.0.1:0", c.handle)
			dead := c.scheme + "://broker.test:" + port(at) + "/mqtt"
			u := newUplink(t, newMemory(), dead, func(cfg *Config) { cfg.CAFile, cfg.Resolver = ca.file, dns.resolver() })
			running(t, "uplink", u.Run)
			f := failsAs(t, u, c.name)
			if !strings.Contains(f.Text, c.want) {
				t.Errorf("text: %s", f.Text)
			}
			_ = at.Close()
			secure, web := good, strings.HasPrefix(c.scheme, "ws")
			if c.scheme == "tcp" || c.scheme == "ws" {
				secure = nil
			}
			front(t, at.Addr().String(), broker.URL(), secure, web)
			online(t, u)
			if n := u.Status().Failures[c.name]; n == 0 {
				t.Errorf("counted %v", u.Status().Failures)
			}
		})
	}
}

// What an error alone cannot tell, a look around does.
func TestDiagnosis(t *testing.T) {
	home, far, portal := netip.MustParseAddr("192.168.1.10"), netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("10.0.0.1")
	fine := Facts{LAN: []netip.Addr{home}, Route: Yes, Names: Yes, Reached: No, Probe: Unknown}
	with := func(change func(*Facts)) *Facts {
		f := fine
		change(&f)
		return &f
	}
	silent := with(func(f *Facts) { f.Names = No })
	noName := &net.DNSError{Err: "no such host", Name: "broker.example", IsNotFound: true}
	lateName := &net.DNSError{Err: "i/o timeout", Name: "broker.example", IsTimeout: true}
	stranger := fmt.Errorf("%w: %w", errHandshake, &tls.CertificateVerificationError{
		Err: errors.New("not for this name"), UnverifiedCertificates: []*x509.Certificate{{DNSNames: []string{"other.example"}}},
	})
	unknown := fmt.Errorf("%w: %w", errHandshake, &tls.CertificateVerificationError{
		Err: x509.UnknownAuthorityError{}, UnverifiedCertificates: []*x509.Certificate{{DNSNames: []string{"broker.example"}}},
	})
	unreachable := fmt.Errorf("dial: %w", syscall.ENETUNREACH)
	for name, c := range map[string]struct {
		err   error
		stage stage
		addrs []netip.Addr
		facts *Facts
		want  string
	}{
		"cable out":                      {unreachable, reaching, []netip.Addr{far}, with(func(f *Facts) { f.LAN = nil }), NoLAN},
		"cable out, proxy":               {errProxy, tunneling, nil, with(func(f *Facts) { f.LAN = nil }), NoLAN},
		"proxy down":                     {errProxy, tunneling, nil, &fine, Proxy},
		"cable out, name":                {lateName, resolving, nil, with(func(f *Facts) { f.LAN = nil }), NoLAN},
		"no default route":               {unreachable, reaching, []netip.Addr{far}, with(func(f *Facts) { f.Route, f.Names = No, No }), NoInternet},
		"no default route, name":         {lateName, resolving, nil, with(func(f *Facts) { f.Route = No }), NoInternet},
		"router dead":                    {syscall.EHOSTUNREACH, reaching, []netip.Addr{far}, with(func(f *Facts) { f.Router, f.Names = No, No }), NoRouter},
		"router dead, name":              {lateName, resolving, nil, with(func(f *Facts) { f.Router, f.Names = No, No }), NoRouter},
		"router dead, broker in venue":   {syscall.EHOSTUNREACH, reaching, []netip.Addr{home}, with(func(f *Facts) { f.Router, f.Names = No, No }), BrokerDown},
		"line dead":                      {context.DeadlineExceeded, reaching, []netip.Addr{far}, silent, NoInternet},
		"line dead, name and old place":  {lateName, resolving, nil, silent, NoInternet},
		"name server dead, line up":      {lateName, resolving, nil, with(func(f *Facts) { f.Names, f.Reached = No, Yes }), DNS},
		"name server dead, nothing else": {lateName, resolving, nil, with(func(f *Facts) { f.Names, f.Reached = No, Unknown }), DNS},
		"name unknown":                   {noName, resolving, nil, &fine, DNS},
		"broker silent, line up":         {context.DeadlineExceeded, reaching, []netip.Addr{far}, &fine, BrokerDown},
		"broker silent, nothing known":   {context.DeadlineExceeded, reaching, []netip.Addr{far}, with(func(f *Facts) { f.Names = Unknown }), Timeout},
		"broker of the venue silent":     {unreachable, reaching, []netip.Addr{home}, silent, BrokerDown},
		"broker refuses":                 {syscall.ECONNREFUSED, reaching, []netip.Addr{far}, &fine, BrokerDown},
		"broker refuses Windows":         {fmt.Errorf("dial: %w", syscall.Errno(10061)), reaching, []netip.Addr{far}, &fine, BrokerDown},
		"another's certificate, near":    {stranger, securing, []netip.Addr{portal}, &fine, DNSLie},
		"another's certificate, far":     {stranger, securing, []netip.Addr{far}, &fine, TLS},
		"of an unknown authority, near":  {unknown, securing, []netip.Addr{home}, &fine, TLS},
		"every name is one address":      {stranger, securing, []netip.Addr{far}, with(func(f *Facts) { f.Lies = []netip.Addr{far} }), DNSLie},
		"portal that took the name":      {stranger, securing, []netip.Addr{portal}, with(func(f *Facts) { f.Probe, f.Portal = Yes, "leads to login" }), CaptivePortal},
		"portal that drops":              {context.DeadlineExceeded, reaching, []netip.Addr{far}, with(func(f *Facts) { f.Probe, f.Portal = Yes, "leads to login" }), CaptivePortal},
		"password wrong":                 {errCredentials, greeting, []netip.Addr{far}, with(func(f *Facts) { f.LAN = nil }), Credentials},
		"no look around":                 {lateName, resolving, nil, nil, DNS},
	} {
		err := &attemptError{broker: &url.URL{Scheme: "tls", Host: "broker.example:8883"}, stage: c.stage, addrs: c.addrs, err: c.err}
		if got, text := diagnose(err, c.facts); got != c.want || text == "" {
			t.Errorf("%s: %s (%s), want %s", name, got, text, c.want)
		}
	}
}

// A login page of the network, told by the address that should answer 204.
func TestProbeTellsThePortal(t *testing.T) {
	t.Parallel()
	answer := "HTTP/1.1 204 No Content\r\n\r\n"
	at := serveConns(t, "127.0.0.1:0", func(c net.Conn) {
		_, _ = c.Read(make([]byte, 2000))
		_, _ = io.WriteString(c, answer)
	})
	look := func() *Facts {
		d := newDialer(&Config{Probe: "http://" + at.Addr().String() + "/"}, time.Now)
		return d.lookAround(t.Context(), []string{"192.0.2.1:1"})
	}
	if f := look(); f.Probe != Yes || f.Portal != "" {
		t.Errorf("where there is internet: %+v", f)
	}
	answer = "HTTP/1.1 302 Found\r\nLocation: http://login.hotel.example/?u=1\r\nContent-Length: 0\r\n\r\n"
	if f := look(); !strings.Contains(f.Portal, "login.hotel.example") {
		t.Errorf("behind a portal: %+v", f)
	}
	_ = at.Close()
	if f := look(); f.Probe != No || f.Portal != "" {
		t.Errorf("where nothing answers: %+v", f)
	}
}

// A box whose clock stands in 1970, or at its last shutdown, and knows that
// nothing sets it, comes up all the same; one whose clock is right says no to a
// certificate that is not valid yet.
func TestClockIn1970(t *testing.T) {
	broker := startBroker(t, "127.0.0.1:0")
	ca := newAuthority(t)
	from, to := soon()
	at := front(t, "127.0.0.9:0", broker.URL(), ca.server("broker.test", from, to), false)
	long, _ := soon()
	stale := front(t, "127.0.0.9:0", broker.URL(), ca.server("broker.test", long.AddDate(-30, 0, 0), long.AddDate(-29, 0, 0)), false)
	run := func(at net.Listener, built time.Time, synced func() bool) *Uplink {
		box := &till{clock: func() time.Time { return time.Unix(3600, 0) }}
		u := newUplinkOf(t, box, newMemory(), "tls://"+at.Addr().String(), func(c *Config) {
			c.CAFile, c.Built, c.ClockSynced = ca.file, built, synced
		})
		running(t, "uplink", u.Run)
		return u
	}
	no, yes := func() bool { return false }, func() bool { return true }
	online(t, run(at, time.Time{}, no))
	online(t, run(at, time.Now(), yes)) // the build says that 1970 is over
	failsAs(t, run(at, time.Time{}, yes), Clock)
	failsAs(t, run(at, time.Time{}, nil), Clock)
	// What ended before this build was made is not let in by a bad clock.
	u := run(stale, time.Now().AddDate(-1, 0, 0), no)
	until(t, "it fails", func() bool { return u.Status().Failure != nil })
	if u.Status().Connects > 0 {
		t.Error("a certificate of 30 years ago is good")
	}
}

// Two boxes with one id.
func TestTwinIsNamed(t *testing.T) {
	broker := startBroker(t, "127.0.0.1:0")
	u, twin := newUplink(t, newMemory(), broker.URL(), nil), newUplink(t, newMemory(), broker.URL(), nil)
	running(t, "uplink", u.Run)
	stop := running(t, "twin", twin.Run)
	failsAs(t, u, Takeover)
	failsAs(t, twin, Takeover)
	stop()
	online(t, u)
}

// A broker that has forgotten the box is told from one it is new to, also by
// the next process.
func TestForgottenSessionIsTold(t *testing.T) {
	broker := newMosquitto(t)
	j := newMemory()
	u := newUplink(t, j, broker.url(), nil)
	stop := running(t, "uplink", u.Run)
	online(t, u)
	u.Interrupt(time.Millisecond)
	until(t, "it is back", func() bool { s := u.Status(); return s.Connects == 2 && s.State == Online })
	if l := u.Status().SessionLost; l != nil {
		t.Fatalf("lost without a reason: %+v", l)
	}
	stop()
	broker.kill()
	broker.restart(false)
	again := newUplink(t, j, broker.url(), nil)
	stop = running(t, "uplink", again.Run)
	online(t, again)
	until(t, "it is told", func() bool { return again.Status().SessionLost != nil })
	l := again.Status().SessionLost
	if l.Count != 1 || l.Broker != strings.TrimPrefix(broker.url(), "tcp://") || time.Since(l.At) > time.Minute {
		t.Errorf("%+v", l)
	}
	stop()
	if l := newUplink(t, j, broker.url(), nil).Status().SessionLost; l == nil || l.Count != 1 {
		t.Errorf("after a restart: %+v", l)
	}
}

// Every name in the list has a remedy, and the list is whole.
func TestEveryNameHasARemedy(t *testing.T) {
	src, err := os.ReadFile("remedy.go")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(src)) {
		if _, value, ok := strings.Cut(line, "= \""); ok {
			n++
			if name := strings.TrimRight(value, "\"\n"); Remedy(name) == "" {
				t.Errorf("no remedy for %s", name)
			}
		}
	}
	if n < 20 || Remedy("nonsense") != "" {
		t.Errorf("%d names", n)
	}
	if f := newFailure(DNS, io.EOF); !reflect.DeepEqual([]string{f.Name, f.Remedy}, []string{DNS, Remedy(DNS)}) {
		t.Errorf("%+v", f)
	}
}
