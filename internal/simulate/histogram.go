package simulate

import (
	"encoding/json"
	"math/bits"
	"time"
)

// Histogram counts durations in buckets whose width grows with them, so that
// any figure read from it is at most 1/16 too high. It has a fixed size and
// can be copied; it is not safe for concurrent use.
type Histogram struct {
	count   uint64
	buckets [bucketCount]uint64
}

const (
	subBits     = 4 // 16 buckets for each doubling
	subCount    = 1 << subBits
	maxBits     = 32 // in microseconds: 71 minutes, the rest goes to the last bucket
	bucketCount = (maxBits - subBits + 1) * subCount
)

// Add counts one duration.
func (h *Histogram) Add(d time.Duration) {
	h.count++
	h.buckets[bucketOf(uint64(max(0, d.Microseconds())))]++
}

// Merge counts all that other has counted.
func (h *Histogram) Merge(other *Histogram) {
	h.count += other.count
	for i, n := range other.buckets {
		h.buckets[i] += n
	}
}

// Count returns how many durations were counted.
func (h *Histogram) Count() uint64 { return h.count }

// Quantile returns a duration that the share q (0..1) of all does not exceed;
// zero if nothing was counted.
func (h *Histogram) Quantile(q float64) time.Duration {
	var seen uint64
	for i, n := range h.buckets {
		seen += n
		if n > 0 && float64(seen) >= q*float64(h.count) {
			return time.Duration(upperBound(i)) * time.Microsecond
		}
	}
	return 0
}

// MarshalJSON gives the figures people ask for, in milliseconds.
func (h Histogram) MarshalJSON() ([]byte, error) {
	ms := func(q float64) float64 { return float64(h.Quantile(q).Microseconds()) / 1000 }
	return json.Marshal(struct {
		Count uint64  `json:"count"`
		P50   float64 `json:"p50Ms"`
		P99   float64 `json:"p99Ms"`
		Max   float64 `json:"maxMs"`
	}{h.count, ms(0.5), ms(0.99), ms(1)})
}

// bucketOf: below 16 µs each has its own; above, the highest bit picks the
// group and the four bits behind it the bucket.
func bucketOf(us uint64) int {
	if us < subCount {
		return int(us)
	}
	if us >= 1<<maxBits {
		return bucketCount - 1
	}
	shift := bits.Len64(us) - 1 - subBits
	return (shift+1)*subCount + int(us>>shift) - subCount
}

// upperBound is the largest number of microseconds that falls into a bucket.
func upperBound(bucket int) uint64 {
	if bucket < subCount {
		return uint64(bucket)
	}
	shift := bucket/subCount - 1
	return (uint64(bucket%subCount)+subCount+1)<<shift - 1
}
