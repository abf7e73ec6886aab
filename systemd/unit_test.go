package systemd_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/avoqado/avoqado-edge/systemd"

	"github.com/avoqado/avoqado-edge/internal/needs"
)

// analyze runs systemd-analyze, which needs no running systemd.
func analyze(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(needs.Program(t, "systemd-analyze"), args...).CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestExposure: the service may do little more than its job.
func TestExposure(t *testing.T) {
	out := analyze(t, "security", "--offline=true", "--threshold=13", "avoqado-edge.service")
	if !strings.Contains(out, "Overall exposure level for avoqado-edge.service") {
		t.Errorf("no verdict:\n%s", out)
	}
}

// TestVerify: systemd understands every line. The program stands in for itself:
// it is not installed here.
func TestVerify(t *testing.T) {
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"avoqado-edge.service", "avoqado-edge-trial.service"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, program := range []string{"/usr/bin/avoqado-edge", "/usr/lib/avoqado-edge/trial"} {
			text = bytes.ReplaceAll(text, []byte("="+program), []byte("="+self))
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
		out := analyze(t, "verify", "--man=no", filepath.Join(dir, name))
		for line := range strings.Lines(out) {
			if strings.Contains(line, "avoqado-edge") { // it speaks of the machine's other units, too
				t.Error(line)
			}
		}
	}
}

// What a file says behind a value is part of the value (systemd.syntax(7)).
func TestNoTrailingComments(t *testing.T) {
	for line := range strings.Lines(string(systemd.Unit)) {
		if !strings.HasPrefix(line, "#") && strings.Contains(line, "#") {
			t.Errorf("a comment behind a value: %s", line)
		}
	}
}

// TestPageNamesTheSecrets: the page of the unit lists every file that it hands over.
func TestPageNamesTheSecrets(t *testing.T) {
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^LoadCredential=(\w+):/etc/avoqado-edge/(\w+)$`).FindAllSubmatch(systemd.Unit, -1)
	if len(found) < 5 {
		t.Fatalf("%d secrets in the unit", len(found))
	}
	for _, m := range found {
		if !bytes.Equal(m[1], m[2]) || !bytes.Contains(page, []byte("`"+string(m[2])+"`")) && !bytes.Contains(page, []byte("/"+string(m[2])+"`")) {
			t.Errorf("README.md does not name %s", m[2])
		}
	}
}
