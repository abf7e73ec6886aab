//go:build linux && (amd64 || arm64)

package powercut

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/journal"
)

// rounds returns how many cuts a test makes: so many for a change, and so many
// per hundred of AVOQADO_TORTURE, which is a number of cuts.
func rounds(t *testing.T, change, percent int) int {
	t.Helper()
	if n, err := strconv.Atoi(os.Getenv("AVOQADO_TORTURE")); err == nil && n > 0 {
		return max(n*percent/100, change)
	}
	if testing.Short() {
		return change / 2
	}
	return change
}

// seed returns what all of a test's choices come from, AVOQADO_SEED if it is
// set. Goroutines race, so a seed leads close to the same cut, not to it.
func seed(t *testing.T) uint64 {
	t.Helper()
	text := os.Getenv("AVOQADO_SEED")
	if text == "" {
		return rand.Uint64N(1<<63-1) + 1
	}
	n, err := strconv.ParseUint(text, 10, 63)
	must(t, err)
	return n
}

// summary prints the line that the table of `make torture` is made of.
func summary(t *testing.T, cuts int, seed uint64, note string) {
	violations := 0
	if t.Failed() {
		violations = 1
	}
	t.Logf("torture: %s|power cuts|%d|%d|%d|%s", t.Name(), cuts, violations, seed, note)
}

// box is a journal on a disk whose power may be cut at any moment.
type box struct {
	*journal.Journal
	l   *ledger
	rnd *rand.Rand
}

// isCut reports whether an error is one that a cut explains. What comes after
// the first may be any: the journal is then on its way out.
func isCut(err error) bool {
	return errors.Is(err, syscall.EIO) || errors.Is(err, journal.ErrClosed) || errors.Is(err, context.Canceled)
}

// TestJournalSurvives runs a busy journal and cuts its power, again and again.
func TestJournalSurvives(t *testing.T) {
	cuts, s := rounds(t, 60, 100), seed(t)
	const perDisk = 10
	d, root := newDisk(t)
	var total Report
	defer func() {
		summary(t, cuts, s, fmt.Sprintf("%d early; changes not durable: %d kept, %d torn, %d lost",
			total.Steps, total.Kept, total.Torn, total.Lost))
	}()
	var l *ledger
	events := 0
	for i := range cuts {
		rnd := rand.New(rand.NewPCG(s, uint64(i)))
		p := Plan{Seed: rnd.Uint64(), Ordered: i/perDisk%2 == 0}
		switch rnd.IntN(4) {
		case 0: // while it opens
			p.Step = 1 + rnd.IntN(12)
		case 1:
			p.Sync = 1 + rnd.IntN(150)
		default:
			p.Step = 1 + rnd.IntN(600)
		}
		if i%perDisk == 0 {
			l = newLedger()
			must(t, d.Format(root, Plan{Seed: p.Seed, Ordered: p.Ordered}))
			must(t, journal.Create(filepath.Join(root, "journal"), journal.Options{}))
		} else {
			must(t, d.Mount(root, p))
		}
		err := live(t, filepath.Join(root, "journal"), l, rnd)
		r, cutErr := d.Cut()
		must(t, cutErr)
		if r.Early {
			total.Steps++
		}
		total.Kept, total.Torn, total.Lost = total.Kept+r.Kept, total.Torn+r.Torn, total.Lost+r.Lost
		if err != nil {
			t.Fatalf("cut %d (AVOQADO_SEED=%d), %+v: %v", i, s, p, err)
		}
		if i%perDisk == perDisk-1 {
			events += int(l.top)
		}
	}
	t.Logf("%d events stored", events)
}

// live opens a journal, audits what it finds, and works until the power is
// cut or it has worked enough. It returns what is wrong.
func live(t *testing.T, dir string, l *ledger, rnd *rand.Rand) error {
	o := journal.Options{SegmentBytes: 32 << 10, RetainFor: time.Nanosecond, RetainBytes: 1}
	if r, err := journal.Check(dir); err != nil {
		return err // reads only, so a cut does not explain it
	} else if !r.OK() {
		return fmt.Errorf("check: %+v", r)
	}
	j, err := journal.Open(dir, o)
	if err != nil {
		if isCut(err) {
			return nil
		}
		return err
	}
	b := &box{Journal: j, l: l, rnd: rnd}
	if err := l.audit(j); err != nil { // before it trims
		return errors.Join(err, j.Close())
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { err = j.Run(ctx) })
	problem := b.work()
	cancel()
	wg.Wait()
	_ = j.Close() // the power is off
	return errors.Join(problem, err)
}

// work does all that a box does at once, until the first error.
func (b *box) work() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for name, s := range b.l.moved { // so that nothing is trimmed before they move
		if err := b.MoveCursor(name, event.Seq(s.kept)); err != nil {
			return explained(err)
		}
	}
	if err := b.sendAgain(ctx); err != nil {
		return explained(err)
	}
	const appenders = 3
	errs := make([]error, appenders+3)
	var senders, wg sync.WaitGroup
	done := make(chan struct{})
	for i := range appenders {
		rnd := rand.New(rand.NewPCG(b.rnd.Uint64(), 0))
		senders.Go(func() { errs[i] = b.send(ctx, rnd) })
	}
	for i, loop := range []func(*rand.Rand) error{b.moveCursors, b.put, b.trim} {
		rnd := rand.New(rand.NewPCG(b.rnd.Uint64(), 0))
		wg.Go(func() {
			for n := event.Seq(0); errs[appenders+i] == nil; n = b.Stored() {
				wait, end := context.WithTimeout(ctx, 10*time.Millisecond)
				_ = b.Wait(wait, n) // at the pace of the events
				end()
				select {
				case <-done:
					return
				default:
					errs[appenders+i] = loop(rnd)
				}
			}
		})
	}
	senders.Wait()
	close(done)
	wg.Wait()
	for i, err := range errs {
		errs[i] = explained(err)
	}
	return errors.Join(errs...)
}

func explained(err error) error {
	if isCut(err) {
		return nil
	}
	return err
}

// sendAgain repeats what got no answer, and some that did.
func (b *box) sendAgain(ctx context.Context) error {
	for _, e := range b.l.unanswered() {
		r, err := b.Append(ctx, e)
		if err != nil {
			return err
		}
		if err := b.l.promised(e, r); err != nil {
			return err
		}
	}
	for range 5 {
		e, seq := b.l.some(b.First(), b.rnd.IntN)
		if e == nil {
			continue
		}
		r, err := b.Append(ctx, e)
		if err != nil {
			return err
		}
		if (!r.Duplicate || r.Seq != seq) && b.First() <= seq { // a key is known as long as its event
			return fmt.Errorf("repeat of %s, stored at %d: %+v", e.ID, seq, r)
		}
		if err := b.l.promised(e, r); err != nil {
			return err
		}
	}
	return nil
}

func (b *box) send(ctx context.Context, rnd *rand.Rand) error {
	for range 60 {
		e := b.l.event(rnd.IntN(1+rnd.IntN(3000)), rnd.IntN(2) == 0)
		r, err := b.Append(ctx, e)
		if err != nil {
			return err
		}
		if err := b.l.promised(e, r); err != nil {
			return err
		}
	}
	return nil
}

func (b *box) moveCursors(rnd *rand.Rand) error {
	stored := uint64(b.Stored())
	for name, s := range b.l.moved {
		b.l.mu.Lock()
		from := s.kept
		b.l.mu.Unlock()
		to := max(from, stored-uint64(rnd.IntN(20))%(stored+1))
		done := b.l.try(s, to)
		if err := b.MoveCursor(name, event.Seq(to)); err != nil {
			return err
		}
		done()
		if b.Cursor(name) != event.Seq(to) {
			return fmt.Errorf("cursor %s moved to %d is at %d", name, to, b.Cursor(name))
		}
	}
	return nil
}

func (b *box) put(*rand.Rand) error {
	b.l.mu.Lock()
	n := b.l.state.tried + 1
	b.l.mu.Unlock()
	done := b.l.try(&b.l.state, n)
	value := []byte(strconv.FormatUint(n, 10))
	if err := b.Put("test", map[string][]byte{"one": value, "two": value}); err != nil {
		return err
	}
	done()
	return nil
}

func (b *box) trim(*rand.Rand) error {
	_, err := b.Trim()
	return err
}
