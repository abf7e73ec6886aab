package simulate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

func noToken(event.Role, string, string) (string, error) { return "t", nil }

// checkLedger compares what terminals were promised with what a server keeps.
func checkLedger(t *testing.T, s Summary, ledger []string) {
	t.Helper()
	var promised []string
	for i, a := range s.Acknowledged {
		promised = append(promised, a.Key)
		if a.Seq != event.Seq(i+1) || string(a.ID) != a.Key {
			t.Fatalf("acknowledged %d = %+v", i, a)
		}
	}
	if !slices.Equal(promised, ledger) {
		t.Errorf("promised %d events, kept %d, or in another order", len(promised), len(ledger))
	}
}

func TestCalmDay(t *testing.T) {
	f := newFake(t, knobs{})
	s, err := Run(soon(t), Plan{
		URL: f.URL, Venue: "v1", Terminals: 3, Dashboards: 2, Events: 200, Seed: 1, Token: noToken, Backoff: quick,
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	checkLedger(t, s, f.stored())
	if s.Total.Sent != 200 || s.Total.Acknowledged != 200 || s.Lost+s.Total.Retried+s.Total.Duplicates+s.Doubled+s.Total.Refused != 0 {
		t.Errorf("total = %+v", s.Total)
	}
	for _, d := range s.Dashboards {
		if d.Heard.Events != 200 || d.Connections != 1 {
			t.Errorf("%s heard %d of 200 events over %d connections", d.Name, d.Heard.Events, d.Connections)
		}
	}
	if s.Total.Heard.Echoed+s.Total.Heard.Foreign != 0 {
		t.Errorf("terminals heard %+v", s.Total.Heard)
	}
	if s.Total.Latency.Count() != 200 || s.Total.Latency.Quantile(0.99) <= 0 {
		t.Error("latency was not measured")
	}
	for _, want := range []string{"200 events acknowledged", "0 lost", "AVQD-9000000001", "dashboard-2"} {
		if !strings.Contains(s.String(), want) {
			t.Errorf("summary lacks %q:\n%s", want, s)
		}
	}
	raw, err := json.Marshal(s)
	if err != nil || !strings.Contains(string(raw), `"lost":0`) || !strings.Contains(string(raw), `"p99Ms"`) || strings.Contains(string(raw), "Unlisted") {
		t.Errorf("summary as JSON = %s, %v", raw, err)
	}
}

// Dashboards are there before the first sale and until the last one is heard.
func TestDashboardsComeFirstAndStayLongest(t *testing.T) {
	var joins atomic.Int32
	var late sync.WaitGroup
	ctx := soon(t)
	f := newFake(t, knobs{})
	f.onEvent = func(s *fakeSocket, id, name string, payload json.RawMessage) bool {
		switch {
		case name == "join_room" && joins.Add(1) == 1:
			late.Go(func() {
				pause(ctx, 50*time.Millisecond) // time for a terminal that does not wait to show itself
				if joins.Load() != 1 {
					t.Error("a terminal came before the dashboard had joined")
				}
				s.answer(id, `{"success":true}`)
			})
		case name == "payment_initiated":
			key, seq, _ := f.store(payload)
			s.answer(id, fmt.Sprintf(`{"success":true,"eventId":%q,"seq":%d}`, key, seq))
			late.Go(func() {
				pause(ctx, 50*time.Millisecond)
				f.fanOut(s, fmt.Sprintf(`42[%q,%s]`, name, enrich(payload, key)))
			})
		default:
			return false
		}
		return true
	}
	s, err := Run(ctx, Plan{URL: f.URL, Venue: "v1", Terminals: 1, Dashboards: 1, Events: 3, Hands: 1, Token: noToken}, nil)
	if err != nil {
		t.Fatal(err)
	}
	late.Wait()
	if got := s.Dashboards[0].Heard.Sales; got != 3 {
		t.Errorf("dashboard heard %d of 3", got)
	}
}

// Transports break before and after events were stored, answers get lost:
// in the end each event stands in the ledger once and was acknowledged once.
func TestBadDay(t *testing.T) {
	var n atomic.Int32
	f := newFake(t, knobs{onEvent: func(s *fakeSocket, id, name string, payload json.RawMessage) bool {
		if row, known := event.Lookup(event.Kind(name)); !known || row.Volatile {
			return false
		}
		switch i := n.Add(1); {
		case i%29 == 0: // stored, and the answer never left
			s.server.store(payload)
			_ = s.ws.Close()
			return true
		case i%31 == 0: // not stored
			_ = s.ws.Close()
			return true
		case i%97 == 0:
			s.server.dropAll()
			return true
		case i%37 == 0:
			s.answer(id, `{"success":false,"error":"disk is busy","statusCode":503,"retryAfterMs":1}`)
			return true
		}
		return false
	}})
	s, err := Run(soon(t), Plan{
		URL: f.URL, Venue: "v1", Terminals: 4, Events: 400, Seed: 2, Token: noToken, Backoff: quick,
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	checkLedger(t, s, f.stored())
	if s.Lost != 0 || s.Total.Acknowledged != 400 || len(s.Acknowledged) != 400 {
		t.Errorf("lost %d, acknowledged %d, listed %d", s.Lost, s.Total.Acknowledged, len(s.Acknowledged))
	}
	if s.Total.Retried == 0 || s.Total.Duplicates == 0 || s.Total.Deferred == 0 || s.Total.Connections <= 4 {
		t.Errorf("the day was not bad: %+v", s.Total)
	}
}

func TestAnswersThatStayAway(t *testing.T) {
	var held sync.Map
	f := newFake(t, knobs{onEvent: func(s *fakeSocket, _, name string, payload json.RawMessage) bool {
		if name == "join_room" || strings.HasPrefix(name, "tpv:") {
			return false
		}
		_, again := held.LoadOrStore(string(payload), true)
		if !again {
			s.server.store(payload) // stored, but nobody says so
		}
		return !again
	}})
	terminal := newTerminal(terminalConfig{
		URL: f.URL, Venue: "v1", Serial: "AVQD-1", Role: event.Manager, Run: "r", Events: 10, Keep: 4,
		AckTimeout: 20 * time.Millisecond, Backoff: quick,
	})
	if err := terminal.Run(soon(t)); err != nil {
		t.Fatal(err)
	}
	got := terminal.Figures()
	if got.Acknowledged != 10 || got.Duplicates != 10 || got.Retried < 10 || got.Connections != 1 {
		t.Errorf("figures = %+v", got)
	}
	if len(terminal.Accepted()) != 4 || got.Unlisted != 6 {
		t.Errorf("listed %d, unlisted %d; want 4 and 6", len(terminal.Accepted()), got.Unlisted)
	}
}

func TestSameRunIsKnownAgain(t *testing.T) {
	f := newFake(t, knobs{})
	plan := Plan{URL: f.URL, Venue: "v1", Terminals: 2, Events: 50, Seed: 3, Run: "again", Hands: 1, Token: noToken}
	for round := range 2 {
		s, err := Run(soon(t), plan, nil)
		if err != nil {
			t.Fatal(err)
		}
		checkLedger(t, s, f.stored())
		if want := uint64(round * 50); s.Total.Duplicates != want {
			t.Errorf("round %d: %d duplicates, want %d", round, s.Total.Duplicates, want)
		}
	}
	plan.Run = ""
	if s, err := Run(soon(t), plan, nil); err != nil || s.Total.Duplicates != 0 {
		t.Errorf("a fresh run: %d duplicates, %v", s.Total.Duplicates, err)
	}
}

func TestRefusedEvents(t *testing.T) {
	f := newFake(t, knobs{onEvent: func(s *fakeSocket, id, name string, _ json.RawMessage) bool {
		switch name {
		case "payment_initiated":
			s.answer(id, `{"success":false,"error":"Role X not authorized","statusCode":401}`)
			return true
		case "order_updated":
			s.answer(id, `"gibberish"`)
			return true
		}
		return false
	}})
	s, err := Run(soon(t), Plan{URL: f.URL, Venue: "v1", Terminals: 2, Events: 40, Hands: 1, Token: noToken}, nil)
	if err != nil {
		t.Fatal(err)
	}
	// Half of the manager's events are order_updated, all of the cashier's are
	// refused: a refused step ends its sale.
	if s.Total.Refused != 30 || s.Total.Acknowledged != 10 || s.Lost != 0 {
		t.Errorf("refused %d, acknowledged %d, lost %d", s.Total.Refused, s.Total.Acknowledged, s.Lost)
	}
	if !strings.Contains(s.String(), "last refusal: ") {
		t.Errorf("summary does not say why:\n%s", s)
	}
}

func TestEndOfContextCountsWhatIsLost(t *testing.T) {
	ctx, cancel := context.WithCancel(soon(t))
	var seen atomic.Int32
	f := newFake(t, knobs{onEvent: func(_ *fakeSocket, _, name string, _ json.RawMessage) bool {
		if name == "join_room" {
			return false
		}
		if seen.Add(1) == 5 {
			cancel()
		}
		return true
	}})
	terminal := newTerminal(terminalConfig{
		URL: f.URL, Venue: "v1", Serial: "AVQD-1", Role: event.Manager, Run: "r", Hands: 4, Grace: 1,
	})
	if err := terminal.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if got := terminal.Figures(); got.Pending != 4 || got.Sent != 4 || got.Acknowledged != 0 {
		t.Errorf("figures = %+v, want one pending event per hand", got)
	}
}

func TestUnwantedClients(t *testing.T) {
	f := newFake(t, knobs{connect: `44{"message":"Invalid token format"}`})
	s, err := Run(soon(t), Plan{URL: f.URL, Venue: "v1", Terminals: 2, Dashboards: 1, Token: noToken}, nil)
	var refused *ConnectError
	if !errors.As(err, &refused) || strings.Count(err.Error(), "Invalid token format") != 3 {
		t.Errorf("err = %v, want a refusal per client", err)
	}
	if len(s.Terminals) != 2 || s.Total.Sent != 0 {
		t.Errorf("summary = %+v", s)
	}

	f = newFake(t, knobs{onEvent: func(s *fakeSocket, id, _ string, _ json.RawMessage) bool {
		s.answer(id, `{"success":false,"error":"Access denied to specified venue","statusCode":401}`)
		return true
	}})
	_, err = Run(soon(t), Plan{URL: f.URL, Venue: "v1", Terminals: 1, Token: noToken}, nil)
	var denied *RefusedError
	if !errors.As(err, &denied) || denied.Text != "Access denied to specified venue" {
		t.Errorf("err = %v, want the refused join", err)
	}
}

func TestPlanIsChecked(t *testing.T) {
	broken := errors.New("no key")
	for name, plan := range map[string]Plan{
		"nobody":    {Token: noToken},
		"no tokens": {Terminals: 1},
		"negative":  {Terminals: -1, Dashboards: 2, Token: noToken},
		"long name": {Terminals: 1, Token: noToken, Run: strings.Repeat("x", maxRunName+1)},
		"bad token": {Terminals: 1, Token: func(event.Role, string, string) (string, error) { return "", broken }},
		"bad dashboard token": {Dashboards: 1, Token: func(event.Role, string, string) (string, error) {
			return "", broken
		}},
	} {
		if _, err := Run(soon(t), plan, nil); err == nil {
			t.Errorf("%s: ran", name)
		}
	}
}

func TestProgress(t *testing.T) {
	f := newFake(t, knobs{})
	ctx, cancel := context.WithCancel(soon(t))
	shots := map[string]int{}
	s, err := Run(ctx, Plan{URL: f.URL, Venue: "v1", Terminals: 2, Dashboards: 1, Rate: 50, Token: noToken}, func(s Snapshot) {
		shots[fmt.Sprintf("%d/%d", s.Connected, s.Clients)]++
		if s.Total.Acknowledged > 0 && strings.Contains(s.String(), "clients 3/3") {
			cancel()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.Lost != 0 || len(shots) == 0 || s.Total.Heartbeats != 2 || s.Total.HeartbeatsRefused != 0 {
		t.Errorf("lost %d, shots %v, heartbeats %d", s.Lost, slices.Collect(maps.Keys(shots)), s.Total.Heartbeats)
	}
	checkLedger(t, s, f.stored())
}
