package daemon

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	sdnotify "github.com/coreos/go-systemd/v22/daemon"

	"github.com/avoqado/avoqado-edge/internal/buildinfo"
)

//go:embed unclaimed.html
var unclaimedPage string

const claimPoll = time.Second // between two looks for a configuration

// Unclaimed stands in for a box that no venue was given to yet: it shows a page
// at listen that says how to claim it, and nothing else is open. It returns nil
// once claimed reports true or ctx ends.
func Unclaimed(ctx context.Context, listen string, claimed func() bool, log *slog.Logger) error {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("listen for whoever claims the box: %w", err)
	}
	log.Warn("this box belongs to no venue yet: avoqado-edge claim FILE, or avoqado-edge config init --venue VENUE --broker URL; see its page",
		"page", "http://"+l.Addr().String()+"/")
	ctx, done := context.WithCancel(ctx)
	defer done()
	srv := &http.Server{
		Handler: unclaimedHandler(), ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		<-ctx.Done()
		_ = srv.Close()
	})
	wg.Go(func() { _ = unclaimedWatch(l.Addr(), log).Run(ctx) })
	wg.Go(func() {
		tick := time.NewTicker(claimPoll)
		defer tick.Stop()
		for !claimed() {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
		log.Info("box claimed")
		done()
	})
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func unclaimedHandler() http.Handler {
	name, _ := os.Hostname() // only to tell boxes apart
	page := strings.NewReplacer("{{version}}", buildinfo.Read().Version, "{{host}}", hostName(name)).Replace(unclaimedPage)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
		_, _ = io.WriteString(w, page)
	})
	// Terminals try again after a while, and find the box.
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.Header().Set("Retry-After", "30")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, `{"error":"This box belongs to no venue yet","errorCode":"unclaimed","retryable":true,"retryAfterMs":30000}`+"\n")
	})
	return mux
}

// hostName keeps what a host name may hold: it goes into a page.
func hostName(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '-' || r == '.' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return -1
	}, name)
}

func unclaimedWatch(addr net.Addr, log *slog.Logger) *watch {
	return &watch{
		looks:  []look{{"the page does not answer", func(ctx context.Context) error { return answers(ctx, addr) }}},
		status: func() string { return "belongs to no venue yet: avoqado-edge claim FILE" },
		notify: func(state string) { _, _ = sdnotify.SdNotify(false, state) }, // nobody may listen
		every:  watchEvery(), log: log,
	}
}
