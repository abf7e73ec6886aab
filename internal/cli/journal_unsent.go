package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/avoqado/avoqado-edge/internal/api"
	"github.com/avoqado/avoqado-edge/internal/daemon"
	"github.com/avoqado/avoqado-edge/internal/journal"
)

func newJournalUnsent(s Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use: "unsent", Short: "How many events the cloud does not have: what deleting the journal would lose", Args: cobra.NoArgs,
		Long: `Prints one number, of the running box or of a stopped one, for scripts. What
came from the cloud counts too while it stands behind an event that is not sent,
and so does what the cloud will not take (events list --parked). A box without a
cloud has sent nothing. Exit code 0: none; 4: some.`,
		Example: "  avoqado-edge journal unsent",
	}
	at := placeFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, cancel := context.WithTimeout(cmd.Context(), askTimeout)
		defer cancel()
		var unsent uint64
		err := at.do(func(c *api.Client) error {
			st, err := c.Status(ctx)
			j := st.Journal
			unsent = j.StoredThrough - min(j.SyncedThrough, j.StoredThrough) + uint64(max(st.Uplink.Parked, 0))
			return err
		}, func(at folder) error {
			return withReader(at.dir, func(r *journal.Reader) error {
				unsent = daemon.Unsent(r)
				return nil
			})
		})
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(s.Out, unsent); err != nil || unsent == 0 {
			return err
		}
		return &silentError{ExitDegraded}
	}
	return cmd
}
