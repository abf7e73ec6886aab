package lan_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/journal"
)

// listener is a client that keeps nothing but how far it heard the numbered
// events, so that there can be many. It can stop reading.
type listener struct {
	t    testing.TB
	ws   *websocket.Conn
	gate sync.Mutex // held while it does not read

	mu       sync.Mutex // guards below
	pid      string
	offset   string
	heard    int
	last     int
	wrong    string // the first event that was out of order
	acks     int
	others   int    // messages besides, and not pings
	status   string // the last sync_status of them
	statuses int
	ended    bool
	latency  *histogram // nil: not measured
}

// listen connects a listener; before is what it was before it came back, or nil.
func (b *box) listen(who auth.Grant, before *listener) *listener {
	b.t.Helper()
	ws, _, err := b.dialer().Dial(b.socketURL(), nil)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = ws.Close() })
	l := &listener{t: b.t, ws: ws}
	login := map[string]string{"token": b.mint(who)}
	if before != nil {
		login["pid"], login["offset"] = before.pid, before.offset
		l.heard, l.last, l.offset = before.heard, before.last, before.offset
	}
	text, _ := json.Marshal(login)
	if err := ws.WriteMessage(websocket.TextMessage, append([]byte("40"), text...)); err != nil {
		b.t.Fatal(err)
	}
	go l.read()
	until(b.t, "a listener is connected", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.pid != "" })
	return l
}

func (l *listener) read() {
	for {
		_, b, err := l.ws.ReadMessage()
		l.gate.Lock()
		l.take(string(b), err != nil)
		l.gate.Unlock()
		if err != nil {
			return
		}
	}
}

func (l *listener) take(frame string, ended bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, number, numbered := strings.Cut(frame, `"n":`)
	switch {
	case ended:
		l.ended = true
	case frame == "2":
		_ = l.ws.WriteMessage(websocket.TextMessage, []byte("3")) // a closed one shows when read
	case strings.HasPrefix(frame, "40"):
		var reply struct{ PID string }
		_ = json.Unmarshal([]byte(frame[2:]), &reply) // an empty one shows
		l.pid = reply.PID
	case numbered:
		n, _ := strconv.Atoi(number[:strings.IndexAny(number, ",}")])
		if n <= l.last && l.wrong == "" {
			l.wrong = fmt.Sprintf("%d came after %d", n, l.last)
		}
		l.heard, l.last = l.heard+1, n
		_, l.offset = withoutOffset(frame)
		if _, at, ok := strings.Cut(frame, `"at":`); ok && l.latency != nil {
			sent, _ := strconv.ParseInt(at[:strings.IndexAny(at, ",}")], 10, 64)
			l.latency.add(time.Since(time.UnixMicro(sent)))
		}
	case strings.HasPrefix(frame, "43"):
		l.acks++
	default:
		l.others++
		if strings.HasPrefix(frame, `42["sync_status"`) {
			l.status = frame
			l.statuses++
		}
	}
}

func (l *listener) has(n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.heard >= n
}

// check wants exactly n events in order.
func (l *listener) check(n int) {
	l.t.Helper()
	until(l.t, "all is heard", func() bool { return l.has(n) })
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.heard != n || l.wrong != "" {
		l.t.Errorf("heard %d events, want %d; %s", l.heard, n, l.wrong)
	}
}

func (l *listener) join(table string) {
	l.t.Helper()
	l.mu.Lock()
	before := l.others
	l.mu.Unlock()
	join := fmt.Sprintf(`42["join_room",{"roomType":"table","venueId":%q,"tableId":%q}]`, venue, table)
	if err := l.ws.WriteMessage(websocket.TextMessage, []byte(join)); err != nil {
		l.t.Fatal(err)
	}
	until(l.t, "it is in its room", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.others > before })
}

// numbers stores events with growing numbers.
type numbers struct {
	b *box
	n int
}

func (s *numbers) happen(count, size int, to event.Audience) {
	for range count {
		s.n++
		s.b.journal.append(event.Event{
			Kind: "menu_updated", Audience: to, Payload: fmt.Appendf(nil, `{"n":%d,"pad":%q}`, s.n, strings.Repeat("x", size)),
		})
	}
}

// fill sends a table what its one guest does not read, until it is behind once
// more.
func (s *numbers) fill(table string) {
	s.b.t.Helper()
	before, times := s.n, s.b.Stats().FellBehind
	for s.b.Stats().FellBehind == times {
		s.happen(1, 100_000, event.Audience{Tables: []string{table}})
		until(s.b.t, "it is shown", func() bool { return s.b.Stats().Shown == s.b.journal.Stored() })
		if s.n-before > 600 {
			s.b.t.Fatal("60 MB are buffered for one client")
		}
	}
}

// TestFrozenReader has one of 200 clients stop reading: the others get all,
// what waits for it stays within its bound, and when it reads again it gets all
// it was not shown, once and in order, and is live.
func TestFrozenReader(t *testing.T) {
	const events = 2000
	b := start(t, func(c *lanConfig) { c.StallTimeout, c.PingInterval = time.Hour, time.Hour }) // however slow the machine
	var others []*listener
	for n := range 199 {
		others = append(others, b.listen(auth.Grant{Subject: fmt.Sprint("w", n), Role: event.Waiter}, nil))
	}
	frozen := b.listen(auth.Grant{Subject: "m1", Role: event.Manager}, nil)
	frozen.join("t1")
	said := &numbers{b: b}
	said.happen(1, 10, event.Audience{})
	frozen.check(1)

	frozen.gate.Lock()
	said.fill("t1")
	for range 10 {
		said.happen(events/10, 300, event.Audience{})
		until(t, "the others hear it", func() bool {
			if n := b.Stats().Backlog; n > 1<<20 {
				t.Fatalf("%d bytes wait for one client", n)
			}
			return b.Stats().Shown == b.journal.Stored()
		})
	}
	for _, l := range others {
		l.check(1 + events)
	}
	if err := frozen.ws.WriteMessage(websocket.TextMessage, []byte(`421["authenticate",{}]`)); err != nil {
		t.Fatal(err) // its answer does not wait for what it is behind of
	}
	terminal := b.connect(auth.Grant{Subject: "w1", Role: event.Waiter}, "AVQD-1")
	terminal.ask("tpv:log", `{"terminalId":"AVQD-1","venueId":"venue_1","level":"INFO","tag":"t","message":"m"}`)
	terminal.want("terminal:log")
	if st := b.Stats(); st.Behind != 1 || st.Skipped != 1 || len(st.Refused) != 0 {
		t.Errorf("%d behind, %d skipped, refused %v", st.Behind, st.Skipped, st.Refused)
	}
	frozen.gate.Unlock()

	until(t, "its answer comes", func() bool { frozen.mu.Lock(); defer frozen.mu.Unlock(); return frozen.acks == 1 })
	frozen.check(said.n)
	until(t, "it is live again", func() bool { return b.Stats().Behind == 0 })
	said.happen(3, 10, event.Audience{})
	frozen.check(said.n)
	others[0].check(1 + events + 3)
	if st := b.Stats(); st.FellBehind != 1 || st.CaughtUp != 1 || len(st.Refused) != 0 {
		t.Errorf("fell behind %d times, caught up %d times, refused %v", st.FellBehind, st.CaughtUp, st.Refused)
	}
}

// TestSlowReader has a client that reads, but stops again and again: however
// often it falls behind, it misses nothing.
func TestSlowReader(t *testing.T) {
	b := start(t)
	slow := b.listen(auth.Grant{Subject: "m1", Role: event.Manager}, nil)
	slow.join("t1")
	said := &numbers{b: b}
	for round := range int64(5) {
		slow.gate.Lock()
		said.fill("t1")
		slow.gate.Unlock()
		said.happen(20, 1000, event.Audience{}) // while it catches up
		until(t, "it is live again", func() bool { return b.Stats().CaughtUp == round+1 })
	}
	slow.check(said.n)
	if st := b.Stats(); len(st.Refused) != 0 {
		t.Errorf("refused %v", st.Refused)
	}
}

// TestFrozenIsNotToldTheTime has one freeze while the status of the venue goes on
// changing: it has nothing of that to read, and is told in the end.
func TestFrozenIsNotToldTheTime(t *testing.T) {
	b := start(t, func(c *lanConfig) { c.StallTimeout, c.PingInterval = time.Hour, time.Hour })
	witness := b.as(event.Viewer)
	frozen := b.listen(auth.Grant{Subject: "m1", Role: event.Manager}, nil)
	frozen.join("t1")
	said := &numbers{b: b}
	said.happen(1, 10, event.Audience{})
	frozen.check(1)
	frozen.gate.Lock()
	said.fill("t1")
	told := func() int { return len(witness.pending("sync_status")) }
	most := told() + 1 // at the end
	for range 3 {
		before := told()
		said.happen(1, 10, event.Audience{})
		until(t, "the others are told", func() bool { return told() > before })
	}
	frozen.gate.Unlock()
	frozen.check(said.n)
	last := fmt.Sprintf(`"storedThrough":%d,`, said.n)
	until(t, "it is told", func() bool { frozen.mu.Lock(); defer frozen.mu.Unlock(); return strings.Contains(frozen.status, last) })
	if frozen.statuses > most {
		t.Errorf("it was told %d times, at most %d", frozen.statuses, most)
	}
}

// TestFrozenForGood has one take nothing for longer than it may: it is dropped,
// and is made whole when it comes back.
func TestFrozenForGood(t *testing.T) {
	b := start(t, func(c *lanConfig) {
		c.StallTimeout, c.PingInterval, c.PingTimeout = 2*time.Second, 2*time.Second, 10*time.Second
	})
	who := auth.Grant{Subject: "m1", Role: event.Manager}
	frozen := b.listen(who, nil)
	frozen.join("t1")
	said := &numbers{b: b}
	said.happen(1, 10, event.Audience{})
	frozen.check(1)
	frozen.gate.Lock()
	said.fill("t1")
	until(t, "it is dropped", func() bool { return b.Stats().Refused["stalled_reader"] == 1 })
	until(t, "and gone", func() bool { return b.Connections().ConnectionStats.Total == 0 })
	said.happen(500, 300, event.Audience{})
	frozen.gate.Unlock()
	until(t, "it notices", func() bool { frozen.mu.Lock(); defer frozen.mu.Unlock(); return frozen.ended })
	if frozen.heard >= said.n {
		t.Error("it heard what was said after it was gone")
	}

	back := b.listen(who, frozen)
	back.check(said.n)
	st := b.Stats()
	if st.Recovered != 1 || st.Behind != 0 || st.Refused["stalled_reader"] != 1 || len(st.Refused) != 1 {
		t.Errorf("%d recovered, %d behind, refused %v", st.Recovered, st.Behind, st.Refused)
	}
}

// histogram counts durations in classes that are a tenth apart.
type histogram [200]atomic.Int64

func (h *histogram) add(d time.Duration) {
	class := int(math.Log(float64(max(1, d.Microseconds()))) / math.Log(1.1))
	h[min(class, len(h)-1)].Add(1)
}

// below returns the duration that the given share of all is below of.
func (h *histogram) below(share float64) time.Duration {
	total, sum := int64(0), int64(0)
	for i := range h {
		total += h[i].Load()
	}
	for i := range h {
		if sum += h[i].Load(); float64(sum) >= share*float64(total) {
			return time.Duration(math.Pow(1.1, float64(i+1))) * time.Microsecond
		}
	}
	return 0
}

// crowdedHall is a box on a real journal with 200 clients, of which one may freeze.
type crowdedHall struct {
	b      *box
	others []*listener
	last   *listener
	heard  histogram // how long an event took to the others
	said   int
	most   int64 // bytes that waited for a client
}

func newCrowdedHall(t *testing.T, longest time.Duration) *crowdedHall {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "journal")
	if err := journal.Create(dir, journal.Options{}); err != nil {
		t.Fatal(err)
	}
	j, _ := onDisk(t, dir)
	h := &crowdedHall{b: serve(t, j, j, func(c *lanConfig) { c.StallTimeout, c.PingTimeout = longest, longest })}
	for n := range 199 {
		h.others = append(h.others, h.b.listen(auth.Grant{Subject: fmt.Sprint("w", n), Role: event.Waiter}, nil))
	}
	h.last = h.b.listen(auth.Grant{Subject: "m1", Role: event.Manager}, nil)
	h.last.join("t1")
	for _, l := range append(h.others, h.last) {
		l.join("hall")
	}
	return h
}

func (h *crowdedHall) say(t *testing.T, pad int, where string) {
	t.Helper()
	h.said++
	ack := h.b.Publish(t.Context(), auth.Grant{Subject: "api", Venue: venue, Role: event.Owner}, "menu_updated",
		fmt.Appendf(nil, `{"n":%d,"at":%d,"pad":%q}`, h.said, time.Now().UnixMicro(), strings.Repeat("x", pad)),
		&event.Audience{Tables: []string{where}}, event.Local)
	if ack.Status != 200 {
		t.Fatalf("publish: %s", ack.Body)
	}
	h.most = max(h.most, h.b.Stats().Backlog)
}

// freeze has the last client read nothing more, and returns when the box knows.
func (h *crowdedHall) freeze(t *testing.T) {
	t.Helper()
	h.last.gate.Lock()
	for fills := 0; h.b.Stats().FellBehind == 0; fills++ {
		if fills > 600 {
			t.Fatal("60 MB are buffered for one client")
		}
		h.say(t, 100_000, "t1")
	}
}

// thaw has it read again, and returns when it has heard all and is live.
func (h *crowdedHall) thaw(t *testing.T) {
	t.Helper()
	h.last.gate.Unlock()
	for heard := 0; !h.last.has(h.said); { // an hour's events may take a while
		until(t, "it goes on", func() bool { return h.last.has(heard + 1) })
		h.last.mu.Lock()
		heard = h.last.heard
		h.last.mu.Unlock()
	}
	until(t, "it is live again", func() bool { return h.b.Stats().Behind == 0 })
	h.last.check(h.said)
}

// TestFrozenHour measures what the others notice of a frozen client, at a steady
// rate, beside a box at which all read: each event is said at both, so that
// whatever else the machine does meets both. AVOQADO_TORTURE=100 keeps one
// frozen for an hour.
func TestFrozenHour(t *testing.T) {
	const rate = 20 // events a second and box
	frozenFor := 2 * time.Second
	if n, err := strconv.Atoi(os.Getenv("AVOQADO_TORTURE")); err == nil && n > 0 {
		frozenFor = time.Duration(n) * 36 * time.Second
	}
	halls := []*crowdedHall{newCrowdedHall(t, frozenFor+time.Hour), newCrowdedHall(t, frozenFor+time.Hour)}
	frozen := halls[0]
	frozen.freeze(t)
	for _, h := range halls {
		for _, l := range h.others {
			l.mu.Lock()
			l.latency = &h.heard
			l.mu.Unlock()
		}
	}
	heap, report := heapNow(), time.Now()
	tick := time.NewTicker(time.Second / rate)
	defer tick.Stop()
	for n := range int(frozenFor.Seconds() * rate) {
		<-tick.C
		halls[n%2].say(t, 300, "hall")
		halls[1-n%2].say(t, 300, "hall")
		if time.Since(report) > 5*time.Minute {
			report = time.Now()
			t.Logf("%d events: heap grew by %d KiB, p99 %v and %v", n, (heapNow()-heap)>>10, halls[0].heard.below(0.99), halls[1].heard.below(0.99))
		}
	}
	grown := heapNow() - heap
	if st := frozen.b.Stats(); st.Behind != 1 || frozen.most > 1<<20 {
		t.Errorf("%d behind, at most %d bytes waited", st.Behind, frozen.most)
	}
	frozen.thaw(t)
	with, without := halls[0].heard.below(0.99), halls[1].heard.below(0.99)
	t.Logf("beside a frozen client, and without one: p50 %v and %v, p99 %v and %v (%.2f ×); at most %d KiB waited, heap grew by %d KiB",
		halls[0].heard.below(0.5), halls[1].heard.below(0.5), with, without, float64(with)/float64(without), frozen.most>>10, grown>>10)
}

func heapNow() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse) //nolint:gosec // below 2⁶³
}
