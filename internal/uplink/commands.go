package uplink

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

const (
	commandSpace = "commands"
	commandsKept = 256      // ids remembered; older ones would run again
	maxResult    = 32 << 10 // bytes of an answer
	maxBundle    = 64 << 10 // bytes of an archive in one: in Base64 within the 128 KiB of the meanest broker
	collectTime  = 20 * time.Second
	resultTries  = 3        // links on which a result's PUBACK is awaited
	drainKey     = "drain"  // a Pause, or null
	replayKey    = "replay" // a Replay, or null
)

const collectType = "diagnostics.collect"

// The ends of a command.
const (
	commandDone     = "done"
	commandFailed   = "failed"   // it was tried
	commandExpired  = "expired"  // it came too late, and was not tried
	commandRejected = "rejected" // it cannot be carried out as it stands
)

// Box is what commands and the configuration of the cloud act on beside the
// uplink. Safe concurrently.
type Box interface {
	// Report returns the status of the box. It encodes to JSON.
	Report() any

	// Diagnose collects what support asks for, without secrets and, unless
	// they are asked for, without payloads: an archive of at most so many bytes
	// in what encodes to JSON. It takes seconds, and ends with ctx.
	Diagnose(ctx context.Context, payloads bool, most int) (any, error)

	// SetLogLevel holds until the box restarts.
	SetLogLevel(level slog.Level)

	// Configure returns what puts a configuration of the cloud in force and cannot
	// fail. An error names keys that cannot be used: s.JWKS is then made to have in
	// their place those of before, which is what was in force.
	Configure(s *Settings, before json.RawMessage) (apply func(), err error)

	// Now is the clock by which commands expire.
	Now() time.Time
}

// Pause says since when, and by which command, no events are sent. It outlives
// a restart.
type Pause struct {
	Command string    `json:"command"`
	Since   time.Time `json:"since"`
}

// command is a message on the commands topic.
type command struct {
	ID        string          `json:"id"`
	Type      string          `json:"type"`
	Params    json.RawMessage `json:"params"`
	ExpiresAt *time.Time      `json:"expiresAt"`
}

// answer is a message on the results topic.
type answer struct {
	ID     string `json:"id"`
	Status string `json:"status"`
	Result any    `json:"result,omitempty"`
	Error  string `json:"error,omitempty"`
}

// effect is what a command changes: a note that is written in one commit with
// the answer, and then something in memory. Both may be absent.
type effect struct {
	key   string
	value any
	then  func()
}

// inbox remembers the newest 256 commands with their answers, in a ring of note
// keys. The worker of the link alone uses it.
type inbox struct {
	notes Notes
	last  uint64
	keyOf map[string]string // command id → its key
	idOf  map[string]string // the other way

	large string // the key of the one answer that is kept beyond maxResult; empty: there is none

	unsaid string // the command whose answer the broker has not confirmed
	tries  int    // on how many links
}

type slot struct {
	Number uint64          `json:"number"` // 1, 2, 3, … over all time
	ID     string          `json:"id"`
	Answer json.RawMessage `json:"answer"`
}

// loadInbox also returns what commands have left in force.
func loadInbox(notes Notes, log *slog.Logger) (box *inbox, pause *Pause, replay *Replay, err error) {
	all, err := notes.All(commandSpace)
	if err != nil && all == nil {
		return nil, nil, nil, fmt.Errorf("read commands: %w", err)
	}
	if err != nil {
		log.Error("commands forgotten that cannot be read", "err", err)
	}
	box = &inbox{notes: notes, keyOf: map[string]string{}, idOf: map[string]string{}}
	for key, raw := range all {
		var s slot
		var bad error
		switch key {
		case drainKey:
			bad = json.Unmarshal(raw, &pause)
		case replayKey:
			bad = json.Unmarshal(raw, &replay)
		default:
			if bad = json.Unmarshal(raw, &s); bad == nil {
				box.last = max(box.last, s.Number)
				box.keyOf[s.ID], box.idOf[key] = key, s.ID
				if len(s.Answer) > maxResult {
					box.large = key
				}
			}
		}
		if bad != nil {
			log.Error("command note cannot be read", "key", key, "err", bad)
		}
	}
	return box, pause, replay, nil
}

// find returns the answer that was given to a command, nil if none was.
func (b *inbox) find(id string) ([]byte, error) {
	key, known := b.keyOf[id]
	if !known {
		return nil, nil
	}
	all, err := b.notes.All(commandSpace)
	var s slot
	if raw, ok := all[key]; ok && json.Unmarshal(raw, &s) == nil && s.ID == id {
		return s.Answer, nil
	}
	if err != nil && all == nil {
		return nil, fmt.Errorf("read answer to a command: %w", err)
	}
	// Known all the same, so it must not run again.
	return encodeAnswer(answer{ID: id, Status: commandFailed, Error: "answered before; the answer is damaged"}, maxResult), nil
}

// put keeps a command's answer and its note in one commit. Of large answers the
// newest is kept: a repeat of an older one is told so.
func (b *inbox) put(id string, body []byte, e effect) error {
	raw, err := json.Marshal(slot{b.last + 1, id, body})
	if err != nil {
		return err
	}
	key := fmt.Sprintf("%03d", (b.last+1)%commandsKept)
	entries := map[string][]byte{key: raw}
	large := b.large
	if len(body) > maxResult {
		if old := b.idOf[large]; large != "" && large != key {
			gone := encodeAnswer(answer{ID: old, Status: commandFailed, Error: "answered before; the answer was large and is kept no more: ask again under a new id"}, maxResult)
			if entries[large], err = json.Marshal(slot{b.numberOf(large), old, gone}); err != nil {
				return err
			}
		}
		large = key
	} else if large == key {
		large = ""
	}
	if e.key != "" {
		if entries[e.key], err = json.Marshal(e.value); err != nil {
			return err
		}
	}
	if err := b.notes.Put(commandSpace, entries); err != nil {
		return err
	}
	b.last++
	b.large = large
	delete(b.keyOf, b.idOf[key])
	b.keyOf[id], b.idOf[key] = key, id
	return nil
}

// numberOf returns the number of a slot that is in use.
func (b *inbox) numberOf(key string) uint64 {
	place, _ := strconv.ParseUint(key, 10, 64)
	return b.last - (b.last+commandsKept-place)%commandsKept
}

// command carries a command out, at most once, and answers it.
//
//	carry out in mind ─► commit: answer and effect ─► result ─► PUBACK of it ─► PUBACK of the command
//	                 (1)                          (2)       (3)             (4)
//
// A crash at (1): nothing has happened, and the broker delivers the command
// again. At (2) or (3): the broker delivers it again, and the first answer is
// repeated; what the effect needs of memory is read from the note at the next
// start, or, for the log level, ends with the process as it always does. At
// (4): the same, the result comes twice. So there is no command of which the
// box does not know whether it took effect.
func (d *downlink) command(ctx context.Context, it item) (*unreadable, error) {
	var c command
	if bad := decodeStrict(it.body, &c); bad != nil {
		return bad, nil
	}
	if c.ID == "" || len(c.ID) > event.MaxKey {
		return unread("bad_id", "id has %d bytes, not 1 to %d", len(c.ID), event.MaxKey), nil
	}
	body, err := d.u.inbox.find(c.ID)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errJournal, err)
	}
	if body != nil {
		d.u.tell(func(st *Status) { st.Repeated++ })
		return nil, d.answer(ctx, it, c.ID, body)
	}
	switch {
	case it.found != nil: // it comes round again
	case c.ID == d.collecting: // it is said twice, and answered once
		d.u.tell(func(st *Status) { st.Repeated++ })
		return nil, nil
	case d.collects(&c) && d.collecting == "":
		d.collect(ctx, &c, it)
		return nil, errUnderWay
	case d.collects(&c):
		it.found = &answer{ID: c.ID, Status: commandFailed, Error: fmt.Sprintf(
			"busy: a bundle is collected for command %q: ask again when that is answered, under a new id", d.collecting)}
	}
	err = d.persist(ctx, "answer to a command", func() error {
		d.u.writing.Lock()
		defer d.u.writing.Unlock()
		a, e := d.run(&c, it.found)
		most := maxResult
		if c.Type == collectType {
			most = 2 * maxBundle
		}
		body = encodeAnswer(a, most)
		// Commit point.
		if err := d.u.inbox.put(c.ID, body, e); err != nil {
			return err
		}
		if e.then != nil {
			e.then()
		}
		d.u.log.Info("command answered", "id", c.ID, "type", fmt.Sprintf("%.64s", c.Type), "status", a.Status)
		return nil
	})
	if err != nil {
		return nil, err
	}
	d.u.tell(func(st *Status) { st.Commands++ })
	return nil, d.answer(ctx, it, c.ID, body)
}

// collects reports whether a command is to be answered with a bundle.
func (d *downlink) collects(c *command) bool {
	_, bad := collectParams(c.Params)
	return c.Type == collectType && bad == nil && !d.expired(c)
}

// collect gathers what the answer is made of, which takes seconds, beside the
// line, so that what else comes down does not wait; then the command comes
// round again with it. One at a time. If the link goes, the broker delivers the
// command again.
func (d *downlink) collect(ctx context.Context, c *command, it item) {
	d.collecting = c.ID
	payloads, _ := collectParams(c.Params)
	d.beside.Go(func() {
		inTime, cancel := context.WithTimeout(ctx, collectTime)
		defer cancel()
		it.found = d.diagnose(inTime, c.ID, payloads)
		if ctx.Err() == nil {
			d.collected <- it // has room
		}
	})
}

// diagnose returns the answer, whatever happens.
func (d *downlink) diagnose(ctx context.Context, id string, payloads bool) (a *answer) {
	failed := func(why string) *answer { return &answer{ID: id, Status: commandFailed, Error: why} }
	defer func() {
		if p := recover(); p != nil {
			d.u.log.Error("collecting diagnostics panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			a = failed(fmt.Sprintf("panicked: %v", p))
		}
	}()
	result, err := d.u.box.Diagnose(ctx, payloads, maxBundle)
	if err != nil {
		return failed(err.Error())
	}
	return &answer{ID: id, Status: commandDone, Result: result}
}

func collectParams(raw json.RawMessage) (payloads bool, bad *unreadable) {
	var p struct {
		Payloads bool `json:"payloads"`
	}
	if raw == nil {
		return false, nil
	}
	bad = decodeStrict(raw, &p)
	return p.Payloads, bad
}

func (d *downlink) expired(c *command) bool {
	return c.ExpiresAt != nil && !d.u.box.Now().Before(*c.ExpiresAt)
}

// encodeAnswer keeps an answer within a bound.
func encodeAnswer(a answer, most int) []byte {
	body, err := json.Marshal(a)
	switch {
	case err != nil:
		a.Error = fmt.Sprintf("encode result: %v", err)
	case len(body) > most:
		a.Error = fmt.Sprintf("result has %d bytes, more than %d", len(body), most)
	default:
		return body
	}
	a.Status, a.Result = commandFailed, nil
	body, _ = json.Marshal(a) // strings alone encode
	return body
}

// answer publishes a result and waits for its PUBACK, so that the broker keeps
// the command until it has the result. A result that has cost three links is
// sent without waiting, for it may be what the broker ends them for.
func (d *downlink) answer(ctx context.Context, it item, id string, body []byte) error {
	b := d.u.inbox
	if b.unsaid != id {
		b.unsaid, b.tries = id, 0
	}
	b.tries++
	r := result{body: body, confirmed: make(chan struct{})}
	if b.tries > resultTries {
		it.message.Ack()
	}
	select {
	case d.results <- r:
	case <-ctx.Done():
		return ctx.Err()
	}
	wait := time.NewTimer(pubackTimeout)
	defer wait.Stop()
	if b.tries > resultTries {
		b.unsaid = ""
		return nil
	}
	select {
	case <-r.confirmed:
		b.unsaid = ""
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-wait.C:
		return errNoPuback
	}
}

// run says what becomes of a command, for which collect has found something if it
// is one of those. It changes nothing itself, except that it asks the box for its status.
func (d *downlink) run(c *command, found *answer) (answer, effect) {
	a, e := answer{ID: c.ID, Status: commandDone}, effect{}
	var bad *unreadable
	switch {
	case found != nil: // in time, even if that is over by now
		a = *found
	case d.expired(c):
		a.Status = commandExpired
	case c.Type == "status.report":
		if bad = noParams(c.Params); bad == nil {
			a.Result = d.u.box.Report()
		}
	case c.Type == collectType:
		_, bad = collectParams(c.Params)
	case c.Type == "log.level":
		a.Result, e, bad = d.u.logLevel(c.Params)
	case c.Type == "drain.pause":
		if bad = noParams(c.Params); bad == nil {
			a.Result, e = d.u.drainPause(c.ID)
		}
	case c.Type == "drain.resume":
		if bad = noParams(c.Params); bad == nil {
			a.Result, e = d.u.drainResume()
		}
	case c.Type == "journal.replay":
		var err error
		if a.Result, e, bad, err = d.u.journalReplay(c); err != nil {
			a.Status, a.Error = commandFailed, err.Error()
		}
	default:
		bad = unread("bad_type", "unknown command type %.64q", c.Type)
	}
	if bad != nil {
		a.Status, a.Result, a.Error = commandRejected, nil, bad.text
	}
	return a, e
}

// noParams checks that a command that takes no parameters has none.
func noParams(raw json.RawMessage) *unreadable {
	if raw == nil {
		return nil
	}
	return decodeStrict(raw, new(struct{}))
}

func (u *Uplink) logLevel(params json.RawMessage) (any, effect, *unreadable) {
	var p struct {
		Level string `json:"level"`
	}
	if params != nil {
		if bad := decodeStrict(params, &p); bad != nil {
			return nil, effect{}, bad
		}
	}
	level, known := map[string]slog.Level{
		"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
	}[p.Level]
	if !known {
		return nil, effect{}, unread("bad_params", "level %.64q is not debug, info, warn or error", p.Level)
	}
	return map[string]string{"level": p.Level, "until": "restart"}, effect{then: func() { u.box.SetLogLevel(level) }}, nil
}

// drainPause leaves a pause that is already in force as it is.
func (u *Uplink) drainPause(id string) (any, effect) {
	p := u.Status().Paused
	if p == nil {
		p = &Pause{Command: id, Since: u.box.Now().UTC().Truncate(time.Millisecond)}
	}
	return map[string]any{"paused": p}, effect{drainKey, p, func() { u.tell(func(st *Status) { st.Paused = p }) }}
}

func (u *Uplink) drainResume() (any, effect) {
	was := u.Status().Paused
	return map[string]any{"paused": nil, "was": was},
		effect{drainKey, nil, func() { u.tell(func(st *Status) { st.Paused = nil }) }}
}
