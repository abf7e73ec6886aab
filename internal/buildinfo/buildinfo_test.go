package buildinfo

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
)

func settings(kv ...string) debug.BuildInfo {
	var b debug.BuildInfo
	for i := 0; i < len(kv); i += 2 {
		b.Settings = append(b.Settings, debug.BuildSetting{Key: kv[i], Value: kv[i+1]})
	}
	return b
}

func TestReadEmbedded(t *testing.T) {
	b := settings("vcs.revision", "1a2b3c4d5e6f7a8b", "vcs.time", "2026-11-23T10:00:00Z", "vcs.modified", "true", "GOARM", "6,softfloat")
	b.Main.Version = "v1.2.3"
	got := read(b)
	want := Info{
		Version: "1.2.3", Commit: "1a2b3c4d5e6f7a8b", Date: "2026-11-23T10:00:00Z", Modified: true,
		Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH + "/6",
	}
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	line := "1.2.3 (1a2b3c4d5e6f, 2026-11-23T10:00:00Z, modified) " +
		runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH + "/6"
	if got.String() != line {
		t.Errorf("reads %q, want %q", got, line)
	}
}

func TestReadNothing(t *testing.T) {
	for _, main := range []string{"", "(devel)"} {
		b := settings()
		b.Main.Version = main
		got := read(b)
		if want := "devel " + runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH; got.String() != want {
			t.Errorf("reads %q, want %q", got, want)
		}
	}
}

func TestJSON(t *testing.T) {
	got, err := json.Marshal(Info{Version: "1.2.3", Go: "go1.26", OS: "linux", Arch: "arm64"})
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"version":"1.2.3","go":"go1.26","os":"linux","arch":"arm64"}`; string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestReadThisProgram(t *testing.T) {
	if got := Read(); got.Version == "" || got.Go != runtime.Version() {
		t.Errorf("got %+v", got)
	}
}

// TestLinkerSetsTheVariables builds this test as a release is built: a
// renamed variable would otherwise be noticed by nobody.
func TestLinkerSetsTheVariables(t *testing.T) {
	if version != "" { // this is the program built below
		if s := Read().String(); !strings.HasPrefix(s, "9.8.7 (cafe, 2026-01-02T03:04:05Z") {
			t.Errorf("reads %q", s)
		}
		return
	}
	if testing.Short() {
		t.Skip("builds a program")
	}
	const at = "-X github.com/avoqado/avoqado-edge/internal/buildinfo."
	program := filepath.Join(t.TempDir(), "release.test")
	build := exec.Command("go", "test", "-c", "-o", program,
		"-ldflags", at+"version=v9.8.7 "+at+"commit=cafe "+at+"date=2026-01-02T03:04:05Z", ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	if out, err := exec.Command(program, "-test.v", "-test.run=^TestLinkerSetsTheVariables$").CombinedOutput(); err != nil ||
		!strings.Contains(string(out), "--- PASS") {
		t.Errorf("%v\n%s", err, out)
	}
}
