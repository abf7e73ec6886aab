package uplink

import (
	"testing"
	"time"
)

// way is a line with a bottleneck: each message takes its time there, one after
// the other, and the answer takes the rest of the round trip.
type way struct {
	trip, each time.Duration
}

// run sends messages through the way for a while, as many at a time as the
// window allows, and returns how long that took and the longest queue.
func (y way) run(w *window, n int) (took, worst time.Duration) {
	type message struct{ sent, answer time.Duration }
	var open []message
	var now, free time.Duration
	for range n {
		for len(open) < w.size {
			free = max(free, now) + y.each
			open = append(open, message{now, free + y.trip})
		}
		now = open[0].answer
		worst = max(worst, now-open[0].sent-y.trip-y.each)
		full := len(open) >= w.size
		w.answered(now-open[0].sent, full)
		open = open[1:]
	}
	return now, worst
}

// The window becomes as large as the way needs, and no larger.
func TestWindowFitsTheWay(t *testing.T) {
	for name, c := range map[string]struct {
		way      way
		min, max int           // messages
		queue    time.Duration // at the end, at most
	}{
		"loopback":          {way{500 * time.Microsecond, 3 * time.Millisecond}, windowMin, 6, 20 * time.Millisecond},
		"200 ms, wide":      {way{200 * time.Millisecond, 2 * time.Millisecond}, windowMax, windowMax, 150 * time.Millisecond},
		"200 ms, 10 Mbit/s": {way{200 * time.Millisecond, 100 * time.Millisecond}, 3, 8, 500 * time.Millisecond},
		"20 kbit/s":         {way{300 * time.Millisecond, 6500 * time.Millisecond}, windowMin, 3, 14 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWindow(windowMin, windowMax)
			c.way.run(&w, 400)
			took, queue := c.way.run(&w, 200)
			if w.size < c.min || w.size > c.max || queue > c.queue {
				t.Errorf("%d messages, want %d to %d; queue %s, want at most %s", w.size, c.min, c.max, queue, c.queue)
			}
			// As much goes through as with the largest window there is.
			wide := window{size: windowMax, least: windowMax, most: windowMax}
			best, _ := c.way.run(&wide, 200)
			if took > best*5/4 {
				t.Errorf("200 messages take %s, want about %s", took, best)
			}
		})
	}
}

// A way that becomes longer is filled again.
func TestWindowFollowsTheWay(t *testing.T) {
	w := newWindow(windowMin, windowMax)
	way{time.Millisecond, time.Millisecond}.run(&w, 200)
	if w.size > 16 {
		t.Fatalf("%d messages on the short way", w.size)
	}
	way{400 * time.Millisecond, 5 * time.Millisecond}.run(&w, 2000)
	if w.size < 50 {
		t.Errorf("%d messages on the long way", w.size)
	}
}

// A slow line gets small messages, so that each shows soon that it lives.
func TestBatchesFitTheWay(t *testing.T) {
	w := newWindow(windowMin, windowMax)
	for range 5 {
		w.answered(time.Millisecond, true)
	}
	if w.bytes != maxBatchBytes {
		t.Errorf("%d bytes on a fast line", w.bytes)
	}
	for range 10 {
		w.answered(6*time.Second, true)
	}
	if w.bytes != batchMin {
		t.Errorf("%d bytes on a slow line", w.bytes)
	}
}

// What was not kept back by the window does not make it grow.
func TestIdleLeavesTheWindow(t *testing.T) {
	w := newWindow(windowMin, windowMax)
	for range 1000 {
		w.answered(time.Millisecond, false)
	}
	if w.size != windowMin {
		t.Errorf("%d messages", w.size)
	}
}
