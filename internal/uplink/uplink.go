package uplink

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// Journal is where events come from and broadcasts go to. Safe concurrently.
type Journal interface {
	// Read returns events after the given position, in order: at most
	// maxEvents, and about maxBytes of payload but at least one event if there
	// is any. The caller does not change them. An error with a method
	// Lost() (from, to event.Seq) names events that will never be readable.
	Read(after event.Seq, maxEvents, maxBytes int) ([]event.Event, error)

	// Wait returns nil as soon as there is an event after the given position.
	Wait(ctx context.Context, after event.Seq) error

	// Append returns when the event is on disk. An error that is an
	// [event.Refusal] and not retryable is final; any other may pass.
	Append(ctx context.Context, e *event.Event) (event.Receipt, error)

	// Cursor returns where the named cursor stands, zero if it never moved.
	Cursor(name string) event.Seq

	// MoveCursor returns when the cursor's new position is on disk. What a
	// cursor has not passed is kept for it, from its first move on.
	MoveCursor(name string, to event.Seq) error
}

// Marks tells where the journal stands. Safe concurrently.
type Marks interface {
	Stored() event.Seq  // the last event on disk
	Epoch() event.Epoch // of the events stored now
}

// Notes keeps small facts beside the journal. Safe concurrently.
type Notes interface {
	// Put sets entries of a space and returns when they are on disk.
	Put(space string, entries map[string][]byte) error

	// All returns every entry of a space; an unknown space is empty.
	All(space string) (map[string][]byte, error)

	// Damaged returns the keys of a space whose entries the disk has spoilt.
	Damaged(space string) []string
}

// Uplink is the box's side of the MQTT contract.
type Uplink struct {
	cfg     Config
	topic   topics
	brokers []*url.URL
	dialer  *dialer
	journal Journal
	marks   Marks
	notes   Notes
	box     Box
	log     *slog.Logger

	// Owned by Run.
	sender  *sender
	returns returns
	upAt    time.Time // when the last link came up
	known   known
	around  around
	trial   trial
	quiet   string    // name of the failure that was logged last
	saved   event.Seq // the cursor as it is on disk
	savedAt time.Time
	told    []byte // what the status topic was told last
	zip     *gzip.Writer

	// Also owned by Run: who sends again what a command asked for, and its id.
	replay   *sender
	replayOf string

	// Owned by the worker of the link; there is one link at a time.
	kept    *rejected
	noted   *Mark // the last broadcast as it is on disk
	inbox   *inbox
	refused map[string][sha256.Size]byte // the retained message refused last, by topic
	jwks    json.RawMessage              // the cloud's keys that are in force

	parking  *parking
	settling sync.Mutex // one decision of an operator at a time

	// writing is held by who writes what commands leave in force, from looking
	// at what there is to its commit.
	writing sync.Mutex

	nudge   chan struct{} // ends a pause
	links   uint64        // that were up, by now
	strikes int           // see strike
	live    chan early    // what may be sent before the backlog
	opened  chan struct{} // one entry when opening has changed

	mu      sync.Mutex // guards below
	status  Status
	held    time.Time // no attempt to connect before
	reached event.Seq // how far what is sent reaches
	opening opening
	cut     context.CancelCauseFunc
}

// New returns an uplink that starts behind the journal's cursor "uplink". It
// does not connect: see Run. What the cloud configured last is in force on
// return. The error names everything wrong with cfg.
func New(cfg Config, journal Journal, marks Marks, notes Notes, box Box, log *slog.Logger) (*Uplink, error) {
	cfg, brokers, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("configure uplink: %w", err)
	}
	if journal.Cursor(cursorName) == 0 {
		// From now on the journal keeps for us what we have not passed.
		if err := journal.MoveCursor(cursorName, 0); err != nil {
			return nil, fmt.Errorf("enter cursor: %w", err)
		}
	}
	parking, err := loadParking(notes)
	if err != nil {
		return nil, err
	}
	enc := encoder{source: "/venues/" + cfg.Venue + "/boxes/" + cfg.Box, parking: parking, when: cfg.When}
	s := newSender(journal, cfg.Confirm, cfg.ConfirmWait, enc)
	s.detain = parking.detain
	zip, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	if err != nil {
		return nil, fmt.Errorf("prepare compression: %w", err)
	}
	u := &Uplink{
		cfg: cfg, topic: cfg.topics(), brokers: brokers,
		journal: journal, marks: marks, notes: notes, box: box, log: log,
		sender: s, saved: s.cursor, zip: zip, parking: parking, trial: trial{calm: cfg.calm},
		returns: returns{pause: backoff{min: cfg.RetryMin, max: cfg.RetryMax}, scatter: min(scatter, cfg.RetryMax/4)},
		nudge:   make(chan struct{}, 1), live: make(chan early), opened: make(chan struct{}, 1), refused: make(map[string][sha256.Size]byte),
		status: Status{
			State: Offline, Since: time.Now().UTC(), Confirm: cfg.Confirm, Synced: s.cursor,
		},
	}
	if err := u.reclaim(); err != nil {
		return nil, err
	}
	u.status.Parked = parking.count()
	u.dialer = newDialer(&u.cfg, box.Now)
	if err := u.recallLinks(); err != nil {
		return nil, err
	}
	if u.kept, err = loadRejected(notes, log); err != nil {
		return nil, err
	}
	if u.status.LastBroadcast, err = loadLastBroadcast(notes); err != nil {
		return nil, err
	}
	u.noted = u.status.LastBroadcast
	if u.inbox, u.status.Paused, u.status.Replay, err = loadInbox(notes, log); err != nil {
		return nil, err
	}
	if err := u.recallConfig(); err != nil {
		return nil, err
	}
	return u, nil
}

// Run keeps a link to the cloud until ctx ends, trying for ever, and returns
// nil when all its goroutines have ended. What was not confirmed is sent again
// by the next Run of a new Uplink. Call it once.
func (u *Uplink) Run(ctx context.Context) error {
	defer u.tell(func(st *Status) { st.State = Offline })
	var all sync.WaitGroup
	defer all.Wait()
	if u.cfg.Live {
		all.Go(func() { u.scout(ctx) })
	}
	u.retry(ctx, u.round)
	return nil
}

// Interrupt cuts the link and keeps it down for d, as a router that is
// switched off does. Zero ends an interruption. Safe concurrently.
func (u *Uplink) Interrupt(d time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.held = time.Now().Add(d)
	if d > 0 && u.cut != nil {
		u.cut(errInterrupted)
	}
	select {
	case u.nudge <- struct{}{}: // the pause is to be measured again
	default:
	}
}

// await waits out a pause, and an interruption. It reports false when ctx has
// ended.
func (u *Uplink) await(ctx context.Context, pause time.Duration) bool {
	until := time.Now().Add(pause)
	for {
		u.mu.Lock()
		held := u.held
		u.mu.Unlock()
		if held.After(until) || !held.IsZero() && pause > 0 {
			until = held // no jitter on top of a planned interruption
		}
		wait := time.NewTimer(time.Until(until))
		select {
		case <-ctx.Done():
			wait.Stop()
			return false
		case <-u.nudge:
			wait.Stop()
		case <-wait.C:
			u.mu.Lock()
			if !u.held.After(time.Now()) {
				u.held = time.Time{}
			}
			over := u.held.IsZero()
			u.mu.Unlock()
			if over {
				return ctx.Err() == nil
			}
		}
	}
}

// round makes one link, serves it until it ends, and says why it did.
func (u *Uplink) round(parent context.Context) error {
	ctx, cut := context.WithCancelCause(parent)
	defer cut(nil)
	u.mu.Lock()
	u.cut = cut
	held := u.held.After(time.Now())
	u.mu.Unlock()
	if held {
		return errInterrupted // between await and here
	}

	var failures []error
	for _, broker := range u.brokers {
		u.trying(broker.Host)
		d := newDownlink(u)
		l, err := u.dialer.dial(ctx, broker, []byte(will), u.log, d.receive)
		if err == nil {
			d.link = l
			err = u.serve(parent, ctx, l, d, broker.Host)
			if err != nil && ctx.Err() != nil {
				return context.Cause(ctx) // what ended the link, not what noticed it first
			}
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		failures = append(failures, err)
	}
	u.trial.links, u.trial.cuts = 0, 0
	return u.explain(ctx, failures)
}

// serve works a link until it ends; its goroutines are all joined. This one
// sends. Others wait for the journal, look ahead in it, take what comes down,
// watch the line and the certificates.
func (u *Uplink) serve(parent, ctx context.Context, l *link, d *downlink, broker string) error {
	work, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()

	ask, more := make(chan event.Seq, 1), make(chan error, 1)
	all.Go(func() { d.work(work) })
	all.Go(func() { u.watch(work, ask, more) })
	all.Go(func() { l.watch(work, u.cfg.KeepAlive) })
	all.Go(func() { u.renew(work, l) })
	// A publish that hangs must not hold up the shutdown.
	defer context.AfterFunc(ctx, func() {
		time.AfterFunc(farewellTimeout, func() { l.cut(errLost) })
	})()

	if err := l.subscribe(ctx, &u.topic); err != nil {
		l.drop(err)
		u.trial.links, u.trial.cuts = 0, 0
		return err
	}
	u.sender.connected()
	if u.replay != nil {
		u.replay.connected()
	}
	u.cameUp(broker)
	u.remember(broker, l.resumed)
	u.observe()
	u.links++
	l.number = u.links
	u.opens(opening{l.number, u.marks.Stored(), u.box.Now()})
	err := u.send(ctx, l, d, feeds{ask, more})
	u.opens(opening{})
	if ctx.Err() == nil {
		err = u.judge(err, time.Now())
	}
	u.sender.rewind() // nothing is in flight any more
	if saved := u.save(); saved != nil && err == nil {
		err = saved
	}
	u.observe()
	if parent.Err() != nil {
		u.farewell(l)
		return nil
	}
	if errors.Is(err, errRenewed) {
		l.leave() // in order: the box is not gone
		return err
	}
	l.drop(err)
	return err
}

// watch waits for the journal on behalf of send, until ctx ends. A journal that
// says there is more and then gives nothing (events at its end are lost, and
// passed over) is asked once a second, not as fast as it answers.
func (u *Uplink) watch(ctx context.Context, ask <-chan event.Seq, more chan<- error) {
	pace := time.NewTimer(0)
	defer pace.Stop()
	for last, first := event.Seq(0), true; ; first = false {
		select {
		case <-ctx.Done():
			return
		case after := <-ask:
			if !first && after == last {
				pace.Reset(watchAgain)
				select {
				case <-ctx.Done():
					return
				case <-pace.C:
				}
			}
			last = after
			more <- u.journal.Wait(ctx, after) // has room: one is asked at a time
		}
	}
}

// publish sends a message that is not a batch of events.
func (u *Uplink) publish(l *link, topic string, retained bool, body []byte) error {
	n, err := l.publish(topic, retained, body)
	if err != nil {
		return err
	}
	u.sender.note(n)
	return nil
}

// tellBroker publishes the retained status if it has changed.
func (u *Uplink) tellBroker(l *link, state State) error {
	body := u.reportNow(state)
	if bytes.Equal(body, u.told) || len(u.sender.open) >= maxOpen {
		return nil
	}
	u.told = body
	return u.publish(l, u.topic.status, true, body)
}

// saveAt saves if it is time to.
func (u *Uplink) saveAt(due time.Time) error {
	if time.Now().Before(due) {
		return nil
	}
	return u.save()
}

// save writes the cursor to disk. Commit point: after a crash before it, what
// was confirmed since the last one is sent again, and the back-end skips it.
func (u *Uplink) save() error {
	if u.sender.cursor == u.saved {
		return nil
	}
	if err := u.journal.MoveCursor(cursorName, u.sender.cursor); err != nil {
		return fmt.Errorf("%w: move cursor: %w", errJournal, err)
	}
	u.saved, u.savedAt = u.sender.cursor, time.Now()
	return nil
}

// farewell says offline and leaves. It waits for the broker's confirmation:
// closing with unread bytes on the wire could lose the message.
func (u *Uplink) farewell(l *link) {
	u.told = nil
	wait := time.NewTimer(farewellTimeout)
	defer wait.Stop()
	n, err := l.publish(u.topic.status, true, u.reportNow(Offline))
	for err == nil {
		select {
		case got := <-l.book.acked:
			u.sender.puback(got, time.Now())
			if got == n {
				err = mqtt.ErrNotConnected // done; ends the loop
			}
		case <-l.gone:
			err = l.err
		case <-wait.C:
			err = context.DeadlineExceeded
		}
	}
	l.leave()
	if err := u.save(); err != nil {
		u.log.Warn("cursor not saved at shutdown", "err", err)
	}
}
