package lan

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/zishang520/socket.io/parsers/socket/v3/parser"
	"github.com/zishang520/socket.io/servers/socket/v3"
	"github.com/zishang520/socket.io/v3/pkg/types"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// The library's own parser decodes numbers into float64 and writes objects in
// alphabetical order with HTML escapes: an amount of 9007199254740993 or 120.50
// would not survive it. This one never looks inside an argument: what came in
// as bytes goes out as the same bytes. It is also stricter (nothing behind the
// packet, no binary, no numeric event names), and it is the place where a
// client that sends faster than the disk takes is made to wait.

const (
	maxNamespace = 512
	maxAckDigits = 20
	maxAuthBytes = 16 << 10 // of the auth object of a CONNECT
	maxNameBytes = 128      // of an event name

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

var (
	errPacket  = errors.New("malformed packet")
	errBinary  = errors.New("binary packet")
	errOverrun = errors.New("client sends faster than the box can store")
)

// rawParser is the Socket.IO parser of the box.
type rawParser struct {
	counters *counters
	pidOf    func(sid string) string // the pid that answers a socket's CONNECT
}

// NewEncoder implements [parser.Parser].
func (p rawParser) NewEncoder() parser.Encoder { return encoder(p) }

// NewDecoder implements [parser.Parser]; the library calls it once per client.
func (p rawParser) NewDecoder() parser.Decoder {
	return &decoder{
		EventEmitter: types.NewEventEmitter(),
		counters:     p.counters,
		gate:         make(chan struct{}, gateSlots),
		closed:       make(chan struct{}),
	}
}

type encoder rawParser

// Encode implements [parser.Encoder]. A packet that cannot be written is
// counted and not sent: the library would send it without its payload, which
// ends a JavaScript client with an uncaught error.
func (e encoder) Encode(p *parser.Packet) []types.BufferInterface {
	if p.Type == parser.CONNECT {
		p = e.answer(p)
	}
	b, err := appendPacket(make([]byte, 0, 256), p)
	if err != nil {
		e.counters.writeErrors.Add(1)
		return nil
	}
	return []types.BufferInterface{types.NewStringBuffer(b)}
}

// answer adds to the answer to a CONNECT the secret name of the session: a
// client that had the same name before knows by it that it was recovered.
func (e encoder) answer(p *parser.Packet) *parser.Packet {
	b, err := appendValue(nil, p.Data)
	if err != nil {
		return p
	}
	o, err := event.ParseObject(b)
	if err != nil {
		return p
	}
	pid := e.pidOf(o.String("sid"))
	if pid == "" {
		return p
	}
	with := *p
	with.Data = json.RawMessage(o.With(event.Text("pid", pid)))
	return &with
}

func appendPacket(b []byte, p *parser.Packet) ([]byte, error) {
	b = append(b, byte(p.Type)+'0')
	if p.Nsp != "" && p.Nsp != "/" {
		b = append(b, p.Nsp...)
		b = append(b, ',')
	}
	if p.Id != nil {
		b = strconv.AppendUint(b, *p.Id, 10)
	}
	switch data := p.Data.(type) {
	case nil:
		return b, nil
	case []any:
		b = append(b, '[')
		for i, v := range data {
			if i > 0 {
				b = append(b, ',')
			}
			var err error
			if b, err = appendValue(b, v); err != nil {
				return nil, err
			}
		}
		return append(b, ']'), nil
	case map[string]any:
		// Only CONNECT_ERROR carries one. The library adds "data": null, which
		// the existing system does not send.
		if data["data"] == nil {
			delete(data, "data")
		}
		return appendValue(b, data)
	default:
		return appendValue(b, data)
	}
}

func appendValue(b []byte, v any) ([]byte, error) {
	if raw, ok := v.(json.RawMessage); ok {
		if !json.Valid(raw) {
			return nil, errPacket
		}
		return append(b, raw...), nil
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return append(b, bytes.TrimRight(buf.Bytes(), "\n")...), nil
}

// frame is one event as it came, between the decoder and the session.
type frame struct {
	args    []json.RawMessage // behind the name; nil if the event was too large
	tooLong bool
	slots   int
	gate    chan struct{}
}

// release lets the client send on. It is called once, when the answer is out.
func (f *frame) release() {
	for range f.slots {
		<-f.gate
	}
}

// decoder reads the packets of one client. Its Add runs on the client's reader,
// one call at a time.
type decoder struct {
	types.EventEmitter

	counters *counters
	gate     chan struct{} // one entry per slot in use
	closed   chan struct{}
	once     sync.Once
}

// Add implements [parser.Decoder]. An error makes the library close the
// transport.
func (d *decoder) Add(data any) error {
	b, err := text(data)
	if err == nil {
		var p *parser.Packet
		if p, err = d.decode(b); err == nil {
			d.Emit("decoded", p)
			return nil
		}
	}
	d.counters.refuse(reasonMalformed)
	return err
}

// Destroy implements [parser.Decoder]: the client is gone.
func (d *decoder) Destroy() { d.once.Do(func() { close(d.closed) }) }

func text(data any) ([]byte, error) {
	switch data := data.(type) {
	case string:
		return []byte(data), nil
	case *types.StringBuffer:
		return data.Bytes(), nil
	case *types.BytesBuffer:
		return nil, errBinary
	case io.Reader:
		return io.ReadAll(io.LimitReader(data, maxFrame))
	}
	return nil, errBinary
}

// decode reads
//
//	type [ "/" namespace "," ] [ ack id ] [ JSON ]
func (d *decoder) decode(b []byte) (*parser.Packet, error) {
	if len(b) == 0 {
		return nil, errPacket
	}
	p := &parser.Packet{Type: parser.PacketType(int(b[0]) - '0'), Nsp: "/"}
	b = b[1:]
	if len(b) > 0 && b[0] == '/' {
		end := bytes.IndexByte(b, ',')
		rest := []byte(nil)
		if end < 0 {
			end = len(b)
		} else {
			rest = b[end+1:]
		}
		if end > maxNamespace {
			return nil, errPacket
		}
		p.Nsp, b = string(b[:end]), rest
	}
	digits := 0
	for digits < len(b) && b[digits] >= '0' && b[digits] <= '9' {
		digits++
	}
	if digits > 0 {
		id, err := strconv.ParseUint(string(b[:digits]), 10, 64)
		if err != nil || digits > maxAckDigits {
			return nil, errPacket
		}
		p.Id, b = &id, b[digits:]
	}
	var err error
	switch {
	case p.Type == parser.EVENT:
		p.Data, err = d.event(b)
	case p.Type == parser.ACK && p.Id != nil:
		var args []json.RawMessage
		if json.Unmarshal(b, &args) != nil || args == nil {
			return nil, errPacket
		}
		p.Data = []any{} // the box asks for no acknowledgement
	case p.Type == parser.CONNECT && p.Id == nil:
		p.Data, err = connectData(b)
	case p.Type == parser.DISCONNECT && p.Id == nil && len(b) == 0:
	default:
		return nil, errPacket
	}
	return p, err
}

// connectData returns the auth object, or nil if there is none.
func connectData(b []byte) (any, error) {
	if len(b) == 0 {
		return nil, nil
	}
	var object map[string]any
	if len(b) > maxAuthBytes || json.Unmarshal(b, &object) != nil || object == nil {
		return nil, errPacket
	}
	return object, nil
}

// event reads an event and takes its slots, waiting until they are free.
func (d *decoder) event(b []byte) (any, error) {
	var args []json.RawMessage
	if json.Unmarshal(b, &args) != nil || len(args) == 0 || args[0][0] != '"' {
		return nil, errPacket
	}
	var name string
	if json.Unmarshal(args[0], &name) != nil || len(name) > maxNameBytes || socket.SOCKET_RESERVED_EVENTS.Has(name) {
		return nil, errPacket
	}
	f := &frame{args: args[1:], gate: d.gate, slots: 1 + len(b)/slotBytes}
	if len(b) > maxEventBytes {
		f.args, f.tooLong, f.slots = nil, true, 1
	}
	if err := d.acquire(f.slots); err != nil {
		return nil, err
	}
	return []any{name, f}, nil
}

func (d *decoder) acquire(slots int) error {
	var timeout <-chan time.Time // made only if there is a wait
	for range slots {
		select {
		case d.gate <- struct{}{}:
			continue
		default:
		}
		if timeout == nil {
			d.counters.waits.Add(1)
			timer := time.NewTimer(gateWait)
			defer timer.Stop()
			timeout = timer.C
		}
		select {
		case d.gate <- struct{}{}:
		case <-d.closed:
			return errOverrun
		case <-timeout:
			return errOverrun
		}
	}
	return nil
}
