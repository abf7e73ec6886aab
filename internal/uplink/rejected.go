package uplink

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"time"
)

// ParkedSpace is the space of [Notes] that holds the events that the cloud will not
// take, by position.
const ParkedSpace = "parked"

// RejectedSpace is the space of [Notes] that holds the last 200 messages from
// the cloud that were confirmed and not acted on, each a [Rejection] in JSON.
const RejectedSpace = "rejected"

const (
	rejectedKept  = 200
	rejectedBytes = 4 << 10
	logAgain      = time.Minute // the same reason is logged this often
)

// Rejection is a message from the cloud that could not be read or was not
// allowed.
type Rejection struct {
	Number uint64    `json:"number"` // 1, 2, 3, … over all time
	Time   time.Time `json:"time"`
	Topic  string    `json:"topic"`
	Code   string    `json:"code"`
	Reason string    `json:"reason"`
	Size   int       `json:"size"`  // of the message, in bytes
	Bytes  []byte    `json:"bytes"` // the first 4 KiB of it
}

// rejected keeps the newest rejections in a ring of note keys, so that nothing
// ever needs deleting. One goroutine at a time uses it.
type rejected struct {
	notes  Notes
	log    *slog.Logger
	last   uint64
	logged map[string]time.Time // by code, of which there are few
}

func loadRejected(notes Notes, log *slog.Logger) (*rejected, error) {
	all, err := notes.All(RejectedSpace)
	if err != nil {
		return nil, fmt.Errorf("read rejected list: %w", err)
	}
	r := &rejected{notes: notes, log: log, logged: make(map[string]time.Time)}
	for _, raw := range all {
		var kept Rejection
		if json.Unmarshal(raw, &kept) == nil { // else its slot is used again
			r.last = max(r.last, kept.Number)
		}
	}
	return r, nil
}

// keep writes a message into the list; it is on disk on return.
func (r *rejected) keep(topic string, size int, head []byte, why *unreadable, now time.Time) error {
	if at, ok := r.logged[why.code]; !ok || now.Sub(at) >= logAgain {
		r.logged[why.code] = now
		r.log.Warn("message from the cloud rejected", "topic", topic, "reason", why.code, "size", size)
	}
	entry := Rejection{
		Number: r.last + 1, Time: now, Topic: topic, Code: why.code, Reason: why.text,
		Size: size, Bytes: head[:min(len(head), rejectedBytes)],
	}
	raw, err := json.Marshal(entry)
	if err != nil {
		return fmt.Errorf("encode rejection: %w", err)
	}
	key := fmt.Sprintf("%03d", entry.Number%rejectedKept)
	if err := r.notes.Put(RejectedSpace, map[string][]byte{key: raw}); err != nil {
		return fmt.Errorf("keep rejected message: %w", err)
	}
	r.last = entry.Number
	return nil
}
