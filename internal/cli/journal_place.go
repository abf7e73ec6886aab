package cli

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/avoqado/avoqado-edge/internal/api"
	"github.com/avoqado/avoqado-edge/internal/daemon"
	"github.com/avoqado/avoqado-edge/internal/journal"
)

// place is where a journal is found: at a running box, or on disk.
type place struct {
	cmd                 *cobra.Command
	socket, config, dir *string
}

func placeFlags(cmd *cobra.Command) place {
	return place{cmd, socketFlag(cmd), configFlag(cmd), dirFlag(cmd)}
}

// do asks the running box, or, if none answers or --dir names a journal, works
// on the files. A box that runs after all holds their lock, so that the two
// can never meet.
func (p place) do(running func(*api.Client) error, stopped func(dir string) error) error {
	if *p.dir != "" {
		return stopped(*p.dir)
	}
	socket := *p.socket
	cfg, cfgErr := loadConfig(*p.config, nil)
	if cfgErr != nil && *p.config != "" {
		return cfgErr
	}
	if *p.config != "" && !p.cmd.Flags().Changed("socket") {
		socket = cfg.Socket
	}
	err := running(api.NewClient(socket))
	if !errors.Is(err, api.ErrNotRunning) || cfgErr != nil || p.cmd.Flags().Changed("socket") {
		return err
	}
	offErr := stopped(daemon.JournalDir(cfg.StateDir))
	if errors.Is(offErr, journal.ErrMissing) {
		return fmt.Errorf("%w, and %w", err, offErr)
	}
	return offErr
}

// sourceOf says whose journal lies in dir, as far as it is known.
func sourceOf(dir string) journal.Source { return daemon.SourceOf(filepath.Dir(filepath.Clean(dir))) }
