//go:build linux && (amd64 || arm64)

package powercut

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/journal"
)

// TestTrimLeavesNoHole cuts the power while many segments are deleted at once.
func TestTrimLeavesNoHole(t *testing.T) {
	cuts, s := rounds(t, 24, 10), seed(t)
	d, root := newDisk(t)
	dir := filepath.Join(root, "journal")
	fewer := 0
	defer func() { summary(t, cuts, s, fmt.Sprintf("%d left fewer segments", fewer)) }()
	o := journal.Options{SegmentBytes: 16 << 10, RetainFor: time.Nanosecond}
	for i := range cuts {
		rnd := rand.New(rand.NewPCG(s, uint64(i)))
		p := Plan{Seed: rnd.Uint64(), Ordered: i%4 == 0, Step: 8 + rnd.IntN(16)}
		fail := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatalf("cut %d (AVOQADO_SEED=%d), %+v: %v", i, s, p, err)
			}
		}
		l := newLedger()
		must(t, d.Format(root, Plan{Ordered: p.Ordered}))
		must(t, journal.Create(dir, o))
		fail(fill(dir, o, l))
		_, err := d.Cut()
		must(t, err, d.Mount(root, p))
		fail(explained(trimAll(dir, o, l, i%2 == 1)))
		_, err = d.Cut()
		must(t, err, d.Mount(root, Plan{Ordered: p.Ordered}))
		r, err := journal.Check(dir)
		fail(err)
		if !r.OK() {
			fail(fmt.Errorf("check: %+v", r))
		}
		if r.First > 1 {
			fewer++
		}
		j, err := journal.Open(dir, o)
		fail(err)
		fail(l.audit(j))
		must(t, j.Close())
		_, err = d.Cut()
		must(t, err)
	}
	if fewer == 0 {
		t.Error("nothing was ever trimmed")
	}
}

// fill appends until there are many segments, none of which may go yet.
func fill(dir string, o journal.Options, l *ledger) error {
	j, err := journal.Open(dir, o)
	if err != nil {
		return err
	}
	defer j.Close()
	l.epoch = j.Epoch()
	for name := range l.moved {
		if err := j.MoveCursor(name, 0); err != nil {
			return err
		}
	}
	return running(j, func() error {
		for range 40 {
			e := l.event(3000, false)
			r, err := j.Append(context.Background(), e)
			if err != nil {
				return err
			}
			if err := l.promised(e, r); err != nil {
				return err
			}
		}
		return nil
	})
}

// trimAll moves the cursors to the end and trims, or compacts: by either way
// many segments go at once.
func trimAll(dir string, o journal.Options, l *ledger, compact bool) error {
	j, err := journal.Open(dir, o)
	if err != nil {
		return err
	}
	defer j.Close()
	for name, s := range l.moved {
		done := l.try(s, uint64(j.Stored()))
		if err := j.MoveCursor(name, event.Seq(s.tried)); err != nil {
			return err
		}
		done()
	}
	if compact {
		_, err = j.Compact(0)
		return err
	}
	_, err = j.Trim()
	return err
}
