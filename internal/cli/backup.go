package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/avoqado/avoqado-edge/internal/api"
	"github.com/avoqado/avoqado-edge/internal/backup"
	"github.com/avoqado/avoqado-edge/internal/config"
	"github.com/avoqado/avoqado-edge/internal/daemon"
	"github.com/avoqado/avoqado-edge/internal/journal"
)

// environmentFile is where the packaged unit takes its environment from.
const environmentFile = "/etc/default/avoqado-edge"

func newBackup(s Streams) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "backup FILE", Short: "Write the whole box to one file: configuration, secrets, keys, events", Args: cobra.ExactArgs(1),
		Long: `Takes the configuration with the files that it names, what stands in the state
directory (the box's key, its CA, its clock), and the journal with all events,
cursors and state. Works on a running box and on a stopped one. FILE is made
under another name, checked to its last byte, and gets its name only then; with
-, it is written to standard output. It is a tar archive.

FILE HOLDS SECRETS and customers' data: who has it can pose as the box and sign
tokens. Its mode is 0600. On a stick, encrypt it, as the second example does.
What the service is given in other ways (systemctl edit) is not in it. The
journal alone, without secrets, is what 'avoqado-edge journal backup' writes.

Exit code 4: it is made, but some events could not be read and are not in it.`,
		Example: `  sudo avoqado-edge backup /media/usb/box.tar
  sudo avoqado-edge backup - | gpg -c -o /media/usb/box.tar.gpg`,
	}
	path := configFlag(cmd)
	socket := socketFlag(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	cmd.RunE = untilSignal(func(cmd *cobra.Command, args []string) error {
		cfg, err := loadConfig(*path, nil)
		if err != nil {
			return err
		}
		b := &boxBackup{cfg: cfg, client: api.NewClient(socketOf(cmd, *socket, *path, cfg))}
		if err := b.gather(*path); err != nil {
			return err
		}
		if args[0] == "-" {
			if asJSON {
				return usagef("--json and a backup cannot both go to standard output")
			}
			return b.pipe(cmd.Context(), s)
		}
		var done journal.BackupSummary
		err = writeFile(cmd.Context(), args[0], func(ctx context.Context, f *os.File) error {
			if err := b.write(ctx, s, f); err != nil {
				return err
			}
			if _, err := f.Seek(0, io.SeekStart); err != nil {
				return err
			}
			done, err = readWhole(f)
			return err
		})
		if err != nil {
			return err
		}
		if asJSON {
			err = printJSON(s.Out, boxFacts{backupFacts: backupJSON(&done), Files: b.names(), Kept: []string{}})
		} else {
			err = b.print(s.Out, &done, args[0])
		}
		if err == nil && len(done.Lost) > 0 {
			err = &silentError{ExitDegraded}
		}
		return err
	})
	return cmd
}

// boxFacts is what scripts can rely on.
type boxFacts struct {
	backupFacts
	Files []string `json:"files"` // besides the journal
	Kept  []string `json:"kept"`  // of a restore: what stood there, under new names
}

// boxBackup is a backup in the making.
type boxBackup struct {
	cfg    config.Config
	client *api.Client
	head   backup.Head
	files  []backup.File
}

// gather reads the small files.
func (b *boxBackup) gather(configPath string) error {
	source := daemon.SourceOf(b.cfg.StateDir)
	if source.Box == "" {
		return fmt.Errorf("no box has worked in %s yet: there is nothing to back up", b.cfg.StateDir)
	}
	b.head = backup.Head{
		Box: source.Box, Venue: source.Venue, Version: source.Version, Made: time.Now().UTC().Truncate(time.Second),
		StateDir: b.cfg.StateDir, SegmentBytes: b.cfg.Journal.SegmentBytes,
		MaxBytes: b.cfg.Journal.MaxBytes, MaxEvents: int64(b.cfg.Journal.MaxEvents),
	}
	files, err := backup.State(b.cfg.StateDir)
	if err != nil {
		return unreadable(err)
	}
	paths := b.cfg.Files()
	if len(paths) > 0 {
		b.head.Config = paths[0]
	}
	if _, err := os.Stat(environmentFile); err == nil && (configPath == "" || configPath == defaultConfig) {
		paths = append(paths, environmentFile)
	}
	named, err := backup.Named(paths)
	if err != nil {
		return unreadable(err)
	}
	b.files = append(files, named...)
	return nil
}

func unreadable(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: a backup holds secrets, so run it with sudo", err)
	}
	return err
}

// write writes the backup, with the journal of the running box or of the
// stopped one. The lock of the journal keeps the two apart.
func (b *boxBackup) write(ctx context.Context, s Streams, w io.Writer) error {
	return backup.Write(w, b.head, b.files, func(to io.Writer) error {
		bar := newProgress(s, "Backing up")
		defer bar.end()
		body, err := b.client.Backup(ctx)
		if errors.Is(err, api.ErrNotRunning) {
			return withReader(daemon.JournalDir(b.cfg.StateDir), func(r *journal.Reader) error {
				return r.Backup(ctx, to, daemon.SourceOf(b.cfg.StateDir), bar.show)
			})
		}
		if err != nil {
			return err
		}
		defer func() { _ = body.Close() }()
		sum, err := journal.VerifyBackup(io.TeeReader(body, to), bar.show)
		if err == nil && (sum.Box != b.head.Box || sum.Venue != b.head.Venue) {
			err = fmt.Errorf("the running box is %s of venue %s, and %s is that of %s: give the --config of the running box", sum.Box, sum.Venue, b.cfg.StateDir, b.head.Box)
		}
		return err
	})
}

// pipe writes the backup to standard output, and reads it meanwhile as a restore
// would.
func (b *boxBackup) pipe(ctx context.Context, s Streams) error {
	r, w := io.Pipe()
	var done journal.BackupSummary
	var readErr error
	var reading sync.WaitGroup
	reading.Go(func() {
		if done, readErr = readWhole(r); readErr == nil {
			_, readErr = io.Copy(io.Discard, r)
		}
		_ = r.CloseWithError(readErr) // never fails
	})
	err := b.write(ctx, s, io.MultiWriter(s.Out, w))
	_ = w.CloseWithError(err) // likewise
	reading.Wait()
	if err == nil {
		err = readErr
	}
	if err != nil || len(done.Lost) == 0 {
		return err
	}
	p := &printer{w: s.Err}
	p.lost(done.Lost)
	return &silentError{ExitDegraded}
}

// readWhole reads a backup to its end.
func readWhole(r io.Reader) (sum journal.BackupSummary, err error) {
	b, err := backup.Open(r)
	if err != nil {
		return sum, err
	}
	if sum, err = journal.VerifyBackup(b, nil); err != nil {
		return sum, err
	}
	return sum, b.Verify()
}

func (b *boxBackup) names() []string { return namesOf(b.files, b.cfg.StateDir) }

func namesOf(files []backup.File, stateDir string) []string {
	list := make([]string, len(files))
	for i, f := range files {
		list[i] = f.Path
		if f.State {
			list[i] = strings.TrimSuffix(stateDir, "/") + "/" + f.Path
		}
	}
	slices.Sort(list)
	return list
}

func (b *boxBackup) print(w io.Writer, done *journal.BackupSummary, path string) error {
	p := &printer{w: w}
	for _, name := range b.names() {
		p.line("took %s", name)
	}
	if p.err != nil {
		return p.err
	}
	if err := printBackup(w, done, "Backed up", path); err != nil {
		return err
	}
	p.line("It holds secrets: keep it where only you can read it.")
	return p.err
}
