package wire

import (
	"encoding/binary"
	"errors"
	"unicode/utf8"
)

// The frames of RFC 6455.
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA

	final      = 0x80 // first byte: the last frame of its message
	reserved   = 0x70 // first byte: bits of extensions, of which there are none
	control    = 0x08 // opcode: a control frame
	masked     = 0x80 // second byte
	maxControl = 125  // payload of a control frame, in bytes
)

// Why a connection is closed by the box: the status in the close frame.
const (
	statusNormal   = 1000
	statusProtocol = 1002
	statusNotUTF8  = 1007
	statusTooLarge = 1009
)

// closeError ends a connection with a close frame.
type closeError uint16

// Error implements error.
func (e closeError) Error() string { return "websocket closed, status " + statusText(uint16(e)) }

func statusText(status uint16) string {
	var digits [5]byte
	at := len(digits)
	for {
		at--
		digits[at] = byte('0' + status%10)
		if status /= 10; status == 0 {
			return string(digits[at:])
		}
	}
}

// errClosing says that the peer closed the connection as it should.
var errClosing = errors.New("closed by the peer")

// appendFrame appends one unmasked, final frame.
func appendFrame(b []byte, op byte, payload ...[]byte) []byte {
	size := 0
	for _, part := range payload {
		size += len(part)
	}
	b = append(b, final|op)
	switch {
	case size <= maxControl:
		b = append(b, byte(size))
	case size <= 0xFFFF:
		b = append(b, 126)
		b = binary.BigEndian.AppendUint16(b, uint16(size))
	default:
		b = append(b, 127)
		b = binary.BigEndian.AppendUint64(b, uint64(size))
	}
	for _, part := range payload {
		b = append(b, part...)
	}
	return b
}

// messageFrame returns the frame of an Engine.IO message of the given text.
func messageFrame(text ...[]byte) []byte {
	size := 0
	for _, part := range text {
		size += len(part)
	}
	parts := append([][]byte{messageType}, text...)
	return appendFrame(make([]byte, 0, size+11), opText, parts...)
}

// messageType is the Engine.IO type of a message.
var messageType = []byte("4")

// closeFrame returns a close frame; status 0 gives one without a status.
func closeFrame(status uint16) []byte {
	if status == 0 {
		return appendFrame(nil, opClose)
	}
	return appendFrame(nil, opClose, binary.BigEndian.AppendUint16(nil, status))
}

// header is the beginning of a frame of a client.
type header struct {
	op   byte
	last bool
	size uint64
	mask [4]byte
}

// decoder puts the frames of a client together again. It is owned by the
// connection's reader.
type decoder struct {
	source  source
	max     int    // bytes of a message
	op      byte   // of the message being assembled; 0: there is none
	message []byte // what is there of it
}

// next returns the next message, which the caller may keep. Pings and the like
// are given to control, whose payload is gone when it returns. An error is a
// [closeError], errClosing or comes from the connection; it ends the
// connection.
func (d *decoder) next(control func(op byte, payload []byte)) (op byte, message []byte, err error) {
	for {
		h, err := d.header()
		if err != nil {
			return 0, nil, err
		}
		if h.op >= opClose {
			payload, err := d.source.next(int(h.size))
			if err != nil {
				return 0, nil, err
			}
			unmask(payload, h.mask, 0)
			if h.op == opClose {
				return 0, nil, closing(payload)
			}
			control(h.op, payload)
			continue
		}
		if h.op != opContinuation {
			d.op = h.op
		}
		if err := d.body(h); err != nil {
			return 0, nil, err
		}
		if !h.last {
			continue
		}
		op, message, d.op, d.message = d.op, d.message, 0, nil
		if op == opText && !utf8.Valid(message) {
			return 0, nil, closeError(statusNotUTF8)
		}
		return op, message, nil
	}
}

// header reads and checks the beginning of a frame.
func (d *decoder) header() (h header, err error) {
	b, err := d.source.next(2)
	if err != nil {
		return h, err
	}
	h.op, h.last = b[0]&0x0F, b[0]&final != 0
	short, isMasked, extended := b[1]&^masked, b[1]&masked != 0, 0
	known := h.op == opContinuation || h.op == opText || h.op == opBinary ||
		h.op == opClose || h.op == opPing || h.op == opPong
	isControl := h.op&control != 0
	switch {
	case b[0]&reserved != 0, !isMasked, !known,
		isControl && (!h.last || short > maxControl),
		!isControl && (h.op == opContinuation) != (d.op != 0):
		return h, closeError(statusProtocol)
	}
	switch h.size = uint64(short); short {
	case 126:
		extended = 2
	case 127:
		extended = 8
	}
	if b, err = d.source.next(extended + len(h.mask)); err != nil {
		return h, err
	}
	switch extended {
	case 2:
		h.size = uint64(binary.BigEndian.Uint16(b))
	case 8:
		h.size = binary.BigEndian.Uint64(b)
	}
	copy(h.mask[:], b[extended:])
	if h.size > uint64(d.max-len(d.message)) {
		return h, closeError(statusTooLarge)
	}
	return h, nil
}

// bodyStep is how much of an announced message is made room for before it came,
// in bytes.
const bodyStep = 16 << 10

// body appends the payload of a frame to the message.
func (d *decoder) body(h header) error {
	for left := int(h.size); left > 0; {
		step := min(left, bodyStep)
		at := len(d.message)
		if at == 0 && h.last {
			d.message = make([]byte, step) // most messages are one step: exactly their size
		} else {
			d.message = append(d.message, make([]byte, step)...)
		}
		if err := d.source.read(d.message[at:]); err != nil {
			return err
		}
		unmask(d.message[at:], h.mask, int(h.size)-left)
		left -= step
	}
	if d.message == nil {
		d.message = []byte{}
	}
	return nil
}

// unmask decodes b, which begins at the given offset of its frame's payload.
func unmask(b []byte, mask [4]byte, offset int) {
	key := [4]byte{mask[offset&3], mask[(offset+1)&3], mask[(offset+2)&3], mask[(offset+3)&3]}
	word := binary.LittleEndian.Uint32(key[:])
	double := uint64(word)<<32 | uint64(word)
	i := 0
	for ; i+8 <= len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], binary.LittleEndian.Uint64(b[i:])^double)
	}
	for ; i < len(b); i++ {
		b[i] ^= key[i&3]
	}
}

// closing judges the payload of a close frame.
func closing(payload []byte) error {
	if len(payload) == 0 {
		return errClosing
	}
	if len(payload) == 1 {
		return closeError(statusProtocol)
	}
	status := binary.BigEndian.Uint16(payload)
	sendable := status >= 1000 && status <= 1014 && status != 1004 && status != 1005 && status != 1006 ||
		status >= 3000 && status <= 4999
	if !sendable {
		return closeError(statusProtocol)
	}
	if !utf8.Valid(payload[2:]) {
		return closeError(statusNotUTF8)
	}
	return errClosing
}
