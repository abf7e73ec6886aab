package lan

import (
	"context"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// Cloud tells how far the central backend has the journal. Safe for concurrent
// use.
type Cloud interface {
	// Synced returns the seq up to which the backend has everything.
	Synced() event.Seq
	// Online reports whether there is a link, and since when that is so.
	Online() (online bool, since time.Time)
}

const (
	// syncEvery is how often a client may be told, at most.
	syncEvery = time.Second
	// maxWaiting is of how many events, the oldest first, it is known whose they
	// are: two bytes each.
	maxWaiting = 2 << 20
	nobody     = 0 // event of no terminal
	notOurs    = 1 // event of the cloud, which does not go back there
)

// syncStatus is what one client is told of the way to the cloud.
type syncStatus struct {
	epoch          event.Epoch
	stored, synced event.Seq
	pending, mine  int
	online         bool
	since          time.Time
}

// syncer tells clients what the cloud does not have yet: sync_status, when they
// come and when it changes. It follows the journal at its head, to see whose an
// event is, and the cloud at its tail:
//
//	synced              read          stored
//	  │ whose: 3 2 2 3 3 │ to be read   │
//
// All is owned by run, except wake.
type syncer struct {
	server *Server
	cloud  Cloud         // nil: there is none
	wake   chan struct{} // one entry when somebody came

	epoch   event.Epoch
	synced  event.Seq
	read    event.Seq
	whose   []uint16          // of the events behind synced, up to read
	indices map[string]uint16 // by terminal
	counts  []int             // waiting events, by index

	waiting atomic.Pointer[map[string]int] // by terminal, for others; nil: not yet
}

func newSyncer(s *Server, cloud Cloud) *syncer {
	return &syncer{server: s, cloud: cloud, wake: make(chan struct{}, 1)}
}

// came has a new session told soon.
func (y *syncer) came() {
	select {
	case y.wake <- struct{}{}:
	default:
	}
}

// run tells clients until ctx ends.
func (y *syncer) run(ctx context.Context) {
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	told := make(map[*session]syncStatus)
	for {
		all := false
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			all = true
		case <-y.wake:
		}
		y.server.guard("sync status", func() {
			y.look(ctx)
			y.show()
			told = y.tell(told, all)
		})
	}
}

// look brings the counts up to date.
func (y *syncer) look(ctx context.Context) {
	j, synced := y.server.journal, event.Seq(0)
	if y.cloud != nil {
		synced = y.cloud.Synced()
	}
	if epoch := j.Epoch(); epoch != y.epoch || synced < y.synced {
		y.epoch, y.synced, y.read, y.whose = epoch, synced, synced, nil
		y.indices, y.counts = make(map[string]uint16), make([]int, notOurs+1)
	}
	gone := min(int(synced-y.synced), len(y.whose))
	for _, i := range y.whose[:gone] {
		y.counts[i]--
	}
	y.whose, y.synced = y.whose[gone:], synced
	y.read = max(y.read, synced)
	for stored := j.Stored(); y.read < stored && len(y.whose) < maxWaiting && ctx.Err() == nil; {
		events, err := j.Read(y.read, batchEvents, batchBytes)
		if err != nil || len(events) == 0 {
			return // said by others
		}
		for i := range events {
			for y.read+1 < events[i].Seq { // lost
				y.add(notOurs)
			}
			y.add(y.index(&events[i]))
		}
	}
}

// show lets others see whose events wait.
func (y *syncer) show() {
	waiting := make(map[string]int, len(y.indices))
	for terminal, i := range y.indices {
		if n := y.counts[i]; n > 0 {
			waiting[terminal] = n
		}
	}
	y.waiting.Store(&waiting)
}

// of returns how many events of a terminal the cloud does not have, as of a
// second ago. Safe concurrently.
func (y *syncer) of(terminal string) int {
	if waiting := y.waiting.Load(); waiting != nil {
		return (*waiting)[terminal]
	}
	return 0
}

func (y *syncer) add(i uint16) {
	y.read++
	y.whose = append(y.whose, i)
	y.counts[i]++
}

func (y *syncer) index(e *event.Event) uint16 {
	switch {
	case e.Origin == event.Cloud:
		return notOurs
	case e.Terminal == "":
		return nobody
	}
	i, ok := y.indices[e.Terminal]
	if !ok {
		if len(y.counts) > maxTerminals {
			return nobody
		}
		i = uint16(len(y.counts)) //nolint:gosec // at most maxTerminals
		y.indices[e.Terminal] = i
		y.counts = append(y.counts, 0)
	}
	return i
}

// tell sends each session its status if it is another than the one told last,
// or only those that were told none yet, and returns what each was told.
func (y *syncer) tell(before map[*session]syncStatus, all bool) map[*session]syncStatus {
	now := syncStatus{
		epoch: y.epoch, stored: max(y.read, y.server.journal.Stored()), synced: y.synced,
		pending: len(y.whose) - y.counts[notOurs],
	}
	now.pending += int(now.stored - y.read)
	if y.cloud != nil {
		now.online, now.since = y.cloud.Online()
	}
	told := make(map[*session]syncStatus)
	for _, sess := range y.server.live() {
		status := now
		if i, ok := y.indices[sess.terminal]; ok {
			status.mine = y.counts[i]
		}
		last, known := before[sess]
		// One that reads too slowly would have the more waiting the longer it
		// takes; it is told when it is up to date.
		if known && (!all || last == status || sess.isSlow()) {
			told[sess] = last
			continue
		}
		sess.emit("sync_status", object(status.members()...))
		told[sess] = status
	}
	return told
}

func (st syncStatus) members() []event.Member {
	uplink := "offline"
	if st.online {
		uplink = "online"
	}
	members := []event.Member{
		event.Text("epoch", string(st.epoch)),
		number("storedThrough", uint64(st.stored)),
		number("syncedThrough", uint64(st.synced)),
		{Key: "pending", Value: strconv.AppendInt(nil, int64(st.pending), 10)},
		{Key: "pendingForThisTerminal", Value: strconv.AppendInt(nil, int64(st.mine), 10)},
		event.Text("uplink", uplink),
	}
	if !st.since.IsZero() {
		members = append(members, event.Text("since", event.FormatTime(st.since)))
	}
	return members
}
