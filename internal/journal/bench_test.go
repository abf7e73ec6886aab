package journal

import (
	"fmt"
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
	box := start(b, newJournal(b, Options{}), Options{Now: small.Now})
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
	b.ReportMetric(float64(s.Events)/float64(s.Commits), "events/commit")
	b.ReportMetric(float64(s.BytesWritten)/float64(s.Events), "B/event")
}

func BenchmarkRead(b *testing.B) {
	box := start(b, newJournal(b, Options{}), Options{Now: small.Now})
	const kept = 200_000
	box.fillFast(kept, false)
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

// BenchmarkOpen opens a journal of a million events with keys.
func BenchmarkOpen(b *testing.B) {
	o := Options{Now: small.Now}
	dir := newJournal(b, o)
	box := start(b, dir, o)
	box.fillFast(1_000_000, true)
	s := box.Stats()
	box.stop()
	for b.Loop() {
		j, err := Open(dir, o)
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := j.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(s.Segments), "segments")
	b.ReportMetric(float64(s.Bytes)/(1<<20), "MiB")
}

func (b *box) fillFast(n int, keyed bool) {
	b.t.Helper()
	var wg sync.WaitGroup
	wg.Add(n)
	for i := range n {
		e := payload300(int64(i))
		if keyed {
			e.DedupKey = fmt.Sprintf("payment_completed/%012d", i)
		}
		err := b.Enqueue(b.t.Context(), e, func(_ event.Receipt, err error) {
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
