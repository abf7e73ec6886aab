package certificate

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// lookEvery is how often names, addresses, files and the clock are looked at.
const lookEvery = 2 * time.Second

// unknownAge is taken for the age of a program that does not know its own.
const unknownAge = 24 * time.Hour

// caFile holds the box's CA with its key, in the state directory.
const caFile = "lan-ca.pem"

// Config says where the certificate comes from. With CertFile and KeyFile it
// comes from there; without, the box makes it.
type Config struct {
	CertFile, KeyFile string // PEM, of the whole chain

	StateDir string
	Box      string
	// Names are the configured DNS names, in lower case; Found returns those
	// that others know the box by. Nil: none.
	Names []string
	Found func() []string
	// Addresses returns the box's; nil: those of its network interfaces.
	Addresses func() ([]netip.Addr, error)

	Now   func() time.Time // time.Now
	Built time.Time        // when the program was made; zero: unknown
	Log   *slog.Logger
}

// Status is what an operator wants to know.
type Status struct {
	Mode        string       // "files" or "auto"
	Fingerprint string       // of the CA, SHA-256 in hex; of files: empty
	Names       []string     // of the certificate shown
	Addresses   []netip.Addr // of the certificate shown
	Expires     time.Time    // of the certificate shown; zero: there is none
	CAExpires   time.Time    // of the box's own CA
	Error       string       // what is wrong now
}

// Keeper keeps one certificate. All methods may be called concurrently.
type Keeper struct {
	cfg Config

	mu      sync.Mutex // guards below
	ca      authority  // nothing in it: there is none
	shown   *tls.Certificate
	made    time.Time // when shown was, by Now
	read    [2][]byte // the files that shown was made of
	failure string
}

// New returns a keeper that has looked once. What it finds wrong, also on disk,
// keeps nothing from starting: it is said in the status and looked at again, and
// until it is right TLS is refused.
func New(cfg Config) *Keeper {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Found == nil {
		cfg.Found = func() []string { return nil }
	}
	if cfg.Addresses == nil {
		cfg.Addresses = interfaceAddresses
	}
	if cfg.Built.IsZero() {
		cfg.Built = cfg.Now().Add(-unknownAge)
	}
	k := &Keeper{cfg: cfg}
	k.look()
	return k
}

// Run looks at what may change until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			k.look()
		}
	}
}

// TLS returns the configuration of a server that shows what is kept at the time
// of each handshake.
func (k *Keeper) TLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, // old terminals have no other
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			k.mu.Lock()
			defer k.mu.Unlock()
			if k.shown != nil && k.cfg.CertFile == "" && !goodAt(k.shown.Leaf, hello.Conn.LocalAddr()) {
				_ = k.renew() // terminals hear of a new address sooner than it is looked for; errors are told then
			}
			if k.shown == nil {
				return nil, errors.New("there is no certificate: " + k.failure)
			}
			return k.shown, nil
		},
	}
}

// CA returns the certificate of the box's CA in PEM, nil if it has none.
func (k *Keeper) CA() []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ca.cert == nil {
		return nil
	}
	return k.ca.pem()
}

// Fingerprint returns that of the box's CA, SHA-256 in lower-case hex; empty if
// it has none. It stays the same for the life of the box.
func (k *Keeper) Fingerprint() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ca.cert == nil {
		return ""
	}
	return k.ca.fingerprint()
}

// Status returns how it is.
func (k *Keeper) Status() Status {
	fingerprint := k.Fingerprint()
	k.mu.Lock()
	defer k.mu.Unlock()
	st := Status{Mode: "auto", Fingerprint: fingerprint, Error: k.failure}
	if k.cfg.CertFile != "" {
		st.Mode = "files"
	}
	if k.ca.cert != nil {
		st.CAExpires = k.ca.cert.NotAfter
	}
	if k.shown != nil {
		leaf := k.shown.Leaf
		st.Names, st.Addresses, st.Expires = leaf.DNSNames, addressesOf(leaf), leaf.NotAfter
	}
	return st
}

// look makes or reads a certificate if there is reason to.
func (k *Keeper) look() {
	k.mu.Lock()
	defer k.mu.Unlock()
	var err error
	if k.cfg.CertFile != "" {
		err = k.reread()
	} else {
		err = k.renew()
	}
	said := k.failure
	k.failure = ""
	if err != nil {
		k.failure = err.Error()
	}
	switch {
	case err != nil && said != k.failure:
		k.cfg.Log.Error("certificate of the LAN", "err", err)
	case err == nil && said != "":
		k.cfg.Log.Info("certificate of the LAN is right again")
	}
}

// reread takes the files up if they changed, whatever their times and sizes say;
// k.mu is held. Files that do not belong together are half-written: the last that did
// are shown.
func (k *Keeper) reread() error {
	var now [2][]byte
	for i, path := range []string{k.cfg.CertFile, k.cfg.KeyFile} {
		var err error
		if now[i], err = os.ReadFile(path); err != nil {
			return err
		}
	}
	if k.shown == nil || !slices.EqualFunc(now[:], k.read[:], bytes.Equal) {
		pair, err := tls.X509KeyPair(now[0], now[1])
		if err != nil {
			return fmt.Errorf("read certificate %s: %w", k.cfg.CertFile, err)
		}
		if k.shown == nil || !slices.EqualFunc(pair.Certificate, k.shown.Certificate, slices.Equal[[]byte]) {
			k.cfg.Log.Info("certificate of the LAN read", "names", pair.Leaf.DNSNames, "expires", pair.Leaf.NotAfter)
		}
		k.shown, k.read = &pair, now
	}
	if end := k.shown.Leaf.NotAfter; !k.cfg.Now().Before(end) {
		return fmt.Errorf("certificate %s ended on %s", k.cfg.CertFile, end.Format(time.DateTime))
	}
	return nil
}

// renew makes a certificate if the one shown lacks a name or an address, or a
// third of its life is over, or the clock was set back behind its making. k.mu
// is held.
func (k *Keeper) renew() error {
	now := k.cfg.Now()
	if k.ca.cert == nil {
		ca, made, err := openAuthority(filepath.Join(k.cfg.StateDir, caFile), k.cfg.Box, k.cfg.Names, now, k.cfg.Built)
		if err != nil {
			return err
		}
		k.ca = ca
		if made {
			k.cfg.Log.Info("CA of the LAN made", "fingerprint", ca.fingerprint(), "expires", ca.cert.NotAfter)
		}
	}
	addresses, err := k.cfg.Addresses()
	if err != nil {
		return err
	}
	var names, foreign []string
	for _, name := range unique(append(k.cfg.Found(), k.cfg.Names...)) {
		if k.ca.maySign(name) {
			names = append(names, name)
		} else {
			foreign = append(foreign, name)
		}
	}
	stale := k.shown == nil || now.Before(k.made) || now.Sub(k.made) >= leafLife/3
	if !stale && covers(k.shown.Leaf, names, addresses) {
		return k.complain(foreign, now)
	}
	shown, err := k.ca.issue(k.cfg.Box, names, unique(addresses), now, k.cfg.Built)
	if err != nil {
		return err
	}
	k.shown, k.made = shown, now
	k.cfg.Log.Info("certificate of the LAN made", "names", names, "addresses", addresses, "expires", shown.Leaf.NotAfter)
	return k.complain(foreign, now)
}

// complain says what devices will not believe, now or after the next start.
func (k *Keeper) complain(foreign []string, now time.Time) error {
	path := filepath.Join(k.cfg.StateDir, caFile)
	switch ends := k.ca.cert.NotAfter; {
	case len(foreign) > 0:
		return fmt.Errorf("lan.tls_names: the box's CA was made without %s: move %s away and restart the box to have a new one made, which every device must then be given",
			strings.Join(foreign, ", "), path)
	case now.Add(leafLife).After(ends):
		return fmt.Errorf("the box's CA ends on %s: move %s away and restart the box to have a new one made, which every device must then be given",
			ends.Format(time.DateOnly), path)
	}
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("the box's CA is not on disk any more: %w; bring it back from a copy, or the next start makes a new one, which every device must then be given", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		if err := os.Chmod(path, 0o600); err != nil {
			return fmt.Errorf("others may read the box's CA with its key: %w", err)
		}
	}
	return nil
}

// goodAt reports whether a certificate is good for the address that a client
// came to, if one can be.
func goodAt(leaf *x509.Certificate, local net.Addr) bool {
	tcp, ok := local.(*net.TCPAddr)
	if !ok {
		return true
	}
	address := tcp.AddrPort().Addr().Unmap()
	return address.Is6() && address.IsLinkLocalUnicast() || slices.Contains(addressesOf(leaf), address)
}

// covers reports whether a certificate is good for all of these. One that is
// good for more stays: addresses come back.
func covers(leaf *x509.Certificate, names []string, addresses []netip.Addr) bool {
	has := addressesOf(leaf)
	return !slices.ContainsFunc(names, func(n string) bool { return !slices.Contains(leaf.DNSNames, n) }) &&
		!slices.ContainsFunc(addresses, func(a netip.Addr) bool { return !slices.Contains(has, a) })
}

func addressesOf(leaf *x509.Certificate) []netip.Addr {
	var list []netip.Addr
	for _, ip := range leaf.IPAddresses {
		if a, ok := netip.AddrFromSlice(ip); ok {
			list = append(list, a.Unmap())
		}
	}
	return list
}

// interfaceAddresses returns the box's addresses, loopback too. Those of IPv6
// that hold on one link alone cannot stand in a URL.
func interfaceAddresses() ([]netip.Addr, error) {
	found, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var list []netip.Addr
	for _, one := range found {
		prefix, err := netip.ParsePrefix(one.String())
		if a := prefix.Addr().Unmap(); err == nil && (a.Is4() || !a.IsLinkLocalUnicast()) {
			list = append(list, a)
		}
	}
	return list, nil
}
