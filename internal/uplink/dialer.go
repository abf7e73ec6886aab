package uplink

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"time"
)

// dialer opens the stream of bytes below MQTT: TCP to the broker or through a
// proxy, TLS, a WebSocket. One for all schemes, so that the end of ctx, the
// deadlines and the socket options hold whatever the broker's URL says.
type dialer struct {
	cfg  *Config
	keys *keyring
	now  func() time.Time // what certificates are judged by

	mu      sync.Mutex            // guards below
	last    map[string]netip.Addr // by host: where it answered last
	expires map[string]time.Time  // by host:port: when the broker's certificate ends
}

func newDialer(cfg *Config, now func() time.Time) *dialer {
	return &dialer{
		cfg: cfg, keys: &keyring{cfg: cfg}, last: make(map[string]netip.Addr), expires: make(map[string]time.Time),
		now: func() time.Time {
			// No certificate that is in use was made to end before this build.
			if at := now(); at.After(cfg.Built) {
				return at
			}
			return cfg.Built
		},
	}
}

// stage is how far an attempt to connect came.
type stage int

const (
	resolving stage = iota
	reaching        // TCP
	tunneling       // the proxy
	securing        // TLS
	upgrading       // the WebSocket
	greeting        // MQTT
)

// attemptError is why an attempt to connect failed, with what is known of it.
type attemptError struct {
	broker *url.URL
	stage  stage
	addrs  []netip.Addr // the name server's answer
	err    error
}

func (e *attemptError) Error() string { return fmt.Sprintf("connect to %s: %v", e.broker.Host, e.err) }
func (e *attemptError) Unwrap() error { return e.err }

// open connects within [connectTimeout]. What it returns is closed by whoever
// closes either of the two.
func (d *dialer) open(ctx context.Context, broker *url.URL) (net.Conn, *pipe, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	top, bottom, err := d.openAt(ctx, broker, d.now())
	if at, ok := d.otherTime(err); ok {
		top, bottom, err = d.openAt(ctx, broker, at)
	}
	return top, bottom, err
}

// otherTime returns when a broker's certificate began to be valid, if it is not
// valid yet by a clock that is known to be wrong: one that nothing disciplines
// does not run ahead on a board without a battery, and the certificate exists.
// So the true time is after that moment, and it is judged by that.
func (d *dialer) otherTime(err error) (time.Time, bool) {
	bad, ok := errors.AsType[*tls.CertificateVerificationError](err)
	if !ok || !errors.Is(err, errClock) || d.cfg.ClockSynced == nil || d.cfg.ClockSynced() {
		return time.Time{}, false
	}
	at := d.now()
	for _, c := range bad.UnverifiedCertificates {
		if c.NotBefore.After(at) {
			at = c.NotBefore
		}
	}
	return at.Add(time.Second), at.After(d.now())
}

func (d *dialer) openAt(ctx context.Context, broker *url.URL, at time.Time) (net.Conn, *pipe, error) {
	failed := &attemptError{broker: broker}
	fail := func(s stage, err error) (net.Conn, *pipe, error) {
		failed.stage, failed.err = s, err
		return nil, nil, failed
	}
	secured := broker.Scheme == "tls" || broker.Scheme == "wss"
	var secure *tls.Config
	if secured {
		var err error
		if secure, err = d.keys.tlsConfig(broker.Hostname(), at); err != nil {
			return fail(securing, fmt.Errorf("%w: %w", errCertificate, err))
		}
	}

	proxy, err := d.cfg.proxyFor(broker)
	if err != nil {
		return fail(tunneling, err)
	}
	var bottom *pipe
	if proxy != nil {
		if bottom, _, err = d.connect(ctx, proxy.Host, false); err == nil {
			bottom, err = tunnel(ctx, bottom, proxy, broker.Host)
		}
		if err != nil {
			return fail(tunneling, fmt.Errorf("%w %s: %w", errProxy, proxy.Host, err))
		}
	} else {
		bottom, failed.addrs, err = d.connect(ctx, broker.Host, secured)
		if err != nil {
			if _, dns := errors.AsType[*net.DNSError](err); dns && len(failed.addrs) == 0 {
				return fail(resolving, err)
			}
			return fail(reaching, err)
		}
	}

	var top net.Conn = bottom
	if secured {
		client := tls.Client(bottom, secure)
		if err := client.HandshakeContext(ctx); err != nil {
			_ = bottom.Close()
			return fail(securing, handshakeError(ctx, err, at))
		}
		if peers := client.ConnectionState().PeerCertificates; len(peers) > 0 {
			d.mu.Lock()
			d.expires[broker.Host] = peers[0].NotAfter
			d.mu.Unlock()
		}
		top = client
	}
	if broker.Scheme == "ws" || broker.Scheme == "wss" {
		if top, err = upgrade(ctx, top, broker); err != nil {
			_ = bottom.Close()
			return fail(upgrading, err)
		}
	}
	return top, bottom, nil
}

// handshakeError says what a failed TLS handshake was about: nobody answered,
// something else than TLS answered, the clock, or the certificate.
func handshakeError(ctx context.Context, err error, now time.Time) error {
	if ctx.Err() != nil || timedOut(err) {
		return fmt.Errorf("%w: tls: %w", errNoAnswer, err)
	}
	if record, ok := errors.AsType[tls.RecordHeaderError](err); ok && bytes.Equal(record.RecordHeader[:], []byte("HTTP/")) {
		return fmt.Errorf("%w: HTTP came where TLS was expected", errPortal)
	}
	invalid, ok := errors.AsType[x509.CertificateInvalidError](err)
	if !ok || invalid.Reason != x509.Expired || invalid.Cert == nil {
		return fmt.Errorf("%w: %w", errHandshake, err)
	}
	const day = 24 * time.Hour
	from, to := invalid.Cert.NotBefore, invalid.Cert.NotAfter
	// Nobody runs a broker on a certificate that ended a year ago.
	if now.Before(from) || now.After(to.Add(365*day)) {
		return fmt.Errorf("%w: the broker's certificate is valid from %s to %s, the clock says %s: %w", errClock,
			from.Format(time.DateOnly), to.Format(time.DateOnly), now.UTC().Format(time.DateTime), err)
	}
	return fmt.Errorf("%w: %w", errHandshake, err)
}

// connect makes a TCP connection to whichever address of the host answers
// first. The name is resolved each time: an address may change. If the name
// server fails, and TLS will check whom we reach, the address that answered
// last is used.
func (d *dialer) connect(ctx context.Context, hostport string, checked bool) (*pipe, []netip.Addr, error) {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		return nil, nil, err
	}
	number, err := net.DefaultResolver.LookupPort(ctx, "tcp", port)
	if err != nil {
		return nil, nil, err
	}
	addrs, err := d.resolve(ctx, host)
	if err != nil {
		d.mu.Lock()
		last, known := d.last[host]
		d.mu.Unlock()
		if !known || !checked {
			return nil, nil, err
		}
		c, dialed := race(ctx, []netip.Addr{last}, uint16(number)) //nolint:gosec // LookupPort returns a port
		if dialed != nil {
			return nil, nil, err
		}
		return newPipe(c), nil, nil
	}
	c, err := race(ctx, addrs, uint16(number)) //nolint:gosec // LookupPort returns a port
	if err != nil {
		return nil, addrs, err
	}
	if at, ok := c.RemoteAddr().(*net.TCPAddr); ok && !isLiteral(host) {
		d.mu.Lock()
		d.last[host] = at.AddrPort().Addr().Unmap()
		d.mu.Unlock()
	}
	return newPipe(c), addrs, nil
}

// resolve returns the addresses of a host, IPv6 and IPv4 in turn.
func (d *dialer) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	resolver := d.cfg.Resolver
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	found, err := resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	var six, four, all []netip.Addr
	for _, a := range found {
		if a = a.Unmap(); a.Is4() {
			four = append(four, a)
		} else {
			six = append(six, a)
		}
	}
	for i := range max(len(six), len(four)) {
		all = append(all, six[min(i, len(six)):min(i+1, len(six))]...)
		all = append(all, four[min(i, len(four)):min(i+1, len(four))]...)
	}
	return slices.Clip(all), nil
}

// raceStep is how long an address may be silent before the next one is tried
// beside it (RFC 8305).
const raceStep = 250 * time.Millisecond

// race dials the addresses one after the other, each a little later than the
// one before or as soon as that one has failed, and returns the connection that
// is there first.
func race(ctx context.Context, addrs []netip.Addr, port uint16) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	type result struct {
		conn net.Conn
		err  error
	}
	results := make(chan result, len(addrs))
	var all sync.WaitGroup
	defer func() {
		cancel()
		all.Wait()
		for len(results) > 0 {
			if r := <-results; r.conn != nil {
				_ = r.conn.Close() // came in second
			}
		}
	}()
	step := time.NewTimer(0)
	defer step.Stop()
	d := net.Dialer{Control: control, KeepAlive: -1} // [link.watch] sees more than TCP does
	var failures []error
	for started := 0; len(failures) < len(addrs); {
		select {
		case <-step.C:
			if started == len(addrs) {
				continue
			}
			at := netip.AddrPortFrom(addrs[started], port).String()
			started++
			all.Go(func() {
				c, err := d.DialContext(ctx, "tcp", at)
				results <- result{c, err}
			})
			step.Reset(raceStep)
		case r := <-results:
			if r.err == nil {
				return r.conn, nil
			}
			failures = append(failures, r.err)
			step.Reset(0)
		}
	}
	return nil, errors.Join(failures...)
}
