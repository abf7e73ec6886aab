package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/avoqado/avoqado-edge/internal/api"
	"github.com/avoqado/avoqado-edge/internal/daemon"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/journal"
)

func newJournalExport(s Streams) *cobra.Command {
	var (
		after uint64
		kind  string
	)
	cmd := &cobra.Command{
		Use: "export [FILE]", Short: "Write events as lines of JSON, with every field and payload", Args: cobra.MaximumNArgs(1),
		Long: `Works on a running box and on a stopped one. Without FILE, or with -, it writes
to standard output. Payloads hold customers' data. Where events cannot be read
stands a line {"lost":{"from":N,"to":N,"reason":"…"}}, and the exit code is 4.`,
		Example: `  avoqado-edge journal export --after 1200 | jq .event
  avoqado-edge journal export --event payment_completed payments.ndjson`,
	}
	at := placeFlags(cmd)
	cmd.Flags().Uint64Var(&after, "after", 0, "begin behind this sequence number")
	cmd.Flags().StringVar(&kind, "event", "", "only events of this name")
	cmd.RunE = untilSignal(func(cmd *cobra.Command, args []string) error {
		lines := &lineCounter{bar: newProgress(s, "Exporting")}
		write := func(ctx context.Context, w io.Writer) error {
			lines.w = w
			defer lines.bar.end()
			return at.do(func(c *api.Client) error {
				body, err := c.Export(ctx, after, kind)
				if err != nil {
					return err
				}
				defer func() { _ = body.Close() }()
				_, err = io.Copy(lines, body)
				return err
			}, func(at folder) error {
				return withReader(at.dir, func(r *journal.Reader) error {
					return r.Export(ctx, lines, journal.Selection{After: event.Seq(after), Kind: event.Kind(kind)}, nil)
				})
			})
		}
		var err error
		if len(args) == 0 || args[0] == "-" {
			if isTerminal(s.Out) {
				lines.bar.live.tty = false // it would be drawn into the lines
			}
			err = write(cmd.Context(), s.Out)
		} else if err = writeFile(cmd.Context(), args[0], func(ctx context.Context, f *os.File) error { return write(ctx, f) }); err == nil {
			_, err = fmt.Fprintf(s.Err, "Exported %s to %s.\n", plural(lines.events, "event"), args[0])
		}
		if err == nil && lines.lost > 0 {
			_, _ = fmt.Fprintf(s.Err, "%s of events could not be read; `avoqado-edge journal check` says which.\n", plural(lines.lost, "range"))
			err = &silentError{ExitDegraded}
		}
		return err
	})
	return cmd
}

// lineCounter passes lines on and counts what they are.
type lineCounter struct {
	w            io.Writer
	bar          *progress
	begin        []byte // of the line under way
	events, lost uint64
}

func (l *lineCounter) Write(b []byte) (int, error) {
	mark := []byte(`{"lost":`)
	for rest := b; len(rest) > 0; {
		line, next, whole := bytes.Cut(rest, []byte("\n"))
		l.begin = append(l.begin, line[:min(len(line), len(mark)-len(l.begin))]...)
		if whole {
			if bytes.Equal(l.begin, mark) {
				l.lost++
			} else {
				l.events++
			}
			l.begin = l.begin[:0]
		}
		rest = next
	}
	l.bar.show(l.events, 0)
	return l.w.Write(b)
}

func withReader(dir string, use func(*journal.Reader) error) error {
	r, err := journal.OpenReader(dir)
	if err != nil {
		return err
	}
	return errors.Join(use(r), r.Close())
}

// writeFile gives a file its name when all of it is on disk, readable by its
// owner alone. It replaces what has the name. An interruption leaves nothing.
func writeFile(ctx context.Context, path string, write func(context.Context, *os.File) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	err = write(ctx, f)
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	if runtime.GOOS == "windows" {
		return nil // a directory cannot be flushed there; NTFS keeps a journal of names
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil // it is there; only its name may not survive a power cut
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func newJournalBackup(s Streams) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "backup FILE", Short: "Write the journal alone to a file; 'avoqado-edge backup' takes all", Args: cobra.ExactArgs(1),
		Long: `To bring a box back on another machine, use 'avoqado-edge backup': without the
box's key, which is not in this one, its terminals do not know it again. This is
the journal alone: events, cursors and state, and no secret, to be looked at
elsewhere, or for a box that lost its journal and kept its key.

Works on a running box and on a stopped one. The file is made under another
name, checked to its last byte, and replaces FILE only then. It fits any machine
and holds customers' data. Exit code 4: the backup is made, but some events
could not be read and are not in it.`,
		Example: "  avoqado-edge journal backup /media/usb/box.journal.gz",
	}
	at := placeFlags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	cmd.RunE = untilSignal(func(cmd *cobra.Command, args []string) error {
		var done journal.BackupSummary
		err := writeFile(cmd.Context(), args[0], func(ctx context.Context, f *os.File) error {
			bar := newProgress(s, "Backing up")
			defer bar.end()
			return at.do(func(c *api.Client) error {
				body, err := c.Backup(ctx)
				if err != nil {
					return err
				}
				defer func() { _ = body.Close() }()
				done, err = journal.VerifyBackup(io.TeeReader(body, f), bar.show)
				return err
			}, func(at folder) error {
				err := withReader(at.dir, func(r *journal.Reader) error {
					return r.Backup(ctx, f, daemon.SourceOf(at.stateDir()), bar.show)
				})
				if err != nil {
					return err
				}
				if _, err := f.Seek(0, io.SeekStart); err != nil {
					return err
				}
				done, err = journal.VerifyBackup(f, nil)
				return err
			})
		})
		if err != nil {
			return err
		}
		if asJSON {
			err = printJSON(s.Out, backupJSON(&done))
		} else {
			err = printBackup(s.Out, &done, "Backed up", args[0])
		}
		if err == nil && len(done.Lost) > 0 {
			err = &silentError{ExitDegraded}
		}
		return err
	})
	return cmd
}
