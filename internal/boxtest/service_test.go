package boxtest

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// manager is a service manager as sd_notify(3) describes it.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
	path string
}

func newManager(t *testing.T) *manager {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &manager{t, conn, path}
}

// hear returns the next message with the word in it; false if none comes.
func (m *manager) hear(word string, within time.Duration) (message string, ok bool) {
	m.t.Helper()
	if err := m.conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		m.t.Fatal(err)
	}
	buf := make([]byte, 4096)
	for {
		n, err := m.conn.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return "", false
		}
		if err != nil {
			m.t.Fatal(err)
		}
		if strings.Contains(string(buf[:n]), word) {
			return string(buf[:n]), true
		}
	}
}

// TestServiceManager: the box says when it is ready, feeds the watchdog a third
// of its time apart with a sentence for `systemctl status`, reads its
// configuration on SIGHUP without ending, and says that it stops.
func TestServiceManager(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	box := StartBox(t, BoxConfig{Env: []string{"NOTIFY_SOCKET=" + m.path, "WATCHDOG_USEC=3000000"}})
	if said, ok := m.hear("READY=1", 30*time.Second); !ok || !strings.Contains(said, "STATUS=0 clients, no cloud") {
		t.Fatalf("not ready: %q", said)
	}
	for range 3 {
		if _, ok := m.hear("WATCHDOG=1", 30*time.Second); !ok {
			t.Fatal("the watchdog starves")
		}
	}
	box.process.signal(syscall.SIGHUP)
	Eventually(t, 30*time.Second, "the configuration is read again", func() bool {
		return strings.Contains(box.log.String(), "configuration read again")
	})
	if _, ok := m.hear("WATCHDOG=1", 30*time.Second); !ok {
		t.Error("the watchdog starves after a reload")
	}
	box.Stop()
	if _, ok := m.hear("STOPPING=1", 10*time.Second); !ok {
		t.Error("the end was not said")
	}
}
