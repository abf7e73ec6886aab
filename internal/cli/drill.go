package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/avoqado/avoqado-edge/internal/api"
)

const (
	drillLeast = 5 * time.Second
	drillMost  = 30 * time.Minute
	drillAfter = 3 * time.Minute // for the link to come back, and the backlog to go

	interruptedDrill = "it was interrupted"
)

// drill is the report of one. Times are in milliseconds.
type drill struct {
	Ready     bool   `json:"ready"`
	Fault     string `json:"fault,omitempty"` // why it is not, or why the drill was ended early
	CutMs     int64  `json:"cutMs"`           // how long the box was without the cloud
	Held      uint64 `json:"held"`            // events that waited, at most
	Clients   int    `json:"clients"`         // connected when it began,
	Fewest    int    `json:"fewestClients"`   // at least, while it lasted
	BackMs    int64  `json:"backMs"`          // from its end until the link was there
	SyncedMs  int64  `json:"syncedMs"`        // and until the cloud had what had waited
	Confirmed string `json:"confirmedBy"`     // broker or backend
}

func newDrill(s Streams) *cobra.Command {
	var length time.Duration
	var asJSON, quiet bool
	cmd := &cobra.Command{
		Use: "drill", Short: "Practise an outage: cut the box off from the cloud for a while", Args: cobra.NoArgs, Aliases: []string{"drain"},
		Long: `The link is cut for real, the staff is shown an alert, and all is as before when
the time is over, also if this command is killed. It ends at once if the disk or
the journal complain, and on Ctrl-C. The report tells whether the venue would
get through an outage. Exit code 1: it was not begun; 4: the venue is not ready.`,
		Example: `  avoqado-edge drill --for 2m
  avoqado-edge drill --for 30s --quiet --json`,
	}
	socket := socketFlag(cmd)
	cmd.Flags().DurationVar(&length, "for", 2*time.Minute, "how long, 5s to 30m")
	cmd.Flags().BoolVar(&quiet, "quiet", false, "show the staff no alert")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	cmd.RunE = untilSignal(func(cmd *cobra.Command, _ []string) error {
		if length < drillLeast || length > drillMost {
			return usagef("--for %s is not within %s and %s", length, drillLeast, drillMost)
		}
		d, err := practise(cmd.Context(), s, api.NewClient(*socket), length, quiet)
		if err != nil {
			return err
		}
		if asJSON {
			err = printJSON(s.Out, d)
		} else {
			err = d.print(s)
		}
		if err == nil && !d.Ready {
			err = &silentError{ExitDegraded}
		}
		return err
	})
	return cmd
}

// practise cuts the link, looks on, and waits until all is as before.
func practise(ctx context.Context, s Streams, c *api.Client, length time.Duration, quiet bool) (drill, error) {
	st, err := c.Status(ctx)
	if err != nil {
		return drill{}, err
	}
	switch why := ill(st); {
	case st.Uplink.State != "online":
		return drill{}, fmt.Errorf("the box is not connected to the cloud (%s), so there is nothing to cut: see `avoqado-edge doctor`", st.Uplink.State)
	case why != "":
		return drill{}, errors.New("not begun: " + why)
	}
	d := drill{Clients: st.LAN.Clients, Fewest: st.LAN.Clients, Confirmed: st.Uplink.Confirm}
	if !quiet {
		a := api.Alert{
			Level: "info", Venue: st.Venue, Title: "Simulacro de corte / Outage drill",
			Message: fmt.Sprintf("Durante %s la caja practica un corte de internet. Siga cobrando. / For %s the box practises an internet outage. Go on as usual.", spoken(length), spoken(length)),
			Expires: st.Clock.Now.Add(length), // who comes later is not told of a drill that is over
		}
		if _, err := c.Alert(ctx, a); err != nil {
			return drill{}, fmt.Errorf("tell the staff: %w", err)
		}
	}
	began := time.Now()
	// Interrupted here, the box may have heard it all the same: watch finds out.
	if err := c.Cut(ctx, length); err != nil && ctx.Err() == nil {
		return drill{}, err
	}
	d.watch(ctx, s, c, began.Add(length))
	d.CutMs = time.Since(began).Milliseconds()
	if d.Fault != "" {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTimeout)
		defer cancel()
		return d, c.Cut(end, 0)
	}
	d.restored(ctx, c)
	d.Ready = d.Fault == ""
	return d, nil
}

// spoken is a length of time as the staff reads it, in either language.
func spoken(d time.Duration) string {
	if d%time.Minute == 0 {
		return fmt.Sprintf("%d min", d/time.Minute)
	}
	return fmt.Sprintf("%d s", d/time.Second)
}

// ill says what speaks against cutting a box off; empty: nothing.
func ill(st api.Status) string {
	switch {
	case st.Journal.Fault != "":
		return "the journal does not take events: " + st.Journal.Fault
	case st.Journal.Level != "ok":
		return "room for events is short: " + st.Journal.LevelReason
	case !st.Journal.StuckSince.IsZero() && time.Since(st.Journal.StuckSince) > 5*time.Second:
		return "the disk has not finished a write"
	}
	return ""
}

// watch looks at the box each second until the time is over, or something is
// wrong.
func (d *drill) watch(ctx context.Context, s Streams, c *api.Client, until time.Time) {
	bar := newProgress(s, "without the cloud")
	bar.unit = "s"
	defer bar.end()
	total := time.Until(until)
	for {
		st, err := c.Status(ctx)
		switch {
		case ctx.Err() != nil:
			d.Fault = interruptedDrill
			return
		case err != nil:
			d.Fault = "the box does not answer: " + err.Error()
			return
		case ill(st) != "":
			d.Fault = ill(st)
			return
		}
		d.Held = max(d.Held, st.Journal.Backlog.Events)
		d.Fewest = min(d.Fewest, st.LAN.Clients)
		left := time.Until(until)
		if left <= 0 {
			return
		}
		bar.show(uint64((total - left).Seconds()), uint64(total.Round(time.Second).Seconds())) //nolint:gosec // neither is negative
		pause(ctx, min(left, time.Second))
	}
}

// restored waits until the box is connected, and the cloud has what had waited.
func (d *drill) restored(ctx context.Context, c *api.Client) {
	began, told := time.Now(), ctx
	ctx, cancel := context.WithTimeout(ctx, drillAfter)
	defer cancel()
	var through uint64
	for {
		st, err := c.Status(ctx)
		switch {
		case told.Err() != nil:
			d.Fault = interruptedDrill
			return
		case ctx.Err() != nil && d.BackMs == 0:
			d.Fault = fmt.Sprintf("the link is not back after %s: see `avoqado-edge doctor`", drillAfter)
			return
		case ctx.Err() != nil:
			d.Fault = fmt.Sprintf("what waited has not reached the cloud after %s: see `avoqado-edge status`", drillAfter)
			return
		case err != nil:
			d.Fault = "the box does not answer: " + err.Error()
			return
		}
		if through == 0 {
			through = max(st.Journal.StoredThrough, 1)
		}
		if st.Uplink.State == "online" && d.BackMs == 0 {
			d.BackMs = max(time.Since(began).Milliseconds(), 1)
		}
		if d.BackMs > 0 && (st.Journal.SyncedThrough >= through || st.Journal.Backlog.Events == 0) {
			d.SyncedMs = time.Since(began).Milliseconds()
			return
		}
		pause(ctx, 200*time.Millisecond)
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

func (d *drill) print(s Streams) error {
	p := &printer{w: s.Out}
	p.line("Cut       %s without the cloud", tidy(time.Duration(d.CutMs)*time.Millisecond))
	p.line("Clients   %d when it began, never fewer than %d", d.Clients, d.Fewest)
	if away := d.Clients - d.Fewest; away > 0 {
		p.line("          %d went away while it lasted: an outage is not to be noticed in the venue, see `avoqado-edge status --all`", away)
	}
	p.line("Held      %s", plural(int(d.Held), "event")) //nolint:gosec // far below
	if d.Ready {
		p.line("Back      after %s; the %s had all that waited after %s",
			tidy(time.Duration(d.BackMs)*time.Millisecond), d.Confirmed, tidy(time.Duration(d.SyncedMs)*time.Millisecond))
		if d.Held == 0 {
			p.line("")
			p.line("Ready, but nothing happened while it lasted: practise when the venue is open.")
		} else {
			p.line("")
			p.line("Ready: what happened without the cloud was kept, and reached it.")
		}
		return p.err
	}
	p.line("")
	p.line("NOT READY: %s", d.Fault)
	return p.err
}
