package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"
)

// identity is what a box remembers of itself outside the journal, so that it
// notices when the journal is gone.
type identity struct {
	Box     string    `json:"box"`
	Venue   string    `json:"venue"`
	Created time.Time `json:"created"`
}

// identityFile lies beside the journal's folder in the state directory.
const identityFile = "box.json"

// JournalDir is where the journal lies in a state directory.
func JournalDir(stateDir string) string { return filepath.Join(stateDir, "journal") }

// readIdentity returns fs.ErrNotExist for a box that never ran.
func readIdentity(stateDir string) (identity, error) {
	var id identity
	path := filepath.Join(stateDir, identityFile)
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
func claimIdentity(stateDir, venue, box string, now time.Time) (id identity, first bool, err error) {
	id, err = readIdentity(stateDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if box == "" {
			box = "box-" + strings.ReplaceAll(uuid.NewString(), "-", "")[:12]
		}
		return identity{Box: box, Venue: venue, Created: now.UTC().Truncate(time.Second)}, true, nil
	case err != nil:
		return id, false, err
	case id.Venue != venue:
		return id, false, fmt.Errorf("state directory %s belongs to venue %s, the configuration says %s: use another state_dir or move the old one away", stateDir, id.Venue, venue)
	case box != "" && id.Box != box:
		return id, false, fmt.Errorf("state directory %s belongs to box %s, the configuration says %s: remove box.id or use another state_dir", stateDir, id.Box, box)
	}
	return id, false, nil
}

// saveIdentity writes the identity so that it survives a power cut: new file,
// fsync, rename over, fsync of the directory.
func saveIdentity(stateDir string, id identity) error {
	raw, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(stateDir, identityFile+".*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // gone after the rename
	_, err = tmp.Write(append(raw, '\n'))
	if err == nil {
		err = tmp.Sync()
	}
	if closeErr := tmp.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), filepath.Join(stateDir, identityFile)); err != nil {
		return err
	}
	dir, err := os.Open(stateDir)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	return dir.Sync()
}
