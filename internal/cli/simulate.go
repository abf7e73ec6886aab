package cli

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/simulate"
)

func newSimulate(s Streams) *cobra.Command {
	var (
		plan     simulate.Plan
		duration time.Duration
		asJSON   bool
	)
	cmd := &cobra.Command{
		Use: "simulate", Short: "Run terminals and dashboards against a box and sum up what they saw", Args: cobra.NoArgs,
		Long: `Speaks real Socket.IO to --url. Tokens are minted with the secret of --config or
ACCESS_TOKEN_SECRET. Events that had no acknowledgement are sent again under the
same idempotency key, as a good terminal does. It makes real events in the box's
venue: use it before opening time, or against a test box. Exit code 1: the box
took no event at all.`,
		Example: `  avoqado-edge simulate --config config.yaml --events 200 --rate 20
  avoqado-edge simulate --url http://192.168.1.10:8080 --venue v1 --for 1m`,
	}
	path := configFlag(cmd)
	cmd.Flags().StringVar(&plan.URL, "url", "http://127.0.0.1:8080", "the box")
	cmd.Flags().StringVar(&plan.Venue, "venue", "", "venue id (default: the configuration's)")
	cmd.Flags().IntVar(&plan.Terminals, "terminals", 3, "simulated terminals")
	cmd.Flags().IntVar(&plan.Dashboards, "dashboards", 1, "simulated dashboards")
	cmd.Flags().Float64Var(&plan.Rate, "rate", 2, "events per second over all terminals")
	cmd.Flags().IntVar(&plan.Events, "events", 0, "stop after this many events (0: no limit)")
	cmd.Flags().DurationVar(&duration, "for", 0, "stop after this time (0: at Ctrl-C or --events)")
	cmd.Flags().Uint64Var(&plan.Seed, "seed", 1, "seed of the random choices")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the summary as JSON")
	cmd.RunE = untilSignal(func(cmd *cobra.Command, _ []string) error {
		if plan.Terminals < 0 || plan.Dashboards < 0 || plan.Rate <= 0 {
			return usagef("--terminals and --dashboards must not be negative, --rate must be above zero")
		}
		secret, venue, err := secretAndVenue(*path)
		if err != nil {
			return err
		}
		if plan.Venue == "" {
			plan.Venue = venue
		}
		if plan.Venue == "" {
			return usagef("--venue is needed: there is no configuration that names one")
		}
		plan.Token, err = minter(secret, plan.Venue)
		if err != nil {
			return err
		}
		plan.URL = strings.TrimSuffix(plan.URL, "/")
		plan.Log = slog.New(slog.DiscardHandler)
		ctx := cmd.Context()
		if duration > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, duration)
			defer cancel()
		}
		live := newLiveLine(s.Err)
		summary, err := simulate.Run(ctx, plan, func(p simulate.Snapshot) { live.show(p.String()) })
		live.end()
		if err != nil {
			return err
		}
		if asJSON {
			err = printJSON(s.Out, summary)
		} else {
			_, err = fmt.Fprintln(s.Out, summary)
		}
		if err == nil && plan.Terminals > 0 && summary.Total.Acknowledged == 0 {
			err = &silentError{ExitFailed} // the summary says so
		}
		return err
	})
	return cmd
}

// tokenMinter makes a token for a role, a staff id and a terminal (or none).
type tokenMinter = func(role event.Role, subject, terminal string) (string, error)

// minter makes tokens for simulated people, valid for a day.
func minter(secret []byte, venue string) (tokenMinter, error) {
	v, err := auth.NewVerifier(auth.Config{Venue: venue, Secret: secret}, time.Now)
	if err != nil {
		return nil, &usageError{err}
	}
	return func(role event.Role, subject, terminal string) (string, error) {
		return v.Mint(auth.Grant{Subject: subject, Org: venue, Venue: venue, Role: role, Terminal: terminal}, 24*time.Hour)
	}, nil
}
