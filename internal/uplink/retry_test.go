package uplink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// A thousand boxes lose their broker in one moment. However long it is away,
// they come back spread out, and none takes longer than the longest pause.
func TestThousandBoxesComeBackSpreadOut(t *testing.T) {
	const boxes, share = 1000, 0.10
	for _, away := range []time.Duration{0, time.Second, time.Minute, 10 * time.Minute} {
		t.Run("broker away for "+away.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				arrivals := fleet(t, boxes, away)
				if len(arrivals) != boxes {
					t.Fatalf("%d boxes came back", len(arrivals))
				}
				perSecond := map[int]int{}
				last, sum := time.Duration(0), time.Duration(0)
				for _, at := range arrivals {
					perSecond[int(at/time.Second)]++
					last, sum = max(last, at), sum+at
				}
				t.Logf("seconds after the broker's return: mean %.1f, last %.1f\n%s",
					(sum / boxes).Seconds(), last.Seconds(), histogram(perSecond, int(last/time.Second)))
				for second, n := range perSecond {
					if float64(n) > share*boxes {
						t.Errorf("%d of %d boxes in second %d", n, boxes, second)
					}
				}
				if last > 60*time.Second {
					t.Errorf("the last one comes after %s", last)
				}
				if away == 0 && last > scatter {
					t.Errorf("a broker that was back at once waits %s for the last box", last)
				}
			})
		})
	}
}

// fleet runs boxes with the pauses of the real code and a broker that ends all
// links after a minute. It returns when each was back, counted from when the
// broker was.
func fleet(t *testing.T, boxes int, away time.Duration) []time.Duration {
	lost := time.Now().Add(time.Minute)
	back := lost.Add(away)
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	var arrivals []time.Duration
	var all sync.WaitGroup
	for range boxes {
		j := newMemory()
		u, err := New(Config{Brokers: []string{"tcp://broker.example:1883"}, Venue: "v1", Box: "b1"}, j, j, j, &till{}, quietLog())
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			u.retry(ctx, func(ctx context.Context) error {
				now := time.Now()
				if !now.Before(lost) && now.Before(back) {
					return fmt.Errorf("dial: %w", syscall.ECONNREFUSED)
				}
				u.cameUp("broker.example:1883")
				if now.Before(lost) {
					select {
					case <-time.After(time.Until(lost)):
					case <-ctx.Done():
					}
					return fmt.Errorf("%w: %w", errLost, io.EOF)
				}
				mu.Lock()
				arrivals = append(arrivals, now.Sub(back))
				mu.Unlock()
				<-ctx.Done()
				return ctx.Err()
			})
		})
		// One after the other: two goroutines of a bubble that make a timer
		// which is due at once crash the race detector (golang/go#78156).
		synctest.Wait()
	}
	select {
	case <-time.After(time.Until(back) + 2*time.Minute):
	case <-ctx.Done():
	}
	cancel()
	all.Wait()
	return arrivals
}

func histogram(perSecond map[int]int, last int) string {
	var b strings.Builder
	for s := range last + 1 {
		_, _ = fmt.Fprintf(&b, "%3d s %4d %s\n", s, perSecond[s], strings.Repeat("#", perSecond[s]/2))
	}
	return b.String()
}

// Two boxes with one id throw each other out. It is named, and the pauses grow
// although each link comes up well; when the twin is gone, that is over.
func TestTwinsSlowDown(t *testing.T) {
	const boxes, links = 200, 40
	thrown := fmt.Errorf("%w: %w", errLost, io.EOF)
	var r returns
	var sum time.Duration
	for range boxes {
		r = returns{pause: backoff{min: time.Second, max: time.Minute}, scatter: scatter}
		var pause time.Duration
		for i := range links {
			var err error
			if pause, err = r.after(thrown, true, min(10*time.Second, pause+time.Second)); errors.Is(err, errTakeover) != (i >= twinLinks-1) {
				t.Fatalf("link %d: %v", i, err)
			}
			if i >= links/2 {
				sum += pause
			}
		}
	}
	// 34 s; one box of 33 stays below 10 s, by chance.
	if mean := sum / (boxes * links / 2); mean < 20*time.Second {
		t.Errorf("after many links the pauses are %s on average", mean)
	}
	if _, err := r.after(thrown, true, time.Minute); !errors.Is(err, errTakeover) {
		t.Error("a minute is no proof that the twin is gone: it pauses, too")
	}
	if _, err := r.after(thrown, true, time.Hour); errors.Is(err, errTakeover) {
		t.Error("still in force after an hour")
	}
	if p, _ := r.after(fmt.Errorf("%w: %w", errLost, errSilent), true, time.Hour); p > 3*time.Second {
		t.Errorf("a box that lost its line alone waits %s", p)
	}
	// Losses with a cause of ours are no twin.
	for range 10 {
		if _, err := r.after(fmt.Errorf("%w: %w", errLost, errInterrupted), true, time.Second); errors.Is(err, errTakeover) {
			t.Fatal("our own cut is taken for a twin")
		}
	}
}
