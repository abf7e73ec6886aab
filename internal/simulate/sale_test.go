package simulate

import (
	"reflect"
	"regexp"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// What terminals send must be what a box accepts, or the simulation tests
// nothing: the shared rules are the judge.
func TestSalesPassTheRules(t *testing.T) {
	amount := regexp.MustCompile(`^"\d+\.\d\d"$`)
	for _, role := range event.Roles() {
		s := seller{venue: "v1", terminal: "AVQD-9000000001", run: "0190f5e2-1234-7abc", role: role, seed: 7}
		keys := map[string]bool{}
		kinds := map[event.Kind]int{}
		for n := range uint64(200) {
			steps := s.sale(n)
			if !reflect.DeepEqual(steps, s.sale(n)) {
				t.Fatal("the same sale differs")
			}
			for _, step := range steps {
				row, _ := event.Lookup(step.kind)
				o, err := event.ParseObject(step.payload)
				if err != nil {
					t.Fatal(err)
				}
				if refusal := row.MaySend(role); refusal != nil {
					t.Fatalf("%s: %v", step.kind, refusal)
				}
				if refusal := row.CheckPayload(o, "v1"); refusal != nil {
					t.Fatalf("%s: %v: %s", step.kind, refusal, step.payload)
				}
				if row.Family == event.Payment && !amount.Match(o.Raw("amount")) {
					t.Errorf("amount = %s, want pesos as a decimal string", o.Raw("amount"))
				}
				if o.String("idempotencyKey") != step.key || keys[step.key] {
					t.Fatalf("key %q is missing or used twice", step.key)
				}
				keys[step.key] = true
				kinds[step.kind]++
			}
		}
		switch role {
		case event.Manager:
			for _, kind := range []event.Kind{event.OrderCreated, event.OrderUpdated, event.PaymentInitiated, event.PaymentCompleted, event.PaymentFailed} {
				if kinds[kind] == 0 {
					t.Errorf("a manager made no %s", kind)
				}
			}
		case event.Cashier:
			if kinds[event.OrderCreated] != 0 || kinds[event.PaymentCompleted] == 0 {
				t.Errorf("cashier made %v", kinds)
			}
		case event.Waiter:
			if kinds[event.OrderCreated] == 0 || kinds[event.PaymentCompleted] != 0 {
				t.Errorf("waiter made %v", kinds)
			}
		case event.Viewer:
			if len(kinds) != 0 {
				t.Errorf("viewer made %v", kinds)
			}
		}
	}
}

func TestSalesDiffer(t *testing.T) {
	base := seller{venue: "v1", terminal: "AVQD-1", run: "monday", role: event.Manager, seed: 1}
	otherRun, otherTerminal, otherSeed := base, base, base
	otherRun.run, otherTerminal.terminal, otherSeed.seed = "tuesday", "AVQD-2", 2
	same := base.sale(1)
	for _, s := range []seller{otherRun, otherTerminal} {
		if s.sale(1)[0].key == same[0].key {
			t.Errorf("%+v shares keys with %+v", s, base)
		}
	}
	if reflect.DeepEqual(otherSeed.sale(1), same) && reflect.DeepEqual(otherSeed.sale(2), base.sale(2)) {
		t.Error("the seed changes nothing")
	}
}

func TestHistogram(t *testing.T) {
	var h, other Histogram
	if h.Quantile(0.5) != 0 {
		t.Error("an empty histogram has a median")
	}
	for i := range 900 {
		h.Add(time.Duration(i%10+1) * time.Microsecond)
	}
	for range 100 {
		other.Add(time.Second)
	}
	h.Merge(&other)
	if h.Count() != 1000 {
		t.Errorf("count = %d", h.Count())
	}
	if p50 := h.Quantile(0.5); p50 < 5*time.Microsecond || p50 > 6*time.Microsecond {
		t.Errorf("p50 = %v", p50)
	}
	if p99 := h.Quantile(0.99); p99 < time.Second || p99 > time.Second*17/16 {
		t.Errorf("p99 = %v, want 1 s or up to 1/16 more", p99)
	}
	// Every duration falls into a bucket that ends at most 1/16 above it.
	for us := uint64(1); us < 1<<maxBits; us += 1 + us/7 {
		if top := upperBound(bucketOf(us)); top < us || top-us > us/16 {
			t.Fatalf("%d µs is counted as %d µs", us, top)
		}
	}
	h.Add(-1)
	h.Add(1 << 62) // both ends are bounded
}
