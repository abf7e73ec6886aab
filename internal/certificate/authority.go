package certificate

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/avoqado/avoqado-edge/internal/durable"
)

const (
	// caLife is how long a CA is good. Of one made after 2027 old 32-bit devices
	// do not know the end, which is after 2038.
	caLife = 10 * 365 * 24 * time.Hour

	// leafLife is how long a certificate is good from when it is made. With
	// backdate it stays below the 825 days that Apple's systems accept of a CA
	// that was installed by hand.
	leafLife = 397 * 24 * time.Hour

	// backdate is by how much a certificate is good earlier than it was made,
	// at most: the clock of the box or of a terminal may be wrong, by less than
	// the age of the program as a rule.
	backdate = 400 * 24 * time.Hour
)

// authority is the box's CA. It never changes: devices have it installed.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// openAuthority reads the CA of a box, or makes one if there is none. The new
// one is durable on return. What is there and cannot be read is an error, never
// replaced: devices may have it installed.
func openAuthority(path, box string, names []string, now, built time.Time) (a authority, made bool, err error) {
	raw, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if a, err = newAuthority(box, names, now, built); err == nil {
			err = a.save(path)
		}
		return a, err == nil, err
	case err != nil:
		return a, false, err
	}
	if a, err = parseAuthority(raw); err != nil {
		return a, false, fmt.Errorf("read the box's CA %s: %w; bring it back from a copy, or move it away to have a new one made, which every device must then be given", path, err)
	}
	return a, false, nil
}

// newAuthority makes a CA that can sign names below .local and the configured
// ones alone: who steals the box cannot pose as a bank to devices that trust it.
func newAuthority(box string, names []string, now, built time.Time) (authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return authority{}, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{Organization: []string{"Avoqado Edge"}, CommonName: "Avoqado Edge " + box},
		NotBefore:             earlier(now, built),
		NotAfter:              now.Add(caLife),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,

		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         unique(append([]string{"local"}, names...)),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return authority{}, fmt.Errorf("make the box's CA: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	return authority{cert, key}, err
}

// save writes certificate and key as one file, so that there is never one
// without the other.
func (a authority) save(path string) error {
	der, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		return err
	}
	return durable.WriteFile(path, append(a.pem(), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})...))
}

func parseAuthority(raw []byte) (a authority, err error) {
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case "CERTIFICATE":
			a.cert, err = x509.ParseCertificate(block.Bytes)
		case "PRIVATE KEY":
			var key any
			if key, err = x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
				a.key, _ = key.(*ecdsa.PrivateKey)
			}
		}
		if err != nil {
			return authority{}, err
		}
	}
	if a.cert == nil || a.key == nil || !a.key.PublicKey.Equal(a.cert.PublicKey) {
		return authority{}, errors.New("it does not hold a CA and its key")
	}
	return a, nil
}

func (a authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// fingerprint is the SHA-256 of the certificate in lower-case hex, as
// `openssl x509 -fingerprint -sha256` has it but for the colons.
func (a authority) fingerprint() string {
	sum := sha256.Sum256(a.cert.Raw)
	return hex.EncodeToString(sum[:])
}

// maySign reports whether devices would believe a name signed by this CA.
func (a authority) maySign(name string) bool {
	return slices.ContainsFunc(a.cert.PermittedDNSDomains, func(domain string) bool {
		return name == domain || strings.HasSuffix(name, "."+domain)
	})
}

// issue makes a certificate with a key of its own. The CA comes with it, so that
// a client that knows the fingerprint alone can check it.
func (a authority) issue(box string, names []string, addresses []netip.Addr, now, built time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{Organization: []string{"Avoqado Edge"}, CommonName: "Avoqado Edge box " + box},
		NotBefore:    later(earlier(now, built), now.Add(-backdate)),
		NotAfter:     earlier(now.Add(leafLife), a.cert.NotAfter),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     names,
	}
	for _, address := range addresses {
		template.IPAddresses = append(template.IPAddresses, net.IP(address.AsSlice()))
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("make the box's certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	return &tls.Certificate{Certificate: [][]byte{der, a.cert.Raw}, PrivateKey: key, Leaf: leaf}, err
}

func serial() *big.Int {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails, see crypto/rand
	b[0] &= 0x7F        // positive, RFC 5280 §4.1.2.2
	return new(big.Int).SetBytes(b)
}

// earlier returns the earlier of two times that are known.
func earlier(a, b time.Time) time.Time {
	if b.IsZero() || a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

func unique[T comparable](list []T) []T {
	var out []T
	for _, one := range list {
		if !slices.Contains(out, one) {
			out = append(out, one)
		}
	}
	return out
}
