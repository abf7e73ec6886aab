package boxtest

import (
	"os/exec"
	"strings"
	"testing"
)

// TestLinkerDropsWhatNobodyCalls: a template that runs calls methods by their
// names, and then the linker keeps every exported method of every type: a third
// of the program. Who imports a template package (cobra does) must not run it.
func TestLinkerDropsWhatNobodyCalls(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "tool", "nm", Binary(t)).Output()
	if err != nil {
		t.Fatal(err)
	}
	symbols := string(out)
	if !strings.Contains(symbols, "internal/spec.(*Spec).Page") {
		t.Fatal("the program's symbols cannot be read")
	}
	if strings.Contains(symbols, "text/template.(*state).evalField") {
		t.Error("the program runs templates: see go build -ldflags=-dumpdep | grep ReflectMethod")
	}
}
