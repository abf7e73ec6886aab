package daemon

import (
	"fmt"
	"os"
	"time"

	"github.com/avoqado/avoqado-edge/internal/api"
	"github.com/avoqado/avoqado-edge/internal/buildinfo"
	"github.com/avoqado/avoqado-edge/internal/journal"
	"github.com/avoqado/avoqado-edge/internal/lan"
	"github.com/avoqado/avoqado-edge/internal/uplink"
)

// Thresholds above which the status says that someone should look.
const (
	rejectedFor = time.Hour        // after a message from the cloud could not be used
	starvedFor  = 10 * time.Minute // after a connection found no file descriptor
	lowDisk     = 256 << 20        // bytes free
	stuckCommit = 5 * time.Second  // a write under way
	oldBacklog  = 15 * time.Minute // age of the oldest event the cloud does not have
	aloneFor    = 5 * time.Second  // without the other boxes, if there may be some
)

// returnedFrom is the variable in which the trial of a new version (packaging/trial)
// says which one it went back from.
const returnedFrom = "AVOQADO_EDGE_RETURNED_FROM"

// Status returns how the box is. Safe for concurrent use.
func (d *Daemon) Status() api.Status {
	now, told := time.Now(), d.clock.Status()
	st := api.Status{
		Version: buildinfo.Read().Version, Venue: d.id.Venue, Box: d.id.Box, Name: d.cfg.Box.Name,
		Started: d.started.UTC(), UptimeMs: now.Sub(d.started).Milliseconds(),
		LAN:       d.lanStatus(),
		Boxes:     boxesStatus(d.lan.Boxes()),
		Uplink:    d.uplinkStatus(),
		Journal:   d.journalStatus(told.Now),
		Disk:      diskStatus(d.cfg.StateDir),
		Clock:     api.ClockStatus{Now: told.Now, Trusted: told.Trusted, Source: string(told.Source), ErrorMs: told.Error.Milliseconds()},
		Discovery: d.discoveryStatus(),
		Way:       d.way.look(d, now),
		Problems:  []string{},
	}
	look := func(format string, args ...any) { st.Problems = append(st.Problems, fmt.Sprintf(format, args...)) }
	if d.keyErr != nil {
		look("the box cannot prove who it is: %s", d.keyErr)
	}
	if version := os.Getenv(returnedFrom); version != "" {
		look("version %s did not become healthy, so the box runs the one before it: journalctl -u avoqado-edge -u avoqado-edge-trial", version)
	}
	if st.Journal.Fault != "" {
		look("the journal does not take events: %s", st.Journal.Fault)
	}
	if l := st.Journal.Level; l != journal.LevelOK.String() && st.Journal.Fault == "" {
		look("room for events is short, the journal is at level %s: %s", l, st.Journal.LevelReason)
	}
	if since := st.Journal.StuckSince; !since.IsZero() && now.Sub(since) >= stuckCommit {
		look("the disk has not finished a write for %s", now.Sub(since).Round(time.Second))
	}
	st.Problems = append(st.Problems, longDown(st.Way, now)...)
	if n := st.Journal.Quarantined; n > 0 {
		look("%d damaged journal files are in quarantine; see `avoqado-edge journal check`", n)
	}
	if age := time.Duration(st.Journal.Backlog.OldestAgeMs) * time.Millisecond; d.uplink != nil && age > oldBacklog {
		look("the oldest event waits for the cloud since %s; uplink is %s", age.Round(time.Minute), st.Uplink.State)
	}
	if st.Disk.TotalBytes > 0 && st.Disk.FreeBytes < lowDisk {
		look("only %d MiB are free on the disk of %s", st.Disk.FreeBytes>>20, d.cfg.StateDir)
	}
	for _, source := range d.keys.list() {
		if k := source.Status(); k.Failing != "" {
			look("the token keys of auth.jwks_%s cannot be read, %d that were read before are in force: %s", k.Source, k.Keys, k.Failing)
		}
	}
	if n := st.Uplink.Parked; n > 0 {
		look("%d events are parked, since the cloud will not take them: avoqado-edge events list --parked", n)
	}
	if at := st.Uplink.RejectedAt; !at.IsZero() && now.Sub(at) < rejectedFor {
		look("%d of the cloud's messages could not be used, the last at %s: %s", st.Uplink.Rejected, at.Local().Format(time.TimeOnly), st.Uplink.RejectedFor)
	}
	if w := st.Uplink.Warning; w != nil {
		look("the uplink works, and will not come back once it is lost: %s: %s", w.Cause, w.Error)
	}
	if l := st.Uplink.SessionLost; l != nil && now.Sub(l.At) < rejectedFor {
		look("broker %s had forgotten the box at %s: what the cloud said meanwhile comes only if it says it again", l.Broker, l.At.Local().Format(time.TimeOnly))
	}
	if p := st.Uplink.Paused; p != nil {
		look("no events are sent to the cloud since %s: command %s of the cloud says so", p.Since.Local().Format(time.DateTime), p.Command)
	}
	if at := d.lan.Stats().Starved; !at.IsZero() && now.Sub(at) < starvedFor {
		look("connections had to wait for want of file descriptors, the last at %s; raise LimitNOFILE", at.Local().Format(time.TimeOnly))
	}
	if told.Problem != "" {
		look("%s", told.Problem)
	}
	if st.Boxes.State == "alone" && now.Sub(st.Boxes.Since) >= aloneFor {
		look("the other boxes of the venue are not heard: %s: %s", st.Boxes.Cause, st.Boxes.Error)
	}
	if t := st.LAN.TLS; t != nil && t.Error != "" {
		look("TLS on the LAN: %s", t.Error)
	}
	if st.Discovery.State == "failing" {
		look("mDNS: %s", st.Discovery.Error)
	}
	return st
}

func (d *Daemon) lanStatus() api.LANStatus {
	c, s := d.lan.Connections(), d.lan.Stats()
	roles := make(map[string]int, len(c.ConnectionStats.Roles))
	for role, n := range c.ConnectionStats.Roles {
		roles[string(role)] = n
	}
	online := 0
	for _, t := range d.lan.Terminals() {
		if t.Online {
			online++
		}
	}
	var refused int64
	for _, n := range s.Rejected {
		refused += n
	}
	return api.LANStatus{
		Address: d.lan.Addr().String(), Addresses: d.pairedAddresses(), Key: d.keyFingerprint(), Clients: c.ConnectionStats.Total, Terminals: online, Behind: int(s.Behind), Roles: roles, TLS: d.tlsStatus(),
		Accepted: count(s.Accepted), Refused: count(refused), Duplicates: count(s.Duplicates), Delivered: count(s.Sent),
	}
}

func boxesStatus(b lan.Boxes) api.BoxesStatus {
	var refused int64
	for _, n := range b.Refused {
		refused += n
	}
	return api.BoxesStatus{
		State: b.State, Since: b.Since.UTC(), Others: b.Peers, Cause: b.Cause, Error: b.Error,
		Sent: count(b.Sent), Unsent: count(b.Unsent), Received: count(b.Received), Lost: count(b.Lost), Refused: count(refused),
	}
}

func (d *Daemon) journalStatus(now time.Time) api.JournalStatus {
	s := d.journal.Stats()
	st := api.JournalStatus{
		Epoch: string(s.Epoch), StoredThrough: uint64(s.Stored), Segments: s.Segments, Bytes: s.Bytes,
		MaxBytes: s.MaxBytes, MaxEvents: s.MaxEvents,
		Level: s.Level.String(), LevelReason: s.LevelReason, LevelSince: s.LevelSince.UTC(),
		StuckSince: s.StuckSince, Quarantined: len(s.Quarantine), Written: s.BytesWritten, LifeYears: s.LifeYears,
	}
	if s.LevelSince.IsZero() {
		st.LevelSince = d.started.UTC()
	}
	if s.Err != nil {
		st.Fault = s.Err.Error()
	}
	if d.uplink == nil {
		return st // nobody to be behind of
	}
	st.SyncedThrough = uint64(d.journal.Cursor(api.UplinkCursor))
	b := d.journal.Backlog(api.UplinkCursor)
	st.Backlog = api.Backlog{Events: b.Events, Bytes: b.Bytes}
	if !b.Oldest.IsZero() {
		st.Backlog.OldestAgeMs = max(0, now.Sub(b.Oldest).Milliseconds())
	}
	return st
}

func (d *Daemon) uplinkStatus() api.UplinkStatus {
	if d.uplink == nil {
		return api.UplinkStatus{State: "off"}
	}
	u := d.uplink.Status()
	st := api.UplinkStatus{
		State: string(u.State), Since: u.Since.UTC(), Broker: u.Broker, Confirm: string(u.Confirm),
		InFlight: u.InFlight, Parked: u.Parked, Connects: u.Connects,
		Resent: u.Rewinds, Received: u.Broadcasts, Rejected: u.Rejected, RejectedAt: u.RejectedAt,
		RejectedFor: u.RejectedFor, Overflows: u.Overflows, Commands: u.Commands, Replayed: u.Replayed,
	}
	st.Failures = u.Failures
	if w := u.Warning; w != nil {
		st.Warning = &api.Warning{Cause: w.Name, Error: w.Text, Remedy: w.Remedy, Since: w.At}
	}
	if l := u.SessionLost; l != nil {
		st.SessionLost = &api.SessionLost{Broker: l.Broker, At: l.At, Count: l.Count}
	}
	if u.Paused != nil {
		st.Paused = &api.Ordered{Command: u.Paused.Command, Since: u.Paused.Since}
	}
	if u.Replay != nil {
		st.Replay = &api.Ordered{Command: u.Replay.Command, Since: u.Replay.Since}
	}
	if u.Config != nil {
		st.ConfigVersion, st.VenueStatus = u.Config.Version, u.Config.VenueStatus
	}
	// A failure that was overcome is history, not state.
	if u.Failure != nil && u.State != uplink.Online {
		st.Cause, st.Error, st.Remedy = u.Failure.Name, u.Failure.Text, u.Failure.Remedy
	}
	return st
}

func (d *Daemon) discoveryStatus() api.DiscoveryStatus {
	if d.announcer == nil {
		return api.DiscoveryStatus{State: "off"}
	}
	a := d.announcer.Status()
	st := api.DiscoveryStatus{State: "announcing", By: a.By, Instance: a.Instance, Interfaces: a.Interfaces}
	switch {
	case a.Error != "":
		st.State, st.Error = "failing", a.Error
	case !a.Announced:
		st.State = "starting"
	}
	return st
}

// Stats returns the existing system's connection statistics and the event counters.
func (d *Daemon) Stats() api.Stats {
	c := d.lan.Connections()
	st := d.Status()
	roles := st.LAN.Roles
	return api.Stats{
		TotalConnections: c.ConnectionStats.Total, VenueConnections: c.ConnectionStats.Venues, RoleConnections: roles,
		ConnectionStats: api.ConnectionStats{
			TotalConnections: c.ConnectionStats.Total, VenueConnections: c.ConnectionStats.Venues, RoleConnections: roles,
		},
		ServerStats: api.ServerStats{ConnectedClients: c.ServerStats.Clients, Rooms: c.ServerStats.Rooms},
		Events: api.EventStats{
			Accepted: st.LAN.Accepted, Duplicates: st.LAN.Duplicates, Refused: st.LAN.Refused, Delivered: st.LAN.Delivered,
		},
		Backlog: st.Journal.Backlog, Uplink: st.Uplink.State,
		Stored: st.Journal.StoredThrough, Synced: st.Journal.SyncedThrough, Started: st.Started,
	}
}

// Terminals lists the terminals the box knows of.
func (d *Daemon) Terminals() []api.Terminal {
	known := d.lan.Terminals()
	list := make([]api.Terminal, 0, len(known))
	for _, t := range known {
		list = append(list, api.Terminal{
			TerminalID: t.ID, Name: t.Name, IsOnline: t.Online, HasSocket: t.HasSocket,
			LastHeartbeat: t.LastHeartbeat, LastSeen: t.LastSeen, Waiting: t.Waiting, RegisteredAt: t.ConnectedAt, UserID: t.User,
			Role: string(t.Role), Address: t.Address, HealthScore: t.HealthScore,
			Capabilities: t.Capabilities, Telemetry: t.Telemetry,
		})
	}
	return list
}

// Ready returns nil when the box takes events.
func (d *Daemon) Ready() error {
	if s := d.journal.Stats(); s.Err != nil {
		return fmt.Errorf("the journal does not take events: %w", s.Err)
	}
	return nil
}

func count(n int64) uint64 { return uint64(max(n, 0)) } //nolint:gosec // not negative

var _ api.Box = (*Daemon)(nil)

// snapshot is what the metrics read, taken once per scrape.
type snapshot struct {
	status  api.Status
	lan     lan.Stats
	journal journal.Stats
	refused map[string]int64 // messages of other boxes, by reason
}

func (d *Daemon) snapshot() *snapshot {
	return &snapshot{status: d.Status(), lan: d.lan.Stats(), journal: d.journal.Stats(), refused: d.lan.Boxes().Refused}
}

// stuck returns how long the journal's write under way has taken.
func (s *snapshot) stuck() time.Duration {
	if s.journal.StuckSince.IsZero() {
		return 0
	}
	return time.Since(s.journal.StuckSince)
}
