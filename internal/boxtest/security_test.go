package boxtest

import (
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// TestSecurityNamesTests: each test that SECURITY.md counts on is there.
func TestSecurityNamesTests(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(RepositoryRoot(), "SECURITY.md"))
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err = filepath.WalkDir(filepath.Join(RepositoryRoot(), "internal"), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && entry.Name() == "node_modules" {
			return fs.SkipDir
		}
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		raw, err := os.ReadFile(path)
		for _, found := range declared.FindAllSubmatch(raw, -1) {
			there[string(found[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`((?:Test|Fuzz)[A-Z]\\w+)`").FindAllStringSubmatch(string(text), -1)
	for _, name := range named {
		if !there[name[1]] {
			t.Errorf("SECURITY.md names %s, which is not there", name[1])
		}
	}
	if len(named) < 40 {
		t.Errorf("%d tests are named", len(named))
	}
}

// TestACrashTellsNoSecret: what a dying box prints goes to a journal that more
// people read than may know its secrets.
func TestACrashTellsNoSecret(t *testing.T) {
	t.Parallel()
	box := StartBox(t, BoxConfig{})
	token := box.Token(event.Manager, "boss", "AVQD-1")
	g := &guest{attacker: box.attacker(0, new(strings.Builder)), token: token}
	g.socket(0)
	g.tail(http.Header{"Cookie": {"accessToken=" + token}})
	box.Abort()
	text := box.Log()
	if !strings.Contains(text, "goroutine ") {
		t.Fatalf("no trace: %s", text)
	}
	for _, secret := range []string{Secret, token, strings.Split(token, ".")[2]} {
		if strings.Contains(text, secret) {
			t.Errorf("the trace tells %q", secret)
		}
	}
}
