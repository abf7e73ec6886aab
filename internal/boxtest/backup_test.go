package boxtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/cloud"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/identity"
)

// A box burns down. Another machine is made of its backup, at another address:
// terminals and dashboards know it for the same box and are told what they
// cannot be given, and the back-end has every event once, also those that came
// after the backup.
func TestBackupAndRestoreElsewhere(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("a Java client, a broker, two boxes")
	}
	broker := StartMosquitto(t, MosquittoConfig{Extra: []string{"autosave_interval 1", "autosave_on_changes true"}})
	backend := StartBackend(t, broker, false, nil)
	secure := []string{"AVOQADO_EDGE_LAN_TLS=auto"}
	old := StartBox(t, BoxConfig{Broker: broker.URL(), Env: secure})
	wifi := StartWifi(t, old.Addr())
	dashboard := startDashboard(t, old, wifi.URL())
	terminal := StartJava(t, ClientConfig{URL: wifi.URL(), Token: old.Token(event.Cashier, "c1", "AVQD-1"), Venue: Venue, Terminal: "AVQD-1"})
	terminal.ExpectAck(0, 30*time.Second)
	Eventually(t, 30*time.Second, "the box is online", func() bool { return old.Status().Uplink.State == "online" })

	orders(t, old, 0, 10)
	backend.Await(10)
	heardAll(t, dashboard, 10)
	broker.Kill()
	orders(t, old, 10, 5) // the cloud lacks them when the backup is made
	file := filepath.Join(t.TempDir(), "box.tar")
	out, errs, code := old.Command("backup", "--config", old.Config(), file)
	if code != 0 || !strings.Contains(out, "Backed up 15 events") {
		t.Fatalf("backup: %d %s %s", code, out, errs)
	}
	broker.Start()
	orders(t, old, 15, 5) // and these the backup
	backend.Await(20)
	heardAll(t, dashboard, 20)
	was, knew := old.Status(), askCard(t, old)
	old.Kill() // for ever

	box := NewBox(t, BoxConfig{Broker: broker.URL(), Env: secure})
	out, errs, code = box.Command("restore", file, "--keep-config", "--config", box.Config())
	if code != 0 || !strings.Contains(out, "This machine is box b1 of venue v1 now") {
		t.Fatalf("restore: %d %s %s", code, out, errs)
	}
	box.Start()
	is, knows := box.Status(), askCard(t, box)
	if is.Box != was.Box || is.LAN.Key != was.LAN.Key || is.LAN.TLS.Fingerprint != was.LAN.TLS.Fingerprint || knows.Key != knew.Key || knows.Fingerprint != knew.Fingerprint {
		t.Errorf("terminals that pinned box %s, key %s, CA %s meet box %s, key %s, CA %s",
			was.Box, knew.Key, knew.Fingerprint, is.Box, knows.Key, knows.Fingerprint)
	}
	wifi.Move(box.Addr())

	// Each is told the truth: nobody can be given what was lost.
	if dashboard.Expect("connect", 60*time.Second).Recovered {
		t.Error("the dashboard was told that it missed nothing")
	}
	var told struct {
		Reason string
		Epoch  event.Epoch
	}
	if line := dashboard.ExpectEvent("sync_required", 20*time.Second); json.Unmarshal(line.Payload(), &told) != nil || told.Reason == "" || told.Epoch == "" {
		t.Errorf("it was told %s", line.Raw)
	}
	terminal.Expect("disconnect", 30*time.Second)
	terminal.ExpectEvent("authentication_success", 60*time.Second)
	dashboard.ExpectAck(0, 20*time.Second)

	// Life goes on, and the back-end had each once.
	before := len(dashboard.Events("order_updated"))
	orders(t, box, 20, 5)
	Eventually(t, 30*time.Second, "the dashboard hears what is new", func() bool {
		return len(dashboard.Events("order_updated")) == before+5
	})
	Eventually(t, time.Minute, "the cloud has everything", func() bool { return box.Status().Journal.Backlog.Events == 0 })
	backend.Await(25)
	times, epochs := map[int]int{}, map[event.Epoch]int{}
	if err := backend.Each(func(e cloud.Effect) error {
		var order struct{ N int }
		err := json.Unmarshal(e.Data, &order)
		times[order.N]++
		epochs[e.Epoch]++
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for n := range 25 {
		if times[n] != 1 {
			t.Errorf("order %d took effect %d times", n, times[n])
		}
	}
	if len(epochs) != 2 || epochs[told.Epoch] != 5 {
		t.Errorf("epochs and their events: %v, the clients were told %s", epochs, told.Epoch)
	}
}

// A backup may be cut short or changed by accident anywhere: it is refused, and
// the machine is as it was.
func TestRestoreOfADamagedBackup(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("a process for each of many places")
	}
	old := StartBox(t, BoxConfig{})
	orders(t, old, 0, 50)
	dir := t.TempDir()
	file := filepath.Join(dir, "box.tar")
	if _, errs, code := old.Command("backup", "--config", old.Config(), file); code != 0 {
		t.Fatalf("backup: %s", errs)
	}
	old.Stop()
	sound, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const places = 40
	for i := range places {
		at := i * len(sound) / places
		flipped := bytes.Clone(sound)
		flipped[at] ^= 1
		for name, bad := range map[string][]byte{"cut": sound[:at], "flipped": flipped} {
			path, state := filepath.Join(dir, "bad.tar"), filepath.Join(dir, "state")
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			out, errs, code := old.Command("restore", path, "--state-dir", state, "--config", filepath.Join(dir, "new.yaml"))
			left, _ := filepath.Glob(state + "/*")
			whole := code == 0 && strings.Contains(out, "Restored 50 events") // it met what tar pads with
			if !whole && (code != 1 || !strings.Contains(errs, "backup") || len(left) > 0) {
				t.Errorf("%s at %d of %d: %d %s, left %v", name, at, len(sound), code, errs, left)
			}
			if err := errors.Join(os.RemoveAll(state), os.RemoveAll(filepath.Join(dir, "new.yaml"))); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A restore may be killed at any moment. What is left is nothing, or a box that
// does not start; the same command again makes it whole.
func TestRestoreKilled(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("restores again and again")
	}
	old := StartBox(t, BoxConfig{})
	orders(t, old, 0, 2000)
	file := filepath.Join(t.TempDir(), "box.tar")
	if _, errs, code := old.Command("backup", "--config", old.Config(), file); code != 0 {
		t.Fatalf("backup: %s", errs)
	}
	old.Stop()
	gone, state := old.StateDir()+".gone", old.StateDir()
	if err := os.Rename(state, gone); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if out, errs, code := old.Command("restore", file); code != 0 {
		t.Fatalf("restore: %s %s", out, errs)
	}
	takes := time.Since(began)
	if err := os.RemoveAll(state); err != nil {
		t.Fatal(err)
	}
	const kills = 30
	seen := map[string]int{}
	for i := range kills {
		after := takes * time.Duration(i) / kills
		cmd := exec.Command(Binary(t), "restore", file)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		timer := time.AfterFunc(after, func() {
			// Every third is left until it begins to place what it has read.
			poll(time.Minute, func() bool {
				_, err := os.Stat(filepath.Join(state, "box.json"))
				select {
				case <-ended:
					return true
				default:
					return err == nil || i%3 != 0
				}
			})
			_ = cmd.Process.Kill()
		})
		_ = cmd.Wait()
		close(ended)
		timer.Stop()
		_, idErr := os.Stat(filepath.Join(state, "box.json"))
		_, journalErr := os.Stat(filepath.Join(state, "journal"))
		switch {
		case idErr != nil && journalErr == nil:
			t.Fatalf("killed after %s: a journal without an owner, which would start as another box", after)
		case idErr != nil:
			seen["nothing"]++
			continue
		case journalErr == nil:
			seen["whole"]++
		default:
			seen["half"]++
			if out, errs, code := old.Command("run", "--config", old.Config()); code == 0 || !strings.Contains(errs, "is missing, though this box was provisioned") {
				t.Errorf("half a box: run ended with %d %s %s", code, out, errs)
			}
			if out, errs, code := old.Command("restore", file); code != 0 || !strings.Contains(out, "Restored 2000 events") {
				t.Errorf("restore again: %d %s %s", code, out, errs)
			}
		}
		if err := os.RemoveAll(state); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("a restore takes %s; killed in the middle: %v", takes, seen)
	if out, errs, code := old.Command("restore", file); code != 0 {
		t.Fatalf("restore: %s %s", out, errs)
	}
	old.Start()
	if old.Stored() != 2000 {
		t.Errorf("%d events", old.Stored())
	}
}

func askCard(t *testing.T, box *Box) (known struct{ Key, Fingerprint string }) {
	t.Helper()
	resp, err := http.Get(box.URL() + identity.Path + "?nonce=n")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	c, err := identity.Unseal(raw, "n")
	if err != nil {
		t.Fatalf("%v: %s", err, raw)
	}
	known.Key, known.Fingerprint = c.Key, c.Fingerprint
	return known
}
