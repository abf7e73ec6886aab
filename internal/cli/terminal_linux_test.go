package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/avoqado/avoqado-edge/internal/api"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/journal"
)

// terminal returns both ends of a pseudo-terminal: what a command writes to,
// and what a person would see.
func terminal(t *testing.T) (tty, screen *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("this machine has no pseudo-terminals: ", err)
	}
	t.Cleanup(func() { _ = screen.Close() })
	n, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	if tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Skip("this machine has no pseudo-terminals: ", err)
	}
	t.Cleanup(func() { _ = tty.Close() })
	return tty, screen
}

// seen returns what is on the screen by now.
func seen(t *testing.T, tty, screen *os.File) string {
	t.Helper()
	const end = "\x00end of the screen"
	if _, err := tty.WriteString(end); err != nil {
		t.Fatal(err)
	}
	var text []byte
	buf := make([]byte, 4096)
	for !bytes.Contains(text, []byte(end)) {
		n, err := screen.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, buf[:n]...)
	}
	return strings.TrimSuffix(string(text), end)
}

// longJournal makes a journal of several segments that every follower has.
func longJournal(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "journal")
	o := journal.Options{SegmentBytes: 64 << 10}
	if err := journal.Create(dir, o); err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- j.Run(ctx) }()
	const events = 200
	for range events {
		e := event.Event{
			ID: event.NewID(), Kind: event.PaymentCompleted, Class: event.Money, Time: time.Now(),
			Payload: []byte(`{"note":"` + strings.Repeat("x", 2000) + `"}`),
		}
		if _, err := j.Append(ctx, &e); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.MoveCursor("uplink", events); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestBarsOnATerminal runs what may take long with a clock that is in a hurry:
// on a terminal it shows how far it is, elsewhere it says nothing of it.
func TestBarsOnATerminal(t *testing.T) {
	dir := longJournal(t)
	file := filepath.Join(t.TempDir(), "box.gz")
	for _, c := range []struct {
		args []string
		bar  string
	}{
		{[]string{"check", "--dir", dir}, "Checking  ["},
		{[]string{"repair", "--dir", dir, "--dry-run"}, "Checking  ["},
		{[]string{"repair", "--dir", dir}, "Repairing  ["},
		{[]string{"backup", "--dir", dir, file}, "Backing up  ["},
		{[]string{"restore", file, "--dir", dir + "2"}, "Restoring  ["},
		{[]string{"compact", "--dir", dir, "--keep", "0s"}, "Compacting  "},
	} {
		for _, there := range []bool{false, true} {
			if there && (c.args[0] == "restore" || c.args[0] == "compact") {
				dir = longJournal(t) // what the turn before has used up
				switch c.args[0] {
				case "restore":
					c.args[3] = dir + "2"
				case "compact":
					c.args[2] = dir
				}
			}
			tty, screen := terminal(t)
			at := time.Unix(0, 0)
			s := Streams{Out: &bytes.Buffer{}, Err: &bytes.Buffer{}, now: func() time.Time {
				at = at.Add(2 * time.Second)
				return at
			}}
			if there {
				s.Err = tty
			}
			code := Main(t.Context(), append([]string{"journal"}, c.args...), s)
			text := seen(t, tty, screen)
			if !there {
				text = fmt.Sprint(s.Err)
			}
			if code != ExitOK || strings.Contains(text, c.bar) != there || there && !strings.Contains(text, "\r\x1b[K") {
				t.Errorf("%v, terminal %v: exit code %d, %q", c.args, there, code, text)
			}
		}
	}
}

// A status that is watched stays in its place, whatever stood there before.
func TestStatusIsRedrawnInPlace(t *testing.T) {
	tty, screen := terminal(t)
	st := api.Status{Box: "b1", Way: []api.Hop{{Name: "lan", State: "ok"}, {Name: "internet", State: "down", Since: time.Now().Add(-2 * time.Minute)}}}
	if err := redrawStatus(tty, st, &surroundings{}); err != nil {
		t.Fatal(err)
	}
	got := seen(t, tty, screen)
	if !strings.HasPrefix(got, "\x1b[HBox      b1") || !strings.HasSuffix(got, "\x1b[K\r\n\x1b[J") || strings.Contains(got, "\x1b[2J") {
		t.Errorf("the screen is given %q", got)
	}
	if !strings.Contains(got, "lan ok > internet down for 2 min\x1b[K") {
		t.Errorf("the way is not told in %q", got)
	}
}
