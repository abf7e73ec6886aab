//go:build linux && (amd64 || arm64)

package powercut

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"

	"github.com/avoqado/avoqado-edge/internal/journal"
)

// TestCreationSurvives cuts the power at each change in turn of the very first
// start: directories, journal, first opening, first event.
func TestCreationSurvives(t *testing.T) {
	cuts, s := rounds(t, 120, 50), seed(t)
	d, root := newDisk(t)
	dir := filepath.Join(root, "var", "lib", "journal") // none of them there yet
	created, ready, step, steps := 0, 0, 1, 0
	defer func() {
		summary(t, cuts, s, fmt.Sprintf("%d changes in a first start; created %d times, ready %d times", steps, created, ready))
	}()
	for i := range cuts {
		rnd := rand.New(rand.NewPCG(s, uint64(i)))
		p := Plan{Seed: rnd.Uint64(), Step: step, Ordered: i%2 == 0}
		fail := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatalf("cut %d (AVOQADO_SEED=%d), %+v: %v", i, s, p, err)
			}
		}
		l := newLedger()
		must(t, d.Format(root, p))
		err := journal.Create(dir, journal.Options{})
		promised := err == nil
		if promised {
			created++
			err = firstEvent(dir, l)
		}
		if err == nil {
			ready++
		}
		fail(explained(err))
		r, err := d.Cut()
		must(t, err)

		must(t, d.Mount(root, Plan{Ordered: p.Ordered}))
		err = firstEvent(dir, l)
		if errors.Is(err, journal.ErrMissing) && !promised {
			if err = journal.Create(dir, journal.Options{}); err == nil {
				err = firstEvent(dir, l)
			}
		}
		fail(err)
		_, err = d.Cut()
		must(t, err, d.Mount(root, Plan{Ordered: p.Ordered}))
		fail(firstEvent(dir, l))
		if len(l.at) < 2 || len(l.at) > 4 {
			t.Fatalf("%d events", len(l.at))
		}
		_, err = d.Cut()
		must(t, err)
		if step++; !r.Early { // beyond the last change
			step, steps = 1, r.Steps
		}
	}
	if created == 0 || ready == 0 {
		t.Errorf("created %d times, ready %d times of %d", created, ready, cuts)
	}
}

// firstEvent opens a journal, audits it, and stores one event.
func firstEvent(dir string, l *ledger) error {
	r, err := journal.Check(dir)
	if err != nil {
		return err
	}
	if !r.OK() {
		return fmt.Errorf("check: %+v", r)
	}
	j, err := journal.Open(dir, journal.Options{})
	if err != nil {
		return err
	}
	defer j.Close()
	if err := l.audit(j); err != nil {
		return err
	}
	return running(j, func() error {
		e := l.event(300, true)
		receipt, err := j.Append(context.Background(), e)
		if err != nil {
			return err
		}
		return l.promised(e, receipt)
	})
}

// running runs a journal as long as fn takes.
func running(j *journal.Journal, fn func() error) error {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { _ = j.Run(ctx) }) // nil always
	return fn()
}
