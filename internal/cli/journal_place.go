package cli

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/avoqado/avoqado-edge/internal/api"
	"github.com/avoqado/avoqado-edge/internal/config"
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
func (p place) do(running func(*api.Client) error, stopped func(folder) error) error {
	if *p.dir != "" {
		at, err := findFolder(*p.dir, *p.config)
		if err != nil {
			return err
		}
		return stopped(at)
	}
	socket := *p.socket
	cfg, cfgErr := loadConfig(*p.config, nil)
	if cfgErr != nil && *p.config != "" {
		return cfgErr
	}
	if *p.config != "" {
		socket = socketOf(p.cmd, socket, *p.config, cfg)
	}
	err := running(api.NewClient(socket))
	if !errors.Is(err, api.ErrNotRunning) || cfgErr != nil || p.cmd.Flags().Changed("socket") {
		return err
	}
	offErr := stopped(folder{daemon.JournalDir(cfg.StateDir), &cfg})
	if errors.Is(offErr, journal.ErrMissing) {
		return fmt.Errorf("%w, and %w", err, offErr)
	}
	return offErr
}

// folder is the journal of a box that does not run.
type folder struct {
	dir string
	cfg *config.Config // nil: only the folder is known
}

// findFolder finds it by --dir, or by the configuration. With --dir alone no
// configuration is read: the card may be another box's.
func findFolder(dir, configPath string) (folder, error) {
	if dir != "" && configPath == "" {
		return folder{dir: dir}, nil
	}
	cfg, err := loadConfig(configPath, nil)
	if err != nil {
		return folder{}, err
	}
	if dir == "" {
		dir = daemon.JournalDir(cfg.StateDir)
	}
	return folder{dir, &cfg}, nil
}

// options are those of the box, as far as it is known.
func (f folder) options(log *slog.Logger) journal.Options {
	if f.cfg == nil {
		return journal.Options{Log: log}
	}
	return daemon.JournalOptions(*f.cfg, log)
}

// stateDir is where the journal's box keeps what else it knows.
func (f folder) stateDir() string { return filepath.Dir(filepath.Clean(f.dir)) }

// adoption is nil for a folder that is not where a box looks for its journal:
// nobody would read what is noted beside it.
func (f folder) adoption() journal.Adopter {
	if daemon.JournalDir(f.stateDir()) != filepath.Clean(f.dir) {
		return nil
	}
	a := daemon.Adoption{StateDir: f.stateDir()}
	if f.cfg != nil {
		a.Venue, a.Box = f.cfg.Box.Venue, f.cfg.Box.ID
	}
	return a
}
