package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/avoqado/avoqado-edge/internal/cloud"
	"github.com/avoqado/avoqado-edge/internal/event"
)

func newCloudEffects(s Streams) *cobra.Command {
	var (
		from    uint64
		refused bool
		asJSON  bool
	)
	cmd := &cobra.Command{
		Use: "effects FILE", Short: "Print what took effect at a reference back-end, from its file", Args: cobra.ExactArgs(1),
		Long: `FILE is the --store of cloud listen, which must not be running. Each line is one
effect, in the order they were committed; "early" marks those that came on the
live lane, ahead of the events before them. How far each box is committed is
said at the end, on standard error.`,
		Example: "  avoqado-edge cloud effects ledger.db --from 12001\n  avoqado-edge cloud effects ledger.db --refused --json",
	}
	flags := cmd.Flags()
	flags.Uint64Var(&from, "from", 0, "only events from this sequence on")
	flags.BoolVar(&refused, "refused", false, "print what was refused, with the reason, instead")
	flags.BoolVar(&asJSON, "json", false, "print each as one JSON line")
	cmd.RunE = func(_ *cobra.Command, args []string) (err error) {
		ledger, err := cloud.OpenLedger(args[0])
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, ledger.Close()) }()
		read := ledger.Each
		if refused {
			read = ledger.Refusals
		}
		if err := read(func(e cloud.Effect) error {
			if e.Seq >= event.Seq(from) {
				printEffect(s.Out, e, asJSON)
			}
			return nil
		}); err != nil {
			return err
		}
		list, err := ledger.Positions()
		for _, p := range list {
			_, _ = fmt.Fprintf(s.Err, "%s epoch %s: committed through %d, %d beyond it\n", p.Source, p.Epoch, p.Through, p.Early)
		}
		return err
	}
	return cmd
}

// refuser says no to some events, for practice; nil if to none.
func refuser(types, ids []string) func(cloud.Effect) string {
	if len(types)+len(ids) == 0 {
		return nil
	}
	return func(e cloud.Effect) string {
		switch {
		case slices.Contains(ids, string(e.ID)):
			return "refused by its id"
		case slices.Contains(types, e.Type), slices.Contains(types, strings.TrimPrefix(e.Type, "io.avoqado.")):
			return "refused by its type"
		}
		return ""
	}
}
