package daemon

import (
	"context"
	"time"

	"github.com/avoqado/avoqado-edge/internal/clock"
	"github.com/avoqado/avoqado-edge/internal/config"
	"github.com/avoqado/avoqado-edge/internal/uplink"
)

// CloudCheck is what a look at the way to the cloud found.
type CloudCheck = uplink.CloudCheck

// BrokerCheck is what it found at one broker.
type BrokerCheck = uplink.BrokerCheck

// CheckCloud looks at the way to the cloud from beside a box that may run or
// not, within 8 s. It changes nothing.
func CheckCloud(ctx context.Context, cfg config.Config) (CloudCheck, error) {
	box := cfg.Box.ID
	if id, err := readIdentity(cfg.StateDir); err == nil {
		box = id.Box
	}
	if box == "" {
		box = "unborn" // it never ran: its topics do not exist yet
	}
	return uplink.CheckCloud(ctx, uplinkConfig(cfg, box), time.Now)
}

// ClockCheck says whether something disciplines the system's clock, and whether
// it stands before this program was made.
func ClockCheck(now time.Time) (synchronised, impossible bool) {
	return clock.Disciplined(), now.Before(buildTime())
}
