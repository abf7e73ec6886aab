package uplink

import (
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// State says how the link to the cloud is.
type State string

// The states of the link.
const (
	Offline    State = "offline"    // no link; between two attempts, or held
	Connecting State = "connecting" // an attempt is under way
	Online     State = "online"     // connected and subscribed
)

// Status is what is known of the uplink at one moment. All times are UTC;
// counts begin with the process.
type Status struct {
	State State `json:"state"`

	// Since is when the link came up if State is Online, else when it was lost
	// or, if it never was up, when the uplink was made.
	Since time.Time `json:"since"`

	// Broker is the host and port connected to, or last tried.
	Broker string `json:"broker,omitempty"`

	// Failure is the last one, kept after recovery.
	Failure *Failure `json:"failure,omitempty"`

	// Warning is what will keep the link from coming up again once it is lost,
	// while it is up: a certificate or a password on disk that is of no use.
	Warning *Failure `json:"warning,omitempty"`

	// SessionLost is when a broker last had forgotten the box, also before this
	// start.
	SessionLost *SessionLoss `json:"sessionLost,omitempty"`

	// Around is what the last look around found, while no broker is reached.
	Around *Facts `json:"around,omitempty"`

	// Failures counts failed attempts and lost links by name.
	Failures map[string]uint64 `json:"failures,omitempty"`

	Confirm Confirmation `json:"confirm"`

	// Synced is the last position of which, and of everything before it, the
	// cloud has confirmed all that goes there. InFlight is how many events are
	// sent and unconfirmed.
	Synced   event.Seq `json:"syncedThrough"`
	InFlight int       `json:"inFlight"`

	// Parked is how many events wait for an operator, since the back-end will
	// not take them or one before them.
	Parked int `json:"parked"`

	// LastBroadcast is the newest broadcast on disk.
	LastBroadcast *Mark `json:"lastBroadcast,omitempty"`

	// RejectedAt is when the last message went to the rejected list; zero: none
	// since the start. RejectedFor is its code and reason.
	RejectedAt  time.Time `json:"rejectedAt,omitzero"`
	RejectedFor string    `json:"rejectedFor,omitempty"`

	// Paused is set while a command holds back the events, Replay while one has
	// some sent again.
	Paused *Pause  `json:"paused,omitempty"`
	Replay *Replay `json:"replay,omitempty"`

	// Config is the configuration of the cloud that is in force.
	Config *ConfigMark `json:"config,omitempty"`

	Counts
}

// Counts are what the uplink counts.
type Counts struct {
	Sent      uint64 `json:"sent"`      // events, each once
	Resent    uint64 `json:"resent"`    // events sent again
	Confirmed uint64 `json:"confirmed"` // events
	Early     uint64 `json:"early"`     // events sent before the backlog, besides
	Rewinds   uint64 `json:"rewinds"`   // times it was sent again from the cursor on a live link
	Lost      uint64 `json:"lost"`      // events the journal could not read, passed over
	Stale     uint64 `json:"stale"`     // confirmations of less than was confirmed
	Beyond    uint64 `json:"beyond"`    // confirmations of more than was sent

	Connects   uint64 `json:"connects"`   // links that came up
	Broadcasts uint64 `json:"broadcasts"` // stored
	Duplicates uint64 `json:"duplicates"` // broadcasts that were stored before
	Commands   uint64 `json:"commands"`   // answered for the first time
	Repeated   uint64 `json:"repeated"`   // commands that were answered before
	Replayed   uint64 `json:"replayed"`   // events sent again because a command asked for it
	Rejected   uint64 `json:"rejected"`   // messages kept in the rejected list
	Overflows  uint64 `json:"overflows"`  // times what came down was more than the queue holds
}

// Failure is why the link was lost or did not come up.
type Failure struct {
	Name   string    `json:"name"` // [NoLAN] and those after it
	Text   string    `json:"text"`
	Remedy string    `json:"remedy"` // what a technician does about it
	At     time.Time `json:"at"`
}

func newFailure(name string, err error) *Failure {
	return &Failure{Name: name, Text: err.Error(), Remedy: Remedy(name), At: time.Now().UTC()}
}

// Mark names a broadcast and when it was stored.
type Mark struct {
	ID event.ID  `json:"id"`
	At time.Time `json:"at"`
}

// ConfigMark names a configuration of the cloud.
type ConfigMark struct {
	Version     uint64    `json:"version"`
	VenueStatus string    `json:"venueStatus,omitempty"`
	At          time.Time `json:"at"` // since when, or since the start
}

// Status returns the uplink's status. Safe concurrently.
func (u *Uplink) Status() Status {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.status
}

// tell changes the status.
func (u *Uplink) tell(change func(*Status)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	change(&u.status)
}

// observe copies what the sender knows into the status.
func (u *Uplink) observe() {
	s, flying := u.sender, 0
	for _, b := range s.flight {
		flying += len(b.seqs)
	}
	u.tell(func(st *Status) {
		u.reached = s.reached()
		st.Synced, st.InFlight, st.Parked = s.cursor, flying, u.parking.count()
		c := &st.Counts
		c.Sent, c.Resent, c.Confirmed = s.count.Sent, s.count.Resent, s.count.Confirmed
		c.Rewinds, c.Lost = s.count.Rewinds, s.count.Lost
		c.Stale, c.Beyond = s.count.Stale, s.count.Beyond
	})
}

// cameUp, wentDown and trying log one line per change and none for a repeat.

func (u *Uplink) cameUp(broker string) {
	u.upAt = time.Now()
	u.tell(func(st *Status) {
		st.State, st.Since, st.Broker = Online, u.upAt.UTC(), broker
		st.Around = nil
		st.Connects++
	})
	u.quiet = ""
	u.log.Info("uplink online", "broker", broker, "from", u.sender.cursor)
}

func (u *Uplink) wentDown(err error) {
	f := failureOf(err)
	was := Offline
	u.tell(func(st *Status) {
		if was = st.State; was == Online {
			st.Since = f.At
		}
		st.State, st.Failure, st.Warning = Offline, f, nil
		// Whoever has the old map reads on in it.
		counted := make(map[string]uint64, len(st.Failures)+1)
		maps.Copy(counted, st.Failures)
		counted[f.Name]++
		st.Failures = counted
	})
	if was == Online || u.quiet != f.Name {
		u.log.Warn("uplink offline", "reason", f.Name, "err", err)
	}
	u.quiet = f.Name
}

func (u *Uplink) trying(broker string) {
	u.tell(func(st *Status) { st.State, st.Broker = Connecting, broker })
}

// report is the body of the retained status topic.
type report struct {
	State         State       `json:"state"`
	Epoch         event.Epoch `json:"epoch"`
	Stored        event.Seq   `json:"storedThrough"`
	Synced        event.Seq   `json:"syncedThrough"`
	LastBroadcast *Mark       `json:"lastBroadcast,omitempty"`
	Paused        *Pause      `json:"paused,omitempty"`
	Parked        int         `json:"parked,omitempty"`
	Config        uint64      `json:"config,omitempty"` // version in force
	Rejected      *rejectMark `json:"rejected,omitempty"`
	LAN           []string    `json:"lan,omitempty"`
	Key           string      `json:"key,omitempty"` // by which a terminal knows the box at these addresses
	Version       string      `json:"version,omitempty"`
}

// rejectMark tells the back-end that the box could not use what it said.
type rejectMark struct {
	Count  uint64    `json:"count"` // since the start
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
}

// will is what the broker publishes when the box falls silent.
const will = `{"state":"offline"}`

// reportNow returns the status topic's body.
func (u *Uplink) reportNow(state State) []byte {
	st := u.Status()
	r := report{
		State: state, Epoch: u.marks.Epoch(), Stored: u.marks.Stored(),
		Synced: u.sender.cursor, LastBroadcast: st.LastBroadcast, Paused: st.Paused, Parked: st.Parked, Version: u.cfg.Version, Key: u.cfg.Key,
	}
	if st.Config != nil {
		r.Config = st.Config.Version
	}
	if st.Rejected > 0 {
		r.Rejected = &rejectMark{st.Rejected, st.RejectedAt, st.RejectedFor}
	}
	if u.cfg.LANAddrs != nil {
		r.LAN = slices.Clone(u.cfg.LANAddrs())
	}
	body, err := json.Marshal(r)
	if err != nil {
		return []byte(will) // cannot be: strings and numbers encode
	}
	return body
}
