package tasks

import (
	"cmp"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// maxEach is how many commands, and how many messages, a book remembers. The
// oldest that has ended goes first, then the oldest.
const maxEach = 1024

// Book is what is known of all tasks. Safe for concurrent use.
type Book struct {
	same func(a, b string) bool // two ids of one terminal

	mu       sync.Mutex // guards below
	commands map[string]*Command
	messages map[string]*message
	steps    []Step // to be told, oldest first
	live     bool
}

type message struct {
	survey    bool
	terminals []string // whom it is for; empty: all
	cancelled bool
	stored    time.Time
	expires   time.Time
}

// New returns an empty book. same says whether two ids are of one terminal.
func New(same func(a, b string) bool) *Book {
	return &Book{same: same, commands: make(map[string]*Command), messages: make(map[string]*message)}
}

// Apply takes in a stored event; others than tasks' change nothing. Events must
// come in the order they were stored. It reports whether anything changed.
func (b *Book) Apply(e *event.Event) bool {
	row, ok := event.Lookup(e.Kind)
	if !ok || (row.Family != event.Task && e.Kind != event.TPVCommandStatusChanged) {
		return false
	}
	o, err := event.ParseObject(e.Payload)
	if err != nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e.Kind {
	case event.TPVCommand:
		if b.commands[e.Subject] == nil && e.Subject != "" {
			makeRoom(b.commands, func(c *Command) (time.Time, bool) { return c.Stored, c.Status.ended() })
			b.commands[e.Subject] = newCommand(e, o)
		}
	case event.TPVMessage:
		if b.messages[e.Subject] == nil && e.Subject != "" {
			makeRoom(b.messages, func(m *message) (time.Time, bool) { return m.stored, m.cancelled })
			b.messages[e.Subject] = &message{
				survey: o.String("type") == "SURVEY", terminals: e.Audience.Terminals,
				stored: e.Time, expires: e.Expires,
			}
		}
	case event.TPVMessageCancelled:
		if m := b.messages[e.Subject]; m != nil {
			m.cancelled = true
		}
	default:
		if c := b.commands[e.Subject]; c != nil {
			if e.Kind != event.TPVCommandStatusChanged {
				b.expire(c, e.Time) // as it was when this was said
			}
			b.report(c, e, o)
		}
	}
	return true
}

// report takes in what was said about a command. The lock is held.
func (b *Book) report(c *Command, e *event.Event, o event.Object) {
	switch e.Kind {
	case event.TPVCommandStatusChanged:
		b.told(c, Status(o.String("newStatus")))
	case event.TPVCommandAck:
		if c.Status != Executing && (!c.Status.ended() || c.Status == Expired) {
			b.step(c, Received, e.Time)
		}
	case event.TPVCommandStarted:
		if !c.Status.ended() || c.Status == Expired {
			b.step(c, Executing, e.Time)
		}
	case event.TPVCommandResult:
		if c.Status != Completed && c.Status != Failed {
			b.step(c, c.result(o), e.Time)
		}
	case event.TPVCommandCancelled:
		if !c.Status.ended() {
			c.cancel, c.Withdrawn = *e, c.Tries > 0
			if c.Status != Executing { // else its result will say what came of it
				b.step(c, Cancelled, e.Time)
			}
		}
	default: // says nothing of a command's way
	}
}

// Live ends the time of recalling: from now on the book itself decides what is
// sent and what has expired, and does not read it in the journal. all says that
// [Book.Tried] will hear of all tries; else each command counts as tried.
func (b *Book) Live(all bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.live = true
	for _, c := range b.commands {
		if !all {
			c.Tries = max(1, c.Tries)
		}
	}
}

// told notes that the venue knows a status, by an event of the journal. What
// was said before a restart is also what the box had done by then.
func (b *Book) told(c *Command, status Status) {
	b.steps = slices.DeleteFunc(b.steps, func(s Step) bool { return s.ID == c.ID && s.Status == status })
	switch {
	case b.live:
	case status == Sent && (c.Status == Pending || c.Status == Queued):
		c.Status, c.Tries = Sent, max(1, c.Tries)
	case status == Queued && c.Status == Pending:
		c.Status = Queued
	}
}

func (b *Book) step(c *Command, to Status, at time.Time) {
	if c.Status == to {
		return
	}
	from := c.Status
	c.Status = to
	b.steps = append(b.steps, Step{Command: *c, From: from, At: at})
}

// Expire ends the commands that are past their validity and that no terminal
// has begun, and forgets what is older than [Longest].
func (b *Book) Expire(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.inOrder() {
		b.expire(c, now)
		if now.Sub(c.Stored) > 2*Longest {
			delete(b.commands, c.ID)
		}
	}
	for id, m := range b.messages {
		if now.Sub(m.stored) > 2*Longest {
			delete(b.messages, id)
		}
	}
}

// expire ends a command once: what its terminal says of it later stands.
func (b *Book) expire(c *Command, now time.Time) {
	if !c.lapsed && !c.Status.ended() && c.Status != Executing && !now.Before(c.Expires) {
		c.lapsed = true
		b.step(c, Expired, now)
	}
}

// inOrder returns the commands as they were stored. The lock is held.
func (b *Book) inOrder() []*Command {
	return slices.SortedFunc(maps.Values(b.commands), func(x, y *Command) int { return cmp.Compare(x.event.Seq, y.event.Seq) })
}

// Steps returns what the venue is to be told, oldest first; it stays until
// [Book.Told].
func (b *Book) Steps() []Step {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.steps)
}

// Told notes that the venue knows a step.
func (b *Book) Told(s Step) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.steps = slices.DeleteFunc(b.steps, func(o Step) bool { return o.ID == s.ID && o.Status == s.Status })
}

// Due returns the commands to be written to a connection of a terminal, and
// those it was sent and is to be told are cancelled, oldest first.
func (b *Book) Due(terminal, connection string, now time.Time) (due, withdrawn []Command) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.inOrder() {
		switch {
		case !b.same(c.Terminal, terminal):
		case c.Withdrawn:
			withdrawn = append(withdrawn, *c)
		case c.due(connection, now):
			due = append(due, *c)
		}
	}
	return due, withdrawn
}

// Waiting returns the commands nobody has tried to send yet, oldest first.
func (b *Book) Waiting() []Command {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []Command
	for _, c := range b.inOrder() {
		if c.Status == Pending {
			list = append(list, *c)
		}
	}
	return list
}

// Try notes that a command is about to be written to a connection, and returns it
// as it then is. Whoever writes it makes the number of tries durable first, so
// that a command that may be told once only is never told twice.
func (b *Book) Try(id, connection string) Command {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.commands[id]
	if c == nil {
		return Command{}
	}
	c.Tries++
	c.Through = connection
	return *c
}

// Untry takes a try back that could not be made durable.
func (b *Book) Untry(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.commands[id]; c != nil {
		c.Tries--
		c.Through = ""
	}
}

// Tried notes tries from before a restart, and reports whether the command may
// see more of them.
func (b *Book) Tried(id string, n int) (known bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.commands[id]
	if c == nil {
		return false
	}
	c.Tries = max(c.Tries, n)
	if n > 0 && c.Status == Cancelled {
		c.Withdrawn = true
	}
	return !c.Status.ended()
}

// Delivered notes that a command was written to its terminal.
func (b *Book) Delivered(id string, now time.Time) { b.move(id, Sent, now) }

// Away notes that the terminal of a command is not here.
func (b *Book) Away(id string, now time.Time) { b.move(id, Queued, now) }

func (b *Book) move(id string, to Status, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.commands[id]; c != nil && (c.Status == Pending || c.Status == Queued) {
		b.step(c, to, now)
	}
}

// Informed notes that a terminal knows a command is cancelled.
func (b *Book) Informed(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.commands[id]; c != nil {
		c.Withdrawn = false
	}
}

// Allow says whether a terminal may say this about a task. What the book does
// not know may: the cloud reaches terminals by ways of its own.
func (b *Book) Allow(kind event.Kind, subject, terminal string, now time.Time) *event.Refusal {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.commands[subject]; c != nil && kind != event.TPVMessageAck && kind != event.TPVMessageResponse {
		if !b.same(c.Terminal, terminal) {
			return NotYours()
		}
		return nil
	}
	m := b.messages[subject]
	if m == nil {
		return nil
	}
	forIt := len(m.terminals) == 0 || slices.ContainsFunc(m.terminals, func(id string) bool { return b.same(id, terminal) })
	active := !m.cancelled && (m.expires.IsZero() || now.Before(m.expires))
	switch {
	case !forIt:
		return event.Refuse(http.StatusNotFound, "no_delivery", "Message delivery not found for this terminal")
	case kind == event.TPVMessageResponse && !active:
		return event.Refuse(http.StatusNotFound, "message_ended", "Message not found or not active")
	case kind == event.TPVMessageResponse && !m.survey:
		return event.Refuse(http.StatusBadRequest, "not_a_survey", "Only survey messages accept responses")
	}
	return nil
}

// NotYours refuses a socket that speaks for another terminal than its own.
func NotYours() *event.Refusal {
	return event.Refuse(http.StatusUnauthorized, "terminal_mismatch", "Terminal socket not registered for venue")
}

// makeRoom takes one entry out of a full map: the oldest ended, else the oldest.
func makeRoom[T any](m map[string]T, age func(T) (since time.Time, ended bool)) {
	if len(m) < maxEach {
		return
	}
	var oldest string
	var since time.Time
	ended := false
	for id, v := range m {
		at, over := age(v)
		if oldest == "" || (over && !ended) || (over == ended && at.Before(since)) {
			oldest, since, ended = id, at, over
		}
	}
	delete(m, oldest)
}
