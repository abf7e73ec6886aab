package lan_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
)

// sky is a cloud with knobs.
type sky struct {
	mu     sync.Mutex // guards below
	synced event.Seq
	online bool
	since  time.Time
}

func (s *sky) set(synced event.Seq, online bool, since time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.synced, s.online, s.since = synced, online, since
}

func (s *sky) Synced() event.Seq {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.synced
}

func (s *sky) Online() (online bool, since time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.online, s.since
}

// told waits until the client's last sync_status has these fields.
func (c *client) told(stored, synced, pending, mine int, uplink string) {
	c.t.Helper()
	last := ""
	until(c.t, fmt.Sprintf("sync_status %d %d %d %d %s", stored, synced, pending, mine, uplink), func() bool {
		if list := c.pending("sync_status"); len(list) > 0 {
			last = list[len(list)-1]
			last = last[len(`42["sync_status",`) : len(last)-1]
		}
		return last != "" && field(c.t, last, "storedThrough") == fmt.Sprint(stored) &&
			field(c.t, last, "syncedThrough") == fmt.Sprint(synced) && field(c.t, last, "pending") == fmt.Sprint(pending) &&
			field(c.t, last, "pendingForThisTerminal") == fmt.Sprint(mine) && field(c.t, last, "uplink") == `"`+uplink+`"`
	})
}

func TestSyncStatus(t *testing.T) {
	cloud := &sky{}
	j := newMemory()
	by := func(terminal string) {
		j.append(event.Event{Kind: "venue_update", Origin: event.Terminal, Terminal: terminal, Payload: []byte(`{}`)})
	}
	by("1")
	by("2")
	by("1")
	j.append(event.Event{Kind: "venue_update", Payload: []byte(`{}`)}) // the cloud's own
	b := startWith(t, j, &notes{}, func(c *lanConfig) { c.Cloud = cloud })
	one := b.connect(auth.Grant{Subject: "w1", Role: event.Waiter}, "AVQD-1")
	two := b.connect(auth.Grant{Subject: "w2", Role: event.Waiter}, "2")
	board := b.as(event.Manager)
	one.told(4, 0, 3, 2, "offline")
	two.told(4, 0, 3, 1, "offline")
	board.told(4, 0, 3, 0, "offline")

	cloud.set(2, true, time.Now())
	one.told(4, 2, 1, 1, "online")
	two.told(4, 2, 1, 0, "online")
	by("2")
	two.told(5, 2, 2, 1, "online")
	cloud.set(5, true, time.Now())
	one.told(5, 5, 0, 0, "online")
	two.told(5, 5, 0, 0, "online")

	// Once and no more: the marker is a second status away.
	board.told(5, 5, 0, 0, "online")
	seen := len(board.pending("sync_status"))
	cloud.set(5, false, time.Now())
	board.told(5, 5, 0, 0, "offline")
	if n := len(board.pending("sync_status")); n != seen+1 {
		t.Errorf("told %d times of one change", n-seen)
	}
}

func TestSyncStatusWithoutCloud(t *testing.T) {
	b := start(t)
	c := b.as(event.Manager)
	c.told(0, 0, 0, 0, "offline")
	b.journal.append(event.Event{Kind: "venue_update", Origin: event.Local, Payload: []byte(`{}`)})
	c.told(1, 0, 1, 0, "offline")
}
