package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/avoqado/avoqado-edge/internal/api"
	"github.com/avoqado/avoqado-edge/internal/config"
)

const askTimeout = 10 * time.Second

// socketFlag adds --socket to a command that asks a running box.
func socketFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("socket", defaultSocket(),
		"unix socket of the running box (environment AVOQADO_EDGE_SOCKET)")
}

// defaultSocket is where a packaged box listens, unless the environment says
// otherwise.
func defaultSocket() string {
	if path := os.Getenv("AVOQADO_EDGE_SOCKET"); path != "" {
		return path
	}
	for _, dir := range []string{"/run/avoqado-edge", "/var/lib/avoqado-edge"} {
		path := filepath.Join(dir, "avoqado-edge.sock")
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return "/run/avoqado-edge/avoqado-edge.sock"
}

// socketOf is where the box of a configuration answers, unless the flag says
// so. A service manager gives the machine's own box a folder for its socket that
// the command line is not told of, so that one is looked for.
func socketOf(cmd *cobra.Command, flag, configPath string, cfg config.Config) string {
	if cmd.Flags().Changed("socket") {
		return flag
	}
	if _, err := os.Stat(cfg.Socket); err != nil && (configPath == "" || configPath == defaultConfig) {
		return flag
	}
	return cfg.Socket
}

func newStatus(s Streams) *cobra.Command {
	var asJSON, watch, all, ready bool
	cmd := &cobra.Command{
		Use: "status", Short: "How the running box is: uplink, backlog, clients, disk, clock",
		Long: `Asks the running box over its unix socket. Exit code 0: all is well; 4: it runs,
but something needs a look; 3: no box answers. With --ready: 0 if the box takes
events, 1 if it does not, and why.`,
		Example: `  avoqado-edge status
  avoqado-edge status --watch
  avoqado-edge status --ready
  avoqado-edge status --all
  avoqado-edge status --json | jq .journal.backlog`,
		Args: cobra.NoArgs,
	}
	socket := socketFlag(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	cmd.Flags().BoolVar(&watch, "watch", false, "print all again every two seconds until interrupted")
	cmd.Flags().BoolVar(&all, "all", false, "also the terminals, the last hour and the outages of a week")
	cmd.Flags().BoolVar(&ready, "ready", false, "say only whether the box takes events")
	cmd.RunE = untilSignal(func(cmd *cobra.Command, _ []string) error {
		client := api.NewClient(*socket)
		if ready {
			return askReady(cmd.Context(), s.Out, client)
		}
		for {
			st, err := askStatus(cmd.Context(), client)
			var around surroundings
			if err == nil && (watch || all) && !asJSON {
				around, err = askAround(cmd.Context(), client)
			}
			if interrupted(cmd) {
				return nil
			}
			if err != nil {
				return err
			}
			switch {
			case asJSON:
				err = printJSON(s.Out, st)
			case watch && isTerminal(s.Out):
				err = redrawStatus(s.Out, st, &around)
			default:
				err = errors.Join(printStatus(s.Out, st), around.print(s.Out))
			}
			if err != nil {
				return err
			}
			if !watch {
				if len(st.Problems) > 0 {
					return &silentError{ExitDegraded}
				}
				return nil
			}
			select {
			case <-cmd.Context().Done():
				return nil
			case <-time.After(2 * time.Second):
			}
			if !asJSON && !isTerminal(s.Out) {
				_, _ = fmt.Fprintln(s.Out) // between two screens
			}
		}
	})
	return cmd
}

func askReady(ctx context.Context, w io.Writer, c *api.Client) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if err := c.Ready(ctx); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w, "The box takes events.")
	return err
}

func askStatus(ctx context.Context, c *api.Client) (api.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return c.Status(ctx)
}

// redrawStatus shows the status in the place of what the terminal shows: home,
// each line cleared behind its text, then all below (ECMA-48 §8.3.21, 8.3.39,
// 8.3.41), which does not flicker as clearing first would.
func redrawStatus(w io.Writer, st api.Status, around *surroundings) error {
	var screen strings.Builder
	if err := errors.Join(printStatus(&screen, st), around.print(&screen)); err != nil {
		return err
	}
	text := screen.String()
	if lines := strings.SplitAfter(text, "\n"); rows(w) > 1 && len(lines) > rows(w) { // else it would scroll
		text = strings.Join(lines[:rows(w)-1], "")
	}
	_, err := io.WriteString(w, "\x1b[H"+strings.ReplaceAll(text, "\n", "\x1b[K\n")+"\x1b[J")
	return err
}

func printStatus(w io.Writer, st api.Status) error {
	p := &printer{w: w}
	p.line("Box      %s of venue %s, version %s, up %s", st.Box, st.Venue, st.Version, ago(st.UptimeMs))
	behind := ""
	if st.LAN.Behind > 0 {
		behind = fmt.Sprintf(", %d of them read too slowly to be live", st.LAN.Behind)
	}
	if st.LAN.TLS != nil {
		behind += ", TLS on"
	}
	p.line("LAN      %s: %s, %s%s", st.LAN.Address, plural(st.LAN.Clients, "client"), plural(st.LAN.Terminals, "terminal"), behind)
	if st.Boxes.State != "off" {
		p.line("Boxes    %s", describeBoxes(st.Boxes))
	}
	p.line("Uplink   %s", describeUplink(st.Uplink))
	if st.Uplink.State != "off" {
		p.line("Way      %s", describeWay(st.Way))
	}
	if st.Uplink.Remedy != "" {
		p.line("         -> %s", st.Uplink.Remedy)
	}
	if w := st.Uplink.Warning; w != nil {
		p.line("         -> %s", w.Remedy)
	}
	p.line("Journal  stored %d, synced %d, %s on disk in %s", st.Journal.StoredThrough,
		st.Journal.SyncedThrough, size(uint64(max(st.Journal.Bytes, 0))), plural(st.Journal.Segments, "segment"))
	switch b := st.Journal.Backlog; {
	case st.Uplink.State == "off":
		p.line("Backlog  not counted: no cloud is configured")
	case b.Events > 0:
		p.line("Backlog  %s waiting for the cloud, %s, the oldest for %s",
			plural(b.Events, "event"), size(uint64(max(b.Bytes, 0))), ago(b.OldestAgeMs))
	case st.Uplink.Parked > 0:
		p.line("Backlog  none, but for %s that the cloud will not take", plural(st.Uplink.Parked, "event"))
	default:
		p.line("Backlog  none: the cloud has everything")
	}
	wear := ""
	if years := st.Journal.LifeYears; years > 0 {
		wear = fmt.Sprintf(", at this rate good for %.1f years", years)
	}
	p.line("Disk     %s free of %s%s", size(st.Disk.FreeBytes), size(st.Disk.TotalBytes), wear)
	clock := "synchronised"
	switch {
	case !st.Clock.Trusted:
		clock = "not synchronised (yet)"
	case st.Clock.Source == "cloud":
		clock = "not behind the cloud's, and not synchronised"
	}
	p.line("Clock    %s, %s", st.Clock.Now.Local().Format("2006-01-02 15:04:05"), clock)
	p.line("mDNS     %s", describeDiscovery(st.Discovery))
	for _, problem := range st.Problems {
		p.line("LOOK     %s", problem)
	}
	return p.err
}

// describeWay names each hop to the cloud with how it is, and since when.
func describeWay(way []api.Hop) string {
	hops := make([]string, len(way))
	for i, h := range way {
		hops[i] = h.Name + " " + h.State
		if !h.Since.IsZero() && h.State != "off" {
			hops[i] += " for " + ago(time.Since(h.Since).Milliseconds())
		}
	}
	return strings.Join(hops, " > ")
}

func describeBoxes(b api.BoxesStatus) string {
	text := b.State + " for " + ago(time.Since(b.Since).Milliseconds())
	if b.State == "joined" {
		return text + ", with " + plural(b.Others, "other")
	}
	return text + ": " + b.Cause + ": " + b.Error
}

func describeUplink(u api.UplinkStatus) string {
	text := u.State
	if u.Broker != "" {
		text += " to " + u.Broker
	}
	if !u.Since.IsZero() {
		text += " for " + ago(time.Since(u.Since).Milliseconds())
	}
	if u.Error != "" {
		text += ": " + u.Cause + ": " + u.Error
	}
	if l := u.SessionLost; l != nil {
		text += fmt.Sprintf("; %s had forgotten the box at %s", l.Broker, l.At.Local().Format("2006-01-02 15:04"))
	}
	if u.Paused != nil {
		text += "; PAUSED by command " + u.Paused.Command + " for " + ago(time.Since(u.Paused.Since).Milliseconds())
	}
	if u.Replay != nil {
		text += "; sends again what command " + u.Replay.Command + " asked for"
	}
	if u.Parked > 0 {
		text += fmt.Sprintf("; %s parked", plural(u.Parked, "event"))
	}
	if u.Rejected > 0 {
		text += fmt.Sprintf("; %s from the cloud could not be used", plural(u.Rejected, "message"))
	}
	return text
}

func describeDiscovery(d api.DiscoveryStatus) string {
	switch {
	case d.State == "announcing":
		return fmt.Sprintf("announced as %q", d.Instance)
	case d.Error != "":
		return d.State + ": " + d.Error
	}
	return d.State
}

// printer remembers the first error, so that a screen of lines reads as one.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = io.WriteString(p.w, tame(fmt.Sprintf(format+"\n", args...)))
	}
}

// tame takes out of a text what would move a terminal's cursor or change more than
// its own line: some of what is shown was said by others.
func tame(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

func plural[N int | uint64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// size writes a size with binary units, as disks and df -h show it.
func size(n uint64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/1024, 0
	for value >= 1024 && unit < len(units)-1 {
		value, unit = value/1024, unit+1
	}
	return fmt.Sprintf("%.1f %ciB", value, units[unit])
}

// ago writes a number of milliseconds as people say it.
func ago(ms int64) string {
	d := time.Duration(max(ms, 0)) * time.Millisecond // the clock may have been set back
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}
