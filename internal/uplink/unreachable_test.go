package uplink

import (
	"testing"
	"time"
)

// TestUnreachable: only a failed try since the link was lost proves anything.
func TestUnreachable(t *testing.T) {
	lost := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	failed := func(name string, after time.Duration) *Failure { return &Failure{Name: name, At: lost.Add(after)} }
	for what, c := range map[string]struct {
		state   State
		failure *Failure
		want    bool
	}{
		"just started":               {Offline, nil, false},
		"first try under way":        {Connecting, nil, false},
		"online":                     {Online, failed(NoInternet, time.Second), false},
		"online, failed long before": {Online, failed(NoInternet, -time.Hour), false},
		"lost, not tried yet":        {Offline, failed(NoInternet, -time.Hour), false},
		"lost":                       {Offline, failed(Lost, 0), false},
		"lost, no sign of life":      {Offline, failed(Timeout, 0), false},
		"lost, nothing confirmed":    {Connecting, failed(Timeout, 0), false},
		"lost, as the cable was":     {Offline, failed(NoLAN, 0), false},
		"no cable":                   {Offline, failed(NoLAN, time.Second), true},
		"the router is dead":         {Offline, failed(NoRouter, time.Second), true},
		"no internet":                {Offline, failed(NoInternet, time.Second), true},
		"no internet, trying again":  {Connecting, failed(NoInternet, time.Second), true},
		"no name server":             {Offline, failed(DNS, time.Second), true},
		"a login page":               {Offline, failed(CaptivePortal, time.Second), true},
		"nothing answers":            {Offline, failed(Timeout, time.Second), true},
		"the broker is down":         {Offline, failed(BrokerDown, time.Second), true},
		"wrong password":             {Offline, failed(Credentials, time.Second), false},
		"certificate of the box":     {Offline, failed(Certificate, time.Second), false},
		"certificate of the broker":  {Offline, failed(TLS, time.Second), false},
		"clock":                      {Offline, failed(Clock, time.Second), false},
		"cut on request":             {Offline, failed(Interrupted, time.Second), false},
		"another box":                {Offline, failed(Takeover, time.Second), false},
		"a full list":                {Offline, failed(ParkedFull, time.Second), false},
	} {
		u := &Uplink{status: Status{State: c.state, Since: lost, Failure: c.failure}}
		if got := u.Unreachable(); got != c.want {
			t.Errorf("%s: %t", what, got)
		}
	}
}
