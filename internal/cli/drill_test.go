package cli

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/api"
)

// A report says who went away, and a length of time is one that staff can read.
func TestDrillReport(t *testing.T) {
	for _, tt := range []struct {
		fewest int
		want   string
	}{
		{fewest: 20},
		{fewest: 18, want: "2 went away while it lasted"},
	} {
		var out strings.Builder
		d := drill{Ready: true, Clients: 20, Fewest: tt.fewest, Held: 3, Confirmed: "backend"}
		if err := d.print(Streams{Out: &out}); err != nil {
			t.Fatal(err)
		}
		if got := out.String(); !strings.Contains(got, "Ready: ") || strings.Contains(got, "went away") != (tt.want != "") || !strings.Contains(got, tt.want) {
			t.Errorf("never fewer than %d: %s", tt.fewest, got)
		}
	}
	for d, want := range map[time.Duration]string{2 * time.Minute: "2 min", 90 * time.Second: "90 s", 5 * time.Second: "5 s"} {
		if got := spoken(d); got != want {
			t.Errorf("%s is said as %q", d, got)
		}
	}
}

// Who presses Ctrl-C has the box connected again at once, not when the time that
// was asked for is over, also where the answer to it was still on its way.
func TestInterruptedDrillEndsTheCut(t *testing.T) {
	t.Run("answered", func(t *testing.T) { interruptDrill(t, func(*http.Request) {}) })
	t.Run("not answered", func(t *testing.T) { interruptDrill(t, func(r *http.Request) { <-r.Context().Done() }) })
}

func interruptDrill(t *testing.T, answer func(*http.Request)) {
	cuts := make(chan string, 8)
	st := api.Status{Uplink: api.UplinkStatus{State: "online"}, Journal: api.JournalStatus{Level: "ok"}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/status", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(st) })
	mux.HandleFunc("POST /api/v1/uplink/cut", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		cuts <- string(body)
		if string(body) != `{"forMs":0}` {
			answer(r)
		}
		_, _ = w.Write(body)
	})
	cmd := exec.Command("avoqado-edge", "drill", "--for", "10m", "--quiet", "--socket", stand(t, mux))
	var said bytes.Buffer
	cmd.Stdout = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	giveUp := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer giveUp.Stop()
	select {
	case cut := <-cuts:
		if cut != `{"forMs":600000}` {
			t.Errorf("it begins with %s", cut)
		}
	case <-time.After(patience):
		t.Fatal("it does not begin")
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // the exit code tells
	if code := cmd.ProcessState.ExitCode(); code != ExitDegraded || !strings.Contains(said.String(), "NOT READY: it was interrupted") {
		t.Errorf("%s: %s", cmd.ProcessState, said.String())
	}
	select {
	case cut := <-cuts:
		if cut != `{"forMs":0}` {
			t.Errorf("it ends with %s", cut)
		}
	default:
		t.Error("the box stays cut off")
	}
}

// stand stands in for a running box, and returns its socket.
func stand(t *testing.T, answer http.Handler) (socket string) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "box.sock"))
	if err != nil {
		t.Fatal(err)
	}
	box := &http.Server{Handler: answer, ReadHeaderTimeout: patience}
	var serving sync.WaitGroup
	serving.Go(func() { _ = box.Serve(l) })
	t.Cleanup(func() {
		_ = box.Close()
		serving.Wait()
	})
	return l.Addr().String()
}

// What was dropped does not look as if it were still to be sent.
func TestSettledEventsAreMarked(t *testing.T) {
	socket := stand(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"settled":[{"seq":7,"event":"order_deleted","decision":"drop"},{"seq":8,"event":"order_deleted","decision":"retry","again":20},
			{"seq":9,"event":"order_deleted","decision":"edit","again":10,"synced":true}]}`)
	}))
	var out strings.Builder
	if code := Main(t.Context(), []string{"events", "list", "--settled", "--socket", socket}, Streams{Out: &out, Err: &out}); code != ExitOK {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{"7 ✗ ", "8 ↷ ", "9 ✓ "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}
