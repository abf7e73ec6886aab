package logbook

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestKeepsTheNewestLines(t *testing.T) {
	b := New()
	log := slog.New(b.Handler(slog.LevelInfo)).With("part", "test")
	log.Debug("not heard")
	log.Info("too long", "text", strings.Repeat("x", 2*maxLine))
	if said := b.Said().Lines; strings.Contains(said, "not heard") || len(said) > maxLine+10 || !strings.HasSuffix(said, "…\n") {
		t.Errorf("%d bytes: %.200s", len(said), said)
	}
	const n = 20_000
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range n / 4 {
				log.Info("a line of the usual length", "n", 1)
			}
		})
	}
	all.Wait()
	log.Info("last", "n", n)
	said := b.Said().Lines
	if len(said) > kept || len(said) < kept/2 || !strings.HasPrefix(said, "time=") || !strings.HasSuffix(said, fmt.Sprintf("msg=last part=test n=%d\n", n)) {
		t.Errorf("%d bytes: %.100s … %s", len(said), said, said[len(said)-100:])
	}
	if cap(b.lines) > 3*kept {
		t.Errorf("it holds %d bytes", cap(b.lines))
	}
}

// The card is written for warnings alone, and not often.
func TestSparesTheCard(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := New()
		if err := b.Open(dir); err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		log := slog.New(b.Handler(slog.LevelInfo))
		ctx, stop := context.WithCancel(t.Context())
		var run sync.WaitGroup
		run.Go(func() {
			if err := b.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		file := filepath.Join(dir, linesFile)
		content := func() string {
			synctest.Wait()
			raw, _ := os.ReadFile(file)
			return string(raw)
		}
		for range 24 * 60 {
			log.Info("all is well")
			<-time.After(time.Minute)
		}
		if got := content(); got != "" {
			t.Errorf("written though nothing is wrong: %.100s", got)
		}
		log.Warn("the first trouble")
		log.Info("what it did then")
		<-time.After(2 * time.Second)
		if got := content(); !strings.Contains(got, "first trouble") || !strings.Contains(got, "did then") {
			t.Errorf("not written: %.200s", got)
		}
		writes, before := 0, ""
		for n := range 60 * 60 { // an hour of a flapping link
			log.Warn("trouble", "n", n)
			<-time.After(time.Second)
			if info, err := os.Stat(file); err == nil && fmt.Sprint(info.Sys()) != before {
				before = fmt.Sprint(info.Sys()) // another inode with each write
				writes++
			}
		}
		if writes < 5 || writes > 8 {
			t.Errorf("%d writes in an hour", writes)
		}
		log.Info("the end")
		stop()
		run.Wait()
		if got := content(); !strings.HasSuffix(got, "msg=\"the end\"\n") || len(got) > onDisk {
			t.Errorf("%d bytes at the end", len(got))
		}
	})
	said := ReadDir(dir)
	if !strings.Contains(said.Before, "the end") {
		t.Error("the stopped box has left nothing")
	}
	next := New()
	if err := next.Open(dir); err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	if said := next.Said(); said.Lines != "" || !strings.Contains(said.Before, "the end") || said.Crash != "" {
		t.Errorf("the next one has %d bytes, %d of before, crash %q", len(said.Lines), len(said.Before), said.Crash)
	}
}

// A process that panics, and one that its watchdog aborts, leave behind why.
func TestKeepsWhatItDiedOf(t *testing.T) {
	if dir := os.Getenv("LOGBOOK_DIE_IN"); dir != "" {
		b := New()
		if err := b.Open(dir); err != nil {
			t.Fatal(err)
		}
		if os.Getenv("LOGBOOK_DIE_OF") == "abort" {
			_, _ = os.Stdout.WriteString("ready\n")
			<-time.After(time.Hour) // a timer, else the runtime calls it a deadlock while it is aborted
		}
		var wg sync.WaitGroup
		wg.Go(func() { panic("the till is on fire") })
		wg.Wait()
	}
	for of, want := range map[string]string{"panic": "panic: the till is on fire", "abort": "logbook.TestKeepsWhatItDiedOf"} {
		dir := t.TempDir()
		cmd := exec.Command(os.Args[0], "-test.run=TestKeepsWhatItDiedOf")
		cmd.Env = append(os.Environ(), "LOGBOOK_DIE_IN="+dir, "LOGBOOK_DIE_OF="+of)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if of == "abort" {
			if _, err := out.Read(make([]byte, 16)); err != nil {
				t.Fatal(err)
			}
			if err := exec.Command("kill", "-ABRT", fmt.Sprint(cmd.Process.Pid)).Run(); err != nil {
				t.Fatal(err)
			}
		}
		_ = cmd.Wait() // it dies
		if said := ReadDir(dir); !strings.Contains(said.Crash, want) || !strings.Contains(said.Crash, "goroutine ") || time.Since(said.Crashed) > time.Minute {
			t.Errorf("%s: the files say %q at %s", of, said.Crash, said.Crashed)
		}
		for range 2 { // it stays over starts that go well
			b := New()
			if err := b.Open(dir); err != nil {
				t.Fatal(err)
			}
			if said := b.Said(); !strings.Contains(said.Crash, want) {
				t.Errorf("%s: the next one says %q", of, said.Crash)
			}
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}
