package simulate

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// TerminalFigures are the counts of one terminal, or of all together.
type TerminalFigures struct {
	Name string     `json:"name,omitempty"`
	Role event.Role `json:"role,omitempty"`

	Sent         uint64 `json:"sent"`         // events, however often each was tried
	Acknowledged uint64 `json:"acknowledged"` // of those: the box has it
	Duplicates   uint64 `json:"duplicates"`   // of those: an earlier try had been stored
	Refused      uint64 `json:"refused"`      // answered with a no that stays one
	Pending      uint64 `json:"pending"`      // not answered; at the end of a run: lost
	Retried      uint64 `json:"retried"`      // tries beyond the first
	Deferred     uint64 `json:"deferred"`     // answered with "not now"
	Unlisted     uint64 `json:"unlisted"`     // acknowledged but past what Keep lists
	LastRefusal  string `json:"lastRefusal,omitempty"`

	Heartbeats        uint64 `json:"heartbeats"` // answered
	HeartbeatsRefused uint64 `json:"heartbeatsRefused"`

	Connected   bool   `json:"connected"`
	Connections uint64 `json:"connections"`
	AwayMs      int64  `json:"awayMs"` // the longest time between two connections
	Heard       Heard  `json:"heard"`

	// Latency is from the try that was answered to its answer, so an outage
	// of the LAN shows in Retried and not here.
	Latency Histogram `json:"latency"`
}

func (f *TerminalFigures) add(o *TerminalFigures) {
	f.Sent += o.Sent
	f.Acknowledged += o.Acknowledged
	f.Duplicates += o.Duplicates
	f.Refused += o.Refused
	f.Pending += o.Pending
	f.Retried += o.Retried
	f.Deferred += o.Deferred
	f.Unlisted += o.Unlisted
	f.Heartbeats += o.Heartbeats
	f.HeartbeatsRefused += o.HeartbeatsRefused
	f.Connections += o.Connections
	f.AwayMs = max(f.AwayMs, o.AwayMs)
	f.Connected = f.Connected || o.Connected
	f.Heard.add(o.Heard)
	f.Latency.Merge(&o.Latency)
	if o.LastRefusal != "" {
		f.LastRefusal = o.LastRefusal
	}
}

// DashboardFigures are the counts of one dashboard.
type DashboardFigures struct {
	Name        string `json:"name"`
	Connected   bool   `json:"connected"`
	Connections uint64 `json:"connections"`
	AwayMs      int64  `json:"awayMs"` // the longest time between two connections
	Heard       Heard  `json:"heard"`
}

// Snapshot is the state of a run at one moment.
type Snapshot struct {
	Elapsed    time.Duration
	Connected  int // clients of both kinds that are connected now
	Clients    int
	Total      TerminalFigures // over all terminals
	Dashboards Heard           // over all dashboards
}

// String returns the snapshot as one line.
func (s Snapshot) String() string {
	f := s.Total
	line := fmt.Sprintf("%s  clients %d/%d  sent %d  acknowledged %d  waiting %d  p50 %s  p99 %s",
		s.Elapsed.Round(time.Second), s.Connected, s.Clients, f.Sent, f.Acknowledged, f.Pending,
		f.Latency.Quantile(0.5), f.Latency.Quantile(0.99))
	if f.Refused > 0 {
		line += fmt.Sprintf("  refused %d (%s)", f.Refused, f.LastRefusal)
	}
	return line
}

// Summary is what a run came to.
type Summary struct {
	Run        string             `json:"run"`
	Seed       uint64             `json:"seed"`
	Elapsed    time.Duration      `json:"-"`
	Total      TerminalFigures    `json:"total"`
	Terminals  []TerminalFigures  `json:"terminals"`
	Dashboards []DashboardFigures `json:"dashboards"`

	// Lost counts events without an answer when the run ended. The box may
	// have them or not; no terminal was told that it has.
	Lost uint64 `json:"lost"`
	// Doubled counts copies that a client heard twice without their being
	// marked as replayed, over all clients.
	Doubled uint64 `json:"doubled"`

	// Acknowledged lists, in the order of the box (epoch, then seq), what it
	// promised to keep: what a back-end must end up with, once each. It is
	// complete when Total.Unlisted is zero.
	Acknowledged []Acknowledged `json:"-"`
}

// MarshalJSON adds the elapsed time in seconds; the list of events stays out.
func (s Summary) MarshalJSON() ([]byte, error) {
	type plain Summary
	return json.Marshal(struct {
		Elapsed float64 `json:"elapsedSeconds"`
		plain
	}{s.Elapsed.Seconds(), plain(s)})
}

// String returns the summary for people.
func (s Summary) String() string {
	var b strings.Builder
	f := &s.Total
	rate := 0.0
	if s.Elapsed > 0 {
		rate = float64(f.Acknowledged) / s.Elapsed.Seconds()
	}
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(&b, format, args...) } // memory takes all
	line("%d events acknowledged in %s (%.1f/s), %d lost, %d heard twice\n",
		f.Acknowledged, s.Elapsed.Round(time.Millisecond), rate, s.Lost, s.Doubled)
	line("%-18s %-10s %8s %8s %8s %8s %8s %10s %10s\n",
		"terminal", "role", "sent", "acked", "again", "dupl.", "refused", "p50", "p99")
	for i := range s.Terminals {
		t := &s.Terminals[i]
		line("%-18s %-10s %8d %8d %8d %8d %8d %10s %10s\n", t.Name, t.Role, t.Sent, t.Acknowledged,
			t.Retried, t.Duplicates, t.Refused, t.Latency.Quantile(0.5), t.Latency.Quantile(0.99))
	}
	for _, d := range s.Dashboards {
		line("%-18s heard %d (%d of them payments and orders), replayed %d, twice %d, connections %d\n",
			d.Name, d.Heard.Events, d.Heard.Sales, d.Heard.Replayed, d.Heard.Doubled, d.Connections)
	}
	if f.Heard.Foreign+f.Heard.Echoed > 0 {
		line("wrong: terminals heard %d events of other venues and %d of their own\n", f.Heard.Foreign, f.Heard.Echoed)
	}
	if f.AwayMs > 0 {
		line("connections broke; the longest until a terminal was back: %s\n", time.Duration(f.AwayMs)*time.Millisecond)
	}
	if f.LastRefusal != "" {
		line("last refusal: %s\n", f.LastRefusal)
	}
	return strings.TrimSuffix(b.String(), "\n")
}
