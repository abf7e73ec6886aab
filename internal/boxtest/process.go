package boxtest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// clientDir returns the folder of a client, wherever the test runs.
func clientDir(name string) string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "clients", name)
}

// process is a child of the test that is reaped as soon as it ends.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the child is reaped
	err  error         // why it ended; read it when done is closed
}

// start runs the command. It is killed at the end of the test if it still runs.
func start(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	cmd.WaitDelay = 5 * time.Second // a grandchild may hold the pipes
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", cmd.Path, err)
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	var wg sync.WaitGroup
	wg.Go(func() {
		p.err = cmd.Wait()
		close(p.done)
	})
	t.Cleanup(func() {
		p.signal(syscall.SIGKILL)
		wg.Wait()
	})
	return p
}

// signal sends the signal; a child that has ended does not mind.
func (p *process) signal(s syscall.Signal) {
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		panic(err) // a child of ours always takes a signal
	}
}

// ended reports whether the child ends within the given time.
func (p *process) ended(within time.Duration) bool {
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-p.done:
		return true
	case <-timer.C:
	}
	select {
	case <-p.done: // both were true
		return true
	default:
		return false
	}
}

// output collects what a child writes, for the report of a failure.
type output struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write keeps the text. It never fails.
func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

// String returns the last few thousand bytes of all that was written.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.text.String()
	return s[max(0, len(s)-4096):]
}

// first returns the first few thousand bytes of all that was written.
func (o *output) first() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.text.String()
	return s[:min(len(s), 8192)]
}
