package daemon

import (
	"crypto/tls"
	"os"
	"strings"

	"github.com/avoqado/avoqado-edge/internal/api"
	"github.com/avoqado/avoqado-edge/internal/certificate"
	"github.com/avoqado/avoqado-edge/internal/config"
	"github.com/avoqado/avoqado-edge/internal/discovery"
)

// newCertificate returns nil if TLS is off.
func (d *Daemon) newCertificate() *certificate.Keeper {
	c := certificate.Config{
		StateDir: d.cfg.StateDir, Box: d.id.Box, Names: d.cfg.LAN.TLSNames, Found: d.localNames,
		Now: d.clock.Now, Built: buildTime(), Log: d.log.With("part", "certificate"),
	}
	switch d.cfg.LAN.TLS {
	case config.TLSFiles:
		c.CertFile, c.KeyFile = d.cfg.LAN.TLSCertFile, d.cfg.LAN.TLSKeyFile
	case config.TLSAuto:
	case config.TLSOff:
		return nil
	}
	return certificate.New(c)
}

// localNames are those by which mDNS knows the box: the announced one, which
// differs from the first where another host had that, and the machine's own.
func (d *Daemon) localNames() []string {
	names := []string{discovery.Label(d.id.Box) + ".local"}
	if d.announcer != nil {
		if host := strings.ToLower(strings.TrimSuffix(d.announcer.Status().Host, ".")); host != "" {
			names = append(names, host)
		}
	}
	if host, err := os.Hostname(); err == nil {
		host, _, _ = strings.Cut(strings.ToLower(host), ".")
		if host != "" && host != "localhost" {
			names = append(names, host+".local")
		}
	}
	return names
}

// tlsConfig returns nil if TLS is off.
func (d *Daemon) tlsConfig() *tls.Config {
	if d.certificate == nil {
		return nil
	}
	return d.certificate.TLS()
}

// ca returns the certificate that devices are given, nil if there is none.
func (d *Daemon) ca() []byte {
	if d.certificate == nil {
		return nil
	}
	return d.certificate.CA()
}

func (d *Daemon) tlsStatus() *api.TLSStatus {
	if d.certificate == nil {
		return nil
	}
	c := d.certificate.Status()
	st := &api.TLSStatus{
		Mode: c.Mode, Fingerprint: c.Fingerprint, Names: c.Names, Addresses: make([]string, len(c.Addresses)),
		Expires: c.Expires, CAExpires: c.CAExpires, Error: c.Error,
	}
	for i, a := range c.Addresses {
		st.Addresses[i] = a.String()
	}
	return st
}
