package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/journal"
)

const (
	follower  = "follower"
	forAWhile = 24 * time.Hour
)

// fill stores n events as fast as it goes.
func (b *box) fill(ctx context.Context, n int, keyed bool) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for range n {
		i := b.n.Add(1)
		e := newEvent(i, newPayload(i))
		if keyed {
			e.DedupKey = string(e.ID)
		}
		wg.Add(1)
		err := b.Enqueue(ctx, e, func(_ event.Receipt, err error) {
			if err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
			wg.Done()
		})
		if err != nil {
			return err
		}
	}
	wg.Wait()
	return errors.Join(errs...)
}

// fifo lets events through: callers store, a follower reads and confirms, old
// segments go. What is left must be what retention says.
func fifo(ctx context.Context, out io.Writer, s settings, d device) error {
	const retain = 64 << 20
	o := journal.Options{RetainBytes: retain}
	dir := filepath.Join(s.dir, "fifo")
	b, err := openJournal(dir, o)
	if err != nil {
		return err
	}
	if err := errors.Join(b.MoveCursor(follower, 0), d.settle()); err != nil {
		return err
	}
	before, began := d.written(), time.Now()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	var followed error
	wg.Go(func() { followed = b.follow(ctx, event.Seq(s.fifo)) })
	var errs [64]error
	each := s.fifo / len(errs)
	for c := range errs {
		wg.Go(func() {
			for i := 0; i < each && errs[c] == nil; i++ {
				errs[c] = b.put(newPayload(int64(i)))
			}
		})
	}
	// The remainder, so that the follower gets what it waits for.
	for range s.fifo % len(errs) {
		if err := b.put(newPayload(0)); err != nil {
			return err
		}
	}
	wg.Wait()
	elapsed := time.Since(began)
	if err := errors.Join(followed, errors.Join(errs[:]...), d.settle()); err != nil {
		return err
	}
	if _, err := b.Trim(); err != nil {
		return err
	}
	st := b.Stats()
	fmt.Fprintf(out, "\nsteady state, %d callers, one follower: %d events at %.0f/s, %.0f device B/event\n"+
		"left on disk: %.0f MiB in %d segments, retention is %d MiB and the newest\n",
		len(errs), s.fifo, float64(s.fifo)/elapsed.Seconds(), float64(d.written()-before)/float64(s.fifo),
		float64(st.Bytes)/(1<<20), st.Segments, retain>>20)
	return errors.Join(b.close(), os.RemoveAll(dir))
}

// follow reads to an event and confirms each page.
func (b *box) follow(ctx context.Context, last event.Seq) error {
	for at := event.Seq(0); at < last; {
		if err := b.Wait(ctx, at); err != nil {
			return err
		}
		events, err := b.Read(at, 1024, 1<<20)
		if err != nil {
			return err
		}
		at = events[len(events)-1].Seq
		if err := b.MoveCursor(follower, at); err != nil {
			return err
		}
	}
	return nil
}

// opening measures how long a process takes to open a long queue that is in no
// cache, and what memory.
func opening(ctx context.Context, out io.Writer, s settings, _ device) error {
	dir := filepath.Join(s.dir, "open")
	b, err := openJournal(dir, journal.Options{RetainBytes: 1 << 40})
	if err != nil {
		return err
	}
	if err := errors.Join(b.MoveCursor(follower, 0), b.fill(ctx, s.queued, true), b.close()); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\nopening with %d events queued, each with a key, nothing cached\n", s.queued)
	for range s.runs {
		if err := uncache(dir); err != nil {
			return err
		}
		c := exec.CommandContext(ctx, self, "-open", dir)
		c.Stdout, c.Stderr = out, os.Stderr
		if err := c.Run(); err != nil {
			return err
		}
	}
	return os.RemoveAll(dir)
}

// openOnly is what the process does that is measured.
func openOnly(out io.Writer, dir string) error {
	before := peakRSS()
	began := time.Now()
	j, err := journal.Open(dir, journal.Options{RetainBytes: 1 << 40})
	if err != nil {
		return err
	}
	took := time.Since(began)
	st := j.Stats()
	fmt.Fprintf(out, "  ready in %v, peak RSS %s (%s before), %d segments, %.0f MiB on disk\n",
		took.Round(time.Millisecond), peakRSS(), before, st.Segments, float64(st.Bytes)/(1<<20))
	return j.Close()
}

// peakRSS returns the most memory this process has had, as the kernel says it.
func peakRSS() string {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// uncache lets go of what the page cache has of the files in a folder.
func uncache(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		f, err := os.Open(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		err = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// trimming measures a lone caller while a long history is deleted, and while
// it is not, in turn.
func trimming(ctx context.Context, out io.Writer, s settings, d device) error {
	var without, with []result
	var trims []time.Duration
	for range s.runs {
		for _, trim := range []bool{false, true} {
			r, took, err := trimOnce(ctx, s, d, trim)
			if err != nil {
				return err
			}
			if trim {
				with, trims = append(with, r), append(trims, took)
			} else {
				without = append(without, r)
			}
		}
	}
	fmt.Fprintf(out, "\na lone caller while %d old events are trimmed (that took %v)\n", s.queued, trims)
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tp50 µs\tp99 µs\tworst µs\t")
	for i, runs := range [][]result{without, with} {
		micros := func(of func(result) time.Duration) float64 {
			return median(runs, func(r result) float64 { return float64(of(r)) / 1000 })
		}
		fmt.Fprintf(t, "%s\t%.0f\t%.0f\t%.0f\t\n", [...]string{"without", "with"}[i],
			micros(func(r result) time.Duration { return r.p50 }),
			micros(func(r result) time.Duration { return r.p99 }),
			micros(func(r result) time.Duration { return r.worst }))
	}
	return t.Flush()
}

func trimOnce(ctx context.Context, s settings, d device, trim bool) (r result, took time.Duration, err error) {
	dir := filepath.Join(s.dir, "trim")
	keep := journal.Options{RetainBytes: 1 << 40, RetainFor: forAWhile}
	b, err := openJournal(dir, keep)
	if err != nil {
		return r, 0, err
	}
	if err := errors.Join(b.fill(ctx, s.queued, false), b.close()); err != nil {
		return r, 0, err
	}
	if trim {
		keep.RetainBytes = 1
	}
	if b, err = openJournal(dir, keep); err != nil {
		return r, 0, err
	}
	var wg sync.WaitGroup
	var trimmed error
	began := time.Now()
	wg.Go(func() {
		_, trimmed = b.Trim()
		took = time.Since(began)
	})
	r, err = load(ctx, s.duration, d, b, 1)
	wg.Wait()
	return r, took, errors.Join(err, trimmed, b.close(), os.RemoveAll(dir))
}
