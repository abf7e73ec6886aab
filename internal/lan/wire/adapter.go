package wire

import (
	"github.com/zishang520/socket.io/parsers/socket/v3/parser"
	"github.com/zishang520/socket.io/servers/engine/v3"
	"github.com/zishang520/socket.io/servers/socket/v3"
	"github.com/zishang520/socket.io/v3/pkg/types"
)

// adapter is the library's adapter with a broadcast of its own: the packet is
// encoded into one frame, and that goes to each socket of the rooms. Rooms,
// acknowledged broadcasts and the rest are the library's.
//
// Nothing overtakes: a broadcast stands behind all that was emitted to a socket
// before. A [Conn] has no queue but its outbox. What goes to any other connection
// the library's way stands in its engine's queue until that is flushed, and an
// upgraded one begins with the packets of the polling one in it. So the first
// broadcast to it goes the library's way too, which flushes that queue; since a
// [Transport] is always writable it is never filled again, except within an emit.
//
// A packet with binary attachments must not be emitted to a socket while others
// broadcast to it: their frames could come between.
type adapter struct {
	socket.Adapter
	hub *Hub
}

// Adapter returns what makes adapters, for the library's SetAdapter.
func (h *Hub) Adapter() socket.AdapterConstructor { return adapterMaker{h} }

type adapterMaker struct{ hub *Hub }

// New implements [socket.AdapterConstructor].
func (m adapterMaker) New(nsp socket.Namespace) socket.Adapter {
	a := &adapter{Adapter: socket.MakeAdapter(), hub: m.hub}
	a.Prototype(a)
	a.Construct(nsp)
	return a
}

// Broadcast implements [socket.Adapter].
func (a *adapter) Broadcast(p *parser.Packet, opts *socket.BroadcastOptions) {
	write := &socket.WriteOptions{PreEncoded: true}
	if opts != nil && opts.Flags != nil {
		write.Volatile, write.Compress = opts.Flags.Volatile, opts.Flags.Compress
	}
	p.Nsp = a.Nsp().Name()
	encoded := a.Nsp().Server().Encoder().Encode(p)
	var frame []byte // stays nil if there are attachments
	if len(encoded) == 1 {
		if text, ok := encoded[0].(*types.StringBuffer); ok {
			frame = messageFrame(text.Bytes())
		}
	}
	var later batch
	sent := int64(0)
	a.each(opts, func(s *socket.Socket) {
		s.NotifyOutgoingListeners()(p)
		out, settling := outboxOf(s.Conn())
		if out == nil || frame == nil {
			s.Client().WriteToEngine(encoded, write)
			if settling != nil {
				settling.settled.Store(true)
			}
			return
		}
		sent++
		if write.Volatile && out.waiting() > 0 {
			return
		}
		switch out.add(frame, true) {
		case schedule:
			later.add(out)
		case flush:
			out.flush()
		case nothing:
		}
	})
	a.hub.frames.Add(sent)
	a.hub.schedule(&later)
}

// outboxOf returns where a broadcast to a connection may go at once, nil if it
// has to go the library's way; then settling is what it has settled after that.
func outboxOf(conn engine.Socket) (out *outbox, settling *Transport) {
	if c, ok := conn.(*Conn); ok {
		return &c.out, nil
	}
	t, ours := conn.Transport().(*Transport)
	switch {
	case !ours:
		return nil, nil
	case !t.settled.Load():
		return nil, t
	}
	return &t.out, nil
}

// each calls f once for each connected socket that the options mean.
func (a *adapter) each(opts *socket.BroadcastOptions, f func(*socket.Socket)) {
	var rooms, exceptRooms []socket.Room
	if opts != nil && opts.Rooms != nil {
		rooms = opts.Rooms.Keys()
	}
	if opts != nil && opts.Except != nil {
		exceptRooms = opts.Except.Keys()
	}
	done := make(map[socket.SocketId]struct{}) // had it, or is not to have it
	for _, room := range exceptRooms {
		if ids, ok := a.Rooms().Load(room); ok {
			for _, id := range ids.Keys() {
				done[id] = struct{}{}
			}
		}
	}
	sockets := a.Nsp().Sockets()
	one := func(id socket.SocketId) {
		if _, not := done[id]; not {
			return
		}
		if len(rooms) > 1 {
			done[id] = struct{}{}
		}
		if s, ok := sockets.Load(id); ok && s.Connected() {
			f(s)
		}
	}
	if len(rooms) == 0 {
		a.Sids().Range(func(id socket.SocketId, _ *types.Set[socket.Room]) bool {
			one(id)
			return true
		})
		return
	}
	for _, room := range rooms {
		if ids, ok := a.Rooms().Load(room); ok {
			for _, id := range ids.Keys() {
				one(id)
			}
		}
	}
}
