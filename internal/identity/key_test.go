package identity

import (
	"crypto/ed25519"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/avoqado/avoqado-edge/internal/needs"
)

func open(t *testing.T, dir string) Key {
	t.Helper()
	k, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKeyStays(t *testing.T) {
	dir := t.TempDir()
	k := open(t, dir)
	if !ed25519.Verify(k.Public(), []byte("hello"), k.Sign([]byte("hello"))) {
		t.Error("its signature does not hold")
	}
	if again := open(t, dir); again.Fingerprint() != k.Fingerprint() || len(k.Fingerprint()) != 64 {
		t.Errorf("was %q, is %q", k.Fingerprint(), again.Fingerprint())
	}
	if other := open(t, t.TempDir()); other.Fingerprint() == k.Fingerprint() {
		t.Error("two boxes have one key")
	}
	path := filepath.Join(dir, File)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %v, %v", info.Mode(), err)
	}
	// A copy that was brought back is often readable by all.
	if err := os.Chmod(path, 0o644); err != nil { //nolint:gosec // what the test is about
		t.Fatal(err)
	}
	open(t, dir)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %v, %v", info.Mode(), err)
	}
}

// TestFingerprintAsOpenSSL has a technician's tool find the same fingerprint.
func TestFingerprintAsOpenSSL(t *testing.T) {
	needs.Program(t, "openssl")
	dir := t.TempDir()
	k := open(t, dir)
	out, err := exec.Command("sh", "-c", `openssl pkey -in "$0" -pubout -outform DER | sha256sum`, filepath.Join(dir, File)).CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), k.Fingerprint()) {
		t.Errorf("openssl says %s %v, the box %s", out, err, k.Fingerprint())
	}
}

// TestDamagedKeyIsKept never makes a second identity in place of a damaged one.
func TestDamagedKeyIsKept(t *testing.T) {
	const rsa = "-----BEGIN PRIVATE KEY-----\nMEECAQAwEwYHKoZIzj0CAQYIKoZIzj0DAQcEJzAlAgEBBCA=\n-----END PRIVATE KEY-----\n"
	for name, content := range map[string]string{"empty": "", "half": "-----BEGIN PRIVATE KEY-----\nMC4C", "another kind": rsa} {
		dir := t.TempDir()
		path := filepath.Join(dir, File)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "bring it back from a copy") {
			t.Errorf("%s: %v", name, err)
		}
		if raw, err := os.ReadFile(path); err != nil || string(raw) != content {
			t.Errorf("%s: the file is %q now, %v", name, raw, err)
		}
	}
	if _, err := Open(filepath.Join(t.TempDir(), "no")); err == nil || !strings.Contains(err.Error(), "save the box's key") {
		t.Errorf("without a folder: %v", err)
	}
}
