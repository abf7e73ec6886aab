//go:build linux && (amd64 || arm64)

package powercut

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// request is what the test asks of the process that serves its disk.
type request struct {
	Mount string // mount the disk here; empty: cut the power
	Blank bool   // an empty one
	Plan  Plan
}

type answer struct {
	Error  string
	Report Report
}

// Serve serves one disk until in ends. It is the whole life of the process
// that Start started.
func Serve(in io.Reader, out io.Writer) error {
	s := server{im: newImage()}
	defer s.wg.Wait()
	defer s.unmount()
	requests, answers := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var r request
		if err := requests.Decode(&r); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read request: %w", err)
		}
		var a answer
		var err error
		if r.Mount != "" {
			err = s.mount(r)
		} else {
			a.Report, err = s.cut()
		}
		if err != nil {
			a.Error = err.Error()
		}
		if err := answers.Encode(a); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
	}
}

// server serves one image, mounted once at a time.
type server struct {
	wg  sync.WaitGroup
	im  *image
	fs  *mounted // nil: not mounted
	rnd *rand.Rand
	at  string
}

func (s *server) mount(r request) error {
	if s.fs != nil {
		return errors.New("mounted already")
	}
	if r.Blank {
		s.im = newImage()
	}
	s.im.ordered = r.Plan.Ordered
	s.rnd = r.Plan.random()
	fs := &mounted{RawFileSystem: fuse.NewDefaultRawFileSystem(), im: s.im, plan: r.Plan, rnd: s.rnd}
	f, err := fuse.NewServer(fs, r.Mount, &fuse.MountOptions{
		DirectMountStrict:        true,
		Name:                     "powercut",
		FsName:                   "powercut",
		DisableXAttrs:            true,
		DisableReadDirPlus:       true,
		ExplicitDataCacheControl: true, // the kernel is the only one who writes
		MaxWrite:                 1 << 20,
	})
	if err != nil {
		return fmt.Errorf("mount %s: %w", r.Mount, err)
	}
	s.fs, s.at = fs, r.Mount
	s.wg.Go(f.Serve)
	if err := f.WaitMount(); err != nil {
		s.unmount()
		return fmt.Errorf("mount %s: %w", r.Mount, err)
	}
	return nil
}

// unmount takes the file system out of sight. Who has files open keeps them.
func (s *server) unmount() {
	if s.fs != nil {
		_ = syscall.Unmount(s.at, syscall.MNT_DETACH)
	}
	s.fs = nil
}

func (s *server) cut() (Report, error) {
	if s.fs == nil {
		return Report{}, errors.New("not mounted")
	}
	fs := s.fs
	s.unmount()
	fs.mu.Lock()
	defer fs.mu.Unlock()
	r := fs.report
	fs.dark = true
	// The old mount goes on reading what it had; the new one has its own.
	fs.im, s.im = s.im.copy(), fs.im
	l := s.im.cut(s.rnd)
	r.Kept, r.Torn, r.Lost = l.Kept, l.Torn, l.Lost
	return r, nil
}
