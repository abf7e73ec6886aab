package boxtest

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/spec"

	"github.com/avoqado/avoqado-edge/internal/needs"
)

// TestDocumentIsValid has the official parser read what the box serves, and
// refuse what is wrong.
func TestDocumentIsValid(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("the parser takes its time")
	}
	s, err := spec.Load()
	if err != nil {
		t.Fatal(err)
	}
	document := s.Document("1.0.0")
	if out, err := validate(t, document); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	for _, c := range [][2]string{
		{"action: receive", "action: listen"},
		{"#/channels/lan/messages/payment_completed.ack", "#/channels/lan/messages/nothing"},
	} {
		broken := bytes.Replace(document, []byte(c[0]), []byte(c[1]), 1)
		if bytes.Equal(broken, document) {
			t.Errorf("the document holds no %s", c[0])
			continue
		}
		if out, err := validate(t, broken); err == nil {
			t.Errorf("%s is accepted\n%s", c[1], out)
		}
	}
}

func validate(t *testing.T, document []byte) (string, error) {
	t.Helper()
	if _, err := os.Stat(clientDir("asyncapi") + "/node_modules/@asyncapi/parser"); err != nil {
		needs.Missing(t, "the parser of AsyncAPI documents is not installed: run scripts/setup")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, needs.Program(t, "node"), clientDir("asyncapi")+"/validate.mjs")
	cmd.Dir, cmd.Stdin = clientDir("asyncapi"), bytes.NewReader(document)
	out, err := cmd.CombinedOutput()
	return string(out), err
}
