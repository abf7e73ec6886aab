package daemon

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/config"
	"github.com/avoqado/avoqado-edge/internal/event"
)

// TestReloadsUnderLoad changes from where the keys come, and the lease, again and
// again, while tokens are judged all the time: one that is good before and after
// is never refused in between.
func TestReloadsUnderLoad(t *testing.T) {
	dir := t.TempDir()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	var files [2]string
	for i := range files {
		files[i] = filepath.Join(dir, fmt.Sprint("keys", i, ".json"))
		set := fmt.Sprintf(`{"keys":[{"kty":"OKP","kid":"k","crv":"Ed25519","x":%q}]}`, base64.RawURLEncoding.EncodeToString(public))
		if err := os.WriteFile(files[i], []byte(set), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d, _ := runBox(t, dir, "tcp://127.0.0.1:1", nil)
	path := filepath.Join(dir, "config.yaml")
	plain, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	reload := func(n int) {
		t.Helper()
		lines := fmt.Sprintf("auth: {jwks_file: %q, offline_grace: %dh}\n", files[n%2], n%7)
		if err := os.WriteFile(path, append(slices.Clone(plain), lines...), 0o600); err != nil {
			t.Fatal(err)
		}
		if done, err := d.Reload(t.Context()); err != nil || !slices.Contains(done.Applied, "auth.jwks_file") {
			t.Fatalf("%+v, %v", done, err)
		}
	}
	reload(0)
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{
		"sub": "staff_1", "venueId": "v1", "role": string(event.Waiter), "exp": time.Now().Add(time.Hour).Unix(),
	})
	token.Header["kid"] = "k"
	keyed, err1 := token.SignedString(private)
	shared, err2 := d.verifier.Mint(auth.Grant{Subject: "staff_2", Role: event.Waiter}, time.Hour)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	stop, judges := make(chan struct{}), sync.WaitGroup{}
	for _, text := range []string{keyed, shared} {
		judges.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := d.verifier.Verify(text); err != nil {
					t.Errorf("refused: %v", err)
					return
				}
			}
		})
	}
	judges.Go(func() { // what else looks at the keys
		for {
			select {
			case <-stop:
				return
			default:
				_ = d.Status()
				_ = d.inForce()
				if other, err := d.verifier.MintConsole(event.Admin, time.Hour); err == nil {
					_ = logins{d.verifier, d.lan}.Logout(other)
				}
			}
		}
	})
	for n := 1; n <= 40; n++ {
		reload(n)
	}
	close(stop)
	judges.Wait()

	// Without the file its keys are gone, and a wrong one changes nothing.
	if err := os.WriteFile(path, append(slices.Clone(plain), "auth: {jwks_file: /none}\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "auth.jwks_file") {
		t.Errorf("a file that is not there: %v", err)
	}
	if _, err := d.verifier.Verify(keyed); err != nil {
		t.Errorf("after what was refused: %v", err)
	}
	if err := os.WriteFile(path, plain, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := d.verifier.Verify(keyed); err == nil {
		t.Error("keys of a file that is not named any more are good")
	}
}

// TestReloadableKeys: these keys change under a running box, and each other one
// is named as one that needs a restart.
func TestReloadableKeys(t *testing.T) {
	keys := config.Keys()
	for _, key := range []string{"log.level", "lan.allowed_hosts", "auth.jwks_file", "auth.offline_grace"} {
		if !atOnce(key) || !slices.Contains(keys, key) {
			t.Errorf("%s does not change at once", key)
		}
	}
	for _, key := range keys {
		switch section, _, _ := strings.Cut(key, "."); {
		case section == "auth" || key == "log.level" || key == "lan.allowed_hosts":
		case atOnce(key):
			t.Errorf("%s is not taken up at once", key)
		}
	}
}
