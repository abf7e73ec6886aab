package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// testTimeout ends the tests of one mutant. A mutant that makes them wait for
// ever is caught too.
const testTimeout = 2 * time.Minute

func main() {
	only := flag.String("run", "", "only mutants whose name matches this expression")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *only, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, only string, out io.Writer) error {
	match, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	all := mutants()
	for _, m := range all { // first, because it is quick
		if _, err := m.apply(); err != nil {
			return err
		}
	}
	chosen := slices.DeleteFunc(all, func(m mutant) bool { return !match.MatchString(m.name) })
	if len(chosen) == 0 {
		return fmt.Errorf("no mutant matches %q", only)
	}
	// Tests that fail anyway catch everything.
	byPackage := make(map[string][]string)
	for _, m := range chosen {
		byPackage[m.pkg] = append(byPackage[m.pkg], m.tests)
	}
	for _, pkg := range slices.Sorted(maps.Keys(byPackage)) {
		tests := byPackage[pkg]
		slices.Sort(tests)
		r, err := test(ctx, pkg, strings.Join(slices.Compact(tests), "|"), "")
		if err != nil || r.failed {
			return errors.Join(err, fmt.Errorf("the tests of %s fail without a mutant:\n%s", pkg, r.output))
		}
		fmt.Fprintf(out, "%-44s passes\n", strings.TrimPrefix(pkg, "./internal/"))
	}
	var alive int
	for _, m := range chosen {
		verdict, err := m.try(ctx)
		switch {
		case errors.Is(err, errUntried):
			verdict = err.Error()
			alive++
		case err != nil:
			return err
		case verdict == "":
			verdict = "SURVIVED"
			alive++
		}
		fmt.Fprintf(out, "%-44s %s\n", m.name, verdict)
	}
	if alive > 0 {
		return fmt.Errorf("%d of %d mutants survived, or were not tried", alive, len(chosen))
	}
	fmt.Fprintf(out, "all %d mutants caught\n", len(chosen))
	return nil
}

// apply returns the files with the fault in them, by their names.
func (m mutant) apply() (map[string][]byte, error) {
	files := make(map[string][]byte)
	for _, e := range m.edits {
		text, ok := files[e.file]
		if !ok {
			var err error
			if text, err = os.ReadFile(filepath.Join(dir, e.file)); err != nil {
				return nil, err
			}
		}
		if n := bytes.Count(text, []byte(e.old)); n != 1 {
			return nil, fmt.Errorf("%s: its text stands %d times in %s, want once: the code has changed, change the mutant:\n%s", m.name, n, e.file, e.old)
		}
		files[e.file] = bytes.Replace(text, []byte(e.old), []byte(e.fault), 1)
	}
	return files, nil
}

// try says which tests caught the mutant; none: it survived.
func (m mutant) try(ctx context.Context) (verdict string, err error) {
	files, err := m.apply()
	if err != nil {
		return "", err
	}
	temp, err := os.MkdirTemp("", "mutant-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(temp) }() // scratch
	replaced := make(map[string]string)
	for name, text := range files {
		original, err := filepath.Abs(filepath.Join(dir, name))
		if err != nil {
			return "", err
		}
		replaced[original] = filepath.Join(temp, strings.ReplaceAll(name, "/", "-"))
		if err := os.WriteFile(replaced[original], text, 0o600); err != nil {
			return "", err
		}
	}
	overlay := filepath.Join(temp, "overlay.json")
	raw, err := json.Marshal(map[string]map[string]string{"Replace": replaced})
	if err == nil {
		err = os.WriteFile(overlay, raw, 0o600)
	}
	if err != nil {
		return "", err
	}
	r, err := test(ctx, m.pkg, m.tests, overlay)
	switch {
	case err != nil:
		return "", err
	case r.broken: // the others are tried all the same: a whole run takes an hour
		return "", fmt.Errorf("%w: it does not compile:\n%s", errUntried, r.output)
	case r.skipped:
		return "", fmt.Errorf("%w: its tests are skipped here:\n%s", errUntried, r.output)
	case !r.failed:
		return "", nil
	}
	return r.by, nil
}

// errUntried says that a mutant proves nothing.
var errUntried = errors.New("not tried")

// result is what became of a run of tests.
type result struct {
	failed, broken, skipped bool
	by                      string // the first test that failed
	output                  []byte
}

// test runs tests of a package, until one fails.
func test(ctx context.Context, pkg, tests, overlay string) (result, error) {
	// No vet: it costs a sixth of the time, and nobody reads what it says of a mutant.
	args := []string{"test", "-vet=off", "-count=1", "-failfast", "-v", "-timeout", testTimeout.String(), "-run", "^(" + tests + ")$"}
	cmd := exec.CommandContext(ctx, "go", append(args, pkg)...)
	if overlay != "" { // by the environment: tests that build the program build the mutant
		cmd.Env = append(os.Environ(), "GOFLAGS=-overlay="+overlay)
	}
	output, err := cmd.CombinedOutput()
	r := result{output: output}
	if err == nil {
		ran := bytes.Contains(output, []byte("--- PASS"))
		r.skipped = bytes.Contains(output, []byte("--- SKIP")) || !ran
		return r, nil
	}
	if _, ok := errors.AsType[*exec.ExitError](err); !ok || ctx.Err() != nil {
		return r, err
	}
	r.failed = true
	r.broken = bytes.Contains(output, []byte("[build failed]")) || bytes.Contains(output, []byte("[setup failed]"))
	switch found := regexp.MustCompile(`--- FAIL: (\w+)`).FindSubmatch(output); {
	case found != nil:
		r.by = string(found[1])
	case bytes.Contains(output, []byte("panic: test timed out")):
		r.by = "a test that never ended"
	default:
		r.by = "a crash of the tests"
	}
	return r, nil
}
