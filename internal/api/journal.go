package api

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
)

// Keeper does what an operator does with the journal as a whole. Safe for
// concurrent use.
type Keeper interface {
	// Export writes the events behind after, of one kind or of all, as lines of
	// JSON.
	Export(ctx context.Context, w io.Writer, after event.Seq, kind event.Kind) error
	// Backup writes a backup. It is none until the call has returned nil.
	Backup(ctx context.Context, w io.Writer) error
	// Compact lets go at once of what every follower has and what is older
	// than keep, and returns what came of it, as JSON can hold it.
	Compact(keep time.Duration) (any, error)
}

// streamPatience is how long a reader may stand still; a stream has no other
// limit. The journal waits for nobody.
const streamPatience = 30 * time.Second

// stream writes to a caller that must keep reading.
type stream struct {
	http.ResponseWriter
	control *http.ResponseController
}

func (s stream) Write(b []byte) (int, error) {
	if err := s.control.SetWriteDeadline(time.Now().Add(streamPatience)); err != nil {
		return 0, err
	}
	return s.ResponseWriter.Write(b)
}

// send streams what write writes. Once it has begun, all that is left to tell
// a caller of an error is to break the connection, so that half an answer is
// not taken for a whole one.
func (s *Server) send(w http.ResponseWriter, contentType string, write func(io.Writer) error) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Connection", "close") // its deadline is of no use to another request
	if err := write(stream{w, http.NewResponseController(w)}); err != nil {
		s.cfg.Log.Warn("stream of the journal breaks off", "err", err)
		panic(http.ErrAbortHandler)
	}
}

// export answers GET /api/v1/journal/export?after=SEQ&event=NAME.
func (s *Server) export(w http.ResponseWriter, r *http.Request, _ auth.Grant) {
	after, err := number(r, "after", 0)
	if err != nil {
		writeRefusal(w, event.Refuse(http.StatusBadRequest, "bad_after", "after must be a sequence number"))
		return
	}
	s.send(w, "application/x-ndjson", func(to io.Writer) error {
		return s.cfg.Keeper.Export(r.Context(), to, event.Seq(after), event.Kind(r.URL.Query().Get("event")))
	})
}

// backup answers GET /api/v1/journal/backup.
func (s *Server) backup(w http.ResponseWriter, r *http.Request, _ auth.Grant) {
	s.send(w, "application/gzip", func(to io.Writer) error { return s.cfg.Keeper.Backup(r.Context(), to) })
}

// compact answers POST /api/v1/journal/compact?keep=DURATION.
func (s *Server) compact(w http.ResponseWriter, r *http.Request, _ auth.Grant) {
	keep, err := time.ParseDuration(r.URL.Query().Get("keep"))
	if err != nil || keep < 0 {
		writeRefusal(w, event.Refuse(http.StatusBadRequest, "bad_keep", "keep must be a duration, such as 24h"))
		return
	}
	done, err := s.cfg.Keeper.Compact(keep)
	if err != nil {
		writeRefusal(w, event.Refuse(http.StatusInternalServerError, "journal", "The journal cannot be compacted: "+err.Error()))
		return
	}
	writeJSON(w, http.StatusOK, done)
}

// Export returns the events behind after, of one kind or of all, as lines of
// JSON. Reading it ends with an error unless it came whole. The caller closes
// it.
func (c *Client) Export(ctx context.Context, after uint64, kind string) (io.ReadCloser, error) {
	q := url.Values{"after": {strconv.FormatUint(after, 10)}}
	if kind != "" {
		q.Set("event", kind)
	}
	return c.open(ctx, http.MethodGet, "/api/v1/journal/export?"+q.Encode())
}

// Backup returns a backup of the journal. Reading it ends with an error unless
// it came whole. The caller closes it.
func (c *Client) Backup(ctx context.Context) (io.ReadCloser, error) {
	return c.open(ctx, http.MethodGet, "/api/v1/journal/backup")
}

// Compact has the box let go of what every follower has and what is older than
// keep, and returns what came of it as the box tells it.
func (c *Client) Compact(ctx context.Context, keep time.Duration) (json.RawMessage, error) {
	var raw json.RawMessage
	return raw, c.ask(ctx, http.MethodPost, "/api/v1/journal/compact?"+url.Values{"keep": {keep.String()}}.Encode(), &raw)
}
