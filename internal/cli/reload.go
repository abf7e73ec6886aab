package cli

import (
	"context"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/avoqado/avoqado-edge/internal/api"
)

func newReload(s Streams) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "reload", Short: "Have the running box read its configuration again", Args: cobra.NoArgs,
		Long: `What can change under a running box is in force on return: log.level, auth
(keys, secrets, issuers, audiences, the lease) and lan.allowed_hosts. Nobody is
disconnected who is still let in. A configuration with problems is refused as a
whole and the box goes on as it was; so is one whose new auth.jwks_file or
auth.jwks_url gives no keys. What needs a restart is named. systemctl reload and
SIGHUP do the same. Exit code 1: refused; 3: no box answers.`,
		Example: "  avoqado-edge reload",
	}
	socket := socketFlag(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, cancel := context.WithTimeout(cmd.Context(), askTimeout)
		defer cancel()
		done, err := api.NewClient(*socket).Reload(ctx)
		switch {
		case err != nil:
			return err
		case asJSON:
			return printJSON(s.Out, done)
		}
		p := &printer{w: s.Out}
		if len(done.Applied)+len(done.Restart) == 0 {
			p.line("Nothing has changed.")
		}
		if len(done.Applied) > 0 {
			p.line("In force now: %s.", strings.Join(done.Applied, ", "))
		}
		if len(done.Restart) > 0 {
			p.line("Needs a restart: %s.", strings.Join(done.Restart, ", "))
		}
		return p.err
	}
	return cmd
}

// onHangup calls reload for every SIGHUP until stop is called, which waits for
// the last one.
func onHangup(reload func()) (stop func()) {
	hups, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(hups, syscall.SIGHUP)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-hups:
				reload()
			case <-done:
				return
			}
		}
	})
	return func() {
		signal.Stop(hups)
		close(done)
		wg.Wait()
	}
}
