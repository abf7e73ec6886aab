package boxtest

import (
	"os"
	"testing"

	// The tests build and run the program; this makes a cached result of theirs
	// depend on all of its code.
	_ "github.com/avoqado/avoqado-edge/internal/cli"
)

func TestMain(m *testing.M) {
	code := m.Run()
	RemoveBinary()
	os.Exit(code)
}
