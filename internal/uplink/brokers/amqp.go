package brokers

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/avoqado/avoqado-edge/internal/cloud"
)

// exchange is where the MQTT plugin publishes what comes from boxes, and where it
// hears what is for them. A topic a/b is the routing key a.b there.
const exchange = "amq.topic"

// The queues of the sample definitions.
const (
	EventsQueue    = "avoqado.events"
	StatusQueue    = "avoqado.status"
	ResultsQueue   = "avoqado.results"
	TelemetryQueue = "avoqado.telemetry"
)

// AMQPAccess is how to reach a RabbitMQ over AMQP 0-9-1.
type AMQPAccess struct {
	URL string // amqps://user:password@host:port/vhost
	TLS *tls.Config
}

// AMQPBackend is a back-end that keeps the contract over AMQP, as the existing
// one would: it consumes the queue of events, confirms each message after the
// commit, and publishes its word for the box to the exchange.
type AMQPBackend struct {
	access AMQPAccess
	store  *cloud.Backend
	log    *slog.Logger
	online atomic.Bool
}

// NewAMQPBackend returns a back-end that commits into the store, which nobody
// else runs.
func NewAMQPBackend(access AMQPAccess, store *cloud.Backend, log *slog.Logger) *AMQPBackend {
	return &AMQPBackend{access: access, store: store, log: log}
}

// Online reports whether it consumes.
func (b *AMQPBackend) Online() bool { return b.online.Load() }

// Run consumes until ctx ends, connecting again for ever. onEvent is as that of
// [cloud.Backend.Run].
func (b *AMQPBackend) Run(ctx context.Context, onEvent func(cloud.Effect)) error {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for quiet := false; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-pause.C:
		}
		began := time.Now()
		err := b.consume(ctx, onEvent)
		if ctx.Err() == nil && (!quiet || time.Since(began) > time.Second) {
			b.log.Warn("back-end offline", "err", err)
		}
		quiet = true
		pause.Reset(200 * time.Millisecond)
	}
}

// consume is one connection.
func (b *AMQPBackend) consume(ctx context.Context, onEvent func(cloud.Effect)) error {
	channel, hangUp, err := b.access.open()
	if err != nil {
		return err
	}
	defer hangUp()
	if err := channel.Qos(64, 0, false); err != nil {
		return fmt.Errorf("set prefetch: %w", err)
	}
	messages, err := channel.ConsumeWithContext(ctx, EventsQueue, "", false, false, false, false, nil)
	if err != nil {
		return fmt.Errorf("consume %s: %w", EventsQueue, err)
	}
	b.online.Store(true)
	defer b.online.Store(false)
	for {
		var m amqp.Delivery
		select {
		case <-ctx.Done():
			return nil
		case next, more := <-messages:
			if !more {
				return errors.New("connection lost")
			}
			m = next
		}
		acks, word, err := b.store.Take(strings.ReplaceAll(m.RoutingKey, ".", "/"), m.Body, onEvent)
		if err != nil {
			return err
		}
		// Commit point: a crash before the next two lines makes the message come
		// again, and its events are skipped.
		if word != nil {
			if err := channel.PublishWithContext(ctx, exchange, routingKey(acks), false, false, persistent(word)); err != nil {
				return fmt.Errorf("publish to %s: %w", acks, err)
			}
		}
		if err := m.Ack(false); err != nil {
			return fmt.Errorf("confirm message: %w", err)
		}
	}
}

func (a AMQPAccess) open() (*amqp.Channel, func(), error) {
	conn, err := amqp.DialConfig(a.URL, amqp.Config{TLSClientConfig: a.TLS, Heartbeat: 10 * time.Second})
	if err != nil {
		return nil, nil, fmt.Errorf("connect over AMQP: %w", err)
	}
	hangUp := func() { _ = conn.Close() } // it may be lost already
	channel, err := conn.Channel()
	if err != nil {
		hangUp()
		return nil, nil, fmt.Errorf("open channel: %w", err)
	}
	return channel, hangUp, nil
}

func routingKey(topic string) string { return strings.ReplaceAll(topic, "/", ".") }

// persistent is what the MQTT plugin delivers at QoS 1.
func persistent(body []byte) amqp.Publishing {
	return amqp.Publishing{ContentType: "application/json", DeliveryMode: amqp.Persistent, Body: body}
}

// PublishAMQP sends a message for the subscribers of an MQTT topic and returns
// when the broker has confirmed it. It cannot be retained: over AMQP, RabbitMQ
// knows no such thing.
func PublishAMQP(ctx context.Context, a AMQPAccess, topic string, body []byte) error {
	channel, hangUp, err := a.open()
	if err != nil {
		return err
	}
	defer hangUp()
	if err := channel.Confirm(false); err != nil {
		return fmt.Errorf("ask for confirmations: %w", err)
	}
	sent, err := channel.PublishWithDeferredConfirmWithContext(ctx, exchange, routingKey(topic), false, false, persistent(body))
	if err != nil {
		return fmt.Errorf("publish to %s: %w", topic, err)
	}
	taken, err := sent.WaitContext(ctx)
	if err == nil && !taken {
		err = errors.New("not confirmed")
	}
	if err != nil {
		return fmt.Errorf("publish to %s: %w", topic, err)
	}
	return nil
}

// EachAMQP consumes a queue and confirms what it gives to visit, topic and body,
// until visit returns false or ctx ends.
func EachAMQP(ctx context.Context, a AMQPAccess, queue string, visit func(topic string, body []byte) bool) error {
	channel, hangUp, err := a.open()
	if err != nil {
		return err
	}
	defer hangUp()
	messages, err := channel.ConsumeWithContext(ctx, queue, "", false, false, false, false, nil)
	if err != nil {
		return fmt.Errorf("consume %s: %w", queue, err)
	}
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("consume %s: %w", queue, ctx.Err())
		case m, more := <-messages:
			if !more {
				return fmt.Errorf("consume %s: connection lost", queue)
			}
			if err := m.Ack(false); err != nil {
				return fmt.Errorf("confirm message of %s: %w", queue, err)
			}
			if !visit(strings.ReplaceAll(m.RoutingKey, ".", "/"), m.Body) {
				return nil
			}
		}
	}
}
