package daemon

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/config"
	"github.com/avoqado/avoqado-edge/internal/discovery"
	"github.com/avoqado/avoqado-edge/internal/event"
)

// keysFile is the copy of auth.jwks_url in the state directory.
const keysFile = "jwks.json"

// newVerifier makes what judges tokens, with the keys and the known devices that
// are on disk.
func (d *Daemon) newVerifier(log *slog.Logger) (*auth.Verifier, error) {
	var err error
	if d.known, err = auth.OpenKnown(d.journal, d.clock.Now, log); err != nil {
		return nil, err
	}
	a := d.cfg.Auth
	v, err := auth.NewVerifier(auth.Config{
		Venue:          d.cfg.Box.Venue,
		Secret:         []byte(a.AccessTokenSecret.Reveal()),
		PreviousSecret: []byte(a.PreviousSecret.Reveal()),
		Issuers:        a.Issuers, Audiences: a.Audiences,
		Lease: auth.Lease{Grace: a.OfflineGrace, Role: event.Role(a.OfflineRole), Down: d.cloudDown, Known: d.known},
	}, d.clock.Now)
	if err != nil {
		return nil, err
	}
	// A set that lost a key ends the sessions that it let in.
	trust := func(source string, keys auth.Keys) {
		v.Trust(source, keys)
		if d.lan == nil { // at the start nobody is here
			return
		}
		if n := d.lan.VerifyAgain(); n > 0 {
			log.Info("sessions ended by a change of keys", "sessions", n)
		}
	}
	if a.JWKSFile != "" {
		d.keys = append(d.keys, auth.NewFileSource(a.JWKSFile, trust, log))
	}
	if a.JWKSURL != "" {
		source, err := auth.NewURLSource(a.JWKSURL, filepath.Join(d.cfg.StateDir, keysFile), trust, log)
		if err != nil {
			return nil, err
		}
		v.OnUnknownKey(source.Nudge)
		d.keys = append(d.keys, source)
	}
	for _, source := range d.keys {
		source.Load()
	}
	return v, nil
}

// cloudDown reports whether the cloud is proven to be out of reach: the last
// try to reach it failed, and not because of the box.
func (d *Daemon) cloudDown() bool { return d.uplink != nil && d.uplink.Unreachable() }

// authParts are what keeps running for [auth].
func (d *Daemon) authParts() []part {
	parts := []part{{"devices", d.known.Run}}
	for _, source := range d.keys {
		parts = append(parts, part{"keys of a " + source.Status().Source, source.Run})
	}
	return parts
}

// hosts are the names under which the box may be asked: the announced one, those
// of the configuration, and the machine's own, also with the domains that routers
// give out and that nobody can have in the internet.
func hosts(cfg config.Config, box string) []string {
	labels := []string{discovery.Label(box)}
	names := slices.Concat(cfg.LAN.AllowedHosts, cfg.LAN.TLSNames)
	if own, err := os.Hostname(); err == nil {
		label, _, _ := strings.Cut(own, ".")
		labels, names = append(labels, label), append(names, own)
	}
	for _, label := range labels {
		names = append(names, label)
		for _, domain := range []string{"local", "lan", "home.arpa", "internal", "localdomain"} {
			names = append(names, label+"."+domain)
		}
	}
	return names
}
