package tasks

import "time"

// Status is how far a command is, in the words of contract §3.8.
type Status string

// The statuses.
const (
	Pending   Status = "PENDING" // stored, nothing tried yet
	Queued    Status = "QUEUED"  // its terminal is away
	Sent      Status = "SENT"    // written to its terminal
	Received  Status = "RECEIVED"
	Executing Status = "EXECUTING"
	Completed Status = "COMPLETED"
	Failed    Status = "FAILED"
	Expired   Status = "EXPIRED"
	Cancelled Status = "CANCELLED"
)

// ended reports whether only a late word of the terminal can change it.
func (s Status) ended() bool {
	switch s {
	case Completed, Failed, Expired, Cancelled:
		return true
	case Pending, Queued, Sent, Received, Executing:
	}
	return false
}

// Longest is how long any command is valid, and how long one that has ended is
// remembered: whoever fills a [Book] again shows it this much of the journal.
const Longest = 24 * time.Hour

// Type is what the box knows of one type of command.
type Type struct {
	Valid    time.Duration // from when it was stored, unless the command says itself
	PIN      bool          // the terminal asks for one, unless the command says itself
	Priority string

	// Once says that it may take the terminal off the network. A terminal that
	// comes back is then not told again: its going away may have been the effect.
	Once bool

	State  string // of the terminal once it is done; empty: it does not change
	Locked *bool  // whether it then is locked; nil: it does not change
}

// typeOf returns the row of a type; one the table does not know is valid for
// as long as any, and told once.
func typeOf(name string) Type {
	if t, ok := types()[name]; ok {
		return t
	}
	return Type{Valid: Longest, Priority: normal, Once: true}
}

const normal = "NORMAL"

// types is the table of contract §3.8.
func types() map[string]Type {
	yes, no := true, false
	return map[string]Type{
		"LOCK":                     {Valid: time.Hour, Priority: normal, State: "ACTIVE", Locked: &yes},
		"UNLOCK":                   {Valid: time.Hour, Priority: normal, PIN: true, State: "ACTIVE", Locked: &no},
		"MAINTENANCE_MODE":         {Valid: 2 * time.Hour, Priority: normal, State: "MAINTENANCE"},
		"EXIT_MAINTENANCE":         {Valid: 2 * time.Hour, Priority: normal, State: "ACTIVE"},
		"REACTIVATE":               {Valid: 2 * time.Hour, Priority: normal, PIN: true, State: "ACTIVE"},
		"REMOTE_ACTIVATE":          {Valid: Longest, Priority: normal, State: "ACTIVE"},
		"RESTART":                  {Valid: Longest, Priority: normal, Once: true},
		"SHUTDOWN":                 {Valid: 30 * time.Minute, Priority: normal, PIN: true, Once: true},
		"CLEAR_CACHE":              {Valid: time.Hour, Priority: normal},
		"FORCE_UPDATE":             {Valid: time.Hour, Priority: normal, PIN: true, Once: true},
		"REQUEST_UPDATE":           {Valid: Longest, Priority: normal, Once: true},
		"INSTALL_VERSION":          {Valid: time.Hour, Priority: normal, PIN: true, Once: true},
		"SYNC_DATA":                {Valid: 30 * time.Minute, Priority: normal},
		"FACTORY_RESET":            {Valid: 30 * time.Minute, Priority: "CRITICAL", PIN: true, Once: true},
		"EXPORT_LOGS":              {Valid: time.Hour, Priority: normal},
		"UPDATE_CONFIG":            {Valid: time.Hour, Priority: normal},
		"REFRESH_MENU":             {Valid: 30 * time.Minute, Priority: normal},
		"UPDATE_MERCHANT":          {Valid: time.Hour, Priority: normal, PIN: true},
		"FETCH_ANGELPAY_MERCHANTS": {Valid: 5 * time.Minute, Priority: normal},
		"SCHEDULE":                 {Valid: Longest, Priority: normal},
		"GEOFENCE_TRIGGER":         {Valid: time.Hour, Priority: normal},
		"TIME_RULE":                {Valid: time.Hour, Priority: normal},
	}
}
