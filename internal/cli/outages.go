package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/avoqado/avoqado-edge/internal/api"
	"github.com/avoqado/avoqado-edge/internal/outages"
)

func newOutages(s Streams) *cobra.Command {
	var format, lang string
	var id uint64
	cmd := &cobra.Command{
		Use: "outages", Short: "What kept events from the cloud, when, and what was held back", Args: cobra.NoArgs,
		Long: `Lists the outages of the way to the cloud, the newest first: of the last 90
days, 200 at most. With --id it tells one: its cause and what the box saw, what
was held, with money by kind and currency, what reached the cloud late, and
whose terminals' events waited. --format html is a page to be printed; without
--id it is of the newest outage.`,
		Example: `  avoqado-edge outages
  avoqado-edge outages --id 12 --lang en
  avoqado-edge outages --id 12 --format html > outage.html`,
	}
	socket := socketFlag(cmd)
	cmd.Flags().Uint64Var(&id, "id", 0, "tell this one; 0: list all")
	cmd.Flags().StringVar(&format, "format", "text", "text, html or json")
	cmd.Flags().StringVar(&lang, "lang", "", "es or en (default: of the environment, else es)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if format != "text" && format != "html" && format != "json" {
			return usagef("--format is text, html or json, not %q", format)
		}
		if lang != "" && lang != "es" && lang != "en" {
			return usagef("--lang is es or en, not %q", lang)
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), askTimeout)
		defer cancel()
		c := api.NewClient(*socket)
		list, err := c.Outages(ctx)
		if err != nil {
			return err
		}
		if id == 0 && format != "html" {
			if format == "json" {
				return printJSON(s.Out, map[string]any{"outages": list})
			}
			return listOutages(s.Out, list)
		}
		st, err := c.Status(ctx)
		if err != nil {
			return err
		}
		if lang == "" {
			lang = os.Getenv("LANG")
		}
		for _, o := range list {
			if id != 0 && o.ID != id {
				continue
			}
			r := outages.Report{Outage: o, Venue: st.Venue, Box: st.Box, Now: time.Now(), In: outages.ParseLanguage(lang)}
			switch format {
			case "json":
				return printJSON(s.Out, o)
			case "html":
				return r.HTML(s.Out)
			}
			return r.Text(s.Out)
		}
		if id == 0 {
			return fmt.Errorf("no outage is known")
		}
		return fmt.Errorf("no outage %d is known: see `avoqado-edge outages`", id)
	}
	return cmd
}

func listOutages(w io.Writer, list []outages.Outage) error {
	p := &printer{w: w}
	if len(list) == 0 {
		p.line("no outage is known")
	}
	for i := range list {
		p.line("%4s  %s", strconv.FormatUint(list[i].ID, 10), describeOutage(&list[i]))
	}
	return p.err
}

func describeOutage(o *outages.Outage) string {
	state := "lasted " + ago(o.Lasted(time.Now()).Milliseconds())
	if o.End.IsZero() {
		state = "LASTS, for " + ago(o.Lasted(time.Now()).Milliseconds())
	} else if o.Synced.IsZero() {
		state += ", not all of it is in the cloud yet"
	}
	return fmt.Sprintf("%s  %-14s %s; %s held, %d of them money",
		o.Start.Local().Format("2006-01-02 15:04:05"), o.Cause, state, plural(o.Held.Events, "event"), o.Held.Classes["money"])
}
