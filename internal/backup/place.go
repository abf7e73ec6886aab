package backup

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/avoqado/avoqado-edge/internal/durable"
)

// Place says where the small files of a backup go.
type Place struct {
	StateDir  string
	Config    string // where the configuration goes; empty: where it was
	StateOnly bool   // nothing but the state is placed
	First     string // the state file that says which box this is: it is placed first
	Own       string // the state file that this machine keeps if it has one
	Replace   bool   // others than those in the backup may be there; they are kept aside
	Now       time.Time
}

// target is a file with its path on this machine.
type target struct {
	File
	path string
}

// targets lists what would be written: first the state, whose first file says
// which box this is, last the configuration, without which no box starts.
func (p Place) targets(b *Backup) (list []target, err error) {
	var front, state, rest, last []target
	for _, f := range b.Files {
		switch {
		case f.State && f.Path == p.First:
			front = append(front, target{f, filepath.Join(p.StateDir, f.Path)})
		case f.State:
			state = append(state, target{f, filepath.Join(p.StateDir, f.Path)})
		case p.StateOnly:
		case f.Path == b.Config && p.Config != "":
			last = append(last, target{f, p.Config})
		case f.Path == b.Config:
			last = append(last, target{f, f.Path})
		default:
			rest = append(rest, target{f, f.Path})
		}
	}
	if len(front) != 1 {
		return nil, fmt.Errorf("%w: it does not hold %s", ErrBackup, p.First)
	}
	return append(append(append(front, state...), rest...), last...), nil
}

// Conflicts lists the files on this machine that are others than those in the
// backup.
func (p Place) Conflicts(b *Backup) ([]string, error) {
	list, err := p.targets(b)
	if err != nil {
		return nil, err
	}
	var found []string
	for _, t := range list {
		is, err := p.compare(t)
		if err != nil {
			return nil, err
		}
		if is == differing {
			found = append(found, t.path)
		}
	}
	return found, nil
}

// standing is how a file in the backup compares with the machine's.
type standing int

const (
	absent standing = iota
	equal
	differing
)

func (p Place) compare(t target) (standing, error) {
	have, err := os.ReadFile(t.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return absent, nil
	case err != nil:
		return absent, err
	case bytes.Equal(have, t.Data):
		return equal, nil
	}
	if t.State && t.Path == p.Own {
		return equal, nil
	}
	return differing, nil
}

// Write writes the files, each of them whole and durable before the next,
// the one that says which box this is first. What is there and differs is kept
// beside it, under the names that Write returns. A crash in between leaves
// whole files, and Write may be called again.
func (p Place) Write(b *Backup) (aside []string, err error) {
	list, err := p.targets(b)
	if err != nil {
		return nil, err
	}
	for _, t := range list {
		is, err := p.compare(t)
		if err != nil {
			return aside, err
		}
		switch {
		case is == equal:
			if err := t.grant(); err != nil { // a crash may have come before it
				return aside, fmt.Errorf("restore %s: %w", t.path, err)
			}
			continue
		case is == differing && !p.Replace:
			return aside, fmt.Errorf("%s was made meanwhile", t.path)
		case is == differing:
			old := t.path + ".before-" + p.Now.UTC().Format("20060102T150405")
			if err := os.Link(t.path, old); err != nil && !errors.Is(err, fs.ErrExist) {
				return aside, err
			}
			aside = append(aside, old)
		}
		if err := t.write(); err != nil {
			return aside, fmt.Errorf("restore %s: %w", t.path, err)
		}
	}
	return aside, nil
}

func (t target) write() error {
	mode := fs.FileMode(0o700)
	if !t.State {
		mode = 0o755 // a configuration folder is no secret
	}
	if err := os.MkdirAll(filepath.Dir(t.path), mode); err != nil {
		return err
	}
	if err := durable.WriteFile(t.path, t.Data); err != nil {
		return err
	}
	return t.grant()
}

// grant gives the file the owner and the rights that it had.
func (t target) grant() error {
	Own(t.path, t.Owner, t.Group)
	return os.Chmod(t.path, t.Mode&^0o111)
}
