//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// settings are what the command line says, and what it means here.
type settings struct {
	dir     string
	box     string // the product's binary
	runs    int
	events  int
	big     bool
	least   time.Duration // of measuring live events without a backlog
	longest time.Duration // of a drain
	only    *regexp.Regexp
}

// filled is where the state of a box with a backlog is kept, to be copied.
func (s settings) filled(events int) string {
	return filepath.Join(s.dir, fmt.Sprintf("filled-%d", events))
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Stdout, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench-uplink:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, args []string) error {
	var s settings
	f := flag.NewFlagSet("bench-uplink", flag.ContinueOnError)
	f.StringVar(&s.dir, "dir", "", "`folder` for journals (default: here)")
	f.StringVar(&s.box, "box", "bin/avoqado-edge", "the box's `binary`")
	f.IntVar(&s.runs, "runs", 5, "interleaved runs, of which the median counts")
	f.IntVar(&s.events, "events", 100_000, "events of the backlog")
	f.BoolVar(&s.big, "big", false, "also drain a backlog ten times as large, once, for its memory")
	quick := f.Bool("quick", false, "one short run of everything, to see that it works")
	only := f.String("only", "", "`pattern` of the drains to run (default: all)")
	if err := f.Parse(args); err != nil {
		return err
	}
	s.least, s.longest = 5*time.Second, 10*time.Minute
	if *quick {
		s.runs, s.events = 1, 3000
		s.least, s.longest = 500*time.Millisecond, time.Minute
	}
	var err error
	if s.only, err = regexp.Compile(*only); err != nil {
		return err
	}
	if s.dir, err = filepath.Abs(s.dir); err != nil {
		return err
	}
	if s.dir, err = os.MkdirTemp(s.dir, ".bench-uplink-"); err != nil {
		return err
	}
	err = compare(ctx, out, s)
	return errors.Join(err, os.RemoveAll(s.dir))
}

// compare runs the drains in turn, A B C A B C …, so that whatever else the
// machine does meets all of them alike.
func compare(ctx context.Context, out io.Writer, s settings) error {
	fmt.Fprintln(out, facts(ctx))
	fmt.Fprintf(out, "backlog of %d events with payloads of %d bytes, QoS 1, %d interleaved runs, medians\n", s.events, eventBytes, s.runs)
	began := time.Now()
	runs := map[string][]figures{}
	filled := map[int]bool{}
	one := func(c scenario) error {
		if !c.bridge && !filled[c.events] {
			if err := fillJournal(ctx, s.filled(c.events), c.events); err != nil {
				return fmt.Errorf("fill a journal: %w", err)
			}
			filled[c.events] = true
		}
		f, err := drain(ctx, s, c)
		if err != nil { // what there is by now is shown all the same
			return errors.Join(fmt.Errorf("%s: %w", c.name, err), printTable(out, s, runs))
		}
		runs[c.name] = append(runs[c.name], f)
		fmt.Fprintf(out, "%6s  %-26s %8.0f events/s  %5.2f s CPU  %5.1f MiB%s\n", time.Since(began).Round(time.Second), c.name, f["rate"], f["cpu"], f["own"], lives(f))
		return ctx.Err()
	}
	for range s.runs {
		for _, c := range scenarios(s) {
			if !s.only.MatchString(c.name) {
				continue
			}
			if err := one(c); err != nil {
				return err
			}
		}
	}
	if s.big {
		if err := one(scenario{name: bigName, confirm: "broker", events: 10 * s.events}); err != nil {
			return err
		}
	}
	return printTable(out, s, runs)
}

func lives(f figures) string {
	if _, ok := f["live"]; !ok {
		return ""
	}
	return fmt.Sprintf("  live p50 %.1f, p99 %.1f ms, without a backlog p99 %.1f ms", f["live p50"], f["live"], f["idle"])
}

// facts says on what it is measured.
func facts(ctx context.Context) string {
	broker := "mosquitto"
	if path, err := exec.LookPath("/usr/sbin/mosquitto"); err == nil {
		said, _ := exec.CommandContext(ctx, path, "-h").Output() // it exits with 3
		first, _, _ := strings.Cut(string(said), "\n")
		broker = strings.TrimSpace(first)
	}
	model := "processor unknown"
	if cpu, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if m := regexp.MustCompile(`(?m)^model name\s*: (.*)$`).FindSubmatch(cpu); m != nil {
			model = string(m[1])
		}
	}
	load, _ := os.ReadFile("/proc/loadavg")
	return fmt.Sprintf("%s, %s, %d cores of %s, load average %s", runtime.Version(), broker, runtime.NumCPU(), model, strings.Join(strings.Fields(string(load))[:1], ""))
}
