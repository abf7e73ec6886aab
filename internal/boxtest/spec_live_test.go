package boxtest

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/cloud"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/simulate"
	"github.com/avoqado/avoqado-edge/internal/spec"
)

// TestLiveLaneIsAsDescribed has a box with a backlog for a slow back-end send an
// event early, and holds the message against the document.
func TestLiveLaneIsAsDescribed(t *testing.T) {
	t.Parallel()
	s, err := spec.Load()
	if err != nil {
		t.Fatal(err)
	}
	schemas := ReadSchemas(t, s.Document(""))
	broker := StartMosquitto(t, MosquittoConfig{})
	early := heardOn(t, broker, venueTopics+"/boxes/b1/events/live")
	box := StartBox(t, BoxConfig{Broker: broker.URL(), Live: true})
	sell(t, box, "backlog", 3000, nil)
	pos, err := simulate.Dial(t.Context(), simulate.ClientConfig{URL: box.URL(), Auth: map[string]any{"token": box.Token(event.Manager, "m9", "")}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = pos.Close() }()
	pace := time.NewTicker(5 * time.Millisecond)
	defer pace.Stop()
	StartBackend(t, broker, false, func(cloud.Effect) { // a slow one
		select {
		case <-pace.C:
		case <-t.Context().Done():
		}
	})
	n := 0
	pay := func() {
		t.Helper()
		n++
		if _, err := pos.EmitAck(t.Context(), "payment_completed", json.RawMessage(fmt.Sprintf(
			`{"paymentId":"live_%d","orderId":"live_order_%d","amount":"1.00","currency":"MXN","venueId":"v1"}`, n, n))); err != nil {
			t.Fatal(err)
		}
	}
	var message string
	Eventually(t, 20*time.Second, "the event comes early", func() bool {
		pay()
		for _, line := range early() {
			if strings.Contains(line, `"paymentId":"live_`) {
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

// TestTelemetryIsAsDescribed holds what a real box tells of itself against the
// document.
func TestTelemetryIsAsDescribed(t *testing.T) {
	t.Parallel()
	s, err := spec.Load()
	if err != nil {
		t.Fatal(err)
	}
	schemas := ReadSchemas(t, s.Document(""))
	broker := StartMosquitto(t, MosquittoConfig{})
	heard := heardOn(t, broker, venueTopics+"/boxes/b1/telemetry")
	StartBox(t, BoxConfig{Broker: broker.URL()})
	Eventually(t, 20*time.Second, "telemetry", func() bool { return len(heard()) > 0 })
	message := heard()[0]
	if err := schemas.Check("mqtt.telemetry", []byte(message)); err != nil {
		t.Errorf("%s: %v", message, err)
	}
	if !strings.Contains(message, `"level":"ok"`) {
		t.Errorf("telemetry %s", message)
	}
}
