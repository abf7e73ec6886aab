package api

import (
	"net/http"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
)

// mobile is where the apps of a POS look for their venue.
const mobile = "/api/v1/mobile/venues/{venueId}"

// ours refuses a path of another venue than the box's, which is that of every
// token that got here.
func (s *Server) ours(w http.ResponseWriter, r *http.Request) bool {
	if r.PathValue("venueId") == s.cfg.Venue {
		return true
	}
	writeJSON(w, http.StatusForbidden, map[string]any{
		"success": false, "message": "La terminal no pertenece a este establecimiento",
		"error": event.WrongVenue().Text, "code": event.WrongVenue().Code, "statusCode": http.StatusForbidden,
	})
	return false
}

// posted returns the body of a request for the box's venue, which counts against
// its sender's address like an event, or refuses it.
func (s *Server) posted(w http.ResponseWriter, r *http.Request, g auth.Grant) (body []byte, ok bool) {
	if !s.ours(w, r) {
		return nil, false
	}
	if refusal := s.spend(r, false); refusal != nil {
		writeRefusal(w, refusal)
		return nil, false
	}
	return s.bodyOf(w, r, g)
}

// charge has a terminal take a payment, and answers when it has: a long poll. Who is
// not let in any more waits no longer, and is told as at the end of the wait that
// the card may be charged; but whose token ends by itself meanwhile hears the result.
func (s *Server) charge(w http.ResponseWriter, r *http.Request, g auth.Grant) {
	if body, ok := s.posted(w, r, g); ok {
		ctx, done := s.whileIn(r, g, auth.ErrExpired)
		defer done()
		answer, status := s.cfg.Till.Charge(ctx, g, r.Header.Get("X-Device-Name"), body)
		writeRaw(w, status, answer)
	}
}

func (s *Server) cancelCharge(w http.ResponseWriter, r *http.Request, g auth.Grant) {
	if body, ok := s.posted(w, r, g); ok {
		answer, status := s.cfg.Till.CancelCharge(r.Context(), g, body)
		writeRaw(w, status, answer)
	}
}

func (s *Server) chargeStatus(w http.ResponseWriter, r *http.Request, g auth.Grant) {
	if s.ours(w, r) {
		answer, status := s.cfg.Till.ChargeStatus(r.Context(), g, r.PathValue("requestId"))
		writeRaw(w, status, answer)
	}
}

func (s *Server) onlineTerminals(w http.ResponseWriter, r *http.Request, g auth.Grant) {
	if s.ours(w, r) {
		answer, status := s.cfg.Till.OnlineTerminals(r.Context(), g)
		writeRaw(w, status, answer)
	}
}

func (s *Server) printReceipt(w http.ResponseWriter, r *http.Request, g auth.Grant) {
	if body, ok := s.posted(w, r, g); ok {
		ctx, done := s.whileIn(r, g, auth.ErrExpired)
		defer done()
		answer, status := s.cfg.Till.PrintReceipt(ctx, g, r.PathValue("terminalId"), body)
		writeRaw(w, status, answer)
	}
}
