package daemon

import (
	"os"
	"strings"

	"github.com/avoqado/avoqado-edge/internal/api"
	"github.com/avoqado/avoqado-edge/internal/outages"
	"github.com/avoqado/avoqado-edge/internal/uplink"
)

func (d *Daemon) newRecorder() (*outages.Recorder, error) {
	return outages.New(outages.Config{
		Journal: shown{store{d.journal, d.clock}}, Cursor: api.UplinkCursor, Boot: bootID(),
		Link: d.link, Repeats: d.repeats, Log: d.log.With("part", "outages"),
	})
}

// pastOutages returns nil, without a type, if there is no cloud.
func (d *Daemon) pastOutages() api.Outages {
	if d.outages == nil {
		return nil
	}
	return d.outages
}

// link is the way to the cloud as the outages are told by it.
func (d *Daemon) link() outages.Link {
	u := d.uplink.Status()
	l := outages.Link{
		Up: u.State == uplink.Online, Since: u.Since, Broker: u.Broker, Connects: u.Connects,
		Waits: u.Confirm == uplink.Backend && u.Paused == nil,
	}
	if f := u.Failure; f != nil && f.Name != uplink.Renewed {
		l.Failure = outages.Stretch{From: f.At, Cause: f.Name, Evidence: f.Text, Remedy: f.Remedy}
	}
	return l
}

// repeats counts what came again and took effect once.
func (d *Daemon) repeats() outages.Repeats {
	u := d.uplink.Status()
	return outages.Repeats{Terminals: count(d.lan.Stats().Duplicates), Broadcasts: u.Duplicates, Resent: u.Resent}
}

// bootID names this run of the machine's system; empty where it does not say.
func bootID() string {
	raw, _ := os.ReadFile("/proc/sys/kernel/random/boot_id") // Linux; elsewhere a crash is called a power cut
	return strings.TrimSpace(string(raw))
}
