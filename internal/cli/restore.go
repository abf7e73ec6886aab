package cli

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/avoqado/avoqado-edge/internal/backup"
	"github.com/avoqado/avoqado-edge/internal/daemon"
	"github.com/avoqado/avoqado-edge/internal/journal"
)

// How the two kinds of backup begin: as a tar archive of backup.json, and as gzip.
const (
	wholeBox     = "backup.json\x00"
	journalAlone = "\x1f\x8b"
)

func newRestore(s Streams) *cobra.Command {
	var (
		config, stateDir    string
		keep, force, asJSON bool
	)
	cmd := &cobra.Command{
		Use: "restore FILE", Short: "Make this machine the box of a backup", Args: cobra.ExactArgs(1),
		Long: `Puts everything where it was, also the configuration, before the box is started.
Terminals find it again and know it: it has the same name, key and CA. Events
that came after the backup are not in it: new ones get a new epoch, clients are
told to fetch their state anew, and what the cloud had not confirmed by then is
sent again, which the back-end knows as a repeat. The old machine must not run
again. FILE may be -, for standard input; restore only a backup that you trust.

Refused where a box has worked already or another configuration is in the way;
--force replaces both and keeps what stood there beside it. Refused with it,
too, where the state is another box's. Nothing is changed before the whole file
was read and agreed with its sums; if the power fails after that, the box does
not start with half of it: restore again.`,
		Example: `  sudo avoqado-edge restore /media/usb/box.tar
  gpg -d /media/usb/box.tar.gpg | sudo avoqado-edge restore -
  sudo avoqado-edge restore box.tar --keep-config --config /etc/avoqado-edge/config.yaml`,
	}
	f := cmd.Flags()
	f.StringVarP(&config, "config", "c", "", "configuration to write (default where it was)")
	f.StringVar(&stateDir, "state-dir", "", "state directory to make (default where it was)")
	f.BoolVar(&keep, "keep-config", false, "use this machine's configuration, restore the state alone")
	f.BoolVar(&force, "force", false, "replace what is there, and keep it beside")
	f.BoolVar(&asJSON, "json", false, "print as JSON")
	cmd.RunE = untilSignal(func(cmd *cobra.Command, args []string) error {
		in := s.In
		if args[0] != "-" {
			file, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer func() { _ = file.Close() }()
			in = file
		}
		from := bufio.NewReader(in)
		if begin, _ := from.Peek(len(journalAlone)); string(begin) == journalAlone {
			return fmt.Errorf("%s is the backup of a journal alone: avoqado-edge journal restore %[1]s", args[0])
		}
		b, err := backup.Open(from)
		if err != nil {
			return fmt.Errorf("read %s: %w", args[0], err)
		}
		o := journal.Options{SegmentBytes: b.SegmentBytes, MaxBytes: b.MaxBytes, MaxEvents: b.MaxEvents}
		r := &boxRestore{backup: b, aside: []string{}, adoption: daemon.Adoption{StateDir: cmp.Or(stateDir, b.StateDir)}}
		r.place = backup.Place{
			Config: config, StateOnly: keep, Replace: force, Now: time.Now(),
			First: daemon.IdentityFile, Own: daemon.ClockFile,
		}
		if keep {
			cfg, err := loadConfig(config, nil)
			if err != nil {
				return err
			}
			r.adoption = daemon.Adoption{StateDir: cmp.Or(stateDir, cfg.StateDir), Venue: cfg.Box.Venue, Box: cfg.Box.ID}
			o = daemon.JournalOptions(cfg, nil)
		}
		r.place.StateDir = r.adoption.StateDir
		if err := r.allowed(); err != nil {
			return err
		}
		o.Replace = force
		bar := newProgress(s, "Restoring")
		done, err := journal.Restore(cmd.Context(), b, daemon.JournalDir(r.place.StateDir), o, r, bar.show)
		bar.end()
		if err != nil {
			return r.explain(err)
		}
		if done.Aside != "" {
			r.aside = append(r.aside, done.Aside)
		}
		if asJSON {
			facts := boxFacts{backupFacts: backupJSON(&done.BackupSummary), Files: namesOf(b.Files, r.place.StateDir), Kept: r.aside}
			facts.NewEpoch, facts.Aside = done.NewEpoch, done.Aside
			return printJSON(s.Out, facts)
		}
		return r.print(s, &done)
	})
	return cmd
}

// boxRestore is a restore under way. It is the journal's [journal.Adopter].
type boxRestore struct {
	backup       *backup.Backup
	adoption     daemon.Adoption
	place        backup.Place
	owner, group string // of the state
	aside        []string
}

// allowed refuses before anything is made.
func (r *boxRestore) allowed() error {
	if !filepath.IsAbs(r.place.StateDir) {
		return usagef("the state directory %q is no absolute path: give --state-dir", r.place.StateDir)
	}
	if err := r.adoption.Check(journal.Source{Box: r.backup.Box, Venue: r.backup.Venue}); err != nil {
		return err
	}
	r.owner, r.group = backup.OwnerOf(r.place.StateDir)
	if r.owner == "" {
		for _, f := range r.backup.Files {
			if f.State && f.Path == r.place.First {
				r.owner, r.group = f.Owner, f.Group
			}
		}
	}
	there, err := r.place.Conflicts(r.backup)
	if err != nil {
		return err
	}
	if len(there) > 0 && !r.place.Replace {
		return fmt.Errorf("these are there and differ from the backup: %s; --force replaces them and keeps them beside", strings.Join(there, ", "))
	}
	return nil
}

// Check refuses a journal that is not the box's.
func (r *boxRestore) Check(of journal.Source) error {
	if of.Box != r.backup.Box || of.Venue != r.backup.Venue {
		return fmt.Errorf("%w: it is of box %s, and its journal of box %s", backup.ErrBackup, r.backup.Box, of.Box)
	}
	return nil
}

// Adopt places all but the journal once the whole file has agreed with its sums.
// The journal's folder gets its name after that: a box that finds its identity
// and no journal does not start.
func (r *boxRestore) Adopt(of journal.Source) error {
	if err := r.backup.Verify(); err != nil {
		return err
	}
	aside, err := r.place.Write(r.backup)
	r.aside = append(r.aside, aside...)
	if err != nil {
		return err
	}
	backup.Own(r.place.StateDir, r.owner, r.group)
	return r.adoption.Adopt(of)
}

func (r *boxRestore) explain(err error) error {
	switch {
	case errors.Is(err, journal.ErrExists):
		return fmt.Errorf("%w: a box has worked here already; --force moves its journal aside", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: run it with sudo", err)
	}
	return err
}

func (r *boxRestore) print(s Streams, done *journal.Restored) error {
	p := &printer{w: s.Out}
	for _, name := range namesOf(r.backup.Files, r.place.StateDir) {
		if !r.place.StateOnly || strings.HasPrefix(name, r.place.StateDir) {
			p.line("restored %s", name)
		}
	}
	for _, name := range r.aside {
		p.line("kept     %s", name)
	}
	if p.err != nil {
		return p.err
	}
	if err := printBackup(s.Out, &done.BackupSummary, "Restored", daemon.JournalDir(r.place.StateDir)); err != nil {
		return err
	}
	p.line("This machine is box %s of venue %s now, in epoch %s. The old one must not run again.", done.Box, done.Venue, done.NewEpoch)
	p.line("Next: systemctl restart avoqado-edge, then avoqado-edge status")
	return p.err
}
