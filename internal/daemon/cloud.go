package daemon

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"time"

	"github.com/avoqado/avoqado-edge/internal/api"
	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/buildinfo"
	"github.com/avoqado/avoqado-edge/internal/config"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/uplink"
)

// remote is the box as the cloud's commands and configuration act on it.
type remote struct {
	d        *Daemon
	verifier *auth.Verifier
	level    *slog.LevelVar
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
	r.level.Set(level)
}

// Configure lets the cloud decide whose tokens are good. Sessions that are open
// and no longer allowed are closed.
func (r remote) Configure(s uplink.Settings) (func(), error) {
	keys, err := auth.ParseKeys(s.JWKS)
	if err != nil {
		return nil, err
	}
	policy := auth.Policy{VenueStatus: s.VenueStatus, Keys: keys}
	for _, gone := range s.Revoked {
		policy.Revoked = append(policy.Revoked, auth.Revocation(gone))
	}
	return func() {
		r.d.clock.Heard(s.ServerTime)
		r.verifier.Enforce(policy)
		if n := r.d.lan.VerifyAgain(); n > 0 {
			r.d.log.Info("sessions ended by the configuration of the cloud", "sessions", n)
		}
	}, nil
}

// diagnosis is what support looks at first. It holds no secret, no token and no
// payload.
type diagnosis struct {
	Build      buildinfo.Info  `json:"build"`
	Go         string          `json:"go"`
	System     string          `json:"system"`
	Goroutines int             `json:"goroutines"`
	HeapBytes  uint64          `json:"heapBytes"`
	Status     api.Status      `json:"status"`
	Uplink     uplink.Status   `json:"uplink"`
	Rejected   []rejection     `json:"rejected"` // the newest first
	Config     []config.Line   `json:"config"`   // secrets hidden
	Log        json.RawMessage `json:"logLevel"`
}

// rejection is a message of the cloud that could not be used, without its bytes.
type rejection struct {
	Time   time.Time `json:"time"`
	Topic  string    `json:"topic"`
	Code   string    `json:"code"`
	Reason string    `json:"reason"`
	Size   int       `json:"size"`
}

// Diagnose keeps within what one answer to a command may hold.
func (r remote) Diagnose() any {
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	level, _ := r.level.MarshalText()
	return diagnosis{
		Build: buildinfo.Read(), Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH,
		Goroutines: runtime.NumGoroutine(), HeapBytes: memory.HeapAlloc,
		Status: r.d.Status(), Uplink: r.d.uplink.Status(), Rejected: r.d.lastRejected(10),
		Config: config.Effective(r.d.cfg), Log: fmt.Appendf(nil, "%q", level),
	}
}

func (d *Daemon) lastRejected(n int) []rejection {
	all, _ := d.journal.All(uplink.RejectedSpace) // what of it can be read
	list := make([]uplink.Rejection, 0, len(all))
	for _, raw := range all {
		var kept uplink.Rejection
		if json.Unmarshal(raw, &kept) == nil {
			list = append(list, kept)
		}
	}
	slices.SortFunc(list, func(a, b uplink.Rejection) int { return cmp.Compare(b.Number, a.Number) })
	shown := make([]rejection, 0, n)
	for _, k := range list[:min(n, len(list))] {
		shown = append(shown, rejection{k.Time, k.Topic, k.Code, k.Reason, k.Size})
	}
	return shown
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
