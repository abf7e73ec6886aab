package cloud

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// Access is how to reach a broker.
type Access struct {
	Broker             string // tcp://, tls://, ws:// or wss:// URL
	Username, Password string
	TLS                *tls.Config // nil: the system's trust, for tls and wss
}

// session is one connection of a client that is thrown away with it.
type session struct {
	client mqtt.Client
	gone   chan struct{} // closed when the connection is lost
}

// connect opens a connection. If receive is not nil the broker keeps the
// client's subscriptions and messages while it is away; receive is called in
// order, must not block and confirms each message itself.
func connect(ctx context.Context, a Access, clientID string, receive func(mqtt.Message)) (*session, error) {
	s := &session{gone: make(chan struct{})}
	var once sync.Once
	o := mqtt.NewClientOptions().AddBroker(a.Broker).
		SetClientID(clientID).SetCleanSession(receive == nil).SetProtocolVersion(4).
		SetAutoReconnect(false).SetConnectRetry(false).
		SetOrderMatters(true).SetAutoAckDisabled(true).
		SetKeepAlive(30 * time.Second).SetWriteTimeout(2 * time.Second).SetConnectTimeout(longest).
		SetTLSConfig(a.TLS).
		SetConnectionLostHandler(func(mqtt.Client, error) { once.Do(func() { close(s.gone) }) })
	if a.Username != "" {
		o.SetUsername(a.Username).SetPassword(a.Password)
	}
	if receive != nil {
		o.SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { receive(m) })
	}
	s.client = mqtt.NewClient(o)
	if err := wait(ctx, s.client.Connect()); err != nil {
		s.close()
		return nil, fmt.Errorf("connect to broker: %w", err)
	}
	return s, nil
}

// subscribe asks for topics at QoS 1.
func (s *session) subscribe(ctx context.Context, topics ...string) error {
	filters := make(map[string]byte, len(topics))
	for _, t := range topics {
		filters[t] = 1
	}
	token := s.client.SubscribeMultiple(filters, nil)
	if err := wait(ctx, token); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	if sub, ok := token.(*mqtt.SubscribeToken); ok {
		for topic, code := range sub.Result() {
			if code != 1 {
				return fmt.Errorf("subscribe to %s: refused with %#x", topic, code)
			}
		}
	}
	return nil
}

// close leaves the broker.
func (s *session) close() { s.client.Disconnect(250) }

// wait ends with the token, with ctx, or after [longest].
func wait(ctx context.Context, t mqtt.Token) error {
	timer := time.NewTimer(longest)
	defer timer.Stop()
	select {
	case <-t.Done():
		return t.Error()
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return errors.New("no answer within 10 s")
	}
}

// pause waits between two attempts to connect: 0.1 to 0.3 s, doubling with the
// attempts up to 20 s on average. It reports false when ctx has ended.
func pause(ctx context.Context, attempt int) bool {
	base := min(200*time.Millisecond<<min(attempt, 10), 20*time.Second)
	timer := time.NewTimer(base/2 + rand.N(base))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
