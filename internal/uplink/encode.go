package uplink

import (
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// encoder writes events as the contract's CloudEvents batch. It appends to a
// buffer instead of using encoding/json because the payload must leave byte
// for byte as it came, and because a backlog is encoded at the speed of the
// slowest core in the venue.
type encoder struct {
	source string // "/venues/<v>/boxes/<b>"

	// when says when an event happened; nil: at its time, however good that is.
	when func(*event.Event) event.Timing

	// parking says which events are kept out of the line; nil: none.
	parking *parking
}

// before returns what may be called the event sent before.
func (c *encoder) before(last place) place {
	if c.parking == nil {
		return last
	}
	return c.parking.maySay(last)
}

// sends reports whether an event goes to the cloud from its place.
func (c *encoder) sends(e *event.Event) bool {
	return travels(e) && (c.parking == nil || !c.parking.has(e.Seq))
}

// place is where an event stands; the zero place is nowhere.
type place struct {
	epoch event.Epoch
	seq   event.Seq
}

// appendEvent appends one event as a JSON object. previous is the event sent
// before it; one of another epoch is none.
func (c *encoder) appendEvent(b []byte, e *event.Event, previous place) []byte {
	b = append(b, `{"specversion":"1.0","id":`...)
	b = appendString(b, string(e.ID))
	b = appendMember(b, "source", c.source)
	b = append(b, `,"type":"io.avoqado.`...)
	b = append(appendEscaped(b, string(e.Kind)), '"')
	b = appendMember(b, "subject", e.Subject)
	b = c.appendTime(b, e)
	b = append(b, `,"datacontenttype":"application/json"`...)
	b = appendMember(b, "epoch", string(e.Epoch))
	b = append(b, `,"sequence":"`...)
	b = appendSeq(b, e.Seq)
	b = append(b, '"')
	if previous.seq > 0 && previous.epoch == e.Epoch {
		b = append(b, `,"previous":"`...)
		b = appendSeq(b, previous.seq)
		b = append(b, '"')
	}
	b = appendMember(b, "origin", e.Origin.String())
	b = appendMember(b, "actor", e.Actor)
	b = appendMember(b, "role", string(e.Role))
	b = appendMember(b, "terminal", e.Terminal)
	b = appendMember(b, "correlationid", e.CorrelationID)
	if len(e.Payload) > 0 {
		b = append(b, `,"data":`...)
		b = append(b, e.Payload...)
	}
	return append(b, '}')
}

// appendTime writes when an event happened and how far that may be off, in
// milliseconds, as is known now: sent again, the same event may know better.
func (c *encoder) appendTime(b []byte, e *event.Event) []byte {
	at := event.Timing{Time: e.Time}
	if c.when != nil {
		at = c.when(e)
	}
	b = append(b, `,"time":"`...)
	b = at.Time.UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z")
	b = append(b, '"')
	b = appendMember(b, "timequality", string(at.Quality))
	if at.Error > 0 {
		bound := (at.Error + time.Millisecond - 1).Milliseconds()
		b = append(b, `,"timeerror":`...)
		b = strconv.AppendInt(b, min(bound, math.MaxInt32), 10) // an Integer of CloudEvents has 32 bits
	}
	return b
}

// appendSeq writes a position so that text order is number order.
func appendSeq(b []byte, s event.Seq) []byte {
	const zeros = "00000000000000000000"
	b = append(b, zeros...)
	for i := len(b) - 1; s > 0; i-- {
		b[i] = byte('0' + s%10)
		s /= 10
	}
	return b
}

// appendMember appends a string member, or nothing if the value is empty.
func appendMember(b []byte, key, value string) []byte {
	if value == "" {
		return b
	}
	b = append(b, ',', '"')
	b = append(b, key...)
	b = append(b, '"', ':')
	return appendString(b, value)
}

// appendString appends a JSON string. Bytes that are not UTF-8 become U+FFFD:
// one odd identifier must not make a whole batch unreadable.
func appendString(b []byte, s string) []byte {
	return append(appendEscaped(append(b, '"'), s), '"')
}

func appendEscaped(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case plain(c):
			from := i
			for i++; i < len(s) && plain(s[i]); i++ {
			}
			b = append(b, s[from:i]...)
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
			i++
		case c < 0x20:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			i++
		default:
			r, n := utf8.DecodeRuneInString(s[i:])
			b = utf8.AppendRune(b, r) // RuneError is U+FFFD
			i += n
		}
	}
	return b
}

// plain reports whether a byte stands for itself in a JSON string.
func plain(c byte) bool { return c >= 0x20 && c < utf8.RuneSelf && c != '"' && c != '\\' }

// travels reports whether an event goes to the cloud at all: what came from
// there does not go back, and volatile kinds are telemetry.
func travels(e *event.Event) bool {
	if e.Origin == event.Cloud {
		return false
	}
	row, known := event.Lookup(e.Kind)
	return !known || !row.Volatile
}

// batch is one message of events on its way.
type batch struct {
	body  []byte
	epoch event.Epoch // of all its events
	seqs  []event.Seq // of its events, rising
	pass  event.Seq   // where the cursor may stand once all of it is confirmed
	raw   int         // bytes of the message before compression
	size  int         // bytes of the message
	alone bool        // it was made of one event
	sent  time.Time   // when it was handed over
	acked time.Time   // when the broker confirmed it; zero: not yet
}

func (b *batch) last() place { return place{b.epoch, b.seqs[len(b.seqs)-1]} }

// take builds the next batch from the head of events and says how many of them
// it used up, those that do not travel included. The batch has no events if
// none of them travels, and more than maxBytes only if it has but one event.
func (c *encoder) take(events []event.Event, previous place, maxBytes int) (*batch, int) {
	size := 2
	for i := range events {
		size += len(events[i].Payload) + 512
	}
	b := &batch{
		body: make([]byte, 0, min(size, maxBytes+4096)),
		seqs: make([]event.Seq, 0, min(len(events), maxBatchEvents)),
	}
	b.body = append(b.body, '[')
	used := 0
	for i := range events {
		e := &events[i]
		if c.sends(e) {
			if len(b.seqs) == maxBatchEvents || len(b.seqs) > 0 && e.Epoch != b.epoch {
				break
			}
			before := len(b.body)
			if len(b.seqs) > 0 {
				b.body = append(b.body, ',')
			}
			b.body = c.appendEvent(b.body, e, previous)
			if len(b.body)+1 > maxBytes && len(b.seqs) > 0 {
				b.body = b.body[:before] // it opens the next one
				break
			}
			b.epoch = e.Epoch
			b.seqs = append(b.seqs, e.Seq)
			previous = place{e.Epoch, e.Seq}
		}
		b.pass = e.Seq
		used++
	}
	b.body = append(b.body, ']')
	b.raw, b.alone = len(b.body), len(b.seqs) == 1
	return b, used
}
