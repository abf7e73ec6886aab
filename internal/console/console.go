package console

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"sync"
)

//go:embed web
var web embed.FS

// The page is at /, what it consists of below Prefix and a hash of it all: a
// browser keeps that for ever, and an upgraded box is another place. Modules
// name each other by relative paths and so stay within one version.
const (
	Prefix  = "/console/"
	current = Prefix + "current/" // in the page, for Prefix and the hash
)

// policy allows what comes from the box itself and nothing else: no script or
// style in the page, no other host. 'self' includes the WebSocket.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// file is one file as it is served.
type file struct {
	body, zipped     []byte // zipped: nil if that is no shorter
	tag, contentType string
	cacheControl     string
}

// Handler serves the page and its files to whoever asks: there is no secret in
// them. They are made when they are first asked for. Safe for concurrent use.
func Handler() http.Handler {
	files := sync.OnceValues(load)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		all, err := files()
		f, ok := all[r.URL.Path]
		switch {
		case err != nil:
			http.Error(w, "The page cannot be made: "+err.Error(), http.StatusInternalServerError)
			return
		case !ok:
			w.Header().Set("Cache-Control", "no-store")
			http.NotFound(w, r)
			return
		}
		f.serve(w, r)
	})
}

func (f *file) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("ETag", f.tag)
	h.Set("Cache-Control", f.cacheControl)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Security-Policy", policy)
	h.Add("Vary", "Accept-Encoding")
	h.Add("Vary", "Accept") // who does not ask for HTML gets JSON at /
	if strings.Contains(r.Header.Get("If-None-Match"), f.tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", f.contentType)
	body := f.body
	if f.zipped != nil && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		body = f.zipped
	}
	_, _ = w.Write(body) // a caller that went away needs no answer
}

// load reads all files and returns them by the path they are served at.
func load() (map[string]*file, error) {
	const root, page = "web/", "index.html"
	bodies := map[string][]byte{}
	all := sha256.New()
	err := fs.WalkDir(web, "web", func(name string, d fs.DirEntry, err error) error { // in one order
		if err != nil || d.IsDir() {
			return err
		}
		body, err := web.ReadFile(name)
		bodies[strings.TrimPrefix(name, root)] = body
		fmt.Fprintf(all, "%s %d\n%s", name, len(body), body)
		return err
	})
	if err != nil {
		return nil, err
	}
	here := Prefix + hex.EncodeToString(all.Sum(nil)[:8]) + "/"
	files := map[string]*file{}
	for name, body := range bodies {
		if name == page {
			files["/"], err = newFile(name, bytes.ReplaceAll(body, []byte(current), []byte(here)), "public, no-cache")
		} else {
			files[here+name], err = newFile(name, body, "public, max-age=31536000, immutable")
		}
		if err != nil {
			return nil, err
		}
	}
	return files, nil
}

func newFile(name string, body []byte, cacheControl string) (*file, error) {
	sum := sha256.Sum256(body)
	f := &file{body: body, tag: `"` + hex.EncodeToString(sum[:8]) + `"`, contentType: typeOf(name), cacheControl: cacheControl}
	var zipped bytes.Buffer
	to, err := gzip.NewWriterLevel(&zipped, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := to.Write(body); err != nil {
		return nil, err
	}
	if err := to.Close(); err != nil {
		return nil, err
	}
	if zipped.Len() < len(body) {
		f.zipped = zipped.Bytes()
	}
	return f, nil
}

// typeOf does not ask the system's tables: a box must serve the same everywhere.
func typeOf(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	case ".json":
		return "application/json"
	case ".webmanifest":
		return "application/manifest+json"
	}
	return "text/plain; charset=utf-8"
}
