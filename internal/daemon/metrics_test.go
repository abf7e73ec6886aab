package daemon

import (
	"strings"
	"testing"

	"github.com/avoqado/avoqado-edge/internal/api"
)

// TestCountersAreMetrics reads each counter from a status in which every one has
// a value of its own.
func TestCountersAreMetrics(t *testing.T) {
	snap := &snapshot{status: api.Status{
		Uplink: api.UplinkStatus{Connects: 1, Resent: 2, Received: 3, Rejected: 4, Overflows: 5, Commands: 10, Replayed: 11, SessionLost: &api.SessionLost{Count: 12}},
		Boxes:  api.BoxesStatus{Sent: 6, Unsent: 7, Received: 8, Lost: 9},
	}}
	want := map[string]float64{
		"uplink_connects": 1, "uplink_rewinds": 2, "uplink_broadcasts": 3, "uplink_rejected": 4, "uplink_overflows": 5,
		"uplink_commands": 10, "uplink_replayed": 11, "uplink_sessions_lost": 12,
		"boxes_sent": 6, "boxes_unsent": 7, "boxes_received": 8, "boxes_lost": 9,
	}
	for _, s := range newBoxCollector(nil).samples {
		for name, n := range want {
			if !strings.Contains(s.desc.String(), `"avoqado_edge_`+name+`_total"`) {
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
