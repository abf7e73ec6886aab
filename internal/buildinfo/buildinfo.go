package buildinfo

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
)

// The release build sets these; they are variables because the linker can set
// nothing else:
//
//	go build -ldflags "-X github.com/avoqado/avoqado-edge/internal/buildinfo.version=1.2.3
//	  -X github.com/avoqado/avoqado-edge/internal/buildinfo.commit=… -X ….date=2026-11-23T10:00:00Z"
//
// What is not set comes from the information the Go tool embeds.
var version, commit, date string //nolint:gochecknoglobals // Set by the linker, never written here.

// Info is what is known about the build.
type Info struct {
	Version  string `json:"version"`            // such as 1.2.3; "devel" if it has none
	Commit   string `json:"commit,omitempty"`   // full hash; empty if not known
	Date     string `json:"date,omitempty"`     // of the commit, RFC 3339; empty if not known
	Modified bool   `json:"modified,omitempty"` // built from a work tree with changes
	Go       string `json:"go"`                 // version of the compiler, such as go1.26.1
	OS       string `json:"os"`
	Arch     string `json:"arch"` // with the variant on ARM: arm/6
}

// Read returns the information of the running program.
func Read() Info {
	var embedded debug.BuildInfo
	if b, ok := debug.ReadBuildInfo(); ok {
		embedded = *b
	}
	return read(embedded)
}

func read(b debug.BuildInfo) Info {
	info := Info{
		Version: strings.TrimPrefix(version, "v"), Commit: commit, Date: date,
		Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH,
	}
	if v := strings.TrimPrefix(b.Main.Version, "v"); info.Version == "" && v != "(devel)" {
		info.Version = v
	}
	if info.Version == "" {
		info.Version = "devel"
	}
	for _, s := range b.Settings {
		switch s.Key {
		case "vcs.revision":
			if info.Commit == "" {
				info.Commit = s.Value
			}
		case "vcs.time":
			if info.Date == "" {
				info.Date = s.Value
			}
		case "vcs.modified":
			info.Modified = s.Value == "true"
		case "GOARM":
			// "6", or "6,softfloat".
			variant, _, _ := strings.Cut(s.Value, ",")
			info.Arch += "/" + variant
		}
	}
	return info
}

// String returns the information as one line: 1.2.3 (1a2b3c4d5e6f,
// 2026-11-23T10:00:00Z) go1.26.1 linux/arm64.
func (i Info) String() string {
	var from []string
	if i.Commit != "" {
		from = append(from, i.Commit[:min(12, len(i.Commit))])
	}
	if i.Date != "" {
		from = append(from, i.Date)
	}
	if i.Modified {
		from = append(from, "modified")
	}
	text := i.Version
	if len(from) > 0 {
		text += " (" + strings.Join(from, ", ") + ")"
	}
	return fmt.Sprintf("%s %s %s/%s", text, i.Go, i.OS, i.Arch)
}
