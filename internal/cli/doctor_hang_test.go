package cli

import (
	"context"
	"encoding/json"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/avoqado/avoqado-edge/internal/api"
	"github.com/avoqado/avoqado-edge/internal/daemon"
	"github.com/avoqado/avoqado-edge/internal/discovery"
)

// Everything hangs, the machine so that it cannot be called back: the doctor
// says so within ten seconds.
func TestDoctorIsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _, report := well()
		dead := make(chan struct{})
		defer close(dead)
		hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		p.box = func(ctx context.Context) (api.Status, error) { return api.Status{}, hang(ctx) }
		p.cloud = func(context.Context) (daemon.CloudCheck, error) {
			<-time.After(8 * time.Second) // its own bound
			return *report, nil
		}
		p.machine = func(context.Context) daemon.Machine { <-dead; return sound() }
		p.find = func(ctx context.Context, _ string) discovery.Report { _ = hang(ctx); return discovery.Report{} }
		p.askLAN = func(ctx context.Context, _ string) (string, error) { return "", hang(ctx) }
		began := time.Now()
		e := examine(t.Context(), p)
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("it took %s", took)
		}
		if len(e.Checks) < len(checks()) || e.Verdict != isFail {
			t.Errorf("%d findings, %s", len(e.Checks), e.Verdict)
		}
		red := map[string]string{}
		for _, f := range e.Checks {
			if f.Verdict == isFail {
				red[f.Check] = f.Remedy
			}
		}
		if len(red) != 2 || red["box"] == "" || red["disk space"] == "" {
			t.Errorf("red are %q", red)
		}
	})
}

// A check that has answered is heard, also when the time was over before its turn
// came because one before it hangs.
func TestDoctorHearsWhoHasAnswered(t *testing.T) {
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for range 64 {
		answer := make(chan []finding, 1)
		answer <- one(isOK, "", "all is well")
		if got := await(over, answer); got[0].Verdict != isOK {
			t.Fatalf("it is said to hang: %+v", got)
		}
	}
}

// The real program, with brokers, a proxy's place and a box that take every
// connection and say nothing.
func TestDoctorAmongMuteServers(t *testing.T) {
	if testing.Short() {
		t.Skip("half a minute of silence")
	}
	dir := t.TempDir()
	socket := filepath.Join(dir, "box.sock")
	mute := func(network, at string) string {
		l, err := new(net.ListenConfig).Listen(t.Context(), network, at)
		if err != nil {
			t.Fatal(err)
		}
		var held sync.WaitGroup
		held.Go(func() {
			var open []net.Conn
			for {
				c, err := l.Accept()
				if err != nil {
					break
				}
				open = append(open, c)
			}
			for _, c := range open {
				_ = c.Close()
			}
		})
		t.Cleanup(func() {
			_ = l.Close()
			held.Wait()
		})
		return l.Addr().String()
	}
	mute("unix", socket)
	config := filepath.Join(dir, "config.yaml")
	text := "box: {venue: v1, id: b1}\nstate_dir: " + dir + "\nsocket: " + socket + "\nlan: {listen: \"127.0.0.1:0\"}\nuplink: {brokers: [\"tls://" +
		mute("tcp", "127.0.0.1:0") + "\", \"tcp://" + mute("tcp", "127.0.0.1:0") + "\", \"tcp://203.0.113.1:1883\"], probe: \"http://" + mute("tcp", "127.0.0.1:0") + "\"}\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "avoqado-edge", "doctor", "--json", "--config", config)
	cmd.Env = append(os.Environ(), "ACCESS_TOKEN_SECRET="+testSecret)
	out, _ := cmd.Output() // 4
	var e examination
	if err := json.Unmarshal(out, &e); err != nil || cmd.ProcessState.ExitCode() != ExitDegraded {
		t.Fatalf("%v, exit code %d: %s", err, cmd.ProcessState.ExitCode(), out)
	}
	t.Logf("it took %d ms", e.TookMs)
	if e.TookMs > patience.Milliseconds() { // the ten seconds are TestDoctorIsInTime's
		t.Errorf("it took %d ms", e.TookMs)
	}
	brokers := 0
	for _, f := range e.Checks {
		if f.Verdict == isFail && len(f.Check) > 6 && f.Check[:6] == "broker" {
			brokers++
		}
	}
	if brokers == 0 || len(e.Checks) < 30 {
		t.Errorf("%d findings, %d of brokers:\n%s", len(e.Checks), brokers, out)
	}

	// Nor does that keep the bundle from being made.
	file := filepath.Join(dir, "bundle.tar.gz")
	cmd = exec.CommandContext(t.Context(), "avoqado-edge", "diagnostics", "--config", config, "--out", file)
	cmd.Env = append(os.Environ(), "ACCESS_TOKEN_SECRET="+testSecret)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := filesIn(t, raw); got["doctor.json"] == "" || got["status.json.missing"] == "" || got["config.json"] == "" || got["log.txt.missing"] == "" {
		t.Errorf("%v", slices.Sorted(maps.Keys(got)))
	}
}
