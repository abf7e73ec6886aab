package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/avoqado/avoqado-edge/internal/api"
	"github.com/avoqado/avoqado-edge/internal/outages"
)

// surroundings is what the console page shows beside the status.
type surroundings struct {
	asked     bool
	terminals []api.Terminal
	hour      api.Figures
	outages   []outages.Outage // the newest first
}

func askAround(ctx context.Context, c *api.Client) (a surroundings, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	a.asked = true
	if a.terminals, err = c.Terminals(ctx); err != nil {
		return a, err
	}
	if a.hour, err = c.History(ctx, 1); err != nil {
		return a, err
	}
	a.outages, err = c.Outages(ctx)
	return a, err
}

const (
	screenTerminals = 40
	screenOutages   = 5
)

func (a *surroundings) print(w io.Writer) error {
	if !a.asked {
		return nil
	}
	p := &printer{w: w}
	p.line("")
	p.line("Last hour %s waited for the cloud", sparkline(a.hour.Waiting))
	p.line("")
	if len(a.terminals) == 0 {
		p.line("Terminals none has come within a week")
	}
	list := slices.Clone(a.terminals)
	slices.SortStableFunc(list, func(x, y api.Terminal) int { return cmp.Compare(rank(x), rank(y)) })
	for i, t := range list[:min(len(list), screenTerminals)] {
		p.line("%-9s %s", heading(i, "Terminals"), describeTerminal(&t))
	}
	if n := len(list) - screenTerminals; n > 0 {
		p.line("%-9s and %d more", "", n)
	}
	p.line("")
	week := 0
	for i := range a.outages {
		if o := &a.outages[i]; o.End.IsZero() || time.Since(o.End) < 7*24*time.Hour {
			if week++; week <= screenOutages {
				p.line("%-9s %s", heading(week-1, "Outages"), describeOutage(o))
			}
		}
	}
	switch {
	case week == 0:
		p.line("Outages   none within a week")
	case week > screenOutages:
		p.line("%-9s and %d more within a week: avoqado-edge outages", "", week-screenOutages)
	}
	return p.err
}

func heading(i int, text string) string {
	if i > 0 {
		return ""
	}
	return text
}

// rank puts those that are away first: they are what one looks for.
func rank(t api.Terminal) int {
	if t.IsOnline {
		return 1
	}
	return 0
}

// sparkline draws figures of which some are unknown, the newest last, as blocks
// of an eighth each, and says the largest.
func sparkline(figures []*int32) string {
	const blocks = "▁▂▃▄▅▆▇█"
	most := int32(0)
	for _, n := range figures {
		if n != nil {
			most = max(most, *n)
		}
	}
	var b strings.Builder
	for _, n := range figures {
		switch {
		case n == nil:
			b.WriteByte(' ')
		case *n == 0:
			b.WriteRune('▁')
		default:
			step := int(math.Ceil(7 * float64(*n) / float64(most))) // 1 to 7: what waits is seen
			b.WriteRune([]rune(blocks)[step])
		}
	}
	return fmt.Sprintf("%s at most %d", b.String(), most)
}

func describeTerminal(t *api.Terminal) string {
	name, state := t.TerminalID, "online"
	if t.Name != "" {
		name = t.Name + " (" + t.TerminalID + ")"
	}
	if !t.IsOnline {
		state = "AWAY"
	}
	said := telemetryOf(t.Telemetry)
	facts := []string{state}
	add := func(present bool, format string, args ...any) {
		if present {
			facts = append(facts, fmt.Sprintf(format, args...))
		}
	}
	add(!t.LastSeen.IsZero(), "seen %s ago", ago(time.Since(t.LastSeen).Milliseconds()))
	add(t.LastSeen.IsZero() && !t.IsOnline, "not seen since the box started")
	add(t.Waiting > 0, "%s waiting", plural(t.Waiting, "event"))
	add(said.battery >= 0, "battery %d %%", said.battery)
	add(said.version != "", "app %s", said.version)
	add(t.Address != "", "at %s", t.Address)
	return fmt.Sprintf("%-24s %s", name, strings.Join(facts, ", "))
}

// saidByTerminal is what a heartbeat tells, in any of the forms that the
// versions of the app give it; battery is -1 if it does not.
type saidByTerminal struct {
	version string
	battery int
}

func telemetryOf(raw json.RawMessage) saidByTerminal {
	type battery struct {
		Level *float64 `json:"level"`
	}
	type device struct {
		Version string          `json:"appVersion"`
		Level   *float64        `json:"batteryLevel"`
		Battery json.RawMessage `json:"battery"` // an object, or a number
	}
	var t struct {
		Version    string `json:"version"`
		AppVersion string `json:"appVersion"`
		Health     struct {
			Battery json.RawMessage `json:"battery"`
			Device  device          `json:"device"`
		} `json:"health"`
		System device `json:"systemInfo"`
	}
	said := saidByTerminal{battery: -1}
	if json.Unmarshal(raw, &t) != nil {
		return said
	}
	said.version = cmp.Or(t.Version, t.AppVersion, t.Health.Device.Version, t.System.Version)
	level := t.System.Level
	for _, raw := range []json.RawMessage{t.System.Battery, t.Health.Battery} {
		var object battery
		var number float64
		switch {
		case json.Unmarshal(raw, &object) == nil && object.Level != nil:
			level = object.Level
		case json.Unmarshal(raw, &number) == nil && len(raw) > 0 && raw[0] != 'n':
			level = &number
		}
	}
	if level != nil {
		said.battery = int(math.Round(*level))
	}
	return said
}
