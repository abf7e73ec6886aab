package config_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/avoqado/avoqado-edge/internal/config"
)

// A backup takes along what the configuration names and what a service manager
// hands over from beside it, and nothing else that lies there.
func TestFilesOfAConfiguration(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	secret, previous := file("secret", kept), file("previous", kept+"2")
	password := file("mqtt_password", "by the service manager")
	file("somebody_elses", "x")
	path := file("config.yaml", "box: {venue: venue_1}\nauth: {access_token_secret_file: "+secret+", jwks_file: "+filepath.Join(dir, "absent")+"}\n")
	c, err := config.Load(path, environment{"ACCESS_TOKEN_SECRET_PREVIOUS_FILE": previous}.lookup, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := c.Files()
	if len(got) != 4 || got[0] != path {
		t.Fatalf("its files are %q", got)
	}
	for _, want := range []string{secret, previous, password} {
		if !slices.Contains(got, want) {
			t.Errorf("%s is not among %q", want, got)
		}
	}
}

// Who may not read a file, or has none, can be told from who wrote it wrong.
func TestErrorOfAFile(t *testing.T) {
	gone := filepath.Join(t.TempDir(), "gone")
	none := func(string) (string, bool) { return "", false }
	if _, err := config.Load(gone, none, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the configuration: %v", err)
	}
	if _, err := config.Load("", none, map[string]string{"auth.access_token_secret_file": gone}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a secret: %v", err)
	}
	if _, err := config.Load("", none, map[string]string{"lan.listn": "x"}); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a slip: %v", err)
	}
}
