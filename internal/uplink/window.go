package uplink

import "time"

const (
	windowMin = 2 // publishes without a PUBACK: one on its way while the answer to the other is
	windowMax = 64

	// Messages without the back-end's word. One that speaks once a second, not
	// after each message, looks like a queue and is to get on all the same.
	confirmMin    = 8
	confirmWindow = 128

	maxHeavy = 8 << 20 // bytes of event messages without a PUBACK, and one message

	batchMin      = 4 << 10
	batchSlow     = 5 * time.Second       // an answer this late asks for smaller batches
	batchFast     = time.Second           // and one this early for larger ones
	believeLonger = 16                    // answers
	slack         = 10 * time.Millisecond // of a round trip that is no queue
	firstSize     = 16 << 10              // of a link's first batch: 7 s at 20 kbit/s
)

// window says how many messages may be without an answer, and how large they
// may be, so that the way to the answerer is full and nothing queues on it:
// what queues there would hold up whatever happens next in the venue.
//
// It goes by delay, as TCP Vegas does (Brakmo, O'Malley, Peterson: TCP Vegas,
// SIGCOMM 1994): it grows while the round trip stays near the shortest one
// seen, doubling each round trip at first, and shrinks when it does not.
type window struct {
	size   int // messages without an answer, at most
	least  int // size stays within these two
	most   int
	bytes  int           // of the next batch, at most
	base   time.Duration // the round trip of an empty way
	steady bool          // it queued once: no more doubling
	count  int           // answers since size was changed
	longer int           // answers in a row that the smallest window cannot explain
}

func newWindow(least, most int) window {
	return window{size: least, least: least, most: most, bytes: firstSize}
}

// answered takes an answer. full says that the window kept the next message
// back: else its size was not what decided.
func (w *window) answered(trip time.Duration, full bool) {
	switch {
	case trip > batchSlow:
		w.bytes = max(w.bytes/2, batchMin)
	case trip < batchFast:
		w.bytes = min(2*w.bytes, maxBatchBytes)
	}
	if w.base == 0 || trip < w.base {
		w.base = trip
	}
	w.count++
	queued := trip > w.base+w.base/2+slack
	if w.size > w.least || trip <= time.Duration(w.least)*w.base+slack {
		w.longer = 0
	} else if w.longer++; w.longer >= believeLonger {
		w.base, w.steady, w.longer = trip, false, 0 // it is no queue of ours
	}
	switch {
	case queued:
		w.steady = true
		if w.count >= w.size {
			w.size, w.count = max(w.size*7/8, w.least), 0
		}
	case !full:
	case !w.steady || w.count >= w.size:
		w.size, w.count = min(w.size+1, w.most), 0
	}
}
