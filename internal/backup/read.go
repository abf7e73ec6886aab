package backup

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Backup is one that is being read: its small files are, the journal follows.
type Backup struct {
	Head
	Files []File

	tar  *tar.Reader
	sums bytes.Buffer

	part bytes.Reader
	next int
	end  bool // the sums were read and agreed
	err  error
}

// Open reads the head and the small files of a backup. None of it is known to
// be whole until Verify has returned nil.
func Open(r io.Reader) (*Backup, error) {
	b := &Backup{tar: tar.NewReader(r), next: 1}
	h, data, err := b.entry()
	if err != nil || h.Name != headName {
		return nil, fmt.Errorf("%w: it does not begin as one", ErrBackup)
	}
	if err := json.Unmarshal(data, &b.Head); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrBackup, headName, err)
	}
	switch {
	case b.Format > format:
		return nil, ErrNewer
	case b.Format < 1 || b.Box == "" || b.Venue == "":
		return nil, fmt.Errorf("%w: %s does not say whose it is", ErrBackup, headName)
	}
	for {
		h, data, err := b.entry()
		if err != nil {
			return nil, err
		}
		if h.Name == fmt.Sprintf(journalParts, 1) {
			b.part.Reset(data)
			b.next++
			return b, nil
		}
		f, ok := fileOf(h)
		switch {
		case !ok:
			return nil, fmt.Errorf("%w: it holds %q, which is not a box's", ErrBackup, h.Name)
		case len(b.Files) == maxFiles:
			return nil, fmt.Errorf("%w: it holds more than %d files", ErrBackup, maxFiles)
		}
		f.Data = data
		b.Files = append(b.Files, f)
	}
}

// entry reads the next one whole, and notes its sum.
func (b *Backup) entry() (*tar.Header, []byte, error) {
	h, err := b.tar.Next()
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, nil, fmt.Errorf("%w: it is cut short", ErrBackup)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrBackup, err)
	}
	limit := int64(maxFile)
	if h.Name == sumsName {
		limit = maxSums
	}
	if h.Typeflag != tar.TypeReg || h.Size > limit {
		return nil, nil, fmt.Errorf("%w: %q is not as a box writes it", ErrBackup, h.Name)
	}
	data, err := io.ReadAll(b.tar)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: it is cut short in %s", ErrBackup, h.Name)
	}
	if h.Name != sumsName {
		sum := sha256.Sum256(data)
		b.sums.WriteString(sumLine(sum[:], h.Name))
	}
	return h, data, nil
}

// Read reads the backup of the journal. It ends with io.EOF only if the whole
// file agreed with its sums.
func (b *Backup) Read(p []byte) (int, error) {
	for b.part.Len() == 0 {
		if b.err == nil && b.end {
			return 0, io.EOF
		}
		if b.err != nil {
			return 0, b.err
		}
		b.err = b.advance()
	}
	return b.part.Read(p)
}

// advance goes to the next part, or to the end.
func (b *Backup) advance() error {
	h, data, err := b.entry()
	switch {
	case err != nil:
		return err
	case h.Name == fmt.Sprintf(journalParts, b.next):
		b.part.Reset(data)
		b.next++
		return nil
	case h.Name != sumsName:
		return fmt.Errorf("%w: %q stands where a part of the journal should", ErrBackup, h.Name)
	}
	if wrong := differs(data, b.sums.Bytes()); wrong != "" {
		return fmt.Errorf("%w: %s was changed since it was made", ErrBackup, wrong)
	}
	b.end = true
	return nil
}

// differs names the first entry that is not as the sums say, empty if all are.
func differs(want, have []byte) string {
	if bytes.Equal(want, have) {
		return ""
	}
	lines := slices.Collect(strings.Lines(string(want)))
	n := 0
	for line := range strings.Lines(string(have)) {
		if n >= len(lines) || lines[n] != line {
			_, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
			return name
		}
		n++
	}
	return sumsName
}

// Verify reads to the end, passing over what is left of the journal, and
// returns ErrBackup unless the whole file is as it was made.
func (b *Backup) Verify() error {
	_, err := io.Copy(io.Discard, b)
	return err
}
