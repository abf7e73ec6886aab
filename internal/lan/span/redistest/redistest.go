// Package redistest runs a Redis for a test.
package redistest

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/avoqado/avoqado-edge/internal/needs"
)

const patience = 60 * time.Second

// Redis is a redis-server on a port of its own that keeps nothing.
type Redis struct {
	t    testing.TB
	addr string
	args []string
	cmd  *exec.Cmd

	ended chan struct{} // closed when cmd has
}

// Start starts one with further arguments, and skips the test where there is
// none installed. It ends with the test.
func Start(t testing.TB, args ...string) *Redis {
	t.Helper()
	needs.Program(t, "redis-server")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &Redis{t: t, addr: l.Addr().String(), args: args}
	_ = l.Close()
	r.Start()
	t.Cleanup(r.Stop)
	return r
}

// URL returns where it is.
func (r *Redis) URL() string { return "redis://" + r.addr }

// Addr returns its host:port.
func (r *Redis) Addr() string { return r.addr }

// Start starts it again on the same port.
func (r *Redis) Start() {
	r.t.Helper()
	_, port, err := net.SplitHostPort(r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(r.t.TempDir(), "redis.log"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = log.Close() }() // the server has its own
	args := append([]string{"--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"}, r.args...)
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	for ctx.Err() == nil {
		if r.try(ctx, log, args) {
			return
		}
	}
	text, _ := os.ReadFile(log.Name())
	r.t.Fatalf("redis-server did not start: %s", text)
}

// try starts it once; false: it ended, since somebody else had the port, perhaps.
func (r *Redis) try(ctx context.Context, log *os.File, args []string) bool {
	r.cmd = exec.Command("redis-server", args...) //nolint:gosec // of the test
	r.cmd.Stdout, r.cmd.Stderr = log, log
	before, _ := os.ReadFile(log.Name())
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.ended = make(chan struct{})
	go func(ended chan<- struct{}, cmd *exec.Cmd) {
		_ = cmd.Wait() // however it ended
		close(ended)
	}(r.ended, r.cmd)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			text, _ := os.ReadFile(log.Name())
			if bytes.Contains(text[len(before):], []byte("eady to accept connections")) {
				return true
			}
		case <-r.ended:
			return false
		case <-ctx.Done():
			r.Stop()
			return false
		}
	}
}

// Stop ends it, as a power cut would.
func (r *Redis) Stop() {
	_ = r.cmd.Process.Kill() // gone already: as wanted
	<-r.ended
}

// Process is the server's own, to be stopped and continued by signals.
func (r *Redis) Process() *os.Process { return r.cmd.Process }

// Do runs one command and returns what it answered.
func (r *Redis) Do(args ...any) string {
	r.t.Helper()
	client := redis.NewClient(&redis.Options{Addr: r.addr})
	defer func() { _ = client.Close() }()
	answer, err := client.Do(context.Background(), args...).Result()
	if err != nil {
		r.t.Fatalf("%v: %v", args, err)
	}
	text, _ := answer.(string)
	return text
}
