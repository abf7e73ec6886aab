package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/avoqado/avoqado-edge/internal/api"
)

// listParked prints the parked events, each with why.
func listParked(ctx context.Context, w io.Writer, c *api.Client, v *view) error {
	list, err := c.Parked(ctx)
	if err != nil {
		return err
	}
	for _, p := range list {
		if v.json {
			if !v.payload {
				p.Payload = nil
			}
			enc := json.NewEncoder(w)
			enc.SetEscapeHTML(false)
			if err := enc.Encode(p); err != nil {
				return err
			}
			continue
		}
		if err := v.print(w, p.Record); err != nil {
			return err
		}
		why := fmt.Sprintf("refused: %s", p.Reason)
		if p.Behind > 0 {
			why = fmt.Sprintf("waits for %d", p.Behind)
		}
		out := &printer{w: w}
		if out.line("%23s parked %s, %s", "", p.ParkedAt.Local().Format("2006-01-02 15:04:05"), why); out.err != nil {
			return out.err
		}
	}
	return nil
}

// listSettled prints what operators decided about parked events.
func listSettled(ctx context.Context, w io.Writer, c *api.Client, v *view) error {
	list, err := c.Settled(ctx)
	if err != nil {
		return err
	}
	for _, d := range list {
		if v.json {
			if !v.payload {
				d.Payload = nil
			}
			enc := json.NewEncoder(w)
			enc.SetEscapeHTML(false)
			if err := enc.Encode(d); err != nil {
				return err
			}
			continue
		}
		d.Decided = d.Decision // for its mark
		if err := v.print(w, d.Record); err != nil {
			return err
		}
		what := map[string]string{"retry": "sent again", "edit": "sent again, edited", "drop": "dropped"}[d.Decision]
		if d.Again > 0 {
			what += fmt.Sprintf(" as %d", d.Again)
		}
		if d.Note != "" {
			what += ": " + d.Note
		}
		out := &printer{w: w}
		if out.line("%23s %s %s (it was refused: %s)", "", d.SettledAt.Local().Format("2006-01-02 15:04:05"), what, d.Reason); out.err != nil {
			return out.err
		}
	}
	return nil
}

func newEventsRetry(s Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use: "retry SEQ", Short: "Send a parked event again, and what waits behind it", Args: cobra.ExactArgs(1),
		Long: `For when the back-end has been mended. The event is put into the journal anew,
under its old id; nobody in the venue is shown it again.`,
		Example: "  avoqado-edge events retry 1207",
	}
	return settle(cmd, s, "retry", func() ([]byte, error) { return nil, nil })
}

func newEventsEdit(s Streams) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "edit SEQ", Short: "Send a parked event with another payload, and what waits behind it", Args: cobra.ExactArgs(1),
		Long: `The old payload stays in the record. To get it:
avoqado-edge events list --parked --payload --json`,
		Example: `  avoqado-edge events edit 1207 --payload mended.json --note "amount was a text"`,
	}
	cmd.Flags().StringVar(&file, "payload", "", "file with the new payload, a JSON object")
	_ = cmd.MarkFlagRequired("payload")
	return settle(cmd, s, "edit", func() ([]byte, error) { return os.ReadFile(file) })
}

func newEventsDrop(s Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use: "drop SEQ", Short: "Give a parked event up, and send what waits behind it", Args: cobra.ExactArgs(1),
		Long: `The cloud never gets it. It stays in the journal until it is old enough, and in
the record of decisions (events list --settled).`,
		Example: `  avoqado-edge events drop 1207 --note "booked by hand"`,
	}
	return settle(cmd, s, "drop", func() ([]byte, error) { return nil, nil })
}

// settle completes a command that decides about a parked event.
func settle(cmd *cobra.Command, s Streams, what string, payload func() ([]byte, error)) *cobra.Command {
	var note string
	socket := socketFlag(cmd)
	cmd.Flags().StringVar(&note, "note", "", "why, for the record")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		seq, err := strconv.ParseUint(args[0], 10, 64)
		if err != nil {
			return fmt.Errorf("%q is not a sequence number: see `avoqado-edge events list --parked`", args[0])
		}
		body, err := payload()
		if err != nil {
			return err
		}
		if body != nil && !json.Valid(body) {
			return fmt.Errorf("the new payload is not JSON")
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), askTimeout)
		defer cancel()
		again, err := api.NewClient(*socket).Settle(ctx, seq, what, body, note)
		if err != nil {
			return err
		}
		if again > 0 {
			_, err = fmt.Fprintf(s.Out, "event %d is sent again as %d\n", seq, again)
		} else {
			_, err = fmt.Fprintf(s.Out, "event %d is dropped\n", seq)
		}
		return err
	}
	return cmd
}
