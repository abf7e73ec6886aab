package recovery

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// KeepFor is how long a session is kept after its client was last here.
const KeepFor = 24 * time.Hour

const (
	space       = "sessions" // in State
	maxSessions = 2048       // the longest unseen goes first
	maxBytes    = 4 << 20

	// A position is written when it is this much behind, and the time a client
	// was seen when it is this old: so an idle evening writes next to nothing,
	// and a client that has to begin at an old position has little to skip.
	staleEvents = 4096
	staleSeen   = time.Hour

	tick       = time.Minute
	retryAfter = time.Second
)

// Why a session is not given back: the reason in what its client is told.
var (
	ErrUnknown  = errors.New("session_unknown")   // never was, has expired, or is another's
	ErrEpoch    = errors.New("epoch_changed")     // history was lost since
	ErrOffset   = errors.New("offset_unknown")    // no place of this history
	ErrUnproven = errors.New("replay_unfinished") // it left before it had all it was owed
)

// State keeps small values under names. Put is durable on return, keeps the
// entries it does not name, and takes nil as a removal. All returns what is
// sound besides its error, if it can read anything.
type State interface {
	Put(space string, entries map[string][]byte) error
	All(space string) (map[string][]byte, error)
}

// Store keeps sessions. Its methods may be called concurrently.
//
// What a client depends on (that the session exists, where it is joined, what
// it is owed) is written as soon as it changes, by one goroutine: while one
// write runs the changes of all sessions gather for the next, so a venue that
// reconnects at once costs a few writes and not one for each.
type Store struct {
	state State
	epoch func() event.Epoch
	now   func() time.Time
	log   *slog.Logger
	wake  chan struct{} // one entry while there is something to write

	mu       sync.Mutex // guards below
	sessions map[string]*Session
	bytes    int
	removed  map[string]bool // since the last write
	waiting  []func()
}

// Open reads the sessions that have not expired. Those of an epoch that is over
// are kept to tell their clients why they are not given back.
func Open(state State, epoch func() event.Epoch, now func() time.Time, log *slog.Logger) (*Store, error) {
	entries, err := state.All(space)
	switch {
	case err != nil && entries == nil:
		return nil, fmt.Errorf("read sessions: %w", err)
	case err != nil:
		log.Error("some sessions cannot be read", "err", err)
	}
	s := &Store{
		state: state, epoch: epoch, now: now, log: log, wake: make(chan struct{}, 1),
		sessions: make(map[string]*Session), removed: make(map[string]bool),
	}
	for pid, value := range entries {
		x := &Session{store: s, pid: pid}
		if json.Unmarshal(value, &x.rec) != nil || s.expired(x) {
			s.removed[pid] = true
			continue
		}
		x.saved, x.savedAt = x.rec.Position, time.Unix(x.rec.Seen, 0)
		s.sessions[pid] = x
		s.weigh(x)
	}
	return s, nil
}

// New makes a session whose client has, or is not to have, all up to at. self
// is its public name.
func (s *Store) New(owner Owner, self string, at event.Seq) *Session {
	x := &Session{store: s, pid: rand.Text(), dirty: true, rec: record{
		Owner: owner, Self: self, Epoch: s.epoch(), Position: at, Seen: s.now().Unix(),
	}}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions[x.pid] = x
	s.weigh(x)
	for len(s.sessions) > maxSessions || s.bytes > maxBytes {
		if !s.evict(x) {
			break // all are here
		}
	}
	return x
}

// Claim gives a session back to its owner, with the position to go on from:
// the one that the offset names, or, for a client that was sent nothing yet and
// so has none, the one that was proven.
func (s *Store) Claim(pid, offset string, owner Owner) (*Session, event.Seq, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.sessions[pid]
	switch {
	case x == nil || x.rec.Owner != owner:
		return nil, 0, ErrUnknown
	case x.rec.Epoch != s.epoch():
		return nil, x.rec.Position, ErrEpoch
	case x.holder == nil && s.expired(x):
		s.remove(x)
		return nil, x.rec.Position, ErrUnknown
	}
	at := x.rec.Position
	if offset != "" {
		seq, ok := ParseOffset(offset, x.rec.Epoch)
		if !ok {
			return nil, x.rec.Position, ErrOffset
		}
		at = seq
	}
	if x.rec.Owed > 0 && (offset == "" || at <= x.rec.Owed) {
		return nil, at, ErrUnproven
	}
	x.rec.Seen = s.now().Unix()
	return x, at, nil
}

func (s *Store) expired(x *Session) bool {
	return s.now().Sub(time.Unix(x.rec.Seen, 0)) > KeepFor
}

// weigh estimates what a session takes. The lock is held.
func (s *Store) weigh(x *Session) {
	s.bytes -= x.bytes
	x.bytes = 256 + len(x.rec.Subject) + len(x.rec.Terminal)
	for _, p := range x.rec.Places {
		x.bytes += len(p) + 16
	}
	s.bytes += x.bytes
}

// evict forgets the session that was away the longest, other than the new one,
// if one is away.
func (s *Store) evict(fresh *Session) bool {
	var oldest *Session
	for _, x := range s.sessions {
		if x.holder == nil && x != fresh && (oldest == nil || x.rec.Seen < oldest.rec.Seen) {
			oldest = x
		}
	}
	if oldest != nil {
		s.remove(oldest)
	}
	return oldest != nil
}

func (s *Store) remove(x *Session) {
	delete(s.sessions, x.pid)
	s.bytes -= x.bytes
	s.removed[x.pid] = true
}

// Save has all changes so far written soon; done is called, on another
// goroutine and not blocking it, when they are durable or could not be
// written, which is then tried again. A session that is not durable is lost if
// the box dies now, and its client is told so when it comes back.
func (s *Store) Save(done func()) {
	s.mu.Lock()
	s.waiting = append(s.waiting, done)
	s.mu.Unlock()
	s.poke()
}

func (s *Store) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run writes until ctx ends, and then once more.
func (s *Store) Run(ctx context.Context) {
	clock := time.NewTicker(tick)
	defer clock.Stop()
	retry := time.NewTimer(0)
	defer retry.Stop()
	failing := false
	for {
		over := false
		select {
		case <-s.wake:
		case <-clock.C:
		case <-retry.C:
		case <-ctx.Done():
			over = true
		}
		err := s.write(over)
		if err != nil {
			retry.Reset(retryAfter)
		}
		if err != nil && !failing {
			s.log.Error("sessions not saved", "err", err)
		}
		failing = err != nil
		if over {
			return
		}
	}
}

// write writes what changed and calls those who wait for it; all says that
// positions are written however little they moved.
func (s *Store) write(all bool) error {
	s.mu.Lock()
	entries := make(map[string][]byte)
	seen := s.now()
	var written []*Session
	for pid, x := range s.sessions {
		if x.holder != nil {
			x.rec.Seen = seen.Unix()
		} else if s.expired(x) {
			s.remove(x)
			continue
		}
		moved := x.rec.Position - x.saved
		if x.dirty || moved >= staleEvents || (all && moved > 0) || time.Unix(x.rec.Seen, 0).Sub(x.savedAt) >= staleSeen {
			value, err := json.Marshal(x.rec)
			if err != nil {
				continue // strings and numbers always encode
			}
			entries[pid] = value
			x.dirty, x.saved, x.savedAt = false, x.rec.Position, time.Unix(x.rec.Seen, 0)
			written = append(written, x)
		}
	}
	for pid := range s.removed {
		entries[pid] = nil
	}
	removed, waiting := s.removed, s.waiting
	s.removed, s.waiting = make(map[string]bool), nil
	s.mu.Unlock()

	var err error
	if len(entries) > 0 {
		err = s.state.Put(space, entries)
	}
	if err != nil {
		s.mu.Lock()
		for _, x := range written {
			x.dirty = true
		}
		for pid := range removed {
			s.removed[pid] = true
		}
		s.mu.Unlock()
		err = fmt.Errorf("write sessions: %w", err)
	}
	for _, done := range waiting {
		done()
	}
	return err
}
