package boxtest

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/needs"
)

// Browser is a person in front of a real Chromium. A step that cannot be taken
// ends the test. Not for concurrent use.
type Browser struct {
	t       testing.TB
	stdin   io.WriteCloser
	answers *bufio.Scanner
}

// step is one line for browser.mjs, which says what the steps are.
type step struct {
	Do     string `json:"do"`
	At     string `json:"at,omitempty"`   // CSS selector
	Text   string `json:"text,omitempty"` // to write, or a regular expression to see
	Key    string `json:"key,omitempty"`
	Name   string `json:"name,omitempty"` // of a picture
	Within int64  `json:"within,omitempty"`

	URL    string `json:"url,omitempty"`
	Locale string `json:"locale,omitempty"`
	Scheme string `json:"scheme,omitempty"` // light or dark
	Width  int    `json:"width,omitempty"`
	Height int    `json:"height,omitempty"`
}

// StartBrowser starts one. Pictures go to the folder shots, which git ignores.
// Without Chromium or Node the test is skipped, or fails where CI is set.
func StartBrowser(t testing.TB) *Browser {
	t.Helper()
	return StartBrowserAt(t, os.Getenv("HOME"))
}

// StartBrowserAt is StartBrowser for a person with a home of their own, and in
// it a store of certificates.
func StartBrowserAt(t testing.TB, home string) *Browser {
	t.Helper()
	node, chromium := needs.Program(t, "node"), needs.Program(t, "chromium")
	dir := clientDir("browser")
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "playwright-core")); err != nil {
		needs.Missing(t, "the driver of the browser is not installed: run scripts/setup")
	}
	shots := filepath.Join(filepath.Dir(clientDir("")), "shots")
	if err := os.MkdirAll(shots, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(node, filepath.Join(dir, "browser.mjs"), chromium, shots)
	cmd.Env = append(os.Environ(), "HOME="+home)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, w, err := os.Pipe() // that of exec is closed before all has been read
	if err != nil {
		t.Fatal(err)
	}
	stderr := &output{}
	cmd.Stdout, cmd.Stderr = w, stderr
	p := start(t, cmd)
	_ = w.Close() // the child has its own
	b := &Browser{t: t, stdin: stdin, answers: bufio.NewScanner(stdout)}
	b.answers.Buffer(nil, 4<<20)
	t.Cleanup(func() {
		_ = stdin.Close() // which is how the child is told to go
		if !p.ended(10 * time.Second) {
			t.Errorf("the browser did not end by itself")
			p.signal(syscall.SIGKILL)
		}
		_ = stdout.Close()
		if t.Failed() {
			t.Logf("browser: %s", stderr)
		}
	})
	return b
}

// take takes a step, reads its value into a pointer if there is one, and returns
// how long it took.
func (b *Browser) take(s step, into any) time.Duration {
	b.t.Helper()
	took, failure := b.try(s, into)
	if failure != "" {
		b.take(step{Do: "shot", Name: "failed"}, nil)
		b.t.Fatalf("browser: %+v: %s", s, failure)
	}
	return took
}

// try is take for a step that may fail.
func (b *Browser) try(s step, into any) (took time.Duration, failure string) {
	b.t.Helper()
	if err := json.NewEncoder(b.stdin).Encode(s); err != nil {
		b.t.Fatalf("browser: %v", err)
	}
	var answer struct {
		Value json.RawMessage
		MS    int64
		Error string
	}
	if !b.answers.Scan() {
		b.t.Fatalf("browser: it ended: %v", b.answers.Err())
	}
	if err := json.Unmarshal(b.answers.Bytes(), &answer); err != nil {
		b.t.Fatalf("browser: %v", err)
	}
	if into != nil && answer.Error == "" {
		if err := json.Unmarshal(answer.Value, into); err != nil {
			b.t.Fatalf("browser: %+v: %v", s, err)
		}
	}
	return time.Duration(answer.MS) * time.Millisecond, answer.Error
}

// Refuses returns why the browser does not open a page; empty: it does.
func (b *Browser) Refuses(url string) (why string) {
	b.t.Helper()
	_, why = b.try(step{Do: "open", URL: url, Width: 1280, Height: 780}, nil)
	return why
}

// Open opens a page as somebody new.
func (b *Browser) Open(url, locale, scheme string, width int) {
	b.t.Helper()
	b.take(step{Do: "open", URL: url, Locale: locale, Scheme: scheme, Width: width, Height: 780}, nil)
}

// Click clicks on a place.
func (b *Browser) Click(at string) { b.t.Helper(); b.take(step{Do: "click", At: at}, nil) }

// Fill writes into a field.
func (b *Browser) Fill(at, text string) {
	b.t.Helper()
	b.take(step{Do: "fill", At: at, Text: text}, nil)
}

// Press presses a key.
func (b *Browser) Press(key string) { b.t.Helper(); b.take(step{Do: "press", Key: key}, nil) }

// See waits until what is at a place matches a regular expression, and returns
// how long that took.
func (b *Browser) See(at, text string, within time.Duration) time.Duration {
	b.t.Helper()
	return b.take(step{Do: "see", At: at, Text: text, Within: within.Milliseconds()}, nil)
}

// Good looks at the page as it stands: nothing is wider than the window, nothing
// breaks the accessibility rules, nothing went wrong. It takes a picture.
func (b *Browser) Good(name string) {
	b.t.Helper()
	b.take(step{Do: "shot", Name: name}, nil)
	var wide int
	if b.take(step{Do: "wide"}, &wide); wide > 0 {
		b.t.Errorf("%s: the page is %d pixels wider than the window", name, wide)
	}
	var axe struct {
		Passed int
		Broken []string
	}
	b.take(step{Do: "axe"}, &axe)
	if len(axe.Broken) > 0 || axe.Passed < 8 {
		b.t.Errorf("%s: %d accessibility rules pass, broken: %q", name, axe.Passed, axe.Broken)
	}
	var faults []string
	if b.take(step{Do: "faults"}, &faults); len(faults) > 0 {
		b.t.Errorf("%s: %q", name, faults)
	}
}
