package logbook

import (
	"bytes"
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// However often something is said, the log grows slowly, what is said seldom is
// in it, and nothing is left uncounted.
func TestCalm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := slog.New(Calm(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
		lan := log.With("part", "lan")
		const hour, perSecond = 3600, 20
		for s := range hour {
			for n := range perSecond {
				lan.Info("token refused", "n", n)
				if n == 0 {
					lan.Debug("seen")
				}
			}
			if s%60 == 0 {
				log.Warn("once a minute", "s", s)
				log.Warn("token refused", "s", s) // another level is another line
			}
			<-time.After(time.Second)
		}
		<-time.After(time.Minute)
		log.Info("the end")
		all := out.String()
		passed := strings.Count(all, `level=INFO msg="token refused" part=lan`)
		held := 0
		for _, m := range regexp.MustCompile(`level=INFO msg="message repeated" message="token refused" times=(\d+) since=`).FindAllStringSubmatch(all, -1) {
			n, err := strconv.Atoi(m[1])
			if err != nil {
				t.Fatal(err)
			}
			held += n
		}
		if passed > 61*calmLines || passed < 30*calmLines || passed+held != hour*perSecond {
			t.Errorf("%d lines passed, %d were held, of %d", passed, held, hour*perSecond)
		}
		for line, want := range map[string]int{`msg="once a minute"`: 60, "msg=seen part=lan": hour, `level=WARN msg="token refused"`: 60, `msg="the end"`: 1} {
			if n := strings.Count(all, line); n != want {
				t.Errorf("%s: %d times, not %d", line, n, want)
			}
		}
	})
}

// What is counted is bounded.
func TestCalmIsBounded(t *testing.T) {
	var out bytes.Buffer
	h := Calm(slog.NewTextHandler(&out, nil))
	log := slog.New(h)
	for n := range 3 * calmKinds {
		log.Info(fmt.Sprint("message ", n)) //nolint:sloglint // that is the point
	}
	if c, ok := h.(calm); !ok || len(c.counts.of) > calmKinds || strings.Count(out.String(), "\n") != 3*calmKinds {
		t.Errorf("%d kinds, %d lines", len(c.counts.of), strings.Count(out.String(), "\n"))
	}
}
