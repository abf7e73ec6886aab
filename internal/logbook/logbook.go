package logbook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"github.com/avoqado/avoqado-edge/internal/durable"
)

const (
	kept      = 256 << 10 // bytes of lines in memory
	onDisk    = 64 << 10  // bytes of them in a file
	maxLine   = 4 << 10   // bytes; the rest of a line is cut off
	saveEvery = 10 * time.Minute
)

// The files, in the folder of the state directory that Open is given.
const (
	linesFile       = "log.txt"
	linesBeforeFile = "log.before.txt"
	crashFile       = "crash.txt"
	crashBeforeFile = "crash.before.txt"
)

// Book is the newest 256 KiB of the log. Safe for concurrent use.
type Book struct {
	ill chan struct{} // a line that is worth a write

	mu    sync.Mutex // guards below
	lines []byte     // whole lines, the newest last
	dir   string     // empty: not opened
	crash *os.File   // where the runtime says what it dies of
}

// New returns an empty book.
func New() *Book { return &Book{ill: make(chan struct{}, 1)} }

// Said is what is known of a box's log. Any of it may be empty.
type Said struct {
	Lines   string    // of the running process
	Before  string    // of the one before, up to its end or its last warning
	Crash   string    // what the last process that crashed said: the reason and its goroutines
	Crashed time.Time // when that was
}

// Handler returns one that writes each record into the book, as text with its
// time.
func (b *Book) Handler(level slog.Leveler) slog.Handler {
	return handler{slog.NewTextHandler(b, &slog.HandlerOptions{Level: level}), b}
}

// handler notes which records are worth a write to the disk.
type handler struct {
	slog.Handler
	book *Book
}

func (h handler) Handle(ctx context.Context, r slog.Record) error {
	err := h.Handler.Handle(ctx, r)
	if r.Level >= slog.LevelWarn {
		select {
		case h.book.ill <- struct{}{}:
		default: // it is known already
		}
	}
	return err
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.Handler.WithAttrs(attrs), h.book}
}

func (h handler) WithGroup(name string) slog.Handler {
	return handler{h.Handler.WithGroup(name), h.book}
}

// Write takes one line. It never fails.
func (b *Book) Write(line []byte) (int, error) {
	n := len(line)
	b.mu.Lock()
	defer b.mu.Unlock()
	if n > maxLine {
		b.lines = append(append(b.lines, line[:maxLine]...), "…\n"...)
	} else {
		b.lines = append(b.lines, line...)
	}
	if len(b.lines) > kept+kept/4 { // not at every line, since the rest is moved
		b.lines = append(b.lines[:0], newest(b.lines, kept)...)
	}
	return n, nil
}

// newest returns the whole lines at the end that have at most so many bytes.
func newest(lines []byte, most int) []byte {
	if len(lines) <= most {
		return lines
	}
	lines = lines[len(lines)-most:]
	return lines[bytes.IndexByte(lines, '\n')+1:]
}

// Open keeps the book in a folder from now on, and makes it if need be. What
// the process before left there becomes that of before. What this process dies
// of, should it panic or be aborted by its watchdog, is written there by the
// runtime itself. Only the process that holds the journal may call it.
func (b *Book) Open(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	join := func(name string) string { return filepath.Join(dir, name) }
	err := os.Rename(join(linesFile), join(linesBeforeFile))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if info, statErr := os.Stat(join(crashFile)); statErr == nil && info.Size() > 0 {
		err = errors.Join(err, os.Rename(join(crashFile), join(crashBeforeFile)))
	}
	crash, openErr := os.OpenFile(join(crashFile), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if openErr == nil {
		openErr = debug.SetCrashOutput(crash, debug.CrashOptions{})
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dir, b.crash = dir, crash
	return errors.Join(err, openErr)
}

// Run saves the newest 64 KiB when something worth it was said, at most every
// ten minutes for the sake of the card, and when ctx ends. It returns nil.
func (b *Book) Run(ctx context.Context) error {
	defer b.save()
	for {
		select {
		case <-b.ill:
		case <-ctx.Done():
			return nil
		}
		// What is said next often says more about it.
		if !pause(ctx, time.Second) {
			return nil
		}
		b.save()
		if !pause(ctx, saveEvery) {
			return nil
		}
	}
}

// pause reports whether the time went by before ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// save notes it if it cannot: a log that cannot be kept is no reason to stop,
// and the disk has checks of its own.
func (b *Book) save() {
	b.mu.Lock()
	dir, lines := b.dir, bytes.Clone(newest(b.lines, onDisk))
	b.mu.Unlock()
	if dir == "" {
		return
	}
	if err := durable.WriteFile(filepath.Join(dir, linesFile), lines); err != nil {
		_, _ = fmt.Fprintf(b, "the last lines cannot be kept: %v\n", err)
	}
}

// Close ends the writing of what the process dies of.
func (b *Book) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.crash == nil {
		return nil
	}
	err := errors.Join(debug.SetCrashOutput(nil, debug.CrashOptions{}), b.crash.Close())
	b.crash = nil
	return err
}

// Said returns what was said, as far as it is kept.
func (b *Book) Said() Said {
	b.mu.Lock()
	dir, lines := b.dir, string(newest(b.lines, kept))
	b.mu.Unlock()
	if dir == "" {
		return Said{Lines: lines}
	}
	said := Said{Lines: lines}
	said.Before, _ = read(dir, linesBeforeFile)
	said.Crash, said.Crashed = read(dir, crashBeforeFile)
	return said
}

// ReadDir returns what a box that does not run left in the folder: its last
// lines are those of before. What cannot be read is empty.
func ReadDir(dir string) Said {
	var said Said
	if said.Before, _ = read(dir, linesFile); said.Before == "" {
		said.Before, _ = read(dir, linesBeforeFile)
	}
	if said.Crash, said.Crashed = read(dir, crashFile); said.Crash == "" {
		said.Crash, said.Crashed = read(dir, crashBeforeFile)
	}
	return said
}

// read returns the beginning of a file, which of a crash is the reason, and
// when it was written.
func read(dir, name string) (string, time.Time) {
	path := filepath.Join(dir, name)
	info, err := os.Stat(path)
	if err != nil {
		return "", time.Time{}
	}
	raw, err := os.ReadFile(path)
	if err != nil || len(raw) == 0 {
		return "", time.Time{}
	}
	return string(raw[:min(len(raw), onDisk)]), info.ModTime().UTC()
}
