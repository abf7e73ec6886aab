package simulate

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// The first byte of every text frame: the Engine.IO 4 packet type.
const (
	engineOpen    = '0'
	engineClose   = '1'
	enginePing    = '2'
	enginePong    = '3'
	engineMessage = '4'
	engineNoop    = '6'
)

// The second byte, inside a message: the Socket.IO 5 packet type. The binary
// kinds ('5', '6') are missing on purpose: nothing in the contract is binary.
const (
	socketConnect      = '0'
	socketDisconnect   = '1'
	socketEvent        = '2'
	socketAck          = '3'
	socketConnectError = '4'
)

// maxAckID bounds the acknowledgement ids read off the wire; ours count from
// one and get nowhere near it.
const maxAckID = 1 << 53

// packet is one Socket.IO packet of the default namespace.
type packet struct {
	kind  byte
	id    uint64 // of an acknowledgement, when hasID
	hasID bool
	data  []byte // JSON as it came
}

var errOtherNamespace = errors.New("packet of another namespace")

// parsePacket reads what stands behind the Engine.IO message byte:
//
//	type [ "/" namespace "," ] [ ack id ] [ JSON ]
func parsePacket(b []byte) (packet, error) {
	if len(b) == 0 {
		return packet{}, errors.New("empty packet")
	}
	p := packet{kind: b[0]}
	if p.kind < socketConnect || p.kind > socketConnectError {
		return packet{}, fmt.Errorf("packet type %q is not known", p.kind)
	}
	b = b[1:]
	if len(b) > 0 && b[0] == '/' {
		return packet{}, errOtherNamespace
	}
	digits := 0
	for digits < len(b) && b[digits] >= '0' && b[digits] <= '9' {
		digits++
	}
	if digits > 0 {
		id, err := strconv.ParseUint(string(b[:digits]), 10, 64)
		if err != nil || id > maxAckID {
			return packet{}, errors.New("acknowledgement id is out of range")
		}
		p.id, p.hasID = id, true
	}
	p.data = b[digits:]
	return p, nil
}

// event returns the name and the first argument of an event packet; further
// arguments are not part of the contract and are left out.
func (p packet) event() (name string, payload json.RawMessage, err error) {
	var args []json.RawMessage
	if err := json.Unmarshal(p.data, &args); err != nil {
		return "", nil, fmt.Errorf("event is not a JSON array: %w", err)
	}
	if len(args) == 0 {
		return "", nil, errors.New("event has no name")
	}
	if err := json.Unmarshal(args[0], &name); err != nil {
		return "", nil, fmt.Errorf("event name is not a string: %w", err)
	}
	if len(args) > 1 {
		payload = args[1]
	}
	return name, payload, nil
}

// answer returns the first argument of an acknowledgement, nil if it has none.
func (p packet) answer() (json.RawMessage, error) {
	var args []json.RawMessage
	if err := json.Unmarshal(p.data, &args); err != nil {
		return nil, fmt.Errorf("acknowledgement is not a JSON array: %w", err)
	}
	if len(args) == 0 {
		return nil, nil
	}
	return args[0], nil
}

// handshake is the body of the Engine.IO open packet, as far as a client that
// starts on WebSocket needs it.
type handshake struct {
	SID          string `json:"sid"`
	PingInterval int64  `json:"pingInterval"` // ms
	PingTimeout  int64  `json:"pingTimeout"`  // ms
}

// maxHeartbeat bounds how long a server may ask us to wait for its next ping.
const maxHeartbeat = time.Hour

// parseOpen reads the open packet's body and returns how long the server may
// be silent between two pings.
func parseOpen(b []byte) (time.Duration, error) {
	var h handshake
	if err := json.Unmarshal(b, &h); err != nil {
		return 0, fmt.Errorf("open packet: %w", err)
	}
	limit := maxHeartbeat.Milliseconds()
	if h.SID == "" || h.PingInterval <= 0 || h.PingTimeout <= 0 ||
		h.PingInterval > limit || h.PingTimeout > limit {
		return 0, errors.New("open packet has no session or no sane ping times")
	}
	return time.Duration(h.PingInterval+h.PingTimeout) * time.Millisecond, nil
}

// encodeEvent writes an event packet, Engine.IO byte included. A
// json.RawMessage goes out byte for byte; nil sends no argument.
func encodeEvent(id uint64, name string, payload any) ([]byte, error) {
	quoted, err := json.Marshal(name)
	if err != nil {
		return nil, fmt.Errorf("encode event name: %w", err)
	}
	body, isRaw := payload.(json.RawMessage)
	if !isRaw && payload != nil {
		if body, err = json.Marshal(payload); err != nil {
			return nil, fmt.Errorf("encode %s: %w", name, err)
		}
	}
	out := make([]byte, 0, len(body)+len(quoted)+24)
	out = append(out, engineMessage, socketEvent)
	if id != 0 {
		out = strconv.AppendUint(out, id, 10)
	}
	out = append(out, '[')
	out = append(out, quoted...)
	if body != nil {
		out = append(out, ',')
		out = append(out, body...)
	}
	return append(out, ']'), nil
}
