package uplink

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// Step is a part of the way to a broker.
type Step string

// The steps, in their order.
const (
	StepName   Step = "name"   // the name server knows it
	StepReach  Step = "reach"  // TCP, or the proxy
	StepTLS    Step = "tls"    // with the name in the certificate
	StepWeb    Step = "web"    // the WebSocket
	StepLogin  Step = "login"  // CONNECT is accepted
	StepTopics Step = "topics" // it may listen to its topics
	StepSend   Step = "send"   // what it sends is confirmed
)

// BrokerCheck is what a visit to one broker found.
type BrokerCheck struct {
	Broker  string        // host:port
	Steps   []Step        // that it takes
	Failed  Step          // the first that failed; empty: none did
	Failure *Failure      // why
	Addrs   []netip.Addr  // of its name
	Expires time.Time     // the broker's certificate; zero: it has none
	Took    time.Duration // for all steps
}

// CloudCheck is what a look at the way to the cloud found.
type CloudCheck struct {
	Brokers []BrokerCheck
	Facts   *Facts
}

// CheckCloud visits every broker at once, within 8 s, under a client id beside
// the box's, so that the running box is not thrown out. It publishes one message
// of telemetry that says it is a check. A broker of MQTT 3.1.1 that forbids a
// topic ends the link, or lies and confirms: then only the back-end's word shows.
// now is what certificates are judged by.
func CheckCloud(ctx context.Context, cfg Config, now func() time.Time) (CloudCheck, error) {
	cfg, brokers, err := cfg.withDefaults()
	if err != nil {
		return CloudCheck{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, 8*time.Second)
	defer cancel()
	d := newDialer(&cfg, now)
	report := CloudCheck{Brokers: make([]BrokerCheck, len(brokers))}
	hosts := make([]string, len(brokers))
	failures := make([]error, len(brokers))
	var all sync.WaitGroup
	for i, broker := range brokers {
		hosts[i] = broker.Host
		all.Go(func() {
			report.Brokers[i], failures[i] = d.visit(ctx, broker)
		})
	}
	all.Go(func() { report.Facts = d.lookAround(ctx, hosts) })
	all.Wait()
	for i := range report.Brokers {
		if b := &report.Brokers[i]; b.Failure != nil {
			name, text := diagnose(failures[i], report.Facts)
			b.Failure = newFailure(name, &explained{name: name, text: text, err: failures[i]})
		}
	}
	return report, nil
}

func stepsOf(broker *url.URL, proxied bool) []Step {
	var steps []Step
	if !isLiteral(broker.Hostname()) && !proxied {
		steps = append(steps, StepName)
	}
	steps = append(steps, StepReach)
	if broker.Scheme == "tls" || broker.Scheme == "wss" {
		steps = append(steps, StepTLS)
	}
	if broker.Scheme == "ws" || broker.Scheme == "wss" {
		steps = append(steps, StepWeb)
	}
	return append(steps, StepLogin, StepTopics, StepSend)
}

func (d *dialer) visit(ctx context.Context, broker *url.URL) (BrokerCheck, error) {
	began := time.Now()
	proxy, _ := d.cfg.proxyFor(broker) // open says what is wrong with it
	c := BrokerCheck{Broker: broker.Host, Steps: stepsOf(broker, proxy != nil)}
	failed := func(at Step, err error) (BrokerCheck, error) {
		c.Failed, c.Failure, c.Took = at, newFailure(nameOf(err), err), time.Since(began)
		return c, err
	}
	top, bottom, err := d.open(ctx, broker)
	d.mu.Lock()
	c.Expires = d.expires[broker.Host]
	d.mu.Unlock()
	if at, ok := errors.AsType[*attemptError](err); ok {
		c.Addrs = at.addrs
		return failed(map[stage]Step{
			resolving: StepName, reaching: StepReach, tunneling: StepReach, securing: StepTLS, upgrading: StepWeb,
		}[at.stage], err)
	} else if err != nil {
		return failed(StepReach, err)
	}
	defer bottom.Close()
	if proxy == nil {
		c.Addrs, _ = d.resolve(ctx, broker.Hostname())
	}
	link := &conn{Conn: top, bottom: bottom}
	stop := context.AfterFunc(ctx, func() { link.cut(context.Cause(ctx)) })
	defer stop()
	if at, err := d.visitMQTT(ctx, link); err != nil {
		if own := link.why(); own != nil && ctx.Err() == nil {
			err = own
		} else if ctx.Err() != nil {
			err = fmt.Errorf("%w: mqtt: %w", errNoAnswer, context.Cause(ctx))
		}
		return failed(at, &attemptError{broker: broker, stage: greeting, addrs: c.Addrs, err: err})
	}
	c.Took = time.Since(began)
	return c, nil
}

// visitMQTT logs in with a session that ends with the visit and asks for the
// box's topics. What comes on them meanwhile the box gets, too.
func (d *dialer) visitMQTT(ctx context.Context, c net.Conn) (Step, error) {
	password, err := d.cfg.password()
	if err != nil && d.cfg.Username != "" {
		return StepLogin, fmt.Errorf("%w: %w", errCredentials, err)
	}
	hello := packets.NewControlPacket(packets.Connect).(*packets.ConnectPacket) //nolint:forcetypeassert // what the constructor says
	hello.ProtocolName, hello.ProtocolVersion, hello.CleanSession, hello.Keepalive = "MQTT", 4, true, 30
	hello.ClientIdentifier = clientPrefix + d.cfg.Box + "-doctor-" + rand.Text()[:6]
	if d.cfg.Username != "" {
		hello.UsernameFlag, hello.Username = true, d.cfg.Username
		hello.PasswordFlag, hello.Password = true, []byte(password)
	}
	if err := hello.Write(c); err != nil {
		return StepLogin, err
	}
	answer, err := packets.ReadPacket(c)
	if err != nil {
		return StepLogin, err
	}
	welcome, ok := answer.(*packets.ConnackPacket)
	if !ok {
		return StepLogin, errBadPacket
	}
	if welcome.ReturnCode != packets.Accepted {
		if refusal := packets.ConnErrors[welcome.ReturnCode]; refusal != nil {
			return StepLogin, refusal
		}
		return StepLogin, errBadPacket
	}
	t := d.cfg.topics()
	subscribe := packets.NewControlPacket(packets.Subscribe).(*packets.SubscribePacket) //nolint:forcetypeassert // likewise
	topics := t.down()
	subscribe.MessageID, subscribe.Topics, subscribe.Qoss = 1, topics[:], bytes.Repeat([]byte{1}, len(topics))
	if err := subscribe.Write(c); err != nil {
		return StepTopics, err
	}
	for ctx.Err() == nil {
		answer, err := packets.ReadPacket(c)
		if err != nil {
			return StepTopics, err
		}
		granted, ok := answer.(*packets.SubackPacket)
		if !ok {
			continue // the retained configuration
		}
		for i, code := range granted.ReturnCodes {
			if code != 1 {
				return StepTopics, fmt.Errorf("%w: %s answered %#x", errSubscription, subscribe.Topics[i], code)
			}
		}
		return d.visitSending(ctx, c, t.telemetry)
	}
	return StepTopics, context.Cause(ctx)
}

// visitSending publishes at QoS 1 and waits for the confirmation.
func (d *dialer) visitSending(ctx context.Context, c net.Conn, topic string) (Step, error) {
	say := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket) //nolint:forcetypeassert // likewise
	say.Qos, say.TopicName, say.MessageID = 1, topic, 2
	say.Payload = fmt.Appendf(nil, `{"at":%q,"check":true}`, d.now().UTC().Format(time.RFC3339))
	if err := say.Write(c); err != nil {
		return StepSend, fmt.Errorf("%w: publish to %s: %w", errSubscription, topic, err)
	}
	for ctx.Err() == nil {
		answer, err := packets.ReadPacket(c)
		if err != nil {
			return StepSend, fmt.Errorf("%w: it ends the link when %s is published to: %w", errSubscription, topic, err)
		}
		if ack, ok := answer.(*packets.PubackPacket); ok && ack.MessageID == say.MessageID {
			_ = packets.NewControlPacket(packets.Disconnect).Write(c) // it ends either way
			return "", nil
		}
	}
	return StepSend, context.Cause(ctx)
}
