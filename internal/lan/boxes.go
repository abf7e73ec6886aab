package lan

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/zishang520/socket.io/servers/socket/v3"

	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/lan/span"
)

// Boxes is how this box stands to the other boxes of its venue.
type Boxes struct {
	State string    // "off": none are configured; "joined"; "alone": they are not reached
	Since time.Time // of the state
	Peers int       // how many there are, as the Redis counts them
	Cause string    // why it is alone: a name
	Error string    // why: the text

	span.Stats
}

// Boxes returns how this box stands to the others. Safe for concurrent use.
func (s *Server) Boxes() Boxes {
	if s.span == nil {
		return Boxes{State: "off"}
	}
	st := s.span.Status()
	b := Boxes{State: "alone", Since: st.Since, Peers: st.Peers, Cause: st.Cause, Error: st.Error, Stats: s.span.Stats()}
	if st.Joined {
		b.State = "joined"
	}
	return b
}

// openSpan makes the way to the other boxes, if there may be some.
func (s *Server) openSpan() (err error) {
	if s.cfg.Redis == "" {
		return nil
	}
	everyone := string(s.rooms.everyone())
	s.span, err = span.New(span.Config{
		URL: s.cfg.Redis, Venue: s.cfg.Venue,
		Room: func(name string) bool { return name == everyone || strings.HasPrefix(name, everyone+":") },
	}, s.log)
	if err != nil {
		return fmt.Errorf("span boxes: %w", err)
	}
	return nil
}

// adapter returns what broadcasts: that of the transport or the library, and
// with other boxes one that reaches their clients too.
func (s *Server) adapter() socket.AdapterConstructor {
	var a socket.AdapterConstructor = &socket.AdapterBuilder{}
	if s.cfg.Transport == Fast {
		a = s.wire.Adapter()
	}
	if s.span != nil {
		a = s.span.Adapter(a)
	}
	return a
}

// about returns how to broadcast what comes of an event: what the cloud said
// each box of the venue was told itself, all else the others hear from this one.
func (s *Server) about(o event.Origin) *socket.BroadcastOperator {
	if o == event.Cloud {
		return s.io.Local()
	}
	return s.io.To()
}

// others gives what other boxes said; nothing if there are none.
func (s *Server) others() <-chan span.Message {
	if s.span == nil {
		return nil
	}
	return s.span.Received()
}

// relay shows what another box said to the clients of this one. It runs on the
// goroutine of the fan-out, so that it stands in one place between two events
// for all of them.
func (f *fanout) relay(m span.Message) {
	s := f.server
	if m.Gap {
		f.elsewhere()
		_ = s.io.Local().To(s.rooms.everyone()).Emit(syncRequired, s.loss(lossElsewhere, 0, 0))
		return
	}
	if row, ok := event.Lookup(event.Kind(m.Event)); !ok || !row.Volatile {
		f.elsewhere()
	} else {
		s.counters.skipped.Add(s.counters.behind.Load())
	}
	_ = s.io.Local().To(roomsOf(m.To)...).Except(roomsOf(m.Except)...).Emit(m.Event, json.RawMessage(m.Payload))
}

// elsewhere notes that something was shown here, or should have been, that is
// not in this box's journal: whoever may not have seen it cannot be given it,
// and is not to be told that it has everything.
func (f *fanout) elsewhere() {
	f.foreign.Store(uint64(f.seen()))
	f.relays.Add(1)
}

// whole reports whether the journal has all that was shown behind a seq.
func (f *fanout) whole(at event.Seq) bool {
	return f.server.span == nil || uint64(at) > f.foreign.Load()
}

func roomsOf(names []string) []socket.Room {
	list := make([]socket.Room, len(names))
	for i, name := range names {
		list[i] = socket.Room(name)
	}
	return list
}
