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

// openAuth makes what judges tokens, with the keys, the known devices and the
// logouts that are on disk.
func (d *Daemon) openAuth(log *slog.Logger) error {
	var err error
	if d.known, err = auth.OpenKnown(d.journal, d.clock.Now, log); err != nil {
		return err
	}
	c := d.authConfig(d.cfg.Auth)
	if c.Logouts, err = auth.OpenLogouts(d.journal, log); err != nil {
		return err
	}
	if d.verifier, err = auth.NewVerifier(c, d.clock.Now); err != nil {
		return err
	}
	d.keys = &keyring{verifier: d.verifier, cache: filepath.Join(d.cfg.StateDir, keysFile), changed: d.keysChanged, log: log}
	return d.keys.open(d.cfg.Auth)
}

func (d *Daemon) authConfig(a config.Auth) auth.Config {
	return auth.Config{
		Venue:          d.cfg.Box.Venue,
		Secret:         []byte(a.AccessTokenSecret.Reveal()),
		PreviousSecret: []byte(a.PreviousSecret.Reveal()),
		Issuers:        a.Issuers, Audiences: a.Audiences,
		Lease: auth.Lease{Grace: a.OfflineGrace, Role: event.Role(a.OfflineRole), Down: d.cloudDown, Known: d.known},
	}
}

// keysChanged ends the sessions that only a lost key lets in.
func (d *Daemon) keysChanged() {
	if d.lan == nil { // at the start nobody is here
		return
	}
	if n := d.lan.VerifyAgain(); n > 0 {
		d.log.Info("sessions ended by a change of keys", "sessions", n)
	}
}

// cloudDown reports whether the cloud is proven to be out of reach: the last
// try to reach it failed, and not because of the box.
func (d *Daemon) cloudDown() bool { return d.uplink != nil && d.uplink.Unreachable() }

// authParts are what keeps running for [auth].
func (d *Daemon) authParts() []part {
	return []part{{"devices", d.known.Run}, {"keys", d.keys.Run}}
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
