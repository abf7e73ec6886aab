//go:build linux

package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const secret = "a-secret-for-the-bench-0123456789"

// patience is how long anything in the lab may take.
const patience = 30 * time.Second

// lab is one switch with what is plugged into it. Not for concurrent use.
type lab struct {
	ctx   context.Context //nolint:containedctx // the lab's life
	dir   string
	box   string // the product's binary
	nodes []string
	ports map[string]bool // of the switch
	boxes map[string]*boxProcess
}

type boxProcess struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// newLab makes the switch "sw", and another one, "sw2".
func newLab(ctx context.Context, s settings) (*lab, error) {
	dir, err := os.MkdirTemp(s.dir, "lab-")
	if err != nil {
		return nil, err
	}
	l := &lab{ctx: ctx, dir: dir, box: s.box, ports: map[string]bool{}, boxes: map[string]*boxProcess{}}
	return l, l.ip("link add sw type bridge", "link set sw addrgenmode none up", "link add sw2 type bridge", "link set sw2 addrgenmode none up")
}

// close ends all that is in the lab.
func (l *lab) close() error {
	for name := range l.boxes {
		l.stop(name, syscall.SIGKILL)
	}
	var errs []error
	// A namespace that goes takes its cables along, but not at once.
	for port := range l.ports {
		errs = append(errs, runCommand(context.WithoutCancel(l.ctx), "ip", "link", "del", port))
	}
	for _, n := range l.nodes {
		errs = append(errs, runCommand(context.WithoutCancel(l.ctx), "ip", "netns", "del", n))
	}
	for _, name := range []string{"sw", "sw2"} {
		errs = append(errs, runCommand(context.WithoutCancel(l.ctx), "ip", "link", "del", name))
	}
	return errors.Join(errs...)
}

func runCommand(ctx context.Context, name string, args ...string) error {
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil { //nolint:gosec // of the bench
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// ip runs commands of ip(8) at the switch.
func (l *lab) ip(commands ...string) error {
	for _, c := range commands {
		if err := runCommand(l.ctx, "ip", strings.Fields(c)...); err != nil {
			return err
		}
	}
	return nil
}

// on runs commands of ip(8) at a node.
func (l *lab) on(node string, commands ...string) error {
	for _, c := range commands {
		if err := l.ip("-n " + node + " " + c); err != nil {
			return err
		}
	}
	return nil
}

// node makes a machine without a cable.
func (l *lab) node(name string) error {
	l.nodes = append(l.nodes, name)
	return l.ip("netns add "+name, "-n "+name+" link set lo up")
}

// plug connects a node's interface to the switch. The switch's end is called
// p-NODE-IFACE.
func (l *lab) plug(node, iface string, addresses ...string) error {
	port := "p-" + node + "-" + iface
	l.ports[port] = true
	// The same card when it comes again: others remember it (ARP).
	sum := sha256.Sum256([]byte(port))
	mac := fmt.Sprintf("02:%02x:%02x:%02x:%02x:%02x", sum[0], sum[1], sum[2], sum[3], sum[4])
	if err := l.ip("link add "+port+" type veth peer name "+iface+" address "+mac+" netns "+node, "link set "+port+" addrgenmode none master sw up"); err != nil {
		return err
	}
	for _, a := range addresses {
		if strings.Contains(a, ":") {
			a += " nodad"
		}
		if err := l.on(node, "addr add "+a+" dev "+iface); err != nil {
			return err
		}
	}
	return l.on(node, "link set "+iface+" up")
}

// host is node and plug.
func (l *lab) host(name string, addresses ...string) error {
	if err := l.node(name); err != nil {
		return err
	}
	return l.plug(name, "eth0", addresses...)
}

// withAvahi has a box's node run D-Bus and avahi before it.
const withAvahi = `mount -t tmpfs none /run && mkdir -p /run/dbus /run/avahi-daemon
dbus-daemon --system --nofork --nopidfile & until [ -S /run/dbus/system_bus_socket ]; do sleep 0.1; done
avahi-daemon --no-drop-root --no-chroot --no-rlimits >/dev/null 2>&1 &
exec "$@"`

// serve starts a box at a node, with the state it had there before, and returns
// when it serves.
func (l *lab) serve(node, id, venue string, avahi bool) error {
	if err := l.launch(node, id, venue, avahi); err != nil {
		return err
	}
	return l.until("box at "+node+" is announced", func() bool {
		st := l.status(node)
		return st.Discovery.State == "announcing" && (!avahi || st.Discovery.By == "avahi")
	})
}

func (l *lab) launch(node, id, venue string, avahi bool) error {
	state := filepath.Join(l.dir, node)
	config := filepath.Join(l.dir, node+".yaml")
	text := fmt.Sprintf("box: {id: %s, venue: %s}\nstate_dir: %q\nlan: {listen: \":8080\"}\njournal: {ballast_bytes: 0}\nlog: {level: warn}\n", id, venue, state)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	args := []string{"netns", "exec", node}
	if avahi {
		args = append(args, "sh", "-c", withAvahi, "sh")
	}
	cmd := exec.CommandContext(l.ctx, "ip", append(args, l.box, "run", "--config", config)...) //nolint:gosec // of the bench
	cmd.Env = append(os.Environ(), "ACCESS_TOKEN_SECRET="+secret)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	p := &boxProcess{cmd, make(chan struct{})}
	go func() {
		_ = cmd.Wait()
		close(p.done)
	}()
	l.boxes[node] = p
	return nil
}

// stop ends a box, with all that was started for it.
func (l *lab) stop(node string, signal syscall.Signal) {
	p := l.boxes[node]
	delete(l.boxes, node)
	_ = syscall.Kill(-p.cmd.Process.Pid, signal)
	<-p.done
}

// boxStatus is what the bench reads of a status.
type boxStatus struct {
	LAN struct {
		Key string `json:"key"`
	} `json:"lan"`
	Discovery struct {
		State string `json:"state"`
		By    string `json:"by"`
	} `json:"discovery"`
}

// status asks a box over its socket; it is empty if nobody answers.
func (l *lab) status(node string) (st boxStatus) {
	ctx, cancel := context.WithTimeout(l.ctx, 2*time.Second)
	defer cancel()
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(l.dir, node, "avoqado-edge.sock"))
	}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://box/api/v1/status", http.NoBody)
	if err != nil {
		return st
	}
	resp, err := c.Do(req)
	if err != nil {
		return st
	}
	defer func() { _ = resp.Body.Close() }()
	_ = json.NewDecoder(resp.Body).Decode(&st)
	return st
}

func (l *lab) until(what string, is func() bool) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(patience)
	for !is() {
		select {
		case <-l.ctx.Done():
			return l.ctx.Err()
		case <-tick.C:
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %s: %s", patience, what)
		}
	}
	return nil
}

// report is what `discover --json` says.
type report struct {
	Way    string  `json:"way"`
	TookMs float64 `json:"tookMs"`
	Advice string  `json:"advice"`
	Found  []struct {
		Box     string `json:"box"`
		Venue   string `json:"venue"`
		Address string `json:"address"`
	} `json:"found"`
}

// discover looks for a box as a terminal at a node does.
func (l *lab) discover(node string, args ...string) (r report, err error) {
	cmd := exec.CommandContext(l.ctx, "ip", append([]string{"netns", "exec", node, l.box, "discover", "--json"}, args...)...) //nolint:gosec // of the bench
	var exit *exec.ExitError
	out, err := cmd.Output()
	if err != nil && !errors.As(err, &exit) {
		return r, err
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return r, fmt.Errorf("discover says %q: %w", out, err)
	}
	return r, nil
}
