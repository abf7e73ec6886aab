package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// A record is one event on disk:
//
//	length   uint32 LE   bytes from crc32c on
//	crc32c   uint32 LE   of everything behind it
//	seq      uint64 LE
//	version  byte        1
//	fields               tag (byte), length (uvarint), value; any order
//
// A reader skips tags it does not know, so a newer box can add fields that an
// older one reads past. The epoch is the segment's.
const (
	recordVersion = 1
	lengthSize    = 4
	headSize      = 4 + 8 + 1 // crc32c, seq, version

	// maxRecord bounds an encoded event, in bytes. It is far above what
	// event.MaxPayload allows.
	maxRecord = 1 << 20
)

// The tags. Numbers are never reused.
const (
	tagID byte = iota + 1
	tagKind
	tagOrigin
	tagClass
	tagTime
	tagSubject
	tagActor
	tagRole
	tagTerminal
	tagCorrelationID
	tagVenue
	tagTable
	tagOrder
	tagAudienceRole
	tagUser
	tagAudienceTerminal
	tagExcept
	tagSender
	tagExpires
	tagDedupKey
	tagDigest
	tagPayload
	tagUUID      // an ID that is a UUID, as its 16 bytes
	tagTimeError // of the time, in milliseconds, uint64 LE
	tagUp        // since the boot below, in milliseconds, uint64 LE
	tagBoot      // a UUID, as its 16 bytes
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errRecord = errors.New("record does not match its checksum")

// encode returns the record of e with seq and checksum still open: see stamp.
func encode(e *event.Event) ([]byte, error) {
	b := make([]byte, lengthSize+headSize, weigh(e))
	b[lengthSize+headSize-1] = recordVersion
	b = putID(b, e.ID)
	b = putText(b, tagKind, string(e.Kind))
	b = append(b, tagOrigin, 1, byte(e.Origin), tagClass, 1, byte(e.Class))
	b = putTime(b, tagTime, e.Time)
	b = putClock(b, e.Clock)
	b = putText(b, tagSubject, e.Subject)
	b = putText(b, tagActor, e.Actor)
	b = putText(b, tagRole, string(e.Role))
	b = putText(b, tagTerminal, e.Terminal)
	b = putText(b, tagCorrelationID, e.CorrelationID)
	if e.Audience.Venue {
		b = append(b, tagVenue, 0)
	}
	b = putList(b, tagTable, e.Audience.Tables)
	b = putList(b, tagOrder, e.Audience.Orders)
	b = putList(b, tagAudienceRole, e.Audience.Roles)
	b = putList(b, tagUser, e.Audience.Users)
	b = putList(b, tagAudienceTerminal, e.Audience.Terminals)
	b = putList(b, tagExcept, e.Audience.Except)
	b = putText(b, tagSender, e.Sender)
	b = putTime(b, tagExpires, e.Expires)
	b = putText(b, tagDedupKey, e.DedupKey)
	if e.Digest != 0 {
		b = append(b, tagDigest, 8)
		b = binary.LittleEndian.AppendUint64(b, e.Digest)
	}
	b = append(b, tagPayload)
	b = binary.AppendUvarint(b, uint64(len(e.Payload)))
	b = append(b, e.Payload...)
	if len(b) > maxRecord {
		return nil, fmt.Errorf("%w: %d bytes", ErrTooLarge, len(b))
	}
	binary.LittleEndian.PutUint32(b, uint32(len(b)-lengthSize))
	return b, nil
}

// stamp completes an encoded record with its position.
func stamp(record []byte, seq event.Seq) {
	body := record[lengthSize:]
	binary.LittleEndian.PutUint64(body[4:], uint64(seq))
	binary.LittleEndian.PutUint32(body, crc32.Checksum(body[4:], castagnoli))
}

// cut takes the first record off b. Its contents are not verified yet.
func cut(b []byte) (record, rest []byte, err error) {
	if len(b) < lengthSize+headSize {
		return nil, nil, errRecord
	}
	n := binary.LittleEndian.Uint32(b)
	if n < headSize || uint64(n) > uint64(len(b)-lengthSize) {
		return nil, nil, errRecord
	}
	end := lengthSize + int(n)
	return b[:end], b[end:], nil
}

// verify checks a record that cut returned against its checksum and the
// position it stands at.
func verify(record []byte, seq event.Seq) error {
	body := record[lengthSize:]
	if crc32.Checksum(body[4:], castagnoli) != binary.LittleEndian.Uint32(body) ||
		event.Seq(binary.LittleEndian.Uint64(body[4:])) != seq {
		return errRecord
	}
	if v := body[headSize-1]; v != recordVersion {
		return fmt.Errorf("record of version %d: %w", v, ErrNewer)
	}
	return nil
}

// decode returns the event in a verified record. It shares no memory with it:
// the record lies in a mapped page that may be gone a moment later.
func decode(record []byte, seq event.Seq, epoch event.Epoch) (event.Event, error) {
	e := event.Event{Epoch: epoch, Seq: seq}
	body := record[lengthSize+headSize:]
	texts := string(body[:payloadAt(body)]) // one copy, of which they are parts
	text := func(at, end int) string {
		if end > len(texts) { // behind the payload, where encode puts none
			return string(body[at:end])
		}
		return texts[at:end]
	}
	err := fields(body, func(tag byte, at, end int) {
		a, value := &e.Audience, body[at:end]
		switch tag {
		case tagID:
			e.ID = event.ID(text(at, end))
		case tagUUID:
			e.ID = uuidText(value)
		case tagKind:
			e.Kind = event.Kind(text(at, end))
		case tagOrigin:
			e.Origin = event.Origin(firstByte(value))
		case tagClass:
			e.Class = event.Class(firstByte(value))
		case tagTime:
			e.Time = getTime(value)
		case tagTimeError:
			e.Clock.Error = time.Duration(getUint64(value)) * time.Millisecond
		case tagUp:
			e.Clock.Up = time.Duration(getUint64(value)) * time.Millisecond
		case tagBoot:
			e.Clock.Boot = string(uuidText(value))
		case tagSubject:
			e.Subject = text(at, end)
		case tagActor:
			e.Actor = text(at, end)
		case tagRole:
			e.Role = event.Role(text(at, end))
		case tagTerminal:
			e.Terminal = text(at, end)
		case tagCorrelationID:
			e.CorrelationID = text(at, end)
		case tagVenue:
			a.Venue = true
		case tagTable:
			a.Tables = append(a.Tables, text(at, end))
		case tagOrder:
			a.Orders = append(a.Orders, text(at, end))
		case tagAudienceRole:
			a.Roles = append(a.Roles, event.Role(text(at, end)))
		case tagUser:
			a.Users = append(a.Users, text(at, end))
		case tagAudienceTerminal:
			a.Terminals = append(a.Terminals, text(at, end))
		case tagExcept:
			a.Except = append(a.Except, event.Role(text(at, end)))
		case tagSender:
			e.Sender = text(at, end)
		case tagExpires:
			e.Expires = getTime(value)
		case tagDedupKey:
			e.DedupKey = text(at, end)
		case tagDigest:
			e.Digest = getUint64(value)
		case tagPayload:
			e.Payload = slices.Clone(value)
		}
	})
	return e, err
}

// field returns one field of a verified record without decoding the others,
// nil if it has none. The result lies in the record's memory.
func field(record []byte, want byte) []byte {
	var found []byte
	body := record[lengthSize+headSize:]
	_ = fields(body, func(tag byte, at, end int) { // a bad tail hides no earlier field
		if tag == want {
			found = body[at:end]
		}
	})
	return found
}

// payloadAt returns where the payload begins in a record's fields, their length
// if there is none.
func payloadAt(body []byte) int {
	begin := len(body)
	_ = fields(body, func(tag byte, at, _ int) {
		if tag == tagPayload {
			begin = at
		}
	})
	return begin
}

// fields calls each with the tag of every field of a record, and where in body
// its value stands.
func fields(body []byte, each func(tag byte, at, end int)) error {
	for next := 0; next < len(body); {
		n, w := binary.Uvarint(body[next+1:])
		at := next + 1 + w
		if w <= 0 || n > uint64(len(body)-at) {
			return errRecord
		}
		tag := body[next]
		next = at + int(n)
		each(tag, at, next)
	}
	return nil
}

// putID stores a UUID in less than half of its text. One that is written in
// another way than usual stays a text, so that the same comes back.
func putID(b []byte, id event.ID) []byte {
	if u, err := uuid.Parse(string(id)); err == nil && uuidText(u[:]) == id {
		b = append(b, tagUUID, byte(len(u)))
		return append(b, u[:]...)
	}
	return putText(b, tagID, string(id))
}

func uuidText(value []byte) event.ID {
	u, err := uuid.FromBytes(value)
	if err != nil {
		return ""
	}
	return event.ID(u.String())
}

// recordID returns the ID in a verified record.
func recordID(record []byte) event.ID {
	if u := field(record, tagUUID); u != nil {
		return uuidText(u)
	}
	return event.ID(field(record, tagID))
}

// putClock stores what is needed to understand the time; a boot that has no UUID
// is none.
func putClock(b []byte, c event.Clock) []byte {
	if c.Error > 0 {
		b = append(b, tagTimeError, 8)
		b = binary.LittleEndian.AppendUint64(b, uint64(c.Error.Milliseconds()))
	}
	if boot, err := uuid.Parse(c.Boot); err == nil {
		b = append(b, tagUp, 8)
		b = binary.LittleEndian.AppendUint64(b, uint64(c.Up.Milliseconds()))
		b = append(b, tagBoot, byte(len(boot)))
		b = append(b, boot[:]...)
	}
	return b
}

func putText(b []byte, tag byte, text string) []byte {
	if text == "" {
		return b
	}
	b = append(b, tag)
	b = binary.AppendUvarint(b, uint64(len(text)))
	return append(b, text...)
}

func putList[S ~string](b []byte, tag byte, list []S) []byte {
	for _, text := range list {
		b = append(b, tag)
		b = binary.AppendUvarint(b, uint64(len(text)))
		b = append(b, text...)
	}
	return b
}

func putTime(b []byte, tag byte, t time.Time) []byte {
	if t.IsZero() {
		return b
	}
	b = append(b, tag, 8)
	return binary.LittleEndian.AppendUint64(b, uint64(t.UnixMilli()))
}

func getTime(value []byte) time.Time {
	return time.UnixMilli(int64(getUint64(value))).UTC()
}

func getUint64(value []byte) uint64 {
	if len(value) != 8 {
		return 0
	}
	return binary.LittleEndian.Uint64(value)
}

func firstByte(value []byte) byte {
	if len(value) == 0 {
		return 0
	}
	return value[0]
}

// toMillis rounds a time to what a record keeps of it.
func toMillis(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return time.UnixMilli(t.UnixMilli()).UTC()
}

// weigh returns an upper estimate of an event's encoded size, in bytes. It is
// what the bounds on queue, ring and Read are counted in.
func weigh(e *event.Event) int {
	n := 168 + len(e.ID) + len(e.Kind) + len(e.Subject) + len(e.Actor) + len(e.Role) +
		len(e.Terminal) + len(e.CorrelationID) + len(e.Sender) + len(e.DedupKey) + len(e.Payload)
	a := &e.Audience
	for _, list := range [][]string{a.Tables, a.Orders, a.Users, a.Terminals} {
		for _, text := range list {
			n += 4 + len(text)
		}
	}
	for _, list := range [][]event.Role{a.Roles, a.Except} {
		for _, role := range list {
			n += 4 + len(role)
		}
	}
	return n
}
