package systemd_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/avoqado/avoqado-edge/internal/needs"
)

// Purging the package deletes a journal only if it is known that the cloud has
// all of it: a damaged one, or a full disk, leaves no number.
func TestPurgeKeepsWhatMayBeUnsent(t *testing.T) {
	shell := needs.Program(t, "sh")
	script, err := os.ReadFile(filepath.Join("..", "packaging", "deb", "postrm"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, unsent string // "-": the file is not there
		kept         bool
		says         string
	}{
		{"all is sent", "0\n", false, ""},
		{"some are not", "3\n", true, "3 events were never sent"},
		{"nobody could count", "", true, "It is not known how many events were never sent"},
		{"nobody counted", "-", true, "It is not known how many events were never sent"},
	} {
		dir := t.TempDir()
		run := strings.NewReplacer("/var/lib/", dir+"/", "/etc/", dir+"/etc/").Replace(string(script))
		journal, fallback := filepath.Join(dir, "avoqado-edge", "journal"), filepath.Join(dir, "avoqado-edge-fallback")
		for _, folder := range []string{journal, fallback} {
			if err := os.MkdirAll(folder, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if tt.unsent != "-" {
			if err := os.WriteFile(filepath.Join(fallback, "unsent"), []byte(tt.unsent), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.CommandContext(t.Context(), shell, "-c", run, "postrm", "purge")
		cmd.Env = []string{"PATH=" + tools(t, dir)}
		out, err := cmd.CombinedOutput()
		_, gone := os.Stat(journal)
		if err != nil || (gone == nil) != tt.kept || !strings.Contains(string(out), tt.says) {
			t.Errorf("%s: %v, journal kept %t: %s", tt.name, err, gone == nil, out)
		}
	}
}

// tools is a PATH with what the script needs and nothing that knows of services.
func tools(t *testing.T, dir string) string {
	t.Helper()
	bin := filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"cat", "rm"} {
		if err := os.Symlink(needs.Program(t, name), filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	return bin
}
