package cloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// Broadcast is what the back-end sends to the boxes of a venue.
type Broadcast struct {
	ID           event.ID        `json:"id"` // a repeat is stored once
	Event        event.Kind      `json:"event"`
	Payload      []byte          `json:"-"` // a JSON object, sent byte for byte
	ExpiresAt    *time.Time      `json:"expiresAt,omitempty"`
	Target       *event.Audience `json:"target,omitempty"` // nil: the venue
	ExcludeRoles []event.Role    `json:"excludeRoles,omitempty"`
}

// Prefix returns the default topic prefix of a venue.
func Prefix(venue string) string { return "avoqado/v1/venues/" + venue }

// SendBroadcast publishes a broadcast under the topic prefix of a venue (see
// [Prefix]) and returns when the broker has confirmed it.
func SendBroadcast(ctx context.Context, a Access, prefix string, b Broadcast) error {
	body, err := b.encode()
	if err != nil {
		return err
	}
	return Publish(ctx, a, prefix+"/broadcasts", false, body)
}

// encode puts the payload in by hand, because encoding/json would change it.
func (b *Broadcast) encode() ([]byte, error) {
	if !json.Valid(b.Payload) {
		return nil, errors.New("encode broadcast: payload is not JSON")
	}
	head, err := json.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("encode broadcast: %w", err)
	}
	body := append(head[:len(head)-1], `,"payload":`...)
	body = append(body, b.Payload...)
	return append(body, '}'), nil
}

// Publish sends any message at QoS 1 and returns when the broker has confirmed
// it.
func Publish(ctx context.Context, a Access, topic string, retained bool, body []byte) error {
	s, err := connect(ctx, a, "avoqado-cloud-"+string(event.NewID()), nil)
	if err != nil {
		return err
	}
	defer s.close()
	// The link is one connection and never resumed, so its token can be
	// believed: it ends with the PUBACK or with an error.
	done := s.client.Publish(topic, 1, retained, body)
	if err := wait(ctx, done); err != nil {
		return fmt.Errorf("publish to %s: %w", topic, err)
	}
	return nil
}
