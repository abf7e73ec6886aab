package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/api"
	"github.com/avoqado/avoqado-edge/internal/buildinfo"
	"github.com/avoqado/avoqado-edge/internal/config"
	"github.com/avoqado/avoqado-edge/internal/daemon"
	"github.com/avoqado/avoqado-edge/internal/discovery"
	"github.com/avoqado/avoqado-edge/internal/uplink"
)

// well is a patient with nothing the matter.
func well() (*patient, *api.Status, *daemon.CloudCheck) {
	st := &api.Status{Box: "b1", Uplink: api.UplinkStatus{State: "online", Since: time.Now().Add(-time.Hour), Broker: "mqtt.example:8883"}}
	report := &daemon.CloudCheck{
		Facts: &uplink.Facts{
			LAN: []netip.Addr{netip.MustParseAddr("192.168.1.10")}, Route: uplink.Yes, Router: uplink.Yes, Names: uplink.Yes, Probe: uplink.Yes,
			Gateway: netip.MustParseAddr("192.168.1.1"),
		},
		Brokers: []daemon.BrokerCheck{{
			Broker: "mqtt.example:8883", Expires: time.Now().AddDate(1, 0, 0),
			Steps: []uplink.Step{uplink.StepName, uplink.StepReach, uplink.StepTLS, uplink.StepLogin, uplink.StepTopics, uplink.StepSend},
		}},
	}
	p := &patient{
		cfg:   config.Config{Box: config.Box{Venue: "v1"}, Uplink: config.Uplink{Brokers: []string{"tls://mqtt.example:8883"}}},
		box:   func(context.Context) (api.Status, error) { return *st, nil },
		cloud: func(context.Context) (daemon.CloudCheck, error) { return *report, nil },
		clock: func() (bool, bool) { return true, false },

		machine: func(context.Context) daemon.Machine { return sound() },
		find: func(context.Context, string) discovery.Report {
			return discovery.Report{Found: []discovery.Found{{Box: "b1", Address: "192.168.1.10:8080"}}}
		},
		askLAN: func(context.Context, string) (string, error) { return "192.168.1.10:8080", nil },
	}
	st.Version, st.Discovery.State, st.Journal.Level = buildinfo.Read().Version, "announcing", "ok"
	return p, st, report
}

// sound is a machine with nothing the matter.
func sound() daemon.Machine {
	warm, volts := 52.0, uint64(0)
	return daemon.Machine{
		Disk: api.DiskStatus{FreeBytes: 20 << 30, TotalBytes: 28 << 30}, FreeInodes: 1e6, TotalInodes: 2e6,
		FileSystem: "ext4", Options: "rw,noatime", Fsync: 3 * time.Millisecond, MemoryTotal: 1 << 30, MemoryFree: 600 << 20,
		Load: 0.2, Processors: 4, Temperature: &warm, Throttled: &volts, Expires: time.Now().AddDate(1, 0, 0),
		UnitPath: "/usr/lib/systemd/system/avoqado-edge.service",
	}
}

// Each fault that can befall a box is named by the check whose business it is,
// with a remedy, and no other check turns red.
func TestDoctorNamesNothingElse(t *testing.T) {
	type fault struct {
		check string
		want  verdict
		harm  func(*patient, *api.Status, *daemon.CloudCheck)
	}
	on := func(change func(*daemon.Machine)) func(*patient, *api.Status, *daemon.CloudCheck) {
		return func(p *patient, _ *api.Status, _ *daemon.CloudCheck) {
			p.machine = func(context.Context) daemon.Machine {
				m := sound()
				change(&m)
				return m
			}
		}
	}
	said := func(change func(*api.Status)) func(*patient, *api.Status, *daemon.CloudCheck) {
		return func(_ *patient, st *api.Status, _ *daemon.CloudCheck) { change(st) }
	}
	way := func(at uplink.Step, name string, change func(*uplink.Facts)) func(*patient, *api.Status, *daemon.CloudCheck) {
		return func(_ *patient, st *api.Status, r *daemon.CloudCheck) {
			st.Uplink = api.UplinkStatus{State: "offline", Cause: name, Error: "what it met", Remedy: uplink.Remedy(name)}
			r.Brokers[0].Failed, r.Brokers[0].Failure = at, &uplink.Failure{Name: name, Text: "what it met", Remedy: uplink.Remedy(name)}
			change(r.Facts)
		}
	}
	stopped := func(m daemon.Machine) func(*patient, *api.Status, *daemon.CloudCheck) {
		return func(p *patient, _ *api.Status, _ *daemon.CloudCheck) {
			p.box = func(context.Context) (api.Status, error) { return api.Status{}, api.ErrNotRunning }
			p.machine = func(context.Context) daemon.Machine { return m }
		}
	}
	same := func(*uplink.Facts) {}
	const at = "broker mqtt.example:8883 "
	hot, volts := 90.0, uint64(0x50005)
	taken, broken := sound(), sound()
	taken.Listen = errors.New("address already in use")
	broken.Journal = &daemon.JournalCheck{Faults: []string{"events 3 to 7 are damaged"}}
	faults := map[string]fault{
		"disk nearly full":     {"disk space", isFail, on(func(m *daemon.Machine) { m.Disk.FreeBytes = 100 << 20 })},
		"disk filling":         {"disk space", isWarn, on(func(m *daemon.Machine) { m.Disk.FreeBytes = 900 << 20 })},
		"no inodes":            {"disk files", isFail, on(func(m *daemon.Machine) { m.FreeInodes = 0 })},
		"disk refuses writes":  {"disk write", isFail, on(func(m *daemon.Machine) { m.Write = syscall.EIO })},
		"slow card":            {"disk write", isWarn, on(func(m *daemon.Machine) { m.Fsync = 300 * time.Millisecond })},
		"dying card":           {"disk write", isFail, on(func(m *daemon.Machine) { m.Fsync = 3 * time.Second })},
		"read-only":            {"file system", isFail, on(func(m *daemon.Machine) { m.Options = "ro,noatime" })},
		"state in memory":      {"file system", isFail, on(func(m *daemon.Machine) { m.FileSystem = "tmpfs" })},
		"state on a USB stick": {"file system", isFail, on(func(m *daemon.Machine) { m.FileSystem = "vfat" })},
		"no barriers":          {"file system", isFail, on(func(m *daemon.Machine) { m.Options = "rw,nobarrier" })},
		"memory full":          {"memory", isFail, on(func(m *daemon.Machine) { m.MemoryFree = 10 << 20 })},
		"busy":                 {"load", isWarn, on(func(m *daemon.Machine) { m.Load = 40 })},
		"hot":                  {"temperature", isFail, on(func(m *daemon.Machine) { m.Temperature = &hot })},
		"under-voltage":        {"power supply", isFail, on(func(m *daemon.Machine) { m.Throttled = &volts })},
		"password file gone":   {"key material", isFail, on(func(m *daemon.Machine) { m.Files = []daemon.FileFault{{Path: "/etc/p", Fault: "no such file"}} })},
		"secret for all to read": {"key material", isWarn, on(func(m *daemon.Machine) {
			m.Files = []daemon.FileFault{{Path: "/etc/p", Fault: "mode 0644", Warn: true}}
		})},
		"own certificate ended":  {"key material", isFail, on(func(m *daemon.Machine) { m.Expires = time.Now().Add(-time.Hour) })},
		"own certificate ends":   {"key material", isWarn, on(func(m *daemon.Machine) { m.Expires = time.Now().Add(24 * time.Hour) })},
		"old unit":               {"unit", isWarn, on(func(m *daemon.Machine) { m.UnitOlder = true })},
		"port taken":             {"port", isFail, stopped(taken)},
		"journal damaged":        {"journal", isFail, stopped(broken)},
		"journal refuses":        {"journal", isFail, said(func(st *api.Status) { st.Journal.Fault = "write: input/output error" })},
		"room short":             {"journal", isFail, said(func(st *api.Status) { st.Journal.Level, st.Journal.LevelReason = "no_orders", "disk" })},
		"disk hangs":             {"journal", isFail, said(func(st *api.Status) { st.Journal.StuckSince = time.Now().Add(-time.Minute) })},
		"quarantine":             {"journal", isWarn, said(func(st *api.Status) { st.Journal.Quarantined = 2 })},
		"old program still runs": {"version", isWarn, said(func(st *api.Status) { st.Version = "0.0.1" })},
		"mDNS fails":             {"mDNS", isFail, said(func(st *api.Status) { st.Discovery = api.DiscoveryStatus{State: "failing", Error: "port taken"} })},
		"not seen by mDNS": {"mDNS", isFail, func(p *patient, _ *api.Status, _ *daemon.CloudCheck) {
			p.find = func(context.Context, string) discovery.Report { return discovery.Report{} }
		}},
		"box for this machine alone": {"mDNS", isWarn, func(p *patient, st *api.Status, _ *daemon.CloudCheck) {
			st.LAN.Address = "127.0.0.1:8080"
			p.find = func(context.Context, string) discovery.Report {
				return discovery.Report{Refused: []discovery.Found{{Box: "b1", Address: "192.168.1.10:8080", Refused: "nobody answers", Silent: true}}}
			}
		}},
		"an impostor": {"mDNS", isFail, func(p *patient, _ *api.Status, _ *daemon.CloudCheck) {
			p.find = func(context.Context, string) discovery.Report {
				return discovery.Report{Refused: []discovery.Found{{Box: "b1", Address: "192.168.1.66:8080", Refused: "its card is not signed"}}}
			}
		}},
		"parked": {"parked events", isWarn, said(func(st *api.Status) { st.Uplink.Parked = 3 })},
		"twin":   {"duplicate box", isWarn, said(func(st *api.Status) { st.Uplink.Failures = map[string]uint64{"client_id_takeover": 4} })},
		"backlog old": {"backlog", isWarn, said(func(st *api.Status) {
			st.Uplink.Since, st.Journal.Backlog = time.Now(), api.Backlog{Events: 9, OldestAgeMs: 36e5}
		})},
		"sending is paused": {"back-end", isWarn, said(func(st *api.Status) {
			st.Journal.Backlog = api.Backlog{Events: 9, OldestAgeMs: 6e5}
			st.Uplink.Paused = &api.Ordered{Command: "c1", Since: time.Now().Add(-10 * time.Minute)}
		})},
		"firewall on the box": {"terminals' door", isFail, func(p *patient, _ *api.Status, _ *daemon.CloudCheck) {
			p.find = func(context.Context, string) discovery.Report {
				return discovery.Report{Refused: []discovery.Found{{Box: "b1", Address: "192.168.1.10:8080", Refused: "nobody answers", Silent: true}}}
			}
			p.askLAN = func(context.Context, string) (string, error) { return "192.168.1.10:8080", io.EOF }
		}},
		"certificate for terminals ended": {"terminals' TLS", isFail, said(func(st *api.Status) {
			st.LAN.TLS = &api.TLSStatus{Mode: "files", Expires: time.Now().Add(-time.Hour)}
		})},
		"certificate for terminals ends": {"terminals' TLS", isWarn, said(func(st *api.Status) {
			st.LAN.TLS = &api.TLSStatus{Mode: "files", Expires: time.Now().Add(time.Hour)}
		})},
		"certificate for terminals broken": {"terminals' TLS", isFail, said(func(st *api.Status) {
			st.LAN.TLS = &api.TLSStatus{Mode: "files", Expires: time.Now().Add(1e4 * time.Hour), Error: "key does not fit"}
		})},
		"cable out":               {"lan", isFail, way(uplink.StepName, uplink.NoLAN, func(f *uplink.Facts) { f.LAN, f.Router = nil, uplink.Unknown })},
		"router dead":             {"router", isFail, way(uplink.StepReach, uplink.NoRouter, func(f *uplink.Facts) { f.Router, f.Names, f.Probe = uplink.No, uplink.No, uplink.No })},
		"internet gone":           {"internet", isFail, way(uplink.StepReach, uplink.NoInternet, func(f *uplink.Facts) { f.Names, f.Probe = uplink.No, uplink.No })},
		"captive portal":          {"captive portal", isFail, way(uplink.StepTLS, uplink.CaptivePortal, func(f *uplink.Facts) { f.Portal = "it answers 302" })},
		"name server dead":        {"name server", isFail, way(uplink.StepName, uplink.DNS, func(f *uplink.Facts) { f.Names = uplink.No })},
		"broker's name wrong":     {at + "name", isFail, way(uplink.StepName, uplink.DNS, same)},
		"broker down":             {at + "reach", isFail, way(uplink.StepReach, uplink.BrokerDown, same)},
		"certificate of a broker": {at + "tls", isFail, way(uplink.StepTLS, uplink.TLS, same)},
		"wrong password":          {at + "login", isFail, way(uplink.StepLogin, uplink.Credentials, same)},
		"may not listen":          {at + "topics", isFail, way(uplink.StepTopics, uplink.Subscription, same)},
		"may not publish":         {at + "send", isFail, way(uplink.StepSend, uplink.Subscription, same)},
		"clock in 1970": {"clock", isFail, func(p *patient, _ *api.Status, _ *daemon.CloudCheck) {
			p.clock = func() (bool, bool) { return false, true }
		}},
	}
	if len(faults) < 25 || len(checks()) < 25 {
		t.Errorf("%d faults, %d checks", len(faults), len(checks()))
	}
	for name, c := range faults {
		p, st, report := well()
		c.harm(p, st, report)
		e := examine(t.Context(), p)
		named := false
		for _, f := range e.Checks {
			switch {
			case f.Check == c.check:
				named = f.Verdict == c.want && f.Remedy != "" && f.Evidence != ""
			case f.Check == "box" && (c.check == "port" || c.check == "journal"): // that is why it does not run
			case f.Verdict == isFail || f.Verdict == isWarn:
				t.Errorf("%s: %s turns red, too: %s", name, f.Check, f.Evidence)
			}
		}
		if !named {
			t.Errorf("%s: not named by %s: %+v", name, c.check, e.Checks)
		}
	}
}

// A new version that did not become healthy is not to be tried again by a restart,
// which does nothing.
func TestDoctorKnowsTheFallback(t *testing.T) {
	p, st, _ := well()
	st.Version = "0.0.1"
	p.machine = func(context.Context) daemon.Machine {
		m := sound()
		m.FellBack = true
		return m
	}
	f := checkVersion(t.Context(), p)[0]
	if f.Verdict != isWarn || strings.Contains(f.Remedy, "restart") || !strings.Contains(f.Evidence, "did not become healthy") {
		t.Errorf("%+v", f)
	}
}

// Each fault shows as a finding with its name, what was seen and what to do,
// and the others stay as they are.
func TestDoctorNamesEachFault(t *testing.T) {
	p, _, _ := well()
	if e := examine(t.Context(), p); e.Verdict != isOK {
		t.Fatalf("a healthy box: %+v", e)
	}
	failed := func(at uplink.Step, name string) func(*patient, *api.Status, *daemon.CloudCheck) {
		return func(_ *patient, st *api.Status, r *daemon.CloudCheck) {
			st.Uplink = api.UplinkStatus{State: "offline", Cause: name, Error: "what it met", Remedy: uplink.Remedy(name)}
			r.Brokers[0].Failed, r.Brokers[0].Failure = at, &uplink.Failure{Name: name, Text: "what it met", Remedy: uplink.Remedy(name)}
		}
	}
	cases := map[string]struct {
		harm    func(*patient, *api.Status, *daemon.CloudCheck)
		verdict verdict
	}{
		"session_lost": {func(_ *patient, st *api.Status, _ *daemon.CloudCheck) {
			st.Uplink.SessionLost = &api.SessionLost{Broker: "mqtt.example:8883", At: time.Now(), Count: 2}
		}, isWarn},
		uplink.Certificate: {func(_ *patient, st *api.Status, _ *daemon.CloudCheck) {
			st.Uplink.Warning = &api.Warning{Cause: uplink.Certificate, Error: "half written", Remedy: uplink.Remedy(uplink.Certificate)}
		}, isWarn},
		uplink.NoLAN: {func(p *patient, st *api.Status, r *daemon.CloudCheck) {
			failed(uplink.StepName, uplink.NoLAN)(p, st, r)
			r.Facts.LAN = nil
		}, isFail},
		uplink.Clock: {func(p *patient, _ *api.Status, _ *daemon.CloudCheck) {
			p.clock = func() (bool, bool) { return false, true }
		}, isFail},
	}
	for step, names := range map[uplink.Step][]string{
		uplink.StepName:   {uplink.DNS, uplink.NoInternet},
		uplink.StepReach:  {uplink.BrokerDown, uplink.Proxy, uplink.Timeout, uplink.NoRoute},
		uplink.StepTLS:    {uplink.TLS, uplink.DNSLie, uplink.CaptivePortal, uplink.NoAnswer},
		uplink.StepLogin:  {uplink.Credentials},
		uplink.StepTopics: {uplink.Subscription, uplink.Takeover},
	} {
		for _, name := range names {
			cases[name] = struct {
				harm    func(*patient, *api.Status, *daemon.CloudCheck)
				verdict verdict
			}{failed(step, name), isFail}
		}
	}
	for name, c := range cases {
		p, st, report := well()
		c.harm(p, st, report)
		e := examine(t.Context(), p)
		if e.Verdict != c.verdict {
			t.Errorf("%s: verdict %s", name, e.Verdict)
		}
		found := false
		for _, f := range e.Checks {
			found = found || f.Cause == name && f.Verdict == c.verdict && f.Remedy != "" && f.Evidence != ""
		}
		if !found {
			t.Errorf("%s: not named in %+v", name, e.Checks)
		}
		var out bytes.Buffer
		if err := printExamination(&out, e); err != nil || !strings.Contains(out.String(), "      -> ") {
			t.Errorf("%s: %v: %s", name, err, out.String())
		}
	}
}

// What has no name at the broker.
func TestDoctorSeesMore(t *testing.T) {
	for name, c := range map[string]struct {
		harm  func(*patient, *api.Status, *daemon.CloudCheck)
		check string
		want  verdict
	}{
		"no box": {func(p *patient, _ *api.Status, _ *daemon.CloudCheck) {
			p.box = func(context.Context) (api.Status, error) { return api.Status{}, api.ErrNotRunning }
		}, "box", isFail},
		"configuration": {func(p *patient, _ *api.Status, _ *daemon.CloudCheck) { p.cfgErr = errors.New("wrong") }, "config", isFail},
		"broker's certificate ends": {func(_ *patient, _ *api.Status, r *daemon.CloudCheck) {
			r.Brokers[0].Expires = time.Now().Add(time.Hour)
		}, "broker mqtt.example:8883 tls", isWarn},
		"back-end silent": {func(_ *patient, st *api.Status, _ *daemon.CloudCheck) {
			st.Journal.Backlog = api.Backlog{Events: 7, OldestAgeMs: time.Hour.Milliseconds()}
		}, "back-end", isFail},
		"a visitor is not let in": {func(_ *patient, _ *api.Status, r *daemon.CloudCheck) {
			r.Brokers[0].Failed, r.Brokers[0].Failure = uplink.StepLogin, &uplink.Failure{Name: uplink.Credentials, Text: "not authorised"}
		}, "broker mqtt.example:8883 login", isSkip},
		"no way out": {func(_ *patient, _ *api.Status, r *daemon.CloudCheck) { r.Facts.Route = uplink.No }, "lan", isWarn},
	} {
		p, st, report := well()
		c.harm(p, st, report)
		seen := verdict("")
		for _, f := range examine(t.Context(), p).Checks {
			if f.Check == c.check {
				seen = f.Verdict
			}
		}
		if seen != c.want {
			t.Errorf("%s: %s is %q, want %s", name, c.check, seen, c.want)
		}
	}
}

// Who may not look at the box's secrets is not told that they are broken.
func TestDoctorWithoutRightsFindsNoFault(t *testing.T) {
	got := checkKeys(&daemon.Machine{Files: []daemon.FileFault{
		{Path: "/etc/s", Fault: "lstat /etc/s: permission denied", Hidden: true}, {Path: "/etc/c", Fault: "no such file"},
	}})
	if len(got) != 1 || got[0].Verdict != isSkip || !strings.Contains(got[0].Remedy, "sudo") {
		t.Errorf("it finds %+v", got)
	}
	got = checkConfig(t.Context(), &patient{cfgErr: fmt.Errorf("read secret: %w", fs.ErrPermission)})
	if len(got) != 1 || got[0].Verdict != isSkip || !strings.Contains(got[0].Remedy, "sudo") {
		t.Errorf("of the configuration it finds %+v", got)
	}
}

// What is to be done about a certificate is for where it comes from.
func TestDoctorOnWhoRenewsTheCertificate(t *testing.T) {
	for mode, want := range map[string]string{"files": "lan.tls_cert_file", "auto": "renews it by itself"} {
		st := api.Status{LAN: api.LANStatus{TLS: &api.TLSStatus{Mode: mode, Expires: time.Now().Add(-time.Hour)}}}
		got := checkTLS(t.Context(), &patient{box: func(context.Context) (api.Status, error) { return st, nil }})
		if got[0].Verdict != isFail || !strings.Contains(got[0].Remedy, want) {
			t.Errorf("%s: %+v", mode, got)
		}
	}
}
