package auth

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"
)

const (
	knownSpace   = "auth/devices"
	maxKnown     = 4096            // devices; beyond it the one seen longest ago goes
	seenEvery    = time.Hour       // a device that stays is written that often
	saveEvery    = 2 * time.Second // if something changed
	forgetUnseen = 90 * 24 * time.Hour
	provenFor    = 31 * 24 * time.Hour // a terminal's token is good for 30 days
)

// Store keeps small values under names. Put is durable on return, keeps the
// entries it does not name, and takes nil as a removal.
type Store interface {
	Put(space string, entries map[string][]byte) error
	All(space string) (map[string][]byte, error)
}

// Known remembers which devices were let in with a token that had not ended. A
// device is on disk a few seconds after it was first seen; one that a crash
// makes the box forget is let in by its next good token. Safe concurrently.
type Known struct {
	store Store
	now   func() time.Time
	log   *slog.Logger

	mu      sync.Mutex // guards below
	seen    map[string]time.Time
	changed map[string]bool // not on disk yet
}

// OpenKnown reads the devices from the store. now is the clock that tokens are
// judged by.
func OpenKnown(store Store, now func() time.Time, log *slog.Logger) (*Known, error) {
	all, err := store.All(knownSpace)
	switch {
	case err != nil && all == nil:
		return nil, fmt.Errorf("read known devices: %w", err)
	case err != nil:
		log.Error("some known devices cannot be read", "err", err)
	}
	k := &Known{store: store, now: now, log: log, seen: make(map[string]time.Time), changed: make(map[string]bool)}
	for device, raw := range all {
		if at, err := strconv.ParseInt(string(raw), 10, 64); err == nil {
			k.seen[device] = time.Unix(at, 0)
		}
	}
	return k, nil
}

// Run keeps the devices on disk until ctx ends.
func (k *Known) Run(ctx context.Context) error {
	tick := time.NewTicker(saveEvery)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			if err := k.save(); err != nil {
				k.log.Error("known devices not saved", "err", err)
			}
			return nil
		case <-tick.C:
			err := k.save()
			if err != nil && !failing {
				k.log.Error("known devices not saved", "err", err)
			}
			failing = err != nil
		}
	}
}

// Len returns how many devices are known.
func (k *Known) Len() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.seen)
}

func (k *Known) has(device string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, ok := k.seen[device]
	return ok
}

func (k *Known) seenWithin(device string, d time.Duration) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	at, ok := k.seen[device]
	return ok && k.now().Sub(at) < d
}

func (k *Known) remember(device string) {
	now := k.now()
	k.mu.Lock()
	defer k.mu.Unlock()
	at, ok := k.seen[device]
	if ok && now.Sub(at) < seenEvery && !now.Before(at) {
		return
	}
	if !ok && len(k.seen) >= maxKnown {
		k.forgetOldest(now)
	}
	k.seen[device] = now
	k.changed[device] = true
}

// forgetOldest makes room: of all that were not seen for long, or of the one not
// seen for longest. The lock is held.
func (k *Known) forgetOldest(now time.Time) {
	oldest, first := "", time.Time{}
	for device, at := range k.seen {
		if oldest == "" || at.Before(first) {
			oldest, first = device, at
		}
		if now.Sub(at) > forgetUnseen {
			delete(k.seen, device)
			k.changed[device] = true
		}
	}
	delete(k.seen, oldest)
	k.changed[oldest] = true
}

func (k *Known) save() error {
	entries := make(map[string][]byte)
	k.mu.Lock()
	for device := range k.changed {
		entries[device] = nil
		if at, ok := k.seen[device]; ok {
			entries[device] = strconv.AppendInt(nil, at.Unix(), 10)
		}
	}
	clear(k.changed)
	k.mu.Unlock()
	if len(entries) == 0 {
		return nil
	}
	if err := k.store.Put(knownSpace, entries); err != nil {
		k.mu.Lock()
		defer k.mu.Unlock()
		for device := range entries {
			k.changed[device] = true
		}
		return fmt.Errorf("save known devices: %w", err)
	}
	return nil
}
