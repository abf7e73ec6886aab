package boxtest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
)

// audience are live sockets, and when each was closed.
type audience struct {
	t     *testing.T
	group sync.WaitGroup
	mu    sync.Mutex // guards below
	ended []time.Time
}

// watch keeps a socket alive until the box closes it.
func (a *audience) watch(ws *websocket.Conn) {
	_ = ws.SetReadDeadline(time.Now().Add(10 * time.Minute))
	a.group.Go(func() {
		for {
			_, raw, err := ws.ReadMessage()
			switch {
			case err != nil:
				a.mu.Lock()
				defer a.mu.Unlock()
				a.ended = append(a.ended, time.Now())
				_ = ws.Close()
				return
			case string(raw) == "2":
				_ = ws.WriteMessage(websocket.TextMessage, []byte("3"))
			}
		}
	})
}

func (a *audience) left() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.ended)
}

// after waits for all to be closed and logs how long each took from a moment on.
func (a *audience) after(what string, n int, moment time.Time) {
	a.t.Helper()
	Eventually(a.t, 5*time.Minute, fmt.Sprintf("%s: %d sockets are closed", what, n), func() bool { return a.left() == n })
	a.group.Wait()
	took := make([]time.Duration, n)
	for i, at := range a.ended {
		took[i] = at.Sub(moment).Round(time.Millisecond)
	}
	slices.Sort(took)
	a.t.Logf("%s: %d sockets closed; first %s, p50 %s, p99 %s, last %s after it", what, n, took[0], took[n/2], took[n*99/100], took[n-1])
	if took[0] < -50*time.Millisecond {
		a.t.Errorf("%s: a socket was closed %s before it", what, -took[0])
	}
}

// TestHowSoonSessionsEnd measures, with 200 live sockets, how long the box takes
// from the cloud's word, from a token's end and from a lease's to the last closed
// socket. It fails if one stays open, or is closed that should not be; the figures
// are in its log.
func TestHowSoonSessionsEnd(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("waits for tokens to end")
	}
	const crowd = 200
	broker := StartMosquitto(t, MosquittoConfig{})
	box := StartBox(t, BoxConfig{Broker: broker.URL(), Extra: "auth: {offline_grace: 10m}"})
	Eventually(t, 60*time.Second, "uplink online", func() bool { return box.Status().Uplink.State == "online" })
	token := func(n int, end time.Time) string { // which the box refuses from end on
		t.Helper()
		v, err := auth.NewVerifier(auth.Config{Venue: Venue, Secret: []byte(Secret)}, func() time.Time { return end.Add(-time.Hour) })
		if err != nil {
			t.Fatal(err)
		}
		text, err := v.Mint(auth.Grant{Subject: fmt.Sprint("w", n), Org: "org1", Role: event.Waiter, Terminal: fmt.Sprint("AVQD-", n)}, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	var seen strings.Builder
	let := func(a *audience, n int, token string) {
		t.Helper()
		ws, answer := box.attacker(n, &seen).connect(`{"token":"`+token+`"}`, "", nil)
		if !strings.HasPrefix(answer, "40") {
			t.Fatalf("socket %d: %q", n, answer)
		}
		a.watch(ws)
	}
	gather := func(until time.Time) *audience {
		t.Helper()
		a := &audience{t: t}
		for n := range crowd {
			let(a, n, token(n, until))
		}
		return a
	}
	bystander := &audience{t: t}
	let(bystander, 999, token(999, time.Now().Add(time.Hour)))

	// The cloud takes all of them back.
	began := time.Now()
	here := gather(time.Now().Add(time.Hour))
	patience := 8*time.Second + 8*time.Since(began) // until all are in, with a record of each lease on disk
	var list []string
	for n := range crowd {
		list = append(list, fmt.Sprintf(`{"sub":"w%d"}`, n))
	}
	pushed := time.Now()
	broker.Publish(venueTopics+"/config", `{"version":1,"venueStatus":"ACTIVE","revoked":[`+strings.Join(list, ",")+`]}`)
	here.after("revoked by the cloud, from the publishing on", crowd, pushed)
	broker.Publish(venueTopics+"/config", `{"version":2,"venueStatus":"ACTIVE","revoked":[]}`)
	Eventually(t, 20*time.Second, "nobody is revoked", func() bool {
		return box.attacker(0, &seen).knock(`{"token":"`+token(0, time.Now().Add(time.Hour))+`"}`, "", nil)
	})

	// Their tokens end: exp, and the 30 s that clocks may differ.
	end := time.Now().Add(patience).Truncate(time.Second)
	gather(end.Add(-auth.DefaultLeeway)).after("their tokens' end", crowd, end)

	// The cloud is gone: leases, which end by themselves, or since it is back.
	broker.Kill()
	Eventually(t, time.Minute, "the outage is proven", func() bool {
		return box.attacker(0, &seen).knock(`{"token":"`+token(0, time.Now().Add(-time.Minute))+`"}`, "", nil)
	})
	end = time.Now().Add(patience).Truncate(time.Second)
	gather(end.Add(-10*time.Minute)).after("their leases' end", crowd, end)
	leased := gather(time.Now().Add(-auth.DefaultLeeway - time.Second))
	broker.Start()
	var back time.Time
	Eventually(t, 3*time.Minute, "uplink online", func() bool {
		st := box.Status().Uplink
		back = st.Since
		return st.State == "online"
	})
	leased.after("the cloud's return", crowd, back)
	if bystander.left() != 0 {
		t.Error("who has a good token is closed, too")
	}
}
