package wire

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/testpart"
)

// calls counts what an outbox reports.
type calls struct{ behind, overflows, stalls atomic.Int32 }

func (c *calls) dropped(why Reason) {
	if why == Stalled {
		c.stalls.Add(1)
		return
	}
	c.overflows.Add(1)
}

func newOutbox(t *testing.T, secure bool, cfg Config) (client net.Conn, o *outbox, said *calls) {
	t.Helper()
	client, server := pipe(t)
	said = new(calls)
	cfg.OnBacklog, cfg.OnDrop = func() { said.behind.Add(1) }, func(_ net.Addr, why Reason) { said.dropped(why) }
	h := New(cfg)
	if secure {
		client, server = tlsOver(t, client, server)
	}
	raw, sealed, err := below(server)
	if err != nil {
		t.Fatal(err)
	}
	o = &outbox{hub: h, conn: server, raw: raw, seal: sealed}
	t.Cleanup(func() {
		_ = server.Close()
		h.group.Wait()
	})
	return client, o, said
}

// TestOrder has several goroutines write to a client that stalls again and
// again: all arrives, and what each wrote in its order.
func TestOrder(t *testing.T) { eachWay(t, testOrder) }

func testOrder(t *testing.T, secure bool) {
	const writers, each = 4, 400
	client, o, _ := newOutbox(t, secure, Config{MaxBacklog: 64 << 20})
	pad := strings.Repeat("x", 2000)
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			for i := range each {
				frame := fmt.Appendf(nil, "%d %d %s\n", w, i, pad)
				if w%2 == 0 {
					o.send(frame)
					continue
				}
				var b batch
				switch o.add(frame, true) {
				case schedule:
					b.add(o)
					o.hub.schedule(&b)
				case flush:
					o.flush()
				case nothing:
				}
			}
		})
	}
	next := make([]int, writers)
	lines := bufio.NewReaderSize(client, 64<<10)
	for range writers * each {
		var w, i int
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Sscan(line, &w, &i); err != nil || len(line) < len(pad) {
			t.Fatalf("torn line of %d bytes: %v", len(line), err)
		}
		if next[w] != i {
			t.Fatalf("writer %d: %d came, want %d", w, i, next[w])
		}
		next[w]++
	}
	group.Wait()
	testpart.Until(t, "nothing waits", func() bool { return o.waiting() == 0 })
}

// TestStall: what the kernel does not take waits, and goes out when it does.
func TestStall(t *testing.T) { eachWay(t, testStall) }

func testStall(t *testing.T, secure bool) {
	client, o, said := newOutbox(t, secure, Config{MaxBacklog: 64 << 20})
	frame := []byte(strings.Repeat("x", 100_000))
	sent := 0
	for o.waiting() < 10*len(frame) { // the kernel may find more room, also after it had none
		o.send(frame)
		sent += len(frame)
	}
	if o.hub.Stats().Stalls == 0 {
		t.Error("nobody waits for a client that does not read")
	}
	if n, err := io.CopyN(io.Discard, client, int64(sent)); err != nil {
		t.Fatalf("%d of %d bytes came: %v", n, sent, err)
	}
	testpart.Until(t, "nothing waits", func() bool { return o.waiting() == 0 })
	o.send([]byte("end"))
	if _, err := io.ReadFull(client, make([]byte, 3)); err != nil || said.overflows.Load() != 0 {
		t.Error(err, said.overflows.Load())
	}
}

// TestOverflow: a client that never reads is dropped, once, and costs nothing
// more.
func TestOverflow(t *testing.T) { eachWay(t, testOverflow) }

func testOverflow(t *testing.T, secure bool) {
	client, o, said := newOutbox(t, secure, Config{MaxBacklog: 300_000})
	frame := []byte(strings.Repeat("x", 100_000))
	for said.overflows.Load() == 0 {
		o.send(frame)
		if n := o.waiting(); n > 400_000 {
			t.Fatalf("%d bytes wait", n)
		}
	}
	o.send(frame)
	if said.overflows.Load() != 1 || said.behind.Load() != 1 || o.waiting() != 0 {
		t.Errorf("%d overflows, %d times behind, %d bytes wait", said.overflows.Load(), said.behind.Load(), o.waiting())
	}
	if _, err := io.Copy(io.Discard, client); err == nil {
		testpart.Until(t, "the goroutine ends", func() bool { o.hub.group.Wait(); return true })
	}
}

// TestWriteTimeout: so is one that takes nothing for too long.
func TestWriteTimeout(t *testing.T) { eachWay(t, testWriteTimeout) }

func testWriteTimeout(t *testing.T, secure bool) {
	_, o, said := newOutbox(t, secure, Config{MaxBacklog: 64 << 20, WriteTimeout: 50 * time.Millisecond})
	frame := []byte(strings.Repeat("x", 100_000))
	testpart.Until(t, "it is given up", func() bool {
		if o.waiting() == 0 { // the kernel may find more room, also after it had none
			o.send(frame)
		}
		return said.stalls.Load() == 1
	})
	if said.overflows.Load() != 0 {
		t.Error("it counts as an overflow")
	}
}

// TestBehind: somebody is told each time half of what may wait does.
func TestBehind(t *testing.T) { eachWay(t, testBehind) }

func testBehind(t *testing.T, secure bool) {
	client, o, said := newOutbox(t, secure, Config{MaxBacklog: 1 << 20})
	frame := []byte(strings.Repeat("x", 10_000))
	for round := range int32(3) {
		for said.behind.Load() == round {
			o.send(frame)
		}
		if n := o.waiting(); n <= 1<<19 || n > 1<<19+len(frame) {
			t.Errorf("round %d: told when %d bytes waited", round, n)
		}
		o.send(frame)
		b := make([]byte, 64<<10)
		testpart.Until(t, "all is read", func() bool {
			_ = client.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
			_, _ = client.Read(b)
			return o.waiting() == 0
		})
		if n := said.behind.Load(); n != round+1 {
			t.Errorf("round %d: told %d times", round, n)
		}
	}
	if said.overflows.Load() != 0 {
		t.Error("it was dropped")
	}
}

// TestNobodyWaits: whoever sends to a client that stops reading goes on, also when
// it waited for its turn to write at that moment.
func TestNobodyWaits(t *testing.T) { eachWay(t, testNobodyWaits) }

func testNobodyWaits(t *testing.T, secure bool) {
	frame := []byte(strings.Repeat("x", 40_000))
	for range 20 {
		_, o, _ := newOutbox(t, secure, Config{MaxBacklog: 1 << 30, WriteTimeout: time.Hour})
		var senders sync.WaitGroup
		for range 4 {
			senders.Go(func() {
				for o.hub.Stats().Stalls == 0 {
					o.send(frame)
				}
			})
		}
		gone := make(chan struct{})
		go func() { senders.Wait(); close(gone) }()
		select {
		case <-gone:
		case <-time.After(testpart.Patience):
			t.Fatal("a sender waits for the client to read")
		}
		_ = o.conn.Close()
	}
}
