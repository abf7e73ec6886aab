package tasks

import (
	"strconv"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// maxTries is how often one command is written to its terminal, which comes
// back and has said nothing of it.
const maxTries = 5

// Command is one thing asked of one terminal. Its fields are a copy: changing
// them changes nothing.
type Command struct {
	ID        string
	Terminal  string // as whoever asked for it wrote the id
	Type      string
	Status    Status
	Tries     int    // times it was written to the terminal, or was about to be
	Through   string // the connection of the last time
	Stored    time.Time
	Expires   time.Time
	Message   string // of its result
	Rejected  bool   // its result was REJECTED
	Withdrawn bool   // was cancelled after it was sent, and its terminal does not know

	lapsed bool        // has been EXPIRED
	event  event.Event // as stored
	cancel event.Event // what cancelled it
}

// Step is a change of a command's status that the venue is to be told.
type Step struct {
	Command
	From Status
	At   time.Time
}

// Ended reports whether only a late word of the terminal can change it.
func (c *Command) Ended() bool { return c.Status.ended() }

func newCommand(e *event.Event, o event.Object) *Command {
	c := &Command{
		ID: e.Subject, Terminal: o.Ident("terminalId"), Type: o.String("type"),
		Status: Pending, Stored: e.Time, event: *e,
	}
	if c.Terminal == "" && len(e.Audience.Terminals) == 1 {
		c.Terminal = e.Audience.Terminals[0]
	}
	if c.Type == "" {
		c.Type = o.String("commandType")
	}
	c.Expires = c.Stored.Add(typeOf(c.Type).Valid)
	if !e.Expires.IsZero() {
		c.Expires = e.Expires
	}
	if last := c.Stored.Add(Longest); c.Expires.After(last) {
		c.Expires = last
	}
	return c
}

// due reports whether the command is to be written to a connection of its terminal.
func (c *Command) due(connection string, now time.Time) bool {
	if !now.Before(c.Expires) || c.Through == connection {
		return false
	}
	switch c.Status {
	case Pending, Queued, Sent:
		return c.Tries == 0 || (!typeOf(c.Type).Once && c.Tries < maxTries)
	case Received, Executing, Completed, Failed, Expired, Cancelled:
	}
	return false
}

// Payload is what the terminal reads: what was asked, with every field that
// the contract names and somebody can know.
func (c *Command) Payload() []byte {
	o, err := event.ParseObject(c.event.Payload)
	if err != nil {
		return nil
	}
	t := typeOf(c.Type)
	by := c.event.Actor
	if by == "" {
		by = "cloud"
	}
	set := []event.Member{
		event.Text("terminalId", c.Terminal), event.Text("commandId", c.ID),
		event.Text("type", c.Type), event.Text("commandType", c.Type),
		{Key: "payload", Value: []byte("{}")},
		{Key: "requiresPin", Value: strconv.AppendBool(nil, t.PIN)},
		event.Text("priority", t.Priority),
		event.Text("requestedBy", by),
	}
	keep := set[:0]
	for _, m := range set {
		if raw := o.Raw(m.Key); raw == nil || string(raw) == "null" {
			keep = append(keep, m)
		}
	}
	keep = append(keep, event.Text("expiresAt", event.FormatTime(c.Expires)))
	if c.Tries > 1 {
		keep = append(keep, event.Member{Key: "replayed", Value: []byte("true")})
	}
	return o.With(keep...)
}

// Withdrawal is what the terminal reads when a command it was sent is cancelled.
func (c *Command) Withdrawal() []byte {
	o, err := event.ParseObject(c.cancel.Payload)
	if err != nil {
		return nil
	}
	set := []event.Member{event.Text("commandId", c.ID)}
	if o.Ident("terminalId") == "" {
		set = append(set, event.Text("terminalId", c.Terminal))
	}
	if o.Ident("cancelledBy") == "" && c.cancel.Actor != "" {
		set = append(set, event.Text("cancelledBy", c.cancel.Actor))
	}
	return o.With(set...)
}

// Outcome returns what a finished command makes of its terminal: its state, and
// whether it is locked; ok is false if it changes nothing. A rejected one tells
// the state the terminal says it is in already (contract §3.8).
func (c *Command) Outcome() (state string, locked *bool, ok bool) {
	t := typeOf(c.Type)
	switch {
	case t.State == "":
	case c.Status == Completed:
		return t.State, t.Locked, true
	case c.Status == Failed && c.Rejected:
		switch c.Type {
		case "LOCK", "UNLOCK", "MAINTENANCE_MODE", "EXIT_MAINTENANCE":
			return t.State, t.Locked, true
		}
	}
	return "", nil, false
}

// result reads what a terminal says became of a command.
func (c *Command) result(o event.Object) Status {
	c.Message = o.String("message")
	for _, key := range []string{"errorMessage", "resultMessage"} {
		if c.Message == "" {
			c.Message = o.String(key)
		}
	}
	said := o.String("resultStatus")
	c.Rejected = said == "REJECTED"
	switch {
	case said == "SUCCESS", said == "PARTIAL_SUCCESS", said == "" && o.Truthy("success"):
		return Completed
	}
	return Failed
}
