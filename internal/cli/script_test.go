package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"github.com/avoqado/avoqado-edge/internal/api"
)

const (
	testSecret = "test-secret-0123456789-0123456789-abcdef"
	patience   = 60 * time.Second // for what should take no time, on a busy machine
)

// TestMain lets the test binary be the command line itself, as a process of
// its own, when it is started as avoqado-edge.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"avoqado-edge": func() {
			os.Exit(Main(context.Background(), os.Args[1:], Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
		},
		"stubborn": stubborn,
	})
}

// TestScripts types what users type. Besides testscript's own words the
// scripts use:
//
//	exits CODE PROGRAM ARGS…     like exec, with the exit code it must end with
//	until PATTERN PROGRAM ARGS…  like exec, again and again until stdout matches
//	ready DIR                    wait for the box with the state folder DIR; sets
//	                             URL, ADDR and, if it has an uplink, BROKER
//	take-port                    hold a TCP port until the script ends; sets PORT
//	mode PERM FILE               the file's permissions must be these
//	damage FILE TEXT             overwrite the text wherever it stands in the file
//	camel [FILE]                 stdout, or the file, is JSON with lowerCamelCase keys
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", filepath.Join(e.WorkDir, "home"))
			e.Setenv("SECRET", testSecret)
			// No box of this machine may answer, whatever a script forgets.
			e.Setenv("AVOQADO_EDGE_SOCKET", filepath.Join(e.WorkDir, "none.sock"))
			return nil
		},
		Condition: func(name string) (bool, error) {
			if name != "installed" { // this machine has a configured box
				return false, fmt.Errorf("unknown condition %q", name)
			}
			_, err := os.Stat(defaultConfig)
			return err == nil, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "until": until, "ready": awaitBox, "take-port": takePort, "mode": mode, "damage": damage,
			"camel": camel,
		},
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGS…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until PATTERN PROGRAM ARGS…")
	}
	pattern, err := regexp.Compile(args[0])
	ts.Check(err)
	eventually(ts, args[0], func() bool {
		_ = ts.Exec(args[1], args[2:]...) // whatever it ends with
		return pattern.MatchString(ts.ReadFile("stdout"))
	})
}

func awaitBox(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: ready DIR")
	}
	var st api.Status
	client := api.NewClient(filepath.Join(ts.MkAbs(args[0]), "avoqado-edge.sock"))
	eventually(ts, "a box in "+args[0], func() (ok bool) {
		var err error
		st, err = askStatus(context.Background(), client)
		return err == nil && (st.Uplink.State == "online" || st.Uplink.State == "off")
	})
	ts.Setenv("URL", "http://"+st.LAN.Address)
	ts.Setenv("ADDR", st.LAN.Address)
	ts.Setenv("BROKER", "tcp://"+st.Uplink.Broker)
}

func takePort(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: take-port")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { _ = l.Close() })
	ts.Setenv("PORT", l.Addr().String())
}

func mode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mode PERM FILE")
	}
	info, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[0] {
		ts.Fatalf("%s has mode %s, want %s", args[1], got, args[0])
	}
}

func damage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: damage FILE TEXT")
	}
	path, text := ts.MkAbs(args[0]), []byte(args[1])
	raw, err := os.ReadFile(path)
	ts.Check(err)
	if !bytes.Contains(raw, text) {
		ts.Fatalf("%s does not hold %s", args[0], args[1])
	}
	raw = bytes.ReplaceAll(raw, text, bytes.Repeat([]byte("#"), len(text)))
	ts.Check(os.WriteFile(path, raw, 0o600))
}

// byName are the objects whose keys are names or come from a client.
var byName = []string{"cursors", "header", "kinds", "payload", "refused", "roles", "tokens"}

var lowerCamel = regexp.MustCompile(`^[a-z][a-zA-Z0-9]*$`)

func camel(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 1 {
		ts.Fatalf("usage: camel [FILE]")
	}
	dec := json.NewDecoder(strings.NewReader(ts.ReadFile(append(args, "stdout")[0])))
	n := 0
	for ; ; n++ {
		var value any
		err := dec.Decode(&value)
		if errors.Is(err, io.EOF) {
			break
		}
		ts.Check(err)
		if bad := badKeys(value); len(bad) > 0 {
			ts.Fatalf("keys that are not lowerCamelCase: %q", bad)
		}
	}
	if n == 0 {
		ts.Fatalf("there is no JSON")
	}
}

// badKeys returns the keys in a JSON value that are not as they should be.
func badKeys(value any) (bad []string) {
	switch v := value.(type) {
	case map[string]any:
		for key, inner := range v {
			if !lowerCamel.MatchString(key) {
				bad = append(bad, key)
			}
			if !slices.Contains(byName, key) {
				bad = append(bad, badKeys(inner)...)
			}
		}
	case []any:
		for _, inner := range v {
			bad = append(bad, badKeys(inner)...)
		}
	}
	return bad
}

// Every command with --json has its keys looked at by a script, in the line
// behind the one that types it; those that run until they are interrupted, in
// the file that they write.
func TestEveryJSONHasItsKeysLookedAt(t *testing.T) {
	looked := map[string]bool{}
	untilInterrupted := map[string]bool{
		"avoqado-edge cloud listen": true, "avoqado-edge dev": true, "avoqado-edge events tail": true,
	}
	var typed []string
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		before := ""
		for line := range strings.Lines(string(raw)) {
			if args, ok := strings.CutPrefix(line, "camel"); ok {
				typed = append(typed, before+args)
			}
			before = line
		}
	}
	walk(newRoot(Streams{}), func(cmd *cobra.Command) {
		path := cmd.CommandPath()
		if cmd.Flags().Lookup("json") == nil || untilInterrupted[path] {
			return
		}
		looked[path] = slices.ContainsFunc(typed, func(line string) bool {
			return strings.Contains(line, " "+path+" ") && strings.Contains(line, "--json")
		})
	})
	for path, ok := range looked {
		if !ok {
			t.Errorf("no script looks at the keys of %q --json", path)
		}
	}
	if len(looked) < 10 {
		t.Errorf("only %d commands with --json were found", len(looked))
	}
}

func eventually(ts *testscript.TestScript, what string, done func() bool) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !done(); <-tick.C {
		if time.Now().After(deadline) {
			ts.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// Every command is typed by a script, has an example, and says what it does in
// a line that fits into the list of commands.
func TestEveryCommand(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	var typed []string
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(raw)) {
			if _, args, ok := strings.Cut(line, "avoqado-edge "); ok && !strings.HasPrefix(line, "#") {
				typed = append(typed, "avoqado-edge "+strings.TrimSpace(args)+" ")
			}
		}
	}
	root := newRoot(Streams{})
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	walk(root, func(cmd *cobra.Command) {
		path := cmd.CommandPath()
		if !slices.ContainsFunc(typed, func(line string) bool { return strings.HasPrefix(line, path+" ") }) {
			t.Errorf("no script types %q", path)
		}
		if cmd.Short == "" || len(cmd.Short) > 100 {
			t.Errorf("%s: the short text has %d characters", path, len(cmd.Short))
		}
		generated := cmd.Name() == "help" || strings.HasPrefix(path, "avoqado-edge completion")
		if generated {
			return
		}
		if !cmd.HasSubCommands() && !strings.Contains(cmd.Example, path) {
			t.Errorf("%s: no example shows it", path)
		}
		for line := range strings.Lines(cmd.Long) {
			if len(line) > 81 {
				t.Errorf("%s: a line of its help has %d characters: %s", path, len(line)-1, line)
			}
		}
	})
}

func walk(cmd *cobra.Command, visit func(*cobra.Command)) {
	visit(cmd)
	for _, child := range cmd.Commands() {
		walk(child, visit)
	}
}
