package uplink

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/needs"
)

// TestRealCable pulls a real cable and cuts a real router off.
func TestRealCable(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("waits for a line to be found dead")
	}
	needs.Apart(t, "^TestCableApart$")
}

func TestCableApart(t *testing.T) {
	needs.OnlyApart(t)
	mosquitto := needs.Program(t, "mosquitto")
	// The router of the venue, a cable to it, and a broker behind it.
	router := exec.Command("unshare", "--net", "--", "sh", "-c", "echo ready && read ended")
	end, err := router.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	said, err := router.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	begin(t, router)
	t.Cleanup(func() { _ = end.Close() })
	if line, err := bufio.NewReader(said).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the router says %q: %v", line, err)
	}
	pid := strconv.Itoa(router.Process.Pid)
	sh := func(command string) {
		t.Helper()
		command = strings.ReplaceAll(command, "ROUTER", pid)
		if out, err := exec.Command("sh", "-ec", command).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
	}
	sh(`ip link set lo up
		ip link add lan0 type veth peer name port netns ROUTER
		ip addr add 10.77.0.2/24 dev lan0
		ip link set lan0 up
		nsenter -t ROUTER -n ip link set lo up
		nsenter -t ROUTER -n ip addr add 10.77.0.1/24 dev port
		nsenter -t ROUTER -n ip addr add 198.51.100.7/32 dev lo
		nsenter -t ROUTER -n ip link set port up
		ip route add default via 10.77.0.1`)
	conf := filepath.Join(t.TempDir(), "mosquitto.conf")
	if err := os.WriteFile(conf, []byte("listener 1883 0.0.0.0\nallow_anonymous true\nuser root\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	begin(t, exec.Command("nsenter", "-t", pid, "-n", "--", mosquitto, "-c", conf))

	j := newMemory()
	u := newUplink(t, j, "tcp://198.51.100.7:1883", func(c *Config) { c.Confirm, c.Probe = Broker, "http://198.51.100.7:1883/" })
	running(t, "uplink", u.Run)
	patiently(t, "it is online", func() bool { return u.Status().State == Online })
	r, _ := recording(t, u, j, "boot")
	for i, fault := range []struct{ name, cut, mend string }{
		{NoLAN, "nsenter -t ROUTER -n ip link set port down", "nsenter -t ROUTER -n ip link set port up"}, // the router's end of the cable
		{NoLAN, "ip link set lan0 down", "ip link set lan0 up; ip route replace default via 10.77.0.1"},
		{NoRouter, "nsenter -t ROUTER -n ip addr del 10.77.0.1/24 dev port; ip neigh flush dev lan0", "nsenter -t ROUTER -n ip addr add 10.77.0.1/24 dev port"},
		{NoInternet, "nsenter -t ROUTER -n ip addr del 198.51.100.7/32 dev lo", "nsenter -t ROUTER -n ip addr add 198.51.100.7/32 dev lo"},
		{NoInternet, "ip route del default", "ip route add default via 10.77.0.1"},
	} {
		patiently(t, "it is online", func() bool { return u.Status().State == Online })
		h := held{cause: fault.name, cut: time.Now(), events: 10}
		sh(fault.cut)
		appendPayments(t, j, 10)
		patiently(t, fault.cut+": it says "+fault.name, func() bool {
			f := u.Status().Failure
			return f != nil && f.Name == fault.name && f.Remedy != ""
		})
		t.Logf("%s: %s", fault.cut, u.Status().Failure.Text)
		patiently(t, "it is in the outage", func() bool { return len(r.Outages()) == i+1 && r.Outages()[0].Cause == fault.name })
		h.mended = time.Now()
		sh(fault.mend)
		patiently(t, "it mends itself", func() bool { return u.Status().Synced == j.Stored() })
		h.check(t, r, i+1)
	}
}

// begin starts a program that ends with the test.
func begin(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = io.Discard
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
	})
}
