package boxtest

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/needs"
	"github.com/avoqado/avoqado-edge/internal/simulate"
)

// TestDiagnosticsFromAfar has the cloud collect what the command line collects,
// of a box that has much to tell.
func TestDiagnosticsFromAfar(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("half a minute: the doctor looks five times")
	}
	const customer = "Guadalupe Cienfuegos"
	broker := StartMosquitto(t, MosquittoConfig{})
	box := StartBox(t, BoxConfig{Broker: broker.URL(), Confirm: "broker", Extra: "log: {level: debug}"})
	Eventually(t, 20*time.Second, "uplink online", func() bool { return box.Status().Uplink.State == "online" })
	pay(t, box, 700, customer)

	dir := t.TempDir()
	at := []string{"--broker", broker.URL(), "--venue", Venue, "--box", "b1"}
	far := func(name string, more ...string) map[string]string {
		t.Helper()
		file := filepath.Join(dir, name)
		out, errs, code := box.Command(slices.Concat([]string{"cloud", "command", "diagnostics.collect", "--out", file}, at, more)...)
		if code != 0 {
			t.Fatalf("cloud command ends with %d\n%s%s", code, out, errs)
		}
		info, err := os.Stat(file)
		if err != nil || info.Size() > 64<<10 {
			t.Errorf("%v %v", info, err)
		}
		t.Logf("%s", out)
		return unpack(t, file)
	}
	near := filepath.Join(dir, "near.tar.gz")
	if out, errs, code := box.Command("diagnostics", "--config", box.Config(), "--out", near); code != 0 {
		t.Fatalf("diagnostics ends with %d\n%s%s", code, out, errs)
	}
	here, there := unpack(t, near), far("far.tar.gz", "--id", "once")
	for name, text := range here {
		if text == "" && name != "log-before.txt" && name != "parked.jsonl" && name != "outages.jsonl" || strings.HasSuffix(name, ".missing") && name != "system-log.txt.missing" {
			t.Errorf("%s: %q", name, text)
		}
	}
	for _, gone := range []string{"system-log.txt", "system-log.txt.missing"} {
		delete(here, gone) // which the box may not read
	}
	if a, b := slices.Sorted(maps.Keys(here)), slices.Sorted(maps.Keys(there)); !slices.Equal(a, b) {
		t.Errorf("the command line has %q, the cloud gets %q", a, b)
	}
	for name, want := range map[string]string{
		"doctor.json": `"check": "broker `, "status.json": `"box": "b1"`, "config.json": `"path": "auth.access_token_secret"`,
		"metrics.txt": "avoqado_edge_events_accepted_total 700", "log.txt": "msg=", "events.jsonl": `"seq":700`, "process.json": `"rejected": []`,
	} {
		if !strings.Contains(there[name], want) {
			t.Errorf("no %s in %s: %.500s", want, name, there[name])
		}
	}
	for name, text := range there {
		if strings.Contains(text, Secret) || strings.Contains(text, customer) {
			t.Errorf("%s holds a secret or a payload", name)
		}
	}

	// The same id gets the same bytes, a new one what is asked for.
	if again := far("again.tar.gz", "--id", "once"); again["log.txt"] != there["log.txt"] || again["metrics.txt"] != there["metrics.txt"] {
		t.Error("a repeated command is carried out again")
	}
	whole := far("whole.tar.gz", "--params", `{"payloads":true}`)
	if events := whole["events.jsonl"]; !strings.Contains(events, customer) || !strings.Contains(events, `"seq":700`) || whole["doctor.json"] == "" {
		t.Errorf("payloads were asked for: %.500s", events)
	}
	if left := whole["left-out.txt"]; !strings.Contains(left, "events.jsonl: the older ") {
		t.Errorf("500 large payments fit into 64 KiB; left out: %q", left)
	}

	// After a crash it tells of the life before, and what it died of.
	box.Abort()
	box.Start()
	Eventually(t, 20*time.Second, "uplink online", func() bool { return box.Status().Uplink.State == "online" })
	after := far("after.tar.gz")
	if !strings.Contains(after["crash.txt"], "Written 20") || !strings.Contains(after["crash.txt"], "avoqado-edge/internal/") {
		t.Errorf("crash.txt of %v says %.500s", slices.Sorted(maps.Keys(after)), after["crash.txt"])
	}
	if strings.Contains(after["crash.txt"], Secret) || strings.Contains(after["crash.txt"], customer) {
		t.Error("crash.txt holds a secret or a payload")
	}
}

// pay stores n payments of a customer.
func pay(t *testing.T, box *Box, n int, customer string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := simulate.Dial(ctx, simulate.ClientConfig{URL: box.URL(), Auth: map[string]any{"token": box.Token(event.Cashier, "c1", "T1")}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i := range n {
		payload := fmt.Sprintf(`{"paymentId":"p%d","amount":"%d.50","currency":"MXN","venueId":"v1","customerName":%q,"note":"%s%s%s"}`, i, i, customer, rand.Text(), rand.Text(), rand.Text())
		if _, err := c.EmitAck(ctx, "payment_completed", json.RawMessage(payload)); err != nil {
			t.Fatal(err)
		}
	}
}

// unpack reads a bundle as a technician does.
func unpack(t *testing.T, path string) map[string]string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), needs.Program(t, "tar"), "-xzf", path, "-C", dir, "--strip-components=1").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, f := range files {
		body, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[f.Name()] = string(body)
	}
	return all
}
