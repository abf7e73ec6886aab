package uplink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
)

// subscriptions is how many topics a box listens to.
const subscriptions = 4

// link is one connection to one broker. Its MQTT client is made for it and
// thrown away with it: the library's own reconnect reports success for
// publishes nobody confirmed, so it is never let to reconnect.
type link struct {
	client mqtt.Client
	number uint64 // of the links of this process; set by serve
	log    *slog.Logger
	book   *ackBook

	shown   shown // to the broker
	resumed bool  // the broker had kept our session

	moved    atomic.Pointer[time.Time] // when a queue of bytes was last seen to go
	patience time.Duration             // how long after that the line counts as moving

	mu   sync.Mutex
	conn *conn // set once, by open; mu guards it

	once sync.Once
	gone chan struct{} // closed when the client has ended its goroutines
	err  error         // why; read after gone
}

// dial connects to a broker within [connectTimeout] or until ctx ends. The
// receive function is called from one goroutine for each message, in order; it
// must not block. A panic in it cuts the link.
func (d *dialer) dial(ctx context.Context, broker *url.URL, will []byte, log *slog.Logger,
	receive func(mqtt.Message),
) (*link, error) {
	cfg := d.cfg
	shown, password, err := d.keys.read()
	if errors.Is(err, errCredentials) { // the certificate is the business of TLS
		return nil, err
	}
	l := &link{log: log, gone: make(chan struct{}), book: newAckBook(), shown: shown, patience: cfg.KeepAlive}

	o := mqtt.NewClientOptions()
	o.Servers = []*url.URL{broker}
	o.SetClientID(clientPrefix+cfg.Box).SetCleanSession(false).SetProtocolVersion(4).
		SetAutoReconnect(false).SetConnectRetry(false).
		SetAutoAckDisabled(true).SetOrderMatters(true).
		// Whether the link lives is for [link.watch] to say: the library waits
		// for its answer behind whatever a slow line has still to carry. Brokers
		// that count whole packets must bear the largest one on such a line: they
		// wait half as long again as they are told.
		SetKeepAlive(max(2*cfg.KeepAlive, time.Minute)).SetPingTimeout(24*time.Hour).
		SetWriteTimeout(handover).SetConnectTimeout(connectTimeout).
		SetBinaryWill(cfg.topics().status, will, 1, true).
		SetStore(l.book).
		SetCustomOpenConnectionFn(func(u *url.URL, _ mqtt.ClientOptions) (net.Conn, error) {
			return l.open(ctx, d, u)
		}).
		SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) {
			defer l.guard()
			receive(m)
		}).
		SetConnectionLostHandler(func(_ mqtt.Client, err error) {
			l.once.Do(func() {
				l.err = fmt.Errorf("%w: %w", errLost, l.cause(err))
				close(l.gone)
			})
		})
	if cfg.Username != "" {
		o.SetUsername(cfg.Username).SetPassword(password)
	}
	l.client = mqtt.NewClient(o)

	// Ending ctx closes the connection, which ends the handshake.
	stop := context.AfterFunc(ctx, func() { l.cut(context.Cause(ctx)) })
	defer stop()
	token := l.client.Connect()
	<-token.Done() // within connectTimeout, and when ctx ends
	if ctx.Err() != nil {
		l.cut(context.Cause(ctx))
		return nil, context.Cause(ctx)
	}
	if err := token.Error(); err != nil {
		l.cut(err)
		return nil, d.whyNot(broker, l, err)
	}
	if c, ok := token.(*mqtt.ConnectToken); ok {
		l.resumed = c.SessionPresent()
	}
	return l, nil
}

// whyNot says why a broker that was, or was not, reached did not let us in.
func (d *dialer) whyNot(broker *url.URL, l *link, err error) error {
	if at, ok := errors.AsType[*attemptError](err); ok {
		return at // without what the library puts before it
	}
	err = l.cause(err)
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		err = fmt.Errorf("%w: mqtt: %w", errNoAnswer, err)
	} else if ended := d.keys.expired(d.now()); ended != nil && broker.Scheme != "tcp" && broker.Scheme != "ws" {
		err = fmt.Errorf("%w: %w", ended, err)
	}
	return &attemptError{broker: broker, stage: greeting, err: err}
}

// open makes the network connection below MQTT.
func (l *link) open(ctx context.Context, d *dialer, u *url.URL) (net.Conn, error) {
	top, bottom, err := d.open(ctx, u)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: top, bottom: bottom}
	l.mu.Lock()
	l.conn = c
	l.mu.Unlock()
	if ctx.Err() != nil {
		c.cut(context.Cause(ctx)) // it ended before there was a conn to cut
	}
	return c, nil
}

// guard keeps a panic in code called by the library from ending the process.
func (l *link) guard() {
	if p := recover(); p != nil {
		l.log.Error("message handling panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		l.cut(errPanicked)
	}
}

// subscribe asks for the topics the box listens to, all at QoS 1.
func (l *link) subscribe(ctx context.Context, t *topics) error {
	wanted := map[string]byte{}
	for _, topic := range t.down() {
		wanted[topic] = 1
	}
	token, ok := l.client.SubscribeMultiple(wanted, nil).(*mqtt.SubscribeToken)
	if !ok {
		return errors.New("subscribe: unexpected token")
	}
	wait := time.NewTimer(subscribeTimeout)
	defer wait.Stop()
	select {
	case <-token.Done():
	case <-l.gone:
		return l.err
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-wait.C:
		return fmt.Errorf("subscribe: %w", context.DeadlineExceeded)
	}
	if err := token.Error(); err != nil {
		return fmt.Errorf("subscribe: %w", l.cause(err))
	}
	for topic := range wanted {
		// The library calls a refusal success. Less than QoS 1 is refused too:
		// a broadcast could then be lost.
		if code, answered := token.Result()[topic]; !answered || code != 1 {
			return fmt.Errorf("%w: %s answered %#x", errSubscription, topic, code)
		}
	}
	return nil
}

// publish hands a QoS 1 message to the library and returns its number, by which
// book.acked reports the PUBACK. One goroutine at a time may call it; it
// returns within [writeTimeout], and within [handover] of the link's end.
func (l *link) publish(topic string, retained bool, body []byte) (uint64, error) {
	// The library's Publish does not notice that the link has ended while it
	// waits for the packet before to be written. So it is let wait in slices:
	// when one ends, the message has not been handed over, and may be again.
	for until := time.Now().Add(writeTimeout); ; {
		n := l.book.count()
		token := l.client.Publish(topic, 1, retained, body)
		if l.book.count() == n {
			return 0, fmt.Errorf("publish: %w", l.ended(mqtt.ErrNotConnected))
		}
		select {
		case <-token.Done():
		default: // on its way
			return n, nil
		}
		err := token.Error()
		if err == nil {
			return n, nil // confirmed already
		}
		l.book.forget(n)
		select {
		case <-l.gone:
			return 0, fmt.Errorf("publish: %w", l.err)
		default:
		}
		if !time.Now().Before(until) {
			return 0, fmt.Errorf("publish: %w", l.cause(err))
		}
	}
}

// ended returns why the link ended, which the client says a little later than it
// stops taking packets.
func (l *link) ended(reported error) error {
	wait := time.NewTimer(handover)
	defer wait.Stop()
	select {
	case <-l.gone:
		return l.err
	case <-wait.C:
		return l.cause(reported)
	}
}

// mention hands a QoS 0 message to the library, at most once, for what is worth
// nothing later. It returns within [handover].
func (l *link) mention(topic string, body []byte) {
	l.client.Publish(topic, 0, false, body)
}

// cut drops the connection without a farewell.
func (l *link) cut(cause error) {
	l.mu.Lock()
	c := l.conn
	l.mu.Unlock()
	if c != nil {
		c.cut(cause)
	}
}

// cause returns why we cut the link ourselves, else what the library reports.
func (l *link) cause(reported error) error {
	l.mu.Lock()
	c := l.conn
	l.mu.Unlock()
	if c != nil {
		if own := c.why(); own != nil {
			return own
		}
	}
	return reported
}

// drop cuts the link and waits until the client has ended its goroutines.
func (l *link) drop(cause error) {
	l.cut(cause)
	wait := time.NewTimer(stopTimeout)
	defer wait.Stop()
	select {
	case <-l.gone:
	case <-wait.C:
		l.log.Error("mqtt client did not end in time")
	}
}

// leave ends the link with a farewell, so that the last will is not published.
func (l *link) leave() {
	l.client.Disconnect(uint(farewellTimeout.Milliseconds()))
	l.cut(errLost)
}

// ackBook is the client's store, and keeps no message: a link is never resumed.
// It is the one place where the library tells a PUBACK from its own giving up:
// a publish leaves the store only when the broker has confirmed it, whereas the
// token of a publish also completes when the library abandons it.
type ackBook struct {
	// acked receives the number of each confirmed publish, in the order in
	// which the confirmations came. It holds as many as may be open.
	acked chan uint64

	mu   sync.Mutex // guards below
	next uint64
	open map[string]uint64 // store key → number of the publish
}

func newAckBook() *ackBook {
	return &ackBook{acked: make(chan uint64, maxOpen), open: make(map[string]uint64)}
}

// maxOpen bounds the publishes without PUBACK on a link: the events' window,
// and the few other messages a box sends.
const maxOpen = windowMax + 16

// count returns how many publishes were entered so far.
func (b *ackBook) count() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.next
}

// Put enters a publish under the next number.
func (b *ackBook) Put(key string, m packets.ControlPacket) {
	if _, publish := m.(*packets.PublishPacket); !publish || key[0] != 'o' {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open[key] = b.next
	b.next++
}

// forget strikes out a publish that was never handed over.
func (b *ackBook) forget(n uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, number := range b.open {
		if number == n {
			delete(b.open, key)
		}
	}
}

// Del reports the PUBACK of a publish. The library calls it from its read loop.
func (b *ackBook) Del(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, ok := b.open[key]
	if !ok {
		return // a SUBACK, or the PUBACK we sent ourselves
	}
	delete(b.open, key)
	select {
	case b.acked <- n:
	default: // cannot be: the sender keeps to maxOpen. Unconfirmed is safe.
	}
}

// The rest of the store has nothing to do.

// Open does nothing.
func (b *ackBook) Open() {}

// Close does nothing.
func (b *ackBook) Close() {}

// Reset does nothing.
func (b *ackBook) Reset() {}

// Get finds no message.
func (b *ackBook) Get(string) packets.ControlPacket { return nil }

// All lists no message.
func (b *ackBook) All() []string { return nil }
