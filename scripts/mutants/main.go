package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
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
	for _, pkg := range []string{journal, powercut} {
		var tests []string
		for _, m := range chosen {
			if m.pkg == pkg {
				tests = append(tests, m.tests)
			}
		}
		if len(tests) == 0 {
			continue
		}
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
		if err != nil {
			return err
		}
		if verdict == "" {
			verdict = "SURVIVED"
			alive++
		}
		fmt.Fprintf(out, "%-44s %s\n", m.name, verdict)
	}
	if alive > 0 {
		return fmt.Errorf("%d of %d mutants survived", alive, len(chosen))
	}
	fmt.Fprintf(out, "all %d mutants caught\n", len(chosen))
	return nil
}

// apply returns the file with the fault in it.
func (m mutant) apply() ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(dir, m.file))
	if err != nil {
		return nil, err
	}
	if n := bytes.Count(text, []byte(m.old)); n != 1 {
		return nil, fmt.Errorf("%s: its text stands %d times in %s, want once: the code has changed, change the mutant:\n%s", m.name, n, m.file, m.old)
	}
	return bytes.Replace(text, []byte(m.old), []byte(m.fault), 1), nil
}

// try says which tests caught the mutant; none: it survived.
func (m mutant) try(ctx context.Context) (verdict string, err error) {
	text, err := m.apply()
	if err != nil {
		return "", err
	}
	temp, err := os.MkdirTemp("", "mutant-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(temp) }() // scratch
	original, err := filepath.Abs(filepath.Join(dir, m.file))
	if err != nil {
		return "", err
	}
	changed, overlay := filepath.Join(temp, m.file), filepath.Join(temp, "overlay.json")
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {original: changed}})
	if err != nil {
		return "", err
	}
	if err := errors.Join(os.WriteFile(changed, text, 0o600), os.WriteFile(overlay, replace, 0o600)); err != nil {
		return "", err
	}
	r, err := test(ctx, m.pkg, m.tests, overlay)
	switch {
	case err != nil:
		return "", err
	case r.broken:
		return "", fmt.Errorf("%s does not compile:\n%s", m.name, r.output)
	case r.skipped:
		return "", fmt.Errorf("%s: its tests are skipped here:\n%s", m.name, r.output)
	case !r.failed:
		return "", nil
	}
	return r.by, nil
}

// result is what became of a run of tests.
type result struct {
	failed, broken, skipped bool
	by                      string // the first test that failed
	output                  []byte
}

// test runs tests of a package, until one fails.
func test(ctx context.Context, pkg, tests, overlay string) (result, error) {
	args := []string{"test", "-count=1", "-failfast", "-v", "-timeout", testTimeout.String(), "-run", "^(" + tests + ")$"}
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	output, err := exec.CommandContext(ctx, "go", append(args, pkg)...).CombinedOutput()
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
