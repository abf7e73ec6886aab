package daemon

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/api"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/uplink"
)

func TestWayEndsWhereItIsBroken(t *testing.T) {
	failed := func(name string) uplink.Status {
		return uplink.Status{State: uplink.Offline, Failure: &uplink.Failure{Name: name}}
	}
	for _, tt := range []struct {
		name                     string
		link                     uplink.Status
		reachable, cloud, silent bool
		want                     string
	}{
		{"no cloud", uplink.Status{}, true, false, false, "ok off off off"},
		{"starting", uplink.Status{State: uplink.Connecting}, true, true, false, "ok unknown unknown unknown"},
		{"all is well", uplink.Status{State: uplink.Online, Confirm: uplink.Backend}, true, true, false, "ok ok ok ok"},
		{"overcome", uplink.Status{State: uplink.Online, Failure: &uplink.Failure{Name: uplink.NoLAN}}, true, true, false, "ok ok ok ok"},
		{"not asked", uplink.Status{State: uplink.Online, Confirm: uplink.Broker}, true, true, true, "ok ok ok off"},
		{"silent", uplink.Status{State: uplink.Online, Confirm: uplink.Backend}, true, true, true, "ok ok ok down:silent"},
		{"cable", failed(uplink.NoLAN), true, true, false, "down:no_lan unknown unknown unknown"},
		{"no address", failed(uplink.Lost), false, true, false, "down:no_lan unknown unknown unknown"},
		{"router", failed(uplink.NoRoute), true, true, false, "ok down:no_route unknown unknown"},
		{"provider", failed(uplink.NoInternet), true, true, false, "ok down:no_internet unknown unknown"},
		{"names", failed(uplink.DNS), true, true, false, "ok down:dns unknown unknown"},
		{"broker", failed(uplink.BrokerDown), true, true, false, "ok ok down:broker_down unknown"},
		{"password", failed(uplink.Credentials), true, true, false, "ok ok down:credentials unknown"},
		{"just lost", failed(uplink.Lost), true, true, false, "ok unknown down:lost unknown"},
	} {
		var got []string
		for _, h := range hops(tt.link, tt.reachable, tt.cloud, tt.silent) {
			got = append(got, strings.TrimSuffix(h.State+":"+h.Cause, ":"))
		}
		if s := strings.Join(got, " "); s != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, s, tt.want)
		}
	}
}

// An attempt to connect sees only as far as it comes, and each may come to
// another place: since when a hop is as it is must not begin anew with it.
func TestHopKeepsSinceWhenItIsAsItIs(t *testing.T) {
	begin := time.Unix(1_800_000_000, 0).UTC()
	online := uplink.Status{State: uplink.Online, Confirm: uplink.Backend, Since: begin}
	failed := func(state uplink.State, name string) uplink.Status {
		return uplink.Status{State: state, Since: begin.Add(99500 * time.Millisecond), Confirm: uplink.Backend, Failure: &uplink.Failure{Name: name}}
	}
	fresh := uplink.Status{State: uplink.Connecting, Since: begin}
	type look struct {
		at   int // seconds after begin
		link uplink.Status
		want string // states and since when, in seconds
	}
	for name, looks := range map[string][]look{
		"the line is lost, the provider is away, and the last attempts are vague": {
			{0, fresh, "ok 0 > unknown 0 > unknown 0 > unknown 0"},
			{1, online, "ok 0 > ok 1 > ok 1 > ok 1"},
			{99, online, "ok 0 > ok 1 > ok 1 > ok 1"},
			{100, failed(uplink.Offline, uplink.Lost), "ok 0 > unknown 99.5 > down 99.5 > unknown 99.5"},
			{115, failed(uplink.Offline, uplink.NoInternet), "ok 0 > down 99.5 > unknown 115 > unknown 99.5"},
			{116, failed(uplink.Connecting, uplink.NoInternet), "ok 0 > down 99.5 > unknown 115 > unknown 99.5"},
			{130, failed(uplink.Offline, uplink.Timeout), "ok 0 > unknown 130 > down 99.5 > unknown 99.5"},
			{150, failed(uplink.Connecting, uplink.DNS), "ok 0 > down 99.5 > unknown 150 > unknown 99.5"},
			{160, failed(uplink.Offline, uplink.BrokerDown), "ok 0 > ok 160 > down 99.5 > unknown 99.5"},
			{170, online, "ok 0 > ok 160 > ok 170 > ok 1"},
		},
		"only the broker was away": {
			{1, online, "ok 0 > ok 0 > ok 0 > ok 0"},
			{99, online, "ok 0 > ok 0 > ok 0 > ok 0"},
			{100, failed(uplink.Offline, uplink.Lost), "ok 0 > unknown 99.5 > down 99.5 > unknown 99.5"},
			{106, failed(uplink.Offline, uplink.BrokerDown), "ok 0 > ok 0 > down 99.5 > unknown 99.5"},
		},
		"it never was up": {
			{0, fresh, "ok 0 > unknown 0 > unknown 0 > unknown 0"},
			{9, failed(uplink.Offline, uplink.NoInternet), "ok 0 > down 0 > unknown 0 > unknown 0"},
		},
	} {
		var w way
		for _, l := range looks {
			now := begin.Add(time.Duration(l.at) * time.Second)
			var got []string
			for _, h := range w.set(hops(l.link, true, true, false), w.changed(&l.link, now)) {
				got = append(got, fmt.Sprintf("%s %v", h.State, h.Since.Sub(begin).Seconds()))
			}
			if s := strings.Join(got, " > "); s != l.want {
				t.Errorf("%s: after %d s %s, want %s", name, l.at, s, l.want)
			}
		}
	}
}

// A back-end that fell silent is not well because the link was lost and came
// again, and has been silent since it last said something.
func TestSilentBackendStaysSilent(t *testing.T) {
	begin := time.Unix(1_800_000_000, 0).UTC()
	online := uplink.Status{State: uplink.Online, Confirm: uplink.Backend}
	offline := uplink.Status{State: uplink.Offline, Failure: &uplink.Failure{Name: uplink.BrokerDown}}
	var w way
	for _, l := range []struct {
		at     int
		link   uplink.Status
		synced event.Seq
		want   string
	}{
		{0, online, 7, "ok 0"},
		{10, online, 7, "ok 0"},
		{31, online, 7, "down 0"},
		{40, offline, 7, "unknown 40"},
		{50, online, 7, "down 0"},
		{60, online, 8, "ok 60"},
		{70, offline, 8, "unknown 70"},
		{500, offline, 8, "unknown 70"},
		{501, online, 8, "ok 60"},
	} {
		now := begin.Add(time.Duration(l.at) * time.Second)
		w.listen(&l.link, l.synced, 9, now)
		h := w.set(hops(l.link, true, true, w.silent), w.changed(&l.link, now))[3]
		if got := fmt.Sprintf("%s %v", h.State, h.Since.Sub(begin).Seconds()); got != l.want {
			t.Errorf("after %d s: %s, want %s", l.at, got, l.want)
		}
	}
}

// A night on call is told of a cloud that is gone, whether or not events wait.
func TestWhatIsDownForLongIsAProblem(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	down := api.Hop{Name: "broker", State: hopDown, Cause: "broker_down", Since: now.Add(-downFor)}
	fresh, well, dark := down, down, down
	fresh.Since = now.Add(time.Second - downFor)
	well.State, dark.State = hopOK, hopUnknown
	if got := longDown([]api.Hop{fresh, well, dark}, now); len(got) > 0 {
		t.Errorf("problems %q", got)
	}
	want := "the broker is out of reach since " + down.Since.Local().Format(time.DateTime) + " (broker_down)"
	if got := longDown([]api.Hop{well, down}, now); len(got) != 1 || got[0] != want {
		t.Errorf("problems %q, want %q", got, want)
	}
}
