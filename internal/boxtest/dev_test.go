package boxtest

import (
	"bufio"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/simulate"
)

// The commands are the README's, as they stand there.
func TestReadmeCommands(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile(filepath.Join(RepositoryRoot(), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"go run ./cmd/avoqado-edge dev", "make test", "make build"} {
		if !strings.Contains(string(readme), "```\n"+command+"\n") {
			t.Errorf("README.md does not show %q as a command of its own", command)
		}
	}
	ci, err := os.ReadFile(filepath.Join(RepositoryRoot(), ".ci", "run"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(ci), "\nstep test make test\n") {
		t.Error(".ci/run does not call the README's test command")
	}

	// go run hands signals on, but kills its child when it is killed itself.
	cmd := exec.Command("go", "run", "./cmd/avoqado-edge", "dev", "--outage", "6s")
	cmd.Dir = RepositoryRoot()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out := &output{}
	cmd.Stdout, cmd.Stderr = out, out
	p := start(t, cmd)
	Eventually(t, 2*time.Minute, "dev shows a live line", func() bool {
		return strings.Contains(out.String(), "uplink online") || p.ended(0)
	})
	page := regexp.MustCompile(`Page +(\S+) +log in with (\d{3}) (\d{3}),`).FindStringSubmatch(out.first())
	if page == nil {
		t.Fatalf("dev does not say how to log in: %s", out.first())
	}
	resp, err := http.Post(page[1]+"/api/v1/login", "application/json", strings.NewReader(`{"code":"`+page[2]+page[3]+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	if _ = resp.Body.Close(); resp.StatusCode != http.StatusOK {
		t.Errorf("the code for the page: %s", resp.Status)
	}
	Eventually(t, time.Minute, "the uplink is cut", func() bool { return strings.Contains(out.String(), "uplink offline") || p.ended(0) })
	Eventually(t, time.Minute, "the backlog drains", func() bool {
		_, after, cut := strings.Cut(out.String(), "uplink offline")
		return cut && strings.Contains(after, "uplink online") || p.ended(0)
	})
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if !p.ended(20 * time.Second) {
		t.Fatalf("dev does not end on Ctrl-C:\n%s", out)
	}
	for _, want := range []string{"Page       http://127.0.0.1:", "Socket.IO  http://127.0.0.1:", "MANAGER", "VIEWER", "uplink cut for 6s"} {
		if !strings.Contains(out.String(), want) && !strings.Contains(out.first(), want) {
			t.Errorf("dev does not say %q:\n%s", want, out.first())
		}
	}
}

// startDev runs dev with --json and returns what its first line says, and the
// figures of the lines after it.
func startDev(t *testing.T, env []string, args ...string) (devReady, *process, <-chan devFigures) {
	t.Helper()
	cmd := exec.Command(Binary(t), append([]string{"dev", "--json"}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr := &output{}
	cmd.Stdout, cmd.Stderr = w, stderr
	p := start(t, cmd)
	_ = w.Close()
	first := make(chan devReady, 1)
	figures := make(chan devFigures, 1000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(figures)
		defer func() { _ = r.Close() }()
		scanner := bufio.NewScanner(r)
		for n := 0; scanner.Scan(); n++ {
			if n == 0 {
				var ready devReady
				_ = json.Unmarshal(scanner.Bytes(), &ready)
				first <- ready
				continue
			}
			var f devFigures
			_ = json.Unmarshal(scanner.Bytes(), &f)
			figures <- f
		}
	}()
	t.Cleanup(func() {
		p.signal(syscall.SIGKILL)
		<-done
	})
	select {
	case ready := <-first:
		return ready, p, figures
	case <-time.After(time.Minute):
		t.Fatalf("dev says nothing: %s", stderr)
	}
	panic("unreachable")
}

type devReady struct {
	URL, Venue, MQTT, Socket string
	Tokens                   map[string]string
}

type devFigures struct {
	Stored, Synced, Backlog uint64
	Clients                 int
	Uplink                  string
}

func TestDevJSON(t *testing.T) {
	t.Parallel()
	ready, p, _ := startDev(t, []string{"ACCESS_TOKEN_SECRET=" + Secret},
		"--listen", "127.0.0.1:0", "--venue", "v7", "--no-simulation")
	if ready.Venue != "v7" || !strings.HasPrefix(ready.URL, "http://127.0.0.1:") || !strings.HasPrefix(ready.MQTT, "tcp://127.0.0.1:") {
		t.Fatalf("first line: %+v", ready)
	}
	if len(ready.Tokens) != 9 {
		t.Errorf("%d tokens, want one per role", len(ready.Tokens))
	}
	// All of it answers, now.
	if !answersOK(ready.URL + "/healthz") {
		t.Error("the URL does not answer")
	}
	for role, token := range ready.Tokens {
		c, err := simulate.Dial(t.Context(), simulate.ClientConfig{URL: ready.URL, Auth: map[string]any{"token": token}})
		if err != nil {
			t.Errorf("the token of %s: %v", role, err)
			continue
		}
		_ = c.Close()
	}
	stop(t, p)
}

// stop sends what Ctrl-C sends. Whether two seconds were enough is said, not
// asserted: the machine may be busy with other tests.
func stop(t *testing.T, p *process) {
	t.Helper()
	began := time.Now()
	p.signal(syscall.SIGINT)
	if !p.ended(20 * time.Second) {
		t.Fatal("dev does not end on Ctrl-C")
	}
	if p.err != nil {
		t.Errorf("dev ended with %v", p.err)
	}
	t.Logf("dev ended %s after Ctrl-C", time.Since(began).Round(time.Millisecond))
}

func TestDevOutage(t *testing.T) {
	t.Parallel()
	_, p, figures := startDev(t, nil, "--listen", "127.0.0.1:0", "--outage", "3s", "--rate", "40")
	var offline, grown, drained bool
	for f := range figures {
		switch {
		case f.Uplink != "online":
			offline = true
			grown = grown || f.Backlog > 20
		case offline && f.Backlog < 20 && f.Synced > 0:
			drained = true
		}
		if drained {
			break
		}
	}
	if !offline || !grown || !drained {
		t.Errorf("offline %v, backlog grew %v, drained %v", offline, grown, drained)
	}
	stop(t, p)
}
