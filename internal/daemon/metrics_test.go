package daemon

import (
	"strings"
	"testing"

	"github.com/avoqado/avoqado-edge/internal/api"
)

// TestUplinkCountersAreMetrics reads each counter from a status in which every
// one has a value of its own.
func TestUplinkCountersAreMetrics(t *testing.T) {
	snap := &snapshot{status: api.Status{Uplink: api.UplinkStatus{Connects: 1, Resent: 2, Received: 3, Rejected: 4, Overflows: 5}}}
	want := map[string]float64{"connects": 1, "rewinds": 2, "broadcasts": 3, "rejected": 4, "overflows": 5}
	for _, s := range newBoxCollector(nil).samples {
		for name, n := range want {
			if !strings.Contains(s.desc.String(), `"avoqado_edge_uplink_`+name+`_total"`) {
				continue
			}
			if got := s.read(snap); got != n {
				t.Errorf("%s: %v, want %v", name, got, n)
			}
			delete(want, name)
		}
	}
	if len(want) > 0 {
		t.Errorf("no metric for %v", want)
	}
}
