package brokers

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/testpart"
)

// process is a program that a test runs, in a process of its own.
type process struct {
	t    testing.TB
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	log  *bytes.Buffer // what it said; read it after done
}

// run starts a program. It is killed at the end of the test at the latest.
func run(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd, done: make(chan struct{}), log: new(bytes.Buffer)}
	cmd.Stdout, cmd.Stderr = p.log, p.log
	cmd.WaitDelay = 5 * time.Second // a grandchild may hold the pipes
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", cmd.Path, err)
	}
	var waiting sync.WaitGroup
	waiting.Go(func() {
		_ = cmd.Wait() // it is killed
		close(p.done)
	})
	t.Cleanup(func() {
		p.kill()
		waiting.Wait()
		if t.Failed() {
			text := p.log.String()
			t.Logf("%s said at last:\n%s", filepath.Base(cmd.Path), text[max(0, len(text)-4000):])
		}
	})
	return p
}

// kill ends it as a power cut does, and waits for that.
func (p *process) kill() {
	_ = p.cmd.Process.Signal(syscall.SIGKILL) // it may have ended
	<-p.done
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// listening waits until somebody listens at an address, and ends the test if the
// program ends instead.
func (p *process) listening(addr string) {
	p.t.Helper()
	testpart.Until(p.t, addr+" answers", func() bool {
		if p.ended() {
			p.t.Fatalf("%s ended", p.cmd.Path)
		}
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

// freeAddrs returns addresses of the loopback interface that were free a moment
// ago, all different.
func freeAddrs(t testing.TB, n int) []string {
	t.Helper()
	addrs := make([]string, n)
	for i := range addrs {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }() // held until all are found
		addrs[i] = l.Addr().String()
	}
	return addrs
}

func port(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }

// root returns a path inside the repository, wherever the test runs.
func root(parts ...string) string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(append([]string{filepath.Dir(file), "..", "..", ".."}, parts...)...)
}

// Sample returns a file of configs/ with some of its words replaced, old and new
// in turn. A word that is not there ends the test.
func Sample(t testing.TB, name string, words ...string) string {
	t.Helper()
	raw, err := os.ReadFile(root("configs", name))
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	for i := 0; i < len(words); i += 2 {
		if !strings.Contains(text, words[i]) {
			t.Fatalf("configs/%s: nothing reads %q", name, words[i])
		}
		text = strings.ReplaceAll(text, words[i], words[i+1])
	}
	return text
}

// Write writes a file into a folder of the test and returns its path.
func Write(t testing.TB, name, text string) string {
	t.Helper()
	return write(t, filepath.Join(t.TempDir(), name), text)
}

func write(t testing.TB, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
