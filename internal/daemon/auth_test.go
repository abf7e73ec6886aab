package daemon

import (
	"slices"
	"testing"

	"github.com/avoqado/avoqado-edge/internal/config"
)

func TestHosts(t *testing.T) {
	var cfg config.Config
	cfg.LAN.AllowedHosts, cfg.LAN.TLSNames = []string{"api.avoqado.io"}, []string{"box.example.com"}
	names := hosts(cfg, "b1")
	for _, name := range []string{"api.avoqado.io", "box.example.com", "avq-b1", "avq-b1.local", "avq-b1.lan"} {
		if !slices.Contains(names, name) {
			t.Errorf("%s is not among %q", name, names)
		}
	}
	if slices.Contains(names, "") || slices.Contains(names, ".local") {
		t.Errorf("an empty name in %q", names)
	}
}
