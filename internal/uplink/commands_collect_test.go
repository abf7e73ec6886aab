package uplink

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/cloud"
)

// A bundle is as large as an answer may be, made once per id, and of several
// the newest is kept.
func TestCollects(t *testing.T) {
	broker := newMosquitto(t).url()
	heard := listen(t, broker)
	dir := filepath.Join(t.TempDir(), "journal")
	var made atomic.Int32
	box := &till{diagnose: func(_ context.Context, payloads bool, most int) (any, error) {
		n := made.Add(1)
		if n == 4 {
			return nil, errors.New("no memory")
		}
		return map[string]any{"n": n, "payloads": payloads, "bundle": bytes.Repeat([]byte{byte(n)}, most)}, nil
	}}
	_, _, end := life(t, dir, broker, box)
	first := map[string]string{}
	collect := func(id, params string) string {
		t.Helper()
		got := ask(t, broker, heard, fmt.Sprintf(`{"id":%q,"type":"diagnostics.collect"%s}`, id, params))
		if first[id] == "" {
			first[id] = got
		}
		return got
	}
	for id, c := range map[string]struct{ params, want string }{
		"bad":  {`,"params":{"payload":true}`, `"status":"rejected"`},
		"late": {`,"expiresAt":"2020-01-01T00:00:00Z"`, `"status":"expired"`},
	} {
		if got := collect(id, c.params); !strings.Contains(got, c.want) || made.Load() != 0 {
			t.Errorf("%s: %.200s", id, got)
		}
	}
	for i, params := range []string{"", `,"params":{}`, `,"params":{"payloads":true}`} {
		var a struct {
			Status string
			Result struct {
				N        int
				Payloads bool
				Bundle   []byte
			}
		}
		got := collect(fmt.Sprintf("c%d", i), params)
		if err := json.Unmarshal([]byte(got), &a); err != nil || a.Status != commandDone || a.Result.N != i+1 ||
			a.Result.Payloads != (i == 2) || len(a.Result.Bundle) != maxBundle {
			t.Errorf("%v %.200s", err, got)
		}
		if len(got) > 128<<10 {
			t.Errorf("the answer has %d bytes", len(got))
		}
	}
	if got := collect("ill", ""); !strings.Contains(got, `"status":"failed","error":"no memory"`) {
		t.Errorf("%.200s", got)
	}
	again := func() {
		t.Helper()
		for id, was := range first {
			got := collect(id, "")
			if old := id == "c0" || id == "c1"; old != strings.Contains(got, "ask again under a new id") || !old && got != was {
				t.Errorf("%s: repeated %.200s", id, got)
			}
		}
	}
	again()
	end()
	_, u, _ := life(t, dir, broker, box)
	again()
	if made.Load() != 4 || u.Status().Repeated != uint64(len(first)) {
		t.Errorf("made %d times, %+v", made.Load(), u.Status())
	}
}

// While a bundle is collected, alerts and other commands pass; a second one is
// told to come later, and what is said twice is answered once.
func TestNothingWaitsForABundle(t *testing.T) {
	broker := newMosquitto(t).url()
	heard := listen(t, broker)
	dir := filepath.Join(t.TempDir(), "journal")
	var begun, ended atomic.Int32
	found := make(chan string)
	box := &till{diagnose: func(ctx context.Context, _ bool, _ int) (any, error) {
		begun.Add(1)
		defer ended.Add(1)
		select {
		case s := <-found:
			if s == "" {
				return nil, errors.New("ill")
			}
			return s, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}}
	_, u, end := life(t, dir, broker, box)
	order(t, broker, `{"id":"c1","type":"diagnostics.collect"}`)
	until(t, "it is collected", func() bool { return begun.Load() == 1 })
	alert := cloud.Broadcast{ID: "a1", Event: "menu_updated", Payload: []byte(`{}`)}
	if err := cloud.SendBroadcast(t.Context(), cloud.Access{Broker: broker}, testPrefix, alert); err != nil {
		t.Fatal(err)
	}
	until(t, "the alert is stored", func() bool { return u.Status().Broadcasts == 1 })
	if got := ask(t, broker, heard, `{"id":"c2","type":"diagnostics.collect"}`); !strings.Contains(got, `"status":"failed","error":"busy: a bundle is collected for command \"c1\"`) {
		t.Errorf("a second one: %s", got)
	}
	order(t, broker, `{"id":"c1","type":"diagnostics.collect"}`)
	until(t, "it is said twice", func() bool { return u.Status().Repeated == 1 })
	if got := ask(t, broker, heard, `{"id":"c3","type":"status.report"}`); !strings.Contains(got, `"id":"c3","status":"done"`) {
		t.Errorf("another command: %s", got)
	}

	// With the link it ends, and begins anew: nothing was answered.
	u.Interrupt(time.Millisecond)
	until(t, "it is collected again", func() bool { return begun.Load() == 2 })
	if ended.Load() != 1 || u.Status().Broadcasts != 1 {
		t.Errorf("%d ended, %+v", ended.Load(), u.Status())
	}
	answers := func(id string) (list []string) { // others' may be repeated after the interruption
		for _, a := range heard.answers() {
			if strings.HasPrefix(a, fmt.Sprintf(`{"id":%q,`, id)) {
				list = append(list, a)
			}
		}
		return list
	}
	found <- "all of it"
	until(t, "it is answered", func() bool { return len(answers("c1")) == 1 })
	if got, want := answers("c1")[0], `{"id":"c1","status":"done","result":"all of it"}`; got != want {
		t.Errorf("answered %s", got)
	}

	// Then the next may come.
	order(t, broker, `{"id":"c4","type":"diagnostics.collect"}`)
	found <- ""
	until(t, "it is answered", func() bool { return len(answers("c4")) == 1 })
	if got := answers("c4")[0]; got != `{"id":"c4","status":"failed","error":"ill"}` {
		t.Errorf("answered %s", got)
	}
	order(t, broker, `{"id":"c1","type":"diagnostics.collect"}`)
	until(t, "it is repeated", func() bool { return len(answers("c1")) == 2 })
	if got := answers("c1"); got[0] != got[1] || begun.Load() != 3 {
		t.Errorf("repeated: %s", got)
	}

	// A box that stops does not wait for it.
	order(t, broker, `{"id":"c5","type":"diagnostics.collect"}`)
	until(t, "it is collected", func() bool { return begun.Load() == 4 })
	end()
	if ended.Load() != 4 {
		t.Errorf("%d of 4 ended", ended.Load())
	}
}

// What makes the collector fall over is answered, and does not end the box.
func TestCollectorPanics(t *testing.T) {
	box := &till{diagnose: func(context.Context, bool, int) (any, error) { panic("very ill") }}
	d := &downlink{u: &Uplink{log: quietLog(), box: box}}
	if a := d.diagnose(t.Context(), "c1", false); a.ID != "c1" || a.Status != commandFailed || a.Error != "panicked: very ill" {
		t.Errorf("answered %+v", a)
	}
}

// Large answers stay one over a restart in between and a ring that wraps.
func TestOneLargeAnswerIsKept(t *testing.T) {
	j := newMemory()
	in, _, _, err := loadInbox(j, quietLog())
	if err != nil {
		t.Fatal(err)
	}
	large := []byte(`"` + strings.Repeat("x", 2*maxResult) + `"`)
	for i := range 3 * commandsKept {
		body := []byte(`"small"`)
		if i%50 == 7 || i%commandsKept == 9 {
			body = large
		}
		if err := in.put(fmt.Sprintf("c%d", i), body, effect{}); err != nil {
			t.Fatal(err)
		}
		if i%97 == 0 {
			if in, _, _, err = loadInbox(j, quietLog()); err != nil {
				t.Fatal(err)
			}
		}
		all, _ := j.All(commandSpace)
		n, numbers := 0, map[uint64]bool{}
		for key, raw := range all {
			var s slot
			if err := json.Unmarshal(raw, &s); err != nil {
				t.Fatal(err)
			}
			numbers[s.Number] = true
			if want := fmt.Sprintf("%03d", s.Number%commandsKept); key != want {
				t.Fatalf("after %d: number %d lies at %s", i, s.Number, key)
			}
			if len(s.Answer) > maxResult {
				n++
			}
		}
		if n > 1 || i > 9 && i < 250 && n != 1 || len(numbers) != len(all) {
			t.Fatalf("after %d there are %d large answers, %d numbers of %d", i, n, len(numbers), len(all))
		}
	}
}
