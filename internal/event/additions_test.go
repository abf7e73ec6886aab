package event

import (
	"testing"
	"time"
)

// What the box adds for clients that know a field by another name, or that
// cannot bear its absence (contract C8, C10, C13).
func TestAdditions(t *testing.T) {
	stamp := Stamp{CorrelationID: "made", Time: time.Now(), Venue: "v1"}
	const rest = `"correlationId":"c","timestamp":"z","venueId":"v1"`
	for _, c := range []struct {
		kind      Kind
		raw, want string
	}{
		{"printer_status", `{"terminalId":"p1",` + rest + `}`, `{"terminalId":"p1",` + rest + `,"printerId":"p1"}`},
		{"printer_status", `{"terminalId":"p1","printerId":"p2",` + rest + `}`, `{"terminalId":"p1","printerId":"p2",` + rest + `}`},
		{"product_price_changed", `{"oldPrice":0,"priceChangePercent":null,` + rest + `}`, `{"oldPrice":0,"priceChangePercent":0,` + rest + `}`},
		{"product_price_changed", `{"priceChangePercent":12.50,` + rest + `}`, `{"priceChangePercent":12.50,` + rest + `}`},
		{
			"tpv_bulk_operation_progress", `{"totalTerminals":4,"completedTerminals":1,"failedTerminals":2,"pendingTerminals":1,` + rest + `}`,
			`{"totalTerminals":4,"completedTerminals":1,"failedTerminals":2,"pendingTerminals":1,` + rest +
				`,"totalTargets":4,"successCount":1,"failureCount":2,"pendingCount":1}`,
		},
		{
			"tpv_bulk_operation_progress", `{"totalTargets":4,"successCount":1,"failureCount":2,"pendingCount":1,` + rest + `}`,
			`{"totalTargets":4,"successCount":1,"failureCount":2,"pendingCount":1,` + rest +
				`,"totalTerminals":4,"completedTerminals":1,"failedTerminals":2,"pendingTerminals":1}`,
		},
	} {
		if got, _ := row(t, c.kind).Enrich(parse(t, c.raw), stamp); string(got) != c.want {
			t.Errorf("%s %s\n got %s\nwant %s", c.kind, c.raw, got, c.want)
		}
	}
}
