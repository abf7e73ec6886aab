package api

import (
	"context"
	"net/http"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
)

// Reloaded is what came of reading the configuration again. Keys are written as
// in the file: log.level.
type Reloaded struct {
	Applied []string `json:"applied"` // in force now
	Restart []string `json:"restart"` // changed, and in force after the next start
}

// reload answers POST /api/v1/reload.
func (s *Server) reload(w http.ResponseWriter, r *http.Request, _ auth.Grant) {
	done, err := s.cfg.Reload(r.Context())
	if err != nil {
		writeRefusal(w, event.Refuse(http.StatusUnprocessableEntity, "config",
			"The configuration is refused as a whole, the box goes on as it was:\n"+err.Error()))
		return
	}
	writeJSON(w, http.StatusOK, done)
}

// Reload has the box read its configuration again. One that has problems is
// refused as a whole, and the error names them.
func (c *Client) Reload(ctx context.Context) (Reloaded, error) {
	var done Reloaded
	return done, c.ask(ctx, http.MethodPost, "/api/v1/reload", &done)
}
