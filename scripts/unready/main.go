// Command unready stands in for a build of the box that starts, tells systemd
// that it is ready and goes on telling so, but takes no event: scripts/test-packages
// packs it, to see the box go back to the version before.
package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "unready:", err)
		os.Exit(1)
	}
}

func run() error {
	manager, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET")) // sd_notify(3)
	if err != nil {
		return err
	}
	local, err := net.Listen("unix", filepath.Join(os.Getenv("RUNTIME_DIRECTORY"), "avoqado-edge.sock"))
	if err != nil {
		return err
	}
	server := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(answer)}
	var serving sync.WaitGroup
	serving.Go(func() { err = server.Serve(local) })
	var said error
	for said == nil {
		_, said = manager.Write([]byte("READY=1\nWATCHDOG=1\nSTATUS=all is well, it says"))
		<-time.After(time.Second)
	}
	said = errors.Join(said, server.Close())
	serving.Wait()
	return errors.Join(said, err)
}

func answer(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/readyz" {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(`{"status":"not ready","reason":"this build is broken"}`))
	}
}
