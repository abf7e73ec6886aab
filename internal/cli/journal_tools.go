package cli

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/avoqado/avoqado-edge/internal/api"
	"github.com/avoqado/avoqado-edge/internal/daemon"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/journal"
)

func newJournalRestore(s Streams) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "restore FILE", Short: "Make the journal of a box that lost its own from a journal backup", Args: cobra.ExactArgs(1),
		Long: `For what 'avoqado-edge journal backup' wrote; a file of 'avoqado-edge backup' is
the whole box, with configuration and key, and is for 'avoqado-edge restore'.

Refuses where there is a journal. Nothing is visible before the whole backup was
read and agreed with its checksums. Events keep their sequence numbers, cursors
and state are as they were; what the cloud had not confirmed by then is sent
again, and new events get a new epoch. FILE may be -, for standard input.

The machine becomes the box that made the backup: it starts with the same box
id, so the old machine must not run again. Refused if the configuration or the
state directory is another venue's or box's.`,
		Example: `  avoqado-edge journal restore /media/usb/box.journal.gz
  avoqado-edge journal restore backup.gz --dir /mnt/card/journal`,
	}
	config, dir := configFlag(cmd), dirFlag(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	cmd.RunE = untilSignal(func(cmd *cobra.Command, args []string) error {
		at, err := findFolder(*dir, *config)
		if err != nil {
			return err
		}
		in := s.In
		if args[0] != "-" {
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer func() { _ = f.Close() }()
			in = f
		}
		from := bufio.NewReader(in)
		if begin, _ := from.Peek(len(wholeBox)); string(begin) == wholeBox {
			return fmt.Errorf("%s is the backup of a whole box: avoqado-edge restore %[1]s", args[0])
		}
		bar := newProgress(s, "Restoring")
		done, err := journal.Restore(cmd.Context(), from, at.dir, at.options(nil), at.adoption(), bar.show)
		bar.end()
		if err != nil {
			return err
		}
		if asJSON {
			facts := backupJSON(&done.BackupSummary)
			facts.NewEpoch, facts.Aside = done.NewEpoch, done.Aside
			return printJSON(s.Out, facts)
		}
		if err := printBackup(s.Out, &done.BackupSummary, "Restored", at.dir); err != nil {
			return err
		}
		p := &printer{w: s.Out}
		if done.Aside != "" {
			p.line("What stood there is in %s.", done.Aside)
		}
		switch have := daemon.SourceOf(at.stateDir()).Box; {
		case done.Box == "" && have == "":
			p.line("The backup does not say whose it is: set box.id before the first start.")
		case done.Box != have:
			p.line("It is the journal of box %s of venue %s: set box.id to that before the first start.", done.Box, done.Venue)
		case have != "":
			p.line("This machine is box %s of venue %s now.", done.Box, done.Venue)
		}
		return p.err
	})
	return cmd
}

// backupFacts is what scripts can rely on.
type backupFacts struct {
	Box       string               `json:"box"`
	Venue     string               `json:"venue"`
	Version   string               `json:"version"`
	Made      time.Time            `json:"made"`
	Epoch     event.Epoch          `json:"epoch"`
	NewEpoch  event.Epoch          `json:"newEpoch,omitempty"`
	Aside     string               `json:"aside,omitempty"`
	Events    uint64               `json:"events"`
	First     event.Seq            `json:"first"`
	StoredTo  event.Seq            `json:"storedThrough"`
	Cursors   map[string]event.Seq `json:"cursors"`
	LostRange []lostFacts          `json:"lost"`
}

type lostFacts struct {
	From event.Seq `json:"from"`
	To   event.Seq `json:"to"`
}

func lostJSON(ranges []journal.LostError) []lostFacts {
	list := make([]lostFacts, len(ranges))
	for i, l := range ranges {
		list[i] = lostFacts{l.From, l.To}
	}
	return list
}

func backupJSON(b *journal.BackupSummary) backupFacts {
	return backupFacts{
		Box: b.Box, Venue: b.Venue, Version: b.Version, Made: b.Made, Epoch: b.Epoch, Events: b.Events,
		First: b.Oldest, StoredTo: b.Stored, Cursors: b.Cursors, LostRange: lostJSON(b.Lost),
	}
}

func (p *printer) lost(ranges []journal.LostError) {
	for _, l := range ranges {
		p.line("LOST     events %d to %d", l.From, l.To)
	}
}

func printBackup(w io.Writer, b *journal.BackupSummary, did, where string) error {
	p := &printer{w: w}
	p.lost(b.Lost)
	if b.Events == 0 {
		p.line("%s no events, only cursors and state: %s", did, where)
		return p.err
	}
	p.line("%s %s, sequence %d to %d, of %s: %s", did, plural(b.Events, "event"), b.Oldest, b.Newest,
		b.Made.Local().Format("2006-01-02 15:04:05"), where)
	return p.err
}

func newJournalRepair(s Streams) *cobra.Command {
	var asJSON, dry bool
	cmd := &cobra.Command{
		Use: "repair", Short: "Mend a stopped box's journal now, and report what is lost", Args: cobra.NoArgs,
		Long: `Does at once what a running box does when it meets damage: saves every record
that is whole, puts damaged files into quarantine, begins lost state anew. With
--dry-run it only looks. What is lost for good it reports once: from then on it
is known, and check names it without calling it damage. Exit code 0: nothing is
lost that was not known; 4: events are lost, or with --dry-run something would
be repaired; 3: a running box holds the journal.`,
		Example: `  avoqado-edge journal repair --dry-run
  avoqado-edge journal repair --dir /media/card/journal --json`,
	}
	config, dir := configFlag(cmd), dirFlag(cmd)
	cmd.Flags().BoolVar(&dry, "dry-run", false, "report what would be repaired, change nothing")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	cmd.RunE = func(*cobra.Command, []string) error {
		at, err := findFolder(*dir, *config)
		if err != nil {
			return err
		}
		began := time.Now()
		var done journal.Repaired
		if dry {
			bar := newProgress(s, "Checking")
			done.Before, err = journal.CheckWithProgress(at.dir, bar.show)
			done.After = done.Before
			bar.end()
		} else {
			bar := newProgress(s, "Repairing")
			done, err = journal.Repair(at.dir, at.options(wordyLog(bar)), bar.show)
			bar.end()
		}
		if err != nil {
			return err
		}
		if asJSON {
			err = printRepairJSON(s.Out, &done, dry)
		} else {
			err = printRepair(s.Out, &done, dry, time.Since(began))
		}
		if err == nil && (len(done.Lost) > 0 || !done.After.OK()) {
			err = &silentError{ExitDegraded}
		}
		return err
	}
	return cmd
}

func printRepairJSON(w io.Writer, r *journal.Repaired, dry bool) error {
	files := []string{}
	for _, q := range r.Quarantine {
		files = append(files, q.Path)
	}
	return printJSON(w, struct {
		Repaired   bool        `json:"repaired"`
		Lost       []lostFacts `json:"lost"`       // known or not
		NewlyLost  []lostFacts `json:"newlyLost"`  // not known before
		LostEvents event.Seq   `json:"lostEvents"` // in all of lost
		Salvaged   uint64      `json:"salvaged"`
		Quarantine []string    `json:"quarantine"`
		Before     any         `json:"before"`
		After      any         `json:"after"`
	}{
		r.Changed() && !dry, lostJSON(r.After.Losses()), lostJSON(r.Lost), r.After.LostEvents(), r.Salvaged, files,
		reportJSON(&r.Before), reportJSON(&r.After),
	})
}

func printRepair(w io.Writer, r *journal.Repaired, dry bool, took time.Duration) error {
	if dry || !r.Changed() {
		return printReport(w, &r.Before, took)
	}
	p := &printer{w: w}
	p.lost(r.Lost)
	for _, q := range r.Quarantine {
		p.line("KEPT     %s", q.Path)
	}
	p.line("Repaired in %s: %s, %d lost; sequence %d to %d", took.Round(time.Millisecond),
		plural(r.After.Events, "event"), r.After.LostEvents(), r.After.First, r.After.Stored)
	return p.err
}

func newJournalCompact(s Streams) *cobra.Command {
	var (
		asJSON bool
		keep   time.Duration
	)
	cmd := &cobra.Command{
		Use: "compact", Short: "Give disk space back before its time", Args: cobra.NoArgs,
		Long: `Deletes, segment by segment, what every follower has and what is older than
--keep. What the cloud does not have yet stays, and so does the segment being
written. Works on a running box and on a stopped one.`,
		Example: "  avoqado-edge journal compact --keep 24h",
	}
	at := placeFlags(cmd)
	cmd.Flags().DurationVar(&keep, "keep", 24*time.Hour, "keep what is younger than this")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if keep < 0 {
			return usagef("--keep must not be negative")
		}
		var done journal.Compacted
		err := at.do(func(c *api.Client) error {
			raw, err := c.Compact(cmd.Context(), keep)
			if err != nil {
				return err
			}
			return json.Unmarshal(raw, &done)
		}, func(at folder) (err error) {
			bar := newProgress(s, "Compacting")
			done, err = journal.Compact(at.dir, keep, at.options(wordyLog(bar)), bar.show)
			bar.end()
			return err
		})
		if err != nil {
			return err
		}
		if asJSON {
			return printJSON(s.Out, done)
		}
		if done.Segments == 0 {
			_, err = fmt.Fprintf(s.Out, "Nothing to give back: the journal takes %s.\n", size(uint64(max(done.Left, 0))))
			return err
		}
		_, err = fmt.Fprintf(s.Out, "%s given back: %s in %s; %s left, from sequence %d on.\n", size(uint64(max(done.Bytes, 0))),
			plural(done.Events, "event"), plural(done.Segments, "segment"), size(uint64(max(done.Left, 0))), done.First)
		return err
	}
	return cmd
}
