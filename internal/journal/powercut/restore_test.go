//go:build linux && (amd64 || arm64)

package powercut

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/avoqado/avoqado-edge/internal/journal"
)

// TestRestoreSurvives cuts the power at each change in turn of a restore onto an
// empty machine: what it promised is there, else it can be done again.
func TestRestoreSurvives(t *testing.T) {
	cuts, s := rounds(t, 80, 50), seed(t)
	d, root := newDisk(t)
	file, l := backedUp(t)
	dir := filepath.Join(root, "var", "lib", "journal") // none of them there yet
	done, step, steps := 0, 1, 0
	defer func() { summary(t, cuts, s, fmt.Sprintf("%d changes in a restore; done %d times", steps, done)) }()
	for i := range cuts {
		rnd := rand.New(rand.NewPCG(s, uint64(i)))
		p := Plan{Seed: rnd.Uint64(), Step: step, Ordered: i%3 == 0}
		if i%4 == 0 {
			p.Step = 0 // when it is done
		}
		restore := func() error {
			_, err := journal.Restore(t.Context(), bytes.NewReader(file), dir, journal.Options{}, nil, nil)
			return err
		}
		must(t, d.Format(root, p))
		promised := restore() == nil
		r, err := d.Cut()
		must(t, err, d.Mount(root, Plan{Ordered: p.Ordered}))
		err = holds(dir, l)
		if errors.Is(err, journal.ErrMissing) && !promised {
			if err = restore(); err == nil {
				err = holds(dir, l)
			}
		}
		if err != nil {
			t.Fatalf("cut %d (AVOQADO_SEED=%d), %+v, promised %t: %v", i, s, p, promised, err)
		}
		if promised {
			done++
		}
		_, err = d.Cut()
		must(t, err)
		if p.Step == 0 {
			continue
		}
		if step++; !r.Early { // beyond the last change
			step, steps = 1, r.Steps
		}
	}
	if done == 0 {
		t.Error("never restored")
	}
}

// backedUp returns a backup of a journal with some events.
func backedUp(t *testing.T) ([]byte, *ledger) {
	t.Helper()
	dir, l := filepath.Join(t.TempDir(), "journal"), newLedger()
	must(t, journal.Create(dir, journal.Options{}), firstEvent(dir, l), firstEvent(dir, l))
	r, err := journal.OpenReader(dir)
	must(t, err)
	var file bytes.Buffer
	must(t, r.Backup(t.Context(), &file, journal.Source{}, nil), r.Close())
	return file.Bytes(), l
}

// holds reports whether a journal is sound and holds the events.
func holds(dir string, l *ledger) error {
	r, err := journal.Check(dir)
	if err != nil {
		return err
	}
	if !r.OK() || r.Events != uint64(len(l.at)) {
		return fmt.Errorf("check: %+v, %d events", r, len(l.at))
	}
	return nil
}
