package boxtest

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/avoqado/avoqado-edge/internal/api"
	"github.com/avoqado/avoqado-edge/internal/cloud"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/journal"
)

// book is what the venue around a box knows: what was sent, what the box
// answered, what was heard, what the back-end has, and what lay on the disk
// after each kill. It outlives every process of the box, and compares.
type book struct {
	mu    sync.Mutex // guards below
	sales map[string]*sale
	at    map[event.Seq]*sale // promised there, or found
	epoch event.Epoch
	top   event.Seq // of all that was promised or found
	first event.Seq // the oldest that was not trimmed
	bytes int       // of payloads so far
	cloud event.Seq // as far as the back-end has it
	live  []*sale   // heard on the connection there is, in order
	heard [][]*sale // the same of connections that ended
	fault error     // the first broken promise

	repeats int // sales sent again after an answer, or after they were found
}

// sale is one event. Its sum is that of the bytes the box made of the payload;
// all who see them must see the same.
type sale struct {
	name    string
	kind    event.Kind
	key     string // empty: it is not sent again
	payload json.RawMessage

	begun    int // bytes of payloads before it
	sends    int
	answered bool
	id       event.ID
	seq      event.Seq // zero: neither promised nor found
	found    bool      // on the disk
	sum      [sha256.Size]byte
	summed   bool
}

func newBook() *book {
	return &book{sales: map[string]*sale{}, at: map[event.Seq]*sale{}}
}

// broken notes the first promise that was not kept. mu is held.
func (b *book) broken(format string, args ...any) {
	if b.fault == nil {
		b.fault = fmt.Errorf(format, args...)
	}
}

// complain is broken for those who do not hold mu.
func (b *book) complain(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.broken(format, args...)
}

// verdict returns the first promise that was not kept.
func (b *book) verdict() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.fault
}

// begin makes a new sale.
func (b *book) begin(till, pad int, keyed bool) *sale {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := len(b.sales)
	s := &sale{name: fmt.Sprintf("sale-%d-%d", till, n)}
	key := ""
	if keyed {
		s.key = "key-" + s.name
		key = fmt.Sprintf(`,"idempotencyKey":%q`, s.key)
	}
	// Numbers and spaces that a box which parses and writes again would change.
	s.kind = []event.Kind{event.PaymentInitiated, event.PaymentCompleted, event.OrderCreated, event.OrderUpdated}[n%4]
	s.payload = fmt.Appendf(nil,
		`{"sale":%q, "paymentId":%q,"orderId":%q,"venueId":%q,"amount":120.50,"currency":"MXN","tableId":"table-%d" ,"n":1e3,"big":9007199254740993%s,"pad":%q}`,
		s.name, "p-"+s.name, "o-"+s.name, Venue, n%5, key, strings.Repeat("ñ<&", pad/4))
	s.begun = b.bytes
	b.bytes += len(s.payload)
	b.sales[s.name] = s
	return s
}

// fresh reports whether a sale cannot have been trimmed yet: a box knows a key
// as long as it keeps the event.
func (b *book) fresh(s *sale) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bytes-s.begun < retained/2
}

// sending says that a sale goes out, and reports whether the box must know it.
func (b *book) sending(s *sale) (known bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s.sends++
	if known = s.answered || s.found; known {
		b.repeats++
	}
	return known
}

// reply is an acknowledgement of the box.
type reply struct {
	Success      bool      `json:"success"`
	EventID      event.ID  `json:"eventId"`
	Seq          event.Seq `json:"seq"`
	Durability   string    `json:"durability"`
	Duplicate    bool      `json:"duplicate"`
	Retryable    bool      `json:"retryable"`
	RetryAfterMs int       `json:"retryAfterMs"`
	Error        string    `json:"error"`
}

// answer notes what the box said to a sale. known is what sending reported.
func (b *book) answer(s *sale, known bool, r reply) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !r.Success {
		if !r.Retryable {
			b.broken("%s was refused for good: %s", s.name, r.Error)
		}
		return
	}
	switch other := b.at[r.Seq]; {
	case r.Durability != "stored" || r.Seq == 0 || r.EventID == "":
		b.broken("%s has no receipt: %+v", s.name, r)
	case other != nil && other != s:
		b.broken("I1: seq %d belongs to %s and is promised to %s", r.Seq, other.name, s.name)
	case s.seq != 0 && s.seq != r.Seq:
		b.broken("I3: %s is at %d and is promised at %d", s.name, s.seq, r.Seq)
	case s.id != "" && s.id != r.EventID || s.key != "" && r.EventID != event.ID(s.key):
		b.broken("I3: %s has id %q and is promised as %q", s.name, s.id, r.EventID)
	case known && !r.Duplicate:
		b.broken("I3: %s was taken for a new event", s.name)
	case r.Duplicate && s.sends == 1:
		b.broken("%s was sent once and is called a duplicate", s.name)
	}
	s.answered, s.id, s.seq = true, r.EventID, r.Seq
	b.at[r.Seq] = s
	b.top = max(b.top, r.Seq)
}

// saleOf returns the sale that a payload is of, as somebody saw it: what was
// sent, to the byte, and behind it what the box adds. mu is held.
func (b *book) saleOf(who string, seen []byte) *sale {
	var body struct{ Sale string }
	err := json.Unmarshal(seen, &body)
	s := b.sales[body.Sale]
	if err != nil || s == nil || !bytes.HasPrefix(seen, s.payload[:len(s.payload)-1]) {
		b.broken("I2: %s has what nobody sent: %.200q (%w)", who, seen, err)
		return nil
	}
	sum := sha256.Sum256(seen)
	if s.summed && s.sum != sum {
		b.broken("I2: %s has other bytes of %s: …%s", who, s.name, seen[max(0, len(seen)-200):])
	}
	s.sum, s.summed = sum, true
	return s
}

// hear notes an event that the listener is shown.
func (b *book) hear(payload []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if text, again := bytes.CutSuffix(payload, []byte(`,"replayed":true}`)); again {
		payload = append(bytes.Clone(text), '}')
	}
	if s := b.saleOf("the listener", payload); s != nil {
		b.live = append(b.live, s)
	}
}

// hearSynced compares what the box says of the back-end to what that has.
func (b *book) hearSynced(payload []byte) {
	var status struct{ SyncedThrough event.Seq }
	err := json.Unmarshal(payload, &status)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil || status.SyncedThrough > b.cloud {
		b.broken("I7: the back-end has %d, the box says %s", b.cloud, payload)
	}
}

// hungUp notes that the listener's connection has ended.
func (b *book) hungUp() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.heard = append(b.heard, b.live)
	b.live = nil
}

// commit notes what the back-end has committed.
func (b *book) commit(e cloud.Effect) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.saleOf("the back-end", e.Data)
	if s == nil {
		return
	}
	if b.epoch == "" {
		b.epoch = e.Epoch
	}
	switch other := b.at[e.Seq]; {
	case e.Epoch != b.epoch:
		b.broken("I5: the back-end has %s in epoch %s, not %s", s.name, e.Epoch, b.epoch)
	case e.Seq != b.cloud+1:
		b.broken("I4: the back-end has %d behind %d", e.Seq, b.cloud)
	case other != nil && other != s:
		b.broken("I3: seq %d is %s at the back-end, %s on the box", e.Seq, s.name, other.name)
	case s.seq != 0 && s.seq != e.Seq:
		b.broken("I3: %s is at %d, at the back-end at %d", s.name, s.seq, e.Seq)
	case s.id != "" && s.id != e.ID:
		b.broken("I3: %s has id %s, at the back-end %s", s.name, s.id, e.ID)
	}
	s.seq, s.id = e.Seq, e.ID
	b.at[e.Seq] = s
	b.top, b.cloud = max(b.top, e.Seq), e.Seq
}

// synced is as far as the back-end has committed.
func (b *book) synced() event.Seq {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.cloud
}

// stored is the last event that was promised or found.
func (b *book) stored() event.Seq {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.top
}

// audit reads the journal of a box that is down and compares all there is.
func (b *book) audit(dir string) error {
	report, err := journal.Check(dir)
	if errors.Is(err, journal.ErrMissing) && b.stored() == 0 {
		return nil // killed before it had made one
	}
	if err != nil {
		return err
	}
	if !report.OK() {
		return fmt.Errorf("a kill is no damage, found is %+v", report)
	}
	r, err := journal.OpenReader(dir)
	if err != nil {
		return err
	}
	err = errors.Join(b.compare(r), r.Close())

	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		b.compareHeard()
	}
	return errors.Join(b.fault, err) // what came first
}

func (b *book) compare(r *journal.Reader) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	st := r.Stats()
	if b.epoch == "" {
		b.epoch = st.Epoch
	}
	switch {
	case st.Epoch != b.epoch:
		return fmt.Errorf("I5: epoch %s became %s", b.epoch, st.Epoch)
	case st.Stored < b.top:
		return fmt.Errorf("I1: %d (%s) was promised or sent on, the last event is %d", b.top, b.at[b.top].name, st.Stored)
	case st.Cursors[api.UplinkCursor] > b.cloud:
		return fmt.Errorf("I7: synced is %d, the back-end has %d", st.Cursors[api.UplinkCursor], b.cloud)
	case st.First > b.cloud+1:
		return fmt.Errorf("I8: trimmed to %d, the back-end has %d", st.First, b.cloud)
	}
	for after := st.First - 1; after < st.Stored; {
		events, err := r.Read(after, 256, 1<<20)
		if err != nil || len(events) == 0 {
			return fmt.Errorf("I1: read behind %d of %d: %d events, %w", after, st.Stored, len(events), err)
		}
		for i := range events {
			if events[i].Seq != after+1 {
				return fmt.Errorf("I5: %d behind %d", events[i].Seq, after)
			}
			after++
			if err := b.compareEvent(&events[i]); err != nil {
				return err
			}
		}
	}
	b.first, b.top = st.First, max(b.top, st.Stored)
	return nil
}

func (b *book) compareEvent(e *event.Event) error {
	s := b.saleOf("the journal", e.Payload)
	if s == nil {
		return b.fault
	}
	switch other := b.at[e.Seq]; {
	case other != nil && other != s:
		return fmt.Errorf("I1: seq %d was promised to %s, there is %s", e.Seq, other.name, s.name)
	case s.seq != 0 && s.seq != e.Seq:
		return fmt.Errorf("I3: %s is at %d and at %d", s.name, s.seq, e.Seq)
	case s.id != "" && s.id != e.ID || e.Kind != s.kind || e.Epoch != b.epoch:
		return fmt.Errorf("I2: %s is %s %s in epoch %s", s.name, e.ID, e.Kind, e.Epoch)
	}
	s.found, s.seq, s.id = true, e.Seq, e.ID
	b.at[e.Seq] = s // from here on as good as promised
	return nil
}

// compareHeard looks at what was heard on the connections that ended: what was
// shown is on the disk or was trimmed, in its order, without gap or double. mu
// is held.
func (b *book) compareHeard() {
	for _, list := range b.heard {
		for i, s := range list {
			switch {
			case !s.found && (s.seq == 0 || s.seq >= b.first):
				b.broken("I1: %s was shown and is not on the disk", s.name)
			case i > 0 && s.seq != list[i-1].seq+1:
				b.broken("I6: %d was shown behind %d on one connection", s.seq, list[i-1].seq)
			}
		}
	}
	b.heard = nil
}

// close compares what is left when the box has stopped for good: every sale
// that must be there is at the back-end, once and in order, and none else.
func (b *book) close(backend *Backend) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cloud != b.top {
		return fmt.Errorf("%d events are stored, the back-end has %d", b.top, b.cloud)
	}
	for _, s := range b.sales {
		if s.key != "" && !s.answered {
			return fmt.Errorf("%s was never answered", s.name)
		}
	}
	var names []string
	err := backend.Each(func(e cloud.Effect) error {
		var body struct{ Sale string }
		if err := json.Unmarshal(e.Data, &body); err != nil {
			return err
		}
		names = append(names, body.Sale)
		if s := b.at[event.Seq(len(names))]; s == nil || s.name != body.Sale || e.Seq != s.seq || sha256.Sum256(e.Data) != s.sum {
			return fmt.Errorf("I4: effect %d is %s at %d", len(names), body.Sale, e.Seq)
		}
		return nil
	})
	if err != nil {
		return err
	}
	slices.Sort(names)
	if n := len(slices.Compact(names)); n != int(b.top) {
		return fmt.Errorf("I3: the back-end has %d different events of %d", n, b.top)
	}
	return nil
}
