// Package needs says what a test needs of the machine it runs on. Where that is
// missing the test is skipped with the reason; where CI is set nothing may be
// missing, and the test fails.
package needs

import (
	"os"
	"os/exec"
	"testing"
)

// Program returns the path of a program.
func Program(t testing.TB, name string) string {
	t.Helper()
	for _, dir := range []string{"", "/usr/sbin/", "/usr/local/sbin/", "/sbin/"} { // not in everybody's PATH
		if path, err := exec.LookPath(dir + name); err == nil {
			return path
		}
	}
	Missing(t, name+" is not installed: run scripts/setup")
	return ""
}

// Root is for what only root may do.
func Root(t testing.TB, what string) {
	t.Helper()
	if os.Geteuid() != 0 {
		Missing(t, "only root may "+what)
	}
}

// Missing ends a test for want of something.
func Missing(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("%s (CI skips nothing)", why)
	}
	t.Skip("SKIPPED: " + why)
}
