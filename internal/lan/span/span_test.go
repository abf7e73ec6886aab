package span_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/lan/span"
	"github.com/avoqado/avoqado-edge/internal/lan/span/redistest"
	"github.com/avoqado/avoqado-edge/internal/testpart"
)

const (
	venue = "venue_1"
	order = `{"orderId":"7","total":19.990,"z":9007199254740993,"a":"<b>&é"}`
)

// box is a span under test that keeps what it hears.
type box struct {
	*span.Span
	t    testing.TB
	logs *logs
	stop func()

	mu    sync.Mutex // guards below
	heard []span.Message
}

type logs struct {
	mu   sync.Mutex // guards below
	text strings.Builder
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logs) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), text)
}

func start(t testing.TB, url, venue string) *box {
	t.Helper()
	b := &box{t: t, logs: &logs{}}
	var err error
	b.Span, err = span.New(span.Config{
		URL: url, Venue: venue,
		Room: func(name string) bool { return strings.HasPrefix(name, "venue:"+venue) },
	}, slog.New(slog.NewTextHandler(b.logs, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() { b.Run(ctx) })
	group.Go(func() {
		for {
			select {
			case m := <-b.Received():
				b.mu.Lock()
				b.heard = append(b.heard, m)
				b.mu.Unlock()
			case <-ctx.Done():
				return
			}
		}
	})
	b.stop = sync.OnceFunc(func() { cancel(); group.Wait() })
	t.Cleanup(b.stop)
	return b
}

// take removes and returns all that was heard.
func (b *box) take() []span.Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := b.heard
	b.heard = nil
	return list
}

// events lists the names heard so far, "gap" for a gap.
func (b *box) events() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var names []string
	for _, m := range b.heard {
		if m.Gap {
			names = append(names, "gap")
		} else {
			names = append(names, m.Event)
		}
	}
	return strings.Join(names, " ")
}

func (b *box) joined() *box {
	b.t.Helper()
	testpart.Until(b.t, "joined", func() bool { return b.Status().Joined })
	return b
}

// alone waits until the box is, for one of these causes.
func (b *box) alone(causes string) {
	b.t.Helper()
	testpart.Until(b.t, "alone: "+causes, func() bool {
		s := b.Status()
		return !s.Joined && slices.Contains(strings.Fields(causes), s.Cause)
	})
}

func (b *box) hears(names string) {
	b.t.Helper()
	deadline := time.Now().Add(testpart.Patience)
	testpart.Until(b.t, names, func() bool { return b.events() == names || time.Now().After(deadline.Add(-time.Second)) })
	if got := b.events(); got != names {
		b.t.Fatalf("heard %q, want %q", got, names)
	}
}

func say(name string) span.Message {
	return span.Message{Event: name, To: []string{"venue:venue_1"}, Payload: []byte(order)}
}

func TestMessagesArriveAsTheyAre(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	a, b := start(t, r.URL(), venue).joined(), start(t, r.URL()+"/3", venue).joined()
	other := start(t, r.URL(), "venue_2").joined()
	testpart.Until(t, "each counts the other", func() bool { return a.Status().Peers == 1 && b.Status().Peers == 1 })

	m := span.Message{
		Event: "order_updated", Payload: []byte(order),
		To: []string{"venue:venue_1:role:ADMIN", "venue:venue_1:table:é#/*"}, Except: []string{"abcDEF", "venue:venue_1:role:KITCHEN"},
	}
	a.Publish(m)
	b.hears("order_updated")
	got := b.take()[0]
	if string(got.Payload) != order || strings.Join(got.To, " ") != strings.Join(m.To, " ") ||
		strings.Join(got.Except, " ") != strings.Join(m.Except, " ") {
		t.Errorf("got %+v", got)
	}
	var want []string
	for range 300 {
		b.Publish(say("order_created"))
		want = append(want, "order_created")
	}
	b.Publish(say("order_deleted"))
	a.hears(strings.Join(append(want, "order_deleted"), " "))
	if got := b.events() + other.events(); got != "" {
		t.Errorf("somebody heard himself, or another venue: %q", got)
	}
	if s := a.Stats(); s.Received != 301 || s.Sent < 2 || s.Lost != 0 || s.Unsent != 0 || len(s.Refused) != 0 {
		t.Errorf("stats: %+v", s)
	}
}

func TestForgedMessages(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	b := start(t, r.URL(), venue).joined()
	good := `{"from":"x","v":1,"venue":"venue_1","n":1,"event":"order_updated","to":["venue:venue_1"]}` + "\n" + `{}`
	for _, x := range []struct{ reason, text string }{
		{"malformed", ""},
		{"malformed", "\x00\xff\n{}"},
		{"malformed", `{"from":"x"}`},
		{"malformed", strings.Replace(good, `"x"`, `""`, 1)},
		{"malformed", strings.Replace(good, `"n":1`, `"n":-1`, 1)},
		{"version", strings.Replace(good, `"v":1`, `"v":2`, 1)},
		{"venue", strings.Replace(good, `"venue":"venue_1"`, `"venue":"venue_2"`, 1)},
		{"event", strings.Replace(good, `"event":"order_updated",`, "", 1)},
		{"event", strings.Replace(good, "order_updated", strings.Repeat("x", 200), 1)},
		{"event", strings.Replace(good, "order_updated", "authentication_success", 1)},
		{"event", strings.Replace(good, "order_updated", "disconnect", 1)},
		{"event", strings.Replace(good, "order_updated", "terminal:payment_request", 1)},
		{"event", strings.Replace(good, "order_updated", "terminal:payment_cancel", 1)},
		{"event", strings.Replace(good, "order_updated", "tpv_command", 1)},
		{"event", strings.Replace(good, "order_updated", "tpv_command_send", 1)},
		{"event", strings.Replace(good, "order_updated", "terminal:payment_result", 1)},
		{"rooms", strings.Replace(good, `["venue:venue_1"]`, `[]`, 1)},
		{"rooms", strings.Replace(good, `["venue:venue_1"]`, `["venue:venue_1","venue:venue_2"]`, 1)},
		{"payload", strings.TrimSuffix(good, "{}") + "[1]"},
		{"payload", strings.TrimSuffix(good, "{}") + `{"a":}`},
		{"payload", strings.TrimSuffix(good, "{}") + `{"a":1}{`},
		{"too_large", strings.TrimSuffix(good, "{}") + `{"a":"` + strings.Repeat("x", 600<<10) + `"}`},
	} {
		before := b.Stats().Refused[x.reason]
		r.Do("PUBLISH", "avoqado-edge:venue_1:lan", x.text)
		testpart.Until(t, x.reason, func() bool { return b.Stats().Refused[x.reason] == before+1 })
	}
	r.Do("PUBLISH", "avoqado-edge:venue_1:lan", good)
	b.hears("order_updated")
}

func TestRedisGone(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	a, b := start(t, r.URL(), venue).joined(), start(t, r.URL(), venue).joined()
	a.Publish(say("order_created"))
	b.hears("order_created")

	for round := range 2 {
		b.take()
		r.Stop()
		a.alone("unreachable")
		b.alone("unreachable")
		for range 10_000 { // at once, or this takes hours
			a.Publish(say("order_updated"))
		}
		a.Publish(say("terminal:heartbeat"))
		if got := a.Stats().Unsent; got < int64(10_001*(round+1)) {
			t.Errorf("unsent: %d", got)
		}
		r.Start()
		a.joined()
		b.joined()
		b.hears("gap") // by a sign of life alone
		a.Publish(say("order_deleted"))
		b.hears("gap order_deleted")
	}
	if got := b.Stats().Lost; got != 20_000 { // not the heartbeats
		t.Errorf("lost: %d", got)
	}
	if lost, back := a.logs.count("alone"), a.logs.count("spans boxes"); back != 3 || lost > 4 {
		t.Errorf("%d lines for 2 losses, %d for 3 joins", lost, back)
	}
}

// A box that begins to listen when others have spoken says that it missed it.
func TestLateBox(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	a := start(t, r.URL(), venue).joined()
	first := start(t, r.URL(), venue).joined()
	a.Publish(say("terminal:heartbeat"))
	first.hears("terminal:heartbeat")
	testpart.Until(t, "a sign of life", func() bool { return first.Status().Peers == 1 })
	second := start(t, r.URL(), venue).joined()
	a.Publish(say("order_created"))
	second.hears("order_created") // nothing that lasts was said before
	third := start(t, r.URL(), venue).joined()
	third.hears("gap")
}

// A Redis that neither answers nor hangs up.
func TestRedisFrozen(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	a := start(t, r.URL(), venue).joined()
	if err := r.Process().Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	a.alone("no_answer")
	if err := r.Process().Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	a.joined()
}

func TestCauses(t *testing.T) {
	t.Parallel()
	locked := redistest.Start(t, "--requirepass", "right")
	acl := redistest.Start(t)
	acl.Do("ACL", "SETUSER", "listener", "on", ">pw", "+@all", "resetchannels", "&elsewhere:*")
	acl.Do("ACL", "SETUSER", "reader", "on", ">pw", "+@all", "-publish", "&*")
	full := redistest.Start(t, "--maxclients", "1")
	hog, err := net.Dial("tcp", full.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hog.Close() })
	foreign, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = foreign.Close() })
	go func() {
		for {
			conn, err := foreign.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
			_ = conn.Close()
		}
	}()
	for _, x := range []struct{ name, url, cause string }{
		{"no password", locked.URL(), "wrong_password"},
		{"wrong password", "redis://:guess@" + locked.Addr(), "wrong_password"},
		{"wrong user", "redis://who:right@" + locked.Addr(), "wrong_password"},
		{"no such database", acl.URL() + "/99", "no_such_database"},
		{"channel not permitted", "redis://listener:pw@" + acl.Addr(), "not_permitted"},
		{"publish not permitted", "redis://reader:pw@" + acl.Addr(), "not_permitted"},
		{"full", full.URL(), "too_many_clients connection_lost"}, // it hangs up at once, sometimes before that is read
		{"not a redis", "redis://" + foreign.Addr().String(), "not_redis"},
		{"nobody", "redis://127.0.0.1:1", "unreachable"},
		{"no tls", "rediss://" + locked.Addr(), "no_answer"},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			b := start(t, x.url, venue)
			b.alone(x.cause)
			if text := b.Status().Error; text == "" || strings.Contains(text, "guess") || b.logs.count("guess") > 0 {
				t.Errorf("text %q", text)
			}
			testpart.Until(t, "said", func() bool { return b.logs.count("alone") > 0 })
			if x.name != "full" && b.logs.count("alone") != 1 {
				t.Error("not said once")
			}
		})
	}
	start(t, "redis://:right@"+locked.Addr(), venue).joined()
}

// Publishing needs no room and writes nothing, so a Redis without room and one
// that only follows another serve as well.
func TestFullAndReadOnlyRedis(t *testing.T) {
	t.Parallel()
	full := redistest.Start(t, "--maxmemory", "1", "--maxmemory-policy", "noeviction")
	a, b := start(t, full.URL(), venue).joined(), start(t, full.URL(), venue).joined()
	a.Publish(say("order_created"))
	b.hears("order_created")

	main := redistest.Start(t)
	host, port, _ := net.SplitHostPort(main.Addr())
	replica := redistest.Start(t, "--replicaof", host, port)
	c, d := start(t, replica.URL(), venue).joined(), start(t, replica.URL(), venue).joined()
	c.Publish(say("order_created"))
	d.hears("order_created")
}

func TestBadURL(t *testing.T) {
	for _, url := range []string{"", "http://x", "redis://:hidden@host:port/zero", "redis://:hidden%zz@h"} {
		if _, err := span.New(span.Config{URL: url}, slog.Default()); err == nil || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%q: %v", url, err)
		}
	}
}
