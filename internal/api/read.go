package api

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
)

const (
	listMax   = 1000    // events in one answer
	readBytes = 1 << 20 // payload bytes in one read of the journal
)

func (s *Server) healthz(w http.ResponseWriter, _ *http.Request, _ auth.Grant) {
	writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

// readyz says whether the box takes events. A dead uplink does not make it
// unready: the venue works without the cloud, and a restart would not help.
func (s *Server) readyz(w http.ResponseWriter, _ *http.Request, _ auth.Grant) {
	if err := s.cfg.Box.Ready(); err != nil {
		writeJSON(w, http.StatusServiceUnavailable, map[string]string{"status": "not ready", "reason": err.Error()})
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{"status": "ready", "uplink": s.cfg.Box.Status().Uplink.State})
}

func (s *Server) metrics(w http.ResponseWriter, r *http.Request, _ auth.Grant) {
	s.cfg.Metrics.ServeHTTP(w, r)
}

func (s *Server) spec(w http.ResponseWriter, r *http.Request, _ auth.Grant) {
	s.cfg.Spec.ServeHTTP(w, r)
}

func (s *Server) stats(w http.ResponseWriter, _ *http.Request, _ auth.Grant) {
	writeJSON(w, http.StatusOK, s.cfg.Box.Stats())
}

func (s *Server) terminals(w http.ResponseWriter, _ *http.Request, _ auth.Grant) {
	list := s.cfg.Box.Terminals()
	if list == nil {
		list = []Terminal{}
	}
	writeJSON(w, http.StatusOK, map[string]any{"terminals": sortedTerminals(list)})
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request, _ auth.Grant) {
	writeJSON(w, http.StatusOK, s.cfg.Box.Status())
}

func (s *Server) journal(w http.ResponseWriter, _ *http.Request, _ auth.Grant) {
	writeJSON(w, http.StatusOK, s.cfg.Journal())
}

// ca hands out the certificate of the box's own CA, which phones and computers
// offer to install. It holds no secret.
func (s *Server) ca(w http.ResponseWriter, _ *http.Request, _ auth.Grant) {
	ca := s.cfg.CA()
	if ca == nil {
		writeRefusal(w, event.Refuse(http.StatusNotFound, "no_ca", "The box has no CA of its own: lan.tls is not auto"))
		return
	}
	w.Header().Set("Content-Type", "application/x-x509-ca-cert")
	w.Header().Set("Content-Disposition", `attachment; filename="avoqado-edge-ca.crt"`)
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(ca) // a caller that went away needs no answer
}

// card says who the box is, so that a client that probes addresses, or was told
// one, can find out. Whoever reaches the port may know; the nonce keeps an old
// answer from being shown again by somebody else.
func (s *Server) card(w http.ResponseWriter, r *http.Request, _ auth.Grant) {
	nonce := r.URL.Query().Get("nonce")
	if len(nonce) > 64 || strings.Trim(nonce, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
		writeRefusal(w, event.Refuse(http.StatusBadRequest, "bad_nonce", "nonce is up to 64 letters, digits, - and _"))
		return
	}
	card, err := s.cfg.Card(nonce)
	if err != nil {
		writeRefusal(w, event.Refuse(http.StatusServiceUnavailable, "no_key", err.Error()))
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(card) // a caller that went away needs no answer
}

// pairing draws the QR code of the installation sheet. It holds no secret; who
// may see it is whoever may ask where the box is.
func (s *Server) pairing(w http.ResponseWriter, _ *http.Request, _ auth.Grant) {
	drawing, err := s.cfg.Pairing()
	if err != nil {
		writeRefusal(w, event.Refuse(http.StatusServiceUnavailable, "no_key", err.Error()))
		return
	}
	w.Header().Set("Content-Type", "image/svg+xml")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Security-Policy", "default-src 'none'")
	_, _ = w.Write(drawing) // a caller that went away needs no answer
}

// history answers GET /api/v1/history?hours=N, N from 1 to 168.
func (s *Server) history(w http.ResponseWriter, r *http.Request, _ auth.Grant) {
	const week = 7 * 24
	hours, err := number(r, "hours", 24)
	if err != nil || hours == 0 || hours > week {
		writeRefusal(w, event.Refuse(http.StatusBadRequest, "bad_hours", "hours must be a number from 1 to "+strconv.Itoa(week)))
		return
	}
	writeJSON(w, http.StatusOK, s.cfg.History(time.Duration(hours)*time.Hour)) //nolint:gosec // at most a week
}

// root answers whoever typed the address of the box: a person with the console
// page, a program with the same in short.
func (s *Server) root(w http.ResponseWriter, r *http.Request, _ auth.Grant) {
	if r.URL.Path != "/" {
		writeRefusal(w, event.Refuse(http.StatusNotFound, "no_route", "There is nothing at "+r.URL.Path))
		return
	}
	if strings.Contains(r.Header.Get("Accept"), "text/html") {
		s.cfg.Page.ServeHTTP(w, r)
		return
	}
	w.Header().Set("Vary", "Accept")
	st := s.cfg.Box.Status()
	writeJSON(w, http.StatusOK, map[string]any{
		"product": "avoqado-edge", "version": st.Version, "venue": st.Venue, "box": st.Box,
		"socketio": "/socket.io/", "docs": "/docs", "uplink": st.Uplink.State,
	})
}

// Record is one event as the API shows it.
type Record struct {
	Seq           uint64          `json:"seq"`
	Epoch         string          `json:"epoch"`
	ID            string          `json:"id"`
	Event         string          `json:"event"`
	Class         string          `json:"class"`
	Origin        string          `json:"origin"`
	Time          time.Time       `json:"time"`
	Subject       string          `json:"subject,omitempty"`
	Actor         string          `json:"actor,omitempty"`
	Role          string          `json:"role,omitempty"`
	Terminal      string          `json:"terminal,omitempty"`
	CorrelationID string          `json:"correlationId,omitempty"`
	Expires       time.Time       `json:"expiresAt,omitzero"`
	Audience      event.Audience  `json:"audience"`
	Synced        bool            `json:"synced"`
	Parked        bool            `json:"parked,omitempty"`  // the cloud has been asked, and has not got it
	Decided       string          `json:"decided,omitempty"` // what an operator decided then: retry, edit, drop
	Payload       json.RawMessage `json:"payload"`
}

// recorder returns how events are shown as the cloud stands to them now: what is
// parked, or was and is sent from another place or not at all, lies behind the
// cursor, and is not with the cloud.
func (s *Server) recorder() func(*event.Event) Record {
	synced := s.cfg.Events.Cursor(UplinkCursor)
	return func(e *event.Event) Record {
		r := recordOf(e)
		if s.cfg.Parking != nil {
			r.Parked, r.Decided = s.cfg.Parking.Stands(e.Seq)
		}
		r.Synced = e.Seq <= synced && !r.Parked && r.Decided == ""
		return r
	}
}

func recordOf(e *event.Event) Record {
	return Record{
		Seq: uint64(e.Seq), Epoch: string(e.Epoch), ID: string(e.ID), Event: string(e.Kind),
		Class: e.Class.String(), Origin: e.Origin.String(), Time: e.Time, Subject: e.Subject,
		Actor: e.Actor, Role: string(e.Role), Terminal: e.Terminal, CorrelationID: e.CorrelationID,
		Expires: e.Expires, Audience: e.Audience, Payload: e.Payload,
	}
}

// UplinkCursor is the name of the journal cursor that the cloud's
// confirmations move.
const UplinkCursor = "uplink"

// list answers GET /api/v1/events?after=SEQ&limit=N, or the newest N without
// after: {"events":[…],"storedThrough":S}.
func (s *Server) list(w http.ResponseWriter, r *http.Request, _ auth.Grant) {
	limit, err := number(r, "limit", 100)
	if err != nil || limit == 0 || limit > listMax {
		writeRefusal(w, event.Refuse(http.StatusBadRequest, "bad_limit", "limit must be a number from 1 to "+strconv.Itoa(listMax)))
		return
	}
	stored := s.cfg.Events.Stored()
	newest := event.Seq(0)
	if uint64(stored) > limit {
		newest = stored - event.Seq(limit)
	}
	after, err := number(r, "after", uint64(newest))
	if err != nil {
		writeRefusal(w, event.Refuse(http.StatusBadRequest, "bad_after", "after must be a sequence number"))
		return
	}
	records, record := []Record{}, s.recorder()
	for at := event.Seq(after); uint64(len(records)) < limit; {
		events, err := s.cfg.Events.Read(at, int(limit)-len(records), readBytes) //nolint:gosec // at most listMax
		if err != nil {
			writeRefusal(w, event.Refuse(http.StatusInternalServerError, "journal", "The journal cannot be read: "+err.Error()))
			return
		}
		if len(events) == 0 {
			break
		}
		for i := range events {
			records = append(records, record(&events[i]))
		}
		at = events[len(events)-1].Seq
	}
	writeJSON(w, http.StatusOK, map[string]any{"events": records, "storedThrough": uint64(stored)})
}

func (s *Server) show(w http.ResponseWriter, r *http.Request, _ auth.Grant) {
	e, err := s.cfg.Events.Find(r.PathValue("id"))
	if errors.Is(err, fs.ErrNotExist) {
		writeRefusal(w, event.Refuse(http.StatusNotFound, "no_event", "No retained event has the id or sequence number "+r.PathValue("id")))
		return
	}
	if err != nil {
		writeRefusal(w, event.Refuse(http.StatusInternalServerError, "journal", "The journal cannot be read: "+err.Error()))
		return
	}
	writeJSON(w, http.StatusOK, s.recorder()(&e))
}

// tail answers GET /api/v1/events/tail[?after=SEQ] with one JSON object a line,
// for as long as the caller stays, and is let in as at the start; without after it
// begins with what comes next.
func (s *Server) tail(w http.ResponseWriter, r *http.Request, g auth.Grant) {
	at, err := number(r, "after", uint64(s.cfg.Events.Stored()))
	if err != nil {
		writeRefusal(w, event.Refuse(http.StatusBadRequest, "bad_after", "after must be a sequence number"))
		return
	}
	rc := http.NewResponseController(w)
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	_ = rc.Flush()
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	ctx, done := s.whileIn(r, g, nil)
	defer done()
	for {
		if s.cfg.Events.Wait(ctx, event.Seq(at)) != nil || ctx.Err() != nil {
			return
		}
		events, err := s.cfg.Events.Read(event.Seq(at), 256, readBytes)
		if err != nil {
			s.cfg.Log.Warn("tail stops", "after", at, "err", err)
			return
		}
		record := s.recorder()
		for i := range events {
			// A reader that stands still is let go; the journal waits for nobody.
			_ = rc.SetWriteDeadline(time.Now().Add(10 * time.Second))
			if ctx.Err() != nil || enc.Encode(record(&events[i])) != nil {
				return
			}
			at = uint64(events[i].Seq)
		}
		if rc.Flush() != nil {
			return
		}
	}
}

func number(r *http.Request, name string, otherwise uint64) (uint64, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return otherwise, nil
	}
	return strconv.ParseUint(text, 10, 64)
}
