package uplink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/avoqado/avoqado-edge/internal/cloud"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/journal"
)

// life is one run of a box on a journal that outlives it.
func life(t *testing.T, dir, broker string, box Box) (j *journal.Journal, u *Uplink, end func()) {
	t.Helper()
	j, still := runJournal(t, dir)
	u = newUplinkOf(t, box, j, broker, nil)
	stop := running(t, "uplink", u.Run)
	online(t, u)
	return j, u, func() {
		stop()
		still()
	}
}

func order(t *testing.T, broker, body string) {
	t.Helper()
	say(t, broker, "/boxes/b1/commands", false, body)
}

// answers returns what was said on the results topic.
func (l *listener) answers() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.said["/boxes/b1/commands/results"])
}

// ask sends a command and returns the next answer.
func ask(t *testing.T, broker string, heard *listener, body string) string {
	t.Helper()
	n := len(heard.answers())
	order(t, broker, body)
	until(t, "the answer to "+body, func() bool { return len(heard.answers()) > n })
	return heard.answers()[n]
}

func TestCommands(t *testing.T) {
	broker := newMosquitto(t).url()
	heard := listen(t, broker)
	dir := filepath.Join(t.TempDir(), "journal")
	box := &till{}
	j, u, end := life(t, dir, broker, box)
	appendPayments(t, j, 3)
	type exchange struct{ body, want string }
	exchanges := []exchange{
		{`{"id":"c1","type":"status.report"}`, `{"id":"c1","status":"done","result":{"report":1}}`},
		{`{"id":"c2","type":"diagnostics.collect","params":{}}`, `{"id":"c2","status":"done","result":{"diagnosis":"well"}}`},
		{`{"id":"c3","type":"log.level","params":{"level":"debug"}}`, `{"id":"c3","status":"done","result":{"level":"debug","until":"restart"}}`},
		{`{"id":"c4","type":"drain.pause"}`, `{"id":"c4","status":"done","result":{"paused":{"command":"c4","since":"`},
		{`{"id":"c5","type":"drain.pause"}`, `{"id":"c5","status":"done","result":{"paused":{"command":"c4","since":"`},
		{`{"id":"c6","type":"drain.resume"}`, `{"id":"c6","status":"done","result":{"paused":null,"was":{"command":"c4","since":"`},
		{`{"id":"c7","type":"journal.replay","params":{"from":2}}`, `{"id":"c7","status":"done","result":{"epoch":"` + string(j.Epoch()) + `","first":2,"from":2,"through":3}}`},
		{`{"id":"c8","type":"status.report","expiresAt":"2020-01-01T00:00:00Z"}`, `{"id":"c8","status":"expired"}`},
		{`{"id":"c9","type":"box.explode"}`, `{"id":"c9","status":"rejected","error":"unknown command type \"box.explode\""}`},
		{`{"id":"d1","type":"log.level"}`, `{"id":"d1","status":"rejected","error":"level \"\" is not debug, info, warn or error"}`},
		{`{"id":"d2","type":"log.level","params":{"level":"info","for":"ever"}}`, `{"id":"d2","status":"rejected","error":"json: unknown field`},
		{`{"id":"d3","type":"drain.pause","params":{"until":"noon"}}`, `{"id":"d3","status":"rejected","error":"json: unknown field`},
		{`{"id":"d4","type":"journal.replay"}`, `{"id":"d4","status":"rejected","error":"from 0 is not within 1 and 3, the last event"}`},
		{`{"id":"d5","type":"journal.replay","params":{"from":4}}`, `{"id":"d5","status":"rejected","error":"from 4 is not`},
	}
	first := map[string]string{}
	for _, c := range exchanges {
		got := ask(t, broker, heard, c.body)
		if !strings.HasPrefix(got, c.want) {
			t.Errorf("%s\ngot  %s\nwant %s", c.body, got, c.want)
		}
		first[c.body] = got
	}
	if box.level != slog.LevelDebug || u.Status().Paused != nil {
		t.Errorf("level %s, paused %+v", box.level, u.Status().Paused)
	}

	// A repeat gets the first answer and changes nothing, also in the next life.
	again := func() {
		t.Helper()
		for _, c := range exchanges {
			if got := ask(t, broker, heard, c.body); got != first[c.body] {
				t.Errorf("%s\nrepeated %s\nfirst    %s", c.body, got, first[c.body])
			}
		}
	}
	again()
	end()
	later := &till{}
	_, u, _ = life(t, dir, broker, later)
	again()
	if s := u.Status(); later.reports != 0 || later.level != 0 || s.Paused != nil || s.Replay != nil || s.Commands != 0 || s.Repeated != uint64(len(exchanges)) {
		t.Errorf("a repeated command took effect: %+v, %+v", later, s)
	}
	if s := u.Status(); s.Rejected != 0 || s.Connects != 1 {
		t.Errorf("status %+v", s)
	}
}

// The box ends at each point of a command's way; the broker delivers it again.
func TestCommandOverACrash(t *testing.T) {
	for name, committed := range map[string]bool{"before the commit": false, "after the commit": true} {
		t.Run(name, func(t *testing.T) {
			broker := newMosquitto(t).url()
			heard := listen(t, broker)
			j := newMemory()
			box := &till{}
			u := newUplinkOf(t, box, j, broker, nil)
			ctx, crash := context.WithCancelCause(t.Context())
			defer crash(nil)
			j.put = func(space string) (func(), error) {
				if space != commandSpace {
					return func() {}, nil
				}
				if !committed {
					crash(nil)
					return nil, errors.New("power cut")
				}
				return func() { crash(nil) }, nil
			}
			stop := running(t, "uplink", func(all context.Context) error {
				both, end := context.WithCancel(all)
				defer end()
				defer context.AfterFunc(ctx, end)()
				return u.Run(both)
			})
			online(t, u)
			order(t, broker, `{"id":"c1","type":"drain.pause"}`)
			<-ctx.Done()
			stop()
			if !committed && len(heard.answers()) != 0 {
				t.Fatalf("answered before the crash: %s", heard.answers())
			}
			j.put = nil
			u = newUplinkOf(t, box, j, broker, nil)
			if paused := u.Status().Paused != nil; paused != committed {
				t.Errorf("paused: %v", paused)
			}
			running(t, "uplink", u.Run)
			until(t, "the answer", func() bool { s := u.Status(); return len(heard.answers()) > 0 && s.Commands+s.Repeated == 1 })
			s := u.Status()
			if s.Paused == nil || s.Paused.Command != "c1" || committed != (s.Repeated == 1) || committed == (s.Commands == 1) {
				t.Errorf("status %+v", s)
			}
		})
	}
}

// While the disk is full the link stays, for the events on it make room.
func TestCommandWaitsForTheDisk(t *testing.T) {
	broker := startBroker(t, "127.0.0.1:0").URL()
	heard := listen(t, broker)
	backend := startBackend(t, broker, false)
	j := newMemory()
	var full atomic.Bool
	full.Store(true)
	var tried atomic.Int32
	j.put = func(string) (func(), error) {
		if full.Load() {
			tried.Add(1)
			return nil, errors.New("disk full")
		}
		return func() {}, nil
	}
	u := newUplink(t, j, broker, nil)
	running(t, "uplink", u.Run)
	online(t, u)
	order(t, broker, `{"id":"c1","type":"drain.pause"}`)
	until(t, "it has tried twice", func() bool { return tried.Load() > 1 })
	appendPayments(t, j, 10)
	until(t, "events pass by", func() bool { return count(t, backend) == 10 })
	if s := u.Status(); s.Paused != nil || s.Connects != 1 {
		t.Errorf("status %+v", s)
	}
	full.Store(false)
	until(t, "the answer", func() bool { return len(heard.answers()) == 1 && u.Status().Paused != nil })
}

func TestInboxIsBounded(t *testing.T) {
	j := newMemory()
	in, _, _, err := loadInbox(j, quietLog())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 * commandsKept {
		id := fmt.Sprintf("c%d", i)
		if err := in.put(id, []byte(`"`+id+`"`), effect{}); err != nil {
			t.Fatal(err)
		}
		if i%100 == 0 { // its numbers go on after a restart
			if in, _, _, err = loadInbox(j, quietLog()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if all, _ := j.All(commandSpace); len(all) != commandsKept || len(in.keyOf) != commandsKept || len(in.idOf) != commandsKept {
		t.Errorf("%d notes, %d ids, %d keys", len(all), len(in.keyOf), len(in.idOf))
	}
	for i := range 3 * commandsKept {
		id := fmt.Sprintf("c%d", i)
		body, err := in.find(id)
		if known := i >= 2*commandsKept; err != nil || known != (string(body) == `"`+id+`"`) {
			t.Errorf("%s: %s %v", id, body, err)
		}
	}

	// What is damaged on disk is no reason not to start, nor to run twice.
	j.spaces[commandSpace] = map[string][]byte{"001": []byte(`{"number":`), drainKey: []byte(`{`), "002": []byte(`{"number":2,"id":"c","answer":{}}`)}
	in, pause, replay, err := loadInbox(j, quietLog())
	if err != nil || replay != nil || in.last != 2 {
		t.Errorf("%+v %+v %+v %v", in, pause, replay, err)
	}
	j.spaces[commandSpace]["002"] = nil
	if body, err := in.find("c"); err != nil || !strings.Contains(string(body), commandFailed) {
		t.Errorf("%s %v", body, err)
	}
}

func TestAnswersAreBounded(t *testing.T) {
	for _, result := range []any{strings.Repeat("x", maxResult), func() {}} {
		body := encodeAnswer(answer{ID: "c", Status: commandDone, Result: result}, maxResult)
		var a answer
		if err := json.Unmarshal(body, &a); err != nil || a.Status != commandFailed || a.Error == "" || len(body) > 200 {
			t.Errorf("%.100s %v", body, err)
		}
	}
}

// acked is a message that counts its confirmations.
type acked struct {
	mqtt.Message
	n int
}

func (m *acked) Ack() { m.n++ }

// A result that the broker ends links for is let go after three of them.
func TestPoisonousResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUplink(t, newMemory(), "tcp://127.0.0.1:1", nil)
		d := newDownlink(u)
		taken := make(chan result, 10)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() {
			for ctx.Err() == nil {
				select {
				case r := <-d.results:
					taken <- r
				case <-ctx.Done():
				}
			}
		}()
		m := &acked{}
		for try := range resultTries {
			began := time.Now()
			if err := d.answer(ctx, item{message: m}, "c1", []byte("{}")); !errors.Is(err, errNoPuback) || time.Since(began) != pubackTimeout {
				t.Fatalf("try %d: %v after %s", try, err, time.Since(began))
			}
			<-taken
		}
		if m.n != 0 {
			t.Error("confirmed without a result")
		}
		if err := d.answer(ctx, item{message: m}, "c1", []byte("{}")); err != nil || m.n != 1 {
			t.Errorf("%v, confirmed %d times", err, m.n)
		}
		<-taken // all the same
	})
}

func TestExpiryByTheBoxesClock(t *testing.T) {
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	u := newUplinkOf(t, &till{clock: func() time.Time { return at }}, newMemory(), "tcp://127.0.0.1:1", nil)
	for _, c := range []struct {
		after time.Duration
		want  string
	}{{-time.Second, commandExpired}, {0, commandExpired}, {time.Millisecond, commandDone}} {
		expires := at.Add(c.after)
		if a, _ := newDownlink(u).run(&command{ID: "c", Type: "status.report", ExpiresAt: &expires}, nil); a.Status != c.want {
			t.Errorf("%s: %s", c.after, a.Status)
		}
	}
}

func TestPauseOutlivesARestart(t *testing.T) {
	broker := newMosquitto(t).url()
	heard := listen(t, broker)
	backend := startBackend(t, broker, false)
	dir := filepath.Join(t.TempDir(), "journal")
	j, u, end := life(t, dir, broker, &till{})
	appendPayments(t, j, 5)
	until(t, "in step", func() bool { return u.Status().Synced == 5 })
	ask(t, broker, heard, `{"id":"p","type":"drain.pause"}`)
	appendPayments(t, j, 5)
	end()
	j, u, _ = life(t, dir, broker, &till{})
	until(t, "the back-end is told", func() bool { return strings.Contains(heard.last("/boxes/b1/status"), `"paused":{"command":"p"`) })
	// A broadcast is stored all the same, and by then events could have come.
	say(t, broker, "/broadcasts", false, `{"id":"b","event":"menu_updated","payload":{}}`)
	until(t, "it is stored", func() bool { return u.Status().Broadcasts == 1 })
	if s := u.Status(); s.Paused == nil || s.Paused.Command != "p" || s.Sent != 0 || count(t, backend) != 5 {
		t.Errorf("%d effects, status %+v", count(t, backend), s)
	}
	ask(t, broker, heard, `{"id":"r","type":"drain.resume"}`)
	until(t, "in step again", func() bool { return u.Status().Synced == j.Stored() })
	checkEffects(t, backend, j)
}

// A back-end that lost its store asks for everything and gets it in order,
// though the box was killed in the middle; the cursor does not go back.
func TestReplay(t *testing.T) {
	broker := newMosquitto(t).url()
	heard := listen(t, broker)
	dir := filepath.Join(t.TempDir(), "journal")
	j, u, end := life(t, dir, broker, &till{})
	const n = 2000
	lost, err := cloud.OpenBackend(cloud.BackendConfig{
		Access: cloud.Access{Broker: broker}, Path: filepath.Join(t.TempDir(), "lost.db"), Prefix: testPrefix,
	}, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	stop := running(t, "lost back-end", func(ctx context.Context) error { return lost.Run(ctx, nil) })
	until(t, "it listens", lost.Online)
	fillJournal(t, j, n, 300)
	until(t, "in step", func() bool { return u.Status().Synced == n })
	stop()
	if err := lost.Close(); err != nil {
		t.Fatal(err)
	}

	backend := startBackend(t, broker, false)
	ask(t, broker, heard, `{"id":"p","type":"drain.pause"}`) // so that it cannot be through before the restart
	ask(t, broker, heard, `{"id":"a","type":"journal.replay","params":{"from":1}}`)
	appendPayments(t, j, 10)
	end()
	j, u, _ = life(t, dir, broker, &till{})
	if r := u.Status().Replay; r == nil || r.Command != "a" || r.Next != 1 || j.Cursor(cursorName) != n {
		t.Fatalf("after a restart: %+v, cursor %d", r, j.Cursor(cursorName))
	}
	ask(t, broker, heard, `{"id":"r","type":"drain.resume"}`)
	until(t, "the back-end has everything", func() bool { return count(t, backend) == n+10 && u.Status().Synced == j.Stored() })
	checkEffects(t, backend, j)
	s := u.Status()
	if s.Replay != nil || s.Replayed != n || s.Connects != 1 {
		t.Errorf("status %+v", s)
	}
	if all, _ := j.All(commandSpace); string(all[replayKey]) != "null" {
		t.Errorf("on disk: %s", all[replayKey])
	}
	if h := backend.Counts().Holes; h != 0 {
		t.Errorf("the back-end saw %d holes", h)
	}
}

// What cannot be read any more, or does not travel, does not hold a replay up.
func TestReplayPassesWhatIsLost(t *testing.T) {
	for name, spoil := range map[string]func(*memory){
		"lost at the end":     func(m *memory) { m.lostFrom, m.lostTo = 4, 6 },
		"lost at the start":   func(m *memory) { m.lostFrom, m.lostTo = 1, 3 },
		"of the cloud":        func(m *memory) { m.events[5].Origin = event.Cloud },
		"nothing is readable": func(m *memory) { m.lostFrom, m.lostTo = 1, 6 },
	} {
		t.Run(name, func(t *testing.T) {
			broker := startBroker(t, "127.0.0.1:0").URL()
			heard := listen(t, broker)
			j := newMemory()
			appendPayments(t, j, 6)
			u := newUplink(t, j, broker, func(c *Config) { c.Confirm = Broker })
			running(t, "uplink", u.Run)
			until(t, "in step", func() bool { return u.Status().Synced == 6 })
			j.mu.Lock()
			spoil(j)
			j.mu.Unlock()
			ask(t, broker, heard, `{"id":"a","type":"journal.replay","params":{"from":2}}`)
			until(t, "it is over", func() bool { return u.Status().Replay == nil })
			appendPayments(t, j, 1)
			until(t, "new events go on", func() bool { return u.Status().Synced == 7 })
			if s := u.Status(); s.Connects != 1 {
				t.Errorf("status %+v", s)
			}
		})
	}
}

// A second replay begins at the lower place, when the window is free.
func TestReplayAfterReplay(t *testing.T) {
	j := newMemory()
	appendPayments(t, j, 600)
	j.cursors[cursorName] = 600
	u := newUplink(t, j, "tcp://127.0.0.1:1", nil)
	order := func(id string, from int) {
		t.Helper()
		_, e, bad, err := u.journalReplay(&command{ID: id, Params: fmt.Appendf(nil, `{"from":%d}`, from)})
		if bad != nil || err != nil {
			t.Fatal(bad, err)
		}
		e.then()
	}
	order("a", 100)
	first := u.lane()
	if first == nil || first == u.sender || first.cursor != 99 || first.limit != 600 {
		t.Fatalf("lane %+v", first)
	}
	b, err := first.next()
	if err != nil {
		t.Fatal(err)
	}
	first.published(1, b, time.Now())
	order("b", 300)
	if r := u.Status().Replay; r.Command != "b" || r.From != 300 || r.Next != 100 {
		t.Errorf("replay %+v", r)
	}
	if l := u.lane(); l != nil {
		t.Errorf("lane %+v while the window is taken", l)
	}
	first.puback(1, time.Now())
	if l := u.lane(); l == nil || l == first || l.cursor != 99 {
		t.Errorf("lane %+v", l)
	}
	u.sender.unacked = 1
	if l := u.lane(); l != nil {
		t.Errorf("lane %+v while the uplink has the window", l)
	}
}
