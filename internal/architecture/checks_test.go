package architecture

import (
	"strings"
	"testing"
	"testing/fstest"
)

// TestChecksCanFail shows every check a small repository that breaks one rule,
// and the same one mended.
func TestChecksCanFail(t *testing.T) {
	for _, c := range []struct {
		name  string
		check func(source) []string
		file  string
		bad   string
		want  string // part of the only complaint
		good  string
	}{
		{
			"arrow", checkArrows, "internal/lan/a.go",
			`package lan; import _ "` + module + `/internal/journal"`, "imports internal/journal",
			`package lan; import _ "` + module + `/internal/event"`,
		},
		{
			"arrow of a package without a row", checkArrows, "internal/util/a.go",
			`package util`, "no row", "",
		},
		{
			"arrow to test support", checkArrows, "internal/daemon/a.go",
			`package daemon; import _ "` + module + `/internal/boxtest"`, "for tests", `package daemon`,
		},
		{
			"arrow from a test file", checkArrows, "cmd/avoqado-edge/a.go",
			`package main; import _ "` + module + `/internal/journal"`, "imports internal/journal",
			`package main; import _ "` + module + `/internal/cli"`,
		},
		{
			"wall", checkWalls, "internal/lan/a.go",
			`package lan; import _ "go.etcd.io/bbolt"`, "lives in",
			`package lan; import _ "github.com/zishang520/socket.io/servers/socket/v3"`,
		},
		{
			"library without a row", checkWalls, "internal/lan/a.go",
			`package lan; import _ "example.com/left/pad"`, "no row", `package lan; import _ "net/http"`,
		},
		{
			"library for tests in the code", checkWalls, "internal/lan/a.go",
			`package lan; import _ "pgregory.net/rapid"`, "lives in", `package lan`,
		},
		{
			"no package comment", checkPackageDoc, "internal/lan/doc.go",
			"package lan", "0 package comments", "// Package lan serves.\npackage lan",
		},
		{
			"package comment without an end", checkPackageDoc, "internal/lan/doc.go",
			"// Package lan serves\npackage lan", "whole sentence",
			"// Package lan serves\n// all of them.\n//\n// It also eats. Much.\npackage lan",
		},
		{
			"package comment without its name", checkPackageDoc, "internal/lan/doc.go",
			"// Serves.\npackage lan", "does not begin with", "",
		},
		{
			"command comment", checkPackageDoc, "cmd/avoqado-edge/main.go",
			"// Package main runs.\npackage main", "does not begin with", "// Command avoqado-edge runs.\npackage main",
		},
		{
			"function without a comment", checkDocumented, "internal/lan/a.go",
			"package lan\nfunc Serve() {}", "exported Serve", "package lan\n// Serve serves.\nfunc Serve() {}",
		},
		{
			"method without a comment", checkDocumented, "internal/lan/a.go",
			"package lan\ntype s[T any] int\n// S is one.\ntype S[T any] int\nfunc (*S[T]) Run() {}\nfunc (s[T]) Run() {}", "exported S.Run",
			"package lan\n// S is one.\ntype S int\n// Run runs.\nfunc (*S) Run() {}",
		},
		{
			"type without a comment", checkDocumented, "internal/lan/a.go",
			"package lan\n// Both.\ntype (\nS int\n)", "exported S", "package lan\ntype (\n// S is one.\nS int\n)",
		},
		{
			"constant without a comment", checkDocumented, "internal/lan/a.go",
			"package lan\nconst Max = 1", "exported Max", "package lan\n// Limits.\nconst (\nMax = 1\nMin = 0\n)",
		},
		{
			"long file", checkSizes, "internal/lan/a.go",
			"package lan\n" + strings.Repeat("\n", maxFileLines), "501, more than 500",
			"package lan\n" + strings.Repeat("\n", maxFileLines-1),
		},
		{
			"long function", checkSizes, "internal/lan/a.go",
			"package lan\nfunc f() {" + strings.Repeat("\n", maxFunctionLines) + "}", "f has 101",
			"package lan\nfunc f() {" + strings.Repeat("\n", maxFunctionLines-1) + "}",
		},
		{
			"wide interface", checkSizes, "internal/lan/a.go",
			"package lan\ntype I interface {A(); B(); C(); D(); E(); F()}", "I has 6",
			"package lan\ntype I interface {A(); B(); C(); D(); E()}",
		},
		{
			"init", checkHabits, "internal/lan/a.go",
			"package lan\nfunc init() {}", "init runs", "package lan\ntype t int\nfunc (t) init() {}",
		},
		{
			"exit", checkHabits, "internal/lan/a.go",
			"package lan\nimport sys \"os\"\nfunc f() { sys.Exit(1) }", "os.Exit",
			"package lan\nimport \"os\"\nfunc f() { os.Getpid() }",
		},
		{
			"log", checkHabits, "internal/lan/a.go",
			"package lan\nimport \"log\"\nfunc f() { log.Fatal() }", "package log",
			"package lan\nimport log \"log/slog\"\nfunc f() { log.Info(``) }",
		},
		{
			"sleep in a test", checkHabits, "internal/lan/a_test.go",
			"package lan\nimport \"time\"\nfunc f() { time.Sleep(1) }", "time.Sleep",
			"package lan\nimport \"time\"\nfunc f() { time.Now() }",
		},
		{
			"sleep in test support", checkHabits, "internal/boxtest/a.go",
			"package boxtest\nimport \"time\"\nfunc f() { time.Sleep(1) }", "time.Sleep", "package boxtest",
		},
		{
			"bare go", checkHabits, "internal/lan/a.go",
			"package lan\nfunc f() { go f() }", "bare go", "package lan\nimport \"sync\"\nfunc f(wg *sync.WaitGroup) { wg.Go(func() {}) }",
		},
		{
			"variable", checkHabits, "internal/lan/a.go",
			"package lan\nvar clients = map[string]int{}", "variable clients",
			"package lan\nimport (\"embed\"; \"errors\"; \"regexp\")\nvar (\nErrGone = errors.New(``)\nword = regexp.MustCompile(`w`)\nkey = []byte(`k`)\n//go:embed x\nfs embed.FS\n_ any = 1\n)",
		},
		{
			"variable named like an error", checkHabits, "internal/lan/a.go",
			"package lan\nvar errors map[string]int", "variable errors", "package lan\nconst errors = 1",
		},
		{
			"package without a row", func(s source) []string { return checkRows(s, "| `internal/lan` | serves | event |\n") },
			"internal/journal/a.go", "package journal", "no row in ARCHITECTURE.md", "",
		},
		{
			"row of other arrows", func(s source) []string { return checkRows(s, "| `internal/journal` | keeps | auth |\n") },
			"internal/journal/a.go", "package journal", "says that it may import auth; it may event", "",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if wrong := c.check(parse(t, c.file, c.bad)); len(wrong) != 1 || !strings.Contains(wrong[0], c.want) {
				t.Errorf("broken: %q; want one complaint with %q", wrong, c.want)
			}
			if c.good == "" {
				return
			}
			if wrong := c.check(parse(t, c.file, c.good)); len(wrong) != 0 {
				t.Errorf("mended: %q", wrong)
			}
		})
	}
}

func TestTestFilesMayImportMore(t *testing.T) {
	s := parse(t, "internal/lan/a_test.go",
		`package lan; import (_ "`+module+`/internal/journal"; _ "go.etcd.io/bbolt"; _ "pgregory.net/rapid")`)
	if wrong := append(checkArrows(s), checkWalls(s)...); len(wrong) != 0 {
		t.Errorf("complaints %q", wrong)
	}
}

func TestPackageCommentElsewhere(t *testing.T) {
	s := parse(t, "internal/lan/lan.go", "// Package lan serves.\npackage lan")
	if wrong := checkPackageDoc(s); len(wrong) != 0 {
		t.Errorf("in the only file: %q", wrong)
	}
	s = append(s, parse(t, "internal/lan/more.go", "package lan")...)
	if wrong := checkPackageDoc(s); len(wrong) != 1 || !strings.Contains(wrong[0], "belongs into doc.go") {
		t.Errorf("in one of two files: %q", wrong)
	}
}

func TestOwnerThatDropsItsLibrary(t *testing.T) {
	s := append(parse(t, "internal/lan/doc.go", "package lan"), parse(t, "internal/lan/lan.go", "package lan")...)
	if wrong := checkWalls(s); len(wrong) != 1 || !strings.Contains(wrong[0], "no longer imports") {
		t.Errorf("complaints %q", wrong)
	}
}

func TestTreeCanFail(t *testing.T) {
	home := "/" + "home/somebody"
	for _, c := range []struct{ name, text, want string }{
		{"docs/README.md", "", "new top-level folder"},
		{"configs/a.yaml", "path: " + home, "configs/a.yaml:1: a path of one machine"},
		{"scripts/x/package-lock.json", "{\n\"resolved\": \"https://registry\"}", "package-lock.json:2: the registry"},
		{"configs/b.yaml", "path: ${ROOT}" + home + "\nurl: https://example.com" + home, ""},
		{"node_modules/a/a.js", home, ""},
		{"internal/lan/testdata/a.txt", home, ""},
		{".hidden/a", "", ""},
	} {
		wrong, err := checkTree(fstest.MapFS{c.name: {Data: []byte(c.text)}})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(wrong, "; "); !strings.Contains(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%s: %q; want %q", c.name, got, c.want)
		}
	}
}

func TestLoadRefusesBrokenFile(t *testing.T) {
	if _, err := load(fstest.MapFS{"internal/lan/a.go": {Data: []byte("package lan\nfunc {")}}); err == nil {
		t.Error("a file that does not parse was accepted")
	}
}

func parse(t *testing.T, name, text string) source {
	t.Helper()
	s, err := load(fstest.MapFS{name: {Data: []byte(text)}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}
