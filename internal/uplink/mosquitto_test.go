package uplink

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/avoqado/avoqado-edge/internal/needs"
)

// mosquitto is a real broker in a process of its own, which tests kill.
type mosquitto struct {
	t    *testing.T
	dir  string
	port string
	cmd  *exec.Cmd
	done chan struct{}
}

// newMosquitto starts a broker that keeps its sessions on disk and lets
// everybody in.
func newMosquitto(t *testing.T) *mosquitto {
	t.Helper()
	return newMosquittoWith(t, "allow_anonymous true\n")
}

func newMosquittoWith(t *testing.T, access string) *mosquitto {
	t.Helper()
	path := needs.Program(t, "mosquitto")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	m := &mosquitto{t: t, dir: t.TempDir(), port: port}
	config := fmt.Sprintf(`listener %s 127.0.0.1
max_queued_messages 0
max_inflight_messages 0
persistence true
persistence_location %s/
autosave_interval 1
autosave_on_changes true
`, port, m.dir) + access
	if os.Getuid() == 0 {
		config += "user root\n"
	}
	if err := os.WriteFile(filepath.Join(m.dir, "mosquitto.conf"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	m.start(path)
	t.Cleanup(m.kill)
	return m
}

func (m *mosquitto) url() string { return "tcp://127.0.0.1:" + m.port }

func (m *mosquitto) start(path string) {
	m.t.Helper()
	m.cmd = exec.Command(path, "-c", filepath.Join(m.dir, "mosquitto.conf"))
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	cmd, done := m.cmd, make(chan struct{})
	m.done = done
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	until(m.t, "mosquitto answers", func() bool {
		select {
		case <-done:
			m.t.Fatal("mosquitto ended")
		default:
		}
		c, err := net.Dial("tcp", strings.TrimPrefix(m.url(), "tcp://"))
		if err != nil {
			return false
		}
		_ = c.Close()
		return true
	})
}

// kill ends it as a power cut does.
func (m *mosquitto) kill() {
	_ = m.cmd.Process.Kill()
	<-m.done
}

// stop ends it in order: it writes its store.
func (m *mosquitto) stop() {
	_ = m.cmd.Process.Signal(os.Interrupt)
	<-m.done
}

// restart starts it again, with or without what it had stored.
func (m *mosquitto) restart(keepStore bool) {
	m.t.Helper()
	if !keepStore {
		if err := os.Remove(filepath.Join(m.dir, "mosquitto.db")); err != nil && !os.IsNotExist(err) {
			m.t.Fatal(err)
		}
	}
	m.start(m.cmd.Path)
}
