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
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// settings are what the command line says, and what it means here.
type settings struct {
	dir    string // on the disk of the durable job
	box    string // the product's binary
	node   string // folder of server.mjs and what it needs
	config string // more lines for the box
	only   string // part to run; empty: all
	self   string

	runs     int
	duration time.Duration // of each measurement
	steady   time.Duration // of the durable one at a steady rate
	warm     time.Duration // before each
	settle   time.Duration // before memory is read

	serverCore int // -1: any
	loadCore   int
}

// wants says whether a part is to be run.
func (s settings) wants(part string) bool { return s.only == "" || s.only == part }

// openFiles is what 2,000 clients need on either side, with room.
const openFiles = 8192

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Stdout, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench-lan:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, args []string) error {
	var s settings
	f := flag.NewFlagSet("bench-lan", flag.ContinueOnError)
	f.StringVar(&s.dir, "dir", "", "`folder` on the disk to measure the durable job on (default: here)")
	f.StringVar(&s.box, "box", "bin/avoqado-edge", "the box's `binary`")
	f.StringVar(&s.node, "node", "scripts/benchlan/node", "`folder` of the Node peer")
	f.StringVar(&s.config, "config", "", `more of the box's configuration, as "redis: {...}\nlog: {...}"`)
	f.IntVar(&s.runs, "runs", 5, "interleaved runs, of which the median counts")
	f.DurationVar(&s.duration, "time", 1500*time.Millisecond, "time per measurement")
	f.StringVar(&s.only, "only", "", "`part` to run: connect, fanout, acks or durable (default: all)")
	names := f.String("peers", "", "`names` of the peers to run, separated by commas (default: all)")
	quick := f.Bool("quick", false, "one short run of everything, to see that it works")
	child := f.Bool("bare", false, "be the bare server")
	if err := f.Parse(args); err != nil {
		return err
	}
	s.steady, s.warm, s.settle = 4*s.duration, 300*time.Millisecond, 2*time.Second
	if *quick {
		s.runs, s.duration, s.steady = 1, 500*time.Millisecond, time.Second
		s.warm, s.settle = 100*time.Millisecond, 100*time.Millisecond
	}
	if err := allowFiles(); err != nil {
		return err
	}
	if *child {
		return serveBare(out)
	}
	chosen, err := choose(*names)
	if err != nil {
		return err
	}
	if s.self, err = os.Executable(); err != nil {
		return err
	}
	if s.dir, err = filepath.Abs(s.dir); err != nil {
		return err
	}
	if s.dir, err = os.MkdirTemp(s.dir, ".bench-lan-"); err != nil {
		return err
	}
	err = measure(ctx, out, s, chosen)
	return errors.Join(err, os.RemoveAll(s.dir))
}

// allowFiles raises what this process may open, and those it starts.
func allowFiles() error {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("read limit of open files: %w", err)
	}
	if l.Max < openFiles {
		return fmt.Errorf("open files: %d are allowed, %d needed", l.Max, openFiles)
	}
	// Also where it is enough already: what Go raised for itself it takes back
	// from the processes it starts, unless somebody has set it.
	l.Cur = max(l.Cur, openFiles)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("raise limit of open files: %w", err)
	}
	return nil
}

func choose(names string) ([]peer, error) {
	if names == "" {
		return peers(), nil
	}
	var chosen []peer
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(peers(), func(p peer) bool { return p.name == name })
		if i < 0 {
			return nil, fmt.Errorf("peers: there is no %q", name)
		}
		chosen = append(chosen, peers()[i])
	}
	return chosen, nil
}

// measure runs the peers in turn, A B C A B C …, so that whatever else the
// machine does meets all of them alike.
func measure(ctx context.Context, out io.Writer, s settings, chosen []peer) error {
	var err error
	if s.serverCore, s.loadCore, err = cores(); err != nil {
		return err
	}
	// The load is one thread. Its core is its own; Go's other threads hardly run.
	runtime.LockOSThread()
	if s.loadCore >= 0 {
		var set unix.CPUSet
		set.Set(s.loadCore)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			return fmt.Errorf("bind to core %d: %w", s.loadCore, err)
		}
	}
	version, _ := exec.CommandContext(ctx, "node", "--version").Output() // without it, its peer says so
	fmt.Fprintf(out, "%s, node %s, servers on core %d, load on core %d, %d-byte events, %d interleaved runs of %v, medians\n",
		runtime.Version(), strings.TrimSpace(string(version)), s.serverCore, s.loadCore, eventBytes, s.runs, s.duration)
	runs := map[string][]figures{}
	began := time.Now()
	for n := range s.runs {
		for _, p := range chosen {
			f, err := measurePeer(ctx, s, p)
			if err != nil { // what there is by now is shown all the same
				return errors.Join(fmt.Errorf("run %d of %s: %w", n+1, p.name, err), printTable(out, chosen, runs))
			}
			runs[p.name] = append(runs[p.name], f)
			fmt.Fprintf(out, "run %d: %s, %v\n", n+1, p.name, time.Since(began).Round(time.Second))
		}
	}
	return printTable(out, chosen, runs)
}
