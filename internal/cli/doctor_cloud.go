package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/avoqado/avoqado-edge/internal/daemon"
)

// Thresholds of the checks.
const (
	expiresSoon = 14 * 24 * time.Hour // a broker's certificate
	sessionAgo  = 24 * time.Hour      // a session that was lost is news for that long
	backendLate = 5 * time.Minute     // events the back-end has not confirmed
)

func one(v verdict, remedy, format string, args ...any) []finding {
	return []finding{{Verdict: v, Evidence: fmt.Sprintf(format, args...), Remedy: remedy}}
}

func checkConfig(_ context.Context, p *patient) []finding {
	if errors.Is(p.cfgErr, fs.ErrPermission) {
		return one(isSkip, "Run it with sudo: the box's configuration and secrets are not for everybody.", "this user may not read it: %v", p.cfgErr)
	}
	if p.cfgErr != nil {
		return one(isFail, "Mend what is named; `avoqado-edge config check` says when it is right.", "%v", p.cfgErr)
	}
	if w := p.cfg.Warnings(); len(w) > 0 {
		return one(isWarn, "Change it, or leave it if it is meant.", "%s", strings.Join(w, "; "))
	}
	return one(isOK, "", "venue %s, %s", p.cfg.Box.Venue, plural(len(p.cfg.Uplink.Brokers), "broker"))
}

func checkBox(ctx context.Context, p *patient) []finding {
	st, err := p.box(ctx)
	if err != nil {
		return one(isFail, "Start it: `systemctl start avoqado-edge`, and read `journalctl -u avoqado-edge` if it does not stay.", "%v", err)
	}
	return one(isOK, "", "box %s, version %s, up %s", st.Box, st.Version, ago(st.UptimeMs))
}

func checkClock(_ context.Context, p *patient) []finding {
	const set = "Set the clock of the box, or let it reach a time server (NTP, UDP port 123)."
	now := time.Now().Format("2006-01-02 15:04:05 -0700")
	switch synchronised, impossible := p.clock(); {
	case impossible:
		f := one(isFail, set, "%s is before this program was made", now)
		f[0].Cause = "clock"
		return f
	case !synchronised:
		return one(isWarn, set, "%s, and nothing keeps it right", now)
	}
	return one(isOK, "", "%s, synchronised", now)
}

// facts are what a look at the network found.
func (p *patient) facts(ctx context.Context) (*daemon.CloudCheck, []finding) {
	report, err := p.cloud(ctx)
	if p.cfgErr != nil || err != nil || report.Facts == nil {
		return nil, one(isSkip, "", "needs a configuration that names a broker")
	}
	return &report, nil
}

// checkRouter, checkPortal and checkInternet say how far the network goes.
func checkRouter(ctx context.Context, p *patient) []finding {
	report, skip := p.facts(ctx)
	if skip != nil {
		return skip
	}
	switch f := report.Facts; f.Router {
	case "no":
		found := one(isFail, "Restart the router; if it stays silent, check the cable between it and the box, and what is in between.", "%s does not answer", f.Gateway)
		found[0].Cause = "no_router"
		return found
	case "yes":
		return one(isOK, "", "%s answers", f.Gateway)
	default:
		return one(isSkip, "", "it cannot be told whether it answers")
	}
}

func checkPortal(ctx context.Context, p *patient) []finding {
	report, skip := p.facts(ctx)
	if skip != nil {
		return skip
	}
	if report.Facts.Portal != "" {
		f := one(isFail, "Log in to the network's web page once, or have the box's network let it out without a login.", "%s", report.Facts.Portal)
		f[0].Cause = "captive_portal"
		return f
	}
	if report.Facts.Probe == "unknown" {
		return one(isSkip, "", "uplink.probe names nothing to ask")
	}
	return one(isOK, "", "none")
}

// checkNames tells a dead name server from an internet that is gone: somebody
// answers who was asked by an address.
func checkNames(ctx context.Context, p *patient) []finding {
	report, skip := p.facts(ctx)
	if skip != nil {
		return skip
	}
	switch f := report.Facts; {
	case f.Names == "yes":
		return one(isOK, "", "it answers")
	case f.Names == "no" && (f.Reached == "yes" || f.Probe == "yes"):
		found := one(isFail, "Restart the router, or give the box another name server (`resolvectl status` names the present one).",
			"names cannot be looked up, though the internet is there")
		found[0].Cause = "dns"
		return found
	default:
		return one(isSkip, "", "see internet: nothing was there to ask")
	}
}

func checkInternet(ctx context.Context, p *patient) []finding {
	report, skip := p.facts(ctx)
	if skip != nil {
		return skip
	}
	for _, b := range report.Brokers {
		if b.Failure != nil && b.Failure.Name == "no_internet" {
			f := one(isFail, b.Failure.Remedy, "%s", b.Failure.Text)
			f[0].Cause = b.Failure.Name
			return f
		}
	}
	f := report.Facts
	if f.Names == "yes" || f.Reached == "yes" || f.Probe == "yes" {
		return one(isOK, "", "name server %s, a broker's address %s, probe %s", f.Names, f.Reached, f.Probe)
	}
	return one(isSkip, "", "there was nothing to ask beside the brokers")
}

func checkLAN(ctx context.Context, p *patient) []finding {
	report, skip := p.facts(ctx)
	if skip != nil {
		return skip
	}
	f := report.Facts
	switch {
	case len(f.LAN) == 0:
		found := one(isFail, "Check the network cable or the Wi-Fi of the box, and that the router is on and gives it an address.",
			"no network interface has an address")
		found[0].Cause = "no_lan"
		return found
	case f.Route == "no":
		return one(isWarn, "Check the router: it tells the box no way out.", "%v, and no default route", f.LAN)
	}
	return one(isOK, "", "%v, default route %s", f.LAN, f.Route)
}

// checkBrokers has one finding per step of the way to each broker.
func checkBrokers(ctx context.Context, p *patient) []finding {
	if p.cfgErr != nil {
		return one(isSkip, "", "needs a configuration")
	}
	if len(p.cfg.Uplink.Brokers) == 0 {
		return one(isSkip, "", "no cloud is configured")
	}
	report, err := p.cloud(ctx)
	if err != nil {
		return one(isFail, "Mend the configuration of the uplink.", "%v", err)
	}
	st, boxErr := p.box(ctx)
	var all []finding
	for _, b := range report.Brokers {
		inside := boxErr == nil && st.Uplink.State == "online" && st.Uplink.Broker == b.Broker
		passed := true
		for _, step := range b.Steps {
			f := finding{Check: b.Broker + " " + string(step), Verdict: isOK, Evidence: "good"}
			switch {
			case !passed:
				f.Verdict, f.Evidence = isSkip, "not reached"
			case step == b.Failed && inside && (step == "login" || step == "topics" || step == "send"):
				passed = false
				f.Verdict, f.Evidence = isSkip, "the box itself is in; a visitor is not let in: "+b.Failure.Text
			case step == b.Failed:
				passed = false
				f.Verdict, f.Cause, f.Evidence, f.Remedy = isFail, b.Failure.Name, b.Failure.Text, b.Failure.Remedy
			case step == "name":
				f.Evidence = fmt.Sprint(b.Addrs)
			case step == "tls":
				f.Evidence = "the certificate is the broker's, until " + b.Expires.Format(time.DateOnly)
				if time.Until(b.Expires) < expiresSoon {
					f.Verdict, f.Remedy = isWarn, "Have whoever runs the broker renew its certificate."
				}
			case step == "login":
				f.Evidence = "accepted"
			case step == "topics":
				f.Evidence = "may be listened to"
			case step == "send":
				f.Evidence = fmt.Sprintf("a message was confirmed; all within %d ms", b.Took.Milliseconds())
			}
			all = append(all, f)
		}
	}
	return all
}

// checkUplink says what the running box says of its link.
func checkUplink(ctx context.Context, p *patient) []finding {
	st, err := p.box(ctx)
	switch {
	case err != nil:
		return one(isSkip, "", "no box is running")
	case st.Uplink.State == "off":
		return one(isSkip, "", "no cloud is configured")
	case st.Uplink.State == "online":
		return one(isOK, "", "%s", describeUplink(st.Uplink))
	}
	f := one(isFail, st.Uplink.Remedy, "%s", describeUplink(st.Uplink))
	f[0].Cause = st.Uplink.Cause
	return f
}

// checkRenewal says what will keep the running box from coming back.
func checkRenewal(ctx context.Context, p *patient) []finding {
	st, err := p.box(ctx)
	if err != nil || st.Uplink.State == "off" {
		return one(isSkip, "", "needs a running box with a cloud")
	}
	if w := st.Uplink.Warning; w != nil {
		f := one(isWarn, w.Remedy, "%s", w.Error)
		f[0].Cause = w.Cause
		return f
	}
	return one(isOK, "", "nothing to complain of")
}

// checkBackend tells a back-end that does not confirm from a link that is down.
func checkBackend(ctx context.Context, p *patient) []finding {
	st, err := p.box(ctx)
	if err != nil || st.Uplink.State != "online" {
		return one(isSkip, "", "needs a running box that is online")
	}
	if paused := st.Uplink.Paused; paused != nil {
		return one(isWarn, "Ask whoever runs the back-end to end the pause (drain.resume); the events are safe in the box.",
			"it has the box hold events back since %s (command %s)", paused.Since.Local().Format("2006-01-02 15:04"), paused.Command)
	}
	age := time.Duration(st.Journal.Backlog.OldestAgeMs) * time.Millisecond
	if since := time.Since(st.Uplink.Since); age > backendLate && since > backendLate {
		return one(isFail, "Nothing to do in the venue: have the back-end looked at; the events are safe in the box.",
			"the link is up for %s, and %s wait for the cloud's word, the oldest for %s",
			ago(since.Milliseconds()), plural(st.Journal.Backlog.Events, "event"), ago(st.Journal.Backlog.OldestAgeMs))
	}
	return one(isOK, "", "synced through %d of %d", st.Journal.SyncedThrough, st.Journal.StoredThrough)
}

func checkSession(ctx context.Context, p *patient) []finding {
	st, err := p.box(ctx)
	if err != nil || st.Uplink.State == "off" {
		return one(isSkip, "", "needs a running box with a cloud")
	}
	l := st.Uplink.SessionLost
	if l == nil || time.Since(l.At) > sessionAgo {
		return one(isOK, "", "the broker keeps what is sent while the box is away")
	}
	f := one(isWarn, "If boxes are off for long, have the broker keep sessions longer; the back-end sees from the box's status what to say again.",
		"%s had forgotten the box at %s, %s in all: broadcasts sent before may be missing",
		l.Broker, l.At.Local().Format("2006-01-02 15:04"), plural(l.Count, "time"))
	f[0].Cause = "session_lost"
	return f
}
