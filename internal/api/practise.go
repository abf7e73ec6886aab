package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
)

// maxCut is how long an outage may be practised at once. The box ends it itself,
// whatever became of whoever asked for it.
const maxCut = time.Hour

// cut answers POST /api/v1/uplink/cut: {"forMs": 120000}; 0 ends it.
func (s *Server) cut(w http.ResponseWriter, r *http.Request, _ auth.Grant) {
	var asked struct {
		ForMs *int64 `json:"forMs"`
	}
	body, ok := readBody(w, r)
	if !ok {
		return
	}
	if err := json.Unmarshal(body, &asked); err != nil || asked.ForMs == nil || *asked.ForMs < 0 || *asked.ForMs > maxCut.Milliseconds() {
		writeRefusal(w, event.Refuse(http.StatusBadRequest, "bad_cut", fmt.Sprintf("forMs must be a number from 0 to %d", maxCut.Milliseconds())))
		return
	}
	if s.cfg.Cut == nil {
		writeRefusal(w, event.Refuse(http.StatusConflict, "no_cloud", "The box has no cloud to be cut off from"))
		return
	}
	s.cfg.Cut(time.Duration(*asked.ForMs) * time.Millisecond)
	writeJSON(w, http.StatusOK, asked)
}

// Cut has the box cut its link to the cloud for some time, an hour at most; zero
// ends that. It ends by itself.
func (c *Client) Cut(ctx context.Context, d time.Duration) error {
	var done json.RawMessage
	return c.post(ctx, "/api/v1/uplink/cut", fmt.Appendf(nil, `{"forMs":%d}`, d.Milliseconds()), &done)
}

// Alert is what people in the venue are to read.
type Alert struct {
	Level   string   `json:"level"` // as the catalogue lists them
	Title   string   `json:"title"`
	Message string   `json:"message"`
	Venue   string   `json:"venueId"`
	Roles   []string `json:"targetRoles,omitempty"` // none: all

	Expires time.Time `json:"expiresAt,omitzero"` // zero: it is shown to who comes within a day
}

// Alert stores an alert for the venue and returns its id. It is on disk then.
func (c *Client) Alert(ctx context.Context, a Alert) (id string, err error) {
	payload, err := json.Marshal(a)
	if err != nil {
		return "", fmt.Errorf("encode alert: %w", err)
	}
	var raw json.RawMessage
	if err := c.post(ctx, "/api/v1/events", fmt.Appendf(nil, `{"event":%q,"payload":%s}`, event.SystemAlert, payload), &raw); err != nil {
		return "", err
	}
	var ack struct {
		ID string `json:"eventId"`
	}
	if err := json.Unmarshal(bytes.TrimSpace(raw), &ack); err != nil || ack.ID == "" {
		return "", errors.New("the box's answer names no event")
	}
	return ack.ID, nil
}
