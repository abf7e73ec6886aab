package cli

import (
	"context"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/avoqado/avoqado-edge/internal/config"
	"github.com/avoqado/avoqado-edge/internal/daemon"
)

// fileBundle bounds what goes into a file. There is room; a mail takes it.
const fileBundle = 8 << 20

func newDiagnostics(s Streams) *cobra.Command {
	var out string
	var payloads bool
	cmd := &cobra.Command{
		Use: "diagnostics", Short: "Collect what support looks at into one file", Args: cobra.NoArgs,
		Long: `Writes a .tar.gz with the status, what doctor finds, the outages, the metrics,
the journal's figures, the last log lines and those from before the last start
or crash, what systemd keeps of the log, the last events without their payloads,
and the configuration without its secrets. A part that cannot be had is named in
it, and what had no room is named in left-out.txt. It works without a running
box, which can tell less. The cloud's command diagnostics.collect makes the
same. Exit code 1: the file could not be written.`,
		Example: `  avoqado-edge diagnostics
  avoqado-edge diagnostics --out /tmp/box.tar.gz --payloads`,
	}
	path := configFlag(cmd)
	socket := socketFlag(cmd)
	cmd.Flags().StringVar(&out, "out", "", "file to write (default avoqado-edge-TIME.tar.gz)")
	cmd.Flags().BoolVar(&payloads, "payloads", false, "with the payloads of events")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := loadConfig(*path, nil)
		if err == nil {
			*socket = socketOf(cmd, *socket, *path, cfg)
		}
		if out == "" {
			out = "avoqado-edge-" + time.Now().UTC().Format("20060102T150405Z") + ".tar.gz"
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), time.Minute)
		defer cancel()
		f, createErr := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if createErr != nil {
			return createErr
		}
		parts := gather(ctx, cfg, err, *socket, payloads)
		parts = append(parts, systemLog(ctx))
		b, err := pack(parts, fileBundle)
		if err == nil {
			_, err = f.Write(b.Archive)
		}
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			_ = os.Remove(out) // half a bundle says nothing
			return err
		}
		p := &printer{w: s.Out}
		p.line("%s", out)
		for _, gone := range b.LeftOut {
			p.line("left out: %s", gone)
		}
		return p.err
	}
	return cmd
}

// collect makes the same bundle for the cloud, from within the running box.
func collect(ctx context.Context, cfg config.Config, payloads bool, most int) (daemon.Bundle, error) {
	return pack(gather(ctx, cfg, nil, cfg.Socket, payloads), most)
}
