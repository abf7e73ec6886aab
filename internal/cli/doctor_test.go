package cli

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/api"
	"github.com/avoqado/avoqado-edge/internal/config"
	"github.com/avoqado/avoqado-edge/internal/daemon"
	"github.com/avoqado/avoqado-edge/internal/uplink"
)

// well is a patient with nothing the matter.
func well() (*patient, *api.Status, *daemon.CloudCheck) {
	st := &api.Status{Box: "b1", Uplink: api.UplinkStatus{State: "online", Since: time.Now().Add(-time.Hour), Broker: "mqtt.example:8883"}}
	report := &daemon.CloudCheck{
		Facts: &uplink.Facts{LAN: []netip.Addr{netip.MustParseAddr("192.168.1.10")}, Route: uplink.Yes},
		Brokers: []daemon.BrokerCheck{{
			Broker: "mqtt.example:8883", Expires: time.Now().AddDate(1, 0, 0),
			Steps: []uplink.Step{uplink.StepName, uplink.StepReach, uplink.StepTLS, uplink.StepLogin, uplink.StepTopics},
		}},
	}
	p := &patient{
		cfg:   config.Config{Box: config.Box{Venue: "v1"}, Uplink: config.Uplink{Brokers: []string{"tls://mqtt.example:8883"}}},
		box:   func(context.Context) (api.Status, error) { return *st, nil },
		cloud: func(context.Context) (daemon.CloudCheck, error) { return *report, nil },
		clock: func() (bool, bool) { return true, false },
	}
	return p, st, report
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
