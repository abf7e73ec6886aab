package daemon

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"time"

	"github.com/avoqado/avoqado-edge/internal/api"
	"github.com/avoqado/avoqado-edge/internal/buildinfo"
	"github.com/avoqado/avoqado-edge/internal/config"
	"github.com/avoqado/avoqado-edge/internal/logbook"
	"github.com/avoqado/avoqado-edge/internal/uplink"
)

// Collect gathers what support looks at, of the box that runs with this
// configuration, into an archive of at most so many bytes. Events are without
// their payloads unless those are asked for. It takes seconds.
type Collect func(ctx context.Context, cfg config.Config, payloads bool, most int) (Bundle, error)

// Bundle is what support looks at.
type Bundle struct {
	Archive []byte   // .tar.gz
	LeftOut []string // what there was no room for, in words
}

// collected is the result of the command diagnostics.collect. Field names are a
// contract.
type collected struct {
	File    string   `json:"file"`    // a name for it
	Bundle  []byte   `json:"bundle"`  // Base64
	LeftOut []string `json:"leftOut"` // in words
}

// Diagnose answers the command diagnostics.collect with the same bundle as the
// command line makes.
func (r remote) Diagnose(ctx context.Context, payloads bool, most int) (any, error) {
	cfg := r.d.inForce()
	b, err := r.d.host.Collect(ctx, cfg, payloads, most)
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("avoqado-edge-%s-%s.tar.gz", r.d.id.Box, r.Now().UTC().Format("20060102T150405Z"))
	return collected{File: name, Bundle: b.Archive, LeftOut: append([]string{}, b.LeftOut...)}, nil
}

// logDir is where the last lines of the log lie in a state directory.
func logDir(stateDir string) string { return filepath.Join(stateDir, "log") }

// LeftLog returns what a box that does not run left of its log.
func LeftLog(stateDir string) logbook.Said { return logbook.ReadDir(logDir(stateDir)) }

// process is the running program as its makers look at it. It holds no secret,
// no token and no payload.
type process struct {
	Build      buildinfo.Info  `json:"build"`
	Go         string          `json:"go"`
	System     string          `json:"system"`
	Goroutines int             `json:"goroutines"`
	HeapBytes  uint64          `json:"heapBytes"`
	LogLevel   json.RawMessage `json:"logLevel"`
	Uplink     *uplink.Status  `json:"uplink"`   // null: there is no cloud
	Rejected   []rejection     `json:"rejected"` // the newest first
}

// rejection is a message of the cloud that could not be used, without its bytes.
type rejection struct {
	Time   time.Time `json:"time"`
	Topic  string    `json:"topic"`
	Code   string    `json:"code"`
	Reason string    `json:"reason"`
	Size   int       `json:"size"`
}

func (d *Daemon) diagnosis() api.Diagnosis {
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	level, _ := d.host.Level.MarshalText()
	p := process{
		Build: buildinfo.Read(), Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH,
		Goroutines: runtime.NumGoroutine(), HeapBytes: memory.HeapAlloc,
		LogLevel: fmt.Appendf(nil, "%q", level), Rejected: d.lastRejected(10),
	}
	if d.uplink != nil {
		st := d.uplink.Status()
		p.Uplink = &st
	}
	said := d.host.Book.Said()
	var stacks bytes.Buffer
	_ = pprof.Lookup("goroutine").WriteTo(&stacks, 1) // a buffer takes it all
	return api.Diagnosis{
		Process: p, Goroutines: stacks.String(),
		Log: said.Lines, LogBefore: said.Before, Crash: said.Crash, Crashed: said.Crashed,
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
