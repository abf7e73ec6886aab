package certificate

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/avoqado/avoqado-edge/internal/needs"
)

// TestFullDisk: without room there is no CA, it says so, and there is one as soon
// as there is room. Certificates need none.
func TestFullDisk(t *testing.T) {
	needs.Root(t, "mount a small disk")
	p := newPlace(t)
	if err := syscall.Mount("none", p.StateDir, "tmpfs", 0, "size=16k"); err != nil {
		needs.Missing(t, "no disk can be mounted: "+err.Error())
	}
	t.Cleanup(func() { _ = syscall.Unmount(p.StateDir, 0) })
	filler := filepath.Join(p.StateDir, "filler")
	fill := func() {
		_ = os.WriteFile(filler, make([]byte, 64<<10), 0o600) // as much as fits
	}
	fill()
	k := New(p.Config)
	if st := k.Status(); !strings.Contains(st.Error, "no space") || k.CA() != nil {
		t.Errorf("status is %+v", st)
	}
	if left, err := os.ReadDir(p.StateDir); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	k.look()
	if _, err := shake(k, k.CA(), "avq-b1.local", p.now); err != nil || k.Status().Error != "" {
		t.Errorf("with room: %v, %q", err, k.Status().Error)
	}
	fill()
	p.found = []string{"avq-b1-2.local"}
	k.look()
	if _, err := shake(k, k.CA(), "avq-b1-2.local", p.now); err != nil || k.Status().Error != "" {
		t.Errorf("without room again: %v, %q", err, k.Status().Error)
	}
}
