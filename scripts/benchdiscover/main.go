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
	"strings"
	"syscall"
	"time"
)

// settings are what the command line says.
type settings struct {
	dir   string
	box   string // the product's binary
	finds int    // in each network
	each  bool   // say how each find went
	only  *regexp.Regexp
}

// inside is set in the process that lives in the lab.
const inside = "BENCH_DISCOVER_LAB"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Stdout, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench-discover:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, args []string) error {
	var s settings
	f := flag.NewFlagSet("bench-discover", flag.ContinueOnError)
	f.StringVar(&s.dir, "dir", "", "`folder` for journals (default: here)")
	f.StringVar(&s.box, "box", "bin/avoqado-edge", "the box's `binary`")
	f.IntVar(&s.finds, "finds", 25, "finds in each network")
	f.BoolVar(&s.each, "v", false, "say how each find went")
	quick := f.Bool("quick", false, "three finds in each network, to see that it works")
	only := f.String("only", "", "`pattern` of the networks (default: all)")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *quick {
		s.finds = 3
	}
	var err error
	if s.only, err = regexp.Compile(*only); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("needs root: it makes network namespaces; try sudo make bench-discover")
	}
	if os.Getenv(inside) == "" {
		return enter(ctx, out)
	}
	if s.box, err = filepath.Abs(s.box); err != nil {
		return err
	}
	if s.dir, err = filepath.Abs(s.dir); err != nil {
		return err
	}
	if s.dir, err = os.MkdirTemp(s.dir, ".bench-discover-"); err != nil {
		return err
	}
	err = measure(ctx, out, s)
	return errors.Join(err, os.RemoveAll(s.dir))
}

// enter starts this program again where it disturbs nobody: with a network, a
// /run and names of namespaces of its own, which all end with it.
func enter(ctx context.Context, out io.Writer) error {
	for _, need := range []string{"unshare", "ip", "mount", "dbus-daemon", "avahi-daemon"} {
		if _, err := exec.LookPath(need); err != nil {
			return fmt.Errorf("%s is not installed (Debian: util-linux iproute2 dbus avahi-daemon)", need)
		}
	}
	const script = `mount -t tmpfs none /run && mkdir /run/netns && exec "$0" "$@"`
	cmd := exec.CommandContext(ctx, "unshare", append([]string{"--net", "--mount", "sh", "-c", script, os.Args[0]}, os.Args[1:]...)...) //nolint:gosec // this program
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("in the lab: %w", err)
	}
	return nil
}

func measure(ctx context.Context, out io.Writer, s settings) error {
	load, _ := os.ReadFile("/proc/loadavg")
	fmt.Fprintf(out, "%d finds in each network, load average %s\n", s.finds, strings.Join(strings.Fields(string(load))[:1], ""))
	var all []result
	for _, n := range networks() {
		if !s.only.MatchString(n.name) {
			continue
		}
		r, err := n.measure(ctx, s)
		if err != nil {
			return errors.Join(fmt.Errorf("%s: %w", n.name, err), printTable(out, all))
		}
		all = append(all, r)
		fmt.Fprintf(os.Stderr, "%s: %d finds, most %.2f s\n", n.name, len(r.took), most(r.took).Seconds())
	}
	return printTable(out, all)
}
