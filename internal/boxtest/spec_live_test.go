package boxtest

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/simulate"
	"github.com/avoqado/avoqado-edge/internal/spec"
)

// TestLiveLaneIsAsDescribed has a box with a backlog that nobody confirms send
// an event early, and holds the message against the document.
func TestLiveLaneIsAsDescribed(t *testing.T) {
	t.Skip("SKIPPED: the box does not send on events/live yet")
	s, err := spec.Load()
	if err != nil {
		t.Fatal(err)
	}
	schemas := ReadSchemas(t, s.Document(""))
	broker := StartMosquitto(t, MosquittoConfig{})
	early := heardOn(t, broker, venueTopics+"/boxes/b1/events/live")
	box := StartBox(t, BoxConfig{Broker: broker.URL()})
	sell(t, box, "backlog", 2000, nil)
	pos, err := simulate.Dial(t.Context(), simulate.ClientConfig{URL: box.URL(), Auth: map[string]any{"token": box.Token(event.Manager, "m9", "")}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = pos.Close() }()
	if _, err := pos.EmitAck(t.Context(), "payment_completed", json.RawMessage(`{"paymentId":"live_1","orderId":"live_order_1","amount":"1.00","currency":"MXN","venueId":"v1"}`)); err != nil {
		t.Fatal(err)
	}
	var message string
	Eventually(t, 20*time.Second, "the event comes early", func() bool {
		for _, line := range early() {
			if strings.Contains(line, `"paymentId":"live_1"`) {
				message = line
			}
		}
		return message != ""
	})
	if err := schemas.Check("mqtt.events.live", []byte(message)); err != nil {
		t.Error(err)
	}
	if strings.Contains(message, `"previous"`) {
		t.Errorf("an early copy says what is before it: %s", message)
	}
}
