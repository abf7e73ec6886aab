package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
)

const (
	// maxBody bounds one POST, in bytes: the same as one Socket.IO packet.
	maxBody = 1_000_000
	// maxEvents bounds the array of one POST.
	maxEvents = 256
)

type request struct {
	Event   string          `json:"event"`
	Payload json.RawMessage `json:"payload"`
	Target  *event.Audience `json:"target"`
}

// publish takes {event, payload, target?} or an array of them, and answers
// with the ack a socket would get, or an array of acks in the same order. One
// event answers with its own status; an array with 200 when all were stored,
// else 207, and each ack tells for itself. Each counts against the budget of its
// sender's address, and is refused with 429 beyond it. What is answered with success is on
// disk, whatever became of its neighbours.
func (s *Server) publish(w http.ResponseWriter, r *http.Request, g auth.Grant) {
	body, ok := s.bodyOf(w, r, g)
	if !ok {
		return
	}
	if len(body) == 0 || body[0] != '[' {
		ack, status := s.publishOne(w, r, g, body)
		writeRaw(w, status, ack)
		return
	}

	var list []json.RawMessage
	if err := json.Unmarshal(body, &list); err != nil {
		writeRefusal(w, badBody(err))
		return
	}
	if len(list) > maxEvents {
		writeRefusal(w, event.Refuse(http.StatusRequestEntityTooLarge, "too_many",
			fmt.Sprintf("The array has %d events, at most %d are taken at once", len(list), maxEvents)))
		return
	}
	ctx, done := s.whileIn(r, g, nil)
	defer done()
	status := http.StatusOK
	acks := []byte{'['}
	for i, one := range list {
		ack, st := refusalJSON(errGone)
		if ctx.Err() == nil || r.Context().Err() != nil { // who hung up was not taken back
			ack, st = s.publishOne(w, r, g, one)
		}
		if st != http.StatusOK {
			status = http.StatusMultiStatus
		}
		if i > 0 {
			acks = append(acks, ',')
		}
		acks = append(acks, ack...)
	}
	writeRaw(w, status, append(acks, ']'))
}

// errGone answers what came too late.
var errGone = event.Refuse(http.StatusUnauthorized, "bad_token", "The token is not good any more")

// bodyOf is readBody for who was let in: a body may take its time, and its sender be
// taken back meanwhile.
func (s *Server) bodyOf(w http.ResponseWriter, r *http.Request, g auth.Grant) (body []byte, ok bool) {
	began := time.Now()
	body, ok = readBody(w, r)
	if ok && time.Since(began) >= verifyEvery && s.stillIn(r, g) != nil {
		writeRefusal(w, errGone)
		return nil, false
	}
	return body, ok
}

// readBody returns the body of a request without the space around it, or
// refuses it.
func readBody(w http.ResponseWriter, r *http.Request) (body []byte, ok bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		writeRefusal(w, event.Refuse(http.StatusRequestEntityTooLarge, "too_large",
			fmt.Sprintf("The body is larger than %d bytes or did not arrive whole", maxBody)))
		return nil, false
	}
	return bytes.TrimSpace(body), true
}

// commandResult takes what became of a command, as today's terminal says it.
func (s *Server) commandResult(w http.ResponseWriter, r *http.Request, g auth.Grant) {
	if refusal := s.spend(r, false); refusal != nil {
		writeRefusal(w, refusal)
		return
	}
	if body, ok := s.bodyOf(w, r, g); ok {
		ack, status := s.cfg.Publish.CommandResult(r.Context(), g, body)
		writeRaw(w, status, ack)
	}
}

// heartbeat takes what a terminal says of itself every half minute. Today's
// sends no token with it, and must not be turned away for that. One that comes
// too often is telemetry beyond its budget.
func (s *Server) heartbeat(w http.ResponseWriter, r *http.Request, _ auth.Grant) {
	if refusal := s.spend(r, true); refusal != nil {
		writeRefusal(w, refusal)
		return
	}
	body, ok := readBody(w, r)
	if !ok {
		return
	}
	var known *auth.Grant
	switch g, refusal := s.checkToken(staff, r); {
	case refusal == nil:
		known = &g
	case refusal.Status == http.StatusTooManyRequests:
		writeRefusal(w, refusal)
		return
	}
	ack, status := s.cfg.Publish.Heartbeat(known, body)
	writeRaw(w, status, ack)
}

func (s *Server) publishOne(w http.ResponseWriter, r *http.Request, g auth.Grant, body []byte) (ack []byte, status int) {
	if refusal := s.spend(r, false); refusal != nil {
		retryAfter(w, refusal)
		return refusalJSON(refusal)
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	var req request
	if err := dec.Decode(&req); err != nil {
		return refusalJSON(badBody(err))
	}
	if dec.More() {
		return refusalJSON(event.Refuse(http.StatusBadRequest, "bad_body", "There is something behind the JSON object"))
	}
	if req.Event == "" {
		return refusalJSON(event.Refuse(http.StatusBadRequest, "bad_body", "event is required"))
	}
	return s.cfg.Publish.Publish(r.Context(), g, event.Kind(req.Event), req.Payload, req.Target)
}

func badBody(err error) *event.Refusal {
	return event.Refuse(http.StatusBadRequest, "bad_body",
		"The body must be {event, payload, target?} or an array of them: "+err.Error())
}

func refusalJSON(r *event.Refusal) (body []byte, status int) {
	body, _ = json.Marshal(said(r)) // strings, numbers and bools always encode
	return body, r.Status
}

func writeRaw(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}
