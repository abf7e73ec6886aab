package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestProgress(t *testing.T) {
	var out bytes.Buffer
	at := time.Unix(0, 0)
	p := newProgress(Streams{Err: &out}, "Working")
	p.now = func() time.Time { return at }
	p.began, p.live.tty = at, true
	p.show(1, 10)
	if out.Len() > 0 {
		t.Errorf("drawn at once: %q", out.String())
	}
	at = at.Add(2 * time.Second)
	p.show(5, 10)
	p.show(6, 10) // too soon
	at = at.Add(time.Second)
	p.show(11, 10)
	at = at.Add(time.Second)
	p.show(7, 0)
	p.end()
	text := out.String()
	for _, want := range []string{
		"Working  [===============               ]  50 %  5 of 10 events",
		"Working  [" + strings.Repeat("=", 30) + "] 100 %  10 of 10 events", "Working  7 events\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q lacks %q", text, want)
		}
	}
	if strings.Contains(text, "6 of") {
		t.Errorf("drawn too often: %q", text)
	}
	out.Reset()
	p.live.tty = false
	at = at.Add(time.Second)
	p.show(8, 10)
	p.end()
	if out.Len() > 0 {
		t.Errorf("drawn where there is no terminal: %q", out.String())
	}
}

// A drill is shown in seconds of time, not in events.
func TestDrillProgressIsTime(t *testing.T) {
	var out bytes.Buffer
	p := newProgress(Streams{Err: &out}, "without the cloud")
	p.unit, p.live.tty = "s", true
	p.began = p.now().Add(-time.Minute)
	p.show(60, 120)
	if got := out.String(); !strings.Contains(got, "60 of 120 s") || strings.Contains(got, "events") {
		t.Errorf("%q", got)
	}
}
