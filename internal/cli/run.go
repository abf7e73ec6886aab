package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/avoqado/avoqado-edge/internal/config"
	"github.com/avoqado/avoqado-edge/internal/daemon"
	"github.com/avoqado/avoqado-edge/internal/logbook"
	"github.com/avoqado/avoqado-edge/internal/service"
)

// defaultConfig is where the package looks for the configuration.
const defaultConfig = "/etc/avoqado-edge/config.yaml"

func configFlag(cmd *cobra.Command) *string {
	return cmd.Flags().StringP("config", "c", "",
		"configuration file (default "+defaultConfig+" if it is there)")
}

// loadConfig reads the file, the environment and the flags, in that order of
// growing weight. An empty path means the default file if it exists, else the
// environment alone.
func loadConfig(path string, overrides map[string]string) (config.Config, error) {
	if path == "" {
		if _, err := os.Stat(defaultConfig); err == nil {
			path = defaultConfig
		} else if !errors.Is(err, fs.ErrNotExist) {
			return config.Config{}, err
		}
	}
	return config.Load(path, os.LookupEnv, overrides)
}

func newRun(s Streams) *cobra.Command {
	var listen, state string
	cmd := &cobra.Command{
		Use: "run", Short: "Run the box until it is told to stop", Args: cobra.NoArgs,
		Long: `Without any configuration, it shows a page that says how to claim the box, and
goes on as the box once there is one.

Runs in the foreground. SIGTERM or Ctrl-C stops it cleanly within five seconds;
a second signal ends it at once, and nothing acknowledged is lost by that
either. Exit code 2: the configuration has problems; 3: another process runs on
the same state directory; 1: anything else.`,
		Example: `  avoqado-edge run
  avoqado-edge run --config config.yaml --listen 127.0.0.1:8080
  avoqado-edge run --config config.yaml --state state   # not as root`,
	}
	path := configFlag(cmd)
	cmd.Flags().StringVar(&listen, "listen", "", "LAN address, overrides lan.listen")
	cmd.Flags().StringVar(&state, "state", "", "folder of the journal, overrides state_dir; the socket is in it, too")
	box := func(cmd *cobra.Command) error {
		overrides := map[string]string{}
		if listen != "" {
			overrides["lan.listen"] = listen
		}
		if state != "" {
			dir, err := filepath.Abs(state)
			if err != nil {
				return err
			}
			overrides["state_dir"] = dir
		}
		if *path == "" && !claimed() {
			log := newLogger(s.Err, config.LogAuto, slog.LevelInfo)
			err := daemon.Unclaimed(cmd.Context(), unclaimedListen(listen), claimed, log)
			// What the service manager hands over it hands over at a start.
			if err != nil || interrupted(cmd) || os.Getenv("CREDENTIALS_DIRECTORY") != "" {
				return err
			}
		}
		cfg, err := loadConfig(*path, overrides)
		if err != nil {
			return err
		}
		level := new(slog.LevelVar)
		level.Set(cfg.Log.Level)
		book := logbook.New()
		log := slog.New(logbook.Calm(slog.NewMultiHandler(newLogger(s.Err, cfg.Log.Format, level).Handler(), book.Handler(level))))
		for _, warning := range cfg.Warnings() {
			log.Warn("configuration", "warning", warning)
		}
		slog.SetDefault(log) // some libraries write to the standard logger
		return runDaemon(cmd.Context(), cfg, daemon.Host{Log: log, Level: level, Book: book, Collect: collect})
	}
	cmd.RunE = untilSignal(func(cmd *cobra.Command, _ []string) error {
		return service.Managed(cmd.Context(), func(ctx context.Context) error {
			cmd.SetContext(ctx)
			return box(cmd)
		})
	})
	return cmd
}

func runDaemon(ctx context.Context, cfg config.Config, host daemon.Host) error {
	d, err := daemon.New(cfg, host)
	if err != nil {
		return err
	}
	stop := onHangup(func() { _, _ = d.Reload(ctx) }) // it logs what came of it
	defer stop()
	return d.Run(ctx)
}

// newLogger writes text for people on a terminal and JSON for a service
// manager, which stamps the time itself.
func newLogger(w io.Writer, format config.LogFormat, level slog.Leveler) *slog.Logger {
	if format == config.LogAuto {
		format = config.LogText
		if !isTerminal(w) {
			format = config.LogJSON
		}
	}
	opts := &slog.HandlerOptions{Level: level}
	if os.Getenv("JOURNAL_STREAM") != "" {
		opts.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}
	}
	if format == config.LogJSON {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// isTerminal reports whether w is a character device, which is as much as is
// needed to choose between a live line and plain ones.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// The logs of commands that are not the daemon.
func wordyLog(w io.Writer) *slog.Logger {
	return newLogger(w, config.LogText, slog.LevelInfo)
}

func newConfig(s Streams) *cobra.Command {
	return group("config", "The configuration: init, check, show", newConfigInit(s), newConfigCheck(s), newConfigShow(s))
}

func newConfigCheck(s Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use: "check [FILE]", Short: "Check the configuration and name every problem with its line", Args: cobra.MaximumNArgs(1),
		Long: `Reads FILE, or that of --config, and the environment as run does. Exit code 0:
good; 2: it has problems, all of which are printed.`,
		Example: "  avoqado-edge config check config.yaml",
	}
	path := configFlag(cmd)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		if len(args) == 1 {
			*path = args[0]
		}
		cfg, err := loadConfig(*path, nil)
		if err != nil {
			return err
		}
		for _, warning := range cfg.Warnings() {
			_, _ = fmt.Fprintln(s.Err, "warning:", warning)
		}
		_, err = fmt.Fprintf(s.Out, "The configuration is good: venue %s, LAN %s, %s.\n",
			cfg.Box.Venue, cfg.LAN.Listen, plural(len(cfg.Uplink.Brokers), "broker"))
		return err
	}
	return cmd
}

func newConfigShow(s Streams) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "show [FILE]", Short: "Print every effective value and where it came from, secrets hidden", Args: cobra.MaximumNArgs(1),
		Example: "  avoqado-edge config show config.yaml",
	}
	path := configFlag(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		if len(args) == 1 {
			*path = args[0]
		}
		cfg, err := loadConfig(*path, nil)
		if err != nil {
			return err
		}
		lines := config.Effective(cfg)
		if asJSON {
			return printJSON(s.Out, lines)
		}
		p := &printer{w: s.Out}
		for _, l := range lines {
			p.line("%-32s %-34s # %s", l.Path, l.Value, l.Origin)
		}
		return p.err
	}
	return cmd
}
