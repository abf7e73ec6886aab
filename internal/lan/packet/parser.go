package packet

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"sync"

	"github.com/zishang520/socket.io/parsers/socket/v3/parser"
	"github.com/zishang520/socket.io/v3/pkg/types"

	"github.com/avoqado/avoqado-edge/internal/event"
)

const (
	maxNamespace = 512
	maxAckDigits = 20
	maxAuthBytes = 16 << 10 // of the auth object of a CONNECT
	maxNameBytes = 128      // of an event name

	maxMessage     = 1_000_000 // bytes; the transports let no more through
	maxAttachments = 10        // of one event
)

var (
	errPacket  = errors.New("malformed packet")
	errBinary  = errors.New("binary packet")
	errOverrun = errors.New("client sends faster than the box can store")
)

// Parser is the Socket.IO parser of the box: what came in as the bytes of an
// argument goes out as the same bytes. The library's own decodes numbers into
// float64 and writes objects in alphabetical order with HTML escapes: an amount
// of 9007199254740993 or 120.50 would not survive it. This one is also stricter
// (nothing behind the packet, no numeric event names), and it is the place where
// a client that sends faster than its events are released is made to wait.
//
// An event arrives as its name and an [*Event]. All callbacks must be given; they
// may be called on any goroutine.
type Parser struct {
	Binary     bool   // take and write attachments; else they are malformed
	Malformed  func() // a packet that ends its client's transport
	Waited     func() // a client was made to wait
	Unwritable func() // a packet that could not be written and was not sent

	// PidOf returns the secret name that answers a socket's CONNECT; empty:
	// none. May be nil.
	PidOf func(sid string) string
}

// AckID is, as the last argument of an emit, what asks the client for an answer under
// this id. The answer arrives as an ACK packet, its arguments as
// [json.RawMessage].
type AckID uint64

// Attachments are sent behind the packet, if they are the last argument of an
// emit; the arguments before it hold the placeholders.
type Attachments [][]byte

// NewEncoder implements [parser.Parser].
func (p Parser) NewEncoder() parser.Encoder { return encoder{p} }

// NewDecoder implements [parser.Parser]; the library calls it once per client.
func (p Parser) NewDecoder() parser.Decoder {
	return &decoder{
		parser: p,
		closed: make(chan struct{}),
	}
}

type encoder struct{ parser Parser }

// Encode implements [parser.Encoder]. A packet that cannot be written is
// counted and not sent: the library would send it without its payload, which
// ends a JavaScript client with an uncaught error.
func (e encoder) Encode(p *parser.Packet) []types.BufferInterface {
	if p.Type == parser.CONNECT && e.parser.PidOf != nil {
		p = e.answer(p)
	}
	p = withAckID(p)
	data, attached := attachments(p.Data)
	b, err := appendPacket(make([]byte, 0, 256), p, data, attached)
	if err != nil || attached != nil && !e.parser.Binary {
		e.parser.Unwritable()
		return nil
	}
	out := []types.BufferInterface{types.NewStringBuffer(b)}
	for _, a := range attached {
		out = append(out, types.NewBytesBuffer(a))
	}
	return out
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
	pid := e.parser.PidOf(o.String("sid"))
	if pid == "" {
		return p
	}
	with := *p
	with.Data = json.RawMessage(o.With(event.Text("pid", pid)))
	return &with
}

// withAckID takes the id off the arguments, if there is one, and puts it in its place.
func withAckID(p *parser.Packet) *parser.Packet {
	args, ok := p.Data.([]any)
	if !ok || len(args) == 0 {
		return p
	}
	last := len(args) - 1
	id, ok := args[last].(AckID)
	if !ok {
		return p
	}
	with, n := *p, uint64(id)
	with.Data, with.Id = args[:last], &n
	return &with
}

// attachments takes the attachments off the arguments, if there are any.
func attachments(data any) (any, Attachments) {
	args, ok := data.([]any)
	if !ok || len(args) == 0 {
		return data, nil
	}
	last := len(args) - 1
	attached, ok := args[last].(Attachments)
	if !ok {
		return data, nil
	}
	return args[:last], attached
}

func appendPacket(b []byte, p *parser.Packet, data any, attached Attachments) ([]byte, error) {
	kind := p.Type
	if attached != nil && kind == parser.EVENT {
		kind = parser.BINARY_EVENT
	}
	if attached != nil && kind == parser.ACK {
		kind = parser.BINARY_ACK
	}
	b = append(b, byte(kind)+'0')
	if attached != nil {
		b = append(strconv.AppendInt(b, int64(len(attached)), 10), '-')
	}
	if p.Nsp != "" && p.Nsp != "/" {
		b = append(b, p.Nsp...)
		b = append(b, ',')
	}
	if p.Id != nil {
		b = strconv.AppendUint(b, *p.Id, 10)
	}
	switch data := data.(type) {
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

// decoder reads the packets of one client. Its Add runs on the client's reader,
// one call at a time.
type decoder struct {
	types.EventEmitter // nil: of it the library calls what is below
	decoded            []types.EventListener

	parser Parser
	gate   Gate
	closed chan struct{}
	once   sync.Once

	// Owned by Add.
	begun   *parser.Packet // waits for attachments
	missing int
}

// On implements [types.EventEmitter]; there is one event, "decoded", and the
// library listens to it before it reads.
func (d *decoder) On(_ types.EventName, listeners ...types.EventListener) error {
	d.decoded = append(d.decoded, listeners...)
	return nil
}

// RemoveListener implements [types.EventEmitter]. Whoever listens to a client
// that is gone knows that it is.
func (d *decoder) RemoveListener(types.EventName, types.EventListener) bool { return true }

// Emit implements [types.EventEmitter].
func (d *decoder) Emit(_ types.EventName, args ...any) {
	for _, call := range d.decoded {
		call(args...)
	}
}

// Add implements [parser.Decoder]. An error makes the library close the
// transport.
func (d *decoder) Add(data any) error {
	p, err := d.packet(data)
	if err != nil {
		d.parser.Malformed()
		return err
	}
	if p != nil {
		d.Emit("decoded", p)
	}
	return nil
}

// packet returns the packet that data completes, or nil.
func (d *decoder) packet(data any) (*parser.Packet, error) {
	if binary, ok := data.(*types.BytesBuffer); ok {
		if d.missing == 0 {
			return nil, errBinary
		}
		e, _ := d.begun.Data.([]any)[1].(*Event)
		e.Attachments = append(e.Attachments, binary.Bytes())
		if d.missing--; d.missing > 0 {
			return nil, nil
		}
		p := d.begun
		d.begun = nil
		return p, nil
	}
	b, err := text(data)
	if err != nil || d.missing > 0 {
		return nil, errors.Join(err, errPacket)
	}
	p, missing, err := d.decode(b)
	if missing > 0 && err == nil {
		d.begun, d.missing = p, missing
		return nil, nil
	}
	return p, err
}

// Destroy implements [parser.Decoder]: the client is gone.
func (d *decoder) Destroy() { d.once.Do(func() { close(d.closed) }) }

func text(data any) ([]byte, error) {
	switch data := data.(type) {
	case string:
		return []byte(data), nil
	case *types.StringBuffer:
		return data.Bytes(), nil
	case io.Reader:
		return io.ReadAll(io.LimitReader(data, maxMessage))
	}
	return nil, errBinary
}

// decode reads
//
//	type [ attachments "-" ] [ "/" namespace "," ] [ ack id ] [ JSON ]
//
// and returns how many attachments are to follow.
func (d *decoder) decode(b []byte) (p *parser.Packet, missing int, err error) {
	if len(b) == 0 {
		return nil, 0, errPacket
	}
	p = &parser.Packet{Type: parser.PacketType(int(b[0]) - '0'), Nsp: "/"}
	b = b[1:]
	if p.Type == parser.BINARY_EVENT && d.parser.Binary {
		count, rest, ok := bytes.Cut(b, []byte("-"))
		if missing, err = strconv.Atoi(string(count)); !ok || err != nil || missing < 1 || missing > maxAttachments {
			return nil, 0, errPacket
		}
		b = rest
	}
	if b, err = address(p, b); err != nil {
		return nil, 0, err
	}
	switch {
	case p.Type == parser.EVENT, missing > 0:
		p.Data, err = d.event(b)
	case p.Type == parser.ACK && p.Id != nil:
		var args []json.RawMessage
		if json.Unmarshal(b, &args) != nil || args == nil {
			return nil, 0, errPacket
		}
		answer := make([]any, len(args))
		for i := range args {
			answer[i] = args[i]
		}
		p.Data = answer
	case p.Type == parser.CONNECT && p.Id == nil:
		p.Data, err = connectData(b)
	case p.Type == parser.DISCONNECT && p.Id == nil && len(b) == 0:
	default:
		return nil, 0, errPacket
	}
	return p, missing, err
}

// address reads namespace and ack id and returns what is behind them.
func address(p *parser.Packet, b []byte) ([]byte, error) {
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
	return b, nil
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
	name, e, err := d.parser.event(b, &d.gate, d.closed)
	if err != nil {
		return nil, err
	}
	return []any{name, e}, nil
}
