package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/avoqado/avoqado-edge/internal/cloud"
	"github.com/avoqado/avoqado-edge/internal/event"
)

func newCloudCommand(s Streams) *cobra.Command {
	var (
		f             brokerFlags
		box, id       string
		params, out   string
		wait, expires time.Duration
	)
	cmd := &cobra.Command{
		Use: "command TYPE", Short: "Send a command to a box, as the back-end would, and print its result", Args: cobra.ExactArgs(1),
		Long: `Types: status.report, diagnostics.collect, log.level, drain.pause, drain.resume,
journal.replay. With --out the bundle of diagnostics.collect goes into a file.
Exit code 0: done; 1: failed, expired, rejected, or no answer.`,
		Example: `  avoqado-edge cloud command status.report --broker tcp://127.0.0.1:1883 --venue v1 --box b1
  avoqado-edge cloud command journal.replay --broker … --venue v1 --box b1 --params '{"from":12001}'
  avoqado-edge cloud command diagnostics.collect --broker … --venue v1 --box b1 --out box.tar.gz`,
	}
	f.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&box, "box", "", "id of the box")
	flags.StringVar(&id, "id", "", "id of the command; a repeat gets the first result (default: a new one)")
	flags.StringVar(&params, "params", "", "parameters, a JSON object")
	flags.StringVar(&out, "out", "", "file for the bundle of diagnostics.collect")
	flags.DurationVar(&wait, "wait", askTimeout, "how long to wait for the result")
	flags.DurationVar(&expires, "expires", time.Hour, "not carried out after this time (0: never expires)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		access, prefix, err := f.access()
		if err != nil {
			return err
		}
		if box == "" {
			return usagef("--box is needed")
		}
		c := cloud.Command{ID: id, Type: args[0]}
		if c.ID == "" {
			c.ID = string(event.NewID())
		}
		if params != "" {
			if _, err := event.ParseObject([]byte(params)); err != nil {
				return usagef("--params: %w", err)
			}
			c.Params = json.RawMessage(params)
		}
		if expires > 0 {
			at := time.Now().Add(expires).UTC()
			c.ExpiresAt = &at
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), wait)
		defer cancel()
		r, err := cloud.SendCommand(ctx, access, prefix, box, c)
		if errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("no answer within %s: is the box online? Ask again with --id %s", wait, c.ID)
		}
		if err != nil {
			return err
		}
		if r.Status == "done" && out != "" {
			return saveBundle(s, r.Result, out)
		}
		if err := printJSON(s.Out, r); err != nil {
			return err
		}
		if r.Status != "done" {
			return fmt.Errorf("the command is %s", r.Status)
		}
		return nil
	}
	return cmd
}

// saveBundle writes what a box has collected, and says what it had no room for.
func saveBundle(s Streams, result json.RawMessage, out string) error {
	var b struct {
		File    string
		Bundle  []byte
		LeftOut []string
	}
	if err := json.Unmarshal(result, &b); err != nil || len(b.Bundle) == 0 {
		return fmt.Errorf("the result holds no bundle, so --out has nothing to write: %.200s", result)
	}
	if err := os.WriteFile(out, b.Bundle, 0o600); err != nil {
		return err
	}
	p := &printer{w: s.Out}
	p.line("%s: %s, %s", out, b.File, size(uint64(len(b.Bundle))))
	for _, gone := range b.LeftOut {
		p.line("left out: %s", gone)
	}
	return p.err
}

func newCloudConfig(s Streams) *cobra.Command {
	var f brokerFlags
	cmd := &cobra.Command{
		Use: "config FILE", Short: "Publish a configuration for the boxes of a venue, as the back-end would", Args: cobra.ExactArgs(1),
		Long: `FILE holds {"version","venueStatus","jwks","revoked","serverTime"}; the version
must be above the last one. The broker keeps it for boxes that come later.`,
		Example: `  avoqado-edge cloud config --broker tcp://127.0.0.1:1883 --venue v1 config.json`,
	}
	f.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		access, prefix, err := f.access()
		if err != nil {
			return err
		}
		raw, err := os.ReadFile(args[0])
		if err != nil {
			return err
		}
		if _, err := event.ParseObject(raw); err != nil {
			return usagef("%s: %w", args[0], err)
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), askTimeout)
		defer cancel()
		if err := cloud.SendConfig(ctx, access, prefix, raw); err != nil {
			return err
		}
		_, err = fmt.Fprintln(s.Out, "Sent; the broker has it.")
		return err
	}
	return cmd
}
