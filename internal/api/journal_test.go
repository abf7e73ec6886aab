package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// keeper streams a few bytes, and breaks off for the kind "broken".
type keeper struct{}

func (keeper) Export(_ context.Context, w io.Writer, after event.Seq, kind event.Kind) error {
	if _, err := io.WriteString(w, strings.Repeat("x", 1<<16)); err != nil {
		return err
	}
	if kind == "broken" {
		return errors.New("disk on fire")
	}
	if after != 7 {
		return errors.New("not the place asked for")
	}
	return nil
}

func (keeper) Backup(_ context.Context, w io.Writer) error {
	_, err := io.WriteString(w, "backup")
	return err
}

func (keeper) Compact(keep time.Duration) (any, error) {
	if keep == time.Hour {
		return nil, errors.New("disk on fire")
	}
	return map[string]string{"keep": keep.String()}, nil
}

// serveSocket runs the API on a unix socket and returns a client of it.
func serveSocket(t *testing.T, s *Server) *Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := ListenSocket(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.ServeSocket(ctx, l); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return NewClient(path)
}

func TestJournalIsKeptOverTheSocket(t *testing.T) {
	c := serveSocket(t, newServer(newMemory(0), box{}, &door{}))
	read := func(body io.ReadCloser, err error) (string, error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer body.Close()
		text, err := io.ReadAll(body)
		return string(text), err
	}
	if text, err := read(c.Export(t.Context(), 7, "")); err != nil || len(text) != 1<<16 {
		t.Errorf("export: %d bytes, %v", len(text), err)
	}
	if _, err := read(c.Export(t.Context(), 7, "broken")); err == nil {
		t.Error("half an export is taken for a whole one")
	}
	if text, err := read(c.Backup(t.Context())); err != nil || text != "backup" {
		t.Errorf("backup: %q, %v", text, err)
	}
	if raw, err := c.Compact(t.Context(), 90*time.Minute); err != nil || strings.TrimSpace(string(raw)) != `{"keep":"1h30m0s"}` {
		t.Errorf("compact: %s, %v", raw, err)
	}
	if _, err := c.Compact(t.Context(), time.Hour); err == nil || !strings.Contains(err.Error(), "disk on fire") {
		t.Errorf("compact: %v", err)
	}
	if _, err := c.Compact(t.Context(), -time.Hour); err == nil || !strings.Contains(err.Error(), "must be a duration") {
		t.Errorf("compact: %v", err)
	}
	h := newServer(newMemory(0), box{}, &door{}).Socket()
	if status, _ := ask(t, h, http.MethodGet, "/api/v1/journal/export?after=x", "", ""); status != http.StatusBadRequest {
		t.Errorf("export after x: %d", status)
	}
}
