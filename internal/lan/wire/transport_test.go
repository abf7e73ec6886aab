package wire

import (
	"io"
	"testing"

	"github.com/zishang520/socket.io/servers/engine/v3/transports"
)

// TestPanicEndsOneConnection has a message panic where it is decoded: the
// transport was never told its protocol.
func TestPanicEndsOneConnection(t *testing.T) {
	contained := 0
	h := New(Config{Guard: func(f func()) (ok bool) {
		defer func() {
			if recover() != nil {
				contained++
			}
		}()
		f()
		return true
	}})
	client, server := pipe(t)
	tr := &Transport{Transport: transports.MakeTransport()}
	tr.Prototype(tr)
	if err := tr.init(h, server, tr); err != nil {
		t.Fatal(err)
	}
	ended := 0
	_ = tr.On("close", func(...any) { ended++ })
	tr.begin()

	if _, err := client.Write(clientFrame(0x80|opText, "2probe")); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(client); err != nil || len(b) > 0 {
		t.Errorf("the client got %q, %v", b, err)
	}
	h.group.Wait()
	if contained != 1 || ended != 1 {
		t.Errorf("%d panics contained, the end said %d times", contained, ended)
	}
}
