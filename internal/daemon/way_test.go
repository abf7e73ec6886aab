package daemon

import (
	"strings"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/api"
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

func TestHopKeepsSinceWhenItIsAsItIs(t *testing.T) {
	var w way
	begin := time.Unix(1_800_000_000, 0).UTC()
	up := [4]api.Hop{{State: hopOK}, {State: hopOK}, {State: hopOK}, {State: hopOK}}
	down := up
	down[2].State = hopDown
	w.set(up, begin)
	w.set(down, begin.Add(time.Minute))
	got := w.set(down, begin.Add(time.Hour))
	if !got[0].Since.Equal(begin) || !got[2].Since.Equal(begin.Add(time.Minute)) {
		t.Errorf("since %v and %v", got[0].Since, got[2].Since)
	}
}
