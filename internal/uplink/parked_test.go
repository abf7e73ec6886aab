package uplink

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/cloud"
	"github.com/avoqado/avoqado-edge/internal/event"
)

// about appends an event about an order, and returns its position. Orders that
// are called old are from an hour ago.
func about(t *testing.T, j appender, order string, n int) event.Seq {
	t.Helper()
	e := payment(n)
	e.Kind, e.Class, e.Subject = event.OrderUpdated, event.Orders, order
	e.ID = event.ID(fmt.Sprintf("%s-%d", order, n))
	e.Payload = fmt.Appendf(nil, `{"orderId":%q,"n":%d}`, order, n)
	if strings.HasPrefix(order, "old") {
		e.Time = e.Time.Add(-time.Hour)
	}
	r, err := j.Append(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	return r.Seq
}

// picky is a back-end that does not take what is named in its payload.
func picky(t *testing.T, broker string, poison *atomic.Value) *cloud.Backend {
	t.Helper()
	return startBackendOf(t, cloud.BackendConfig{
		Access: cloud.Access{Broker: broker}, Prefix: testPrefix,
		Refuse: func(e cloud.Effect) string {
			if bad, _ := poison.Load().(string); bad != "" && strings.Contains(string(e.Data), bad) {
				return "no such order"
			}
			return ""
		},
	})
}

// taken lists the ids of the effects, in order.
func taken(t *testing.T, b *cloud.Backend) (ids []string) {
	t.Helper()
	if err := b.Each(func(e cloud.Effect) error { ids = append(ids, string(e.ID)); return nil }); err != nil {
		t.Fatal(err)
	}
	return ids
}

// What the back-end refuses leaves the line with what is about the same order;
// all others get on, over a restart too. Once it is mended, all of it arrives,
// once, in the order in which it happened.
func TestRefusedEventIsParked(t *testing.T) {
	broker := startBroker(t, "127.0.0.1:0")
	var poison atomic.Value
	poison.Store(`"orderId":"o2"`)
	backend := picky(t, broker.URL(), &poison)
	j := newMemory()
	u := newUplink(t, j, broker.URL(), nil)
	stop := running(t, "uplink", u.Run)

	about(t, j, "o1", 1)
	bad := about(t, j, "o2", 1)
	about(t, j, "o3", 1)
	until(t, "it is parked", func() bool { return u.Status().Parked == 1 && u.Status().Synced == 3 })
	behind := about(t, j, "o2", 2)
	last := about(t, j, "o3", 2)
	until(t, "the line gets on", func() bool { return u.Status().Synced == last })
	if got := taken(t, backend); !slices.Equal(got, []string{"o1-1", "o3-1", "o3-2"}) {
		t.Fatalf("taken %v", got)
	}
	stop()

	u = newUplink(t, j, broker.URL(), nil)
	list := u.Parked()
	if len(list) != 2 || list[0].Event.Seq != bad || list[0].Reason != "no such order" || list[0].Behind != 0 ||
		list[1].Event.Seq != behind || list[1].Behind != bad || string(list[0].Event.Payload) != `{"orderId":"o2","n":1}` {
		t.Fatalf("parked after a restart: %+v", list)
	}
	running(t, "uplink", u.Run)
	online(t, u)
	if _, err := u.Settle(t.Context(), behind, Drop, nil, ""); !errors.Is(err, ErrWaits) {
		t.Errorf("who waits can be dropped: %v", err)
	}
	if _, err := u.Settle(t.Context(), 99, Drop, nil, ""); !errors.Is(err, ErrNotParked) {
		t.Errorf("nothing can be dropped: %v", err)
	}
	poison.Store("")
	done, err := u.Settle(t.Context(), bad, Retry, nil, "mended")
	if err != nil || done.Again != last+1 {
		t.Fatalf("settled %+v: %v", done, err)
	}
	until(t, "all is there", func() bool { return count(t, backend) == 5 })
	if got := taken(t, backend)[3:]; !slices.Equal(got, []string{"o2-1", "o2-2"}) {
		t.Errorf("taken %v", got)
	}
	if n := len(u.Parked()); n != 0 {
		t.Errorf("%d parked", n)
	}
	about(t, j, "o2", 3)
	until(t, "the order is free", func() bool { return count(t, backend) == 6 })
	events, _ := j.Read(last, 1, 1)
	if !events[0].Expired(events[0].Time) {
		t.Error("the venue is shown it again")
	}
}

// An operator may mend an event, or give it up; both are recorded.
func TestParkedEventsAreEditedAndDropped(t *testing.T) {
	broker := startBroker(t, "127.0.0.1:0")
	var poison atomic.Value
	poison.Store(`"n":7`)
	backend := picky(t, broker.URL(), &poison)
	j := newMemory()
	u := newUplink(t, j, broker.URL(), nil)
	running(t, "uplink", u.Run)
	first, second := about(t, j, "o1", 7), about(t, j, "o2", 7)
	until(t, "both are parked", func() bool { return u.Status().Parked == 2 && u.Status().Synced == second })
	about(t, j, "o2", 8)

	for _, payload := range []string{"", "[]", `{"n":`, `{"x":"` + strings.Repeat("x", event.MaxPayload) + `"}`} {
		if _, err := u.Settle(t.Context(), first, Edit, []byte(payload), ""); !errors.Is(err, ErrPayload) {
			t.Errorf("%.20q: %v", payload, err)
		}
	}
	if _, err := u.Settle(t.Context(), first, Edit, []byte(`{"orderId":"o1","n":6}`), "a typing error"); err != nil {
		t.Fatal(err)
	}
	until(t, "what waits is parked", func() bool { return u.Status().Parked == 2 && u.Status().Synced == 4 })
	if _, err := u.Settle(t.Context(), second, Drop, nil, "by hand"); err != nil {
		t.Fatal(err)
	}
	until(t, "the rest is there", func() bool { return count(t, backend) == 2 })
	if got := taken(t, backend); !slices.Equal(got, []string{"o1-7", "o2-8"}) {
		t.Errorf("taken %v", got)
	}
	var notes []string
	all, _ := j.All(settledSpace)
	for _, raw := range all {
		var s Settled
		if err := json.Unmarshal(raw, &s); err != nil {
			t.Fatal(err)
		}
		notes = append(notes, fmt.Sprintf("%d %s %s %s %s", s.Seq, s.Decision, s.Note, s.Reason, s.Event.Payload))
	}
	slices.Sort(notes)
	want := []string{
		`1 edit a typing error no such order {"orderId":"o1","n":7}`,
		`2 drop by hand no such order {"orderId":"o2","n":7}`,
	}
	if !slices.Equal(notes, want) {
		t.Errorf("record %q", notes)
	}
}

// Power may fail between any two steps of a decision: it can be made again, and
// nothing goes to the cloud twice.
func TestDecisionIsMadeOnce(t *testing.T) {
	broker := startBroker(t, "127.0.0.1:0")
	var poison atomic.Value
	poison.Store(`"n":7`)
	backend := picky(t, broker.URL(), &poison)
	j := newMemory()
	u := newUplink(t, j, broker.URL(), nil)
	stop := running(t, "uplink", u.Run)
	bad := about(t, j, "o1", 7)
	until(t, "it is parked", func() bool { return u.Status().Parked == 1 && u.Status().Synced == bad })
	about(t, j, "o1", 8)
	until(t, "what is behind, too", func() bool { return u.Status().Parked == 2 && u.Status().Synced == 2 })
	poison.Store("")
	dead := errors.New("power cut")
	for _, space := range []string{leftSpace, settledSpace, ParkedSpace} {
		j.put = func(s string) (func(), error) {
			if s == space {
				return nil, dead
			}
			return func() {}, nil
		}
		if _, err := u.Settle(t.Context(), bad, Retry, nil, ""); !errors.Is(err, dead) {
			t.Fatalf("%s: %v", space, err)
		}
		stop()
		j.put = nil
		u = newUplink(t, j, broker.URL(), nil)
		stop = running(t, "uplink", u.Run)
		online(t, u)
	}
	if _, err := u.Settle(t.Context(), bad, Retry, nil, ""); err != nil {
		t.Fatal(err)
	}
	until(t, "all is there", func() bool { return u.Status().Synced == j.Stored() })
	if got := taken(t, backend); !slices.Equal(got, []string{"o1-7", "o1-8"}) {
		t.Errorf("taken %v", got)
	}
}

// What an operator has dropped is not sent again by a replay, and what was sent
// again comes from its new place alone, also after a restart.
func TestReplayPassesWhatWasSettled(t *testing.T) {
	broker := startBroker(t, "127.0.0.1:0")
	var poison atomic.Value
	poison.Store(`"n":7`)
	backend := picky(t, broker.URL(), &poison)
	heard := listen(t, broker.URL())
	j := newMemory()
	u := newUplink(t, j, broker.URL(), nil)
	stop := running(t, "uplink", u.Run)
	dropped := about(t, j, "o1", 7)
	again := about(t, j, "o2", 7)
	about(t, j, "o3", 1)
	until(t, "two are parked", func() bool { return u.Status().Parked == 2 && u.Status().Synced == 3 })
	poison.Store("")
	if _, err := u.Settle(t.Context(), dropped, Drop, nil, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := u.Settle(t.Context(), again, Retry, nil, ""); err != nil {
		t.Fatal(err)
	}
	until(t, "all is there", func() bool { return u.Status().Synced == j.Stored() })
	if got := taken(t, backend); !slices.Equal(got, []string{"o3-1", "o2-7"}) {
		t.Fatalf("taken %v", got)
	}
	stop()
	u = newUplink(t, j, broker.URL(), nil)
	running(t, "uplink", u.Run)
	online(t, u)
	sent := strings.Join(heard.all("/boxes/b1/events"), "")
	ask(t, broker.URL(), heard, `{"id":"a","type":"journal.replay","params":{"from":1}}`)
	until(t, "it is over", func() bool { return u.Status().Replay == nil && u.Status().Replayed > 0 })
	until(t, "all is heard", func() bool {
		return strings.Contains(strings.Join(heard.all("/boxes/b1/events"), "")[len(sent):], `"id":"o2-7"`)
	})
	replayed := strings.Join(heard.all("/boxes/b1/events"), "")[len(sent):]
	if strings.Contains(replayed, `"id":"o1-7"`) || strings.Count(replayed, `"id":"o2-7"`) != 1 {
		t.Errorf("replayed: %s", replayed)
	}
}

// A refusal that is said again, or is of another history, parks nothing; one
// that the disk does not take at once is kept all the same.
func TestRefusalsAreKept(t *testing.T) {
	broker := startBroker(t, "127.0.0.1:0")
	j := newMemory()
	var ill atomic.Bool
	var tried atomic.Int64
	ill.Store(true)
	j.put = func(space string) (func(), error) {
		if space == ParkedSpace && ill.Load() {
			tried.Add(1)
			return nil, errors.New("disk full")
		}
		return func() {}, nil
	}
	u, err := New(Config{Brokers: []string{broker.URL()}, Venue: "v1", Box: "b1"}, j, j, j, &till{}, quietLog())
	if err != nil {
		t.Fatal(err)
	}
	running(t, "uplink", u.Run)
	online(t, u)
	appendPayments(t, j, 3)
	until(t, "they are sent", func() bool { return u.Status().Sent == 3 })
	refuse := func(epoch event.Epoch, rest string) {
		say(t, broker.URL(), "/boxes/b1/acks", false, `{"epoch":"`+string(epoch)+`",`+rest+`}`)
	}
	refuse("other", `"through":0,"rejected":[{"sequence":1,"reason":"x"}]`)
	refuse(j.epoch, `"through":1,"rejected":[{"sequence":0},{"sequence":77},{"sequence":"x"}]`)
	until(t, "what is no position is rejected", func() bool { return u.Status().Rejected > 0 }) // before the next, which holds up the queue
	refuse(j.epoch, `"through":3,"rejected":[{"sequence":"00000000000000000002","reason":"no`+strings.Repeat("!", 100<<10)+`"},{"sequence":2,"reason":"again"}]`)
	until(t, "it is tried", func() bool { return tried.Load() > 0 })
	ill.Store(false)
	until(t, "the second is parked", func() bool { return u.Status().Parked == 1 && u.Status().Synced == 3 })
	if p := u.Parked(); p[0].Event.Seq != 2 || !strings.HasPrefix(p[0].Reason, "no!") || len(p[0].Reason) > 1<<10 {
		t.Errorf("parked %.1000v", p)
	}
}

// The list has an end; then the link ends with a name of its own.
func TestParkingIsBounded(t *testing.T) {
	j := newMemory()
	p, err := loadParking(j)
	if err != nil {
		t.Fatal(err)
	}
	for i := range parkedMax {
		e := payment(i)
		e.Seq = event.Seq(i + 1)
		if err := p.park(e, "no", 0); err != nil {
			t.Fatal(err)
		}
	}
	e := payment(parkedMax)
	e.Seq = parkedMax + 1
	if err := p.park(e, "no", 0); nameOf(err) != ParkedFull || Remedy(ParkedFull) == "" {
		t.Errorf("%v", err)
	}
}

func TestKeys(t *testing.T) {
	for want, e := range map[string]event.Event{
		"orderId/o1 paymentId/p1": {Kind: event.PaymentCompleted, Subject: "p1", Terminal: "t", Payload: []byte(`{"paymentId":"p1","orderId":"o1","tableId":"t1"}`)},
		"orderId/o1":              {Kind: event.OrderCreated, Subject: "o1", Terminal: "t", Payload: []byte(`{"orderId":"o1","tableId":"t1"}`)},
		"tableId/t1":              {Kind: event.TableStatusChange, Subject: "t1", Terminal: "t", Payload: []byte(`{"tableId":"t1"}`)},
		"shiftId/s1":              {Kind: "shift_opened", Subject: "s1", Terminal: "t", Payload: []byte(`{"shiftId":"s1"}`)},
		"terminal/t":              {Kind: event.SystemAlert, Terminal: "t", Payload: []byte(`{"title":"x"}`)},
		"kind/system_alert":       {Kind: event.SystemAlert, Payload: []byte(`{"title":"x"}`)},
	} {
		if got := strings.Join(appendKeys(nil, &e), " "); got != want {
			t.Errorf("%s: %s, want %s", e.Kind, got, want)
		}
	}
}

// What an operator has decided stays decided when the back-end refuses it again,
// over a restart too.
func TestSettledEventIsNotParkedAgain(t *testing.T) {
	j := newMemory()
	bad := about(t, j, "o1", 1)
	j.cursors[cursorName] = bad
	u := newUplink(t, j, "tcp://127.0.0.1:1", nil)
	again := []refusal{{Seq: position(bad), Reason: "no"}}
	if err := u.refuse(j.epoch, again); err != nil || len(u.Parked()) != 1 {
		t.Fatalf("parked %+v: %v", u.Parked(), err)
	}
	if _, err := u.Settle(t.Context(), bad, Drop, nil, ""); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := u.refuse(j.epoch, again); err != nil || len(u.Parked()) != 0 {
			t.Errorf("parked %+v: %v", u.Parked(), err)
		}
		u = newUplink(t, j, "tcp://127.0.0.1:1", nil)
	}
	// The memory of it has an end.
	for i := range settledKept {
		next := about(t, j, "o2", i)
		j.cursors[cursorName] = next
		u.status.Synced = next
		if err := u.refuse(j.epoch, []refusal{{Seq: position(next)}}); err != nil {
			t.Fatal(err)
		}
		if _, err := u.Settle(t.Context(), next, Drop, nil, ""); err != nil {
			t.Fatal(err)
		}
	}
	list, err := u.Settled()
	if err != nil || len(list) != settledKept || list[0].Number != 2 || list[settledKept-1].Seq != j.Stored() {
		t.Errorf("%d decisions: %v", len(list), err)
	}
	if !u.parking.has(bad) || !u.parking.has(list[0].Seq) {
		t.Error("places that were left are sent from again")
	}
	// What older versions wrote of a place says only that it was left.
	if err := j.Put(leftSpace, map[string][]byte{parkedKey(list[0].Seq): []byte("1"), parkedKey(5000): []byte("1")}); err != nil {
		t.Fatal(err)
	}
	waits := about(t, j, "o3", 1)
	j.cursors[cursorName] = waits
	u = newUplink(t, j, "tcp://127.0.0.1:1", nil)
	if err := u.refuse(j.epoch, []refusal{{Seq: position(waits)}}); err != nil {
		t.Fatal(err)
	}
	for seq, want := range map[event.Seq]string{bad: "false drop", list[0].Seq: "false drop", 5000: "false retry", waits: "true ", 6000: "false "} {
		parked, decided := u.Stands(seq)
		if got := fmt.Sprintf("%v %s", parked, decided); got != want {
			t.Errorf("event %d: %s, want %s", seq, got, want)
		}
	}
}

// What happens about an order while an operator's decision about it is carried out
// is not left waiting for an event that is gone; and a decision that is too early
// has begun nothing.
func TestNobodyWaitsForASettledEvent(t *testing.T) {
	j := newMemory()
	bad := about(t, j, "o1", 1)
	j.cursors[cursorName] = bad
	u := newUplink(t, j, "tcp://127.0.0.1:1", nil)
	if err := u.refuse(j.epoch, []refusal{{Seq: position(bad), Reason: "no"}}); err != nil {
		t.Fatal(err)
	}
	detained := func(n int) { // as the sender does when it reads on
		events, err := j.Read(about(t, j, "o1", n)-1, 1, 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := u.parking.detain(events); err != nil {
			t.Fatal(err)
		}
	}
	detained(2)
	stored := j.Stored()
	if _, err := u.Settle(t.Context(), bad, Retry, nil, ""); !errors.Is(err, ErrInFlight) || j.Stored() != stored {
		t.Errorf("%v, and %d events were appended", err, j.Stored()-stored)
	}
	u.status.Synced = stored
	j.refuse = func(*event.Event) error {
		j.refuse = nil
		detained(3)
		return nil
	}
	_, err := u.Settle(t.Context(), bad, Retry, nil, "")
	for ; errors.Is(err, ErrInFlight) && u.status.Synced < j.Stored(); _, err = u.Settle(t.Context(), bad, Retry, nil, "") {
		u.status.Synced = j.Stored()
	}
	if list := u.Parked(); err != nil || len(list) != 0 {
		t.Errorf("parked %+v: %v", list, err)
	}
	var ids []string
	events, _ := j.Read(stored, 100, 1<<20)
	for _, e := range events {
		if strings.HasPrefix(e.DedupKey, againPrefix) {
			ids = append(ids, string(e.ID))
		}
	}
	if !slices.Equal(ids, []string{"o1-1", "o1-2", "o1-3"}) {
		t.Errorf("sent again: %v", ids)
	}
	// The same between the look at what is refused and the parking.
	late := payment(9)
	late.Seq = 9
	if err := u.parking.park(late, "", bad); err != nil || len(u.Parked()) != 0 {
		t.Errorf("parked %+v: %v", u.Parked(), err)
	}
}
