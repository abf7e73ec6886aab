package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/avoqado/avoqado-edge/internal/api"
	"github.com/avoqado/avoqado-edge/internal/config"
	"github.com/avoqado/avoqado-edge/internal/durable"
	"github.com/avoqado/avoqado-edge/internal/journal"
	"github.com/avoqado/avoqado-edge/internal/uplink"
)

// boxID is what a box remembers of itself outside the journal, so that it
// notices when the journal is gone.
type boxID struct {
	Box     string    `json:"box"`
	Venue   string    `json:"venue"`
	Created time.Time `json:"created"`
}

// IdentityFile lies beside the journal's folder in the state directory.
const IdentityFile = "box.json"

// JournalDir is where the journal lies in a state directory.
func JournalDir(stateDir string) string { return filepath.Join(stateDir, "journal") }

// Unsent returns how many events of a stopped box's journal the cloud does not have:
// those behind the cursor, and those that it would not take.
func Unsent(r *journal.Reader) uint64 {
	waiting := r.Stored() - min(r.Stats().Cursors[api.UplinkCursor], r.Stored())
	return uint64(waiting) + uint64(r.Entries(uplink.ParkedSpace)) //nolint:gosec // not negative
}

// JournalOptions says how a box with this configuration keeps its journal.
func JournalOptions(cfg config.Config, log *slog.Logger) journal.Options {
	return journal.Options{
		SegmentBytes: cfg.Journal.SegmentBytes, RetainFor: cfg.Journal.RetainFor, RetainBytes: cfg.Journal.RetainBytes,
		MaxBytes: cfg.Journal.MaxBytes, MaxEvents: int64(cfg.Journal.MaxEvents), BallastBytes: cfg.Journal.BallastBytes,
		Endurance: cfg.Storage.Endurance, Log: log,
	}
}

// readIdentity returns fs.ErrNotExist for a box that never ran.
func readIdentity(stateDir string) (boxID, error) {
	var id boxID
	path := filepath.Join(stateDir, IdentityFile)
	raw, err := os.ReadFile(path)
	if err != nil {
		return id, err
	}
	if err := json.Unmarshal(raw, &id); err != nil {
		return id, fmt.Errorf("read %s: %w", path, err)
	}
	if id.Box == "" || id.Venue == "" {
		return id, fmt.Errorf("read %s: box or venue is missing", path)
	}
	return id, nil
}

// claimIdentity returns the identity of the state directory, making it on the
// very first start. A directory that belongs to another venue or box is
// refused: its unsent events are not ours to send.
func claimIdentity(stateDir, venue, box string, now time.Time) (id boxID, first bool, err error) {
	id, err = readIdentity(stateDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if box == "" {
			box = "box-" + strings.ReplaceAll(uuid.NewString(), "-", "")[:12]
		}
		return boxID{Box: box, Venue: venue, Created: now.UTC().Truncate(time.Second)}, true, nil
	case err != nil:
		return id, false, err
	case id.Venue != venue:
		return id, false, fmt.Errorf("state directory %s belongs to venue %s, the configuration says %s: use another state_dir or move the old one away", stateDir, id.Venue, venue)
	case box != "" && id.Box != box:
		return id, false, fmt.Errorf("state directory %s belongs to box %s, the configuration says %s: remove box.id or use another state_dir", stateDir, id.Box, box)
	}
	return id, false, nil
}

// Adoption lets a restored journal bring the identity of its box with it: a
// machine in the place of a dead one comes up as the same box. It refuses to
// make one box of two.
type Adoption struct {
	StateDir   string
	Venue, Box string // by the configuration; empty: it does not say
}

// Check refuses the journal of another box or venue than the state directory
// or the configuration is for. A backup that does not say whose it is suits all.
func (a Adoption) Check(of journal.Source) error {
	if of.Box == "" || of.Venue == "" {
		return nil
	}
	id, err := readIdentity(a.StateDir)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case err == nil && (id.Box != of.Box || id.Venue != of.Venue):
		return fmt.Errorf("the backup is of box %s of venue %s, and the state directory %s belongs to box %s of venue %s: use another state_dir or move the old one away",
			of.Box, of.Venue, a.StateDir, id.Box, id.Venue)
	case a.Venue != "" && a.Venue != of.Venue:
		return fmt.Errorf("the backup is of venue %s, the configuration says %s", of.Venue, a.Venue)
	case a.Box != "" && a.Box != of.Box:
		return fmt.Errorf("the backup is of box %s, the configuration says %s: remove box.id to restore it as %s", of.Box, a.Box, of.Box)
	}
	return nil
}

// Adopt makes the state directory that box's, unless it is already. On return
// that is durable.
func (a Adoption) Adopt(of journal.Source) error {
	if err := a.Check(of); err != nil || of.Box == "" || of.Venue == "" {
		return err
	}
	if _, err := readIdentity(a.StateDir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	id := boxID{Box: of.Box, Venue: of.Venue, Created: time.Now().UTC().Truncate(time.Second)}
	if err := saveIdentity(a.StateDir, id); err != nil {
		return fmt.Errorf("save the box's identity: %w", err)
	}
	return nil
}

// saveIdentity writes the identity so that it survives a power cut.
func saveIdentity(stateDir string, id boxID) error {
	raw, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(stateDir, IdentityFile), append(raw, '\n'))
}
