package packet

import (
	"encoding/json"
	"sync"
	"time"

	"github.com/zishang520/socket.io/parsers/socket/v3/parser"
	"github.com/zishang520/socket.io/servers/socket/v3"

	"github.com/avoqado/avoqado-edge/internal/event"
)

const (
	// An event of the largest payload, its name and its ack id fit into this.
	maxEventBytes = event.MaxPayload + 1<<10

	// gateSlots bounds what one client has in flight: as many events, or as
	// many slices of slotBytes, whichever comes first.
	gateSlots = 256
	slotBytes = 8 << 10

	// gateWait is how long a client is made to wait before the box gives up on
	// it; shorter than the ping timeout, since pongs wait too.
	gateWait = 10 * time.Second
)

// Event is one event as it came, without its name.
type Event struct {
	Args        []json.RawMessage // nil if the event was too large
	Attachments Attachments       // what the placeholders in Args stand for
	TooLong     bool

	slots int
	gate  *Gate
}

// Release lets the client send on. Call it once, when the event is answered.
func (e *Event) Release() { e.gate.release(e.slots) }

// Gate counts what one client has in flight. The zero value is open. One
// goroutine at a time may pass it, any may release.
type Gate struct {
	mu    sync.Mutex // guards below
	used  int
	freed chan struct{} // made by who waits
}

// try takes slots, or returns what tells when to try again.
func (g *Gate) try(slots int) (wait <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.used+slots <= gateSlots {
		g.used += slots
		return nil
	}
	g.freed = make(chan struct{})
	return g.freed
}

func (g *Gate) release(slots int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.used -= slots
	if g.freed != nil {
		close(g.freed)
		g.freed = nil
	}
}

// pass takes slots, waiting until they are free, for gateWait at most and not
// after the client is gone.
func (p Parser) pass(g *Gate, slots int, gone <-chan struct{}) error {
	wait := g.try(slots)
	if wait == nil {
		return nil
	}
	p.Waited()
	timeout := time.NewTimer(gateWait)
	defer timeout.Stop()
	for ; wait != nil; wait = g.try(slots) {
		select {
		case <-wait:
		case <-gone:
			return errOverrun
		case <-timeout.C:
			return errOverrun
		}
	}
	return nil
}

// event reads an event and takes its slots, waiting until they are free.
func (p Parser) event(b []byte, g *Gate, gone <-chan struct{}) (name string, e *Event, err error) {
	args, err := event.Elements(b)
	if err != nil || len(args) == 0 {
		return "", nil, errPacket
	}
	name, ok := event.Unquote(args[0])
	if !ok || len(name) > maxNameBytes || socket.SOCKET_RESERVED_EVENTS.Has(name) {
		return "", nil, errPacket
	}
	e = &Event{Args: args[1:], gate: g, slots: 1 + len(b)/slotBytes}
	if len(b) > maxEventBytes {
		e.Args, e.TooLong, e.slots = nil, true, 1
	}
	return name, e, p.pass(g, e.slots, gone)
}

// Incoming is an event that was read past the library.
type Incoming struct {
	Name  string
	Event *Event
	Ack   []byte // digits of the id under which the client waits for an answer; empty: it does not
}

// Read reads an event of the main namespace and takes its slots at the gate,
// waiting until they are free or gone is closed. ok is false for any other
// packet, which is the library's. An error ends the client's transport; it is
// counted. The event keeps b.
func (p Parser) Read(b []byte, g *Gate, gone <-chan struct{}) (in Incoming, ok bool, err error) {
	if len(b) == 0 || b[0] != byte(parser.EVENT)+'0' || len(b) > 1 && b[1] == '/' {
		return in, false, nil
	}
	var main parser.Packet
	rest, err := address(&main, b[1:])
	if err == nil {
		in.Ack = b[1 : len(b)-len(rest)]
		in.Name, in.Event, err = p.event(rest, g, gone)
	}
	if err != nil {
		p.Malformed()
	}
	return in, true, err
}

// AppendAck appends the answer to the event with the given ack id: one argument,
// which must be JSON.
func AppendAck(b, id, body []byte) []byte {
	b = append(b, byte(parser.ACK)+'0')
	b = append(b, id...)
	b = append(b, '[')
	b = append(b, body...)
	return append(b, ']')
}

// AppendEvent appends an event with its arguments, which must be JSON.
func AppendEvent(b []byte, name string, args []json.RawMessage) []byte {
	b = append(b, byte(parser.EVENT)+'0', '[')
	b = append(b, event.Quote(name)...)
	for _, arg := range args {
		b = append(b, ',')
		b = append(b, arg...)
	}
	return append(b, ']')
}
