package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"time"

	"github.com/avoqado/avoqado-edge/internal/api"
	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/uplink"
)

// remote is the box as the cloud's commands and configuration act on it.
type remote struct {
	d        *Daemon
	verifier *auth.Verifier
}

func (r remote) Now() time.Time { return r.d.clock.Now() }

func (r remote) Report() any { return r.d.Status() }

// telemetry is what the back-end gets every minute. Field names are a contract.
type telemetry struct {
	At          time.Time   `json:"at"`
	UptimeMs    int64       `json:"uptimeMs"`
	Backlog     api.Backlog `json:"backlog"`
	Parked      int         `json:"parked"`
	Clients     int         `json:"clients"`
	Terminals   online      `json:"terminals"`
	Level       string      `json:"level"` // what is given up for want of room
	Disk        room        `json:"disk"`
	Temperature *float64    `json:"temperature,omitempty"` // °C of the processor
	Clock       timekeeping `json:"clock"`
	Problems    int         `json:"problems"`
}

type online struct {
	Online int `json:"online"`
}

type room struct {
	FreeBytes  uint64 `json:"freeBytes"`
	TotalBytes uint64 `json:"totalBytes"`
}

type timekeeping struct {
	Trusted bool   `json:"trusted"`
	Source  string `json:"source"` // ntp, cloud or none
	ErrorMs int64  `json:"errorMs,omitempty"`
}

func (d *Daemon) telemetry() any {
	st := d.Status()
	return telemetry{
		At: st.Clock.Now, UptimeMs: st.UptimeMs, Backlog: st.Journal.Backlog, Parked: st.Uplink.Parked,
		Clients: st.LAN.Clients, Terminals: online{st.LAN.Terminals}, Level: st.Journal.Level,
		Disk: room(st.Disk), Temperature: temperature(), Clock: timekeeping{st.Clock.Trusted, st.Clock.Source, st.Clock.ErrorMs}, Problems: len(st.Problems),
	}
}

func (r remote) SetLogLevel(level slog.Level) {
	r.d.log.Info("log level set by the cloud", "level", level)
	r.d.host.Level.Set(level)
}

// Configure lets the cloud decide whose tokens are good. Sessions that are open
// and no longer allowed are closed.
func (r remote) Configure(s *uplink.Settings, before json.RawMessage) (func(), error) {
	keys, set, err := auth.MendKeys(s.JWKS, before)
	s.JWKS = set
	policy := auth.Policy{VenueStatus: s.VenueStatus, Keys: keys}
	for _, gone := range s.Revoked {
		policy.Revoked = append(policy.Revoked, auth.Revocation(gone))
	}
	heard := s.ServerTime
	return func() {
		r.d.clock.Heard(heard)
		r.verifier.Enforce(policy)
		if n := r.d.lan.VerifyAgain(); n > 0 {
			r.d.log.Info("sessions ended by the configuration of the cloud", "sessions", n)
		}
	}, err
}

// parking is what the cloud will not take, as an operator sees it.
type parking struct{ *uplink.Uplink }

// parking returns nil if there is no cloud.
func (d *Daemon) parking() api.Parking {
	if d.uplink == nil {
		return nil
	}
	return parking{d.uplink}
}

func (p parking) Parked() []api.ParkedEvent {
	list := p.Uplink.Parked()
	shown := make([]api.ParkedEvent, len(list))
	for i, e := range list {
		shown[i] = api.ParkedEvent{Event: e.Event, At: e.At, Reason: e.Reason, Behind: e.Behind}
	}
	return shown
}

func (p parking) Settled() ([]api.SettledEvent, error) {
	list, err := p.Uplink.Settled()
	shown := make([]api.SettledEvent, len(list))
	for i, d := range list {
		shown[i] = api.SettledEvent{
			Event: d.Event, At: d.At, Reason: d.Reason, Decision: string(d.Decision), Note: d.Note, Again: d.Again,
		}
	}
	return shown, err
}

func (p parking) Stands(seq event.Seq) (parked bool, decided string) {
	parked, d := p.Uplink.Stands(seq)
	return parked, string(d)
}

func (p parking) Settle(ctx context.Context, seq event.Seq, decision string, payload []byte, note string) (event.Seq, error) {
	d := uplink.Decision(decision)
	if d != uplink.Retry && d != uplink.Edit && d != uplink.Drop {
		return 0, api.ErrNoDecision
	}
	done, err := p.Uplink.Settle(ctx, seq, d, payload, note)
	for theirs, ours := range map[error]error{
		uplink.ErrNotParked: api.ErrNotParked, uplink.ErrWaits: api.ErrWaits,
		uplink.ErrInFlight: api.ErrInFlight, uplink.ErrPayload: api.ErrPayload,
	} {
		if errors.Is(err, theirs) {
			return 0, ours
		}
	}
	return done.Again, err
}
