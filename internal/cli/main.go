package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/avoqado/avoqado-edge/internal/api"
	"github.com/avoqado/avoqado-edge/internal/buildinfo"
	"github.com/avoqado/avoqado-edge/internal/config"
	"github.com/avoqado/avoqado-edge/internal/journal"
)

// Exit codes; they are a contract for scripts.
const (
	ExitOK         = 0
	ExitFailed     = 1
	ExitUsage      = 2 // wrong flags, or a configuration with problems
	ExitNotRunning = 3 // no box answers, or another one holds the journal
	ExitDegraded   = 4 // it runs, but a check found something
)

// Streams are the standard streams of a command.
type Streams struct {
	In  io.Reader
	Out io.Writer // facts
	Err io.Writer // words

	now func() time.Time // for progress; nil: time.Now
}

// Main runs the command line and returns the exit code. SIGINT or SIGTERM ends
// a command that only asks or checks at once; one that serves or watches is
// told to come to its end, and a second signal ends it at once.
func Main(ctx context.Context, args []string, s Streams) int {
	root := newRoot(s)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return ExitOK
	}
	code := exitCode(err)
	if _, silent := errors.AsType[*silentError](err); !silent {
		printError(s.Err, cmd, err, code)
	}
	return code
}

// untilSignal wraps a command that has something to bring to an end: its
// context ends with the first SIGINT or SIGTERM.
func untilSignal(run func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		// After the first signal the default handling comes back.
		context.AfterFunc(ctx, stop)
		cmd.SetContext(ctx)
		return run(cmd, args)
	}
}

// interrupted reports whether the command was told to end, after which what
// failed is of no interest any more.
func interrupted(cmd *cobra.Command) bool { return cmd.Context().Err() != nil }

// silentError carries an exit code for a command that has said all there is
// to say.
type silentError struct{ code int }

func (e *silentError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// usageError is a mistake in the command itself.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

func exitCode(err error) int {
	var (
		silent *silentError
		usage  *usageError
		conf   *config.Error
		locked *journal.LockedError
	)
	switch {
	case errors.As(err, &silent):
		return silent.code
	case errors.As(err, &usage), errors.As(err, &conf):
		return ExitUsage
	case errors.Is(err, api.ErrNotRunning), errors.As(err, &locked):
		return ExitNotRunning
	}
	return ExitFailed
}

func printError(w io.Writer, cmd *cobra.Command, err error, code int) {
	var conf *config.Error
	if errors.As(err, &conf) && len(conf.Problems) > 1 {
		_, _ = fmt.Fprintf(w, "avoqado-edge: the configuration has %d problems:\n%v\n", len(conf.Problems), conf)
		return
	}
	_, _ = fmt.Fprintf(w, "avoqado-edge: %v\n", err)
	if code == ExitUsage && cmd != nil && conf == nil {
		_, _ = fmt.Fprintf(w, "Try '%s --help'.\n", cmd.CommandPath())
	}
}

func newRoot(s Streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "avoqado-edge",
		Short: "The venue box: terminals and dashboards on the LAN, every event on disk, in step with the cloud",
		Example: `  avoqado-edge dev                          # a whole venue on this machine
  avoqado-edge run --config /etc/avoqado-edge/config.yaml
  avoqado-edge status`,
		Version:       buildinfo.Read().String(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	root.AddCommand(
		newDev(s), newRun(s), newReload(s), newClaim(s), newConfig(s), newToken(s), newStatus(s), newPair(s), newDiscover(s), newDoctor(s), newOutages(s), newDrill(s), newAlert(s), newDiagnostics(s), newEvents(s),
		newJournal(s), newService(s), newBackup(s), newRestore(s), newCloud(s), newSimulate(s), newVersion(s),
	)
	argErrorsAreUsage(root)
	return root
}

// argErrorsAreUsage makes wrong arguments and unknown commands exit with 2.
func argErrorsAreUsage(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return &usageError{withSuggestion(c, args, err)}
			}
			return nil
		}
	}
	for _, child := range cmd.Commands() {
		argErrorsAreUsage(child)
	}
}

func withSuggestion(cmd *cobra.Command, args []string, err error) error {
	if !cmd.HasSubCommands() || len(args) == 0 {
		return err
	}
	cmd.SuggestionsMinimumDistance = 2 // typing mistakes
	near := cmd.SuggestionsFor(args[0])
	if len(near) == 0 {
		return fmt.Errorf("unknown command %q", args[0])
	}
	return fmt.Errorf("unknown command %q, did you mean %s?", args[0], strings.Join(near, " or "))
}

// group returns a command that only holds others.
func group(use, short string, children ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs, DisableFlagsInUseLine: true,
		RunE: func(*cobra.Command, []string) error {
			names := make([]string, 0, len(children))
			for _, c := range children {
				names = append(names, c.Name())
			}
			return usagef("%s needs one of: %s", use, strings.Join(names, ", "))
		},
	}
	cmd.AddCommand(children...)
	return cmd
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func newVersion(s Streams) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "version", Short: "Say which build this is", Args: cobra.NoArgs,
		Example: "  avoqado-edge version --json",
		RunE: func(*cobra.Command, []string) error {
			if asJSON {
				return printJSON(s.Out, buildinfo.Read())
			}
			_, err := fmt.Fprintln(s.Out, buildinfo.Read().String())
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}
