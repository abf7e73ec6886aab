package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/avoqado/avoqado-edge/internal/api"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/journal"
)

func newJournal(s Streams) *cobra.Command {
	return group("journal", "The journal on disk: stats, unsent, check, export, backup, restore, repair, compact, init",
		newJournalStats(s), newJournalUnsent(s), newJournalCheck(s), newJournalExport(s), newJournalBackup(s), newJournalRestore(s),
		newJournalRepair(s), newJournalCompact(s), newJournalInit(s))
}

// dirFlag names the journal for work on a box that does not run.
func dirFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("dir", "", "the journal's folder (default: the one of the configured state directory)")
}

func newJournalInit(s Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use: "init", Short: "Make a new, empty journal for a box that lost its own", Args: cobra.NoArgs,
		Long: `The first run makes the journal by itself. This is for a box whose journal is
gone for good: it begins a new epoch, so that the back-end can tell that history
was lost.`,
		Example: "  avoqado-edge journal init --config /etc/avoqado-edge/config.yaml",
	}
	path, dir := configFlag(cmd), dirFlag(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		at, err := findFolder(*dir, *path)
		if err != nil {
			return err
		}
		if err := journal.Create(at.dir, at.options(nil)); err != nil {
			return err
		}
		_, err = fmt.Fprintf(s.Out, "Made an empty journal in %s.\n", at.dir)
		return err
	}
	return cmd
}

func newJournalStats(s Streams) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "stats", Short: "The journal in figures", Args: cobra.NoArgs,
		Long:    "Of the running box, or of a stopped one, where what a run counts is zero.",
		Example: "  avoqado-edge journal stats --json",
	}
	at := placeFlags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, cancel := context.WithTimeout(cmd.Context(), askTimeout)
		defer cancel()
		var raw json.RawMessage
		err := at.do(func(c *api.Client) (err error) {
			raw, err = c.Journal(ctx)
			return err
		}, func(at folder) error {
			return withReader(at.dir, func(r *journal.Reader) (err error) {
				raw, err = json.Marshal(r.Stats())
				return err
			})
		})
		if err != nil {
			return err
		}
		if asJSON {
			return printJSON(s.Out, raw)
		}
		return printFigures(s.Out, raw)
	}
	return cmd
}

// printFigures prints a flat JSON object as aligned lines, in its own order.
func printFigures(w io.Writer, raw json.RawMessage) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if _, err := dec.Token(); err != nil {
		return err
	}
	p := &printer{w: w}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return err
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return err
		}
		p.line("%-18v %s", key, value)
	}
	return p.err
}

func newJournalCheck(s Streams) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "check", Short: "Read every record of a stopped box's journal and report what is wrong", Args: cobra.NoArgs,
		Long: `Changes nothing. Exit code 0: all is well; 4: something is damaged or missing,
and the report says which sequence numbers; 3: a running box holds the journal.
Events that were lost for good and that repair has reported are named with the
time since when that is known, and are no reason for 4.`,
		Example: `  avoqado-edge journal check
  avoqado-edge journal check --dir /media/card/journal --json`,
	}
	path, dir := configFlag(cmd), dirFlag(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	cmd.RunE = func(*cobra.Command, []string) error {
		at, err := findFolder(*dir, *path)
		if err != nil {
			return err
		}
		began := time.Now()
		bar := newProgress(s, "Checking")
		report, err := journal.CheckWithProgress(at.dir, bar.show)
		bar.end()
		if err != nil {
			return err
		}
		if asJSON {
			err = printJSON(s.Out, reportJSON(&report))
		} else {
			err = printReport(s.Out, &report, time.Since(began))
		}
		if err == nil && !report.OK() {
			err = &silentError{ExitDegraded}
		}
		return err
	}
	return cmd
}

// reportJSON gives the report the names and error texts scripts can rely on.
func reportJSON(r *journal.Report) any {
	type lost struct {
		From   event.Seq `json:"from"`
		To     event.Seq `json:"to"`
		Reason string    `json:"reason,omitempty"`
		Known  time.Time `json:"knownSince,omitzero"` // repair has reported it
	}
	type segment struct {
		Path   string      `json:"path"`
		Epoch  event.Epoch `json:"epoch"`
		First  event.Seq   `json:"first"`
		Last   event.Seq   `json:"last"`
		Sealed bool        `json:"sealed"`
		Bytes  int64       `json:"bytes"`
		Events uint64      `json:"events"`
		Lost   []lost      `json:"lost"`
		Error  string      `json:"error,omitempty"`
	}
	text := func(err error) string {
		if err == nil {
			return ""
		}
		return err.Error()
	}
	segments := make([]segment, len(r.Segments))
	for i, s := range r.Segments {
		ranges := make([]lost, len(s.Lost))
		for n, l := range s.Lost {
			ranges[n] = lost{l.From, l.To, text(l.Err), r.KnownSince(&l)}
		}
		segments[i] = segment{s.Path, s.Epoch, s.First, s.Last, s.Sealed, s.Bytes, s.Events, ranges, text(s.Err)}
	}
	return struct {
		OK       bool        `json:"ok"`
		Dir      string      `json:"dir"`
		Epoch    event.Epoch `json:"epoch"`
		First    event.Seq   `json:"first"`
		Stored   event.Seq   `json:"storedThrough"`
		Events   uint64      `json:"events"`
		Segments []segment   `json:"segments"`
		Problems []string    `json:"problems"`
	}{r.OK(), r.Dir, r.Epoch, r.First, r.Stored, r.Events, segments, append([]string{}, r.Problems...)}
}

func printReport(w io.Writer, r *journal.Report, took time.Duration) error {
	p := &printer{w: w}
	for _, problem := range r.Problems {
		p.line("DAMAGED  %s", problem)
	}
	for _, seg := range r.Segments {
		if seg.Err != nil {
			p.line("DAMAGED  %s: %v", seg.Path, seg.Err)
		}
		for _, lost := range seg.Lost {
			p.line("LOST     %s: events %d to %d%s", seg.Path, lost.From, lost.To, knownSince(r, &lost))
		}
	}
	verdict := "every record is whole"
	switch {
	case !r.OK():
		verdict = "damage found"
	case len(r.Losses()) > 0:
		verdict = "every other record is whole"
	}
	p.line("%s: %s in %s, sequence %d to %d, read in %s: %s", r.Dir, plural(r.Events, "event"),
		plural(len(r.Segments), "segment"), r.First, r.Stored, took.Round(time.Millisecond), verdict)
	return p.err
}

// knownSince says of a loss that it is an old one; of a new one nothing.
func knownSince(r *journal.Report, l *journal.LostError) string {
	since := r.KnownSince(l)
	if since.IsZero() {
		return ""
	}
	return ", known since " + since.Local().Format("2006-01-02 15:04")
}
