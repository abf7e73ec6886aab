package daemon

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/journal"
)

// TestAdoption restores box b1 of venue v1 onto machines of all kinds.
func TestAdoption(t *testing.T) {
	b1 := journal.Source{Box: "b1", Venue: "v1"}
	for name, c := range map[string]struct {
		there      boxID  // in the state directory; no box: it never ran
		venue, box string // by the configuration
		of         journal.Source
		refused    string // words of the refusal; empty: it is adopted
		becomes    string // the box afterwards; empty: it has no identity
	}{
		"a new machine":             {venue: "v1", of: b1, becomes: "b1"},
		"without a configuration":   {of: b1, becomes: "b1"},
		"the configuration agrees":  {venue: "v1", box: "b1", of: b1, becomes: "b1"},
		"the same machine":          {there: boxID{Box: "b1", Venue: "v1"}, venue: "v1", of: b1, becomes: "b1"},
		"another box ran here":      {there: boxID{Box: "b2", Venue: "v1"}, venue: "v1", of: b1, refused: "belongs to box b2", becomes: "b2"},
		"another venue's box":       {there: boxID{Box: "b1", Venue: "v2"}, of: b1, refused: "of venue v2", becomes: "b1"},
		"another venue's machine":   {venue: "v2", of: b1, refused: "the configuration says v2"},
		"configured as another box": {venue: "v1", box: "b2", of: b1, refused: "remove box.id"},
		"of nobody":                 {venue: "v1"},
		"of nobody onto a box":      {there: boxID{Box: "b2", Venue: "v1"}, venue: "v1", becomes: "b2"},
	} {
		dir := t.TempDir()
		if c.there.Box != "" {
			if err := saveIdentity(dir, c.there); err != nil {
				t.Fatal(err)
			}
		}
		a := Adoption{StateDir: dir, Venue: c.venue, Box: c.box}
		for step, err := range map[string]error{"check": a.Check(c.of), "adopt": a.Adopt(c.of)} {
			if c.refused == "" && err != nil || c.refused != "" && (err == nil || !strings.Contains(err.Error(), c.refused)) {
				t.Errorf("%s: %s: %v", name, step, err)
			}
		}
		id, err := readIdentity(dir)
		if c.becomes == "" && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil || id.Box != c.becomes {
			t.Errorf("%s: became %+v, %v", name, id, err)
		}
		if c.refused != "" {
			continue
		}
		if id, first, err := claimIdentity(dir, "v1", c.box, time.Now()); err != nil || first || id.Box != c.becomes {
			t.Errorf("%s: starts as %+v, first %v, %v", name, id, first, err)
		}
	}
}

// TestAdoptionNeedsAReadableIdentity keeps what may be another box's.
func TestAdoptionNeedsAReadableIdentity(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, IdentityFile)
	if err := os.WriteFile(path, []byte("{half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (Adoption{StateDir: dir}).Adopt(journal.Source{Box: "b1", Venue: "v1"}); err == nil {
		t.Error("adopted over an identity that cannot be read")
	}
	if raw, err := os.ReadFile(path); err != nil || string(raw) != "{half" {
		t.Errorf("it is %q now, %v", raw, err)
	}
}

// TestStartsWithDamagedState flips a bit in a note of each part: nothing that a
// disk does to one keeps the box from starting.
func TestStartsWithDamagedState(t *testing.T) {
	dir := t.TempDir()
	_, stop := runBox(t, dir, "tcp://127.0.0.1:1", nil)
	stop()
	at := JournalDir(filepath.Join(dir, "state"))
	j, err := journal.Open(at, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	spaces := []string{
		"auth/devices", "auth/logouts", "commands", "config", "history", "left", "link", "outages", "parked", "positions",
		"rejected", "sessions", "settled", "tasks", "terminals", "uplink",
	}
	for _, space := range spaces {
		if err := j.Put(space, map[string][]byte{"note": []byte("is harmed")}); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	meta := filepath.Join(at, "meta.db")
	raw, err := os.ReadFile(meta)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(meta, bytes.ReplaceAll(raw, []byte("is harmed"), []byte("is harmee")), 0o600); err != nil {
		t.Fatal(err)
	}
	d, stop := runBox(t, dir, "tcp://127.0.0.1:1", nil)
	if n := d.journal.Stats().Damages; n != uint64(len(spaces)) {
		t.Errorf("%d findings of damage in %d spaces", n, len(spaces))
	}
	stop()
	if r, err := journal.Check(at); err != nil || !r.OK() {
		t.Errorf("after the start: %v, %v", r.Problems, err)
	}
}
