package lan_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/lan"
)

// Here are the faults of the library that no other test meets; see the table in
// DESIGN.md.

// TestDisconnectTwice has the library say twice that a socket is gone.
func TestDisconnectTwice(t *testing.T) {
	b := start(t)
	const table = `{"roomType":"table","venueId":"venue_1","tableId":"t"}`
	leaving, witness := b.as(event.Waiter), b.as(event.Viewer)
	leaving.ask("join_room", table)
	witness.ask("join_room", table)
	b.Disconnect(leaving.sid)
	b.Disconnect(leaving.sid)
	_ = leaving.ws.Close()
	until(t, "only the witness is left", func() bool { return b.Left() == [4]int{1, 1, 1, 1} })
	if got := witness.want("table_status_change"); field(t, got, "type") != `"user_left_table"` {
		t.Errorf("got %s", got)
	}
	b.quiet(witness, "table_status_change")
	if n := b.Stats().Panics; n != 0 {
		t.Errorf("%d panics:\n%s", n, b.logs)
	}
}

// TestCallbacksPanic breaks each callback that the library or a timer runs. The
// library alone would end the process, or leave a socket that hears nothing.
func TestCallbacksPanic(t *testing.T) {
	b := start(t)
	witness := b.as(event.Viewer)

	b.logs.breakOn("client connected")
	c := b.dial("", nil)
	c.raw(`40{"token":"` + b.mint(auth.Grant{Subject: "s", Role: event.Waiter}) + `"}`)
	until(t, "a socket that could not be taken in is closed", c.closed)
	until(t, "nothing of it is left", func() bool { return b.Left() == [4]int{1, 1, 1, 1} })
	b.logs.breakOn("client disconnected")
	_ = b.as(event.Waiter).ws.Close()
	until(t, "both are contained", func() bool { return b.Stats().Panics == 2 })
	b.logs.breakOn("")

	b.door.panics.Store(true)
	b.Sweep()
	b.door.panics.Store(false)
	if n := b.Stats().Panics; n != 3 {
		t.Errorf("%d panics contained", n)
	}
	for _, where := range []string{"connection", "disconnect", "sweep"} {
		if strings.Count(b.logs.String(), "where="+where+" ") != 1 {
			t.Errorf("a panic in %s is not said once:\n%s", where, b.logs)
		}
	}
	until(t, "nothing is left behind", func() bool { b.Sweep(); return b.Left() == [4]int{1, 1, 1, 1} })
	b.quiet(witness)
	b.as(event.Waiter)
}

// TestWriteDeadline has a peer that reads nothing. The library sets no deadline:
// a write to it would wait for ever.
func TestWriteDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		stalled := 0
		c := lan.WithDeadline(near, time.Second, func() { stalled++ })
		defer c.Close()
		if _, err := c.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("write: %v", err)
		}
		if stalled != 1 {
			t.Errorf("%d counted", stalled)
		}
	})
}

// TestStalledPoller has a client that logs in by polling and polls no more. The
// library keeps what is for it without end; here it is behind, and its heartbeat
// ends it.
func TestStalledPoller(t *testing.T) {
	b := start(t, func(c *lanConfig) { c.PingInterval, c.PingTimeout = 500*time.Millisecond, 3*time.Second })
	witness := b.as(event.Viewer)
	b.poll(t)
	pad := strings.Repeat("x", 100_000)
	for n := range 20 {
		b.journal.append(event.Event{Kind: "menu_updated", Payload: fmt.Appendf(nil, `{"n":%d,"pad":%q}`, n, pad)})
	}
	until(t, "it is dropped", func() bool {
		if n := b.Stats().Backlog; n > 1<<20 {
			t.Fatalf("%d bytes wait for it", n)
		}
		return b.Stats().Refused["stalled_reader"] == 1
	})
	until(t, "and gone", func() bool { return b.Connections().ConnectionStats.Total == 1 })
	b.quiet(witness)
}

// TestUnused looks for what must not be called, since the library cannot do it
// safely: acks from clients (a panic in the timeout of one ends the process; a
// broadcast with acks is a data race; one without a timeout is never called if
// the client goes), and the modifiers of a socket, which two goroutines share.
func TestUnused(t *testing.T) {
	unsafe := []string{"EmitWithAck", "ServerSideEmit", "ServerSideEmitWithAck", "Volatile", "Compress", "Timeout", "FetchSockets"}
	files, err := filepath.Glob("*.go")
	below, err2 := filepath.Glob("*/*.go")
	if err != nil || err2 != nil || len(files) == 0 || len(below) == 0 {
		t.Fatal(files, err, below, err2)
	}
	files = append(files, below...)
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			f, ok := call.Fun.(*ast.SelectorExpr)
			if ok && f.Sel.Name == "Timeout" && len(call.Args) == 0 { // a network error's
				return true
			}
			if ok && slices.Contains(unsafe, f.Sel.Name) {
				t.Errorf("%s calls %s", name, f.Sel.Name)
			}
			return true
		})
	}
}

// breakOn makes the log panic on a message; empty: on none.
func (l *logs) breakOn(message string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.poison = message
}
