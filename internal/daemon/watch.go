package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	sdnotify "github.com/coreos/go-systemd/v22/daemon"

	"github.com/avoqado/avoqado-edge/internal/api"
	"github.com/avoqado/avoqado-edge/internal/journal"
)

const (
	usualWatch  = 10 * time.Second // between two looks where no watchdog waits
	firstWatch  = 200 * time.Millisecond
	watchAnswer = 5 * time.Second // for an answer of the writer or the LAN

	// faultGrace is how long the disk may refuse what is written before a
	// restart is tried: the journal tries by itself with every batch.
	faultGrace = 2 * time.Minute
)

// watch tells the service manager (sd_notify(3)) that the box is ready, and
// then, as long as that is true, that it works. Ready is the box once all that
// watch looks at was good for the first time; the uplink is no part of it.
//
// A box that stands still is not fed, so the manager ends it and starts it
// again. A full disk, a dead uplink or an unplugged cable are no reason:
// starting again helps none of them.
type watch struct {
	looks  []look
	status func() string
	notify func(state string)
	every  time.Duration
	log    *slog.Logger
}

// look is one thing that must be true of a box that works.
type look struct {
	name string
	at   func(context.Context) error
}

// Run returns nil when ctx ends.
func (w *watch) Run(ctx context.Context) error {
	ready, failing := false, ""
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		wait := w.every
		switch err := w.look(ctx); {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			if failing != err.Error() {
				w.log.Error("box does not work", "err", err)
			}
			failing = err.Error()
			w.notify("STATUS=" + failing)
			wait = min(firstWatch, w.every)
		case !ready:
			ready, failing = true, ""
			w.notify("READY=1\nWATCHDOG=1\nSTATUS=" + w.status())
		default:
			if failing != "" {
				w.log.Info("box works again")
			}
			failing = ""
			w.notify("WATCHDOG=1\nSTATUS=" + w.status())
		}
		timer.Reset(wait)
	}
}

// look returns nil if all is well, else what is not.
func (w *watch) look(ctx context.Context) error {
	for _, l := range w.looks {
		one, cancel := context.WithTimeout(ctx, watchAnswer)
		err := l.at(one)
		cancel()
		if err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
	}
	return nil
}

// watchEvery is a third of the time after which the watchdog bites.
func watchEvery() time.Duration {
	if limit, err := sdnotify.SdWatchdogEnabled(false); err == nil && limit > 0 {
		return limit / 3
	}
	return usualWatch
}

func (d *Daemon) watch() *watch {
	disk := disk{dir: d.cfg.StateDir, stats: d.journal.Stats, now: time.Now}
	return &watch{
		looks: []look{
			{"the journal's writer does not answer", d.journal.Alive},
			{"the disk takes nothing", disk.look},
			{"the LAN does not answer", d.lanAnswers},
		},
		status: func() string { return d.sentence() },
		notify: func(state string) { _, _ = sdnotify.SdNotify(false, state) }, // nobody may listen
		every:  watchEvery(), log: d.log,
	}
}

// sentence is what `systemctl status` shows.
func (d *Daemon) sentence() string {
	uplink := d.uplinkStatus().State
	if d.uplink == nil {
		return fmt.Sprintf("%d clients, no cloud", d.lan.Connections().ConnectionStats.Total)
	}
	return fmt.Sprintf("%d clients, uplink %s, %d events wait for the cloud",
		d.lan.Connections().ConnectionStats.Total, uplink, d.journal.Backlog(api.UplinkCursor).Events)
}

// disk looks at whether what is appended gets stored, without writing: a box
// that nobody uses need not wear its card out.
type disk struct {
	dir   string
	stats func() journal.Stats
	now   func() time.Time
	since time.Time // of the fault; zero: none
}

func (d *disk) look(context.Context) error {
	err := d.stats().Err
	if full, ok := errors.AsType[*journal.FullError](err); ok && full != nil {
		err = nil // a level, not a fault
	}
	if err == nil && readOnly(d.dir) {
		err = errors.New("its file system is mounted read-only")
	}
	if err == nil {
		d.since = time.Time{}
		return nil
	}
	if d.since.IsZero() {
		d.since = d.now()
	}
	if d.now().Sub(d.since) < faultGrace {
		return nil
	}
	return err
}

// lanAnswers asks the box as a client would, over a new connection. One that is
// closed without an answer was accepted, and turned away for want of room.
func (d *Daemon) lanAnswers(ctx context.Context) error {
	return answers(ctx, d.lan.Addr())
}

func answers(ctx context.Context, addr net.Addr) error {
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return err
	}
	if ip, err := netip.ParseAddr(host); err != nil || ip.IsUnspecified() {
		host = "127.0.0.1" // a name would need somebody to know it
	}
	at := net.JoinHostPort(host, port)
	box := url.URL{Scheme: "http", Host: at, Path: "/healthz"}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, box.String(), http.NoBody)
	if err != nil {
		return err
	}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, at) // HTTP leaves out the zone of an address
	}}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		// Once connected, whatever comes but silence is an answer: a connection
		// closed for want of room, too.
		if at, ok := errors.AsType[*net.OpError](err); ctx.Err() != nil || ok && at.Op == "dial" {
			return err
		}
		return nil
	}
	return resp.Body.Close()
}
