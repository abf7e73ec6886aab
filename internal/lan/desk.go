package lan

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/lan/payments"
	"github.com/avoqado/avoqado-edge/internal/lan/tasks"
)

const (
	triesSpace = "tasks" // in State: command id → times it was written

	deskEvery    = time.Second            // validity and what could not be done before
	refreshEvery = 250 * time.Millisecond // at most, however much happens

	// Each waits for the disk, and a payment must not wait for many.
	stepsAtOnce = 8
)

// desk sees to what follows from a stored event besides its being shown: that a
// command reaches its terminal, that the venue hears what became of it, and
// that dashboards fetch anew. It follows the journal like the fan-out does.
//
//	journal ─ Read ─► follow ─► tasks.Book ─► deliver ─► one socket
//	                     │           └──────► tell ────► journal (status changed)
//	                     └─► refresh ─► venue
//
// At most one effect: the number of tries is on disk before a command is
// written to a socket, and its id never changes.
type desk struct {
	server *Server
	state  State
	book   *tasks.Book
	bridge *bridge
	woken  chan struct{} // one entry while there may be work

	// Owned by run.
	after     event.Seq           // the last one followed
	history   event.Seq           // the last one stored before the start
	refresh   map[event.Kind]bool // due → for the clients of other boxes too
	refreshed time.Time
	failing   bool
}

func newDesk(s *Server, state State) *desk {
	return &desk{
		server: s, state: state, book: tasks.New(s.terminals.same), bridge: newBridge(s),
		woken: make(chan struct{}, 1), history: s.journal.Stored(),
		refresh: make(map[event.Kind]bool),
	}
}

func (d *desk) wake() {
	select {
	case d.woken <- struct{}{}:
	default:
	}
}

// run works until ctx ends.
func (d *desk) run(ctx context.Context) {
	d.after = d.server.recent(max(tasks.Longest, payments.Longest), d.history)
	timer := time.NewTimer(0)
	defer timer.Stop()
	recalled := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.woken:
		case <-timer.C:
		}
		d.server.guard("tasks", func() {
			if !d.follow(ctx) {
				return
			}
			if !recalled {
				recalled = true
				d.recall()
			}
			d.work(ctx)
		})
		if len(d.refresh) > 0 {
			timer.Reset(refreshEvery)
		} else {
			timer.Reset(deskEvery)
		}
	}
}

// follow reads what the journal has; false: it could not be read.
func (d *desk) follow(ctx context.Context) bool {
	for {
		through := d.server.journal.Stored()
		if d.after >= through || ctx.Err() != nil {
			d.bridge.reached(d.after)
			return true
		}
		events, err := d.server.journal.Read(d.after, batchEvents, batchBytes)
		if err != nil {
			d.server.counters.readErrors.Add(1)
			return false
		}
		if len(events) == 0 { // what is left cannot be read any more
			d.bridge.reached(through)
			return true
		}
		for i := range events {
			d.after = events[i].Seq
			d.take(&events[i])
		}
	}
}

func (d *desk) take(e *event.Event) {
	row, ok := event.Lookup(e.Kind)
	if !ok {
		return
	}
	d.book.Apply(e)
	d.bridge.take(e, e.Seq > d.history)
	if e.Kind == event.TerminalConfigChanged && e.Origin == event.Cloud {
		if o, err := event.ParseObject(e.Payload); err == nil {
			d.server.learn(o.Ident("terminalId"), o.Ident("terminalSerialNumber"), true)
		}
	}
	switch {
	case row.Refresh == "" || e.Seq <= d.history:
	case row.Refresh == event.NotificationUpdated:
		d.read(e)
	default:
		d.refresh[row.Refresh] = d.refresh[row.Refresh] || e.Origin != event.Cloud
	}
}

// read tells the reader's other screens that a notification was read, in the
// shape that dashboards wait for (contract C1).
func (d *desk) read(e *event.Event) {
	to, except := d.server.rooms.of(e.Audience)
	_ = d.server.about(e.Origin).To(to...).Except(except...).Emit(string(event.NotificationUpdated), object(
		event.Text("id", e.Subject), event.Member{Key: "isRead", Value: []byte("true")},
		event.Text("correlationId", e.CorrelationID), event.Text("timestamp", event.FormatTime(e.Time)),
		event.Text("venueId", d.server.cfg.Venue),
	))
}

// recall ends the reading of history: it adds what only the State knows. If that
// cannot be read, any command may have been written before.
func (d *desk) recall() {
	tries, err := d.state.All(triesSpace)
	d.book.Live(err == nil)
	if err != nil {
		d.server.counters.saveErrors.Add(1)
		d.server.log.Error("some tries of commands cannot be read, all count as tried", "err", err)
	}
	over := make(map[string][]byte)
	for id, text := range tries {
		n, _ := strconv.Atoi(string(text)) // what is unreadable was tried
		if !d.book.Tried(id, max(1, n)) {
			over[id] = nil
		}
	}
	d.put(over)
}

// put keeps tries; false: it could not.
func (d *desk) put(entries map[string][]byte) bool {
	if len(entries) == 0 {
		return true
	}
	if err := d.state.Put(triesSpace, entries); err != nil {
		d.failed(err)
		return false
	}
	d.failing = false
	return true
}

func (d *desk) failed(err error) {
	d.server.counters.saveErrors.Add(1)
	if !d.failing {
		d.server.log.Error("commands wait, their tries cannot be kept", "err", err)
	}
	d.failing = true
}

func (d *desk) work(ctx context.Context) {
	now := d.server.cfg.Now()
	d.bridge.work(ctx, now)
	d.book.Expire(now)
	for _, sess := range d.server.terminals.online() {
		d.deliver(sess, now)
	}
	for _, c := range d.book.Waiting() {
		if d.server.terminals.session(c.Terminal) == nil {
			d.book.Away(c.ID, now)
		}
	}
	for i, step := range d.book.Steps() {
		if i == stepsAtOnce {
			d.wake()
			break
		}
		if !d.tell(ctx, step) {
			break // in their order, when it can be
		}
		d.book.Told(step)
	}
	if len(d.refresh) > 0 && now.Sub(d.refreshed) >= refreshEvery {
		d.refreshed = now
		for kind, spans := range d.refresh {
			delete(d.refresh, kind)
			op := d.server.io.Local()
			if spans {
				op = d.server.io.To()
			}
			_ = op.To(d.server.rooms.everyone()).Emit(string(kind), d.server.refreshBody(now))
		}
	}
}

// refreshBody is what dashboards that are to fetch anew are told.
func (s *Server) refreshBody(now time.Time) json.RawMessage {
	return object(
		event.Text("correlationId", event.NewCorrelationID()),
		event.Text("timestamp", event.FormatTime(now)),
		event.Text("venueId", s.cfg.Venue),
	)
}

// deliver writes to a terminal what waits for it. The tries are on disk first:
//
//	crash before the Put: not written, written after the restart
//	crash after it: perhaps written; a command that may be told once only is
//	not told again, any other one is, under the same id
func (d *desk) deliver(sess *session, now time.Time) {
	transport := sess.link.conn.Id() // of a recovered session, the sid stays
	due, withdrawn := d.book.Due(sess.terminal, transport, now)
	for _, c := range withdrawn {
		sess.emit(string(event.TPVCommandCancelled), c.Withdrawal())
		d.book.Informed(c.ID)
	}
	tries := make(map[string][]byte)
	for i, c := range due {
		due[i] = d.book.Try(c.ID, transport)
		tries[c.ID] = strconv.AppendInt(nil, int64(due[i].Tries), 10)
	}
	stored := d.put(tries)
	for _, c := range due {
		if !stored {
			d.book.Untry(c.ID)
			continue
		}
		sess.emit(string(event.TPVCommand), c.Payload())
		d.book.Delivered(c.ID, now)
	}
}

// tell stores a change of a command's status, for the venue and the cloud.
func (d *desk) tell(ctx context.Context, step tasks.Step) bool {
	s := d.server
	terminal := event.Text("terminalId", s.terminals.cuidOf(step.Terminal))
	name := event.Text("terminalName", step.Terminal)
	id, kind := event.Text("commandId", step.ID), event.Text("commandType", step.Type)
	at := event.FormatTime(step.At)

	members := []event.Member{
		terminal, name, id, kind,
		event.Text("previousStatus", string(step.From)), event.Text("newStatus", string(step.Status)),
		event.Text("statusChangedAt", at),
	}
	if step.Message != "" {
		members = append(members, event.Text("message", step.Message))
	}
	ok := d.store(ctx, event.TPVCommandStatusChanged, step, string(step.Status), members)
	if ok && step.Status == tasks.Queued {
		ok = d.store(ctx, event.TPVCommandQueued, step, "", []event.Member{
			terminal, name, id, kind, event.Text("queuedAt", at),
			event.Text("expiresAt", event.FormatTime(step.Expires)), event.Text("reason", "TERMINAL_OFFLINE"),
		})
	}
	if state, locked, changes := step.Outcome(); ok && changes {
		members = []event.Member{terminal, event.Text("status", state)}
		if locked != nil {
			members = append(members, event.Member{Key: "isLocked", Value: strconv.AppendBool(nil, *locked)})
		}
		ok = d.store(ctx, event.TPVStatusUpdate, step, "", members)
	}
	if !ok {
		return false
	}
	s.log.Info("command changed", "command", step.ID, "type", step.Type, "terminal", step.Terminal,
		"from", step.From, "to", step.Status)
	if step.Ended() {
		d.put(map[string][]byte{step.ID: nil})
	}
	return true
}

// store appends an event of the box itself, once however often it is tried.
func (d *desk) store(ctx context.Context, kind event.Kind, step tasks.Step, variant string, members []event.Member) bool {
	return d.server.storeOwn(ctx, kind, string(kind)+"/"+step.ID+"/"+variant, event.Audience{Venue: true}, members)
}

// storeOwn appends an event of the box itself, once for each key that is not
// empty; false: it could not.
func (s *Server) storeOwn(ctx context.Context, kind event.Kind, key string, to event.Audience, members []event.Member) bool {
	row, ok := event.Lookup(kind)
	if !ok {
		return false
	}
	o, err := event.ParseObject(object(members...))
	if err != nil {
		return false
	}
	now := s.cfg.Now().UTC().Truncate(time.Millisecond)
	e := &event.Event{
		ID: event.NewID(), Kind: kind, Origin: event.Local, Class: row.Class, Time: now,
		Subject: row.SubjectOf(o), Audience: to, DedupKey: event.DedupKey("task", key),
	}
	e.Payload, e.CorrelationID = row.Enrich(o, event.Stamp{
		CorrelationID: event.NewCorrelationID(), Time: now, Venue: s.cfg.Venue,
	})
	done := make(chan *event.Refusal, 1)
	s.store(ctx, &accepted{event: e, row: row, object: o}, func(_ event.Receipt, refusal *event.Refusal) { done <- refusal })
	select {
	case refusal := <-done:
		return refusal == nil
	case <-ctx.Done():
		return false
	}
}
