package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"
)

// settings are what the command line says.
type settings struct {
	dir      string
	only     string
	callers  []int
	runs     int
	duration time.Duration
	fifo     int // events through the journal in the steady state
	queued   int // events that wait while it opens, or are trimmed
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Stdout, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, args []string) error {
	var s settings
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.StringVar(&s.dir, "dir", "", "`folder` on the disk to measure (default: here)")
	f.StringVar(&s.only, "only", "", "`part` to run: peers, fifo, open or trim (default: all)")
	f.IntVar(&s.runs, "runs", 5, "interleaved runs, of which the median counts")
	f.DurationVar(&s.duration, "time", time.Second, "time per run")
	f.IntVar(&s.fifo, "fifo", 200_000, "events through the steady state")
	f.IntVar(&s.queued, "queued", 1_000_000, "events that wait, or are trimmed")
	callers := f.String("callers", "1,16,64,256", "numbers of concurrent callers")
	quick := f.Bool("quick", false, "one short run of everything, to see that it works")
	child := f.String("open", "", "open the journal in this `folder`, and say what that took")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *child != "" {
		return openOnly(out, *child)
	}
	for n := range strings.SplitSeq(*callers, ",") {
		var count int
		if _, err := fmt.Sscan(n, &count); err != nil || count < 1 {
			return fmt.Errorf("callers %q: not a number of callers", n)
		}
		s.callers = append(s.callers, count)
	}
	if *quick {
		s.runs, s.duration, s.fifo, s.queued = 1, 100*time.Millisecond, 20_000, 20_000
	}
	dir, err := os.MkdirTemp(s.dir, ".bench-")
	if err != nil {
		return err
	}
	s.dir, err = filepath.Abs(dir)
	if err == nil {
		err = measure(ctx, out, s)
	}
	return errors.Join(err, os.RemoveAll(dir))
}

func measure(ctx context.Context, out io.Writer, s settings) error {
	d, err := findDevice(s.dir)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "disk %s (%s), %d-byte events, %d interleaved runs of %v, medians\n",
		d.name, d.fs, payloadBytes, s.runs, s.duration)
	for _, part := range []struct {
		name string
		run  func(context.Context, io.Writer, settings, device) error
	}{
		{"peers", peers}, {"fifo", fifo}, {"open", opening}, {"trim", trimming},
	} {
		if s.only != "" && s.only != part.name {
			continue
		}
		if err := part.run(ctx, out, s, d); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}
