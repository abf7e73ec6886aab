package uplink

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"time"
)

// memorySpace is where the box keeps what it remembers of brokers.
const memorySpace = "link"

// SessionLoss says that a broker had forgotten the box: what the cloud sent
// while the box was away is lost, if the broker kept it in that session. The
// back-end sees from lastBroadcast what it must say again.
type SessionLoss struct {
	Broker string    `json:"broker"`
	At     time.Time `json:"at"`
	Count  uint64    `json:"count"` // ever, at any broker
}

// known is what is known of brokers from earlier links, also of earlier
// processes.
type known struct {
	// Sessions are the brokers, as host:port, that keep one for the box.
	Sessions map[string]bool `json:"sessions,omitempty"`

	// Addrs are the addresses at which brokers, by host, answered last.
	Addrs map[string]netip.Addr `json:"addrs,omitempty"`

	Lost *SessionLoss `json:"lost,omitempty"`
}

// recallLinks loads the memory. One that cannot be read is an empty one: what
// it holds makes names better and returns quicker, and nothing depends on it.
func (u *Uplink) recallLinks() error {
	all, err := u.notes.All(memorySpace)
	if err != nil {
		return fmt.Errorf("read what is known of brokers: %w", err)
	}
	if raw := all["memory"]; raw != nil {
		if err := json.Unmarshal(raw, &u.known); err != nil {
			u.log.Warn("what was known of brokers cannot be read", "err", err)
			u.known = known{}
		}
	}
	u.dialer.mu.Lock()
	defer u.dialer.mu.Unlock()
	maps.Copy(u.dialer.last, u.known.Addrs)
	u.status.SessionLost = u.known.Lost
	return nil
}

// remember keeps what a link that came up tells of its broker. An error is no
// reason to end the link.
func (u *Uplink) remember(broker string, resumed bool) {
	m := known{Sessions: maps.Clone(u.known.Sessions), Addrs: map[string]netip.Addr{}, Lost: u.known.Lost}
	u.dialer.mu.Lock()
	maps.Copy(m.Addrs, u.dialer.last)
	u.dialer.mu.Unlock()
	if !resumed && m.Sessions[broker] {
		lost := SessionLoss{Broker: broker, At: time.Now().UTC(), Count: 1}
		if m.Lost != nil {
			lost.Count += m.Lost.Count
		}
		m.Lost = &lost
		u.tell(func(st *Status) { st.SessionLost = &lost })
		u.log.Warn("broker has forgotten the box: broadcasts may be missing until the back-end sends them again", "broker", broker)
	}
	if m.Sessions[broker] && maps.Equal(m.Addrs, u.known.Addrs) && m.Lost == u.known.Lost {
		return
	}
	if m.Sessions == nil {
		m.Sessions = make(map[string]bool, 1)
	}
	m.Sessions[broker] = true
	raw, err := json.Marshal(m)
	if err == nil {
		err = u.notes.Put(memorySpace, map[string][]byte{"memory": raw})
	}
	if err != nil {
		u.log.Warn("what is known of brokers is not kept", "err", err)
		return
	}
	u.known = m
}
