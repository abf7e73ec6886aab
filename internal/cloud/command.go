package cloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// Command is what the back-end asks of one box.
type Command struct {
	ID        string          `json:"id"` // a repeat gets the first result
	Type      string          `json:"type"`
	Params    json.RawMessage `json:"params,omitempty"`
	ExpiresAt *time.Time      `json:"expiresAt,omitempty"`
}

// Result is a box's answer to a command.
type Result struct {
	ID     string          `json:"id"`
	Status string          `json:"status"` // done, failed, expired or rejected
	Result json.RawMessage `json:"result,omitempty"`
	Error  string          `json:"error,omitempty"`
}

// SendCommand publishes a command for a box of the venue with this topic prefix
// and returns its answer, or when ctx ends. The broker keeps the command for a
// box that is away; its answer is then heard by repeating the command.
func SendCommand(ctx context.Context, a Access, prefix, box string, c Command) (Result, error) {
	body, err := json.Marshal(c)
	if err != nil {
		return Result{}, fmt.Errorf("encode command: %w", err)
	}
	s, err := connect(ctx, a, "avoqado-cloud-"+string(event.NewID()), nil)
	if err != nil {
		return Result{}, err
	}
	defer s.close()
	topic := prefix + "/boxes/" + box + "/commands"
	answers := make(chan Result, 1)
	s.client.AddRoute(topic+"/results", func(_ mqtt.Client, m mqtt.Message) {
		m.Ack()
		var r Result
		if json.Unmarshal(m.Payload(), &r) != nil || r.ID != c.ID {
			return
		}
		select {
		case answers <- r:
		default: // repeated
		}
	})
	if err := s.subscribe(ctx, topic+"/results"); err != nil {
		return Result{}, err
	}
	if err := wait(ctx, s.client.Publish(topic, 1, false, body)); err != nil {
		return Result{}, fmt.Errorf("publish to %s: %w", topic, err)
	}
	select {
	case r := <-answers:
		return r, nil
	case <-s.gone:
		return Result{}, errors.New("await result: connection lost")
	case <-ctx.Done():
		return Result{}, fmt.Errorf("await result: %w", ctx.Err())
	}
}

// SendConfig publishes a configuration for all boxes of a venue. The broker
// keeps it for those that come later.
func SendConfig(ctx context.Context, a Access, prefix string, config json.RawMessage) error {
	return Publish(ctx, a, prefix+"/config", true, config)
}
