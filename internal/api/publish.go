package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

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
// else 207, and each ack tells for itself. What is answered with success is on
// disk, whatever became of its neighbours.
func (s *Server) publish(w http.ResponseWriter, r *http.Request, g auth.Grant) {
	body, ok := readBody(w, r)
	if !ok {
		return
	}
	if len(body) == 0 || body[0] != '[' {
		ack, status := s.publishOne(r, g, body)
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
	status := http.StatusOK
	acks := []byte{'['}
	for i, one := range list {
		ack, st := s.publishOne(r, g, one)
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
	if body, ok := readBody(w, r); ok {
		ack, status := s.cfg.Publish.CommandResult(r.Context(), g, body)
		writeRaw(w, status, ack)
	}
}

// heartbeat takes what a terminal says of itself every half minute. Today's
// sends no token with it, and must not be turned away for that.
func (s *Server) heartbeat(w http.ResponseWriter, r *http.Request, _ auth.Grant) {
	body, ok := readBody(w, r)
	if !ok {
		return
	}
	var known *auth.Grant
	if g, refusal := s.checkToken(staff, r); refusal == nil {
		known = &g
	}
	ack, status := s.cfg.Publish.Heartbeat(known, body)
	writeRaw(w, status, ack)
}

func (s *Server) publishOne(r *http.Request, g auth.Grant, body []byte) (ack []byte, status int) {
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
	body, _ = json.Marshal(map[string]any{ // strings, numbers and bools always encode
		"success": false, "error": r.Text, "statusCode": r.Status, "code": r.Code,
	})
	return body, r.Status
}

func writeRaw(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}
