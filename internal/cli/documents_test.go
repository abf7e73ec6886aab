package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/cloud"
)

// shown is a command in a document.
type shown struct {
	file, line string
	whole      bool // stands on a line of its own, so it is complete; else it may be a mention
}

// elsewhere are the commands that this test does not run, by their beginning, and
// the file in which it is seen that somebody does.
func elsewhere() [][3]string {
	return [][3]string{
		{"avoqado-edge claim", "internal/cli/testdata/claim.txt", "avoqado-edge claim"},
		{"avoqado-edge service", "internal/cli/testdata/service.txt", "avoqado-edge service install"},
		{"avoqado-edge restore", "internal/cli/testdata/backup.txt", "avoqado-edge restore"},
		{"avoqado-edge drill", "internal/cli/testdata/dev.txt", "avoqado-edge drill --for"},
		{"avoqado-edge config init", "internal/cli/testdata/config.txt", "avoqado-edge config init"},
		{"apt install", "scripts/test-packages", "apt install --allow-downgrades"},
		{"apt remove", "scripts/test-packages", "apt remove avoqado-edge"},
		{"apt purge", "scripts/test-packages", "apt purge avoqado-edge"},
		{"systemctl status avoqado-edge", "scripts/test-packages", "systemctl status avoqado-edge"},
		{"systemctl reload", "scripts/test-packages", "systemctl reload avoqado-edge"},
		{"journalctl -u avoqado-edge", "scripts/test-packages", "-u avoqado-edge"},
		{"node internal/spec/examples/terminal.mjs", "internal/boxtest/terminal_test.go", `"terminal.mjs"`},
		{"java -jar internal/spec/examples/kotlin/target/terminal.jar", "internal/boxtest/terminal_test.go", `"terminal.jar"`},
		{"node internal/spec/examples/backend.mjs", "internal/boxtest/node_test.go", `"backend.mjs"`},
		{"curl -H \"Authorization: Bearer $TOKEN\" --json", "internal/boxtest/terminal_test.go", `box.Do("POST", path, cashier`},
		{"go run ./cmd/avoqado-edge", "internal/boxtest/dev_test.go", `"go", "run", "./cmd/avoqado-edge"`}, // and below, as avoqado-edge
		{"rabbitmq-plugins enable rabbitmq_mqtt", "internal/uplink/brokers/rabbitmq_test.go", `"rabbitmq-plugins", "enable", "rabbitmq_mqtt"`},
		{"rabbitmqctl change_password", "internal/uplink/brokers/rabbitmq_test.go", `"rabbitmqctl", "change_password"`},
		{"rabbitmqctl export_definitions", "internal/uplink/brokers/rabbitmq_test.go", `"rabbitmqctl", "export_definitions"`},
		{"chmod 0640", "internal/config/secret_test.go", "0o640"},
		{"cp configs/rabbitmq.conf", "internal/uplink/brokers/rabbitmq.go", `"rabbitmq.conf"`},
	}
}

// byHand are the commands that no test runs, since they would change the machine.
func byHand() []string { return []string{"systemctl restart rabbitmq-server"} }

// A command begins with one of these.
var programs = regexp.MustCompile(`^(?:sudo |\$ )*(avoqado-edge|(?:\./)?bin/avoqado-edge|go (?:run|test|tool)|make|node|java|npm|curl|openssl|apt|dpkg|dnf|systemctl|journalctl|systemd-analyze|adduser|chmod|chgrp|chown|cp|install|rabbitmq\w*|rabbitmq-plugins|docker|mosquitto\w*|scripts/\S+)(?: |$)`)

// TestDocuments runs the commands that the documents show, or finds who does.
func TestDocuments(t *testing.T) {
	root := filepath.Join("..", "..")
	all := commandsIn(t, root)
	if len(all) < 60 {
		t.Fatalf("only %d commands were found", len(all))
	}
	place := newDocumentPlace(t)
	packages, err := os.ReadFile(filepath.Join(root, "scripts", "test-packages"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, c := range all {
		line := strings.TrimPrefix(strings.TrimPrefix(c.line, "$ "), "sudo ")
		line = regexp.MustCompile(`^(\./)?bin/avoqado-edge`).ReplaceAllString(line, "avoqado-edge")
		line, _, _ = strings.Cut(line, " | ") // what others do with it is theirs
		// What the packages' pages show is run by their test as it stands there.
		if seen[line] || strings.Contains(string(packages), "page '"+c.line+"'") {
			continue
		}
		seen[line] = true
		if err := place.check(root, line, c.whole); err != nil {
			t.Errorf("%s: %s\n\t%v", c.file, c.line, err)
		}
	}
}

// commandsIn returns the commands in the documents: in fenced blocks that name no
// language but the shell's, in indented blocks, and between backquotes.
func commandsIn(t *testing.T, root string) (list []shown) {
	t.Helper()
	files := []string{
		"README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "TERMINALS.md", "BACKEND.md", "CHANGELOG.md",
		"packaging/README.md", "systemd/README.md", "configs/README.md",
	}
	for _, pattern := range []string{"internal/*/DESIGN.md", "internal/*/*/DESIGN.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, path := range found {
			rel, _ := filepath.Rel(root, path) // it is below
			files = append(files, rel)
		}
	}
	fence := regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```")
	aside := regexp.MustCompile(`\s{2,}\S.*$`) // what it does, behind it
	inline := regexp.MustCompile("`([^`]+)`")
	for _, file := range files {
		raw, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		add := func(line string, whole bool) {
			if line = strings.TrimSpace(line); programs.MatchString(line) {
				list = append(list, shown{file, line, whole})
			}
		}
		text := string(raw)
		for _, block := range fence.FindAllStringSubmatch(text, -1) {
			if !slices.Contains([]string{"", "sh", "console"}, block[1]) {
				continue
			}
			for line := range strings.Lines(block[2]) {
				add(aside.ReplaceAllString(strings.TrimSpace(line), ""), true)
			}
		}
		text = fence.ReplaceAllString(text, "")
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "    ") {
				add(aside.ReplaceAllString(strings.TrimSpace(line), ""), true)
			}
		}
		for paragraph := range strings.SplitSeq(text, "\n\n") {
			for _, code := range inline.FindAllStringSubmatch(strings.ReplaceAll(paragraph, "\n", " "), -1) {
				add(code[1], false)
			}
		}
	}
	return list
}

// documentPlace is where commands are run: a folder with a box and a broker.
type documentPlace struct {
	t      *testing.T
	dir    string
	broker string
}

func newDocumentPlace(t *testing.T) *documentPlace {
	t.Helper()
	dir := t.TempDir()
	broker, err := cloud.ListenBroker("127.0.0.1:0", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = broker.Run(ctx) })
	t.Cleanup(func() { stop(); running.Wait() })
	p := &documentPlace{t: t, dir: dir, broker: strings.TrimPrefix(broker.URL(), "tcp://")}

	text := fmt.Sprintf("box: {id: b1, venue: venue-dev}\nstate_dir: %q\nsocket: %q\nlan: {listen: \"127.0.0.1:0\"}\nuplink: {brokers: [%q]}\ndiscovery: {mode: off}\nauth: {access_token_secret: %q}\n",
		filepath.Join(dir, "state"), filepath.Join(dir, "box.sock"), broker.URL(), testSecret)
	if err := os.WriteFile(filepath.Join(dir, "box.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	box := p.command("run", "--config", "box.yaml")
	if err := box.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = box.Process.Signal(syscall.SIGTERM); _ = box.Wait() })
	for deadline := time.Now().Add(patience); p.command("status").Run() != nil; {
		if time.Now().After(deadline) {
			t.Fatal("the box does not come up")
		}
	}
	return p
}

func (p *documentPlace) command(args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	p.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "avoqado-edge", args...)
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), "HOME="+p.dir, "AVOQADO_EDGE_SOCKET="+filepath.Join(p.dir, "box.sock"), "ACCESS_TOKEN_SECRET="+testSecret)
	return cmd
}

// check runs a command, or says why it is not seen to work.
func (p *documentPlace) check(root, line string, whole bool) error {
	words := strings.Fields(line)
	program := words[0]
	if strings.HasPrefix(line, "go run ./cmd/avoqado-edge") {
		program, words = "avoqado-edge", append([]string{"avoqado-edge"}, words[3:]...)
	}
	if program == "avoqado-edge" {
		if err := typed(words[1:], false); err != nil || len(words) == 1 {
			return err
		}
	}
	for _, row := range elsewhere() {
		if !strings.HasPrefix(line, row[0]) || strings.HasPrefix(line, "go run") {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(root, row[1]))
		if err == nil && !strings.Contains(string(raw), row[2]) {
			err = fmt.Errorf("%s does not run it: there is no %s in it", row[1], row[2])
		}
		return err
	}
	switch program {
	case "avoqado-edge":
		if err := typed(words[1:], true); err != nil {
			if whole {
				return err
			}
			return nil // a mention: its arguments are left out
		}
		err := p.run(words[1:])
		if stopped, ok := errors.AsType[*exec.ExitError](err); ok && !whole && stopped.ExitCode() == ExitUsage {
			return nil // a mention again, without its flags
		}
		return err
	case "make":
		out, err := exec.Command("sh", "-c", "make -s -n -C "+root+" "+strings.TrimPrefix(line, "make")).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	case "go":
		return goTest(root, words[1:])
	}
	if strings.HasPrefix(program, "scripts/") {
		_, err := os.Stat(filepath.Join(root, program))
		return err
	}
	if slices.ContainsFunc(byHand(), func(begin string) bool { return strings.HasPrefix(line, begin) }) {
		return nil
	}
	return fmt.Errorf("nobody runs it: a test must, or the table here say which does")
}

// typed parses a command and its flags, and its arguments if it must be complete.
func typed(args []string, complete bool) error {
	root := newRoot(Streams{})
	root.InitDefaultCompletionCmd()
	cmd, rest, err := root.Find(args)
	if err != nil {
		return err
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	left := cmd.Flags().Args()
	if cmd.HasSubCommands() && len(left) > 0 {
		return fmt.Errorf("%s has no command %s", cmd.CommandPath(), left[0])
	}
	switch {
	case !complete:
		return nil
	case cmd.HasSubCommands():
		return fmt.Errorf("%s is no command but a family of them", cmd.CommandPath())
	}
	if err := cmd.ValidateRequiredFlags(); err != nil {
		return err
	}
	return cmd.ValidateArgs(left)
}

// run runs a complete command against the box. One that runs until it is
// interrupted is, once it has said something.
func (p *documentPlace) run(args []string) error {
	path := strings.Join(args, " ")
	path = strings.NewReplacer("--mqtt 127.0.0.1:1883", "--mqtt 127.0.0.1:0", "127.0.0.1:1883", p.broker, "/media/usb", p.dir,
		"--config config.yaml", "--config other.yaml", "--state state", "--state other", "--socket state/avoqado-edge.sock", "--socket box.sock").Replace(path)
	begins := func(with ...string) bool {
		return slices.ContainsFunc(with, func(w string) bool { return path == w || strings.HasPrefix(path, w+" ") })
	}
	switch {
	case begins("config check", "config show", "doctor", "diagnostics", "backup"):
		path += " --config box.yaml"
	case begins("run"): // another box, beside ours
		raw, err := os.ReadFile(filepath.Join(p.dir, "box.yaml"))
		if err != nil {
			return err
		}
		other := strings.NewReplacer(filepath.Join(p.dir, "state"), filepath.Join(p.dir, "other"), "box.sock", "other.sock").Replace(string(raw))
		if err := os.WriteFile(filepath.Join(p.dir, "other.yaml"), []byte(other), 0o600); err != nil {
			return err
		}
	}
	cmd := p.command(strings.Fields(path)...)
	if begins("run") {
		cmd.Env = append(cmd.Env, "AVOQADO_EDGE_SOCKET=", "AVOQADO_EDGE_LAN_LISTEN=127.0.0.1:0") // as in its configuration; 8080 may be taken
	}
	var said lockedBuffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if !begins("run", "dev", "cloud listen", "events tail") && !strings.Contains(path, "--watch") {
		err := cmd.Run()
		code := cmd.ProcessState.ExitCode()
		if code == ExitOK || code == ExitDegraded || (code == ExitFailed && begins("doctor", "discover")) {
			return nil
		}
		return fmt.Errorf("%s: %w: %s", path, err, said.String())
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); said.String() == "" && time.Now().Before(deadline); {
		<-tick.C
	}
	_ = cmd.Process.Signal(os.Interrupt)
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w: %s", path, err, said.String())
	}
	return nil
}

// goTest looks whether the packages and tests of a go test line exist.
func goTest(root string, args []string) error {
	pattern, packages := "", []string(nil)
	for i := 1; i < len(args); i++ {
		switch {
		case args[i] == "-run" && i+1 < len(args):
			i++
			pattern = strings.Trim(args[i], "'$")
		case strings.HasPrefix(args[i], "./"):
			packages = append(packages, strings.TrimSuffix(args[i], "/..."))
		}
	}
	for _, dir := range packages {
		if dir == "." || dir == "./" {
			continue
		}
		files, err := filepath.Glob(filepath.Join(root, dir, "*_test.go"))
		if err != nil || len(files) == 0 {
			return fmt.Errorf("%s has no tests", dir)
		}
		if pattern == "" || pattern == "xx" { // xx is no test, for benchmarks alone
			continue
		}
		has := slices.ContainsFunc(files, func(file string) bool {
			raw, err := os.ReadFile(file)
			return err == nil && regexp.MustCompile(`(?m)^func Test\w*`+strings.TrimPrefix(strings.TrimPrefix(pattern, "^"), "Test")).Match(raw)
		})
		if !has {
			return fmt.Errorf("%s has no test %s", dir, pattern)
		}
	}
	return nil
}

// lockedBuffer collects what a process says while it is looked at.
type lockedBuffer struct {
	mu   sync.Mutex // guards below
	text strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
