package backup

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// The file is a tar archive, which any machine opens:
//
//	backup.json              the Head
//	state/NAME               a file of the state directory
//	files/ABSOLUTE/PATH      the configuration, or a file that it names
//	journal/00000001.gz …    `cat journal/*` is what `journal backup` writes
//	SHA256SUMS               of all entries before, in order: `sha256sum -c` reads it
//
// Without the last entry it is no backup.
const (
	format = 1

	headName     = "backup.json"
	stateFolder  = "state/"
	filesFolder  = "files/"
	journalParts = "journal/%08d.gz"
	sumsName     = "SHA256SUMS"

	// maxFile is the largest file that is taken along or taken out, in bytes,
	// and maxFiles how many; a part of the journal is as large at most.
	maxFile  = 1 << 20
	maxFiles = 256
	maxSums  = 64 << 20
)

// ErrBackup says that a file is no backup, or not a whole and sound one.
var ErrBackup = errors.New("not a sound backup")

// ErrNewer says that a backup is of a later version than this.
var ErrNewer = errors.New("the backup is of a newer version of avoqado-edge: upgrade this one first")

// Head says whose backup it is.
type Head struct {
	Format   int       `json:"format"`
	Box      string    `json:"box"`
	Venue    string    `json:"venue"`
	Version  string    `json:"version"` // of the program that made it
	Made     time.Time `json:"made"`
	StateDir string    `json:"stateDir"`         // where the box kept its state
	Config   string    `json:"config,omitempty"` // its configuration, among the files; empty: it had none

	// How it kept its journal.
	SegmentBytes int64 `json:"segmentBytes"`
	MaxBytes     int64 `json:"maxBytes"`
	MaxEvents    int64 `json:"maxEvents"`
}

// File is one small file of the box.
type File struct {
	Path  string // absolute; of a state file the name in the state directory
	State bool
	Mode  fs.FileMode // permissions
	Owner string      // name of a user; empty: not known
	Group string
	Data  []byte
}

func (f File) entry() string {
	if f.State {
		return stateFolder + f.Path
	}
	return filesFolder + strings.TrimPrefix(filepath.ToSlash(f.Path), "/")
}

// Write writes a backup. journal is to write that of the journal. Until Write
// has returned nil, what was written is none.
func Write(w io.Writer, head Head, files []File, journal func(io.Writer) error) error {
	head.Format = format
	a := &archive{tar: tar.NewWriter(w), made: head.Made}
	text, err := json.MarshalIndent(head, "", "  ")
	if err != nil {
		return err
	}
	if err := a.add(tar.Header{Name: headName, Mode: 0o600}, append(text, '\n')); err != nil {
		return err
	}
	if len(files) > maxFiles {
		return fmt.Errorf("%d files are more than a backup takes (%d): move those away that are not the box's", len(files), maxFiles)
	}
	for _, f := range files {
		if len(f.Data) > maxFile {
			return fmt.Errorf("%s is larger than 1 MiB, which is not the box's", f.Path)
		}
		h := tar.Header{Name: f.entry(), Mode: int64(f.Mode.Perm()), Uname: f.Owner, Gname: f.Group}
		if err := a.add(h, f.Data); err != nil {
			return err
		}
	}
	parts := &partWriter{archive: a}
	if err := journal(parts); err != nil {
		return err
	}
	if err := parts.flush(); err != nil {
		return err
	}
	if err := a.add(tar.Header{Name: sumsName, Mode: 0o600}, bytes.Clone(a.sums.Bytes())); err != nil {
		return err
	}
	return a.tar.Close()
}

// archive adds whole entries and notes their sums.
type archive struct {
	tar  *tar.Writer
	made time.Time
	sums bytes.Buffer
}

func (a *archive) add(h tar.Header, data []byte) error {
	h.Size, h.ModTime = int64(len(data)), a.made
	if err := a.tar.WriteHeader(&h); err != nil {
		return err
	}
	sum := sha256.Sum256(data)
	a.sums.WriteString(sumLine(sum[:], h.Name))
	_, err := a.tar.Write(data)
	return err
}

func sumLine(sum []byte, name string) string { return hex.EncodeToString(sum) + "  " + name + "\n" }

// partWriter cuts a stream into entries: tar wants to know their size first.
type partWriter struct {
	archive *archive
	part    []byte
	number  int
}

func (p *partWriter) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		take := min(len(b), maxFile-len(p.part))
		p.part, b = append(p.part, b[:take]...), b[take:]
		if len(p.part) == maxFile {
			if err := p.flush(); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

func (p *partWriter) flush() error {
	if len(p.part) == 0 {
		return nil
	}
	p.number++
	err := p.archive.add(tar.Header{Name: fmt.Sprintf(journalParts, p.number), Mode: 0o600}, p.part)
	p.part = p.part[:0]
	return err
}

// fileOf reads an entry's name. It takes none that would lead elsewhere than it
// says.
func fileOf(h *tar.Header) (f File, ok bool) {
	f = File{Mode: fs.FileMode(h.Mode).Perm(), Owner: h.Uname, Group: h.Gname} //nolint:gosec // Perm keeps nine bits
	if name, is := strings.CutPrefix(h.Name, stateFolder); is {
		f.Path, f.State = name, true
		return f, name != "" && path.Base(name) == name && name != "." && name != ".."
	}
	name, is := strings.CutPrefix(h.Name, filesFolder)
	f.Path = filepath.FromSlash("/" + name)
	return f, is && name != "" && path.Clean("/"+name) == "/"+name
}
