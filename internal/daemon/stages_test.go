package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// recorder notes in which order parts end.
type recorder struct {
	mu    sync.Mutex
	ended []string
}

func (r *recorder) part(name string, takes time.Duration) part {
	return part{name, func(ctx context.Context) error {
		<-ctx.Done()
		<-time.After(takes)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.ended = append(r.ended, name)
		return nil
	}}
}

func TestStagesStopOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- runStages(ctx, func(err error) { t.Error(err) },
				[]part{r.part("lan", 2*time.Second), r.part("api", time.Second)},
				nil, // a box without a cloud
				[]part{r.part("journal", 0)})
		}()
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if want := []string{"api", "lan", "journal"}; !slices.Equal(r.ended, want) {
			t.Errorf("ended in order %v, want %v", r.ended, want)
		}
	})
}

func TestStagesEndTogetherWhenOnePartFails(t *testing.T) {
	broken := errors.New("disk on fire")
	for name, run := range map[string]func(context.Context) error{
		"error":   func(context.Context) error { return broken },
		"panic":   func(context.Context) error { panic(broken) },
		"unasked": func(context.Context) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var r recorder
				var said string // at once: what keeps the log is one of the parts that end then
				err := runStages(t.Context(), func(err error) { said = fmt.Sprint(r.ended, err) }, []part{r.part("lan", time.Second)}, []part{{"journal", run}})
				if err == nil {
					t.Fatal("no error although a part ended by itself")
				}
				if name == "error" && !errors.Is(err, broken) {
					t.Errorf("error %v does not hold the reason", err)
				}
				if !strings.HasPrefix(said, "[] journal: ") || name == "panic" && !strings.Contains(said, "stages_test.go") {
					t.Errorf("it is said that %s", said)
				}
				if !slices.Equal(r.ended, []string{"lan"}) {
					t.Errorf("ended %v, want the other part to end too", r.ended)
				}
			})
		})
	}
}
