package api

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/avoqado/avoqado-edge/internal/auth"
)

// Diagnosis is what the makers of a box ask a running one for. It holds no
// secret, no token and no payload.
type Diagnosis struct {
	Process    any       `json:"process"`    // as JSON can hold it
	Goroutines string    `json:"goroutines"` // where they stand, those alike counted
	Log        string    `json:"log"`        // the last lines
	LogBefore  string    `json:"logBefore"`  // those of the process before
	Crash      string    `json:"crash"`      // what the last process that crashed died of; empty: none did
	Crashed    time.Time `json:"crashed"`    // when
}

func (s *Server) diagnosis(w http.ResponseWriter, _ *http.Request, _ auth.Grant) {
	writeJSON(w, http.StatusOK, s.cfg.Diagnosis())
}

// Diagnosis returns what the running box tells its makers.
func (c *Client) Diagnosis(ctx context.Context) (Diagnosis, error) {
	var d Diagnosis
	return d, c.get(ctx, "/api/v1/diagnosis", &d)
}

// Figures are some of the last minutes: how much waited for the cloud at most in
// each; nil where nobody looked.
type Figures struct {
	From    time.Time `json:"from"`
	StepMs  int64     `json:"stepMs"`
	Waiting []*int32  `json:"waiting"`
}

// History returns the figures of the last hours, 1 to 168.
func (c *Client) History(ctx context.Context, hours int) (Figures, error) {
	var f Figures
	return f, c.get(ctx, "/api/v1/history?hours="+strconv.Itoa(hours), &f)
}

// Terminals lists those that the box knows.
func (c *Client) Terminals(ctx context.Context) ([]Terminal, error) {
	var answer struct {
		Terminals []Terminal `json:"terminals"`
	}
	return answer.Terminals, c.get(ctx, "/api/v1/terminals", &answer)
}
