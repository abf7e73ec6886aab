//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// peer is one of those measured.
type peer struct {
	name    string
	lan     bool // does all but the durable job
	durable bool // does that
	command func(s settings, dir string) (*exec.Cmd, error)
}

// The names that goals are about.
const (
	boxName  = "box"
	nodeName = "node"
)

func peers() []peer {
	return []peer{
		{boxName, true, true, box("fast")},
		{"box library", true, true, box("library")},
		{nodeName, true, true, node("each")},
		{"node grouped", false, true, node("grouped")},
		{"bare net.Conn", true, false, func(s settings, _ string) (*exec.Cmd, error) {
			return exec.Command(s.self, "-bare"), nil
		}},
	}
}

// box is the real program with a real journal and no cloud. It writes no line
// for each client, as Node writes none.
func box(transport string) func(settings, string) (*exec.Cmd, error) {
	return func(s settings, dir string) (*exec.Cmd, error) {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		config := filepath.Join(dir, "config.yaml")
		text := fmt.Sprintf("box: {id: b1, venue: %s}\nstate_dir: %q\nlan: {listen: \"127.0.0.1:%d\", transport: %s}\n"+
			"limits: {max_connections: 10000, max_events_per_window: 0, max_events_per_address: 0}\ndiscovery: {mode: off}\nlog: {level: error}\n%s\n",
			venue, filepath.Join(dir, "state"), port, transport, strings.ReplaceAll(s.config, `\n`, "\n"))
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			return nil, err
		}
		cmd := exec.Command(s.box, "run", "--config", config)
		cmd.Env = append(os.Environ(), "ACCESS_TOKEN_SECRET="+secret, "BENCH_PORT="+strconv.Itoa(port))
		return cmd, nil
	}
}

func node(commit string) func(settings, string) (*exec.Cmd, error) {
	return func(s settings, dir string) (*exec.Cmd, error) {
		cmd := exec.Command("node", filepath.Join(s.node, "server.mjs"), filepath.Join(dir, "node.db"), commit)
		cmd.Env = append(os.Environ(), "ACCESS_TOKEN_SECRET="+secret, "NODE_ENV=production")
		return cmd, nil
	}
}

// freePort finds one for a program that does not say which it took.
func freePort() (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	var port int
	if err == nil {
		var name unix.Sockaddr
		if name, err = unix.Getsockname(fd); err == nil {
			port = name.(*unix.SockaddrInet4).Port // as it was bound
		}
	}
	return port, errors.Join(err, unix.Close(fd))
}

// server is a peer that runs.
type server struct {
	cmd  *exec.Cmd
	dir  string
	addr netip.AddrPort
}

const (
	startTimeout = 20 * time.Second
	stopTimeout  = 10 * time.Second
)

// startServer starts a peer on the first core and returns when it serves.
func startServer(ctx context.Context, s settings, p peer) (*server, error) {
	dir, err := os.MkdirTemp(s.dir, "peer-")
	if err != nil {
		return nil, err
	}
	cmd, err := p.command(s, dir)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = onCore(s.serverCore, cmd.Start)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	srv := &server{cmd: cmd, dir: dir}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	port := 0
	for _, v := range cmd.Env {
		if after, ok := strings.CutPrefix(v, "BENCH_PORT="); ok {
			port, _ = strconv.Atoi(after)
			err = waitReady(ctx, port)
		}
	}
	if port == 0 { // the others say theirs, first thing
		late := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
		var line string
		if line, err = bufio.NewReader(out).ReadString('\n'); err == nil {
			port, err = strconv.Atoi(strings.TrimSpace(line))
		}
		late()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", p.name, err), srv.stop())
	}
	srv.addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(port))
	return srv, nil
}

func waitReady(ctx context.Context, port int) error {
	url := fmt.Sprintf("http://127.0.0.1:%d/readyz", port)
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				http.DefaultClient.CloseIdleConnections()
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready after %v", startTimeout)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *server) stop() error {
	_ = s.cmd.Process.Signal(unix.SIGTERM)
	late := time.AfterFunc(stopTimeout, func() { _ = s.cmd.Process.Kill() })
	_ = s.cmd.Wait() // it was told to go; how it says so is its own business
	late.Stop()
	return os.RemoveAll(s.dir)
}

// cpu returns the time that all threads of the server have had, ever: utime and
// stime of /proc/PID/stat, but to the nanosecond instead of 10 ms.
func (s *server) cpu() (time.Duration, error) {
	const processClock = 2 // of the kernel's: time scheduled, of a whole process
	return cpuTime(int32(^s.cmd.Process.Pid)<<3 | processClock)
}

const ownClock = unix.CLOCK_PROCESS_CPUTIME_ID

func cpuTime(clock int32) (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(clock, &t); err != nil {
		return 0, fmt.Errorf("read CPU time: %w", err)
	}
	return time.Duration(t.Nano()), nil
}

// rss returns the resident memory of the server, in KiB.
func (s *server) rss() (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, after, _ := bytes.Cut(b, []byte("VmRSS:"))
	var kib float64
	if _, err := fmt.Sscan(string(after), &kib); err != nil {
		return 0, fmt.Errorf("read VmRSS: %w", err)
	}
	return kib, nil
}

// onCore calls start on a thread that is bound to one core, which what is
// started inherits. A core of -1 binds nothing.
func onCore(core int, start func() error) error {
	if core < 0 {
		return start()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, only unix.CPUSet
	only.Set(core)
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return fmt.Errorf("read affinity: %w", err)
	}
	if err := unix.SchedSetaffinity(0, &only); err != nil {
		return fmt.Errorf("bind to core %d: %w", core, err)
	}
	return errors.Join(start(), unix.SchedSetaffinity(0, &before))
}

// cores returns the one for servers and the one for the load, or twice -1 where
// there is but one.
func cores() (forServer, forLoad int, err error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return 0, 0, fmt.Errorf("read affinity: %w", err)
	}
	var found []int
	for core := 0; len(found) < 2 && core < len(set)*64; core++ {
		if set.IsSet(core) {
			found = append(found, core)
		}
	}
	if len(found) < 2 {
		return -1, -1, nil
	}
	return found[0], found[1], nil
}
