package simulate

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"
)

// joinTimeout bounds the wait for the answer to a join.
const joinTimeout = 10 * time.Second

// dashboardConfig says as whom a dashboard listens.
type dashboardConfig struct {
	URL, Venue string
	Name       string // in figures
	Token      string
	Backoff    Backoff // zero: DefaultBackoff
	Log        *slog.Logger
}

// dashboard hears everything the venue's dashboards hear and counts it. It
// sends nothing but its join. Run is called once; the rest at any time.
type dashboard struct {
	cfg  dashboardConfig
	line *Reconnecting
	ear  *ear
}

// newDashboard returns a dashboard that is not connected yet.
func newDashboard(cfg dashboardConfig) *dashboard {
	d := &dashboard{cfg: cfg, ear: newEar(cfg.Venue, "")}
	d.line = NewReconnecting(ReconnectConfig{
		Client: ClientConfig{
			URL: cfg.URL, Auth: map[string]any{"token": cfg.Token}, Log: cfg.Log, OnEvent: d.ear.hear,
		},
		Backoff: cfg.Backoff, OnConnect: joinVenue(cfg.Venue),
	})
	return d
}

// Run listens until ctx ends, through any number of connections. An error says
// that the box does not want this dashboard.
func (d *dashboard) Run(ctx context.Context) error {
	if err := d.line.Run(ctx); err != nil {
		return fmt.Errorf("dashboard %s: %w", d.cfg.Name, err)
	}
	return nil
}

// Ready waits until the dashboard has joined, and so misses nothing from now on.
func (d *dashboard) Ready(ctx context.Context) error {
	_, err := d.line.Await(ctx)
	return err
}

// Figures returns what it heard so far.
func (d *dashboard) Figures() DashboardFigures {
	connected, connections := d.line.Connected()
	return DashboardFigures{
		Name: d.cfg.Name, Connected: connected, Connections: connections,
		AwayMs: d.line.Away().Milliseconds(), Heard: d.ear.figures(),
	}
}

// joinVenue returns what both kinds of client do once connected.
func joinVenue(venue string) func(context.Context, *Client) error {
	return func(ctx context.Context, c *Client) error {
		ctx, cancel := context.WithTimeout(ctx, joinTimeout)
		defer cancel()
		raw, err := c.EmitAck(ctx, "join_room", map[string]string{"roomType": "venue", "venueId": venue})
		if err != nil {
			return err
		}
		a, err := readAnswer(raw)
		switch {
		case err != nil:
			return fmt.Errorf("join venue: %w", err)
		case !a.Success && !a.worthRetrying():
			return &RefusedError{What: "join venue", Text: a.Error}
		case !a.Success:
			return fmt.Errorf("join venue: %s", a.Error)
		}
		return nil
	}
}

// answer is an acknowledgement, as far as a client acts on it.
type answer struct {
	Success   bool   `json:"success"`
	EventID   string `json:"eventId"`
	Seq       uint64 `json:"seq"`
	Epoch     string `json:"epoch"`
	Duplicate bool   `json:"duplicate"`

	Error        string `json:"error"`
	StatusCode   int    `json:"statusCode"`
	Retryable    bool   `json:"retryable"`
	RetryAfterMS int64  `json:"retryAfterMs"`
}

func readAnswer(raw json.RawMessage) (answer, error) {
	var a answer
	if err := json.Unmarshal(raw, &a); err != nil {
		return answer{}, fmt.Errorf("read answer: %w", err)
	}
	return a, nil
}

// worthRetrying reports whether the box said no only for now.
func (a answer) worthRetrying() bool { return a.Retryable || a.StatusCode == 503 }

// retryAfter is when to try again, kept within what a person would wait for.
func (a answer) retryAfter() time.Duration {
	return min(max(time.Duration(a.RetryAfterMS)*time.Millisecond, 100*time.Millisecond), 10*time.Second)
}
