package configs_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/avoqado/avoqado-edge/internal/cloud"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/testpart"
	"github.com/avoqado/avoqado-edge/internal/uplink/brokers"
)

// curious are filters that would hear what others say.
func curious() []string {
	return []string{"#", venue + "/#", box + "/#", "avoqado/v1/venues/+/config", venue + "/boxes/+/acks", "$MQTT/sub/#", "$MQTT/msgs/#"}
}

// TestRabbitMQRights holds the sample files against a real RabbitMQ: they can be
// read, and a box and the back-end may do what the contract gives them, and
// nothing else.
func TestRabbitMQRights(t *testing.T) {
	if testing.Short() {
		t.Skip("a node takes ten seconds to start")
	}
	m := brokers.StartRabbitMQ(t)
	want(t, "what a box may write", written(t, m.Access, brokers.Box), fromBox())
	want(t, "what a box may hear", heard(t, m.Access, brokers.Box, "avoqado-edge-box_1"), forBox())
	want(t, "what a box may hear in another's name", heard(t, m.Access, brokers.Box, "avoqado-edge-box_2"), nil)
	want(t, "what the back-end may write", written(t, m.Access, brokers.Backend), everywhere(forBox()))
	want(t, "what the back-end may hear over MQTT", heard(t, m.Access, brokers.Backend, "backend"), nil)
	refused(t, m.Access(brokers.Box), "nobody", "")
	refused(t, m.Access(brokers.Box), brokers.Box, "a wrong password")
	refused(t, m.Access(brokers.Box), "", "")

	// What comes from all boxes is in the queues of the back-end.
	for _, topic := range everywhere(fromBox()) {
		if err := cloud.Publish(t.Context(), m.Access(brokers.Observer), topic, false, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for queue, kinds := range map[string][]string{
		brokers.EventsQueue: {"/events", "/gzip", "/live"}, brokers.StatusQueue: {"/status"},
		brokers.ResultsQueue: {"/results"}, brokers.TelemetryQueue: {"/telemetry"},
	} {
		missing := slices.DeleteFunc(everywhere(fromBox()), func(topic string) bool {
			return !slices.ContainsFunc(kinds, func(kind string) bool { return strings.HasSuffix(topic, kind) })
		})
		ctx, cancel := context.WithTimeout(t.Context(), testpart.Patience)
		err := brokers.EachAMQP(ctx, m.AMQP(brokers.Backend), queue, func(topic string, _ []byte) bool {
			got = append(got, topic)
			missing = slices.DeleteFunc(missing, func(m string) bool { return m == topic })
			return len(missing) > 0
		})
		cancel()
		if err != nil {
			t.Fatalf("%s: %v, without %q", queue, err, missing)
		}
	}
	slices.Sort(got)
	want(t, "what the back-end's queues hold", slices.Compact(got), everywhere(fromBox()))
}

// TestNATSRights does the same with the sample file of a NATS cluster.
func TestNATSRights(t *testing.T) {
	n := brokers.StartNATS(t)
	want(t, "what a box may write", written(t, n.Access, brokers.Box), fromBox())
	want(t, "what a box may hear", heard(t, n.Access, brokers.Box, "avoqado-edge-box_1"), forBox())
	want(t, "what the back-end may write", written(t, n.Access, brokers.Backend), everywhere(forBox()))
	want(t, "what the back-end may hear", heard(t, n.Access, brokers.Backend, "backend"), everywhere(fromBox()))
	refused(t, n.Access(brokers.Box), "nobody", "")
	refused(t, n.Access(brokers.Box), brokers.Box, "a wrong password")
	refused(t, n.Access(brokers.Box), "", "")

	// Over NATS itself a box could hear on $MQTT.sub.> what all others are sent.
	conn, err := net.Dial("tcp", n.ClientAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(testpart.Patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(conn, "CONNECT {\"user\":%q,\"pass\":%q}\r\nPING\r\n", brokers.Box, brokers.Password); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(conn)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "-ERR") {
		if lines.Text() == "PONG" {
			t.Fatal("a box is let in over NATS")
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, what string, got, want []string) {
	t.Helper()
	got, want = slices.Clone(got), slices.Clone(want)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s:\ngot  %q\nwant %q", what, got, want)
	}
}

// client connects, and does not come back when it is thrown out.
func client(a cloud.Access, id string, receive mqtt.MessageHandler) (mqtt.Client, error) {
	o := mqtt.NewClientOptions().AddBroker(a.Broker).SetClientID(id).SetTLSConfig(a.TLS).SetProtocolVersion(4).
		SetUsername(a.Username).SetPassword(a.Password).SetAutoReconnect(false).SetDefaultPublishHandler(receive)
	c := mqtt.NewClient(o)
	return c, answered(c.Connect())
}

func answered(token mqtt.Token) error {
	if !token.WaitTimeout(testpart.Patience) {
		return errors.New("no answer")
	}
	return token.Error()
}

// refused checks that nobody gets in under a name with a password.
func refused(t *testing.T, a cloud.Access, user, password string) {
	t.Helper()
	a.Username, a.Password = user, password
	c, err := client(a, "curious", nil)
	if err == nil {
		c.Disconnect(0)
		t.Errorf("%q is let in with the password %q", user, password)
	}
}

// written returns which of the topics a user may write, as an observer of all
// hears it. Each message comes on a link of its own: a broker may end it.
func written(t *testing.T, access func(string) cloud.Access, user string) []string {
	t.Helper()
	reached := make(chan string, 1000)
	observer, err := client(access(brokers.Observer), "observer", func(_ mqtt.Client, m mqtt.Message) { reached <- m.Topic() })
	if err != nil {
		t.Fatal(err)
	}
	defer observer.Disconnect(100)
	if err := answered(observer.Subscribe("#", 1, nil)); err != nil {
		t.Fatal(err)
	}
	for _, topic := range topics() {
		c, err := client(access(user), "writer-"+string(event.NewID()), nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = answered(c.Publish(topic, 1, false, "x")) // refused or not is seen at the other end
		c.Disconnect(100)
	}
	if err := answered(observer.Publish("test/done", 1, false, "x")); err != nil {
		t.Fatal(err)
	}
	var allowed []string
	for deadline := time.After(testpart.Patience); ; {
		select {
		case topic := <-reached:
			if topic == "test/done" {
				return allowed
			}
			allowed = append(allowed, topic)
		case <-deadline:
			t.Fatal("the observer does not hear himself")
		}
	}
}

// heard returns which of the topics a user may hear, and which of the wildcards.
// What a user may subscribe to must come.
func heard(t *testing.T, access func(string) cloud.Access, user, id string) []string {
	t.Helper()
	observer, err := client(access(brokers.Observer), "observer", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer observer.Disconnect(100)
	var allowed []string
	for _, topic := range append(topics(), curious()...) {
		got := make(chan string, 1000)
		c, err := client(access(user), id, func(_ mqtt.Client, m mqtt.Message) { got <- m.Topic() })
		if err != nil {
			t.Fatal(err)
		}
		token := c.Subscribe(topic, 1, nil)
		sub, ok := token.(*mqtt.SubscribeToken)
		if err := answered(token); err == nil && ok && sub.Result()[topic] == 1 {
			if strings.ContainsAny(topic, "+#") {
				allowed = append(allowed, topic)
			} else if err := answered(observer.Publish(topic, 1, false, "y")); err != nil {
				t.Fatal(err)
			} else {
				select {
				case <-got:
					allowed = append(allowed, topic)
				case <-time.After(testpart.Patience):
					t.Errorf("%s may subscribe to %s, and hears nothing", user, topic)
				}
			}
		}
		c.Disconnect(100)
	}
	return allowed
}
