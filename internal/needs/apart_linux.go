package needs

import (
	"bytes"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

const apart = "AVOQADO_EDGE_TEST_APART"

// Apart runs the tests of this program whose names match pattern once more in a
// network, and with mounts, of their own, which nothing of the machine is part
// of. Each of them begins with OnlyApart. What they start dies with them.
func Apart(t *testing.T, pattern string) {
	t.Helper()
	if os.Getenv(apart) != "" {
		t.Skip("runs apart already")
	}
	Program(t, "ip")
	Program(t, "nsenter")
	unshare := Program(t, "unshare")
	Root(t, "make a network of its own")
	if out, err := exec.Command(unshare, "--net", "--mount", "true").CombinedOutput(); err != nil {
		Missing(t, "no network namespace here: "+err.Error()+" "+string(out))
	}
	cmd := exec.Command(unshare, "--net", "--mount", "--", os.Args[0], "-test.run="+pattern, "-test.v", "-test.timeout=8m")
	cmd.Env = append(os.Environ(), apart+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil || !bytes.Contains(out, []byte("--- PASS")) {
		t.Fatalf("%s: %v", pattern, err)
	}
}

// OnlyApart skips a test that is not run by Apart.
func OnlyApart(t testing.TB) {
	t.Helper()
	if os.Getenv(apart) == "" {
		t.Skip("runs apart")
	}
}
