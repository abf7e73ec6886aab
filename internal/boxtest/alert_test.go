package boxtest

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"

	"github.com/avoqado/avoqado-edge/internal/needs"
)

// alert is a broadcast as the back-end would send it.
func alert(id, title string, expires time.Time) string {
	text := fmt.Sprintf(`{"id":%q,"event":"system_alert","payload":{"level":"warning","title":%q,"message":"m","amount":120.50},"target":{"roles":["MANAGER"]}`, id, title)
	if !expires.IsZero() {
		text += fmt.Sprintf(`,"expiresAt":%q`, expires.UTC().Format(time.RFC3339Nano))
	}
	return text + "}"
}

// Publish sends a message with mosquitto_pub, QoS 1, as any back-end could.
func (m *Mosquitto) Publish(topic, message string) {
	m.t.Helper()
	host, port, _ := strings.Cut(m.Addr(), ":")
	cmd := exec.Command(needs.Program(m.t, "mosquitto_pub"), "-h", host, "-p", port, "-q", "1", "-t", topic, "-m", message)
	if out, err := cmd.CombinedOutput(); err != nil {
		m.t.Fatalf("mosquitto_pub: %v\n%s", err, out)
	}
}

const broadcasts = "avoqado/v1/venues/" + Venue + "/broadcasts"

// titles lists the alerts a client has seen, in order.
func titles(t *testing.T, c *Client) string {
	t.Helper()
	var list []string
	for _, line := range c.Events("system_alert") {
		var payload struct{ Title string }
		if err := json.Unmarshal(line.Payload(), &payload); err != nil {
			t.Fatalf("alert %s: %v", line.Raw, err)
		}
		list = append(list, payload.Title)
	}
	return strings.Join(list, " ")
}

func TestAlertsFromTheCloud(t *testing.T) {
	t.Parallel()
	broker := StartMosquitto(t, MosquittoConfig{})
	box := StartBox(t, BoxConfig{Broker: broker.URL()})
	Eventually(t, 20*time.Second, "uplink online", func() bool { return box.Status().Uplink.State == "online" })

	clients := map[string]*Client{}
	for name, role := range map[string]event.Role{
		"manager 1": event.Manager, "manager 2": event.Manager, "waiter": event.Waiter, "owner": event.Owner,
	} {
		clients[name] = StartJS(t, ClientConfig{
			URL: box.URL(), Token: box.Token(role, strings.ReplaceAll(name, " ", "-"), ""), Venue: Venue,
		})
	}
	for _, c := range clients {
		c.ExpectAck(0, 20*time.Second) // is in its venue
	}
	managers := []*Client{clients["manager 1"], clients["manager 2"]}

	broker.Publish(broadcasts, alert("a1", "live", time.Time{}))
	for _, c := range managers {
		line := c.ExpectEvent("system_alert", 10*time.Second)
		if !strings.Contains(line.Raw, `"amount":120.50`) {
			t.Errorf("the payload was written again: %s", line.Raw)
		}
	}

	broker.Publish(broadcasts, alert("a1", "live", time.Time{})) // the same again
	broker.Publish(broadcasts, alert("a2", "expired", time.Now().Add(-time.Minute)))
	broker.Publish(broadcasts, `{"id":"a3","event":"system_alert"`) // unreadable
	broker.Publish(broadcasts, `{"id":"a4","event":"payment_stolen","payload":{}}`)
	broker.Publish(broadcasts, alert("a5", "second", time.Now().Add(time.Hour)))
	for _, c := range managers {
		c.ExpectEvent("system_alert", 10*time.Second)
		if got := titles(t, c); got != "live second" {
			t.Errorf("a manager saw %q, want %q", got, "live second")
		}
	}
	if st := box.Status(); st.Uplink.Rejected != 2 {
		t.Errorf("%d messages in the rejected list, want 2", st.Uplink.Rejected)
	}

	// While the box is down the broker keeps the alert, and the box keeps it
	// for the managers, who come back later than the alert does.
	box.Kill()
	broker.Publish(broadcasts, alert("a6", "while-down", time.Time{}))
	broker.Publish(broadcasts, alert("a7", "expired-while-down", time.Now().Add(time.Millisecond)))
	box.Start()
	for _, c := range managers {
		Eventually(t, 40*time.Second, "a manager sees the alert sent while the box was down", func() bool {
			return strings.Contains(titles(t, c), "while-down")
		})
	}
	broker.Publish(broadcasts, alert("a6", "while-down", time.Time{}))
	broker.Publish(broadcasts, alert("a8", "last", time.Time{}))
	for _, c := range managers {
		Eventually(t, 20*time.Second, "a manager sees the last alert", func() bool {
			return strings.HasSuffix(titles(t, c), "last")
		})
		fresh := []string{}
		for _, line := range c.Events("system_alert") {
			if !strings.Contains(line.Raw, `"replayed":true`) || strings.Contains(line.Raw, "while-down") {
				var payload struct{ Title string }
				_ = json.Unmarshal(line.Payload(), &payload)
				fresh = append(fresh, payload.Title)
			}
		}
		if got := strings.Join(fresh, " "); got != "live second while-down last" {
			t.Errorf("a manager saw %q", got)
		}
	}
	for _, name := range []string{"waiter", "owner"} {
		if got := titles(t, clients[name]); got != "" {
			t.Errorf("the %s saw %q, which is for managers", name, got)
		}
	}
}
