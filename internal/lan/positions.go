package lan

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

const (
	positionsSpace = "positions" // in State
	maxPositions   = 2048        // the longest unseen goes first
)

// positions remembers how far each recipient, and each role, has heard the
// journal. They are a convenience for clients that come back, not part of any
// guarantee: a lost one makes an alert be shown twice, marked as replayed.
//
// Only replayable events matter to a position, so one is written to disk when
// it is new or passes such an event: an idle evening costs the card nothing.
// All methods may be called concurrently.
type positions struct {
	state State
	epoch func() event.Epoch // of the journal

	mu         sync.Mutex // guards below
	byKey      map[string]*position
	replayable event.Seq // the last replayable event shown
	deleted    []string  // evicted since the last save
}

type position struct {
	seq   event.Seq
	saved event.Seq // what the disk has; meaningless while isNew
	isNew bool
	seen  time.Time
}

// loadPositions reads the positions of this epoch; those of another one say
// nothing about this history.
func loadPositions(state State, epoch func() event.Epoch, log *slog.Logger) (*positions, error) {
	entries, err := state.All(positionsSpace)
	switch {
	case err != nil && entries == nil:
		return nil, fmt.Errorf("read positions: %w", err)
	case err != nil:
		log.Error("some positions cannot be read", "err", err)
	}
	p := &positions{state: state, epoch: epoch, byKey: make(map[string]*position)}
	for key, value := range entries {
		var of event.Epoch
		var seq event.Seq
		var seen int64
		if _, err := fmt.Sscanf(string(value), "%s %d %d", &of, &seq, &seen); err != nil || of != epoch() {
			continue
		}
		p.byKey[key] = &position{seq: seq, saved: seq, seen: time.Unix(seen, 0)}
	}
	return p, nil
}

// prove notes that the recipient has heard all up to seq. A position never
// moves backwards.
func (p *positions) prove(key string, seq event.Seq) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.byKey[key]
	if at == nil {
		if len(p.byKey) >= maxPositions {
			p.evict()
		}
		at = &position{isNew: true}
		p.byKey[key] = at
	}
	at.seq = max(at.seq, seq)
	at.seen = time.Now()
}

// shown notes a replayable event that was shown, and the roles that had
// somebody to hear it.
func (p *positions) shown(seq event.Seq, roles []event.Role) {
	p.mu.Lock()
	p.replayable = max(p.replayable, seq)
	p.mu.Unlock()
	for _, role := range roles {
		p.prove(roleKey(role), seq)
	}
}

func roleKey(role event.Role) string { return "role/" + string(role) }

// of returns the position of a key, if it has one.
func (p *positions) of(key string) (event.Seq, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.byKey[key]
	if at == nil {
		return 0, false
	}
	return at.seq, true
}

// terminals returns the ids of those that were here since then, also before the
// start of the box.
func (p *positions) terminals(since time.Time) (ids []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, at := range p.byKey {
		if id, is := strings.CutPrefix(key, terminalKey("")); is && !at.seen.Before(since) {
			ids = append(ids, id)
		}
	}
	return ids
}

func terminalKey(id string) string { return "terminal/" + id }

func (p *positions) evict() {
	oldest := ""
	for key, at := range p.byKey {
		if oldest == "" || at.seen.Before(p.byKey[oldest].seen) {
			oldest = key
		}
	}
	delete(p.byKey, oldest)
	p.deleted = append(p.deleted, oldest)
}

// save writes what changed; with all set also what no replayable event needs.
// What could not be written is tried again with the next save.
func (p *positions) save(all bool) error {
	epoch := p.epoch()
	p.mu.Lock()
	entries := make(map[string][]byte)
	written := make(map[string]event.Seq)
	for _, key := range p.deleted {
		entries[key] = nil
	}
	for key, at := range p.byKey {
		passed := at.seq != at.saved && at.saved < p.replayable
		if at.isNew || passed || (all && at.seq != at.saved) {
			entries[key] = fmt.Appendf(nil, "%s %d %d", epoch, at.seq, at.seen.Unix())
			written[key] = at.seq
		}
	}
	deleted := len(p.deleted)
	p.mu.Unlock()
	if len(entries) == 0 {
		return nil
	}
	if err := p.state.Put(positionsSpace, entries); err != nil {
		return fmt.Errorf("write positions: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deleted = slices.Delete(p.deleted, 0, deleted)
	for key, seq := range maps.All(written) {
		if at := p.byKey[key]; at != nil {
			at.saved, at.isNew = seq, false
		}
	}
	return nil
}
