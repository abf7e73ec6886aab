package daemon

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/avoqado/avoqado-edge/internal/config"
	"github.com/avoqado/avoqado-edge/systemd"
)

// A machine is told by its files as a Raspberry Pi has them.
func TestLookAtMachine(t *testing.T) {
	root, state := t.TempDir(), t.TempDir()
	secret := filepath.Join(root, "password")
	for path, text := range map[string]string{
		"proc/self/mounts":                     "/dev/root / ext4 rw,noatime 0 0\ntmpfs " + filepath.Dir(state) + " tmpfs rw,size=1k 0 0\n/dev/x " + state + "x vfat rw 0 0\n",
		"proc/meminfo":                         "MemTotal:         948304 kB\nMemFree: 1 kB\nMemAvailable:     51200 kB\n",
		"proc/loadavg":                         "9.00 6.50 1.00 1/100 42\n",
		"proc/cpuinfo":                         "processor\t: 0\nprocessor\t: 1\n",
		"sys/class/thermal/thermal_zone0/temp": "61234\n",
		"sys/devices/platform/soc/soc:firmware/get_throttled":        "50005\n",
		"usr/lib/systemd/system/avoqado-edge.service":                string(systemd.Unit) + "# edited\n",
		"etc/systemd/system/avoqado-edge.service.d/50-fallback.conf": "[Service]\n",
		"password": "hush",
	} {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	cfg := config.Config{StateDir: state, LAN: config.LAN{Listen: taken.Addr().String()}, Uplink: config.Uplink{PasswordFile: secret, CAFile: secret}}
	m := LookAtMachine(t.Context(), cfg, false, root)
	if m.FileSystem != "tmpfs" || m.MemoryTotal != 948304<<10 || m.MemoryFree != 50<<20 || m.Load != 6.5 || m.Processors != 2 {
		t.Errorf("%+v", m)
	}
	if m.Temperature == nil || *m.Temperature != 61.234 || m.Throttled == nil || *m.Throttled != 0x50005 {
		t.Errorf("temperature %v, throttled %v", m.Temperature, m.Throttled)
	}
	if m.Write != nil || m.Fsync <= 0 || m.Listen == nil || m.Journal != nil || !m.UnitOlder || m.UnitPath == "" || !m.FellBack {
		t.Errorf("%+v", m)
	}
	if len(m.Files) != 2 || !m.Files[0].Warn || m.Files[1].Warn || strings.Contains(m.Files[0].Fault+m.Files[1].Fault, "hush") {
		t.Errorf("files: %+v", m.Files)
	}
	if left, err := os.ReadDir(state); err != nil || len(left) != 0 {
		t.Errorf("it left %v, %v", left, err)
	}
	if m := LookAtMachine(t.Context(), config.Config{StateDir: filepath.Join(state, "none")}, true, root); m.Write == nil || m.Listen != nil {
		t.Errorf("%+v", m)
	}
}
