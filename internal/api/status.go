package api

import (
	"encoding/json"
	"time"
)

// Status is what the box says of itself: the answer of GET /api/v1/status and
// the body of `avoqado-edge status --json`. Field names are a contract; new
// ones may be added. Times are RFC 3339 in UTC, durations milliseconds.
type Status struct {
	Version  string    `json:"version"`
	Venue    string    `json:"venue"`
	Box      string    `json:"box"`
	Name     string    `json:"name,omitempty"`
	Started  time.Time `json:"started"`
	UptimeMs int64     `json:"uptimeMs"`

	LAN       LANStatus       `json:"lan"`
	Boxes     BoxesStatus     `json:"boxes"`
	Uplink    UplinkStatus    `json:"uplink"`
	Journal   JournalStatus   `json:"journal"`
	Disk      DiskStatus      `json:"disk"`
	Clock     ClockStatus     `json:"clock"`
	Discovery DiscoveryStatus `json:"discovery"`

	// Way is the way to the cloud, each hop with what is known of it: lan,
	// internet, broker, backend. What lies behind a broken hop is not known.
	Way []Hop `json:"way"`

	// Problems is what someone should look at, in plain words; empty is good.
	Problems []string `json:"problems"`
}

// Hop is one part of the way to the cloud.
type Hop struct {
	Name  string    `json:"name"`            // lan, internet, broker or backend
	State string    `json:"state"`           // ok, down, unknown, or off: it has no part in it
	Since time.Time `json:"since"`           // when that began, or the box started
	Cause string    `json:"cause,omitempty"` // why down: the uplink's cause, or silent: it confirms nothing
}

// LANStatus tells who is connected.
type LANStatus struct {
	Address    string         `json:"address"`
	Addresses  []string       `json:"addresses"`     // host:port, for devices on the LAN
	Key        string         `json:"key,omitempty"` // fingerprint of the box's key; absent: it cannot be read
	Clients    int            `json:"clients"`
	Terminals  int            `json:"terminals"`
	Behind     int            `json:"behind"` // clients that read too slowly to be live
	Roles      map[string]int `json:"roles"`
	TLS        *TLSStatus     `json:"tls,omitempty"` // absent: off
	Accepted   uint64         `json:"accepted"`      // events stored for clients since the start
	Refused    uint64         `json:"refused"`       // events answered with an error
	Duplicates uint64         `json:"duplicates"`    // repeats answered with the first receipt
	Delivered  uint64         `json:"delivered"`     // copies written to sockets
}

// TLSStatus tells what the box shows to clients that use TLS.
type TLSStatus struct {
	Mode        string    `json:"mode"`                  // auto or files
	Fingerprint string    `json:"fingerprint,omitempty"` // of the box's own CA, SHA-256 in hex
	Names       []string  `json:"names"`
	Addresses   []string  `json:"addresses"`
	Expires     time.Time `json:"expires,omitzero"`   // of the certificate; it is renewed long before
	CAExpires   time.Time `json:"caExpires,omitzero"` // of the box's own CA
	Error       string    `json:"error,omitempty"`
}

// BoxesStatus tells how the box stands with the other boxes of its venue.
type BoxesStatus struct {
	State    string    `json:"state"` // off, joined or alone
	Since    time.Time `json:"since,omitzero"`
	Others   int       `json:"others"`
	Cause    string    `json:"cause,omitempty"` // why alone: unreachable, wrong_password, …
	Error    string    `json:"error,omitempty"`
	Sent     uint64    `json:"sent"`     // broadcasts for the others
	Unsent   uint64    `json:"unsent"`   // broadcasts they did not get: the box was alone, or too many waited
	Received uint64    `json:"received"` // broadcasts of the others
	Lost     uint64    `json:"lost"`     // broadcasts of the others that never came
	Refused  uint64    `json:"refused"`  // messages that could not be read or were not allowed
}

// UplinkStatus tells how the box stands with the cloud.
type UplinkStatus struct {
	State      string    `json:"state"` // off, online, connecting or offline
	Since      time.Time `json:"since,omitzero"`
	Broker     string    `json:"broker,omitempty"`
	Confirm    string    `json:"confirm,omitempty"` // broker or backend
	Cause      string    `json:"cause,omitempty"`   // why offline: no_lan, dns, broker_down, tls, credentials, …
	Error      string    `json:"error,omitempty"`
	Remedy     string    `json:"remedy,omitempty"` // what to do about it
	InFlight   int       `json:"inFlight"`
	Parked     int       `json:"parked"`              // events that the cloud will not take
	Connects   uint64    `json:"connects"`            // connections that came up since the start
	Resent     uint64    `json:"resent"`              // times the box went back to its cursor
	Received   uint64    `json:"received"`            // broadcasts stored
	Rejected   uint64    `json:"rejected"`            // messages that could not be read or were not allowed
	RejectedAt time.Time `json:"rejectedAt,omitzero"` // when the last one came
	Overflows  uint64    `json:"overflows"`           // times more came down than the box could hold

	RejectedFor string   `json:"rejectedFor,omitempty"` // why the last one could not be used
	Commands    uint64   `json:"commands"`              // of the cloud, answered
	Paused      *Ordered `json:"paused,omitempty"`      // no events are sent
	Replay      *Ordered `json:"replay,omitempty"`      // events are sent again, new ones wait
	Replayed    uint64   `json:"replayed"`              // events sent again for that

	// Warning is what will keep the link from coming back once it is lost;
	// SessionLost when a broker last had forgotten the box; Failures how often
	// it was offline, by cause, since the start.
	Warning     *Warning          `json:"warning,omitempty"`
	SessionLost *SessionLost      `json:"sessionLost,omitempty"`
	Failures    map[string]uint64 `json:"failures,omitempty"`

	// ConfigVersion and VenueStatus are of the cloud's configuration in force;
	// zero and empty if there is none, or if it says nothing of the venue.
	ConfigVersion uint64 `json:"configVersion,omitempty"`
	VenueStatus   string `json:"venueStatus,omitempty"`
}

// Warning is something that is wrong and does no harm yet.
type Warning struct {
	Cause  string    `json:"cause"`
	Error  string    `json:"error"`
	Remedy string    `json:"remedy"`
	Since  time.Time `json:"since"`
}

// SessionLost tells that a broker had forgotten the box, and how often one had.
type SessionLost struct {
	Broker string    `json:"broker"`
	At     time.Time `json:"at"`
	Count  uint64    `json:"count"`
}

// Ordered is something that a command of the cloud has begun.
type Ordered struct {
	Command string    `json:"command"` // its id
	Since   time.Time `json:"since"`
}

// JournalStatus tells what is kept, and what the cloud does not have yet.
type JournalStatus struct {
	Epoch         string  `json:"epoch"`
	StoredThrough uint64  `json:"storedThrough"`
	SyncedThrough uint64  `json:"syncedThrough"`
	Backlog       Backlog `json:"backlog"`
	Segments      int     `json:"segments"`
	Bytes         int64   `json:"bytes"`
	Fault         string  `json:"fault,omitempty"` // why it does not take events; empty: it does

	// Level says what is given up for want of room: ok, trim (what is synced
	// goes early), no_service, no_alerts, no_orders (each with those before it)
	// or full.
	Level       string    `json:"level"`
	LevelReason string    `json:"levelReason,omitempty"`
	LevelSince  time.Time `json:"levelSince"`
	MaxBytes    int64     `json:"maxBytes,omitempty"` // caps, if there are any
	MaxEvents   int64     `json:"maxEvents,omitempty"`
	StuckSince  time.Time `json:"stuckSince,omitzero"` // a write that is still under way began then
	Quarantined int       `json:"quarantined"`         // damaged files kept for people

	// Written is what the journal has written to the disk since the start, LifeYears
	// for how long the disk will last at this rate; zero: not known (yet).
	Written   int64   `json:"writtenBytes"`
	LifeYears float64 `json:"lifeYears,omitempty"`
}

// Backlog is what waits for the cloud.
type Backlog struct {
	Events      uint64 `json:"events"`
	Bytes       int64  `json:"bytes"`
	OldestAgeMs int64  `json:"oldestAgeMs"`
}

// DiskStatus tells the room on the file system that holds the journal.
type DiskStatus struct {
	FreeBytes  uint64 `json:"freeBytes"`
	TotalBytes uint64 `json:"totalBytes"`
}

// ClockStatus tells the time as the box sees it.
type ClockStatus struct {
	Now time.Time `json:"now"`
	// Trusted is true once a time source disciplines the system's clock, or the
	// cloud has said what time it is; Source says which: ntp, cloud or none.
	Trusted bool   `json:"trusted"`
	Source  string `json:"source"`
	ErrorMs int64  `json:"errorMs,omitempty"` // how far Now may be off; absent: unknown
}

// DiscoveryStatus tells what is announced on the LAN.
type DiscoveryStatus struct {
	State      string   `json:"state"`        // off, starting, announcing or failing
	By         string   `json:"by,omitempty"` // who answers for the box: avahi or builtin
	Instance   string   `json:"instance,omitempty"`
	Interfaces []string `json:"interfaces,omitempty"` // such as "eth0 192.168.1.10"
	Error      string   `json:"error,omitempty"`
}

// Stats is the answer of GET /api/v1/stats: the existing system's getConnectionStats
// (contract §7.1), flat for new callers and in its old shape beside it.
type Stats struct {
	TotalConnections int            `json:"totalConnections"`
	VenueConnections map[string]int `json:"venueConnections"`
	RoleConnections  map[string]int `json:"roleConnections"`

	ConnectionStats ConnectionStats `json:"connectionStats"`
	ServerStats     ServerStats     `json:"serverStats"`

	Events  EventStats `json:"events"`
	Backlog Backlog    `json:"backlog"`
	Uplink  string     `json:"uplink"`
	Stored  uint64     `json:"storedThrough"`
	Synced  uint64     `json:"syncedThrough"`
	Started time.Time  `json:"started"`
}

// ConnectionStats is the existing system's object of that name.
type ConnectionStats struct {
	TotalConnections int            `json:"totalConnections"`
	VenueConnections map[string]int `json:"venueConnections"`
	RoleConnections  map[string]int `json:"roleConnections"`
}

// ServerStats is the existing system's object of that name. Rooms counts one implicit
// room per socket besides the joined ones, as there.
type ServerStats struct {
	ConnectedClients int `json:"connectedClients"`
	Rooms            int `json:"rooms"`
}

// EventStats counts events since the start.
type EventStats struct {
	Accepted   uint64 `json:"accepted"`
	Duplicates uint64 `json:"duplicates"`
	Refused    uint64 `json:"refused"`
	Delivered  uint64 `json:"delivered"`
}

// Terminal is one row of GET /api/v1/terminals; the first six names are the
// existing system's (contract §3.7).
type Terminal struct {
	TerminalID    string    `json:"terminalId"`
	Name          string    `json:"name,omitempty"`
	IsOnline      bool      `json:"isOnline"`
	HasSocket     bool      `json:"hasSocket"`
	LastHeartbeat time.Time `json:"lastHeartbeat,omitzero"`
	LastSeen      time.Time `json:"lastSeen,omitzero"` // any proof of life
	Waiting       int       `json:"waiting"`           // events of its that the cloud does not have
	RegisteredAt  time.Time `json:"registeredAt,omitzero"`
	UserID        string    `json:"userId,omitempty"`
	Role          string    `json:"role,omitempty"`
	Address       string    `json:"address,omitempty"`
	HealthScore   *float64  `json:"healthScore,omitempty"`

	Capabilities map[string]int  `json:"capabilities,omitempty"` // what it understands, by name, with the version
	Telemetry    json.RawMessage `json:"telemetry,omitempty"`    // its last heartbeat, as it came
}
