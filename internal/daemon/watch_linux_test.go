package daemon

import (
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/needs"
)

func TestWatchAsksALinkLocalAddress(t *testing.T) { needs.Apart(t, "^TestLinkLocalAddress$") }

// A box that lan.listen binds to an address of one link, which has the name of its
// interface in it, is asked there and found to work.
func TestLinkLocalAddress(t *testing.T) {
	needs.OnlyApart(t)
	for _, args := range []string{"link set lo up", "link add link0 type veth peer name link1", "link set link1 up", "addr add fe80::1/64 dev link0 nodad", "link set link0 up"} {
		if out, err := exec.Command(needs.Program(t, "ip"), strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v %s", args, err, out)
		}
	}
	l, err := net.Listen("tcp", "[fe80::1%link0]:0")
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan string, 1)
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked <- r.URL.Path })}
	go func() { _ = srv.Serve(l) }()
	defer func() { _ = srv.Close() }()
	at, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		t.Fatalf("%T", l.Addr())
	}
	at.Zone = "link0" // not each kernel says it
	if err := answers(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	if path := <-asked; path != "/healthz" {
		t.Errorf("asked for %s", path)
	}
}
