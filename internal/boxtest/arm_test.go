package boxtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"

	"github.com/avoqado/avoqado-edge/internal/needs"
)

// TestARM runs the programs of the small boards under an emulation of their
// processors: the first Raspberry Pi, which has no ARMv7 instruction and 32-bit
// ints, and a 64-bit one. Real clients connect, and the journal that was made
// there is read here.
func TestARM(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds two programs, and emulation is slow")
	}
	for _, board := range []struct {
		name     string
		target   string
		emulator []string
	}{
		{"armv6", "linux/arm/6", []string{"qemu-arm-static", "-cpu", "arm1176"}},
		{"arm64", "linux/arm64", []string{"qemu-aarch64-static", "-cpu", "cortex-a53"}},
	} {
		t.Run(board.name, func(t *testing.T) {
			t.Parallel()
			needs.Program(t, board.emulator[0])
			dist := t.TempDir()
			path := filepath.Join(dist, board.target, "avoqado-edge")
			build := exec.Command("scripts/cross-build", board.target) // as it is delivered
			build.Dir, build.Env = RepositoryRoot(), append(os.Environ(), "DIST="+dist)
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			program := append(slices.Clone(board.emulator), path)
			say := func(args ...string) string {
				t.Helper()
				cmd := exec.Command(program[0], append(slices.Clone(program[1:]), args...)...)
				cmd.Env = append(os.Environ(), "ACCESS_TOKEN_SECRET="+Secret)
				out, err := cmd.CombinedOutput()
				if err != nil {
					t.Fatalf("%v: %v\n%s", args, err, out)
				}
				return string(out)
			}

			box := NewBox(t, BoxConfig{Program: program})
			if out := say("config", "check", box.Config()); !strings.Contains(out, "The configuration is good: venue "+Venue) {
				t.Errorf("config check: %s", out)
			}
			box.Launch()
			Eventually(t, 2*time.Minute, "the box takes events", func() bool {
				if box.process.ended(0) {
					t.Fatalf("the box ended: %v\n%s", box.process.err, box.log)
				}
				return answersOK(box.URL() + "/readyz")
			})
			manager := StartJS(t, ClientConfig{URL: box.URL(), Token: box.Token(event.Manager, "m1", ""), Venue: Venue})
			viewer := StartJS(t, ClientConfig{URL: box.URL(), Token: box.Token(event.Viewer, "v1", ""), Venue: Venue})
			for _, c := range []*Client{manager, viewer} {
				c.ExpectEvent("authentication_success", time.Minute)
			}
			const orders = 20
			for n := range orders {
				ack := manager.EmitAck("order_status_changed", map[string]any{"orderId": fmt.Sprintf("o%d", n), "venueId": Venue, "status": "READY"}, time.Minute)
				if !strings.Contains(string(ack), `"durability":"stored"`) {
					t.Fatalf("ack %s", ack)
				}
				viewer.ExpectEvent("order_status_changed", time.Minute)
			}
			manager.Kill()
			viewer.Kill()
			box.Stop()

			dir := filepath.Join(box.StateDir(), "journal")
			whole := fmt.Sprintf("%d events in 1 segment", orders)
			if out := say("journal", "check", "--dir", dir); !strings.Contains(out, whole) {
				t.Errorf("journal check there: %s", out)
			}
			// Here, on another processor with other sizes and another int.
			if out, stderr, code := box.Command("journal", "check", "--dir", dir); code != 0 || !strings.Contains(out, whole) {
				t.Errorf("journal check here: code %d: %s%s", code, out, stderr)
			}
			out, stderr, code := box.Command("journal", "export", "--dir", dir)
			if lines := strings.Count(out, "\n"); code != 0 || lines != orders || !strings.Contains(out, `"orderId":"o19"`) {
				t.Errorf("exported: code %d, %d lines: %s", code, lines, stderr)
			}
		})
	}
}
