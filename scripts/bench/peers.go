package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"
)

// peers runs every store in turn, A B C A B C …, so that whatever else the
// machine does meets all of them alike.
func peers(ctx context.Context, out io.Writer, s settings, d device) error {
	for _, callers := range s.callers {
		runs := map[string][]result{}
		for range s.runs {
			for _, subject := range subjects() {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				r, err := once(ctx, s, d, subject, callers)
				if err != nil {
					return fmt.Errorf("%s, %d callers: %w", subject.name, callers, err)
				}
				runs[subject.name] = append(runs[subject.name], r)
			}
		}
		if err := printPeers(out, callers, runs); err != nil {
			return err
		}
	}
	return nil
}

// once opens a new store, loads it, and removes it.
func once(ctx context.Context, s settings, d device, subject subject, callers int) (result, error) {
	dir := filepath.Join(s.dir, "peer")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return result{}, err
	}
	opened, err := subject.open(dir)
	if err != nil {
		return result{}, err
	}
	r, err := load(ctx, s.duration, d, opened, callers)
	return r, errors.Join(err, opened.close(), os.RemoveAll(dir))
}

func load(ctx context.Context, duration time.Duration, d device, s store, callers int) (result, error) {
	if err := d.settle(); err != nil {
		return result{}, err
	}
	before := d.written()
	ctx, cancel := context.WithTimeout(ctx, duration)
	defer cancel()
	began := time.Now()
	took, err := drive(ctx, s, callers)
	elapsed := time.Since(began)
	if err = errors.Join(err, d.settle()); err != nil || len(took) == 0 {
		return result{}, err
	}
	r := result{
		perSecond: float64(len(took)) / elapsed.Seconds(),
		bytes:     float64(d.written()-before) / float64(len(took)),
	}
	slices.Sort(took)
	r.p50, r.p99, r.worst = percentile(took, 0.5), percentile(took, 0.99), took[len(took)-1]
	return r, nil
}

func printPeers(out io.Writer, callers int, runs map[string][]result) error {
	speed := func(name string) float64 {
		return median(runs[name], func(r result) float64 { return r.perSecond })
	}
	micros := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
	fmt.Fprintf(out, "\n%d callers\n", callers)
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tevents/s\tp50 µs\tp99 µs\tdevice B/event\tof bare\tof sqlite\t")
	for _, subject := range subjects() {
		r := runs[subject.name]
		fmt.Fprintf(t, "%s\t%.0f\t%.0f\t%.0f\t%.0f\t%.2f\t%.2f\t\n", subject.name, speed(subject.name),
			median(r, func(r result) float64 { return micros(r.p50) }),
			median(r, func(r result) float64 { return micros(r.p99) }),
			median(r, func(r result) float64 { return r.bytes }),
			speed(subject.name)/speed(bareName), speed(subject.name)/speed(sqliteName))
	}
	return t.Flush()
}
