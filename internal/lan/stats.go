package lan

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// Why a connection was refused or closed by the box: the names in
// [Stats.Refused].
const (
	reasonMalformed   = "malformed_packet"
	reasonFull        = "max_connections"
	reasonOrigin      = "origin"
	reasonAuth        = "authentication"
	reasonTerminal    = "terminal_mismatch"
	reasonFailures    = "failed_handshakes"
	reasonTwice       = "second_connect"
	reasonSlow        = "slow_reader"    // more waited for it than may
	reasonStalled     = "stalled_reader" // it took nothing of what waited for it
	reasonRevoked     = "grant_ended"
	reasonAdmission   = "not_admitted"
	reasonDevice      = "device_sockets" // the terminal has newer ones
	reasonSilent      = "no_session"     // none in time, or none any more
	reasonHeader      = "header_timeout"
	reasonBody        = "body_timeout"
	reasonTooLarge    = "message_too_large"
	reasonDescriptors = "no_descriptors"
	reasonAccept      = "accept_failed"
	reasonLonely      = "address_transports"  // of its address too many have no session
	reasonAddress     = "address_connections" // of its address too many are open
	reasonToken       = "bad_token"           // in an HTTP request
	reasonHost        = "host"                // a name that is not the box's
	reasonStolen      = "session_of_another"  // a request goes on with a transport of another address
	reasonLease       = "lease_not_recorded"
)

// Stats counts what happened since the start. All counters only grow, Behind and
// Backlog, which tell of now, do not.
type Stats struct {
	Connections int64            `json:"connections"` // sessions begun
	Refused     map[string]int64 `json:"refused"`     // connections refused or closed by the box, and bad tokens over HTTP, by reason

	Accepted   int64            `json:"accepted"`   // events stored for a sender
	Duplicates int64            `json:"duplicates"` // of them: repeats, not sent again
	Rejected   map[string]int64 `json:"rejected"`   // events refused, by code
	Unknown    int64            `json:"unknown"`    // events of names nobody serves
	Volatile   int64            `json:"volatile"`   // logs and heartbeats passed on
	Debounced  int64            `json:"debounced"`  // heartbeats not passed on

	FannedOut   int64 `json:"fannedOut"`   // stored events shown to the venue
	Expired     int64 `json:"expired"`     // stored events past their expiry, not shown
	Replayed    int64 `json:"replayed"`    // copies sent to clients that came back
	Recovered   int64 `json:"recovered"`   // sessions given back to clients that came back
	Unrecovered int64 `json:"unrecovered"` // sessions that could not be given back
	Forgotten   int64 `json:"forgotten"`   // replayable events given up for room
	Sent        int64 `json:"sent"`        // messages handed to transports
	Waits       int64 `json:"waits"`       // times a client was made to wait
	ReadErrors  int64 `json:"readErrors"`  // journal reads that failed
	SaveErrors  int64 `json:"saveErrors"`  // positions that could not be saved

	// Behind is how many sessions are behind now: what waited for them to read
	// it became too much, so they go on from the journal as fast as they read.
	Behind     int64 `json:"behind"`
	FellBehind int64 `json:"fellBehind"` // times a session fell behind
	CaughtUp   int64 `json:"caughtUp"`   // times one that did was live again
	Skipped    int64 `json:"skipped"`    // copies of volatile events not given to sessions that were behind
	Backlog    int64 `json:"backlog"`    // bytes that wait now for the client for which most waits

	WriteErrors int64 `json:"writeErrors"` // packets that could not be encoded
	Leases      int64 `json:"leases"`      // times a token that had ended was accepted, the cloud being out of reach
	Delayed     int64 `json:"delayed"`     // failed handshakes and bad tokens whose answer was held back
	Panics      int64 `json:"panics"`      // contained in our callbacks
	Swept       int64 `json:"swept"`       // dead entries taken out of the library

	// Starved is when a connection last had to wait or go for want of file
	// descriptors; zero: never.
	Starved time.Time `json:"starved,omitzero"`

	// Shown is the last seq shown to the venue.
	Shown event.Seq `json:"shown"`
}

// counters is the live form of Stats; safe for concurrent use.
type counters struct {
	connections, accepted, duplicates, unknown, volatile, debounced     atomic.Int64
	fannedOut, expired, replayed, forgotten, sent, waits                atomic.Int64
	readErrors, saveErrors, writeErrors, leases, delayed, panics, swept atomic.Int64
	recovered, unrecovered                                              atomic.Int64
	behind, fellBehind, caughtUp, skipped                               atomic.Int64

	mu       sync.Mutex // guards below
	refused  map[string]int64
	rejected map[string]int64
	starved  time.Time
}

func newCounters() *counters {
	return &counters{refused: make(map[string]int64), rejected: make(map[string]int64)}
}

func (c *counters) refuse(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused[reason]++
}

// starve counts a connection that found no file descriptor.
func (c *counters) starve(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused[reasonDescriptors]++
	c.starved = now
}

// reject counts a refused event. Codes are the box's own words, so the map
// stays small.
func (c *counters) reject(code string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rejected[code]++
}

// Stats returns the counters. Safe for concurrent use.
func (s *Server) Stats() Stats {
	c := s.counters
	c.mu.Lock()
	refused, rejected, starved := maps.Clone(c.refused), maps.Clone(c.rejected), c.starved
	c.mu.Unlock()
	wired := s.wire.Stats()
	if wired.Large > 0 {
		refused[reasonTooLarge] += wired.Large
	}
	return Stats{
		Connections: c.connections.Load(), Refused: refused,
		Accepted: c.accepted.Load(), Duplicates: c.duplicates.Load(), Rejected: rejected,
		Unknown: c.unknown.Load(), Volatile: c.volatile.Load(), Debounced: c.debounced.Load(),
		FannedOut: c.fannedOut.Load(), Expired: c.expired.Load(), Replayed: c.replayed.Load(),
		Forgotten: c.forgotten.Load(), Sent: c.sent.Load() + wired.Frames, Waits: c.waits.Load(),
		Recovered: c.recovered.Load(), Unrecovered: c.unrecovered.Load(),
		ReadErrors: c.readErrors.Load(), SaveErrors: c.saveErrors.Load(),
		WriteErrors: c.writeErrors.Load(), Leases: c.leases.Load(), Delayed: c.delayed.Load(), Panics: c.panics.Load(), Swept: c.swept.Load(),
		Behind: c.behind.Load(), FellBehind: c.fellBehind.Load(), CaughtUp: c.caughtUp.Load(), Skipped: c.skipped.Load(),
		Backlog: s.backlog(),
		Starved: starved, Shown: s.fan.seen(),
	}
}

// Connections is who is connected now, in the shape of the existing system's
// connection statistics (contract §7.1).
type Connections struct {
	ConnectionStats ConnectionStats `json:"connectionStats"`
	ServerStats     ServerStats     `json:"serverStats"`
}

// ConnectionStats counts sessions.
type ConnectionStats struct {
	Total  int                `json:"totalConnections"`
	Venues map[string]int     `json:"venueConnections"`
	Roles  map[event.Role]int `json:"roleConnections"`
}

// ServerStats counts sockets and rooms of the server. Rooms includes one
// implicit room per socket, as in the existing system.
type ServerStats struct {
	Clients int `json:"connectedClients"`
	Rooms   int `json:"rooms"`
}

// Full reports whether a client that comes now is turned away, since there are
// as many as there may be. Safe for concurrent use.
func (s *Server) Full() bool { return s.io.Engine().Clients().Len() >= s.cfg.MaxConnections }

// Connections returns who is connected now. Safe for concurrent use.
func (s *Server) Connections() Connections {
	venues, roles := make(map[string]int), make(map[event.Role]int)
	sessions := s.live()
	for _, sess := range sessions {
		venues[sess.grant.Venue]++
		roles[sess.grant.Role]++
	}
	nsp := s.io.Sockets()
	return Connections{
		ConnectionStats: ConnectionStats{Total: len(sessions), Venues: venues, Roles: roles},
		ServerStats:     ServerStats{Clients: nsp.Sockets().Len(), Rooms: nsp.Adapter().Rooms().Len()},
	}
}
