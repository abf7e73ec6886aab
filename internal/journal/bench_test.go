package journal

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// payload300 makes an event whose payload has 300 bytes, the size that the
// figures in DESIGN.md are about.
func payload300(n int64) *event.Event {
	e := sample(int(n))
	e.Payload = fmt.Appendf(nil, `{"paymentId":"pay_%012d","venueId":"venue_1","pad":"%0228d"}`, n, n)
	return e
}

func BenchmarkAppend(b *testing.B) {
	for _, callers := range []int{1, 16, 64, 256} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) { benchAppend(b, callers, false) })
	}
	b.Run("callers=64/keyed", func(b *testing.B) { benchAppend(b, 64, true) })
}

func benchAppend(b *testing.B, callers int, keyed bool) {
	box := start(b, create1(b, Options{}), Options{Now: small.Now})
	ctx := b.Context()
	var n atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range callers {
		wg.Go(func() {
			for {
				i := n.Add(1)
				if i > int64(b.N) {
					return
				}
				e := payload300(i)
				if keyed {
					e.DedupKey = fmt.Sprintf("payment_completed/%012d", i)
				}
				if _, err := box.Append(ctx, e); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	s := box.Stats()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(s.EventsPerCommit(), "events/commit")
	b.ReportMetric(float64(s.BytesWritten)/float64(s.Events), "B/event")
}

func BenchmarkRead(b *testing.B) {
	box := start(b, create1(b, Options{}), Options{Now: small.Now})
	const kept = 200_000
	box.fillFast(kept)
	for name, from := range map[string]event.Seq{"disk": 0, "tail": kept - 2000} {
		b.Run(name, func(b *testing.B) {
			count := 0
			for after := from; b.Loop(); {
				events, err := box.Read(after, 256, 128<<10)
				if err != nil {
					b.Fatal(err)
				}
				count += len(events)
				after = events[len(events)-1].Seq
				if after > from+1500 && name == "tail" || after == kept {
					after = from
				}
			}
			b.ReportMetric(float64(count)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// BenchmarkOpen opens a journal of many segments; the newest is nearly full.
func BenchmarkOpen(b *testing.B) {
	o := Options{Now: small.Now}
	dir := create1(b, o)
	box := start(b, dir, o)
	box.fillFast(300_000)
	segments := box.Stats().Segments
	box.stop()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for b.Loop() {
		j, err := Open(dir, o)
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		runtime.GC()
		runtime.ReadMemStats(&after)
		if err := j.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(segments), "segments")
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "heap-MiB")
}

func (b *box) fillFast(n int) {
	b.t.Helper()
	var wg sync.WaitGroup
	wg.Add(n)
	for i := range n {
		err := b.Enqueue(b.t.Context(), payload300(int64(i)), func(_ event.Receipt, err error) {
			if err != nil {
				b.t.Error(err)
			}
			wg.Done()
		})
		if err != nil {
			b.t.Fatal(err)
		}
	}
	wg.Wait()
}
