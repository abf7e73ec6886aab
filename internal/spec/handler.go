package spec

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"sync"

	edge "github.com/avoqado/avoqado-edge"
)

// The paths that [Handler] serves.
const (
	DocumentPath = "/asyncapi.yaml"
	PagePath     = "/docs"
	// The pages of the repository for developers, as text: the venue may have no
	// internet. What they link to is in the repository alone.
	TerminalsPath = "/docs/TERMINALS.md"
	BackendPath   = "/docs/BACKEND.md"
)

// page is what is served at one path.
type page struct {
	body, tag, contentType string
}

// Handler serves the document and the page of this version to whoever asks:
// there is no secret in them. They are made when they are first asked for.
func Handler(version string) http.Handler {
	pages := sync.OnceValues(func() (map[string]page, error) { return render(version) })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		all, err := pages()
		p, ok := all[r.URL.Path]
		switch {
		case err != nil:
			http.Error(w, "The description of the events cannot be made: "+err.Error(), http.StatusInternalServerError)
			return
		case !ok:
			http.NotFound(w, r)
			return
		}
		h := w.Header()
		h.Set("ETag", p.tag)
		// It changes with an upgrade of the box: ask each time, get it once.
		h.Set("Cache-Control", "public, no-cache")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", policy())
		if strings.Contains(r.Header.Get("If-None-Match"), p.tag) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		h.Set("Content-Type", p.contentType)
		_, _ = w.Write([]byte(p.body)) // a caller that went away needs no answer
	})
}

func render(version string) (map[string]page, error) {
	s, err := Load()
	if err != nil {
		return nil, err
	}
	return map[string]page{
		DocumentPath: tagged(s.Document(version), "application/yaml; charset=utf-8"),
		PagePath:     tagged(s.Page(version), "text/html; charset=utf-8"),

		TerminalsPath: tagged(edge.Terminals, "text/plain; charset=utf-8"),
		BackendPath:   tagged(edge.Backend, "text/plain; charset=utf-8"),
	}, nil
}

func tagged(body []byte, contentType string) page {
	sum := sha256.Sum256(body)
	return page{body: string(body), tag: `"` + hex.EncodeToString(sum[:8]) + `"`, contentType: contentType}
}
