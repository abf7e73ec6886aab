package journal

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// fault is what a disk answers to a system call.
type fault struct{ call, errno string }

func faults() []fault {
	return []fault{
		{"pwrite64", "ENOSPC"},
		{"pwrite64", "EIO"},
		{"fdatasync", "EIO"},
		{"fsync", "EIO"},
		{"ftruncate", "ENOSPC"},
		{"ftruncate", "EIO"},
		{"renameat", "ENOSPC"},
		{"unlinkat", "EIO"},
	}
}

// TestEveryDiskError has the disk refuse the n-th system call of a kind, once,
// three times in a row, or from then on, under each workload. Callers get an
// error or a receipt, nothing that got a receipt is lost, nothing that got an
// error is there, and the same process goes on to its end.
func TestEveryDiskError(t *testing.T) {
	count := &tally{t: t, what: "disk errors"}
	defer count.report()
	total := 0
	for _, w := range workloads() {
		t.Run(w.name, func(t *testing.T) {
			s := newStage(t, w)
			type try struct {
				point
				errno, when string
				lasts       bool
			}
			var tries []try
			for _, f := range faults() {
				for _, at := range s.points(t, []string{"write", f.call}) {
					if at.call != f.call {
						continue
					}
					for _, when := range []string{"", fmt.Sprint("..", at.n+2), "+"} {
						tries = append(tries, try{at, f.errno, fmt.Sprint(at.n) + when, when != ""})
					}
				}
			}
			total += len(tries)
			if tortures(t) == 0 {
				tries = spread(tries, torture(t, 6, 0))
			}
			refused := 0
			for _, at := range tries {
				inject := fmt.Sprintf("inject=%s:error=%s:when=%s", at.call, at.errno, at.when)
				goOn := ""
				if at.when[len(at.when)-1] != '+' {
					goOn = goOnEnv + "=yes"
				}
				root, p := s.playWith(t, goOn, "-e", "trace="+at.call, "-e", inject)
				if !p.done || goOn != "" && !p.wentOn {
					count.violated("%s %s: the process does not go on\n%s", s.name, inject, p.story())
				}
				if p.errors > 0 {
					refused++
				}
				p.lenient = at.lasts
				h := hand{now: day}
				if err := p.kept(filepath.Join(root, "journal"), h.options()); err != nil {
					count.violated("%s %s: %v\n%s", s.name, inject, err, p.story())
				}
				os.RemoveAll(root)
			}
			if refused == 0 && len(tries) > 1 { // one alone may hit what is tried again
				t.Error("nobody got an error")
			}
			count.count += len(tries)
		})
	}
	count.note = fmt.Sprintf("of %d in %d workloads", total, len(workloads()))
}

// TestSlowDisk has every sync take 50 ms, which changes nothing but the pace;
// under torture also one of 30 s, and meanwhile what is stored can be read.
func TestSlowDisk(t *testing.T) {
	long := tortures(t) > 0
	count := &tally{t: t, what: "slow disks"}
	defer count.report()
	for _, w := range slowWorkloads() {
		s := newStage(t, w)
		inject := "inject=fdatasync,fsync:delay_exit=50000" // µs
		if w.name == "read beside" {
			if !long {
				continue
			}
			inject = "inject=fdatasync:delay_exit=30000000:when=7"
		}
		count.count++
		root, p := s.play(t, "-e", "trace=fdatasync,fsync", "-e", inject)
		defer os.RemoveAll(root)
		if !p.done || p.errors > 0 || w.name == "read beside" && p.beside < 50 {
			count.violated("%s: %d errors, %d reads beside\n%s", s.name, p.errors, p.beside, p.story())
		}
		h := hand{now: day}
		if err := p.kept(filepath.Join(root, "journal"), h.options()); err != nil {
			count.violated("%s: %v\n%s", s.name, err, p.story())
		}
	}
}
