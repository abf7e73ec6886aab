package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/avoqado/avoqado-edge/internal/api"
	"github.com/avoqado/avoqado-edge/internal/event"
)

func newEvents(s Streams) *cobra.Command {
	return group("events", "What happened: tail, list, show; what the cloud will not take: retry, edit, drop",
		newEventsTail(s), newEventsList(s), newEventsShow(s), newEventsRetry(s), newEventsEdit(s), newEventsDrop(s))
}

// view is how an event is printed.
type view struct {
	json    bool
	payload bool
}

func (v *view) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&v.json, "json", false, "print one JSON object a line")
	cmd.Flags().BoolVar(&v.payload, "payload", false, "show payloads too (they may hold customers' data)")
}

func (v *view) print(w io.Writer, r api.Record) error {
	if !v.payload {
		r.Payload = nil
	}
	if v.json {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		return enc.Encode(r)
	}
	mark := " "
	switch {
	case r.Synced:
		mark = "✓"
	case r.Parked, r.Decided == "drop":
		mark = "✗"
	case r.Decided != "":
		mark = "↷"
	}
	who := r.Origin
	if r.Actor != "" {
		who = r.Role + " " + r.Actor
	}
	text := fmt.Sprintf("%s %8d %s  %-22s %-20s %s", r.Time.Local().Format("15:04:05.000"), r.Seq, mark, r.Event, r.Subject, who)
	if v.payload {
		text += "  " + string(r.Payload)
	}
	p := &printer{w: w}
	p.line("%s", strings.ReplaceAll(text, "\n", " ")) // one event is one line, whatever it says
	return p.err
}

func newEventsTail(s Streams) *cobra.Command {
	var (
		v      view
		after  int64
		kind   string
		class  string
		filter string
	)
	cmd := &cobra.Command{
		Use: "tail", Short: "Print events as they are stored, until interrupted", Args: cobra.NoArgs,
		Long: `Prints time, sequence number, a tick for what the cloud has, a cross for what
it will not take, or ↷ for what an operator then had sent from another place,
event, subject and sender. --class and --filter find what those of the console
page find; the words of a filter may be in an event's name, subject, sender,
terminal, number, id or payload, shown or not.`,
		Example: `  avoqado-edge events tail
  avoqado-edge events tail --filter 'AVQD-77 mxn'
  avoqado-edge events tail --after 0 --event payment_completed --json`,
	}
	socket := socketFlag(cmd)
	v.flags(cmd)
	cmd.Flags().Int64Var(&after, "after", -1, "begin behind this sequence number instead of now")
	cmd.Flags().StringVar(&kind, "event", "", "only events of this name")
	cmd.Flags().StringVar(&class, "class", "", "only money, orders, alerts, service or telemetry")
	cmd.Flags().StringVar(&filter, "filter", "", "only events that have all these words")
	cmd.RunE = untilSignal(func(cmd *cobra.Command, _ []string) error {
		if class != "" && !isClass(class) {
			return usagef("--class %s is not money, orders, alerts, service or telemetry", class)
		}
		err := api.NewClient(*socket).Tail(cmd.Context(), after, func(r api.Record) error {
			if kind != "" && r.Event != kind || class != "" && r.Class != class || !r.Matches(filter) {
				return nil
			}
			return v.print(s.Out, r)
		})
		if interrupted(cmd) {
			return nil
		}
		return err
	})
	return cmd
}

func isClass(name string) bool {
	for c := event.Telemetry; c <= event.Money; c++ {
		if c.String() == name {
			return true
		}
	}
	return false
}

func newEventsList(s Streams) *cobra.Command {
	var (
		v       view
		after   int64
		limit   int
		parked  bool
		settled bool
	)
	cmd := &cobra.Command{
		Use: "list", Short: "Print the newest stored events, oldest first", Args: cobra.NoArgs,
		Example: `  avoqado-edge events list --limit 10
  avoqado-edge events list --after 1200 --payload --json
  avoqado-edge events list --parked
  avoqado-edge events list --settled`,
	}
	socket := socketFlag(cmd)
	v.flags(cmd)
	cmd.Flags().Int64Var(&after, "after", -1, "begin behind this sequence number")
	cmd.Flags().IntVar(&limit, "limit", 50, "how many, 1 to 1000")
	cmd.Flags().BoolVar(&parked, "parked", false, "those that the cloud will not take, and those that wait behind them")
	cmd.Flags().BoolVar(&settled, "settled", false, "what operators decided about parked ones, the newest 200")
	cmd.MarkFlagsMutuallyExclusive("parked", "settled")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, cancel := context.WithTimeout(cmd.Context(), askTimeout)
		defer cancel()
		switch {
		case parked:
			return listParked(ctx, s.Out, api.NewClient(*socket), &v)
		case settled:
			return listSettled(ctx, s.Out, api.NewClient(*socket), &v)
		}
		records, err := api.NewClient(*socket).Events(ctx, after, limit)
		if err != nil {
			return err
		}
		for _, r := range records {
			if err := v.print(s.Out, r); err != nil {
				return err
			}
		}
		return nil
	}
	return cmd
}

func newEventsShow(s Streams) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "show ID", Short: "Show one event and how far it came", Args: cobra.ExactArgs(1),
		Long:    "ID is an event id or a sequence number.",
		Example: "  avoqado-edge events show 1207",
	}
	socket := socketFlag(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, cancel := context.WithTimeout(cmd.Context(), askTimeout)
		defer cancel()
		r, err := api.NewClient(*socket).Event(ctx, args[0])
		if err != nil {
			return err
		}
		if asJSON {
			return printJSON(s.Out, r)
		}
		return printHops(s.Out, r)
	}
	return cmd
}

func printHops(w io.Writer, r api.Record) error {
	p := &printer{w: w}
	p.line("%s  %s", r.Event, r.ID)
	from := "from the cloud"
	if r.Origin != "cloud" {
		from = fmt.Sprintf("from %s %s", r.Role, r.Actor)
		if r.Terminal != "" {
			from += " at terminal " + r.Terminal
		}
	}
	p.line("  accepted  %s  %s", r.Time.Local().Format("2006-01-02 15:04:05.000"), from)
	p.line("  stored    as %d of epoch %s", r.Seq, r.Epoch)
	switch {
	case r.Origin == "cloud":
		p.line("  cloud     it came from there")
	case r.Synced:
		p.line("  cloud     confirmed")
	case r.Parked:
		p.line("  cloud     not taken: avoqado-edge events list --parked says why")
	case r.Decided == "drop":
		p.line("  cloud     not taken, and dropped by an operator: avoqado-edge events list --settled")
	case r.Decided != "":
		p.line("  cloud     not taken, and sent again from another place: avoqado-edge events list --settled")
	default:
		p.line("  cloud     waiting")
	}
	if !r.Expires.IsZero() {
		p.line("  expires   %s", r.Expires.Local().Format("2006-01-02 15:04:05"))
	}
	p.line("  payload   %s", r.Payload)
	return p.err
}
