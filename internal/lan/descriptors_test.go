//go:build linux

package lan_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/journal"
	"github.com/avoqado/avoqado-edge/internal/lan"
)

const (
	poorEnv     = "AVOQADO_TEST_POOR" // set: this process is the box of TestDescriptors
	descriptors = 140                 // it may have open
)

// poorJournal begins a new file every few events, for which it needs
// descriptors.
func poorJournal() journal.Options { return journal.Options{SegmentBytes: 64 << 10} }

// TestPoorBox is no test of its own: it is a box with few file descriptors that
// does what it is told on its input.
func TestPoorBox(t *testing.T) {
	if os.Getenv(poorEnv) == "" {
		t.Skip("run by TestDescriptors")
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: descriptors, Max: descriptors}); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "journal")
	if err := journal.Create(dir, poorJournal()); err != nil {
		t.Fatal(err)
	}
	j, _ := run(t, dir, poorJournal())
	b := serve(t, j, j)
	fmt.Fprintln(os.Stdout, ">", b.Addr())
	var eaten []*os.File
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		switch in.Text() {
		case "eat":
			var err error
			for err == nil {
				var f *os.File
				if f, err = os.Open(os.DevNull); err == nil {
					eaten = append(eaten, f)
				}
			}
			if !errors.Is(err, syscall.EMFILE) {
				t.Error(err)
			}
			fmt.Fprintln(os.Stdout, ">", len(eaten))
		case "free":
			for _, f := range eaten {
				_ = f.Close()
			}
			eaten = nil
			fmt.Fprintln(os.Stdout, "> ok")
		case "stats":
			out, _ := json.Marshal(struct {
				LAN     lan.Stats
				Journal journal.Stats
			}{b.Stats(), j.Stats()})
			fmt.Fprintln(os.Stdout, ">", string(out))
		}
	}
}

// poorBox is a box in a process of its own.
type poorBox struct {
	t   *testing.T
	in  io.Writer
	out *bufio.Scanner
	mu  sync.Mutex
}

func (p *poorBox) answer() string {
	p.t.Helper()
	for p.out.Scan() {
		if said, ok := strings.CutPrefix(p.out.Text(), "> "); ok {
			return said
		}
		p.t.Log(p.out.Text())
	}
	p.t.Fatal("the box is gone")
	return ""
}

func (p *poorBox) tell(word string) string {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := fmt.Fprintln(p.in, word); err != nil {
		p.t.Fatal(err)
	}
	return p.answer()
}

// stats is what the box says of itself.
type stats struct {
	LAN     lan.Stats
	Journal struct{ Segments int }
}

func (p *poorBox) stats() (s stats) {
	p.t.Helper()
	if err := json.Unmarshal([]byte(p.tell("stats")), &s); err != nil {
		p.t.Fatal(err)
	}
	return s
}

// TestDescriptors takes the file descriptors away from a box: clients alone
// never get the last ones, so the journal goes on; when something else takes
// even those, who is connected is served, and all is well once they are back.
func TestDescriptors(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestPoorBox$", "-test.timeout=2m") //nolint:gosec // this program
	cmd.Env = append(os.Environ(), poorEnv+"=1")
	cmd.Stderr = t.Output()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	p := &poorBox{t: t, in: in, out: lines}
	t.Cleanup(func() {
		_ = in.Close()
		for lines.Scan() {
			t.Log(lines.Text())
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("the box: %v", err)
		}
	})
	address := p.answer()
	verifier, err := auth.NewVerifier(auth.Config{Venue: venue, Secret: []byte(secret)}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	b := &box{t: t, door: &door{Verifier: verifier}}
	dial := func() *websocket.Conn {
		ws, resp, err := websocket.DefaultDialer.Dial("ws://"+address+"/socket.io/?EIO=4&transport=websocket", nil)
		if err != nil {
			t.Error(err)
			return nil
		}
		_ = resp.Body.Close()
		return ws
	}
	login := func(ws *websocket.Conn) *client {
		t.Helper()
		if ws == nil {
			t.FailNow()
		}
		c := b.on(ws)
		b.login(c, auth.Grant{Subject: "s", Role: event.Waiter}, "")
		return c
	}
	pad := strings.Repeat("x", 20_000)
	paying := func(c *client, n int, pad string) string {
		return c.ask("payment_initiated", fmt.Sprintf(
			`{"paymentId":"p%d","amount":1,"currency":"MXN","venueId":"venue_1","idempotencyKey":"key-%d-----","pad":%q}`, n, n, pad))
	}
	pay := func(c *client, n int) string { return paying(c, n, pad) }
	here := login(dial())

	// Clients alone, of several addresses: one does not get so many.
	var crowd []net.Conn
	for n := range 2 * descriptors {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+n%16))}}
		c, err := d.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		crowd = append(crowd, c)
	}
	until(t, "some were turned away", func() bool { return p.stats().LAN.Refused["no_descriptors"] > descriptors/2 })
	before := p.stats().Journal.Segments
	for n := range 30 {
		if ack := pay(here, n); field(t, ack, "success") != "true" {
			t.Fatalf("payment %d in a crowd: %s", n, ack)
		}
	}
	if after := p.stats().Journal.Segments; after < before+5 {
		t.Errorf("%d segments, then %d: nothing is proven", before, after)
	}
	for _, c := range crowd {
		_ = c.Close()
	}
	until(t, "there is room again", func() bool {
		c, err := net.Dial("tcp", address)
		if err != nil {
			return false
		}
		defer c.Close()
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
		_ = c.SetReadDeadline(time.Now().Add(patience))
		answer, _ := io.ReadAll(c)
		return len(answer) > 0
	})
	login(dial())

	// Something else, just after the journal began a file.
	begun := p.stats().Journal.Segments
	for n := 1000; p.stats().Journal.Segments == begun; n++ {
		pay(here, n)
	}
	p.tell("eat")
	turnedAway := p.stats().LAN.Refused["no_descriptors"]
	waiting := make(chan *websocket.Conn, 1)
	go func() { waiting <- dial() }()
	until(t, "a connection waits", func() bool { return p.stats().LAN.Refused["no_descriptors"] >= turnedAway+3 })
	for n := 2000; n < 2010; n++ {
		if ack := paying(here, n, ""); field(t, ack, "success") != "true" {
			t.Errorf("payment %d: %s", n, ack)
		}
	}
	stored := 0
	for n := 30; n < 40; n++ {
		ack := pay(here, n)
		if field(t, ack, "success") == "true" {
			stored++
		} else if field(t, ack, "retryable") != "true" {
			t.Errorf("payment %d: %s", n, ack)
		}
	}
	t.Logf("%d of 10 payments stored that take several files", stored)
	if n := p.stats().LAN.Refused["no_descriptors"] - turnedAway; n > 1000 {
		t.Errorf("the box tried %d times to accept: it is busy with that alone", n)
	}
	p.tell("free")
	select {
	case ws := <-waiting:
		if ack := pay(login(ws), 40); field(t, ack, "success") != "true" {
			t.Errorf("who waited: %s", ack)
		}
	case <-time.After(patience):
		t.Fatal("who waited is not served")
	}
	for n := range 40 {
		until(t, "each payment is stored", func() bool { return field(t, pay(here, n), "success") == "true" })
	}
	if s := p.stats().LAN; s.Starved.IsZero() || s.Panics > 0 {
		t.Errorf("starved at %s, %d panics", s.Starved, s.Panics)
	}
}
