package span

import (
	"encoding/json"

	"github.com/zishang520/socket.io/parsers/socket/v3/parser"
	"github.com/zishang520/socket.io/servers/socket/v3"
	"github.com/zishang520/socket.io/v3/pkg/types"
)

// Adapter returns what makes adapters, for the library's SetAdapter: those of
// inner, whose broadcasts the other boxes hear too unless they are made with
// Local. Of the arguments of an event the first goes out; what may stand behind
// it, such as an offset, means something to this box alone.
func (s *Span) Adapter(inner socket.AdapterConstructor) socket.AdapterConstructor {
	return adapterMaker{s, inner}
}

type adapterMaker struct {
	span  *Span
	inner socket.AdapterConstructor
}

// New implements [socket.AdapterConstructor].
func (m adapterMaker) New(nsp socket.Namespace) socket.Adapter {
	a := &adapter{m.inner.New(nsp), m.span}
	a.Prototype(a)
	return a
}

type adapter struct {
	socket.Adapter
	span *Span
}

// Broadcast implements [socket.Adapter]: here first, without waiting for the
// other boxes.
func (a *adapter) Broadcast(p *parser.Packet, opts *socket.BroadcastOptions) {
	data, isEvent := p.Data.([]any)
	a.Adapter.Broadcast(p, opts)
	if opts == nil || (opts.Flags != nil && opts.Flags.Local) || !isEvent || len(data) < 2 {
		return
	}
	name, isName := data[0].(string)
	payload, isPayload := data[1].(json.RawMessage)
	if !isName || !isPayload || !spans(name) {
		return
	}
	a.span.Publish(Message{
		Event: name, Payload: payload, To: names(opts.Rooms), Except: names(opts.Except),
	})
}

func names(rooms *types.Set[socket.Room]) []string {
	if rooms == nil {
		return nil
	}
	list := make([]string, 0, rooms.Len())
	for _, room := range rooms.Keys() {
		list = append(list, string(room))
	}
	return list
}
