package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// payloadBytes is the size of an event: that of a payment in a restaurant.
const payloadBytes = 300

// newPayload makes bytes that do not compress to nothing.
func newPayload(n int64) []byte {
	head := fmt.Appendf(make([]byte, 0, payloadBytes), `{"paymentId":"pay_%012d","venueId":"venue_1","pad":"`, n)
	x := uint64(n)*0x9e3779b97f4a7c15 + 1
	for len(head) < payloadBytes-2 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		head = append(head, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"[x%64])
	}
	return append(head, `"}`...)
}

// newEvent puts an event around a payload, as the box does for a terminal.
func newEvent(n int64, payload []byte) *event.Event {
	return &event.Event{
		ID: event.NewID(), Kind: event.PaymentCompleted, Origin: event.Terminal, Class: event.Money,
		Time: time.Now(), Subject: fmt.Sprintf("pay_%012d", n), Payload: payload,
		Audience: event.Audience{Venue: true},
	}
}

// result is what one run of one store gave.
type result struct {
	perSecond float64
	p50, p99  time.Duration
	worst     time.Duration
	bytes     float64 // that reached the device, per event
}

// drive lets a number of callers put events until the context ends, each
// waiting for its answer before the next, and returns how long each took.
func drive(ctx context.Context, s store, callers int) ([]time.Duration, error) {
	var wg sync.WaitGroup
	took := make([][]time.Duration, callers)
	errs := make([]error, callers)
	for c := range callers {
		wg.Go(func() {
			payload := newPayload(int64(c)) // made before: only the store is measured
			for ctx.Err() == nil {
				began := time.Now()
				if errs[c] = s.put(payload); errs[c] != nil {
					return
				}
				took[c] = append(took[c], time.Since(began))
			}
		})
	}
	wg.Wait()
	return slices.Concat(took...), errors.Join(errs...)
}

// percentile returns that of a sorted list.
func percentile(sorted []time.Duration, of float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(of*float64(len(sorted))))]
}

// median returns the middle one of some runs, by one of their figures.
func median(runs []result, of func(result) float64) float64 {
	values := make([]float64, len(runs))
	for i, r := range runs {
		values[i] = of(r)
	}
	slices.Sort(values)
	if len(values) == 0 {
		return 0
	}
	return values[len(values)/2]
}
