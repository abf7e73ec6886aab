package boxtest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/needs"
)

// MosquittoConfig says how a broker runs.
type MosquittoConfig struct {
	Port  int      // 0: a free one, which stays the same over restarts
	Extra []string // more lines of mosquitto.conf, such as "max_queued_messages 0"
}

// Mosquitto is a real broker in a process of its own, on loopback, with its
// store in a folder of the test. Not for concurrent use.
type Mosquitto struct {
	t       testing.TB
	program string
	dir     string
	config  string
	port    int
	process *process // nil while it is down
	log     *output
}

// StartMosquitto starts a broker that accepts anonymous clients and returns when
// it accepts connections. It ends with the test. Without Mosquitto the test is
// skipped, or fails where CI is set.
func StartMosquitto(t testing.TB, cfg MosquittoConfig) *Mosquitto {
	t.Helper()
	m := &Mosquitto{t: t, program: needs.Program(t, "mosquitto"), dir: t.TempDir(), port: cfg.Port, log: &output{}}
	if m.port == 0 {
		m.port = freePort(t)
	}
	lines := []string{
		fmt.Sprintf("listener %d 127.0.0.1", m.port),
		"allow_anonymous true",
		"persistence true",
		"persistence_location " + m.dir + "/",
		"log_dest stderr",
	}
	if os.Getuid() == 0 {
		lines = append(lines, "user root") // who owns the folder
	}
	lines = append(lines, cfg.Extra...)
	m.config = filepath.Join(m.dir, "mosquitto.conf")
	if err := os.WriteFile(m.config, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatalf("configure mosquitto: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("mosquitto: %s", m.log)
		}
	})
	m.Start()
	return m
}

// URL returns the broker's address, tcp://127.0.0.1:port.
func (m *Mosquitto) URL() string { return "tcp://" + m.Addr() }

// Addr returns the broker's host and port.
func (m *Mosquitto) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(m.port)) }

// Start brings a broker that is down back on the same port, with what its store
// holds, and returns when it accepts connections.
func (m *Mosquitto) Start() {
	m.t.Helper()
	if m.process != nil {
		m.t.Fatal("mosquitto is up already")
	}
	cmd := exec.Command(m.program, "-c", m.config)
	cmd.Stdout, cmd.Stderr = m.log, m.log
	m.process = start(m.t, cmd)
	Eventually(m.t, 10*time.Second, "mosquitto accepts connections", func() bool {
		if m.process.ended(0) {
			m.t.Fatalf("mosquitto ended: %v", m.process.err)
		}
		conn, err := net.DialTimeout("tcp", m.Addr(), time.Second)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
}

// Kill ends the broker at once; what it had not written to its store is lost.
func (m *Mosquitto) Kill() { m.t.Helper(); m.end(syscall.SIGKILL) }

// Stop ends the broker in good order; it writes its store first.
func (m *Mosquitto) Stop() { m.t.Helper(); m.end(syscall.SIGTERM) }

func (m *Mosquitto) end(s syscall.Signal) {
	m.t.Helper()
	if m.process == nil {
		m.t.Fatal("mosquitto is down already")
	}
	m.process.signal(s)
	if !m.process.ended(10 * time.Second) {
		m.t.Fatalf("mosquitto ignores %s", s)
	}
	m.process = nil
}

// Restart stops the broker in good order and starts it again.
func (m *Mosquitto) Restart() { m.t.Helper(); m.Stop(); m.Start() }

// WipeStore removes what a broker that is down had kept: sessions, queued and
// retained messages.
func (m *Mosquitto) WipeStore() {
	m.t.Helper()
	if m.process != nil {
		m.t.Fatal("mosquitto is up: stop it first")
	}
	if err := os.Remove(filepath.Join(m.dir, "mosquitto.db")); err != nil && !os.IsNotExist(err) {
		m.t.Fatalf("wipe the store of mosquitto: %v", err)
	}
}

// freePort returns a port of the loopback interface that was free a moment ago.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("find a free port: %v", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
