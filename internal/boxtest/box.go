package boxtest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/api"
	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
)

// Venue is the venue of every box in a test.
const Venue = "v1"

// Secret signs the tokens of every box in a test.
const Secret = "a-secret-for-tests-only-0123456789"

// BoxConfig says how a box runs.
type BoxConfig struct {
	Broker   string // URL; empty: no cloud
	Confirm  string // backend or broker; empty: backend
	Compress bool   // of backlogs
	Live     bool   // what happens now before them
	Extra    string // more lines of YAML, such as "discovery: {mode: auto}"
	Env      []string
	Program  []string // what is run; empty: the program built for this machine
}

// Box is the real program, started with `run`, in a process of its own, on a
// loopback port that stays the same over restarts. Not for concurrent use,
// except for its tokens and status.
type Box struct {
	t       testing.TB
	dir     string
	port    int
	env     []string
	program []string
	process *process // nil while it is down
	log     *output
	client  *api.Client
	mint    *auth.Verifier
}

// StartBox starts a new box and returns when it takes events. It is stopped at
// the end of the test, which fails if it does not stop cleanly within 5 s.
func StartBox(t testing.TB, cfg BoxConfig) *Box {
	t.Helper()
	b := NewBox(t, cfg)
	b.Start()
	return b
}

// NewBox returns a new box that has never run.
func NewBox(t testing.TB, cfg BoxConfig) *Box {
	t.Helper()
	mint, err := auth.NewVerifier(auth.Config{Venue: Venue, Secret: []byte(Secret)}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	b := &Box{t: t, dir: t.TempDir(), port: freePort(t), env: cfg.Env, program: cfg.Program, log: &output{}, mint: mint}
	b.client = api.NewClient(b.Socket())
	if cfg.Confirm == "" {
		cfg.Confirm = "backend"
	}
	uplink := ""
	if cfg.Broker != "" {
		uplink = fmt.Sprintf("uplink: {brokers: [%q], confirm: %s, compress: %t, live: %t}\n", cfg.Broker, cfg.Confirm, cfg.Compress, cfg.Live)
	}
	extra := cfg.Extra
	if !strings.Contains(extra, "discovery:") {
		extra += "\ndiscovery: {mode: off}"
	}
	text := fmt.Sprintf("box: {id: b1, venue: %s}\nstate_dir: %q\nsocket: %q\nlan: {listen: \"127.0.0.1:%d\"}\n%s%s\n",
		Venue, filepath.Join(b.dir, "state"), b.Socket(), b.port, uplink, extra)
	if err := os.WriteFile(b.Config(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("box: %s", b.log)
		}
	})
	return b
}

// Config is the path of the box's configuration, Socket that of its unix
// socket, StateDir its state directory.
func (b *Box) Config() string { return filepath.Join(b.dir, "config.yaml") }

// Socket is the path of the box's unix socket.
func (b *Box) Socket() string { return filepath.Join(b.dir, "box.sock") }

// StateDir is where the box keeps its journal.
func (b *Box) StateDir() string { return filepath.Join(b.dir, "state") }

// URL is where clients connect.
func (b *Box) URL() string { return "http://" + b.Addr() }

// Addr is its host and port.
func (b *Box) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(b.port)) }

// Start brings a box that is down up again, and returns when it takes events.
func (b *Box) Start() {
	b.t.Helper()
	b.Launch()
	Eventually(b.t, 20*time.Second, "the box takes events", func() bool {
		if b.process.ended(0) {
			b.t.Fatalf("the box ended: %v\n%s", b.process.err, b.log)
		}
		return answersOK(b.URL() + "/readyz")
	})
}

// Launch starts the process of a box that is down and does not wait for it.
func (b *Box) Launch() {
	b.t.Helper()
	if b.process != nil {
		b.t.Fatal("the box is up already")
	}
	program := b.program
	if len(program) == 0 {
		program = []string{Binary(b.t)}
	}
	cmd := exec.Command(program[0], append(slices.Clone(program[1:]), "run", "--config", b.Config())...)
	cmd.Env = append(append(os.Environ(), "ACCESS_TOKEN_SECRET="+Secret), b.env...)
	cmd.Stdout, cmd.Stderr = b.log, b.log
	p := start(b.t, cmd)
	b.process = p
	b.t.Cleanup(func() { // before the one of start, which kills
		if b.process == p {
			b.Stop()
		}
	})
}

// Kill ends the box at once, as a power cut that spares the disk's cache.
func (b *Box) Kill() { b.t.Helper(); b.end(syscall.SIGKILL) }

// Abort ends the box as the watchdog of its service does.
func (b *Box) Abort() { b.t.Helper(); b.end(syscall.SIGABRT) }

func (b *Box) end(s syscall.Signal) {
	b.t.Helper()
	b.process.signal(s)
	<-b.process.done
	b.process = nil
}

// Stop ends the box as a service manager does. The test fails if it takes five
// seconds or complains.
func (b *Box) Stop() {
	b.t.Helper()
	b.process.signal(syscall.SIGTERM)
	if !b.process.ended(5 * time.Second) {
		b.t.Errorf("the box did not stop within 5 s")
		b.process.signal(syscall.SIGKILL)
		<-b.process.done
	} else if b.process.err != nil {
		b.t.Errorf("the box stopped with %v", b.process.err)
	}
	b.process = nil
}

// Log returns the last lines the box wrote.
func (b *Box) Log() string { return b.log.String() }

// Status asks the box through its unix socket.
func (b *Box) Status() api.Status {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	st, err := b.client.Status(ctx)
	if err != nil {
		b.t.Fatalf("status: %v", err)
	}
	return st
}

// Stored is the sequence number of the last event on disk; zero when the box
// does not answer.
func (b *Box) Stored() uint64 {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	st, err := b.client.Status(ctx)
	if err != nil {
		return 0
	}
	return st.Journal.StoredThrough
}

// Token makes a token of this venue; terminal may be empty.
func (b *Box) Token(role event.Role, subject, terminal string) string {
	b.t.Helper()
	token, err := b.Mint(role, subject, terminal)
	if err != nil {
		b.t.Fatalf("mint token: %v", err)
	}
	return token
}

// Mint is Token for a simulation's plan.
func (b *Box) Mint(role event.Role, subject, terminal string) (string, error) {
	return b.mint.Mint(auth.Grant{
		Subject: subject, Org: "org1", Venue: Venue, Role: role, Terminal: terminal,
	}, time.Hour)
}

// Command runs the program with the given arguments and returns what it wrote
// and its exit code.
func (b *Box) Command(args ...string) (stdout, stderr string, code int) {
	b.t.Helper()
	var out, errs strings.Builder
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, Binary(b.t), args...)
	cmd.Env = append(os.Environ(), "AVOQADO_EDGE_SOCKET="+b.Socket(), "ACCESS_TOKEN_SECRET="+Secret)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if cmd.ProcessState == nil {
		b.t.Fatalf("run %v: %v", args, err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// program is built once for all tests of a process.
type program struct {
	once sync.Once
	path string
	err  error
}

var built program //nolint:gochecknoglobals // one build for all tests of a process

// Binary builds the program, once, and returns its path.
func Binary(t testing.TB) string {
	t.Helper()
	built.once.Do(func() {
		dir, err := os.MkdirTemp("", "avoqado-edge-boxtest-") //nolint:usetesting // it outlives the first test
		if err != nil {
			built.err = err
			return
		}
		built.path = filepath.Join(dir, "avoqado-edge")
		cmd := exec.Command("go", "build", "-o", built.path, "./cmd/avoqado-edge")
		cmd.Dir = RepositoryRoot()
		if out, err := cmd.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("%w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatalf("build the program: %v", built.err)
	}
	return built.path
}

// RemoveBinary removes what Binary built; TestMain calls it.
func RemoveBinary() {
	if built.path != "" {
		_ = os.RemoveAll(filepath.Dir(built.path))
	}
}

// RepositoryRoot is the folder of go.mod.
func RepositoryRoot() string { return filepath.Dir(filepath.Dir(filepath.Dir(clientDir("")))) }
