package journal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/avoqado/avoqado-edge/internal/needs"
)

// calls are the system calls that change what is on disk, or how it is mapped.
// The question mark lets strace pass over one that a machine does not have.
func calls() []string {
	return []string{
		"write", "pwrite64", "fsync", "fdatasync", "?rename", "renameat", "?unlink", "unlinkat",
		"ftruncate", "?truncate", "fallocate", "mmap", "mremap",
	}
}

// stage is a workload made ready: what its journal holds before, and what was
// promised by then.
type stage struct {
	workload
	strace string
	before string // directory; empty: nothing
	said   []byte
	sent   int
}

func newStage(t *testing.T, w workload) *stage {
	t.Helper()
	s := &stage{workload: w, strace: needs.Program(t, "strace")}
	if w.prepare == nil {
		return s
	}
	root := memory(t)
	t.Cleanup(func() { os.RemoveAll(root) })
	s.before = filepath.Join(root, "journal")
	var said bytes.Buffer
	h := &hand{dir: s.before, out: &said, now: day}
	w.prepare(h)
	s.said, s.sent = said.Bytes(), h.sent
	return s
}

// play does the workload in a new copy of its journal, in a process under
// strace with the given options, and returns what it was promised. The caller
// removes root.
func (s *stage) play(t *testing.T, strace ...string) (root string, p *promises) {
	t.Helper()
	return s.playWith(t, "", strace...)
}

// playWith is play with one more variable in the process's environment.
func (s *stage) playWith(t *testing.T, env string, strace ...string) (root string, p *promises) {
	t.Helper()
	for range 20 {
		root = memory(t)
		dir := filepath.Join(root, "journal")
		if s.before != "" {
			if err := os.CopyFS(dir, os.DirFS(s.before)); err != nil {
				t.Fatal(err)
			}
		}
		args := append([]string{"-f", "-qq", "-e", "signal=none"}, strace...)
		cmd := exec.Command(s.strace, append(args, os.Args[0])...)
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s:%s", workloadEnv, s.name, dir),
			fmt.Sprintf("%s_SENT=%d", workloadEnv, s.sent), "GOMAXPROCS=1", "GOGC=off", env)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		err := cmd.Run()
		p = newPromises()
		if err := errors.Join(p.hear(s.said), p.hear(stdout.Bytes())); err != nil {
			t.Fatalf("%s %v: %v", s.name, strace, err)
		}
		if !strings.Contains(stderr.String(), errThread.Error()) {
			if !p.done && !killed(err) {
				t.Fatalf("%s %v: %v\n%s", s.name, strace, err, stderr.String())
			}
			return root, p
		}
		os.RemoveAll(root)
	}
	t.Fatal(errThread)
	return "", nil
}

// killed tells whether strace ended as its child did, by SIGKILL.
func killed(err error) bool {
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// point is one system call of a workload: the n-th of its kind.
type point struct {
	stage *stage
	call  string
	n     int
}

func (p point) String() string { return fmt.Sprintf("%s/%s/%d", p.stage.name, p.call, p.n) }

// points lists the system calls that a workload makes.
func (s *stage) points(t *testing.T, calls []string) []point {
	t.Helper()
	log := filepath.Join(t.TempDir(), "strace")
	root, p := s.play(t, "-o", log, "-s", "5", "-e", "trace="+strings.Join(calls, ","))
	defer os.RemoveAll(root)
	if !p.done {
		t.Fatalf("%s does not come to its end", s.name)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	began := false
	var points []point
	for line := range strings.Lines(string(text)) {
		thread, rest, _ := strings.Cut(line, " ")
		call, args, ok := strings.Cut(strings.TrimSpace(rest), "(")
		if !ok || thread != fmt.Sprint(p.pid) {
			continue
		}
		count[call]++
		if began { // and not what the runtime does before
			points = append(points, point{s, call, count[call]})
		}
		began = began || strings.HasPrefix(args, `1, "begin"`)
	}
	if len(points) == 0 {
		t.Fatalf("%s: no system calls in\n%s", s.name, text)
	}
	return points
}

// spread picks about n of the points, evenly.
func spread[T any](points []T, n int) []T {
	if n >= len(points) {
		return points
	}
	var some []T
	for i := range n {
		some = append(some, points[i*len(points)/n])
	}
	return some
}

// TestEveryCrashPoint kills a process in front of every system call that
// touches the disk, one after the other, and looks at what is left. A change
// waits for some of them, evenly spread; torture does all.
func TestEveryCrashPoint(t *testing.T) {
	count := &tally{t: t, what: "kills at a system call"}
	defer count.report()
	total := 0
	for _, w := range workloads() {
		t.Run(w.name, func(t *testing.T) {
			s := newStage(t, w)
			points := s.points(t, calls())
			total += len(points)
			if tortures(t) == 0 {
				points = spread(points, torture(t, 12, 0))
			}
			kills := 0
			for _, at := range points {
				root, p := s.play(t, "-e", "trace="+at.call, "-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", at.call, at.n))
				if !p.done {
					kills++
				}
				h := hand{now: day}
				if err := p.kept(filepath.Join(root, "journal"), h.options()); err != nil {
					count.violated("%s: %v\n%s", at, err, p.story())
				}
				os.RemoveAll(root)
			}
			if kills < len(points)*9/10 {
				t.Errorf("only %d of %d were killed", kills, len(points))
			}
			count.count += kills
		})
	}
	count.note = fmt.Sprintf("of %d points in %d workloads", total, len(workloads()))
}
