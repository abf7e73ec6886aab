package cli

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/api"
	"github.com/avoqado/avoqado-edge/internal/outages"
)

// The screen has what the console page has: the terminals with what they say of
// themselves, the last hour, the outages of a week.
func TestStatusAround(t *testing.T) {
	now := time.Now()
	figure := func(n int32) *int32 { return &n }
	a := surroundings{
		asked: true,
		terminals: []api.Terminal{
			{TerminalID: "T1", Name: "Barra", IsOnline: true, LastSeen: now.Add(-4 * time.Second), Address: "192.168.1.21", Telemetry: json.RawMessage(`{"version":"2.9.2","systemInfo":{"batteryLevel":41.6}}`)},
			{TerminalID: "T2", LastSeen: now.Add(-2 * time.Hour), Waiting: 3, Telemetry: json.RawMessage(`{"health":{"battery":{"level":7},"device":{"appVersion":"2.8.0"}}}`)},
			{TerminalID: "T3", IsOnline: true, Telemetry: json.RawMessage(`{"systemInfo":{"battery":88}}`)},
			{TerminalID: "T4", IsOnline: true, Telemetry: json.RawMessage(`"nonsense"`)},
		},
		hour: api.Figures{Waiting: []*int32{nil, figure(0), figure(1), figure(40), figure(80)}},
		outages: []outages.Outage{
			{ID: 2, Start: now.Add(-time.Minute), Cause: "no_internet", Held: outages.Held{Events: 3}},
			{ID: 1, Start: now.Add(-30 * 24 * time.Hour), End: now.Add(-29 * 24 * time.Hour), Synced: now, Cause: "dns"},
		},
	}
	for range 60 {
		a.terminals = append(a.terminals, api.Terminal{TerminalID: "many", IsOnline: true})
	}
	var out strings.Builder
	if err := a.print(&out); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	for _, want := range []string{
		"Last hour  ▁▂▅█ at most 80 waited for the cloud",
		"Terminals T2                       AWAY, seen 2 h 0 min ago, 3 events waiting, battery 7 %, app 2.8.0",
		"Barra (T1)               online, seen 4 s ago, battery 42 %, app 2.9.2, at 192.168.1.21",
		"T3                       online, battery 88 %\n", "T4                       online\n", "and 24 more\n",
		"no_internet    LASTS, for 1 min",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "dns") {
		t.Errorf("an outage of last month:\n%s", text)
	}
	out.Reset()
	if err := (&surroundings{asked: true}).print(&out); err != nil || !strings.Contains(out.String(), "none has come within a week") || !strings.Contains(out.String(), "none within a week") {
		t.Errorf("%v: %s", err, out.String())
	}
	if got := sparkline(nil); got != " at most 0" {
		t.Errorf("%q", got)
	}
}

// The cloud does not have everything while it will not take something.
func TestStatusNamesWhatIsParked(t *testing.T) {
	var out strings.Builder
	if err := printStatus(&out, api.Status{Uplink: api.UplinkStatus{State: "online", Parked: 2}}); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); strings.Contains(got, "has everything") || !strings.Contains(got, "none, but for 2 events that the cloud will not take") {
		t.Error(got)
	}
}

// What a terminal says of itself or of an order is shown to a technician, and does
// nothing to the screen: no line is forged, no escape sequence gets through.
func TestWhatOthersSayIsShownAlone(t *testing.T) {
	var out strings.Builder
	r := api.Record{Seq: 7, Event: "order_created", Subject: "o1\x1b]52;c;cm0=\a\n12:00:00.000 8 ✓ payment_completed", Payload: json.RawMessage("{\n\"a\": 1}")}
	if err := (&view{payload: true}).print(&out, r); err != nil {
		t.Fatal(err)
	}
	a := surroundings{asked: true, terminals: []api.Terminal{{TerminalID: "t1", Name: "Caja\x1b[2J\u009b1A"}}}
	if err := a.print(&out); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	first, _, _ := strings.Cut(text, "\n")
	if strings.ContainsAny(text, "\x1b\a\u009b") || !strings.Contains(first, "payment_completed") || !strings.Contains(first, `{ "a": 1}`) || !strings.Contains(text, "Caja") {
		t.Errorf("%q", text)
	}
}

// A clock that was set back makes no length of time negative.
func TestNoTimeIsNegative(t *testing.T) {
	if got := describeWay([]api.Hop{{Name: "lan", State: "ok", Since: time.Now().Add(time.Hour)}}); got != "lan ok for 0 s" {
		t.Error(got)
	}
}
