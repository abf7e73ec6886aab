package uplink

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/avoqado/avoqado-edge/internal/event"
)

const (
	configSpace    = "config" // the newest configuration of the cloud, as it came
	configKey      = "cloud"
	noteSpace      = "uplink"
	noteBroadcast  = "lastBroadcast"
	queueLength    = 64
	maxMessage     = 256 << 10 // larger ones are rejected with their first bytes
	appendRetryMin = 100 * time.Millisecond
	appendRetryMax = 5 * time.Second
	heardLength    = 64
)

// downlink takes what comes down on one link, in order.
//
//	library's read loop ─receive─► queue (64) ─work─► journal, fsync ─► PUBACK
//	                         └───► heard (acks pass by the queue: the journal
//	                               may be full, and they are what frees it)
//
// A message is confirmed to the broker only when the box can no longer lose
// it. If the queue is full, the message and all behind it are left
// unconfirmed; when the queue has been worked off the link is cut, and the
// broker delivers them again, in order, on the next one.
type downlink struct {
	u    *Uplink
	link *link // set before work begins

	queue chan item
	full  atomic.Bool   // a message did not fit
	spilt chan struct{} // an entry when that is so

	collecting string         // id of the command that a bundle is collected for; owned by work
	collected  chan item      // that command again, with what was found
	beside     sync.WaitGroup // who collects

	results chan result   // for the sender to publish
	heard   chan struct{} // confirmations has something

	mu   sync.Mutex
	said []place // what the back-end said; mu guards it
}

type item struct {
	message mqtt.Message
	topic   string
	size    int
	body    []byte // the first bytes only, if it is larger than maxMessage

	found *answer // of a command: what takes long is done, and this came of it
}

// result is an answer to a command on its way up.
type result struct {
	body      []byte
	confirmed chan struct{} // closed at its PUBACK
}

func newDownlink(u *Uplink) *downlink {
	return &downlink{
		u:         u,
		queue:     make(chan item, queueLength),
		spilt:     make(chan struct{}, 1),
		collected: make(chan item, 1),
		results:   make(chan result),
		heard:     make(chan struct{}, 1),
	}
}

// receive is called by the MQTT library for every message and never waits for
// the journal.
func (d *downlink) receive(m mqtt.Message) {
	body := m.Payload()
	it := item{message: m, topic: m.Topic(), size: len(body), body: body}
	if it.topic == d.u.topic.acks && d.hear(body) {
		m.Ack() // it says again whatever is lost of it
		return
	}
	if it.size > maxMessage {
		it.body = append([]byte(nil), body[:rejectedBytes]...)
	}
	if d.full.Load() {
		return
	}
	select {
	case d.queue <- it:
	default:
		d.full.Store(true)
		d.spilt <- struct{}{} // has room: it is said once
		d.u.tell(func(st *Status) { st.Overflows++ })
	}
}

// word is what the back-end says on acks.
type word struct {
	Epoch    event.Epoch `json:"epoch"`
	Through  *event.Seq  `json:"through"`
	Rejected []refusal   `json:"rejected"`
}

// refusal names an event that the back-end will not take.
type refusal struct {
	Seq    position `json:"sequence"`
	Reason string   `json:"reason"`
}

// position is a sequence as a number, or as a string as events carry it.
type position event.Seq

// UnmarshalJSON reads both forms.
func (p *position) UnmarshalJSON(raw []byte) error {
	text := string(raw)
	if unquoted, ok := event.Unquote(raw); ok {
		text = unquoted
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return fmt.Errorf("sequence %.40s is not a position", raw)
	}
	*p = position(n)
	return nil
}

// hear takes a confirmation by the back-end; false means that it must go
// through the queue, because it refuses something or cannot be read.
func (d *downlink) hear(body []byte) bool {
	var said word
	if json.Unmarshal(body, &said) != nil || said.Through == nil || len(said.Rejected) > 0 {
		return false
	}
	d.pass(place{said.Epoch, *said.Through})
	return true
}

// refused parks what the back-end will not take, however long the disk needs:
// it may say so only once.
func (d *downlink) refused(ctx context.Context, body []byte) (*unreadable, error) {
	var said word
	if err := json.Unmarshal(body, &said); err != nil || said.Through == nil {
		return unread("not_json", "not a confirmation"), nil
	}
	err := d.persist(ctx, "refused events", func() error { return d.u.refuse(said.Epoch, said.Rejected) })
	if err != nil {
		return nil, err
	}
	d.pass(place{said.Epoch, *said.Through})
	return nil, nil
}

// pass hands a confirmation to the sender.
func (d *downlink) pass(said place) {
	d.mu.Lock()
	if len(d.said) == heardLength {
		// The sender is busy. What matters is the newest word, and that there
		// was more than one.
		d.said = d.said[:heardLength-1]
	}
	d.said = append(d.said, said)
	d.mu.Unlock()
	select {
	case d.heard <- struct{}{}:
	default:
	}
}

// confirmations returns what the back-end said since the last call.
func (d *downlink) confirmations() []place {
	d.mu.Lock()
	defer d.mu.Unlock()
	said := d.said
	d.said = nil
	return said
}

// work handles the queue until ctx ends or nothing more can come of this link.
func (d *downlink) work(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer d.beside.Wait()
	defer cancel()
	for {
		var it item
		select {
		case <-ctx.Done():
			return
		case it = <-d.queue:
		case it = <-d.collected:
			d.collecting = ""
		case <-d.spilt: // perhaps behind the last of the queue
		}
		if it.message != nil {
			if err := d.handle(ctx, it); err != nil {
				d.link.cut(err) // the broker keeps it
				return
			}
		}
		if d.full.Load() && len(d.queue) == 0 {
			d.link.cut(errOverflow)
			return
		}
	}
}

// handle does what a message asks for and confirms it. On an error it is not
// confirmed, nor while it is under way.
func (d *downlink) handle(ctx context.Context, it item) error {
	bad, err := d.try(ctx, it)
	if errors.Is(err, errUnderWay) {
		return nil
	}
	if err != nil {
		return err
	}
	if bad != nil {
		if err := d.reject(ctx, it, bad); err != nil {
			return err
		}
	}
	it.message.Ack()
	return nil
}

// reject keeps a message that is not acted on. A retained one comes again at
// each connect, and is kept once.
func (d *downlink) reject(ctx context.Context, it item, bad *unreadable) error {
	sum := sha256.Sum256(it.body)
	if it.message.Retained() {
		if d.u.refused[it.topic] == sum {
			return nil
		}
		d.u.refused[it.topic] = sum
	}
	err := d.persist(ctx, "rejected message", func() error {
		return d.u.kept.keep(it.topic, it.size, it.body, bad, now())
	})
	if err != nil {
		return err
	}
	d.u.tell(func(st *Status) {
		st.Rejected++
		st.RejectedAt, st.RejectedFor = time.Now().UTC(), bad.Error()
	})
	return nil
}

// persist writes, again and again while the disk is full or ill: to cut the
// link instead would stop the events, which are what makes room.
func (d *downlink) persist(ctx context.Context, what string, write func() error) error {
	pause := backoff{min: appendRetryMin, max: appendRetryMax}
	for first := true; ; first = false {
		err := write()
		if err == nil {
			return nil
		}
		if first && ctx.Err() == nil {
			d.u.log.Warn("not kept yet", "what", what, "err", err)
		}
		timer := time.NewTimer(pause.next())
		select {
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%w: %w", errJournal, ctx.Err())
		case <-timer.C:
		}
	}
}

// try acts on a message. One that makes our own code panic is rejected like
// one that cannot be read: else it would come again for ever.
func (d *downlink) try(ctx context.Context, it item) (bad *unreadable, err error) {
	defer func() {
		if p := recover(); p != nil {
			d.u.log.Error("message handling panicked",
				"topic", it.topic, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			bad, err = unread("panicked", "%v", p), nil
		}
	}()
	t := &d.u.topic
	switch {
	case it.size > maxMessage:
		return unread("too_large", "message has %d bytes, more than %d", it.size, maxMessage), nil
	case it.topic == t.broadcasts:
		return d.broadcast(ctx, it.body)
	case it.topic == t.commands:
		return d.command(ctx, it)
	case it.topic == t.config:
		return d.config(ctx, it.body)
	case it.topic == t.acks:
		return d.refused(ctx, it.body)
	}
	return unread("unknown_topic", "no such topic in the contract"), nil
}

// broadcast stores a broadcast, however long that takes: the broker keeps what
// comes behind it, so order holds.
func (d *downlink) broadcast(ctx context.Context, raw []byte) (*unreadable, error) {
	e, bad := parseBroadcast(raw, d.u.cfg.Venue, d.u.box.Now().UTC().Truncate(time.Millisecond))
	if bad != nil {
		return bad, nil
	}
	receipt, err := d.store(ctx, e)
	var refusal *event.Refusal
	switch {
	case errors.As(err, &refusal):
		return unread("refused", "%s", refusal.Text), nil
	case err != nil:
		return nil, err
	}
	d.u.tell(func(st *Status) {
		if receipt.Duplicate {
			st.Duplicates++
			return
		}
		st.Broadcasts++
		st.LastBroadcast = &Mark{ID: receipt.ID, At: receipt.Time}
	})
	if !receipt.Duplicate {
		d.noteLast(&Mark{ID: receipt.ID, At: receipt.Time})
	}
	return nil, nil
}

// store appends the event, again and again while the journal is full or ill.
// A refusal it returns is final.
func (d *downlink) store(ctx context.Context, e *event.Event) (event.Receipt, error) {
	pause := backoff{min: appendRetryMin, max: appendRetryMax}
	for told := false; ; {
		receipt, err := d.u.journal.Append(ctx, e)
		var refusal *event.Refusal
		if err == nil || errors.As(err, &refusal) && !refusal.Retryable {
			return receipt, err
		}
		if !told && ctx.Err() == nil {
			told = true
			d.u.log.Warn("broadcast not stored yet", "id", e.ID, "err", err)
		}
		wait := pause.next()
		if refusal != nil && refusal.RetryAfter > 0 {
			wait = min(refusal.RetryAfter, appendRetryMax) + rand.N(appendRetryMin)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return receipt, fmt.Errorf("%w: store broadcast: %w", errJournal, ctx.Err())
		case <-timer.C:
		}
	}
}

// noteLast keeps which broadcast was the last, for the status after a restart.
// It costs an fsync, so not more than one per two seconds; a back-end that is
// told of an older one sends again what the box then knows already. So an error
// is no reason to end the link.
func (d *downlink) noteLast(m *Mark) {
	if d.u.noted != nil && m.At.Sub(d.u.noted.At) < statusEvery {
		return
	}
	raw, err := json.Marshal(m)
	if err == nil {
		err = d.u.notes.Put(noteSpace, map[string][]byte{noteBroadcast: raw})
	}
	if err != nil {
		d.u.log.Warn("last broadcast not noted", "err", err)
		return
	}
	d.u.noted = m
}

func loadLastBroadcast(notes Notes) (*Mark, error) {
	all, err := notes.All(noteSpace)
	if err != nil {
		return nil, fmt.Errorf("read last broadcast: %w", err)
	}
	var m Mark
	if raw, ok := all[noteBroadcast]; !ok || json.Unmarshal(raw, &m) != nil {
		return nil, nil //nolint:nilerr // an unreadable note is as good as none
	}
	return &m, nil
}

// now is the time as events carry it.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
