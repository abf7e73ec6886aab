//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// child is a process that is measured or helps.
type child struct {
	cmd *exec.Cmd
	log *bytes.Buffer // read once it has ended
}

const (
	patience    = 20 * time.Second
	stopTimeout = 15 * time.Second
)

func startChild(name string, env []string, args ...string) (*child, error) {
	c := &child{cmd: exec.Command(name, args...), log: &bytes.Buffer{}}
	c.cmd.Env = append(os.Environ(), env...)
	c.cmd.Stdout, c.cmd.Stderr = c.log, c.log
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	return c, nil
}

// stop ends the process; how it ends is its own business.
func (c *child) stop() {
	_ = c.cmd.Process.Signal(unix.SIGTERM)
	late := time.AfterFunc(stopTimeout, func() { _ = c.cmd.Process.Kill() })
	defer late.Stop()
	_ = c.cmd.Wait()
}

// cpu returns the time that all threads of the process have had, to the nanosecond.
func (c *child) cpu() (time.Duration, error) {
	const processClock = 2 // of the kernel's: time scheduled, of a whole process
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^c.cmd.Process.Pid)<<3|processClock, &t); err != nil {
		return 0, fmt.Errorf("read CPU time: %w", err)
	}
	return time.Duration(t.Nano()), nil
}

// memory returns a line of /proc/PID/status, in MiB.
func (c *child) memory(line string) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, after, _ := bytes.Cut(b, []byte(line+":"))
	var kib float64
	if _, err := fmt.Sscan(string(after), &kib); err != nil {
		return 0, fmt.Errorf("read %s: %w", line, err)
	}
	return kib / 1024, nil
}

// freePort finds one for a program that does not say which it took.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// until asks a hundred times a second.
func until(what string, limit time.Duration, ok func() bool) error {
	late := time.NewTimer(limit)
	defer late.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-late.C:
			return fmt.Errorf("not within %v: %s", limit, what)
		case <-tick.C:
		}
	}
	return nil
}

// mosquitto starts one with these lines in its configuration.
func mosquitto(dir string, lines ...string) (*child, string, error) {
	program, err := exec.LookPath("mosquitto")
	if err != nil {
		if program, err = exec.LookPath("/usr/sbin/mosquitto"); err != nil {
			return nil, "", errors.New("mosquitto is not installed: run scripts/setup")
		}
	}
	port, err := freePort()
	if err != nil {
		return nil, "", err
	}
	lines = append([]string{fmt.Sprintf("listener %d 127.0.0.1", port), "allow_anonymous true", "log_dest stderr", "log_type error", "max_queued_messages 0"}, lines...)
	if os.Getuid() == 0 {
		lines = append(lines, "user root") // who owns the folder
	}
	dir, err = os.MkdirTemp(dir, "mosquitto-")
	if err != nil {
		return nil, "", err
	}
	config := filepath.Join(dir, "mosquitto.conf")
	text := strings.ReplaceAll(strings.Join(lines, "\n"), "DIR", dir) + "\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, "", err
	}
	c, err := startChild(program, nil, "-c", config)
	if err != nil {
		return nil, "", err
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	err = until("mosquitto answers", patience, func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	if err != nil {
		c.stop()
		return nil, "", fmt.Errorf("%w\n%s", err, c.log)
	}
	return c, addr, nil
}

// upstream is the broker in the cloud: no limit of its own, nothing on disk.
func upstream(dir string) (*child, string, error) {
	return mosquitto(dir, "persistence false", "max_inflight_messages 0")
}

// bridge is the peer: a broker in the venue with a connection to the cloud.
func bridge(dir string, port, inflight int) (*child, string, error) {
	lines := []string{
		"persistence true", "persistence_location DIR/",
		"connection cloud", fmt.Sprintf("address 127.0.0.1:%d", port), "topic avoqado/# out 1",
		"cleansession false", "restart_timeout 1", "notifications false", "bridge_protocol_version mqttv311",
		"remote_clientid bench-bridge", "local_clientid bench-local",
	}
	if inflight >= 0 {
		lines = append([]string{fmt.Sprintf("max_inflight_messages %d", inflight), "set_tcp_nodelay true"}, lines...)
	}
	return mosquitto(dir, lines...)
}

// box is the real program.
func box(s settings, state string, port int, confirm string, compress bool) (*child, string, error) {
	lan, err := freePort()
	if err != nil {
		return nil, "", err
	}
	config := state + ".yaml"
	text := fmt.Sprintf("box: {id: b1, venue: %s}\nstate_dir: %q\nsocket: %q\nlan: {listen: \"127.0.0.1:%d\"}\n"+
		"uplink: {brokers: [\"tcp://127.0.0.1:%d\"], confirm: %s, compress: %t, live: true}\n"+
		"limits: {max_events_per_window: 0, max_events_per_address: 0}\ndiscovery: {mode: off}\nlog: {level: error}\n",
		venue, state, state+".sock", lan, port, confirm, compress)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, "", err
	}
	c, err := startChild(s.box, []string{"ACCESS_TOKEN_SECRET=" + secret}, "run", "--config", config)
	if err != nil {
		return nil, "", err
	}
	url := fmt.Sprintf("http://127.0.0.1:%d", lan)
	err = until("the box is ready", patience, func() bool {
		resp, err := http.Get(url + "/readyz")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	if err != nil {
		c.stop()
		return nil, "", fmt.Errorf("%w\n%s", err, c.log)
	}
	return c, url, nil
}
