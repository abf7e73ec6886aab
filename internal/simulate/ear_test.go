package simulate

import (
	"encoding/json"
	"fmt"
	"testing"
)

func TestEarTellsWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		events []string
		want   Heard
	}{
		"two events":     {[]string{`payment_completed {"correlationId":"1"}`, `payment_completed {"correlationId":"2"}`}, Heard{Events: 2}},
		"twice":          {[]string{`payment_completed {"correlationId":"1"}`, `payment_completed {"correlationId":"1"}`}, Heard{Events: 2, Doubled: 1}},
		"by event id":    {[]string{`order_created {"eventId":"e","correlationId":"1"}`, `order_created {"eventId":"e","correlationId":"2"}`}, Heard{Events: 2, Doubled: 1}},
		"replayed":       {[]string{`system_alert {"correlationId":"1"}`, `system_alert {"correlationId":"1","replayed":true}`}, Heard{Events: 2, Replayed: 1}},
		"replayed first": {[]string{`system_alert {"correlationId":"1","replayed":true}`, `system_alert {"correlationId":"1"}`}, Heard{Events: 2, Replayed: 1, Doubled: 1}},
		"false mark":     {[]string{`system_alert {"correlationId":"1"}`, `system_alert {"correlationId":"1","replayed":"true"}`}, Heard{Events: 2, Doubled: 1}},
		"two kinds":      {[]string{`payment_completed {"correlationId":"1"}`, `updateDashboard {"correlationId":"1"}`}, Heard{Events: 2}},
		"other venue":    {[]string{`order_updated {"venueId":"v2"}`, `order_updated {"venueId":"v1"}`}, Heard{Events: 2, Foreign: 1}},
		"own voice":      {[]string{`order_updated {"idempotencyKey":"me-1"}`, `order_updated {"idempotencyKey":"you-1"}`}, Heard{Events: 2, Echoed: 1}},
		"volatile":       {[]string{`terminal:log {"correlationId":"1"}`, `terminal:log {"correlationId":"1"}`}, Heard{Events: 2}},
		"not the venue":  {[]string{`room_joined {"correlationId":"1"}`, `error {"correlationId":"1"}`, `x null`}, Heard{}},
		"no object":      {[]string{`order_updated 7`, `order_updated `, `order_updated 7`}, Heard{Events: 3}},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEar("v1", "me-")
			for _, line := range c.events {
				var name, payload string
				_, _ = fmt.Sscanf(line, "%s %s", &name, &payload)
				e.hear(name, json.RawMessage(payload))
			}
			got := e.figures()
			got.Kinds, got.Sales = nil, 0
			if fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("heard %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestEarCountsSales(t *testing.T) {
	e := newEar("v1", "")
	for _, name := range []string{"payment_completed", "order_created", "updateDashboard", "terminal:heartbeat", "system_alert"} {
		e.hear(name, json.RawMessage(`{}`))
	}
	if got := e.figures(); got.Sales != 2 || got.Events != 5 || len(got.Kinds) != 5 {
		t.Errorf("heard %+v", got)
	}
}

func TestEarForgetsTheOldest(t *testing.T) {
	e := newEar("v1", "")
	hear := func(i int) { e.hear("order_updated", json.RawMessage(fmt.Sprintf(`{"correlationId":"%d"}`, i))) }
	for i := range remembered + 10 {
		hear(i)
	}
	hear(remembered) // still known
	hear(0)          // long forgotten
	if got := e.figures(); got.Doubled != 1 || len(e.seen) != remembered || len(e.order) != remembered {
		t.Errorf("doubled %d, remembers %d and %d", got.Doubled, len(e.seen), len(e.order))
	}
}
