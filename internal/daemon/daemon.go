package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	sdnotify "github.com/coreos/go-systemd/v22/daemon"

	"github.com/avoqado/avoqado-edge/internal/api"
	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/buildinfo"
	"github.com/avoqado/avoqado-edge/internal/certificate"
	"github.com/avoqado/avoqado-edge/internal/clock"
	"github.com/avoqado/avoqado-edge/internal/config"
	"github.com/avoqado/avoqado-edge/internal/console"
	"github.com/avoqado/avoqado-edge/internal/discovery"
	"github.com/avoqado/avoqado-edge/internal/history"
	"github.com/avoqado/avoqado-edge/internal/identity"
	"github.com/avoqado/avoqado-edge/internal/journal"
	"github.com/avoqado/avoqado-edge/internal/lan"
	"github.com/avoqado/avoqado-edge/internal/logbook"
	"github.com/avoqado/avoqado-edge/internal/outages"
	"github.com/avoqado/avoqado-edge/internal/spec"
	"github.com/avoqado/avoqado-edge/internal/uplink"
)

// Daemon is one box: every part open and bound, none running yet.
type Daemon struct {
	cfg      config.Config
	log      *slog.Logger
	id       boxID
	key      identity.Key // none: its file is damaged, keyErr says how
	keyErr   error
	started  time.Time
	clock    *clock.Clock
	verifier *auth.Verifier
	known    *auth.Known // devices
	keys     *keyring

	journal     *journal.Journal
	certificate *certificate.Keeper // nil: no TLS on the LAN
	lan         *lan.Server
	uplink      *uplink.Uplink       // nil: no cloud configured
	outages     *outages.Recorder    // likewise
	announcer   *discovery.Announcer // nil: discovery is off
	api         *api.Server
	socket      net.Listener

	host      Host
	reloading sync.Mutex // one after the other

	mu      sync.Mutex    // guards running
	running config.Config // as it is in force: cfg, and what was reloaded since

	way     way
	history *history.Recorder
}

// Host is what a daemon has from the program that runs it. All of it is needed.
type Host struct {
	Log     *slog.Logger
	Level   *slog.LevelVar // of Log: the cloud may change it
	Book    *logbook.Book  // the last lines of Log; the daemon opens and closes it
	Collect Collect
}

// New opens the box's state and binds its listeners, in the order the parts
// need each other. What it opened is closed again if a later step fails; so
// after an error nothing is held. On a state directory that was never used it
// makes the journal and the box's identity.
func New(cfg config.Config, host Host) (d *Daemon, err error) {
	return newDaemon(cfg, host, nil)
}

// newDaemon is New on a system's clock of any kind; nil: the real one.
func newDaemon(cfg config.Config, host Host, system func() clock.Reading) (d *Daemon, err error) {
	log := host.Log
	d = &Daemon{cfg: cfg, log: log, started: time.Now(), host: host, running: cfg}
	defer func() {
		if err != nil {
			d.close()
			d = nil
		}
	}()

	if err := os.MkdirAll(cfg.StateDir, 0o700); err != nil {
		if errors.Is(err, fs.ErrPermission) {
			err = fmt.Errorf("%w; run it as root, or name another one (state_dir, or run --state DIR)", err)
		}
		return d, fmt.Errorf("make state directory: %w", err)
	}
	d.clock = d.openClock(system)
	if d.id, d.journal, err = openState(cfg, d.clock.Now, log); err != nil {
		return d, err
	}
	if err := host.Book.Open(logDir(cfg.StateDir)); err != nil {
		log.Error("the last lines of the log cannot be kept", "err", err) // what they are for goes on without
	}
	if d.key, d.keyErr = identity.Open(cfg.StateDir); d.keyErr != nil {
		log.Error("the box cannot prove who it is", "err", d.keyErr) // and serves all the same
	}
	if err := d.openAuth(log.With("part", "auth")); err != nil {
		return d, err
	}

	// The API answers on the LAN's listener and asks the LAN's server, so one
	// of the two must exist first: the handler is looked up per request.
	var routes http.Handler
	extra := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { routes.ServeHTTP(w, r) })

	events := store{d.journal, d.clock}
	d.certificate = d.newCertificate()
	d.lan, err = lan.Listen(lan.Config{
		Listen: cfg.LAN.Listen, Venue: cfg.Box.Venue, Box: d.id.Box, Version: buildinfo.Read().Version,
		CORS: cfg.LAN.CORSOrigins, Hosts: hosts(cfg, d.id.Box), TLS: d.tlsConfig(), PingInterval: cfg.LAN.PingInterval, PingTimeout: cfg.LAN.PingTimeout,
		Transport:      lan.Transport(cfg.LAN.Transport),
		Redis:          cfg.Redis.Target().Reveal(),
		MaxConnections: cfg.Limits.MaxConnections, MaxEventsPerWindow: cfg.Limits.MaxEventsPerWindow,
		MaxEventsPerAddress: cfg.Limits.MaxEventsPerAddress,
		RateWindow:          cfg.Limits.RateWindow,
		Cloud:               d.cloud(),
		Now:                 d.clock.Now,
	}, d.verifier, shown{events}, d.journal, extra, log.With("part", "lan"))
	if err != nil {
		return d, fmt.Errorf("listen for terminals: %w", err)
	}
	if len(cfg.Uplink.Brokers) > 0 {
		if d.uplink, err = uplink.New(d.uplinkConfig(), events, d.journal, d.journal, remote{d, d.verifier}, log.With("part", "uplink")); err != nil {
			return d, err
		}
		if d.outages, err = d.newRecorder(); err != nil {
			return d, err
		}
	}
	if cfg.Discovery.Mode != config.DiscoveryOff {
		if d.announcer, err = d.newAnnouncer(); err != nil {
			return d, err
		}
	}
	d.history = history.Open(d.journal, d.sample, d.clock.Now, log.With("part", "history"))
	d.api = api.New(api.Config{
		Venue: d.id.Venue, Auth: d.verifier, Publish: door{d.lan}, Till: door{d.lan}, Limits: d.lan, Logins: logins{d.verifier, d.lan}, Origins: cfg.LAN.CORSOrigins, Box: d, Events: shown{events}, Parking: d.parking(),
		Outages: d.pastOutages(), Cut: d.cutter(),
		Journal: func() any { return d.journal.Stats() }, Keeper: keeper{d.journal, d.id},
		CA: d.ca, Card: d.card, Reload: d.Reload,
		Metrics: metricsHandler(d), Spec: spec.Handler(buildinfo.Read().Version),
		Page:      console.Handler(),
		Pairing:   d.drawPairing,
		History:   func(of time.Duration) any { return d.history.Last(of, d.clock.Now()) },
		Diagnosis: d.diagnosis,
		Log:       log.With("part", "api"),
	})
	routes = d.api.LAN()
	if d.socket, err = api.ListenSocket(cfg.Socket); err != nil {
		return d, fmt.Errorf("listen for the command line: %w", err)
	}
	return d, nil
}

// openState opens the journal of this box. A box that was provisioned and has
// no journal any more is an alarm, never a reason to begin an empty one.
func openState(cfg config.Config, now func() time.Time, log *slog.Logger) (boxID, *journal.Journal, error) {
	id, first, err := claimIdentity(cfg.StateDir, cfg.Box.Venue, cfg.Box.ID, now())
	if err != nil {
		return id, nil, err
	}
	dir := JournalDir(cfg.StateDir)
	opts := JournalOptions(cfg, log.With("part", "journal"))
	opts.Now = now
	if first {
		// The journal first: a power cut between the two leaves a journal
		// without an identity, which the next start completes.
		if err := journal.Create(dir, opts); err != nil && !errors.Is(err, journal.ErrExists) {
			return id, nil, err
		}
		if err := saveIdentity(cfg.StateDir, id); err != nil {
			return id, nil, fmt.Errorf("save the box's identity: %w", err)
		}
		log.Info("box provisioned", "box", id.Box, "venue", id.Venue, "state", cfg.StateDir)
	}
	j, err := journal.Open(dir, opts)
	if errors.Is(err, journal.ErrMissing) {
		return id, nil, fmt.Errorf("journal %s is missing, though this box was provisioned on %s: bring it back from a backup, or accept the loss with `avoqado-edge journal init`: %w",
			dir, id.Created.Format(time.DateOnly), err)
	}
	return id, j, err
}

func (d *Daemon) uplinkConfig() uplink.Config {
	c := uplinkConfig(d.cfg, d.id.Box)
	c.Key = d.keyFingerprint()
	c.LANAddrs, c.Telemetry, c.When = d.lanAddresses, d.telemetry, d.clock.When
	return c
}

func uplinkConfig(cfg config.Config, box string) uplink.Config {
	u := cfg.Uplink
	return uplink.Config{
		Brokers: u.Brokers, Venue: cfg.Box.Venue, Box: box, Version: buildinfo.Read().Version,
		Prefix: u.Prefix, Confirm: uplink.Confirmation(u.Confirm),
		Username: u.Username, Password: u.Password.Reveal(), PasswordFile: u.PasswordFile,
		CAFile: u.CAFile, CertFile: u.CertFile, KeyFile: u.KeyFile,
		Proxy: u.Proxy.Reveal(), Probe: u.Probe, Built: buildTime(), ClockSynced: clockKnown(),
		Compress: u.Compress, Live: u.Live, KeepAlive: u.KeepAlive,
	}
}

// Run serves until ctx ends, then stops in the order that keeps every promise:
// first whoever takes events in (mDNS says goodbye, the LAN answers what it
// has begun and closes its transports), then the uplink, last the journal.
// It returns within five seconds of the end of ctx, with every file closed.
func (d *Daemon) Run(ctx context.Context) error {
	defer d.close()
	tidyOften()
	d.log.Info("box starts", "box", d.id.Box, "venue", d.id.Venue, "lan", d.lan.Addr().String(),
		"stored", d.journal.Stored(), "backlog", d.journal.Backlog(api.UplinkCursor).Events)

	front := []part{
		{"lan", d.lan.Run},
		{"api", func(ctx context.Context) error { return d.api.ServeSocket(ctx, d.socket) }},
		{"watch", d.watch().Run},
		{"notify", func(ctx context.Context) error { return notifyStopping(ctx, d.log) }},
	}
	if d.certificate != nil {
		front = append(front, part{"certificate", d.certificate.Run})
	}
	front = append(front, d.authParts()...)
	if d.announcer != nil {
		front = append(front, part{"discovery", d.announcer.Run})
	}
	cloud := []part{{"history", d.history.Run}}
	if d.uplink != nil {
		cloud = append(cloud, part{"uplink", d.uplink.Run})
		front = append(front, part{"outages", d.outages.Run}) // it ends before the uplink: an orderly stop is no outage
	}
	began := time.Now()
	fault := func(err error) { d.log.Error("box ends, a part of it failed", "err", err) }
	err := runStages(ctx, fault, front, cloud, []part{{"journal", d.journal.Run}, {"clock", d.clock.Run}, {"log", d.host.Book.Run}})
	d.log.Info("box stopped", "ran", time.Since(began).Round(time.Second).String(), "stored", d.journal.Stored())
	return err
}

// notifyStopping tells the service manager as soon as the end begins.
func notifyStopping(ctx context.Context, log *slog.Logger) error {
	<-ctx.Done()
	log.Info("box stops")
	_, _ = sdnotify.SdNotify(false, sdnotify.SdNotifyStopping)
	return nil
}

// close closes what is open, last opened first. Safe to call again.
func (d *Daemon) close() {
	if d.socket != nil {
		_ = d.socket.Close() // closed by its server already, in a normal run
	}
	if d.lan != nil {
		_ = d.lan.Close()
	}
	_ = d.host.Book.Close()
	if d.journal != nil {
		if err := d.journal.Close(); err != nil {
			d.log.Error("journal closed badly", "err", err)
		}
	}
}

// LANAddr is where terminals connect.
func (d *Daemon) LANAddr() net.Addr { return d.lan.Addr() }

// cutter returns CutUplink, nil if there is no uplink.
func (d *Daemon) cutter() func(time.Duration) {
	if d.uplink == nil {
		return nil
	}
	return d.CutUplink
}

// CutUplink cuts the link to the cloud for the given time, to practise an
// outage. Without an uplink it does nothing.
func (d *Daemon) CutUplink(t time.Duration) {
	if d.uplink != nil {
		d.uplink.Interrupt(t)
	}
}
