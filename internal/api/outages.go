package api

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/outages"
)

// Outages tells what is known of the outages of the way to the cloud, the
// newest first. Safe for concurrent use.
type Outages interface {
	Outages() []outages.Outage
}

func (s *Server) known() []outages.Outage {
	if s.cfg.Outages == nil {
		return []outages.Outage{}
	}
	return s.cfg.Outages.Outages()
}

// outages answers GET /api/v1/outages.
func (s *Server) outages(w http.ResponseWriter, _ *http.Request, _ auth.Grant) {
	writeJSON(w, http.StatusOK, map[string]any{"outages": s.known()})
}

// outage answers GET /api/v1/outages/{id}?format=json|html|text&lang=es|en; the
// id may be "latest".
func (s *Server) outage(w http.ResponseWriter, r *http.Request, _ auth.Grant) {
	id, q := r.PathValue("id"), r.URL.Query()
	for _, o := range s.known() {
		if id != "latest" && id != strconv.FormatUint(o.ID, 10) {
			continue
		}
		lang := q.Get("lang")
		if lang == "" {
			lang = r.Header.Get("Accept-Language")
		}
		st := s.cfg.Box.Status()
		report := outages.Report{Outage: o, Venue: st.Venue, Box: st.Box, Now: time.Now(), In: outages.ParseLanguage(lang)}
		w.Header().Set("Cache-Control", "no-store")
		switch q.Get("format") {
		case "", "json":
			writeJSON(w, http.StatusOK, o)
		case "html":
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'")
			_ = report.HTML(w) // a caller that went away needs no answer
		case "text":
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			_ = report.Text(w) // likewise
		default:
			writeRefusal(w, event.Refuse(http.StatusBadRequest, "bad_format", "format must be json, html or text"))
		}
		return
	}
	writeRefusal(w, event.Refuse(http.StatusNotFound, "no_outage", "There is no such outage: see /api/v1/outages"))
}

// Outages returns what the box knows of the outages of its way to the cloud,
// the newest first.
func (c *Client) Outages(ctx context.Context) ([]outages.Outage, error) {
	var answer struct {
		Outages []outages.Outage `json:"outages"`
	}
	return answer.Outages, c.get(ctx, "/api/v1/outages", &answer)
}
