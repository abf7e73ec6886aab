package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
)

// Parking keeps the events that the cloud will not take. Safe for concurrent
// use.
type Parking interface {
	// Parked returns them in the order in which they happened.
	Parked() []ParkedEvent

	// Settled returns the newest decisions, oldest first.
	Settled() ([]SettledEvent, error)

	// Stands says whether the event at a position is parked, or else what was
	// decided when it was: retry, edit or drop. Cheap.
	Stands(seq event.Seq) (parked bool, decided string)

	// Settle carries out a decision (retry, edit or drop) and returns where the
	// event is in the journal now, zero if it was dropped. The errors below say
	// that the caller must do something else first.
	Settle(ctx context.Context, seq event.Seq, decision string, payload []byte, note string) (event.Seq, error)
}

// Errors of [Parking].
var (
	ErrNotParked  = errors.New("no such parked event")
	ErrNoDecision = errors.New("no such decision")
	ErrWaits      = errors.New("waits for another event")
	ErrInFlight   = errors.New("not yet")
	ErrPayload    = errors.New("bad payload")
)

// refusalOf names the errors of [Parking].
func refusalOf(err error) *event.Refusal {
	switch {
	case errors.Is(err, ErrNotParked):
		return event.Refuse(http.StatusNotFound, "not_parked", "There is no such parked event: see events list --parked")
	case errors.Is(err, ErrNoDecision):
		return event.Refuse(http.StatusNotFound, "no_decision", "The decisions are retry, edit and drop")
	case errors.Is(err, ErrWaits):
		return event.Refuse(http.StatusConflict, "waits", "It waits for another event, decide about that one: see events list --parked")
	case errors.Is(err, ErrInFlight):
		return event.RefuseForNow("in_flight", "The cloud has not confirmed what stands before it, try again", retryInFlight)
	case errors.Is(err, ErrPayload):
		return event.Refuse(http.StatusBadRequest, "bad_payload", "The payload is not a JSON object of at most 120 KiB")
	}
	return event.Refuse(http.StatusInternalServerError, "journal", "The decision cannot be kept: "+err.Error())
}

const retryInFlight = 2 * time.Second

// ParkedEvent is an event that waits for an operator.
type ParkedEvent struct {
	Event  event.Event
	At     time.Time
	Reason string    // the back-end's, or the box's about the broker; empty: it waits behind another
	Behind event.Seq // the event it waits for
}

// SettledEvent is a parked event about which an operator has decided.
type SettledEvent struct {
	Event    event.Event // as it was parked
	At       time.Time
	Reason   string // why it was parked
	Decision string
	Note     string
	Again    event.Seq // where it is in the journal now; zero: nowhere
}

// Parked is a parked event as the API shows it.
type Parked struct {
	Record
	ParkedAt time.Time `json:"parkedAt"`
	Reason   string    `json:"reason,omitempty"`
	Behind   uint64    `json:"behind,omitempty"`
}

// parked answers GET /api/v1/events/parked.
func (s *Server) parked(w http.ResponseWriter, _ *http.Request, _ auth.Grant) {
	list := []Parked{}
	if s.cfg.Parking != nil {
		record := s.recorder()
		for _, p := range s.cfg.Parking.Parked() {
			list = append(list, Parked{record(&p.Event), p.At, p.Reason, uint64(p.Behind)})
		}
	}
	writeJSON(w, http.StatusOK, map[string]any{"parked": list})
}

// Settled is a decision as the API shows it.
type Settled struct {
	Record
	SettledAt time.Time `json:"settledAt"`
	Reason    string    `json:"reason"`
	Decision  string    `json:"decision"`
	Note      string    `json:"note,omitempty"`
	Again     uint64    `json:"again,omitempty"`
}

// settled answers GET /api/v1/events/settled.
func (s *Server) settled(w http.ResponseWriter, _ *http.Request, _ auth.Grant) {
	list := []Settled{}
	if s.cfg.Parking != nil {
		all, err := s.cfg.Parking.Settled()
		if err != nil {
			writeRefusal(w, event.Refuse(http.StatusInternalServerError, "journal", "The decisions cannot be read: "+err.Error()))
			return
		}
		for _, d := range all {
			r := recordOf(&d.Event)
			r.Synced = d.Again > 0 && d.Again <= s.cfg.Events.Cursor(UplinkCursor) // it is another event now
			list = append(list, Settled{r, d.At, d.Reason, d.Decision, d.Note, uint64(d.Again)})
		}
	}
	writeJSON(w, http.StatusOK, map[string]any{"settled": list})
}

// decision is the body of settle.
type decision struct {
	Payload json.RawMessage `json:"payload,omitempty"` // of edit
	Note    string          `json:"note,omitempty"`
}

// settle answers POST /api/v1/events/parked/{seq}/{decision}.
func (s *Server) settle(w http.ResponseWriter, r *http.Request, _ auth.Grant) {
	seq, err := strconv.ParseUint(r.PathValue("seq"), 10, 64)
	if err != nil || s.cfg.Parking == nil {
		writeRefusal(w, refusalOf(ErrNotParked))
		return
	}
	var body decision
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 2*event.MaxPayload)).Decode(&body); err != nil {
		writeRefusal(w, event.Refuse(http.StatusBadRequest, "bad_body", "The body is not a JSON object with payload and note"))
		return
	}
	again, err := s.cfg.Parking.Settle(r.Context(), event.Seq(seq), r.PathValue("decision"), body.Payload, body.Note)
	if err != nil {
		writeRefusal(w, refusalOf(err))
		return
	}
	writeJSON(w, http.StatusOK, map[string]uint64{"seq": seq, "again": uint64(again)})
}

// Parked returns the events that the cloud will not take.
func (c *Client) Parked(ctx context.Context) ([]Parked, error) {
	var answer struct {
		Parked []Parked `json:"parked"`
	}
	return answer.Parked, c.get(ctx, "/api/v1/events/parked", &answer)
}

// Settled returns the newest decisions about parked events, oldest first.
func (c *Client) Settled(ctx context.Context) ([]Settled, error) {
	var answer struct {
		Settled []Settled `json:"settled"`
	}
	return answer.Settled, c.get(ctx, "/api/v1/events/settled", &answer)
}

// Settle decides about a parked event: retry, edit (with a new payload) or
// drop. It returns where the event is in the journal now, zero if dropped.
func (c *Client) Settle(ctx context.Context, seq uint64, what string, payload []byte, note string) (again uint64, err error) {
	body, err := json.Marshal(decision{payload, note})
	if err != nil {
		return 0, err
	}
	var answer struct {
		Again uint64 `json:"again"`
	}
	path := "/api/v1/events/parked/" + strconv.FormatUint(seq, 10) + "/" + url.PathEscape(what)
	return answer.Again, c.post(ctx, path, body, &answer)
}
